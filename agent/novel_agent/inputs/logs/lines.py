"""Where lines end: newlines of UTF-8 and UTF-16, marks at the beginning, cuts between characters. Pure."""

from novel_agent.model.lines import TextEncoding

_NEWLINES: dict[TextEncoding, bytes] = {"utf-8": b"\n", "utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}
_MARKS: tuple[tuple[bytes, TextEncoding], ...] = (
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)


def unit_bytes(encoding: TextEncoding) -> int:
    """Bytes of what a text in this encoding is made of."""
    return 1 if encoding == "utf-8" else 2


def marked(beginning: bytes) -> TextEncoding:
    """The encoding that a file's first bytes state; UTF-8 where they state none."""
    return next((encoding for mark, encoding in _MARKS if beginning.startswith(mark)), "utf-8")


def mark_bytes(beginning: bytes, encoding: TextEncoding) -> int:
    """The length of the byte order mark of an encoding, 0 where there is none."""
    return next((len(mark) for mark, its in _MARKS if its == encoding and beginning.startswith(mark)), 0)


def after_last_newline(buffer: bytearray, start: int, end: int, encoding: TextEncoding) -> int:
    """The place behind the last newline of a stretch that begins with a whole unit; -1 where there is none."""
    if encoding == "utf-8":
        found = buffer.rfind(b"\n", start, end)
        return found + 1 if found >= 0 else -1
    newline, until = _NEWLINES[encoding], end
    while (found := buffer.rfind(newline, start, until)) >= 0:
        if (found - start) % 2 == 0:
            return found + 2
        until = found + 1
    return -1


def after_first_newline(buffer: bytearray, start: int, end: int, encoding: TextEncoding) -> int:
    """The place behind the first newline of a stretch that begins with a whole unit; -1 where there is none."""
    newline, begin = _NEWLINES[encoding], start
    while (found := buffer.find(newline, begin, end)) >= 0:
        if len(newline) == 1 or (found - start) % 2 == 0:
            return found + len(newline)
        begin = found + 1
    return -1


def too_long_at(buffer: bytearray, start: int, end: int, most: int, encoding: TextEncoding) -> int:
    """Where the first line begins that is longer than `most` bytes without its newline, among whole lines; `end` if none."""
    reach = most + unit_bytes(encoding)
    while end - start > reach:
        after = after_last_newline(buffer, start, start + reach, encoding)
        if after < 0:
            return start
        start = after
    return end


def cut_bytes(line: bytes | bytearray, most: int, encoding: TextEncoding) -> int:
    """How much of a line that is longer than `most` bytes is kept, so that no character is torn."""
    if encoding != "utf-8":
        kept = most - most % 2
        high = line[kept - 1 if encoding == "utf-16-le" else kept - 2] if kept >= 2 else 0
        return kept - 2 if 0xD8 <= high <= 0xDB else kept
    for back in range(4):
        if most - back < 0 or most - back >= len(line):
            break
        if line[most - back] & 0xC0 != 0x80:
            return most - back
    return most

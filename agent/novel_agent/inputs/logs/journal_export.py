"""Reads the journal export format: entries as fields, out of bytes as they come.

An entry is lines of `NAME=text` and ends with an empty line. What holds a newline or is no text stands as `NAME`, a newline,
its length in eight bytes (little endian), the bytes and a newline. Source: systemd.io/JOURNAL_EXPORT_FORMATS.
"""

from typing import NamedTuple, cast

Field = str | list[str]
"""A value, or those of a name that stands more than once."""

MOST_ENTRY_BYTES = 1 << 20

_LENGTH_BYTES = 8
_LONGEST_NAME = 64
_NOTICE = b"-- "
"""How a line of journalctl's own begins, which older versions write in between; no name of a field has such bytes."""


class Fields(NamedTuple):
    """An entry. `data` holds bytes of those values that are not UTF-8, `values` then the text with what is not replaced."""

    values: dict[str, Field]
    truncated: bool = False
    data: dict[str, bytes] = {}  # noqa: RUF012 - nobody writes to the empty one


class ExportReader:
    """Takes bytes in pieces of any size and gives the entries that are whole.

    Of an entry that is larger than `most_bytes` the values are cut where the bound is reached; the rest is passed over without
    being kept, and the entry is marked.
    """

    def __init__(self, most_bytes: int = MOST_ENTRY_BYTES) -> None:
        self._most_bytes = most_bytes
        self._buffer = b""
        self._entry: _Entry | None = None
        """The entry that is read piece by piece, where the short way does not do."""

    @property
    def held_bytes(self) -> int:
        """What waits for its rest."""
        return len(self._buffer) + (self._entry.size if self._entry is not None else 0)

    def feed(self, data: bytes) -> list[Fields]:
        """The entries that end in these bytes."""
        data = self._buffer + data if self._buffer else data
        found: list[Fields] = []
        at = 0
        while at < len(data):
            if self._entry is None:
                end = data.find(b"\n\n", at)
                if end < 0 and len(data) - at <= self._most_bytes:
                    break
                entry = _simple(data[at:end]) if 0 <= end <= at + self._most_bytes else None
                if entry is not None:
                    found.append(entry)
                    at = end + 2
                    continue
                self._entry = _Entry(self._most_bytes)
            before = at
            at = self._entry.take(data, at)
            if self._entry.is_whole:
                found += self._entry.fields()
                self._entry = None
            elif at == before:
                break
        self._buffer = data[at:]
        return found


def _simple(block: bytes) -> Fields | None:
    """An entry of text lines only, each name once; None where it is more than that."""
    lines = block.decode("utf-8", "replace").split("\n")
    try:
        values = cast("dict[str, Field]", dict([line.split("=", 1) for line in lines]))
    except ValueError:
        return None
    return Fields(values) if len(values) == len(lines) else None


class _Entry:
    """An entry on its way."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._pairs: list[tuple[bytes, bytes]] = []
        self._truncated = False
        self._name = b""
        self._kept = bytearray()
        self._bytes_to_come = -1
        """Of the value that is read, its newline included; -1 between values."""
        self._value_bytes = 0
        self._skips_line = False
        self.is_whole = False

    @property
    def size(self) -> int:
        return len(self._kept) + sum(len(name) + len(value) for name, value in self._pairs)

    def take(self, data: bytes, at: int) -> int:
        """One step on; where it stays, more bytes are needed."""
        if self._bytes_to_come >= 0:
            return self._more_of_value(data, at)
        newline = data.find(b"\n", at)
        if self._skips_line:
            self._skips_line = newline < 0
            return len(data) if newline < 0 else newline + 1
        if newline < 0:
            if len(data) - at <= max(self._left, _LONGEST_NAME):
                return at
            self._line(data[at : at + self._left + 1])
            self._skips_line = True
            return len(data)
        if newline == at:
            self.is_whole = True
            return newline + 1
        line = data[at:newline]
        if b"=" in line or line.startswith(_NOTICE):
            self._line(line)
            return newline + 1
        return self._begin_value(line, data, newline + 1, at)

    def fields(self) -> list[Fields]:
        """The entry, or none where it has no field."""
        if not self._pairs:
            return []
        values: dict[str, Field] = {}
        data: dict[str, bytes] = {}
        for raw_name, raw in self._pairs:
            name, text = raw_name.decode("utf-8", "replace"), raw.decode("utf-8", "replace")
            if "\ufffd" in text and not _is_utf8(raw):
                data[name] = raw
            before = values.get(name)
            values[name] = text if before is None else [*([before] if isinstance(before, str) else before), text]
        return [Fields(values, self._truncated, data)]

    def _line(self, line: bytes) -> None:
        if line.startswith(_NOTICE):
            return
        name, _, value = line.partition(b"=")
        self._keep(name, value)

    def _begin_value(self, name: bytes, data: bytes, at: int, line_start: int) -> int:
        if len(data) - at < _LENGTH_BYTES:
            return line_start
        self._name = name
        self._kept = bytearray()
        self._value_bytes = self._bytes_to_come = int.from_bytes(data[at : at + _LENGTH_BYTES], "little") + 1
        return at + _LENGTH_BYTES

    def _more_of_value(self, data: bytes, at: int) -> int:
        taken = min(self._bytes_to_come, len(data) - at)
        room = max(0, self._left + 1 - len(self._kept))
        self._kept += data[at : at + min(taken, room)]
        self._bytes_to_come -= taken
        if not self._bytes_to_come:
            self._bytes_to_come = -1
            value = bytes(self._kept)
            self._kept = bytearray()
            self._keep(self._name, value[:-1] if len(value) == self._value_bytes else value)
        return at + taken

    def _keep(self, name: bytes, value: bytes) -> None:
        room = self._left - len(name)
        if len(value) > room:
            self._truncated = True
            value = _cut(value, room)
            if not value:
                return
        self._left -= len(name) + len(value)
        self._pairs.append((name, value))


def _cut(value: bytes, room: int) -> bytes:
    """Its beginning, no character of UTF-8 torn."""
    end = max(0, room)
    while end > 0 and value[end] & 0xC0 == 0x80:
        end -= 1
    return value[:end]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True

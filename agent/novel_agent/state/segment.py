"""One file of a spool: its format, and how it is read.

A segment is `MAGIC` (whose last byte is the version) and records, one behind the other, little-endian:

    4 bytes   length of the payload
    4 bytes   items
    8 bytes   time of arrival, nanoseconds since the epoch
    4 bytes   CRC32C of the 16 bytes above
    4 bytes   CRC32C of the payload, continued from the one above
    …         the payload

A record without payload closes a segment that is full; its items are those of the whole segment. It is believed only where
a later segment exists: what a client sent could look like one.

Reading is pure but for `pread`; nothing here writes. A record that is not whole ends what can be read.
"""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from novel_agent.state.checksum import crc32c

MAGIC = b"NVSPOOL\x01"
START = len(MAGIC)
"""Offset of the first record."""

RECORD_BYTES = 24
"""What a record takes beside its payload."""

WINDOW_BYTES = 1 << 20

_MOST_ITEMS = 0xFFFF_FFFF
_HOLD_THE_LOCK = 0
"""For crc32c, which else lets go of the interpreter's lock from 32 KiB on: getting it back takes longer than the sum."""

_FIELDS = struct.Struct("<IIQ")
_HEADER = struct.Struct("<IIQII")
_CHECKED_BYTES = _FIELDS.size
_NAME_DIGITS = 16
_SUFFIX = ".seg"


class Record(NamedTuple):
    """One record: where it begins and ends in its file, and what is in it. `payload` is a view into what was read."""

    start: int
    end: int
    items: int
    at_nanos: int
    payload: memoryview


class Damaged(Exception):  # noqa: N818 - a finding
    """The record at `offset` is not whole. `torn`: the file ends within it, as when its writer was killed."""

    def __init__(self, offset: int, *, torn: bool) -> None:
        super().__init__(f"record at {offset} {'cut off' if torn else 'damaged'}")
        self.offset = offset
        self.torn = torn


class Foreign(Exception):  # noqa: N818 - a finding
    """The file is no segment, or one of another version. `newer`: a later agent wrote it."""

    def __init__(self, *, newer: bool) -> None:
        super().__init__("of a later version" if newer else "no segment")
        self.newer = newer


def segment_name(number: int) -> str:
    """The name of the file of a segment."""
    return f"{number:0{_NAME_DIGITS}d}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """The number in the name of a file, None where it is no segment's."""
    digits = name.removesuffix(_SUFFIX)
    plain = len(digits) == _NAME_DIGITS and digits.isascii() and digits.isdigit()
    return int(digits) if plain and name.endswith(_SUFFIX) else None


def record_header(payload: bytes, items: int, at_nanos: int) -> bytes:
    """What stands before a payload."""
    fields = _FIELDS.pack(len(payload), min(items, _MOST_ITEMS), at_nanos)
    check = crc32c(fields)
    return _HEADER.pack(len(payload), min(items, _MOST_ITEMS), at_nanos, check, crc32c(payload, check, _HOLD_THE_LOCK))


def closing_record(items: int, at_nanos: int) -> bytes:
    """The last record of a full segment."""
    return record_header(b"", items, at_nanos)


def open_segment(path: str) -> int:
    """A descriptor to read it with; OSError, or Foreign where it is no segment of ours. An empty file is an empty segment."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        magic = os.pread(descriptor, START, 0)
        if not MAGIC.startswith(magic):
            raise Foreign(newer=magic[:-1] == MAGIC[:-1] and magic[-1] > MAGIC[-1])
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_closing(descriptor: int) -> tuple[int, int] | None:
    """Where the records of a full segment end and how many items they hold, from its closing record; None without one."""
    offset = os.fstat(descriptor).st_size - RECORD_BYTES
    header = os.pread(descriptor, RECORD_BYTES, offset) if offset >= START else b""
    if len(header) < RECORD_BYTES:
        return None
    length, items, _, check, whole = _HEADER.unpack(header)
    if crc32c(header[:_CHECKED_BYTES]) != check:
        return None
    return (offset, items) if length == 0 and check == whole else None


def read_arrival(descriptor: int, offset: int) -> int | None:
    """When the record there arrived, in nanoseconds since the epoch; None where its header is not whole."""
    header = os.pread(descriptor, RECORD_BYTES, offset)
    if len(header) < RECORD_BYTES:
        return None
    at_nanos: int
    _, _, at_nanos, check, _ = _HEADER.unpack(header)
    return at_nanos if crc32c(header[:_CHECKED_BYTES]) == check else None


def records(descriptor: int, start: int, end: int, window_bytes: int = WINDOW_BYTES) -> Iterator[Record]:
    """The records from one offset to another, checked; Damaged at the first that is not whole. A closing record ends them.

    Reads a window at a time, larger only for a record that does not fit. A payload is good as long as it is referenced.
    """
    position, wanted, readable_end = start, window_bytes, end
    while position < readable_end:
        asked = min(wanted, readable_end - position)
        window = memoryview(os.pread(descriptor, asked, position))
        if len(window) < asked:  # the file ends before `end`
            readable_end = position + len(window)
        taken, wanted = 0, window_bytes
        while taken + RECORD_BYTES <= len(window):
            length, items, at_nanos, check, whole = _HEADER.unpack_from(window, taken)
            if crc32c(window[taken : taken + _CHECKED_BYTES]) != check:
                raise Damaged(position + taken, torn=False)
            following = taken + RECORD_BYTES + length
            if position + following > readable_end:
                raise Damaged(position + taken, torn=True)
            if following > len(window):
                wanted = max(window_bytes, RECORD_BYTES + length)
                break
            payload = window[taken + RECORD_BYTES : following]
            if crc32c(payload, check, _HOLD_THE_LOCK) != whole:
                raise Damaged(position + taken, torn=False)
            if length == 0:
                return
            yield Record(position + taken, position + following, items, at_nanos, payload)
            taken = following
        if taken == 0 and len(window) < RECORD_BYTES:
            raise Damaged(position, torn=True)
        position += taken
    if position < end:
        raise Damaged(position, torn=True)

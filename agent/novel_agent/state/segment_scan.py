"""What is in the directory of one stream: looked at when a spool is opened, and by whoever only wants to see.

Reads little: of a full segment the closing record, of the one the cursor stands in and of the newest every record. Everything
here may block on the disk.
"""

import errno
import os
from collections.abc import Iterator
from typing import Literal

import msgspec

from novel_agent.state.cursor import BEGINNING, CursorFile, Position
from novel_agent.state.segment import (
    RECORD_BYTES,
    START,
    Damaged,
    Foreign,
    Record,
    open_segment,
    read_arrival,
    read_closing,
    records,
    segment_name,
    segment_number,
)

CURSOR_NAME = "cursor"

PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
"""Errors that say nothing about a file."""

Fault = Literal["cut off", "damaged", "unreadable", "of a later version", "no segment"]


class Finding(msgspec.Struct, frozen=True):
    """Something in a segment that cannot be read. `offset` is where its readable part ends, `lost_bytes` what is behind."""

    segment: int
    fault: Fault
    offset: int
    lost_bytes: int


class Extent(msgspec.Struct):
    """A segment: the part that waits begins at `start`, and the readable part ends at `end`.

    `items` are those that wait. `closed`: nothing is to be appended. `whole_items`: of all its records, None if not known.
    """

    number: int
    start: int
    end: int
    items: int = 0
    at_nanos: int = 0
    """When the first that waits arrived."""
    closed: bool = True
    whole_items: int | None = None
    finding: Finding | None = None


class Scan(msgspec.Struct):
    """What waits in a stream, oldest segment first, and what was found wrong."""

    cursor: Position
    segments: list[Extent]
    acknowledged: list[int]
    """Numbers of segments before the cursor: left to be removed."""
    last_number: int
    """The highest that was ever seen; new ones come behind it."""
    cursor_damaged: bool = False


def segment_numbers(directory: str) -> list[int]:
    """The segments of a stream in order; OSError where the directory cannot be read."""
    return sorted(number for name in os.listdir(directory) if (number := segment_number(name)) is not None)


def scan(directory: str, cursor_file: CursorFile) -> Scan:
    """Look at a stream. A file that cannot be read is a finding; OSError where the directory cannot be, or nothing just now."""
    numbers = segment_numbers(directory)
    try:
        cursor, sure = cursor_file.read()
    except OSError:
        cursor, sure = BEGINNING, False
    waiting = [number for number in numbers if number >= cursor.segment]
    extents = []
    for number in waiting:
        start = max(START, cursor.offset) if number == cursor.segment else START
        extents.append(_examine(directory, number, start, newest=number == numbers[-1]))
    last_number = max(numbers[-1] if numbers else 0, cursor.segment)
    return Scan(cursor, extents, numbers[: len(numbers) - len(waiting)], last_number, cursor_damaged=not sure)


def _examine(directory: str, number: int, start: int, *, newest: bool) -> Extent:
    path = os.path.join(directory, segment_name(number))
    try:
        descriptor = open_segment(path)
    except Foreign as error:
        lost_bytes = os.stat(path).st_size
        fault: Fault = "of a later version" if error.newer else "no segment"
        return Extent(number, start, start, finding=Finding(number, fault, 0, lost_bytes))
    except OSError as error:
        return _unreadable(number, start, path, error)
    try:
        return _extent(descriptor, number, start, newest=newest)
    except OSError as error:
        return _unreadable(number, start, path, error)
    finally:
        os.close(descriptor)


def _unreadable(number: int, start: int, path: str, error: OSError) -> Extent:
    if error.errno in PASSING:
        raise error
    try:
        size_bytes = os.lstat(path).st_size
    except OSError:
        size_bytes = 0
    return Extent(number, start, start, finding=Finding(number, "unreadable", 0, size_bytes))


def _extent(descriptor: int, number: int, start: int, *, newest: bool) -> Extent:
    closing = read_closing(descriptor)
    if closing is not None and not newest and start == START:
        end, items = closing
        return Extent(number, start, end, items, read_arrival(descriptor, start) or 0, whole_items=items)
    return _walked(descriptor, number, start, newest=newest)


def _walked(descriptor: int, number: int, start: int, *, newest: bool) -> Extent:
    size = os.fstat(descriptor).st_size
    extent = Extent(number, start, start, closed=not newest)
    if size < start:  # the cursor outlived what it counted: what comes must not be taken for acknowledged
        extent.closed = extent.closed or start > START
        return extent
    try:
        for record in records(descriptor, start, size):
            extent.at_nanos = extent.at_nanos or record.at_nanos
            extent.items += record.items
            extent.end = record.end
    except Damaged as damage:
        fault: Fault = "cut off" if damage.torn else "damaged"
        extent.finding = Finding(number, fault, damage.offset, size - damage.offset)
    else:
        extent.closed = extent.closed or extent.end < size
    if start == START:
        extent.whole_items = extent.items
    return extent


def pieces(directory: str, extent: Extent) -> Iterator[tuple[bytes, int, int]]:
    """What waits in a segment, record by record: payload, items, arrival in nanoseconds. OSError, Foreign, Damaged."""
    descriptor = open_segment(os.path.join(directory, segment_name(extent.number)))
    try:
        for record in records(descriptor, extent.start, extent.end):
            yield bytes(record.payload), record.items, record.at_nanos
    finally:
        os.close(descriptor)


def read_some(path: str, start: int, end: int, most_bytes: int) -> "Read":
    """The records from `start`, at least one, as many as have no more payload than `most_bytes`.

    Damaged, Foreign or OSError where not even the first can be read.
    """
    descriptor = open_segment(path)
    try:
        return _read_some(descriptor, start, end, most_bytes)
    finally:
        os.close(descriptor)


class Read(msgspec.Struct, frozen=True):
    """Some records in a row: their payload in one, and what each has of it."""

    payload: bytes
    sizes: list[tuple[int, int]]
    """Bytes of payload and items of each."""
    items: int
    at_nanos: int
    end: int
    next_at_nanos: int
    """When the record behind them arrived; 0 where none is known."""


def _read_some(descriptor: int, start: int, end: int, most_bytes: int) -> Read:
    window_bytes = most_bytes + most_bytes // 16 + RECORD_BYTES
    found = _within(descriptor, start, min(end, start + window_bytes), most_bytes)
    if not found:
        first = next(records(descriptor, start, end, window_bytes), None)
        if first is None:
            raise Damaged(start, torn=True)
        found = [first]
    read_to = found[-1].end
    next_at_nanos = read_arrival(descriptor, read_to) if read_to < end else None
    return Read(
        b"".join([record.payload for record in found]),
        [(len(record.payload), record.items) for record in found],
        sum(record.items for record in found),
        found[0].at_nanos,
        read_to,
        next_at_nanos or 0,
    )


def _within(descriptor: int, start: int, end: int, most_bytes: int) -> list[Record]:
    """The records that are whole before `end`, as far as their payloads are within `most_bytes`."""
    found: list[Record] = []
    size_bytes = 0
    try:
        for record in records(descriptor, start, end, end - start):
            size_bytes += len(record.payload)
            if size_bytes > most_bytes:
                break
            found.append(record)
    except Damaged:
        pass
    return found

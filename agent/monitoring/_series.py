"""Where the library's numbers live: one block of doubles a process, in memory of its own or in a file its sibling workers read.

A family is a metric's name, kind, help and shape; a series is one combination of its label values; its cells are
doubles:

    counter      value
    gauge        value, time of setting (seconds since the epoch)
    histogram    sum, one count for each bucket and one above the last; with exemplars, then for each of these
                 trace id (16 bytes), span id (8 bytes), value, time

Memory is taken in segments that never move, so a writer needs no more than its series' segment and index. Each starts
with the number of bytes used (written last, so that a reader in another process sees whole records) and the port of
the server; records follow: length of the key, number of cells, the key as JSON padded to 8 bytes, the cells.

A lock guards every write except those of `monitoring._interpreter`, whose cells have one writer each. It is never
held while anything waits, and its owner may take it again: a finalizer that records may run wherever memory is taken.
"""

import logging
import math
import mmap
import os
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal

import msgspec

from monitoring._said import say_once

Kind = Literal["counter", "gauge", "histogram"]
Across = Literal["sum", "latest"]

SEGMENT_BYTES = 256 * 1024
HEADER_BYTES = 16
LABEL_VALUES_MAX = 200
ENDPOINTS_MAX = 1000
LABELS_MAX = 20
LABEL_VALUE_LENGTH_MAX = 128
SERIES_OF_A_FAMILY_MAX = 5000
FAMILIES_MAX = 500
OTHER = "other"

_RECORD = struct.Struct("=ii")
_HEADER = struct.Struct("=qq")
_EXEMPLAR = struct.Struct("=16s8sdd")
EXEMPLAR_CELLS = _EXEMPLAR.size // 8


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric. `across` says what a gauge of several workers is: the sum of the living, or what was set last."""

    name: str
    kind: Kind
    help: str
    buckets: tuple[float, ...] = ()
    across: Across = "latest"
    exemplars: bool = False

    @property
    def cells(self) -> int:
        """How many doubles a series has."""
        if self.kind == "histogram":
            buckets = len(self.buckets) + 1
            return 1 + buckets + (EXEMPLAR_CELLS * buckets if self.exemplars else 0)
        return 2 if self.kind == "gauge" else 1


class Key(msgspec.Struct, frozen=True, array_like=True):
    """What identifies a series, and all that a reader in another process has to know of it."""

    family: Family
    labels: tuple[tuple[str, str], ...]


class Series:
    """Where one series is. `cells` changes when the store moves to a file, so it is read under the lock."""

    __slots__ = ("at", "cells", "family")

    def __init__(self, family: Family, cells: "memoryview[float]", at: int) -> None:
        self.family = family
        self.cells = cells
        self.at = at


class _Seen:
    """What one family has been given: its series by labels, and the values of each label."""

    __slots__ = ("family", "series", "values")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.series: dict[tuple[tuple[str, str], ...], Series] = {}
        self.values: dict[str, set[str]] = {}


class Store:
    """The series of this process.

    A name that is already of another kind is an error in the log and None to the caller. Label values beyond the cap
    become `other`, which is counted by family in `monitoring_label_values_limited_total`.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._segments: list[mmap.mmap] = []
        self._seen: dict[str, _Seen] = {}
        self._file: int | None = None
        self._complaints: list[tuple[int, str, str]] = []
        self._limited = Family(
            "monitoring_label_values_limited_total", "counter", "Samples whose label values were replaced by other."
        )

    def series(self, family: Family, labels: tuple[tuple[str, str], ...]) -> Series | None:
        """The series with these labels, made if new. Costs two look-ups when it exists."""
        known = self.known(family, labels)
        if known is not None:
            return known
        with self.lock:
            made = self._made(family, labels)
            complaints, self._complaints = self._complaints, []
        for complaint in complaints:
            say_once(*complaint)
        return made

    def known(self, family: Family, labels: tuple[tuple[str, str], ...]) -> Series | None:
        """The series with these labels, if there is one and the name is this family's. Two look-ups, no lock."""
        seen = self._seen.get(family.name)
        return seen.series.get(labels) if seen is not None and seen.family is family else None

    def _made(self, family: Family, labels: tuple[tuple[str, str], ...]) -> Series | None:
        seen = self._seen.get(family.name)
        if seen is None:
            if len(self._seen) >= FAMILIES_MAX:
                self._complain(logging.ERROR, f"more than {FAMILIES_MAX} metrics: new names are not recorded", "")
                return None
            seen = self._seen[family.name] = _Seen(family)
        elif seen.family.kind != family.kind:
            self._complain(
                logging.ERROR,
                f"metric is a {seen.family.kind} already and cannot be a {family.kind} as well",
                family.name,
            )
            return None
        allowed = self._within_caps(seen, labels)
        known = seen.series.get(allowed)
        if known is None:
            try:
                known = seen.series[allowed] = self._allocated(Key(seen.family, allowed))
            except OSError as error:
                self._complain(logging.ERROR, "no memory is left for metrics", str(error))
        return known

    def _complain(self, level: int, text: str, about: str) -> None:
        """Say it when the lock is free again: a log handler may take locks of its own."""
        self._complaints.append((level, text, about))

    def _within_caps(self, seen: _Seen, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        if labels in seen.series:
            return labels
        allowed = tuple((name, self._value(seen, name, value)) for name, value in labels[:LABELS_MAX])
        if allowed not in seen.series and len(seen.series) >= SERIES_OF_A_FAMILY_MAX:
            allowed = tuple((name, OTHER) for name, _ in labels[:LABELS_MAX])
        if allowed != labels and seen.family is not self._limited:
            limited = self._made(self._limited, (("metric", seen.family.name),))
            if limited is not None:
                limited.cells[limited.at] += 1.0
        return allowed

    def _value(self, seen: _Seen, name: str, value: str) -> str:
        values = seen.values.setdefault(name, set())
        value = value[:LABEL_VALUE_LENGTH_MAX]
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode()
        if value in values:
            return value
        at_most = ENDPOINTS_MAX if name == "endpoint" else LABEL_VALUES_MAX
        if len(values) >= at_most:
            text = f"more than {at_most} values of a label, the rest are counted as {OTHER}"
            self._complain(logging.WARNING, text, f"{seen.family.name}, {name}")
            return OTHER
        values.add(value)
        return value

    def _allocated(self, key: Key) -> Series:
        encoded = msgspec.json.encode(key)
        encoded += b" " * (-len(encoded) % 8)
        size = _RECORD.size + len(encoded) + 8 * key.family.cells
        segment = self._segments[-1] if self._segments else None
        if segment is None or _used(segment) + size > SEGMENT_BYTES:
            segment = self._grown()
        start = _used(segment)
        _RECORD.pack_into(segment, start, len(encoded), key.family.cells)
        cells_at = start + _RECORD.size + len(encoded)
        segment[start + _RECORD.size : cells_at] = encoded
        segment[0:8] = struct.pack("=q", start + size)
        return Series(key.family, memoryview(segment).cast("d"), cells_at // 8)

    def _grown(self) -> mmap.mmap:
        if self._file is None:
            segment = _private()
        else:
            offset = len(self._segments) * SEGMENT_BYTES
            os.posix_fallocate(self._file, offset, SEGMENT_BYTES)
            segment = mmap.mmap(self._file, SEGMENT_BYTES, offset=offset)
        port = _HEADER.unpack_from(self._segments[0])[1] if self._segments else 0
        _HEADER.pack_into(segment, 0, HEADER_BYTES, port)
        self._segments.append(segment)
        return segment

    def share(self, path: str) -> None:
        """Move the cells to a new file at `path`; raises OSError when it cannot be made.

        Its space is reserved: a write to a mapped page that the file system has no room for would end the process.
        """
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with self.lock:
            try:
                os.posix_fallocate(file, 0, max(1, len(self._segments)) * SEGMENT_BYTES)
                shared = [
                    mmap.mmap(file, SEGMENT_BYTES, offset=at * SEGMENT_BYTES) for at in range(len(self._segments))
                ]
            except OSError:
                os.close(file)
                raise
            self._file = file
            self._move(shared)
            if not shared:
                self._grown()

    def serve(self, port: int) -> None:
        """Note the port of the server that this process works for."""
        with self.lock:
            for segment in self._segments or [self._grown()]:
                segment[8:16] = struct.pack("=q", port)

    def begin_as_child(self) -> None:
        """After a fork: gauges stay, what is counted starts at 0, and the parent's file is the parent's."""
        self.lock = threading.RLock()
        self._move([_private() for _ in self._segments])
        if self._file is not None:
            os.close(self._file)
            self._file = None
        for seen in self._seen.values():
            if seen.family.kind != "gauge":
                for series in seen.series.values():
                    for cell in range(series.at, series.at + series.family.cells):
                        series.cells[cell] = 0.0

    def _move(self, segments: list[mmap.mmap]) -> None:
        moved: dict[int, memoryview[float]] = {}
        for old, new in zip(self._segments, segments, strict=True):
            new[:] = old[:]
            moved[id(old)] = memoryview(new).cast("d")
        for seen in self._seen.values():
            for series in seen.series.values():
                series.cells = moved[id(series.cells.obj)]
        self._segments = segments

    def blocks(self) -> list[bytes]:
        """A copy of every segment, for `read_block`."""
        with self.lock:
            return [segment[: _used(segment)] for segment in self._segments]

    def forget(self) -> None:
        """Begin with nothing: for tests."""
        with self.lock:
            self._segments, self._seen = [], {}
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def add(self, series: Series, amount: float) -> None:
        """Count."""
        with self.lock:
            series.cells[series.at] += amount

    def set(self, series: Series, value: float, now: float | None = None) -> None:
        """Set a gauge. `now` in seconds since the epoch."""
        with self.lock:
            series.cells[series.at] = value
            series.cells[series.at + 1] = time.time() if now is None else now

    def observe(self, series: Series, value: float) -> None:
        """Put a value into a histogram."""
        bucket = series.at + 1 + bisect_left(series.family.buckets, value)
        with self.lock:
            cells = series.cells
            cells[series.at] += value
            cells[bucket] += 1.0

    def count_and_observe(
        self, counter: Series, histogram: Series, value: float, exemplar: tuple[bytes, bytes] | None
    ) -> None:
        """What a request costs: one more, its duration, and the trace and span it was (ids of 16 and 8 bytes)."""
        buckets = histogram.family.buckets
        bucket = bisect_left(buckets, value)
        with self.lock:
            counter.cells[counter.at] += 1.0
            cells, at = histogram.cells, histogram.at
            cells[at] += value
            cells[at + 1 + bucket] += 1.0
            if exemplar is not None:
                offset = 8 * (at + 2 + len(buckets) + EXEMPLAR_CELLS * bucket)
                _EXEMPLAR.pack_into(cells.obj, offset, *exemplar, value, time.time())


def _used(segment: mmap.mmap) -> int:
    return int(_HEADER.unpack_from(segment)[0])


def _private() -> mmap.mmap:
    return mmap.mmap(-1, SEGMENT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def port_of(block: bytes) -> int:
    """The port noted in a segment, 0 when none was."""
    return int(_HEADER.unpack_from(block)[1]) if len(block) >= HEADER_BYTES else 0


def read_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a segment: key and cells, both as bytes. Stops at what is not whole."""
    if len(block) < HEADER_BYTES:
        return
    used = min(int(_HEADER.unpack_from(block)[0]), len(block))
    at = HEADER_BYTES
    while at + _RECORD.size <= used:
        key_bytes, cells = _RECORD.unpack_from(block, at)
        key_at = at + _RECORD.size
        cells_at = key_at + key_bytes
        at = cells_at + 8 * cells
        if key_bytes <= 0 or cells <= 0 or at > used:
            return
        yield block[key_at:cells_at], block[cells_at:at]


def exemplar_at(cells: bytes, family: Family, bucket: int) -> tuple[str, str, float, float] | None:
    """Trace id, span id, value and time noted for a bucket."""
    offset = 8 * (2 + len(family.buckets) + EXEMPLAR_CELLS * bucket)
    trace, span, value, when = _EXEMPLAR.unpack_from(cells, offset)
    return (trace.hex(), span.hex(), value, when) if when else None


def number(value: object) -> float | None:
    """A finite number as a float, None for anything else."""
    try:
        converted = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return converted if math.isfinite(converted) else None


store = Store()
os.register_at_fork(after_in_child=store.begin_as_child)

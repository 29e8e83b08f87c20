"""Appends to the segments of one stream: writes, syncs, rolls back what failed.

Everything here may block on the disk and belongs into a thread, one call at a time. Nothing here is known to the event loop
but what a call gives back.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from novel_agent.state.segment import MAGIC, RECORD_BYTES, START, closing_record, record_header, segment_name

_MOST_AT_ONCE = 512
"""Records a system call writes: two pieces each, of the 1,024 (IOV_MAX) the kernel takes."""

Entry = tuple[bytes, int, int]
"""Payload, items, nanoseconds since the epoch of its arrival."""


class Placed(NamedTuple):
    """Where a record is now."""

    segment: int
    start: int
    end: int


class Appended(NamedTuple):
    """What became of a group: where its first records are, and what kept the rest from being written."""

    placed: Sequence[Placed]
    error: OSError | None


class _SyncFailed(OSError):  # noqa: N818 - named by what it means
    """What was written may be lost, whatever a later sync says."""


class SegmentWriter:
    """The end of a stream. `go_on` says where, after a start; the first append makes the file."""

    def __init__(self, directory: str, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        """A segment is closed when the next record would make it larger."""
        self.written_bytes = 0
        self.syncs = 0
        self._directory = directory
        self._descriptor = -1
        self._number = 0
        self._offset = 0
        self._items: int | None = None
        self._at_nanos = 0
        self._new = False

    def go_on(self, after: int) -> None:
        """Begin behind the segment of this number, with a new one."""
        self._number = max(self._number, after)

    def go_on_in(self, number: int, offset: int, items: int | None) -> None:
        """Begin in this segment at this offset; OSError where that cannot be. `items`: those before it, None if not known."""
        path = self._path(number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_size < START:
                os.ftruncate(descriptor, 0)
                _write_all(descriptor, [MAGIC], 0)
            os.ftruncate(descriptor, offset)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._number, self._offset, self._items = descriptor, number, offset, items
        self._new = True

    def append(self, entries: Sequence[Entry], *, sync: bool) -> Appended:
        """Write records in order and, with `sync`, make them outlive the machine.

        After an error nothing of what is not given as placed is in the file.
        """
        placed: list[Placed] = []
        synced = 0
        try:
            while len(placed) < len(entries):
                rest = entries[len(placed) : len(placed) + _MOST_AT_ONCE]
                if self._must_roll(RECORD_BYTES + len(rest[0][0])):
                    self._finish(sync=sync)
                    synced = len(placed)
                    self._begin()
                placed += self._write(rest)
            if sync:
                self._sync()
        except OSError as error:
            if sync and synced < len(placed) and not self._is_synced_after(error):
                self._give_up_from(placed[synced])
                del placed[synced:]
            return Appended(placed, error)
        return Appended(placed, None)

    def _is_synced_after(self, error: OSError) -> bool:
        """Whether what was written before an error could be synced.

        Where a sync itself failed it is not tried again: the kernel tells of what it could not write once, and has
        forgotten it then (fsync(2)), so the next would claim that all is well. Only what was synced before counts.
        """
        if isinstance(error, _SyncFailed):
            return False
        try:
            self._sync()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the file, safe more than once; what comes goes into another."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, segment_name(number))

    def _must_roll(self, record_bytes: int) -> bool:
        if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:
            self.close()  # removed by somebody: what is written there would be gone
        return self._descriptor < 0 or (self._offset > START and self._offset + record_bytes > self.segment_bytes)

    def _finish(self, *, sync: bool) -> None:
        if self._descriptor >= 0:
            self._write_closing()
            if sync:
                self._sync()
            self.close()

    def _begin(self) -> None:
        self._descriptor = self._create()
        try:
            _write_all(self._descriptor, [MAGIC], 0)
        except OSError:
            self.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path(self._number))
            raise
        self._offset, self._items, self._new = START, 0, True

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            self._number += 1
            try:
                return os.open(self._path(self._number), flags, 0o600)
            except FileExistsError:  # somebody's: not ours to touch
                continue
            except FileNotFoundError:
                make_directory(self._directory)
                return os.open(self._path(self._number), flags, 0o600)

    def _write_closing(self) -> None:
        if self._items is None:
            return
        record = closing_record(self._items, self._at_nanos)
        try:
            _write_all(self._descriptor, [record], self._offset)
        except OSError:  # it only spares the next start a walk
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._offset)

    def _write(self, entries: Sequence[Entry]) -> list[Placed]:
        """As many of these as the segment takes, at least one; all of them or, with OSError, none."""
        placed: list[Placed] = []
        pieces: list[bytes] = []
        offset, items = self._offset, 0
        for payload, count, at_nanos in entries:
            end = offset + RECORD_BYTES + len(payload)
            if end > self.segment_bytes and offset > START:
                break
            pieces += (record_header(payload, count, at_nanos), payload)
            placed.append(Placed(self._number, offset, end))
            offset, items = end, items + count
            self._at_nanos = at_nanos
        try:
            _write_all(self._descriptor, pieces, self._offset)
        except OSError:
            self._cut()
            raise
        self.written_bytes += offset - self._offset
        self._offset = offset
        if self._items is not None:
            self._items += items
        return placed

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _SyncFailed(error.errno, error.strerror) from None
        self.syncs += 1
        if self._new:
            sync_directory(self._directory)
            self._new = False

    def _cut(self) -> None:
        """Take back what a failed write left behind; where not even that works, this segment is not written any more."""
        try:
            os.ftruncate(self._descriptor, self._offset)
        except OSError:
            self.close()

    def _give_up_from(self, first: Placed) -> None:
        self._offset = first.start if first.segment == self._number else START
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._offset)
        self.close()


def _write_all(descriptor: int, pieces: Sequence[bytes], offset: int) -> None:
    """Write pieces one behind the other; OSError when it is not all written."""
    written = os.pwritev(descriptor, pieces, offset)
    if written == sum(map(len, pieces)):
        return
    rest = memoryview(b"".join(pieces))
    while written < len(rest):
        now_written = os.pwrite(descriptor, rest[written:], offset + written)
        if not now_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += now_written


def make_directory(path: str) -> None:
    """Make a directory (0700) and those above it, so that they outlive the machine. OSError."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_directory(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    sync_directory(above)


def sync_directory(path: str) -> None:
    """Make the names in a directory outlive the machine. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""One signal's part of a spool, as the event loop sees it: what waits, what is leased, what is acknowledged.

Files are touched in threads only, by `_Disk`, one call at a time; what a call found is put into effect here, on the loop. What
is put in is written by the next group; a group is under way or due only while there is something to write, so a stream
that is idle costs nothing.

Between its end and what is acknowledged a stream is, from the oldest on: what was taken, as pieces that are leased or were
given back; what no lease has reached, from the reading position on; what is not on disk yet.
"""

import asyncio
import bisect
import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Protocol, TypeVar, overload

import msgspec

from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch, Signal
from novel_agent.state.cursor import BEGINNING, CursorFile, Position
from novel_agent.state.queue import QueueFull
from novel_agent.state.segment import RECORD_BYTES, START, Damaged, Foreign, segment_name
from novel_agent.state.segment_scan import (
    CURSOR_NAME,
    PASSING,
    Extent,
    Finding,
    Read,
    Scan,
    read_some,
    scan,
    segment_numbers,
)
from novel_agent.state.segment_writer import Appended, Entry, Placed, SegmentWriter, make_directory

GATHER_SECONDS = 0.005
"""Longest that a put that is waited for waits for company, and an acknowledgement to be noted."""

UNHURRIED_SECONDS = 0.1
"""Longest that a put nobody waits for is only in memory."""

RETRY_SECONDS = 1.0
"""How often a disk that failed is tried again, at the most."""

CURSOR_SYNC_SECONDS = 1.0
"""How often a cursor is synced, at the most. It only bounds what is sent again after the machine went down."""

HOT_BYTES = 4 << 20
"""Most that is kept in memory of what was written last and has not been read."""

FAR_BEHIND_BYTES = 4 * HOT_BYTES
"""With so much that waits memory is spared: nothing is kept in it, as it would be long until it is read."""

READ_BYTES = 512 << 10
"""Most that is then read from disk at a time: for a moment it is in memory twice."""

_ASIDE = ".aside"
"""Added to the name of a segment that cannot be read and may yet be worth something."""

_T = TypeVar("_T")

log = get_logger("spool")


class Piece(msgspec.Struct, eq=False):
    """What one lease covers: a range of a segment, or batches that never reached the disk."""

    order: int
    """Older pieces have lower ones."""
    items: int
    size_bytes: int
    at_nanos: int
    """When the first of it arrived."""
    segment: int = 0
    start: int = 0
    end: int = 0
    batches: tuple[Batch, ...] = ()

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.segment, self.start)


class Taken(NamedTuple):
    """A piece, what is in it in one, where it is, and that as it was put in."""

    piece: Piece
    batch: Batch | None
    parts: Sequence[Batch]


class _Parts(Sequence[Batch]):
    """A batch as the records it was read from; made only as far as somebody looks."""

    def __init__(self, batch: Batch, sizes: Sequence[tuple[int, int]]) -> None:
        self._batch = batch
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...

    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        ends = list(accumulate(size_bytes for size_bytes, _ in self._sizes))
        wanted = range(len(self._sizes))[index]
        if isinstance(wanted, int):
            return self._part(ends, wanted)
        return [self._part(ends, number) for number in wanted]

    def _part(self, ends: Sequence[int], number: int) -> Batch:
        size_bytes, items = self._sizes[number]
        payload = self._batch.payload[ends[number] - size_bytes : ends[number]]
        return Batch(self._batch.signal, payload, items)


class _Waiting(msgspec.Struct, eq=False):
    """A batch that is not on disk yet, and who waits for that."""

    batch: Batch
    at_nanos: int
    size_bytes: int
    """On disk, with what a record takes beside its payload."""
    done: "asyncio.Future[None] | None" = None

    def settle(self, error: Exception | None = None) -> None:
        """Tell who waits, if anybody does."""
        if self.done is not None and not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)


def _waiting(batch: Batch, at_nanos: int) -> _Waiting:
    return _Waiting(batch, at_nanos, RECORD_BYTES + len(batch.payload))


class _Hot(NamedTuple):
    segment: int
    start: int
    end: int
    batch: Batch
    at_nanos: int


class _Segment(msgspec.Struct, eq=False):
    number: int
    end: int
    """Where its records end."""
    unread_items: int
    """At and behind the reading position."""
    first_at_nanos: int
    pieces: int = 0
    """Taken from it and not settled."""


class _Work(NamedTuple):
    """What a thread is to do for a stream."""

    entries: Sequence[Entry]
    sync: bool
    cursor: Position | None
    sync_cursor: bool
    doomed: Sequence[int]
    new_segment: bool


class _Done(NamedTuple):
    """And what came of it. `found` where the directory had to be looked at first."""

    found: Scan | None
    appended: Appended
    cursor_error: OSError | None


class _Disk:
    """The thread's side: one call at a time, everything may block."""

    def __init__(self, directory: str, segment_bytes: int) -> None:
        self.writer = SegmentWriter(directory, segment_bytes)
        self._directory = directory
        self._cursor = CursorFile(os.path.join(directory, CURSOR_NAME))
        self._opened = False

    def open(self) -> Scan:
        """Look at what is there and be ready to go on behind it. OSError."""
        make_directory(self._directory)
        found = scan(self._directory, self._cursor)
        for number in found.acknowledged:
            self._remove(number)
        for extent in found.segments:
            if extent.finding is not None and extent.finding.fault in ("unreadable", "of a later version"):
                self._put_aside(extent.number)
        self.writer.go_on(found.last_number)
        newest = found.segments[-1] if found.segments else None
        if newest is not None and not newest.closed:
            with contextlib.suppress(OSError):
                self.writer.go_on_in(newest.number, newest.end, newest.whole_items)
        self._opened = True
        return found

    def work(self, work: _Work) -> _Done:
        """Write, note, remove, in this order. Never raises."""
        found = None
        try:
            if not self._opened:
                found = self.open()
        except OSError as error:
            return _Done(None, Appended((), error), None)
        if work.new_segment:
            self.writer.close()
        appended = self.writer.append(work.entries, sync=work.sync) if work.entries else Appended((), None)
        cursor_error = None
        try:
            if work.cursor is not None:
                self._cursor.write(work.cursor)
            if work.sync_cursor:
                self._cursor.sync()
        except OSError as error:
            cursor_error = error
        for number in work.doomed:
            self._remove(number)
        return _Done(found, appended, cursor_error)

    def close(self) -> None:
        """Let go of the files."""
        self.writer.close()
        self._cursor.close()

    def delete(self) -> None:
        """Remove what is ours in the directory, and the directory where nothing else is in it. OSError."""
        self.close()
        self._opened = False
        with contextlib.suppress(FileNotFoundError):
            for number in segment_numbers(self._directory):
                os.unlink(os.path.join(self._directory, segment_name(number)))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._directory, CURSOR_NAME))
            with contextlib.suppress(OSError):
                os.rmdir(self._directory)

    def _put_aside(self, number: int) -> None:
        path = os.path.join(self._directory, segment_name(number))
        with contextlib.suppress(OSError):
            os.rename(path, f"{path}{_ASIDE}")

    def _remove(self, number: int) -> None:
        with contextlib.suppress(OSError):  # what stays is before the cursor: the next start tries again
            os.unlink(os.path.join(self._directory, segment_name(number)))


class Stream:
    """The batches of one signal, oldest first; not for more than one thread. Made where an event loop runs."""

    def __init__(
        self, directory: str, signal: Signal, executor: Executor, segment_bytes: int, listener: "StreamListener"
    ) -> None:
        self.signal = signal
        self.directory = directory
        self.sync = True
        """Whether what is waited for is made to outlive the machine."""
        self.disk = _Disk(directory, segment_bytes)
        self.size_bytes = 0
        """Not acknowledged, on disk and on its way there."""
        self.items = 0
        self.memory_bytes = 0
        """Of these, not on disk."""
        self.error: OSError | None = None
        """What keeps the disk from being written: for as long, batches are held in memory."""
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._listener = listener
        self._segments: list[_Segment] = []
        self._reading = 0
        """Index of the segment that is read."""
        self._offset = START
        self._next_at_nanos = 0
        self._hot: deque[_Hot] = deque()
        """What was written last, in a row, as far as it is still in memory: the end of what is unread."""
        self._hot_bytes = 0
        self._pieces: set[Piece] = set()
        self._returned: list[Piece] = []
        self._next_order = 1
        self._unwritten: deque[_Waiting] = deque()
        self._writing: Sequence[_Waiting] = ()
        self._awaited = 0
        self._first_awaited_at = 0.0
        self._last_group = 1
        self._retry_at = 0.0
        self._noted = self._to_note = BEGINNING
        self._cursor_retry_at = self._cursor_sync_at = 0.0
        self._cursor_failed = False
        self._doomed: list[int] = []
        self._new_segment = False
        self._job: asyncio.Future[None] | None = None
        self._due: asyncio.Handle | None = None
        self._due_at = 0.0

    # opening and closing ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take over what is on disk; where that cannot be, batches are held in memory until it can."""
        try:
            self._take_over(await self._in_thread(self.disk.open))
        except OSError as error:
            self._on_failing(error)

    async def flush(self) -> None:
        """Wait until all that can be is written and noted."""
        while self._job is not None or self._has_work():
            self._start()
            if self._job is not None:
                await asyncio.wait({self._job})

    async def write_now(self) -> None:
        """Wait for what is being written, or else write what there is."""
        self._start()
        if self._job is not None:
            await asyncio.wait({self._job})

    async def close(self) -> int:
        """Write what is left and let go of the files; gives the items that could not be written, which are gone."""
        await self._job_is_over()
        held = [piece for piece in sorted(self._pieces, key=_by_age) if piece.batches]
        for piece in held:
            self.settle(piece)
        again = [_waiting(batch, piece.at_nanos) for piece in held for batch in piece.batches]
        for waiting in again:
            self._count(waiting, 1)
        self._unwritten.extendleft(reversed(again))
        self._returned.clear()
        self._retry_at = self._cursor_retry_at = 0.0
        await self.flush()
        self._cancel_due()
        await self._in_thread(self.disk.close)
        return sum(waiting.batch.items for waiting in self._unwritten)

    async def delete(self) -> None:
        """Remove all there is, in memory and on disk; nothing may be put in any more. OSError."""
        await self._job_is_over()
        self._cancel_due()
        for waiting in self._unwritten:
            waiting.settle(QueueFull("the destination was taken out"))
        self._unwritten.clear()
        await self._in_thread(self.disk.delete)

    async def _job_is_over(self) -> None:
        while self._job is not None:
            await asyncio.wait({self._job})

    def _take_over(self, found: Scan) -> None:
        self._noted = self._to_note = found.cursor
        if found.cursor_damaged:
            log.warning("cursor damaged, what is there is sent again", spool=self.directory)
        for extent in found.segments:
            if extent.finding is not None:
                self._listener.lost(self, extent.finding, 0)
            if extent.end > extent.start or not extent.closed:
                self._adopt(extent)
            elif extent.finding is None or extent.finding.fault not in ("unreadable", "of a later version"):
                self._doomed.append(extent.number)
        if self._doomed:
            self._be_due_in(UNHURRIED_SECONDS)
        self._listener.changed()

    def _adopt(self, extent: Extent) -> None:
        if not self._segments:
            self._offset, self._next_at_nanos = extent.start, extent.at_nanos
        self._segments.append(_Segment(extent.number, extent.end, extent.items, extent.at_nanos))
        self.size_bytes += extent.end - extent.start
        self.items += extent.items

    # putting in -------------------------------------------------------------------------------------------------------

    def add(self, batch: Batch, at_nanos: int, *, wait: bool) -> "asyncio.Future[None] | None":
        """Take a batch; gives what to wait for until it is as safe as can be, None where nothing need be waited for."""
        waiting = _waiting(batch, at_nanos)
        self._count(waiting, 1)
        self._unwritten.append(waiting)
        if self.error is not None and not self._writing and self._loop.time() < self._retry_at:
            self._listener.changed()
        elif wait:
            waiting.done = self._loop.create_future()
            if not self._awaited:
                self._first_awaited_at = self._loop.time()
            self._awaited += 1
            self._be_due_in(0.0 if self._awaited >= self._last_group else GATHER_SECONDS)
        else:
            self._be_due_in(UNHURRIED_SECONDS)
        return waiting.done

    def try_again(self) -> None:
        """Where the disk could not be written: try once more, unless that was just done."""
        if self.error is not None and self._job is None and self._unwritten and self._loop.time() >= self._retry_at:
            self._start()

    def _count(self, waiting: _Waiting, sign: int) -> None:
        self.size_bytes += sign * waiting.size_bytes
        self.memory_bytes += sign * waiting.size_bytes
        self.items += sign * waiting.batch.items

    def _be_due_in(self, seconds: float) -> None:
        """Begin a job after this time at the latest."""
        if self._job is not None:
            return  # its end looks for what there is to do
        at = self._loop.time() + seconds
        if self._due is not None:
            if self._due_at <= at:
                return
            self._due.cancel()
        self._due, self._due_at = self._loop.call_at(at, self._start), at

    def _cancel_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _has_work(self) -> bool:
        return self._may_write() or bool(self._doomed) or self._may_note()

    def _may_write(self) -> bool:
        return bool(self._unwritten) and (self.error is None or self._loop.time() >= self._retry_at)

    def _may_note(self) -> bool:
        return self._to_note != self._noted and (not self._cursor_failed or self._loop.time() >= self._cursor_retry_at)

    def _start(self) -> None:
        self._cancel_due()
        if self._job is not None or not self._has_work():
            return
        now = self._loop.time()
        if self._may_write():
            self._writing = tuple(self._unwritten)
            self._unwritten.clear()
            self._last_group, self._awaited = max(1, self._awaited), 0
            self._retry_at = now + RETRY_SECONDS
        sync = self.sync and bool(self._writing)
        sync_cursor = sync and now >= self._cursor_sync_at
        if sync_cursor:
            self._cursor_sync_at = now + CURSOR_SYNC_SECONDS
        work = _Work(
            [(waiting.batch.payload, waiting.batch.items, waiting.at_nanos) for waiting in self._writing],
            sync,
            self._to_note if self._may_note() else None,
            sync_cursor,
            self._doomed,
            self._new_segment,
        )
        self._doomed, self._new_segment = [], False
        try:
            in_thread = self._executor.submit(self.disk.work, work)
        except RuntimeError as error:  # no threads any more
            self._put_into_effect(work, _Done(None, Appended((), OSError(errno.ESHUTDOWN, str(error))), None))
        else:
            self._job = self._loop.create_future()
            in_thread.add_done_callback(partial(self._tell, work))

    def _tell(self, work: _Work, in_thread: "Future[_Done]") -> None:
        """In the thread; what `run_in_executor` does beside this would be a tenth of what a group costs."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._finished, work, in_thread)

    def _finished(self, work: _Work, in_thread: "Future[_Done]") -> None:
        job, self._job = self._job, None
        if job is not None and not job.done():
            job.set_result(None)
        fault = CancelledError() if in_thread.cancelled() else in_thread.exception()
        # Whoever waits must be told, also of what is not foreseen.
        failed = _Done(None, Appended((), OSError(errno.EIO, repr(fault))), None)
        self._put_into_effect(work, failed if fault is not None else in_thread.result())

    def _put_into_effect(self, work: _Work, done: _Done) -> None:
        writing, self._writing = self._writing, ()
        if done.found is not None:
            self._take_over(done.found)
        placed, error = done.appended
        for waiting, place in zip(writing, placed, strict=False):
            self._place(waiting, place)
        if error is not None:
            self._unwritten.extendleft(reversed(writing[len(placed) :]))
            self._on_failing(error)
        elif self.error is not None and writing:
            self.error = None
            self._listener.failing(self, None)
        self._note(work.cursor, done.cursor_error)
        for waiting in writing[: len(placed)]:
            waiting.settle()
        self._go_on()
        self._listener.changed()

    def _note(self, position: Position | None, error: OSError | None) -> None:
        if error is None:
            if position is not None:
                self._noted, self._cursor_failed = position, False
            return
        if not self._cursor_failed:
            log.warning("cursor not written, a restart would send again", spool=self.directory, reason=error.strerror)
        self._cursor_failed, self._cursor_retry_at = True, self._loop.time() + RETRY_SECONDS

    def _go_on(self) -> None:
        """Be due for what came while a job was under way."""
        if self._awaited:
            waited = self._loop.time() - self._first_awaited_at
            self._be_due_in(0.0 if self._awaited >= self._last_group else max(0.0, GATHER_SECONDS - waited))
        elif self._doomed or self._may_note():
            self._be_due_in(GATHER_SECONDS)
        elif self._unwritten:
            rest = self._retry_at - self._loop.time()
            self._be_due_in(UNHURRIED_SECONDS if self.error is None else max(0.0, rest))

    def _place(self, waiting: _Waiting, place: Placed) -> None:
        """A batch is on disk, behind everything else."""
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.number != place.segment:
            segment = _Segment(place.segment, place.start, 0, waiting.at_nanos)
            self._segments.append(segment)
            self._advance()
        batch = waiting.batch
        if segment is self._segments[self._reading] and self._offset == place.start:
            self._next_at_nanos = waiting.at_nanos
        self._hot.append(_Hot(*place, batch, waiting.at_nanos))
        self._hot_bytes += len(batch.payload)
        if self.size_bytes > FAR_BEHIND_BYTES:
            self._forget_hot()
        while self._hot_bytes > HOT_BYTES:
            self._hot_bytes -= len(self._hot.popleft().batch.payload)
        segment.end = place.end
        segment.unread_items += batch.items
        self.memory_bytes -= waiting.size_bytes

    def _on_failing(self, error: OSError) -> None:
        """Hold in memory what was not written, as far as the budget goes; the newest that is over it is refused."""
        self.error = error
        self._retry_at = self._loop.time() + RETRY_SECONDS
        self._awaited = 0
        self._listener.failing(self, error)
        while self._unwritten and self._listener.memory_left_bytes() < 0:
            waiting = self._unwritten.pop()
            self._count(waiting, -1)
            if waiting.done is None:
                self._listener.dropped_unawaited(self, waiting.batch.items)
            waiting.settle(QueueFull("the disk cannot be written and the memory for that case is full"))
        for waiting in self._unwritten:
            waiting.settle()

    # taking out -------------------------------------------------------------------------------------------------------

    @property
    def next_at_nanos(self) -> int | None:
        """When that arrived which is to be taken next; None where there is nothing."""
        if self._returned:
            return self._returned[0].at_nanos
        if self._is_unread():
            return self._next_at_nanos
        if self.error is not None and self._unwritten and not self._writing:
            return self._unwritten[0].at_nanos
        return None

    @property
    def oldest_at_nanos(self) -> int | None:
        """When the oldest arrived that is not acknowledged; None where all is."""
        times = [piece.at_nanos for piece in self._pieces]
        if self._is_unread():
            times.append(self._next_at_nanos)
        times += [waiting[0].at_nanos for waiting in (self._unwritten, self._writing) if waiting]
        return min(times, default=None)

    @property
    def is_behind(self) -> bool:
        """Whether there is something that has yet to be written before it can be taken."""
        return self.error is None and bool(self._unwritten or self._writing)

    def _is_unread(self) -> bool:
        return bool(self._segments) and self._offset < self._segments[self._reading].end

    async def take(self, most_bytes: int) -> Taken | None:
        """The oldest that is not leased, joined up to this size; None where it has gone in the meantime or was not readable."""
        if self._returned:
            return await self._take_returned(self._returned[0], most_bytes)
        if self._hot and self._hot[0][:2] == self._position():
            return self._take_hot(most_bytes)
        if self._is_unread():
            return await self._take_unread(most_bytes)
        if self.error is not None and self._unwritten and not self._writing:
            return self._take_unwritten(most_bytes)
        return None

    async def _take_returned(self, piece: Piece, most_bytes: int) -> Taken | None:
        if piece.batches:
            self._returned.pop(0)
            return Taken(piece, None, piece.batches)
        read = await self._read(piece.segment, piece.start, piece.end, most_bytes)
        if not self._returned or self._returned[0] is not piece or read is None:
            return None
        self._returned.pop(0)
        if isinstance(read, Finding):
            self._listener.lost(self, read, piece.items)
            self.settle(piece)
            return None
        if read.end < piece.end:
            self._split(piece, read)
        return self._taken(piece, read)

    def _split(self, piece: Piece, read: Read) -> None:
        """Leave what was not read this time as a piece of its own."""
        rest = Piece(
            piece.order,
            max(0, piece.items - read.items),
            piece.end - read.end,
            read.next_at_nanos or piece.at_nanos,
            piece.segment,
            read.end,
            piece.end,
        )
        piece.end, piece.items, piece.size_bytes = read.end, piece.items - rest.items, read.end - piece.start
        self._pieces.add(rest)
        self._returned.insert(0, rest)
        self._segment(piece.segment).pieces += 1

    async def _take_unread(self, most_bytes: int) -> Taken | None:
        segment, offset = self._segments[self._reading], self._offset
        read = await self._read(segment.number, offset, segment.end, most_bytes)
        still_there = self._segments[self._reading] is segment and self._offset == offset and not self._returned
        if not still_there or read is None:
            return None
        if isinstance(read, Finding):
            self._listener.lost(self, read, self._skip())
            self._new_segment = True
            return None
        piece = self._claim(read.end, read.items, read.at_nanos, read.next_at_nanos)
        return self._taken(piece, read)

    def _taken(self, piece: Piece, read: Read) -> Taken:
        batch = Batch(self.signal, read.payload, read.items)
        return Taken(piece, batch, [batch] if len(read.sizes) == 1 else _Parts(batch, read.sizes))

    def _take_hot(self, most_bytes: int) -> Taken:
        first = last = self._hot.popleft()
        parts = [first.batch]
        size_bytes = len(first.batch.payload)
        while self._hot and self._hot[0].segment == first.segment:
            if size_bytes + len(self._hot[0].batch.payload) > most_bytes:
                break
            last = self._hot.popleft()
            parts.append(last.batch)
            size_bytes += len(last.batch.payload)
        self._hot_bytes -= size_bytes
        next_at_nanos = self._hot[0].at_nanos if self._hot else last.at_nanos
        items = sum([batch.items for batch in parts])
        return Taken(self._claim(last.end, items, first.at_nanos, next_at_nanos), None, parts)

    def _claim(self, end: int, items: int, at_nanos: int, next_at_nanos: int) -> Piece:
        """Lease what is between the reading position and `end`, and read on from there."""
        segment = self._segments[self._reading]
        piece = Piece(self._order(), items, end - self._offset, at_nanos, segment.number, self._offset, end)
        self._pieces.add(piece)
        segment.pieces += 1
        segment.unread_items -= items
        self._offset, self._next_at_nanos = end, next_at_nanos or at_nanos
        self._advance()
        self._cool()
        return piece

    def _take_unwritten(self, most_bytes: int) -> Taken:
        first = self._unwritten.popleft()
        taken = [first]
        size_bytes = first.size_bytes
        while self._unwritten and size_bytes + self._unwritten[0].size_bytes <= most_bytes:
            size_bytes += self._unwritten[0].size_bytes
            taken.append(self._unwritten.popleft())
        for waiting in taken:
            waiting.settle()
        parts = tuple(waiting.batch for waiting in taken)
        items = sum([batch.items for batch in parts])
        piece = Piece(self._order(), items, size_bytes, first.at_nanos, batches=parts)
        self._pieces.add(piece)
        return Taken(piece, None, parts)

    def _order(self) -> int:
        self._next_order += 1
        return self._next_order

    async def _read(self, number: int, start: int, end: int, most_bytes: int) -> Read | Finding | None:
        """Read in a thread; None where only the moment was wrong."""
        path = os.path.join(self.directory, segment_name(number))
        if self.size_bytes > FAR_BEHIND_BYTES:
            most_bytes = min(most_bytes, READ_BYTES)
        try:
            return await self._in_thread(read_some, path, start, end, most_bytes)
        except OSError as error:
            if error.errno in PASSING:
                log.warning("spool cannot be read just now", spool=self.directory, reason=error.strerror)
                await asyncio.sleep(RETRY_SECONDS)
                return None
            return Finding(number, "unreadable", start, end - start)
        except (Damaged, Foreign):
            return Finding(number, "damaged", start, end - start)

    async def _in_thread(self, call: Callable[..., _T], *arguments: object) -> _T:
        return await self._loop.run_in_executor(self._executor, call, *arguments)

    def _skip(self) -> int:
        """Pass over what is unread in the segment being read; gives its items."""
        segment = self._segments[self._reading]
        items, segment.unread_items = segment.unread_items, 0
        self.size_bytes -= segment.end - self._offset
        self.items -= items
        self._offset = segment.end
        self._advance()
        self._cool()
        self._move_mark()
        return items

    def _position(self) -> tuple[int, int]:
        return self._segments[self._reading].number, self._offset

    def _cool(self) -> None:
        """Let go of what was read in the meantime."""
        position = self._position()
        while self._hot and self._hot[0][:2] < position:
            self._hot_bytes -= len(self._hot.popleft().batch.payload)

    def _forget_hot(self) -> None:
        self._hot.clear()
        self._hot_bytes = 0

    def _advance(self) -> None:
        """Go on to the next segment where this one is read."""
        while self._reading < len(self._segments) - 1 and self._offset >= self._segments[self._reading].end:
            self._reading += 1
            self._offset = START
            self._next_at_nanos = self._segments[self._reading].first_at_nanos
        self._collect()

    def _collect(self) -> None:
        """Have the segments removed that nobody needs any more."""
        gone = [segment for segment in self._segments[: self._reading] if not segment.pieces]
        for segment in gone:
            self._segments.remove(segment)
            self._doomed.append(segment.number)
        self._reading -= len(gone)

    def drop_oldest(self) -> int:
        """Drop the oldest that is not leased, up to the rest of a segment; gives its items. For when there is some."""
        if self._returned:
            piece = self._returned.pop(0)
            self.settle(piece)
            return piece.items
        if self._is_unread():
            return self._skip()
        waiting = self._unwritten.popleft()
        self._count(waiting, -1)
        waiting.settle()
        return waiting.batch.items

    # settling ---------------------------------------------------------------------------------------------------------

    def settle(self, piece: Piece) -> None:
        """It is acknowledged, or dropped."""
        self._pieces.remove(piece)
        self.size_bytes -= piece.size_bytes
        self.items -= piece.items
        if piece.batches:
            self.memory_bytes -= piece.size_bytes
            return
        self._segment(piece.segment).pieces -= 1
        self._collect()
        self._move_mark()

    def give_back(self, piece: Piece) -> None:
        """It is the oldest again."""
        if self._step_back(piece):
            while self._returned and self._step_back(self._returned[-1]):
                self._returned.pop()
        else:
            bisect.insort(self._returned, piece, key=_by_age)
        self._listener.changed()

    def _step_back(self, piece: Piece) -> bool:
        """Read it again as if it had never been taken, where it is what was read last."""
        if piece.batches or not self._segments:
            return False
        segment = self._segments[self._reading]
        if segment.number != piece.segment or self._offset != piece.end:
            return False
        self._pieces.remove(piece)
        segment.pieces -= 1
        segment.unread_items += piece.items
        self._offset, self._next_at_nanos = piece.start, piece.at_nanos
        return True

    def _segment(self, number: int) -> _Segment:
        return next(segment for segment in self._segments if segment.number == number)

    def _move_mark(self) -> None:
        """Have it noted how far everything is acknowledged."""
        on_disk = [piece for piece in self._pieces if not piece.batches]
        if on_disk:
            self._to_note = min(on_disk, key=_by_age).position
        else:
            self._to_note = Position(self._segments[self._reading].number, self._offset)
        if self._to_note != self._noted or self._doomed:
            self._be_due_in(GATHER_SECONDS)


class StreamListener(Protocol):
    """What a stream tells its spool."""

    def changed(self) -> None:
        """There may be something to take that was not there."""

    def failing(self, stream: Stream, error: OSError | None) -> None:
        """The disk cannot be written; None: it is written again."""

    def lost(self, stream: Stream, finding: Finding, items: int) -> None:
        """Something on disk cannot be read; `items` as far as known."""

    def dropped_unawaited(self, stream: Stream, items: int) -> None:
        """There was no room for what nobody waits for."""

    def memory_left_bytes(self) -> int:
        """Of the budget for when the disk cannot be written; negative where it is exceeded."""


def _by_age(piece: Piece) -> tuple[int, int]:
    return piece.order, piece.start

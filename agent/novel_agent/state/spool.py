"""The durable queue of one destination: a `BatchQueue` on disk.

A stream of segment files for each signal, one bound for all of them. docs/explanation/spool.md says what is written when and
what that means after a kill, a power cut or on a full disk.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Literal
from urllib.parse import quote

from novel_agent.errors import StateError
from novel_agent.logs import get_logger
from novel_agent.model.batch import SIGNALS, Batch, Signal
from novel_agent.state.queue import FULL, REQUEST_BYTES, TOO_LARGE, Lease, QueueFull
from novel_agent.state.segment import RECORD_BYTES
from novel_agent.state.segment_scan import Finding
from novel_agent.state.stream import Piece, Stream

Durability = Literal["fsync", "os"]
WhenFull = Literal["drop_oldest", "block"]

MEMORY_BYTES = 8 << 20
"""Most that is held in memory while the disk cannot be written."""

DAMAGED = "damaged"
"""A reason of drops, beside those of every queue."""

_SMALLEST_SEGMENT_BYTES = 64 << 10
_LARGEST_SEGMENT_BYTES = 16 << 20
_SEGMENTS_IN_ALL = 32
_LONGEST_NAME = 180
_NANOS = 1_000_000_000

log = get_logger("spool")


def spool_directory(state_directory: str, destination: str) -> str:
    """Where the spool of a destination is, whatever its name."""
    return os.path.join(state_directory, "spool", directory_name(destination))


def directory_name(destination: str) -> str:
    """A name of a directory for any text, another for each; readable where it can be."""
    encoded = quote(destination, safe="", errors="surrogatepass").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) <= _LONGEST_NAME:
        return encoded
    import hashlib  # a megabyte that hardly a destination's name is worth

    digest = hashlib.sha256(destination.encode(errors="surrogatepass")).hexdigest()[:32]
    return f"{encoded[:_LONGEST_NAME]}~{digest}"


class Spool:
    """What waits for one destination, on disk. `open` before anything else, `close` at the end.

    `executor` runs what may block on the disk; several threads let the signals' fsyncs share one commit of the file system.
    `now` is the wall clock. With `durability` `os` a batch counts as safe once the kernel has it.

    While the disk cannot be written batches are held in memory, up to `memory_bytes`, and a put that waits returns
    although its batch would not survive the process: refusing it would lose as much. Beyond that QueueFull.
    """

    def __init__(
        self,
        directory: str,
        capacity_bytes: int,
        *,
        executor: Executor,
        now: Callable[[], float],
        durability: Durability = "fsync",
        when_full: WhenFull = "drop_oldest",
        request_bytes: int = REQUEST_BYTES,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.when_full: WhenFull = when_full
        self.dropped: Counter[tuple[Signal, str]] = Counter()
        self.damaged_records = 0
        """Records that could not be read, as far as known: each ends what can be read of its segment."""
        self.damaged_bytes = 0
        self._memory_bytes = memory_bytes
        self._executor = executor
        self._now = now
        self._streams: dict[Signal, Stream] = {
            signal: Stream(os.path.join(self.directory, signal), signal, executor, 0, self) for signal in SIGNALS
        }
        self._all = tuple(self._streams.values())
        self.resize(capacity_bytes, request_bytes)
        self.durability = durability
        self._failing: set[Signal] = set()
        self._failing_since = 0.0
        self._leases: dict[int, tuple[Stream, Piece]] = {}
        self._next_number = 0
        self._last_at_nanos = 0
        self._filled = asyncio.Event()
        self._ended = False

    async def open(self) -> None:
        """Find what is there. A spool that cannot be used is said once, and memory stands in for it until it can."""
        await asyncio.gather(*(stream.open() for stream in self._streams.values()))

    async def close(self) -> None:
        """Write and note what is left and let go of the files; after `abandon`, and safe more than once."""
        self._ended = True
        self._filled.clear()
        for signal, stream in self._streams.items():
            if lost := await stream.close():
                self.dropped[signal, "shutdown"] += lost
                log.error("stopped while the disk could not be written, data lost", spool=self.directory, items=lost)
        self._leases.clear()

    async def delete(self) -> None:
        """Remove it with all that is in it; other people's files stay. StateError where that cannot be."""
        self._ended = True
        self._filled.clear()
        self._leases.clear()
        try:
            for stream in self._streams.values():
                await stream.delete()
            await asyncio.get_running_loop().run_in_executor(self._executor, _remove_if_empty, self.directory)
        except OSError as error:
            raise StateError(f"{self.directory}: cannot be removed ({error.strerror}); remove it by hand") from None

    def resize(self, capacity_bytes: int, request_bytes: int = REQUEST_BYTES) -> None:
        """Hold this much from now on; what is over it goes when the next batch needs room."""
        self.capacity_bytes = capacity_bytes
        self._request_bytes = min(request_bytes, capacity_bytes // 2)
        segment_bytes = min(max(capacity_bytes // _SEGMENTS_IN_ALL, _SMALLEST_SEGMENT_BYTES), _LARGEST_SEGMENT_BYTES)
        for stream in self._streams.values():
            stream.disk.writer.segment_bytes = segment_bytes

    @property
    def durability(self) -> Durability:
        """When a batch counts as safe."""
        return "fsync" if self._streams["traces"].sync else "os"

    @durability.setter
    def durability(self, durability: Durability) -> None:
        for stream in self._streams.values():
            stream.sync = durability == "fsync"

    # what can be asked ------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Bytes of all records not acknowledged, with what they take beside their payload, leased ones included."""
        one, two, three = self._all
        return one.size_bytes + two.size_bytes + three.size_bytes

    @property
    def items(self) -> int:
        return sum(stream.items for stream in self._streams.values())

    @property
    def in_memory(self) -> bool:
        """Whether the disk cannot be written and memory stands in for it: something waits there."""
        return any(self._streams[signal].memory_bytes for signal in self._failing)

    @property
    def memory_bytes(self) -> int:
        """Bytes that are not on disk: for a moment, or while it cannot be written."""
        return sum(stream.memory_bytes for stream in self._streams.values())

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest has waited that is not acknowledged; 0 where nothing waits."""
        times = [at for stream in self._streams.values() if (at := stream.oldest_at_nanos) is not None]
        return max(0.0, self._now() - min(times) / _NANOS) if times else 0.0

    @property
    def fsyncs(self) -> int:
        """Times that segments were synced."""
        return sum(stream.disk.writer.syncs for stream in self._streams.values())

    @property
    def written_bytes(self) -> int:
        """Bytes written into segments."""
        return sum(stream.disk.writer.written_bytes for stream in self._streams.values())

    # putting in -------------------------------------------------------------------------------------------------------

    async def put(self, batch: Batch, *, wait: bool = True) -> None:
        """Add a batch. With `wait`, returns when it is as safe as `durability` says; without, at once, and it is soon.

        Cancelling it leaves the batch where it is. QueueFull, with nothing changed, only for who waits.
        """
        if not batch.payload:
            return
        size_bytes = RECORD_BYTES + len(batch.payload)
        if size_bytes > self.capacity_bytes:
            self.dropped[batch.signal, TOO_LARGE] += batch.items
            return
        stream = self._streams[batch.signal]
        why_not = self._make_room(stream, size_bytes)
        if why_not and wait:
            raise QueueFull(why_not)
        if why_not or (not wait and self.memory_bytes + size_bytes > self._memory_bytes):  # a disk that stands still
            self.dropped[batch.signal, FULL] += batch.items
            return
        # A clock that was set back must not make what comes now older than what waits.
        self._last_at_nanos = max(self._last_at_nanos, int(self._now() * _NANOS))
        done = stream.add(batch, self._last_at_nanos, wait=wait)
        if done is not None:
            await done

    def has_room(self, size_bytes: int) -> bool:
        if self._ended:
            return False
        self._try_again()
        size_bytes += RECORD_BYTES
        fits = self.when_full == "drop_oldest" or self.size_bytes + size_bytes <= self.capacity_bytes
        return fits and (not self._failing or self.memory_left_bytes() >= size_bytes)

    def _make_room(self, stream: Stream, size_bytes: int) -> str:
        """Why there is none; empty where there is."""
        if self._ended:
            return "the spool is closed"
        self._try_again()
        if stream.error is not None and self.memory_left_bytes() < size_bytes:
            return "the disk cannot be written and the memory for that case is full"
        while self.size_bytes + size_bytes > self.capacity_bytes:
            oldest = self._turn()
            if self.when_full == "block" or oldest is None:
                return "the spool is full"
            self.dropped[oldest.signal, FULL] += oldest.drop_oldest()
            self.changed()
        return ""

    def _try_again(self) -> None:
        for signal in self._failing:
            self._streams[signal].try_again()

    # taking out -------------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        await self._filled.wait()

    async def take(self, avoid: Signal | None = None) -> Lease | None:
        """The oldest batches of the signal whose next is the oldest, joined up to the size of a request.

        `avoid` is a signal that is taken only where no other has anything.

        None where all is leased; what has yet to be written is written before that is said. Cancelling it takes nothing.
        """
        while not self._ended:
            stream = self._turn(avoid)
            if stream is None:
                behind = [each for each in self._streams.values() if each.is_behind]
                if not behind:
                    return None
                await asyncio.gather(*(each.write_now() for each in behind))
                continue
            taken = await stream.take(self._request_bytes)
            self.changed()
            if taken is not None:
                self._next_number += 1
                self._leases[self._next_number] = (stream, taken.piece)
                return Lease(self._next_number, taken.batch, taken.parts)
        return None

    def _turn(self, avoid: Signal | None = None) -> Stream | None:
        """The stream whose next batch is the oldest of all."""
        waiting = [
            (stream.signal == avoid, at, number, stream)
            for number, stream in enumerate(self._streams.values())
            if (at := stream.next_at_nanos) is not None
        ]
        return min(waiting)[3] if waiting else None

    def acknowledge(self, lease: Lease) -> bool:
        """The destination has answered for it: it is gone. Noted on disk within 5 ms."""
        stream, piece = self._leases.pop(lease.number, (None, None))
        if stream is None or piece is None:
            return False
        stream.settle(piece)
        return True

    def give_back(self, lease: Lease) -> None:
        stream, piece = self._leases.pop(lease.number, (None, None))
        if stream is not None and piece is not None:
            stream.give_back(piece)

    def abandon(self, reason: str) -> int:
        """The end: take nothing more. What is left outlives the process, so nothing is dropped."""
        self._ended = True
        self._filled.clear()
        return 0

    # what the streams tell --------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """There may be something to take, or nothing any more."""
        if self._turn() is not None and not self._ended:
            self._filled.set()
        else:
            self._filled.clear()

    def failing(self, stream: Stream, error: OSError | None) -> None:
        """The disk cannot be written; None: it is written again. Said once for the three."""
        before = bool(self._failing)
        if error is not None:
            self._failing.add(stream.signal)
            if not before:
                self._failing_since = self._now()
                log.error(
                    "spool cannot be written, held in memory until it can", spool=self.directory, reason=error.strerror
                )
        else:
            self._failing.discard(stream.signal)
            if before and not self._failing:
                log.info(
                    "spool is written again", spool=self.directory, after_seconds=self._now() - self._failing_since
                )

    def lost(self, stream: Stream, finding: Finding, items: int) -> None:
        """Something on disk cannot be read."""
        self.damaged_records += 1
        self.damaged_bytes += finding.lost_bytes
        if items:
            self.dropped[stream.signal, DAMAGED] += items
        say = log.warning if finding.fault == "cut off" else log.error  # nobody was told that a torn record is safe
        say(
            "spool not readable in part",
            spool=stream.directory,
            segment=finding.segment,
            fault=finding.fault,
            size_bytes=finding.lost_bytes,
            items=items,
        )

    def dropped_unawaited(self, stream: Stream, items: int) -> None:
        """There was no room in memory for what nobody waits for."""
        self.dropped[stream.signal, FULL] += items

    def memory_left_bytes(self) -> int:
        """Of the budget for when the disk cannot be written."""
        return self._memory_bytes - sum(self._streams[signal].memory_bytes for signal in self._failing)


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        return

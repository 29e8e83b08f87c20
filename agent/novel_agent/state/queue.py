"""What waits for one destination.

`BatchQueue` is the contract between an exporter and its queue: `MemoryQueue` keeps it in memory, a durable spool keeps it
on disk. What is taken is leased, not removed: until it is acknowledged it belongs to the queue, so a send that
fails or is cancelled loses nothing.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from novel_agent.errors import AgentError
from novel_agent.model.batch import SIGNALS, Batch, Signal

REQUEST_BYTES = 1 << 20
MOST_BATCHES = 10_000

FULL, TOO_LARGE = "queue_full", "too_large"
"""Reasons of drops, fit for a label."""


class QueueFull(AgentError):  # noqa: N818 - named by what it means for the batch
    """There is no room and nothing may be dropped for it: the batch was not taken, whoever has it keeps it."""


class _Entry(NamedTuple):
    number: int
    batch: Batch


class Lease:
    """Batches of one signal on their way: as they were put in, `parts`, and as one."""

    __slots__ = ("_batch", "number", "parts")

    def __init__(self, number: int, batch: Batch | None, parts: Sequence[Batch]) -> None:
        """`batch` None: joined only for who asks."""
        self.number = number
        self.parts = parts
        self._batch = batch

    @property
    def batch(self) -> Batch:
        """All in one."""
        if self._batch is None:
            self._batch = joined(self.parts)
        return self._batch

    @property
    def pieces(self) -> Sequence[Batch]:
        """All in as many as there are without joining or taking apart."""
        return self.parts if self._batch is None else (self._batch,)


class BatchQueue(Protocol):
    """Batches for one destination, oldest first within a signal.

    `put` and `take` may wait for a disk; the others note what happened at once and make it durable in their own time.
    Several leases may be out at a time.
    """

    dropped: Counter[tuple[Signal, str]]
    """Items dropped since start, by signal and reason."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches, leased ones included."""

    @property
    def items(self) -> int:
        """Items of all batches, leased ones included."""

    async def put(self, batch: Batch, *, wait: bool = True) -> None:
        """Add a batch; with `wait`, returns when it is as safe as this queue makes it.

        Where there is no room the oldest is dropped and counted, or, where the queue was told to block, the new is refused:
        QueueFull for who waits, a counted drop for who does not.
        """

    def has_room(self, size_bytes: int) -> bool:
        """Whether a batch of this size would be taken now."""

    async def ready(self) -> None:
        """Wait until there is something to take."""

    async def take(self, avoid: Signal | None = None) -> Lease | None:
        """The oldest batches of the signal whose turn it is, up to the size of a request; None where all is leased.

        `avoid` is a signal that is taken only where no other has anything.
        """

    def acknowledge(self, lease: Lease) -> bool:
        """The destination has answered for it, well or badly: remove it. False where `abandon` came before."""

    def give_back(self, lease: Lease) -> None:
        """It was not delivered: it is the oldest again."""

    def abandon(self, reason: str) -> int:
        """The end: take nothing more, and let go whoever waits in `ready`.

        What is left is dropped and counted, unless it outlives the process. Items dropped.
        """


class MemoryQueue:
    """A `BatchQueue` in memory, bounded by bytes and by batches; when full, the oldest that is not leased is dropped.

    Not for more than one thread. Nothing here waits but `ready`.
    """

    def __init__(
        self, capacity_bytes: int, request_bytes: int = REQUEST_BYTES, most_batches: int = MOST_BATCHES
    ) -> None:
        self.resize(capacity_bytes, request_bytes)
        self.dropped: Counter[tuple[Signal, str]] = Counter()
        self._most_batches = most_batches
        self._waiting: dict[Signal, deque[_Entry]] = {signal: deque() for signal in SIGNALS}
        self._leases: dict[int, tuple[_Entry, ...]] = {}
        self._next_number = 0
        self._bytes = 0
        self._items = 0
        self._batches = 0
        self._filled = asyncio.Event()
        self._abandoned = ""

    def resize(self, capacity_bytes: int, request_bytes: int = REQUEST_BYTES) -> None:
        """Hold this much from now on; what is over it goes when the next batch needs room."""
        self.capacity_bytes = capacity_bytes
        # Half at the most may be leased at a time, so that a slow send leaves room for what is new.
        self._request_bytes = min(request_bytes, capacity_bytes // 2)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def items(self) -> int:
        return self._items

    async def put(self, batch: Batch, *, wait: bool = True) -> None:
        if not batch.payload:
            return
        if self._abandoned:
            self.dropped[batch.signal, self._abandoned] += batch.items
        elif len(batch.payload) > self.capacity_bytes:
            self.dropped[batch.signal, TOO_LARGE] += batch.items
        elif self._make_room(len(batch.payload)):
            self._waiting[batch.signal].append(_Entry(self._number(), batch))
            self._bytes += len(batch.payload)
            self._items += batch.items
            self._batches += 1
            self._filled.set()
        else:
            self.dropped[batch.signal, FULL] += batch.items

    def has_room(self, size_bytes: int) -> bool:
        return size_bytes <= self.capacity_bytes

    def _make_room(self, size_bytes: int) -> bool:
        while self._bytes + size_bytes > self.capacity_bytes or self._batches >= self._most_batches:
            oldest = self._oldest()
            if oldest is None:
                return False
            self._remove([self._waiting[oldest].popleft()], FULL)
        return True

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    def _oldest(self, avoid: Signal | None = None) -> Signal | None:
        """The signal whose first waiting batch is the oldest of all."""
        waiting = [(signal == avoid, entries[0].number, signal) for signal, entries in self._waiting.items() if entries]
        return min(waiting)[2] if waiting else None

    async def ready(self) -> None:
        await self._filled.wait()

    async def take(self, avoid: Signal | None = None) -> Lease | None:
        signal = self._oldest(avoid)
        if signal is None:
            return None
        waiting = self._waiting[signal]
        entries = [waiting.popleft()]
        size_bytes = len(entries[0].batch.payload)
        while waiting and size_bytes + len(waiting[0].batch.payload) <= self._request_bytes:
            size_bytes += len(waiting[0].batch.payload)
            entries.append(waiting.popleft())
        if self._oldest() is None:
            self._filled.clear()
        parts = [entry.batch for entry in entries]
        lease = Lease(self._number(), None, parts)
        self._leases[lease.number] = tuple(entries)
        return lease

    def acknowledge(self, lease: Lease) -> bool:
        entries = self._leases.pop(lease.number, None)
        if entries is None:
            return False
        self._remove(entries)
        return True

    def give_back(self, lease: Lease) -> None:
        entries = self._leases.pop(lease.number, None)
        if entries is None:
            return
        signal = entries[0].batch.signal
        waiting = self._waiting[signal]
        waiting.extendleft(reversed(entries))
        if len(waiting) > len(entries) and waiting[len(entries)].number < entries[-1].number:
            self._waiting[signal] = deque(sorted(waiting))
        self._filled.set()

    def abandon(self, reason: str) -> int:
        self._abandoned = reason
        before = self._items
        for entries in self._leases.values():
            self._remove(entries, reason)
        for waiting in self._waiting.values():
            self._remove(waiting, reason)
            waiting.clear()
        self._leases.clear()
        self._filled.set()
        return before

    def _remove(self, entries: "deque[_Entry] | list[_Entry] | tuple[_Entry, ...]", reason: str = "") -> None:
        for _, batch in entries:
            self._bytes -= len(batch.payload)
            self._items -= batch.items
            self._batches -= 1
            if reason:
                self.dropped[batch.signal, reason] += batch.items


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one signal, at least one, as one."""
    if len(batches) == 1:
        return batches[0]
    payload = b"".join([batch.payload for batch in batches])
    return Batch(batches[0].signal, payload, sum(batch.items for batch in batches))

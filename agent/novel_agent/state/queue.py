"""What waits for one destination.

`BatchQueue` is the contract between an exporter and its queue: `MemoryQueue` keeps it in memory, a durable spool keeps it
on disk. What is taken is leased, not removed: until it is acknowledged it belongs to the queue, so a send that
fails or is cancelled loses nothing.
"""

import asyncio
from collections import Counter, deque
from typing import NamedTuple, Protocol

from novel_agent.model.batch import SIGNALS, Batch, Signal

REQUEST_BYTES = 1 << 20
MOST_BATCHES = 10_000

FULL, TOO_LARGE = "queue_full", "too_large"
"""Reasons of drops, fit for a label."""


class _Entry(NamedTuple):
    number: int
    batch: Batch


class Lease(NamedTuple):
    """Batches of one signal on their way, joined into one."""

    number: int
    batch: Batch
    entries: tuple[_Entry, ...]


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

    async def put(self, batch: Batch) -> None:
        """Add a batch; returns when it is as safe as this queue makes it.

        Where there is no room, the queue drops and counts, or waits, as it was told.
        """

    async def ready(self) -> None:
        """Wait until there is something to take."""

    async def take(self) -> Lease | None:
        """The oldest batches of the signal whose turn it is, joined up to the size of a request; None where all is leased."""

    def acknowledge(self, lease: Lease) -> bool:
        """The destination has answered for it, well or badly: remove it. False where `abandon` came before."""

    def give_back(self, lease: Lease) -> None:
        """It was not delivered: it is the oldest again."""

    def abandon(self, reason: str) -> int:
        """The end: take nothing more. What is left is dropped and counted, unless it outlives the process. Items dropped."""


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
        self._leases: dict[int, Lease] = {}
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

    async def put(self, batch: Batch) -> None:
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

    def _oldest(self) -> Signal | None:
        """The signal whose first waiting batch is the oldest of all."""
        waiting = [(entries[0].number, signal) for signal, entries in self._waiting.items() if entries]
        return min(waiting)[1] if waiting else None

    async def ready(self) -> None:
        await self._filled.wait()

    async def take(self) -> Lease | None:
        signal = self._oldest()
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
        lease = Lease(self._number(), _joined([entry.batch for entry in entries]), tuple(entries))
        self._leases[lease.number] = lease
        return lease

    def acknowledge(self, lease: Lease) -> bool:
        if self._leases.pop(lease.number, None) is None:
            return False
        self._remove(lease.entries)
        return True

    def give_back(self, lease: Lease) -> None:
        if self._leases.pop(lease.number, None) is None:
            return
        waiting = self._waiting[lease.batch.signal]
        waiting.extendleft(reversed(lease.entries))
        if len(waiting) > len(lease.entries) and waiting[len(lease.entries)].number < lease.entries[-1].number:
            self._waiting[lease.batch.signal] = deque(sorted(waiting))
        self._filled.set()

    def abandon(self, reason: str) -> int:
        self._abandoned = reason
        before = self._items
        for lease in self._leases.values():
            self._remove(lease.entries, reason)
        for waiting in self._waiting.values():
            self._remove(waiting, reason)
            waiting.clear()
        self._leases.clear()
        self._filled.clear()
        return before

    def _remove(self, entries: "deque[_Entry] | list[_Entry] | tuple[_Entry, ...]", reason: str = "") -> None:
        for _, batch in entries:
            self._bytes -= len(batch.payload)
            self._items -= batch.items
            self._batches -= 1
            if reason:
                self.dropped[batch.signal, reason] += batch.items


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    payload = b"".join([batch.payload for batch in batches])
    return Batch(batches[0].signal, payload, sum(batch.items for batch in batches))

"""A tap on what flows to the destinations, for people who look on.

It holds nobody up: what passes is offered by reference and, while nobody listens, costs one test. A listener keeps the batches
that may hold what it wants, up to `CAPACITY_BYTES`; beyond them the oldest are lost and counted. Decoding is the listener's, a
few items at a time between other work, and takes no more of a core than `CPU_SHARE` for all listeners together.

For the event loop only: nothing here may be called from another thread.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from novel_agent.errors import AgentError
from novel_agent.model.batch import Batch, Signal
from novel_agent.runtime.tapped import Tapped, Wanted, look

MOST_LISTENERS = 4
CAPACITY_BYTES = 4 << 20
CPU_SHARE = 0.05
_BURST_SECONDS = 0.25
_AT_A_TIME = 64
_LONGEST_REST_SECONDS = 1.0


class TooManyListeners(AgentError):  # noqa: N818 - what is so
    """As many listen as may."""


class Allowance:
    """How much of one core may be spent: `CPU_SHARE` of it, and `_BURST_SECONDS` of CPU time at once after a rest."""

    def __init__(self, cpu: Callable[[], float] = time.thread_time, now: Callable[[], float] = time.monotonic) -> None:
        self._cpu = cpu
        self._now = now
        self._paid_until = now() - _BURST_SECONDS / CPU_SHARE

    def begin(self) -> float:
        """Where the clock of the CPU stands, for `spend`."""
        return self._cpu()

    def spend(self, begun: float) -> None:
        """Count the work since `begin`."""
        earliest = self._now() - _BURST_SECONDS / CPU_SHARE
        self._paid_until = max(self._paid_until, earliest) + (self._cpu() - begun) / CPU_SHARE

    @property
    def rest_seconds(self) -> float:
        """How long to do nothing now; 0 while there is some left."""
        return min(_LONGEST_REST_SECONDS, max(0.0, self._paid_until - self._now()))


class Tap:
    """Where batches are offered and listeners come and go."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance
        self._listeners: tuple[Listener, ...] = ()

    def offer(self, batch: Batch, source: str) -> None:
        """Let those who listen see a batch of OTLP that has been taken. `source` is the input it came through.

        That is `otlp` for what was received, `host` for what the agent samples, `traces` for metrics made of spans, else the
        name of an entry of `logs`.
        """
        if self._listeners:
            for listener in self._listeners:
                listener.offer(batch, source)

    def wants(self, signal: Signal) -> bool:
        """Whether anybody listens for a signal: then it is worth making though no destination takes it."""
        return any(listener.wanted.takes(signal) for listener in self._listeners)

    def listen(self, wanted: Wanted) -> "Listener":
        """One who looks on, until closed; TooManyListeners beyond `MOST_LISTENERS`."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise TooManyListeners(f"{MOST_LISTENERS} look on already, which is the most there may be; end one of them")
        if self._allowance is None:
            self._allowance = Allowance()
        listener = Listener(wanted, self._allowance, self._leave)
        self._listeners = (*self._listeners, listener)
        return listener

    def _leave(self, listener: "Listener") -> None:
        self._listeners = tuple(each for each in self._listeners if each is not listener)


class _Kept(NamedTuple):
    """A batch that waits to be looked at."""

    batch: Batch
    source: str


class _Opened:
    """The batch that is being looked at; when it `is_over`, so many of its items turned out to be `unreadable`."""

    def __init__(self, kept: _Kept, wanted: Wanted) -> None:
        self._items = look(kept.batch, kept.source, wanted)
        self._left = kept.batch.items
        self.is_over = False
        self.unreadable = 0

    def some(self) -> list[Tapped]:
        """Those that are wanted among the next few."""
        found: list[Tapped] = []
        looked = 0
        try:
            for item in islice(self._items, _AT_A_TIME):
                looked += 1
                if item is not None:
                    found.append(item)
            self.is_over = looked < _AT_A_TIME
        except ValueError:  # WireError, or numbers that do not fit each other
            self.is_over = True
            self.unreadable = max(1, self._left - looked)
        self._left -= looked
        return found


class Listener:
    """One who looks on. To be closed; usable as a context."""

    def __init__(self, wanted: Wanted, allowance: Allowance, leave: Callable[["Listener"], None]) -> None:
        self.wanted = wanted
        self._allowance = allowance
        self._leave = leave
        self._waiting: deque[_Kept] = deque()
        self._waiting_bytes = 0
        self._opened: _Opened | None = None
        self._stirred = asyncio.Event()
        self._skipped = 0
        self.is_closed = False

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Look no more; whoever waits in `next` is told."""
        self.is_closed = True
        self._leave(self)
        self._waiting.clear()
        self._opened = None
        self._stirred.set()

    def offer(self, batch: Batch, source: str) -> None:
        """Keep a batch if it may hold what is wanted; the oldest make room for it."""
        if not self.wanted.may_hold(batch, source):
            return
        size_bytes = len(batch.payload)
        if size_bytes > CAPACITY_BYTES:
            self._skipped += batch.items
            return
        while self._waiting_bytes + size_bytes > CAPACITY_BYTES:
            self._skipped += self._take().batch.items
        self._waiting.append(_Kept(batch, source))
        self._waiting_bytes += size_bytes
        self._stirred.set()

    def _take(self) -> _Kept:
        kept = self._waiting.popleft()
        self._waiting_bytes -= len(kept.batch.payload)
        return kept

    def take_skipped(self) -> int:
        """How many items have been lost unseen since this was last asked: too many came, or they cannot be read."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    async def next(self, seconds: float) -> list[Tapped]:
        """The next few items that are wanted; none where none came within so many seconds, or when this is closed."""
        try:
            async with asyncio.timeout(seconds):
                while not self.is_closed:
                    found = self._look_on()
                    if found:
                        return found
                    await self._wait()
        except TimeoutError:
            pass
        return []

    def _look_on(self) -> list[Tapped]:
        if self._allowance.rest_seconds:
            return []
        if self._opened is None:
            if not self._waiting:
                return []
            self._opened = _Opened(self._take(), self.wanted)
        begun = self._allowance.begin()
        found = self._opened.some()
        self._allowance.spend(begun)
        if self._opened.is_over:
            self._skipped += self._opened.unreadable
            self._opened = None
        return found

    async def _wait(self) -> None:
        if self._opened is not None or self._waiting:
            await asyncio.sleep(self._allowance.rest_seconds)
            return
        self._stirred.clear()
        await self._stirred.wait()

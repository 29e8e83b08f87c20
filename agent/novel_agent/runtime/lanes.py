"""Threads that can be left behind.

Some calls into the kernel never return: statvfs on a dead mount, a read from a driver that hangs. Nothing can cancel them,
so they run in daemon threads that the caller abandons when a deadline passes:

- A *lane* is one daemon thread that works through *rounds*, one after the other.
- A round is a list of calls. The thread notes when each begins; whoever waits looks at that, so the deadline is each
  call's own, not the round's.
- A call that misses its deadline costs its lane: the round is marked abandoned, the rest of the calls moves to a fresh
  lane, and the old thread ends by itself if the call ever returns. `late` is told then, so the subject may be used again.
- Each miss within one piece of work halves the deadline of the calls after it, down to a floor: where one hangs, more hang,
  and whoever waits for the whole should not wait for the sum. A call that is well takes far less than the floor.
- Nobody calls into a subject whose last call is still out, so there are never more lanes left behind than subjects.
- Exit does not wait: the threads are daemons.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from errno import EAGAIN
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from novel_agent.logs import get_logger

Item = TypeVar("Item")
Result = TypeVar("Result")

log = get_logger("lanes")

MOST_LEFT_BEHIND = 64
_SHORTEST_SECONDS = 0.25
_SHORTEST_ISOLATED_SECONDS = 0.02


class Round(Generic[Item, Result]):
    """Calls to make in order, and what came of them so far.

    `finished` runs in the lane's thread after the last call; `late` runs there with the item whose call was abandoned and
    has returned after all. `call` may raise OSError, which becomes the outcome, and nothing else.
    """

    def __init__(
        self,
        call: Callable[[Item], Result],
        items: Sequence[Item],
        finished: Callable[[], object],
        late: Callable[[Item], object] = lambda item: None,
    ) -> None:
        self._call = call
        self._items = items
        self._finished = finished
        self._late = late
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.outcomes: list[Result | OSError] = []
        self.abandoned = False
        self.complete = False

    def run(self) -> None:
        """Make the calls; returns early when the round was abandoned meanwhile."""
        call, lock, outcomes = self._call, self._lock, self.outcomes
        self._began = time.monotonic()
        for item in self._items:
            outcome: Result | OSError
            try:
                outcome = call(item)
            except OSError as error:
                outcome = error
            with lock:
                if not self.abandoned:
                    outcomes.append(outcome)
                    self._began = time.monotonic()
                    continue
            self._late(item)
            return
        if self._end():
            self._finished()

    def _end(self) -> bool:
        with self._lock:
            self.complete = not self.abandoned
            return self.complete

    def seconds_left(self, deadline_seconds: float) -> float:
        """Until the call that runs now misses its deadline; negative when it has."""
        return self._began + deadline_seconds - time.monotonic()

    def abandon(self, deadline_seconds: float) -> bool:
        """Give up on the call that runs now; False if it came back or another began in the meantime."""
        with self._lock:
            if self.complete or self.seconds_left(deadline_seconds) > 0:
                return False
            self.abandoned = True
            return True


class Lane:
    """One daemon thread, started at the first round."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rounds: SimpleQueue[Round[object, object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: "Round[Item, Result]") -> None:
        """Queue a round."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._rounds.put(work)  # type: ignore[arg-type]

    def _work(self) -> None:
        while (work := self._rounds.get()) is not None:
            work.run()
            if work.abandoned:
                return

    def close(self) -> None:
        """Let the thread end after what is queued; does not wait for it."""
        self._rounds.put(None)


class LeftBehind:
    """Counts threads that wait in calls nobody waits for any more; one for the whole process."""

    def __init__(self, most: int = MOST_LEFT_BEHIND) -> None:
        self._lock = threading.Lock()
        self._most = most
        self.now = 0
        self.total = 0

    def add(self, what: str) -> None:
        """One more thread was left behind in `what`."""
        with self._lock:
            self.now += 1
            self.total += 1
        log.warning("call missed its deadline, left behind", call=what, left_behind=self.now)

    def remove(self) -> None:
        """One came back."""
        with self._lock:
            self.now -= 1

    @property
    def full(self) -> bool:
        """Whether no further thread may be risked for one of many alike (mounts)."""
        return self.now >= self._most

    @property
    def exhausted(self) -> bool:
        """Whether none may be risked at all.

        What runs once a subject goes on after `full`, so that dead mounts cannot silence the collectors.
        """
        return self.now >= 3 * self._most


class Isolation:
    """An `inputs.host.kernel.Isolate`: the caller, itself in a thread, waits for each call no longer than its deadline.

    The caller has a deadline of its own, `within_seconds`. However many calls hang, the sum of the waits stays below it.
    """

    def __init__(self, name: str, left_behind: LeftBehind, within_seconds: float = 5.0) -> None:
        self._name = name
        self._left_behind = left_behind
        self.keep_within(within_seconds)
        self._lane = Lane(name)

    def __call__(
        self, call: Callable[[Item], Result], items: Sequence[Item], deadline_seconds: float
    ) -> list[Result | OSError | None]:
        """One outcome an item; None where the deadline passed, or too many threads hang already."""
        outcomes: list[Result | OSError | None] = []
        deadline_seconds = min(deadline_seconds, self._longest_seconds)
        while len(outcomes) < len(items):
            if self._left_behind.full:
                outcomes.extend([None] * (len(items) - len(outcomes)))
                break
            finished = threading.Event()
            work = Round(call, items[len(outcomes) :], finished.set, lambda _: self._left_behind.remove())
            self._lane.submit(work)
            while not finished.wait(max(0.0, work.seconds_left(deadline_seconds))):
                if work.abandon(deadline_seconds):
                    self._lane = Lane(self._name)
                    break
            outcomes.extend(work.outcomes)
            if work.abandoned:
                self._left_behind.add(f"{self._name} {items[len(outcomes)]}")
                outcomes.append(None)
                deadline_seconds = max(deadline_seconds / 2, min(deadline_seconds, _SHORTEST_ISOLATED_SECONDS))
        return outcomes

    def keep_within(self, within_seconds: float) -> None:
        """The caller's own deadline is this from now on."""
        self._longest_seconds = 0.3 * within_seconds

    def close(self) -> None:
        """Let the thread end."""
        self._lane.close()


class AsyncLane:
    """The same for a caller in the event loop."""

    def __init__(self, name: str, left_behind: LeftBehind) -> None:
        self._name = name
        self._left_behind = left_behind
        self._lane = Lane(name)

    async def run(
        self,
        call: Callable[[Item], Result],
        items: Sequence[Item],
        deadline_seconds: float,
        late: Callable[[Item], object] = lambda item: None,
    ) -> list[Result | OSError | None]:
        """One outcome an item; None where the deadline passed. `late` runs in the loop when such a call returns after all.

        Where no thread may be risked any more, the rest is a BlockingIOError each: nothing was called.
        """
        loop = asyncio.get_running_loop()
        outcomes: list[Result | OSError | None] = []

        def in_loop(callback: Callable[..., object], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by the time a call returns
                loop.call_soon_threadsafe(callback, *arguments)

        def came_back(item: Item) -> None:
            self._left_behind.remove()
            in_loop(late, item)

        while len(outcomes) < len(items):
            if self._left_behind.exhausted:
                refused = BlockingIOError(EAGAIN, "not tried: too many calls hang already")
                outcomes.extend([refused] * (len(items) - len(outcomes)))
                break
            finished = asyncio.Event()
            work = Round(call, items[len(outcomes) :], partial(in_loop, finished.set), came_back)
            self._lane.submit(work)
            await self._wait(work, finished, deadline_seconds)
            outcomes.extend(work.outcomes)
            if work.abandoned:
                self._lane = Lane(self._name)
                self._left_behind.add(f"{self._name} {items[len(outcomes)]}")
                outcomes.append(None)
                deadline_seconds = max(deadline_seconds / 2, min(deadline_seconds, _SHORTEST_SECONDS))
        return outcomes

    @staticmethod
    async def _wait(work: Round[Item, Result], finished: asyncio.Event, deadline_seconds: float) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, work.seconds_left(deadline_seconds))):
                    await finished.wait()
                    return
            except TimeoutError:
                if work.abandon(deadline_seconds):
                    return

    def close(self) -> None:
        """Let the thread end after the round it is in."""
        self._lane.close()

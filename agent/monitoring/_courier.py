"""Takes things to a server from a thread of its own, and keeps them, within a bound, while it is not there.

While deliveries fail the oldest things make room for new ones and are counted; what is kept is delivered when the server is
back. The thread sleeps while there is nothing to do. A child of fork starts with nothing of its parent's.
"""

import atexit
import enum
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from monitoring import _context

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_EXIT_SECONDS = 1.5
_BATCH_BYTES = 1 << 20

T = TypeVar("T")


class Outcome(enum.Enum):
    """What became of a delivery."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """Never again in this form."""
    LATER = "later"


class Answer(NamedTuple):
    """With the server's wish, in seconds, when it has one, and what to tell people; nothing of what is as it should be."""

    outcome: Outcome
    retry_after_seconds: float = 0.0
    reason: str = ""


class Bounds(NamedTuple):
    """Of what is kept, of one delivery, and how long is waited for more."""

    most_items: int
    most_bytes: int
    batch_items: int
    linger_seconds: float


class Courier(Generic[T]):
    """Delivers by `send`, which blocks with a deadline of its own and may raise OSError for a server that is not there.

    `tell` is told when deliveries begin to fail and when they work again, not of each.
    """

    def __init__(
        self, name: str, send: Callable[[list[T]], Answer], bounds: Bounds, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._name = name
        self._send = send
        self._bounds = bounds
        self._tell = tell
        self._is_closed = False
        self.delivered_items = 0
        self.dropped_items = 0
        self.refused_items = 0
        self._begin()
        _couriers.add(self)

    def _begin(self) -> None:
        self._queue: deque[tuple[T, int]] = deque()
        self._queued_bytes = 0
        self._batch: list[T] = []
        self._is_idle = True
        self._is_failing = False
        self._is_given_up = False
        self._is_told = False
        self._flushes = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._attempted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def kept_items(self) -> int:
        """What is not delivered yet."""
        return len(self._queue) + len(self._batch)

    def put(self, item: T, size_bytes: int = 0) -> None:
        """Takes a thing, if need be in the place of the oldest. A microsecond; never blocks, never raises."""
        if self._is_closed:
            return
        queue, bounds = self._queue, self._bounds
        queue.append((item, size_bytes))
        self._queued_bytes += size_bytes
        while len(queue) > bounds.most_items or (self._queued_bytes > bounds.most_bytes and len(queue) > 1):
            with suppress(IndexError):
                self._queued_bytes -= queue.popleft()[1]
                self.dropped_items += 1
        if self._is_idle:
            self._awake()
        elif len(queue) == bounds.batch_items and not self._is_failing:
            self._hurry.set()

    def flush(self, timeout_seconds: float) -> bool:
        """Whether everything was delivered. Gives up with the first delivery that fails, or when the time is over.

        At once where it gave up before and the server has not answered since.
        """
        deadline = time.monotonic() + timeout_seconds
        if self.kept_items == 0:
            return True
        if self._thread is None or self._is_given_up:
            return False
        self._flushes += 1
        try:
            self._attempted.clear()
            self._hurry.set()
            self._wake.set()
            while self.kept_items:
                if not self._attempted.wait(max(0.0, deadline - time.monotonic())):
                    self._is_given_up = True
                    break
                if self._is_failing:
                    break
                self._attempted.clear()
                self._hurry.set()
        finally:
            self._flushes -= 1
        return self.kept_items == 0

    def close(self, timeout_seconds: float = _EXIT_SECONDS) -> None:
        """Delivers what can be, and takes nothing more."""
        self.flush(timeout_seconds)
        self._is_closed = True
        self._hurry.set()
        self._wake.set()

    def reset_in_child(self) -> None:
        """After a fork: what is kept is the parent's, and so is the thread."""
        self._begin()

    def _awake(self) -> None:
        self._is_idle = False
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:
                return
            finally:
                self._starting.release()
        self._wake.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._is_closed:
            if not self._batch and not self._queue:
                self._is_idle = True
                if not self._queue:
                    self._wake.wait()
                self._is_idle = False
                self._wake.clear()
            self._hurry.wait(pause or self._bounds.linger_seconds)
            self._hurry.clear()
            pause = self._deliver(pause)

    def _deliver(self, pause: float) -> float:
        """Sends batches until nothing is left, or one is not taken; the time to wait then."""
        while not self._is_closed:
            self._fill()
            if not self._batch:
                break
            answer = self._attempt()
            self._is_given_up = False
            if answer.outcome is Outcome.LATER:
                if answer.reason and not self._is_told:
                    self._is_told = True
                    self._tell(f"what is to be delivered is kept: {answer.reason}")
                self._is_failing = True
                self._attempted.set()
                return max(answer.retry_after_seconds, min(pause * 2 or _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
            if answer.outcome is Outcome.REFUSED:
                if self.refused_items == 0:
                    self._tell(f"refused, so dropped: {answer.reason}")
                self.refused_items += len(self._batch)
            else:
                self.delivered_items += len(self._batch)
            if self._is_told:
                self._tell("delivered again")
            self._is_failing = self._is_told = False
            self._batch = []
            self._attempted.set()
            if len(self._queue) < self._bounds.batch_items and not self._flushes:
                break
        return 0.0

    def _fill(self) -> None:
        if self._batch:
            return
        batch: list[T] = []
        taken_bytes = 0
        with suppress(IndexError):
            while len(batch) < self._bounds.batch_items and taken_bytes < _BATCH_BYTES:
                item, size_bytes = self._queue.popleft()
                taken_bytes += size_bytes
                batch.append(item)
        self._queued_bytes -= taken_bytes
        if not self._queue:
            self._queued_bytes = 0
        self._batch = batch

    def _attempt(self) -> Answer:
        try:
            return self._send(self._batch)
        except Exception as error:  # noqa: BLE001 - whatever a transport raises, the application goes on
            reason = str(error) or type(error).__name__
            is_transport = isinstance(error, OSError) or type(error).__module__.startswith("http.")
            return Answer(Outcome.LATER if is_transport else Outcome.REFUSED, 0.0, reason)


_couriers: "weakref.WeakSet[Courier[Any]]" = weakref.WeakSet()


def flush_all(timeout_seconds: float = _EXIT_SECONDS) -> None:
    """Delivers what can be delivered in this time, of everything in this process."""
    deadline = time.monotonic() + timeout_seconds
    for courier in tuple(_couriers):
        courier.flush(max(0.0, deadline - time.monotonic()))


def _in_child() -> None:
    for courier in tuple(_couriers):
        courier.reset_in_child()


_context.at_stop(flush_all)
atexit.register(flush_all)
os.register_at_fork(after_in_child=_in_child)

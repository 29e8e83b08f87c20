"""One destination: its output, its queue, its retries, its counts.

Each exporter is a task of its own and shares nothing with the others but the bytes of the batches, so one that is slow or
down holds up nobody.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.logs import get_logger
from novel_agent.model.batch import SIGNALS, Batch, Signal
from novel_agent.outputs.output import Delivered, Output
from novel_agent.runtime.retry import Backoff
from novel_agent.state.queue import BatchQueue, Lease

SHUTDOWN, PARTIAL, FAULT = "shutdown", "partial_success", "fault"
"""Reasons of drops, beside what an OutputRejected names."""

State = Literal["idle", "delivering", "waiting to retry", "stopped"]

log = get_logger("export")


class ExportStatistics(msgspec.Struct):
    """What became of the batches of one destination; counted since start, times in seconds since the epoch.

    What the destination refused is in `rejected_items`, by signal and reason; what never reached it is in its queue's
    `dropped`.
    """

    sent_items: Counter[Signal] = msgspec.field(default_factory=Counter)
    sent_bytes: int = 0
    """Of bodies as sent, compressed if so configured."""
    sent_requests: int = 0
    """Answered well."""
    failed_requests: int = 0
    """Not answered well: to be tried again, or refused."""
    retries: int = 0
    """Requests that came after one that failed."""
    warnings: int = 0
    """Answers that took everything, with a message."""
    rejected_items: Counter[tuple[Signal, str]] = msgspec.field(default_factory=Counter)
    last_success_at: float | None = None
    last_error: str = ""
    """For people, without credentials; never a label value."""
    last_error_at: float | None = None


class Exporter:
    """Delivers what is put into its queue: `run` for as long as it lives, `drain` at its end.

    `now` is the wall clock, for statistics only.
    """

    def __init__(
        self,
        name: str,
        output: Output,
        queue: BatchQueue,
        *,
        signals: Collection[Signal] = SIGNALS,
        backoff: Backoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.output = output
        self.queue = queue
        self.signals = frozenset(signals)
        self.statistics = ExportStatistics()
        self._backoff = backoff or Backoff()
        self._now = now
        self._turn = asyncio.Lock()
        self._draining = asyncio.Event()
        self._sending = False
        self._stopped = False
        self._retry_at: float | None = None
        self._failing_since: float | None = None
        self._overflowing = False

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._stopped:
            return "stopped"
        if self._retry_at is not None:
            return "waiting to retry"
        return "delivering" if self._sending else "idle"

    @property
    def retry_in_seconds(self) -> float | None:
        """Until the next attempt, while waiting for it."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    async def put(self, batch: Batch) -> None:
        """Queue a batch of a signal that is sent here; others are none of its business."""
        if batch.signal not in self.signals:
            return
        before = self.queue.dropped.total()
        await self.queue.put(batch)
        lost = self.queue.dropped.total() - before
        if lost and not self._overflowing:
            self._overflowing = True
            log.error("queue full, data lost", destination=self.name, items=lost)

    async def run(self) -> None:
        """Deliver until cancelled, or until `drain` takes over. Cancellation loses nothing."""
        while not self._draining.is_set():
            await self.queue.ready()
            wait_seconds = await self._attempt()
            if wait_seconds:
                await self._rest(wait_seconds)

    async def drain(self, deadline_seconds: float) -> None:
        """Deliver what is left, `run` or not, until the deadline; what is left then is dropped for `shutdown`.

        A request under way may finish. A wait that the deadline would cut short is not begun.
        """
        self._draining.set()
        ends_at = time.monotonic() + deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds):
                while self.queue.size_bytes:
                    wait_seconds = await self._attempt()
                    if wait_seconds >= ends_at - time.monotonic():
                        break
                    await asyncio.sleep(wait_seconds)
        except TimeoutError:
            pass
        lost = self.queue.abandon(SHUTDOWN)
        self._stopped = True
        if lost:
            log.error("stopped before all was delivered, data lost", destination=self.name, items=lost)

    async def _rest(self, wait_seconds: float) -> None:
        self._retry_at = time.monotonic() + wait_seconds
        try:
            async with asyncio.timeout(wait_seconds):
                await self._draining.wait()
        except TimeoutError:
            pass
        finally:
            self._retry_at = None

    async def _attempt(self) -> float:
        """Send one request; the seconds to wait before the next."""
        async with self._turn:
            lease = await self.queue.take()
            if lease is None:
                return 0.0
            self._sending = True
            if self._backoff.failures:
                self.statistics.retries += 1
            try:
                return await self._send(lease)
            finally:
                self.queue.give_back(lease)  # whatever is settled is no longer there to be given back
                self._sending = False

    async def _send(self, lease: Lease) -> float:
        try:
            delivered = await self.output.send(lease.batch)
        except OutputUnavailable as error:
            return self._on_unavailable(error)
        except OutputRejected as error:
            self._on_rejected(lease, error.reason, str(error))
        except Exception as error:  # a fault of ours must not stop the batches behind this one
            log.exception("fault in an output, batch dropped", destination=self.name)
            self._on_rejected(lease, FAULT, type(error).__name__)
        else:
            self._on_delivered(lease, delivered)
        return 0.0

    def _on_delivered(self, lease: Lease, delivered: Delivered) -> None:
        statistics = self.statistics
        self._answered()
        statistics.sent_requests += 1
        statistics.sent_bytes += delivered.wire_bytes
        statistics.last_success_at = self._now()
        if not self.queue.acknowledge(lease):
            return
        signal, items = lease.batch.signal, lease.batch.items
        rejected = min(max(0, delivered.rejected_items), items)
        statistics.sent_items[signal] += items - rejected
        if rejected:
            statistics.rejected_items[signal, PARTIAL] += rejected
            self._note_error(delivered.message or "rejected in part")
            log.error(
                "rejected in part", destination=self.name, signal=signal, items=rejected, reason=delivered.message
            )
        elif delivered.message:
            statistics.warnings += 1
            log.warning("accepted with a warning", destination=self.name, signal=signal, reason=delivered.message)

    def _on_rejected(self, lease: Lease, reason: str, text: str) -> None:
        signal, items = lease.batch.signal, lease.batch.items
        self._answered()
        self.statistics.failed_requests += 1
        self._note_error(text)
        if self.queue.acknowledge(lease):
            self.statistics.rejected_items[signal, reason] += items
            log.error("rejected, data lost", destination=self.name, signal=signal, items=items, reason=text)

    def _on_unavailable(self, error: OutputUnavailable) -> float:
        wait_seconds = self._backoff.failed(error.retry_after_seconds)
        self.statistics.failed_requests += 1
        self._note_error(str(error))
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            log.warning(
                "not delivered, retrying", destination=self.name, reason=str(error), retry_in_seconds=wait_seconds
            )
        return wait_seconds

    def _note_error(self, text: str) -> None:
        self.statistics.last_error = text
        self.statistics.last_error_at = self._now()

    def _answered(self) -> None:
        """The destination is there: it took the batch, or said that it never will."""
        self._backoff.succeeded()
        self._overflowing = False
        if self._failing_since is not None:
            lasted = time.monotonic() - self._failing_since
            self._failing_since = None
            log.info("delivered again", destination=self.name, after_seconds=lasted)

"""One destination: its output, its queue, its retries, its counts.

Each exporter has tasks of its own and shares nothing with the others but the bytes of the batches, so one that is slow or
down holds up nobody.

How many requests are under way follows the destination's answers (`concurrency`). After a failure that is worth another try
nothing new is sent until the back-off is over, and then one request alone finds out whether the destination is back.

A signal that could not be sent lets the others go first the next time, so that one whose path is broken at the destination
does not keep the others from theirs.

A request is made of batches that came from different clients. Where the destination refuses it for what is in it
(`CONTENT_REFUSED`), `isolation` finds the bad ones, so that they are dropped alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.logs import get_logger
from novel_agent.model.batch import SIGNALS, Batch, Signal
from novel_agent.outputs.output import Delivered, Joining, Output
from novel_agent.runtime.concurrency import Window
from novel_agent.runtime.isolation import Isolation, Refused
from novel_agent.runtime.retry import Backoff
from novel_agent.state.queue import REQUEST_BYTES, BatchQueue, Lease, joined

SHUTDOWN, PARTIAL, FAULT, MALFORMED = "shutdown", "partial_success", "fault", "malformed"
"""Reasons of drops, beside what an OutputRejected names."""

CONTENT_REFUSED = frozenset(
    {
        "http_400",
        "http_413",
        "http_422",
        "http_500",
        "grpc_invalid_argument",
        "grpc_internal",
        "grpc_unknown",
        "grpc_resource_exhausted",
        MALFORMED,
    }
)
"""Reasons of a refusal that may be due to a part of the request."""

LINGER_SECONDS = 0.1
ENOUGH_BYTES = REQUEST_BYTES
"""A request waits so long for company, or until there is so much: what a request costs hardly depends on its size."""

UNDER_WAY_BYTES = 2 << 20
"""With so much under way no further request is begun, whatever the window: they are in memory until they are answered."""

State = Literal["idle", "delivering", "waiting to retry", "stopped"]

log = get_logger("export")


class _Later(NamedTuple):
    """Not now."""

    seconds: float


_Losses: TypeAlias = Counter[tuple[Signal, str]]
"""Items of one lease that were dropped, by what is said of that: one line in the log for all that are dropped alike."""

_Outcome: TypeAlias = Literal["taken", "refused"] | OutputRejected | _Later
"""What became of a request; an OutputRejected where it may be due to a part of it."""


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

    `concurrency` is the most requests that are under way at a time. With `is_otlp` the batches are OTLP and are looked into
    where they are refused. `now` is the wall clock, for statistics only.
    """

    def __init__(
        self,
        name: str,
        output: Output,
        queue: BatchQueue,
        *,
        signals: Collection[Signal] = SIGNALS,
        concurrency: int = 1,
        is_otlp: bool = False,
        linger_seconds: float = 0.0,
        backoff: Backoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.output = output
        self._joining = output if isinstance(output, Joining) else None
        self.queue = queue
        self.signals = frozenset(signals)
        self.statistics = ExportStatistics()
        self.window = Window(concurrency)
        self._is_otlp = is_otlp
        self._linger_seconds = linger_seconds
        self._backoff = backoff or Backoff()
        self._now = now
        self._draining = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._under_way_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._stopped = False
        self._retry_at: float | None = None
        self._failures_seen = 0
        self._failing_since: float | None = None
        self._overflowing = False
        self._is_hopeful = True
        self._avoid: Signal | None = None

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._stopped:
            return "stopped"
        if self._retry_at is not None:
            return "waiting to retry"
        return "delivering" if self._under_way else "idle"

    @property
    def retry_in_seconds(self) -> float | None:
        """Until the next attempt, while waiting for it."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    @property
    def under_way(self) -> int:
        """Requests that wait for an answer."""
        return len(self._under_way)

    async def put(self, batch: Batch, *, durable: bool = False) -> None:
        """Queue a batch of a signal that is sent here; others are none of its business.

        With `durable`, returns when it is as safe as the queue makes it.
        """
        if batch.signal not in self.signals:
            return
        dropped = self.queue.dropped
        before = sum(dropped.values())
        await self.queue.put(batch, wait=durable)
        lost = sum(dropped.values()) - before
        if lost and not self._overflowing:
            self._overflowing = True
            log.error("queue full, data lost", destination=self.name, items=lost)

    async def run(self) -> None:
        """Deliver until cancelled, or until `drain` takes over. Cancellation loses nothing."""
        try:
            while not self._draining.is_set():
                await self.queue.ready()
                await self._rest()
                await self._room.wait()
                await self._gather()
                if not self._draining.is_set() and self._retry_at is None:
                    await self._launch()
        except asyncio.CancelledError:
            await self._recall()
            self._retry_at = None
            raise

    async def drain(self, deadline_seconds: float) -> None:
        """Deliver what is left, `run` or not, until the deadline; what the queue does not keep is then dropped for `shutdown`.

        A request under way may finish. A wait that the deadline would cut short is not begun.
        """
        self._draining.set()
        self._retry_at = None
        ends_at = time.monotonic() + deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds):
                while self.queue.size_bytes:
                    wait_seconds = self.retry_in_seconds or 0.0
                    if wait_seconds >= ends_at - time.monotonic():
                        break
                    if wait_seconds:
                        await asyncio.sleep(wait_seconds)
                    self._retry_at = None
                    await self._room.wait()
                    if not await self._launch():
                        await self._one_is_done()
        except TimeoutError:
            pass
        await self._recall()
        self._retry_at = None
        lost = self.queue.abandon(SHUTDOWN)
        self._stopped = True
        if lost:
            log.error("stopped before all was delivered, data lost", destination=self.name, items=lost)

    async def _rest(self) -> None:
        while self._retry_at is not None and not self._draining.is_set():
            wait_seconds = self._retry_at - time.monotonic()
            if wait_seconds <= 0:
                self._retry_at = None
                return
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._draining.wait()
            except TimeoutError:
                pass

    async def _gather(self) -> None:
        """Let a little come together, unless there is enough for a request or the end has come."""
        if self.queue.size_bytes - self._under_way_bytes < ENOUGH_BYTES and not self._draining.is_set():
            try:
                async with asyncio.timeout(self._linger_seconds):
                    await self._draining.wait()
            except TimeoutError:
                pass

    async def _launch(self) -> bool:
        """Begin one request; False where there is nothing to send."""
        lease = await self.queue.take(self._avoid)
        if lease is None:
            await asyncio.sleep(0)
            return False
        if self._backoff.failures:
            self.statistics.retries += 1
        task = asyncio.create_task(self._deliver(lease), name=f"request to {self.name}")
        self._under_way.add(task)
        size_bytes = sum([len(batch.payload) for batch in lease.pieces])
        self._under_way_bytes += size_bytes
        task.add_done_callback(partial(self._ended, size_bytes))
        self._look_for_room()
        return True

    def _ended(self, size_bytes: int, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._under_way_bytes -= size_bytes
        self._look_for_room()

    def _look_for_room(self) -> None:
        limit = 1 if self._backoff.failures else self.window.limit
        if len(self._under_way) < limit and self._under_way_bytes < UNDER_WAY_BYTES:
            self._room.set()
        else:
            self._room.clear()

    async def _one_is_done(self) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way), return_when=asyncio.FIRST_COMPLETED)

    async def _recall(self) -> None:
        """Break off what is under way; it goes back into the queue."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _deliver(self, lease: Lease) -> None:
        """Send one lease, whole or, where a part of it is refused, in parts."""
        isolation = Isolation(
            lease.parts, is_otlp=self._is_otlp, in_order=self.output.in_order, is_hopeful=self._is_hopeful
        )
        settled, losses = False, _Losses()
        try:
            while (parts := isolation.next()) is not None:
                answer = await self._send(lease.pieces if parts is lease.parts else parts, len(parts), losses)
                if isinstance(answer, _Later):
                    if not settled:
                        return
                    isolation.again(parts)
                    await asyncio.sleep(answer.seconds)
                    continue
                settled = True
                if answer == "taken":
                    isolation.taken()
                elif answer == "refused":
                    isolation.refused_alone()
                else:
                    self._give_up(await isolation.refused(parts, answer), losses)
            for refused in isolation.given_up():
                self._give_up(refused, losses)
            self.queue.acknowledge(lease)
            self._is_hopeful = self._is_hopeful and not isolation.is_hopeless
        finally:
            for (signal, text), items in losses.items():
                log.error("rejected, data lost", destination=self.name, signal=signal, items=items, reason=text)
            self.queue.give_back(lease)  # whatever is settled is no longer there to be given back

    async def _send(self, pieces: Sequence[Batch], parts: int, losses: _Losses) -> _Outcome:
        """Send one request of so many parts. A refusal that may be due to some of them is given back, and nothing dropped."""
        began, failures_seen, under_way = time.monotonic(), self._failures_seen, len(self._under_way)
        try:
            if self._joining is not None:
                delivered = await self._joining.send_joined(pieces)
            else:
                delivered = await self.output.send(joined(pieces))
        except OutputUnavailable as error:
            return _Later(self._on_unavailable(error, failures_seen, pieces[0].signal))
        except MemoryError:
            memory = OutputUnavailable("out of memory")
            return _Later(self._on_unavailable(memory, failures_seen, pieces[0].signal))
        except OutputRejected as error:
            self._on_refused(str(error))
            if parts > 1 and error.reason in CONTENT_REFUSED:
                return error
            self._drop(pieces, error.reason, str(error), losses)
            return "refused"
        except Exception as error:  # a fault of ours must not stop the batches behind this one
            log.exception("fault in an output, batch dropped", destination=self.name)
            self._on_refused(type(error).__name__)
            self._drop(pieces, FAULT, type(error).__name__, losses)
            return "refused"
        self.window.answered(time.monotonic() - began, under_way)
        self._on_delivered(pieces, delivered)
        return "taken"

    def _give_up(self, refused: Refused | None, losses: _Losses) -> None:
        if refused is None:
            return
        if refused.error is None:
            self._drop(refused.parts, MALFORMED, "what a client sent cannot be read to the bottom", losses)
        else:
            self._drop(refused.parts, refused.error.reason, str(refused.error), losses)

    def _on_delivered(self, pieces: Sequence[Batch], delivered: Delivered) -> None:
        statistics = self.statistics
        self._answered()
        self._is_hopeful = True
        if pieces[0].signal == self._avoid:
            self._avoid = None
        statistics.sent_requests += 1
        statistics.sent_bytes += delivered.wire_bytes
        statistics.last_success_at = self._now()
        signal, items = pieces[0].signal, sum([batch.items for batch in pieces])
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

    def _on_refused(self, text: str) -> None:
        self._answered()
        self.statistics.failed_requests += 1
        self._note_error(text)

    def _drop(self, pieces: Sequence[Batch], reason: str, text: str, losses: _Losses) -> None:
        signal, items = pieces[0].signal, sum([batch.items for batch in pieces])
        self.statistics.rejected_items[signal, reason] += items
        losses[signal, text] += items

    def _on_unavailable(self, error: OutputUnavailable, failures_seen: int, signal: Signal) -> float:
        """One that began before the last failure says nothing new: the back-off grows once for all that were under way."""
        self.statistics.failed_requests += 1
        self._note_error(str(error))
        if failures_seen != self._failures_seen:
            return self.retry_in_seconds or 0.0
        self._failures_seen += 1
        self._avoid = signal
        self.window.failed()
        wait_seconds = self._backoff.failed(error.retry_after_seconds)
        self._look_for_room()
        if wait_seconds:
            self._retry_at = time.monotonic() + wait_seconds
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

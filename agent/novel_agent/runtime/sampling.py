"""One sampling of the host, shared by everyone who asks within a second.

A scrape samples when it comes; the export samples on its schedule. Both get the same `Sample` when they fall together: while
one is under way, whoever asks waits for that one, and one that is at most `max_age` old is handed out again. All collectors
run one after the other in one lane (see `lanes`), so a sampling costs two thread switches, not one a collector.

A collector that fails is reported in `node_scrape_collector_success` and its reason in `status`; the others go on. One that
misses its deadline is left behind and skipped, as failed, until its call has come back. One that found nothing of its
subject on this host looks again once a minute, since hardware and modules seldom come; so do optional collectors that rest
(see `budget`), which are shown as last read in between.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from novel_agent.errors import AgentError, NoData
from novel_agent.logs import get_logger
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.runtime.lanes import AsyncLane, LeftBehind
from novel_agent.runtime.supervise import Component

log = get_logger("host")

REST_SECONDS = 60.0
SHARED_SECONDS = 1.0

DURATION = Family(
    "node_scrape_collector_duration_seconds",
    "node_exporter: Duration of a collector scrape.",
    "gauge",
    ("collector",),
)
SUCCESS = Family(
    "node_scrape_collector_success", "node_exporter: Whether a collector succeeded.", "gauge", ("collector",)
)


class Collector(Protocol):
    """What the sampler needs of a collector; see `inputs.host.collector` for the whole contract."""

    name: Any
    optional: Any

    def read(self) -> Any:
        """Read the kernel."""

    def families(self, reading: Any) -> Sequence[Block]:
        """The reading under Prometheus names."""

    def telemetry(self, reading: Any) -> Sequence[Block]:
        """The reading under OpenTelemetry names."""

    def close(self) -> None:
        """Give everything back."""


class Watched:
    """A collector and what is known about it.

    `made_of` is what it was made from: where that is the same after a reload, it need not be made anew.
    """

    def __init__(self, collector: Collector, *, on_scrape_list: bool = True, made_of: object = None) -> None:
        self.collector = collector
        self.made_of = made_of
        self.on_scrape_list = on_scrape_list
        self.component = Component(collector.name, "host" if on_scrape_list else "input")
        self.hung = False
        self.last: Outcome | None = None
        self.last_monotonic = 0.0

    def __str__(self) -> str:
        return self.component.name


class Outcome(NamedTuple):
    """What one collector gave: a reading, or None and why not."""

    watched: Watched
    reading: Any
    seconds: float
    error: BaseException | None


class Sample(NamedTuple):
    """One reading of everything. `at` is the wall clock and `monotonic` the monotonic one when it began, in seconds."""

    at: float
    monotonic: float
    outcomes: list[Outcome]


class HostSampler:
    """Runs the collectors and keeps what they gave last."""

    def __init__(
        self,
        watched: Sequence[Watched],
        *,
        deadline_seconds: float,
        left_behind: LeftBehind,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.watched = list(watched)
        self.resting = False
        self._retired: list[Watched] = []
        self._deadline_seconds = deadline_seconds
        self._lane = AsyncLane("host sampling", left_behind)
        self._now = now
        self._latest: Sample | None = None
        self._under_way: asyncio.Task[Sample] | None = None
        self._shapes = ShapeMemo()

    @property
    def latest(self) -> Sample | None:
        """The last sample, however old."""
        return self._latest

    @property
    def known(self) -> list[Watched]:
        """What is watched, and what no longer is but hangs: it may be wanted again before its call has come back."""
        return [*self.watched, *self._retired]

    def reconfigure(self, watched: Sequence[Watched], deadline_seconds: float) -> None:
        """Watch these from now on. Those that are dropped are closed when no sampling uses them any more."""
        kept = set(map(id, watched))
        self._retired = [each for each in (*self.watched, *self._retired) if id(each) not in kept]
        self.watched = list(watched)
        self._deadline_seconds = deadline_seconds
        self._latest = None
        if self._under_way is None:
            self._close_retired()

    def _close_retired(self) -> None:
        for watched in self._retired:
            if not watched.hung:
                watched.collector.close()
        self._retired = [watched for watched in self._retired if watched.hung]

    async def sample(self, max_age_seconds: float = SHARED_SECONDS) -> Sample:
        """A sample at most this old. Cancelling one caller leaves the sampling to the others."""
        if self._under_way is None:
            if self._latest is not None and time.monotonic() - self._latest.monotonic <= max_age_seconds:
                return self._latest
            self._under_way = asyncio.create_task(self._sample(), name="host sampling")
        return await asyncio.shield(self._under_way)

    async def _sample(self) -> Sample:
        try:
            at, began, every = self._now(), time.monotonic(), self.watched
            due = [watched for watched in every if not watched.hung and not self._rests(watched, began)]
            outcomes = await self._lane.run(self._read, due, self._deadline_seconds, self._came_back)
            fresh = {
                id(watched): self._note(watched, outcome, at, began)
                for watched, outcome in zip(due, outcomes, strict=True)
            }
            sample = Sample(at, began, [fresh.get(id(each)) or self._skipped(each) for each in every])
            if every is self.watched:
                self._latest = sample
            return sample
        finally:
            self._under_way = None
            self._close_retired()

    def _rests(self, watched: Watched, now: float) -> bool:
        if watched.last is None or now - watched.last_monotonic >= REST_SECONDS:
            return False
        return watched.component.state == "no data" or (self.resting and watched.collector.optional)

    @staticmethod
    def _read(watched: Watched) -> Outcome:
        began = time.perf_counter()
        try:
            reading = watched.collector.read()
        except Exception as error:
            return Outcome(watched, None, time.perf_counter() - began, error)
        return Outcome(watched, reading, time.perf_counter() - began, None)

    def _note(self, watched: Watched, outcome: Outcome | OSError | None, at: float, monotonic: float) -> Outcome:
        component = watched.component
        if isinstance(outcome, OSError):
            outcome = Outcome(watched, None, 0.0, outcome)
        if outcome is None:
            reason = f"no answer within {self._deadline_seconds:g} s"
            watched.hung = True
            component.timeouts += 1
            component.failed(self._deadline_seconds, at, reason, "hung")
            log.warning("collector hangs, skipped until it answers", collector=component.name, reason=reason)
            outcome = Outcome(watched, None, self._deadline_seconds, TimeoutError(reason))
        elif outcome.error is None:
            if component.succeeded(outcome.seconds, at):
                log.info("collector works again", collector=component.name)
        else:
            self._note_failure(component, outcome, at)
        watched.last = outcome
        watched.last_monotonic = monotonic
        return outcome

    @staticmethod
    def _note_failure(component: Component, outcome: Outcome, at: float) -> None:
        error = outcome.error
        if isinstance(error, NoData):
            component.failed(outcome.seconds, at, str(error), "no data")
            return
        expected = isinstance(error, AgentError | OSError | ValueError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if component.failed(outcome.seconds, at, reason):
            log.warning("collector fails", collector=component.name, reason=reason)

    def _came_back(self, watched: Watched) -> None:
        watched.hung = False
        if watched in self._retired and self._under_way is None:
            self._close_retired()
        log.info("collector came back", collector=watched.component.name)

    def _skipped(self, watched: Watched) -> Outcome:
        if watched.hung or watched.last is None:
            return Outcome(watched, None, 0.0, TimeoutError(watched.component.reason))
        if watched.last.error is None:
            watched.component.state = "resting"
        return watched.last

    def families(self, sample: Sample) -> list[Block]:
        """Everything under Prometheus names, with each collector's duration and success."""
        blocks: list[Block] = []
        succeeded: list[int] = []
        listed = [outcome for outcome in sample.outcomes if outcome.watched.on_scrape_list]
        for outcome in sample.outcomes:
            made = self._blocks(outcome, outcome.watched.collector.families)
            if outcome.watched.on_scrape_list:
                succeeded.append(made is not None)
            blocks.extend(made or ())
        names = tuple(outcome.watched.component.name for outcome in listed)
        duration = self._shapes.get("duration", names, lambda: [DURATION.series(name) for name in names])
        success = self._shapes.get("success", names, lambda: [SUCCESS.series(name) for name in names])
        blocks.append(Block(duration, [outcome.seconds for outcome in listed]))
        blocks.append(Block(success, [int(good) for good in succeeded]))
        return blocks

    def telemetry(self, sample: Sample) -> list[Block]:
        """Everything under OpenTelemetry names."""
        blocks: list[Block] = []
        for outcome in sample.outcomes:
            blocks.extend(self._blocks(outcome, outcome.watched.collector.telemetry) or ())
        return blocks

    def _blocks(self, outcome: Outcome, view: Callable[[Any], Sequence[Block]]) -> Sequence[Block] | None:
        if outcome.error is not None:
            return None
        try:
            return view(outcome.reading)
        except Exception as error:
            component = outcome.watched.component
            component.failed(0.0, self._now(), f"{type(error).__name__}: {error}")
            log.exception("collector's reading cannot be shown", collector=component.name)
            return None

    async def close(self) -> None:
        """Wait for a sampling under way, then close every collector that is not hung."""
        if self._under_way is not None:
            await asyncio.wait({self._under_way})
        self._lane.close()
        for watched in self.known:
            if not watched.hung:
                watched.collector.close()

"""From readings to destinations: sampling on the schedule, encoding once, fanning out."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from novel_agent.config.schema import Config
from novel_agent.inputs.resource import UNKNOWN_SERVICE, Surroundings, detect_resource
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.model.resource import Resource
from novel_agent.runtime.build import kernel_of
from novel_agent.runtime.destinations import Destinations
from novel_agent.runtime.lanes import AsyncLane, LeftBehind
from novel_agent.runtime.sampling import SHARED_SECONDS, HostSampler, Sample
from novel_agent.runtime.schedule import ticks
from novel_agent.wire.otlp import StartTimes, encode_metrics, encode_resource

log = get_logger("forward")

DETECTION_SECONDS = 0.5
_NANOS = 1_000_000_000

MISSED = Family("novel_agent_missed_samplings_total", "Samplings that fell while the one before still ran.", "counter")

Further = Callable[[int], Sequence[Batch]]
"""What else is published at each sampling: metrics made of traces, for the time in nanoseconds since the epoch."""

Shown = Callable[[Sample], Sequence[Block]]
"""Every series of /metrics, of a sample."""


class Forwarding:
    """The schedule that feeds the destinations, and who its data is about."""

    def __init__(self, destinations: Destinations, left_behind: LeftBehind) -> None:
        self.destinations = destinations
        self.resource = Resource()
        self._lane = AsyncLane("resource detection", left_behind)
        self._background: set[asyncio.Task[None]] = set()
        self._described_for: object = None
        self._resource = b""
        self._starts = StartTimes(0)
        self._origin_unix_nano = 0
        self._missed = 0
        self._shapes = ShapeMemo()
        self._remote_write: Callable[..., Batch] | None = None

    async def describe(self, config: Config) -> None:
        """Find out who the data is about, and since when the kernel counts.

        Nobody waits for a host that is slow to answer: until it has, and where it never does, the data carries what the
        configuration states and what was known before.
        """
        about = (config.host.paths, config.resource)
        if about == self._described_for:
            return
        self._described_for = about
        if not self._resource:
            self._be(Resource.merged(UNKNOWN_SERVICE, config.resource.attributes))
        task = asyncio.create_task(self._detect(config), name="resource detection")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        await asyncio.wait({task}, timeout=DETECTION_SECONDS)

    def _be(self, resource: Resource) -> None:
        self.resource = resource
        self._resource = encode_resource(resource)

    async def _detect(self, config: Config) -> None:
        (found,) = await self._lane.run(lambda _: _describe(config), ("this host",), config.host.deadline_seconds)
        if not isinstance(found, _Description):
            log.warning("resource not detected, only what is configured is sent", reason=found or "no answer in time")
            return
        self._be(found.resource)
        if found.boot_unix_nano != self._origin_unix_nano:
            self._origin_unix_nano = found.boot_unix_nano
            self._starts = StartTimes(found.boot_unix_nano)

    async def run_schedule(
        self,
        interval_seconds: Callable[[], float],
        sampler: Callable[[], HostSampler],
        seen: Shown,
        further: Further = lambda now_nanos: (),
    ) -> None:
        """Sample on the grid of the wall clock for ever, and hand what was read to every destination that wants it.

        `seen` is shown every sample, and gives the series that it makes on /metrics.
        """
        async for tick in ticks(interval_seconds):
            self._missed += tick.missed
            if tick.missed:
                log.warning("samplings missed", missed=tick.missed)
            await self.forward(sampler(), interval_seconds(), seen, further)

    async def forward(
        self, sampler: HostSampler, interval_seconds: float, seen: Shown, further: Further = lambda now_nanos: ()
    ) -> Sample:
        """One sample to the destinations; one that a scrape has just taken will do, if no earlier export can have had it."""
        sample = await sampler.sample(min(SHARED_SECONDS, interval_seconds / 2))
        shown, now_nanos = seen(sample), int(sample.at * _NANOS)
        wants = [each for each in self.destinations if "metrics" in each.exporter.signals]
        if any(each.takes_otlp for each in wants) or self.destinations.tap.wants("metrics"):
            blocks = sampler.telemetry(sample)
            await self._publish(encode_metrics(self._resource, blocks, now_nanos, self._starts), "host")
            for batch in further(now_nanos):
                await self._publish(batch, "traces")
        if any(not each.takes_otlp for each in wants):
            await self.destinations.publish(self._as_remote_write(shown, now_nanos), otlp=False)
        return sample

    async def _publish(self, batch: Batch, source: str) -> None:
        await self.destinations.publish(batch)
        self.destinations.tap.offer(batch, source)

    def _as_remote_write(self, shown: Sequence[Block], now_nanos: int) -> Batch:
        if self._remote_write is None:
            from novel_agent.wire.remote_write import RemoteWriteEncoder

            self._remote_write = RemoteWriteEncoder().encode
        external = (("instance", dict(self.resource.attributes).get("host.name", "")), ("job", "novel-engine-agent"))
        return self._remote_write(shown, now_nanos, external)

    async def stop(self) -> None:
        """End what is under way."""
        self._lane.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def blocks(self) -> Sequence[Block]:
        """The schedule's own series."""
        missed = self._shapes.get("missed", None, lambda: [MISSED.series()])
        return [Block(missed, (self._missed,))]


class _Description(NamedTuple):
    """A host's resource, and when its kernel began to count."""

    resource: Resource
    boot_unix_nano: int


def _describe(config: Config) -> _Description:
    surroundings = Surroundings(kernel_of(config), os.environ, os.uname().machine)
    resource = detect_resource(surroundings, config.resource.attributes)
    return _Description(resource, boot_time_unix_nano(config.host.paths.proc))


def boot_time_unix_nano(proc: str) -> int:
    """When the kernel began to count, from the btime line of /proc/stat; 0 where it cannot be read."""
    try:
        with open(f"{proc}/stat", "rb") as file:
            for line in file:
                if line.startswith(b"btime "):
                    return int(line[6:]) * _NANOS
    except (OSError, ValueError):
        pass
    return 0

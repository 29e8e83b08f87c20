"""From samples to destinations: sampling on the schedule, encoding once, fanning out.

A destination is made, kept or taken down by name. One whose settings did not change in a reload goes on undisturbed; one that
changed hands its queue and its counts over to its successor, so that correcting a wrong token loses nothing; one that is gone
has a few seconds to deliver what it holds, and what it could not deliver stays counted.
"""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from novel_agent import registry
from novel_agent.config.schema import Config, Export
from novel_agent.inputs.resource import UNKNOWN_SERVICE, Surroundings, detect_resource
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch, Signal
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.model.resource import Resource
from novel_agent.runtime.build import kernel_of
from novel_agent.runtime.exporting import Exporter
from novel_agent.runtime.lanes import AsyncLane, LeftBehind
from novel_agent.runtime.sampling import SHARED_SECONDS, HostSampler, Sample
from novel_agent.runtime.schedule import ticks
from novel_agent.runtime.status import DestinationStatus
from novel_agent.runtime.supervise import Supervisor
from novel_agent.state.queue import MemoryQueue
from novel_agent.wire.otlp import StartTimes, encode_metrics, encode_resource

log = get_logger("forward")

CHANGE_SECONDS = 5.0
DETECTION_SECONDS = 0.5
_NANOS = 1_000_000_000

_BY_NAME = ("destination",)
QUEUE_BYTES = Family("novel_agent_export_queue_bytes", "Bytes waiting for a destination.", "gauge", _BY_NAME)
QUEUE_CAPACITY = Family("novel_agent_export_queue_capacity_bytes", "Most bytes that may wait.", "gauge", _BY_NAME)
QUEUE_ITEMS = Family("novel_agent_export_queue_items", "Data points, log records and spans waiting.", "gauge", _BY_NAME)
REQUESTS = Family("novel_agent_export_requests_total", "Requests answered well.", "counter", _BY_NAME)
FAILED = Family("novel_agent_export_failed_requests_total", "Requests not answered well.", "counter", _BY_NAME)
RETRIES = Family("novel_agent_export_retries_total", "Requests after one that failed.", "counter", _BY_NAME)
SENT_BYTES = Family("novel_agent_export_sent_bytes_total", "Bytes of request bodies, as sent.", "counter", _BY_NAME)
LAST_SUCCESS = Family(
    "novel_agent_export_last_success_timestamp_seconds", "When a request was last answered well; 0 for never.", "gauge",
    _BY_NAME,
)  # fmt: skip
SENT = Family("novel_agent_export_sent_items_total", "Items a destination took.", "counter", ("destination", "signal"))
DROPPED = Family(
    "novel_agent_export_dropped_items_total",
    "Items that never reached a destination or that it refused, by reason.",
    "counter",
    ("destination", "signal", "reason"),
)
MISSED = Family("novel_agent_missed_samplings_total", "Samplings that fell while the one before still ran.", "counter")
_PER_DESTINATION = (
    QUEUE_BYTES, QUEUE_CAPACITY, QUEUE_ITEMS, REQUESTS, FAILED, RETRIES, SENT_BYTES, LAST_SUCCESS,
)  # fmt: skip


_serial = itertools.count(1)


class Destination:
    """One configured export and the exporter that serves it; `before` is the one whose place it takes.

    `task_name` is its own among all there ever are: one that leaves and one that comes may have the same name for a while.
    """

    def __init__(self, export: Export, before: "Destination | None" = None) -> None:
        self.export = export
        self.before = before
        self.task_name = f"export {export.name} #{next(_serial)}"
        output = registry.load(registry.OUTPUTS[export.type])(export)
        self.queue: MemoryQueue = before.queue if before is not None else MemoryQueue(export.queue.size_bytes)
        self.exporter = Exporter(export.name, output, self.queue, signals=export.signals)
        if before is not None:
            self.exporter.statistics = before.exporter.statistics


class Forwarding:
    """Every destination, and the schedule that feeds them."""

    def __init__(self, supervisor: Supervisor, left_behind: LeftBehind) -> None:
        self._supervisor = supervisor
        self._lane = AsyncLane("resource detection", left_behind)
        self._destinations: dict[str, Destination] = {}
        self._leaving: dict[str, Destination] = {}
        self._lost_by_gone: Counter[tuple[str, ...]] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        self._described_for: object = None
        self._resource = b""
        self._starts = StartTimes(0)
        self._origin_unix_nano = 0
        self._missed = 0
        self._shapes = ShapeMemo()

    async def prepare(self, config: Config) -> "list[Destination]":
        """Make and start what a configuration wants and is not there yet. AgentError, and nothing changed, where one cannot be.

        `commit` puts them in place; `discard` is for when it does not come to that.
        """
        fresh = [
            Destination(export, self._destinations.get(export.name))
            for export in config.export
            if export.name not in self._destinations or self._destinations[export.name].export != export
        ]
        for index, destination in enumerate(fresh):
            try:
                await destination.exporter.output.start()
            except BaseException:
                await self.discard(fresh[:index])
                raise
        return fresh

    async def discard(self, fresh: "Sequence[Destination]") -> None:
        """Let go of what `prepare` made."""
        await asyncio.gather(*(destination.exporter.output.stop() for destination in fresh))

    async def commit(self, config: Config, fresh: "Sequence[Destination]") -> None:
        """Make the destinations those of this configuration; cannot fail."""
        await self._describe(config)
        wanted = [export.name for export in config.export]
        for name in [name for name in self._destinations if name not in wanted]:
            self._take_down(self._destinations.pop(name))
        for destination in fresh:
            await self._put_in_place(destination)
        self._destinations = {name: self._destinations[name] for name in wanted}

    async def _put_in_place(self, destination: Destination) -> None:
        """Hand the queue over: what waits goes out under the new settings, and what is on its way is sent again."""
        before, destination.before = destination.before, None
        self._destinations[destination.export.name] = destination
        if before is not None:
            await self._supervisor.stop(before.task_name)
            await before.exporter.output.stop()
        destination.queue.resize(destination.export.queue.size_bytes)
        self._supervisor.start(destination.task_name, destination.exporter.run)

    def _take_down(self, destination: Destination) -> None:
        """A destination nobody wants any more delivers what it holds, within a deadline, beside the others."""
        self._leaving[destination.task_name] = destination
        self._run_beside(self._let_go(destination), f"leaving: {destination.task_name}")

    async def _let_go(self, destination: Destination) -> None:
        try:
            await destination.exporter.drain(CHANGE_SECONDS)
        finally:
            self._leaving.pop(destination.task_name, None)
            self._lost_by_gone.update(_dropped([destination]))
            await self._supervisor.stop(destination.task_name)
            await destination.exporter.output.stop()

    def _run_beside(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _describe(self, config: Config) -> None:
        """Find out who the data is about, and since when the kernel counts.

        Nobody waits for a host that is slow to answer: until it has, and where it never does, the data carries what the
        configuration states and what was known before.
        """
        about = (config.host.paths, config.resource)
        if about == self._described_for:
            return
        self._described_for = about
        if not self._resource:
            self._resource = encode_resource(Resource.merged(UNKNOWN_SERVICE, config.resource.attributes))
        task = asyncio.create_task(self._detect(config), name="resource detection")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        await asyncio.wait({task}, timeout=DETECTION_SECONDS)

    async def _detect(self, config: Config) -> None:
        (found,) = await self._lane.run(lambda _: _describe(config), ("this host",), config.host.deadline_seconds)
        if not isinstance(found, _Description):
            log.warning("resource not detected, only what is configured is sent", reason=found or "no answer in time")
            return
        self._resource = encode_resource(found.resource)
        if found.boot_unix_nano != self._origin_unix_nano:
            self._origin_unix_nano = found.boot_unix_nano
            self._starts = StartTimes(found.boot_unix_nano)

    async def run_schedule(
        self,
        interval_seconds: Callable[[], float],
        sampler: Callable[[], HostSampler],
        seen: Callable[[Sample], object],
    ) -> None:
        """Sample on the grid of the wall clock for ever, and hand what was read to every destination that wants it.

        `seen` is shown every sample.
        """
        async for tick in ticks(interval_seconds):
            self._missed += tick.missed
            if tick.missed:
                log.warning("samplings missed", missed=tick.missed)
            seen(await self.forward(sampler(), interval_seconds()))

    async def forward(self, sampler: HostSampler, interval_seconds: float) -> Sample:
        """One sample to the destinations; one that a scrape has just taken will do, if no earlier export can have had it."""
        sample = await sampler.sample(min(SHARED_SECONDS, interval_seconds / 2))
        if any("metrics" in each.exporter.signals for each in self._destinations.values()):
            blocks = sampler.telemetry(sample)
            await self.publish(encode_metrics(self._resource, blocks, int(sample.at * _NANOS), self._starts))
        return sample

    async def publish(self, batch: Batch) -> None:
        """Put a batch into every queue that takes its signal; its bytes are shared."""
        for destination in list(self._destinations.values()):
            await destination.exporter.put(batch)

    async def drain(self, deadline_seconds: float) -> None:
        """Deliver what is queued, each destination within the deadline; what is left is counted as dropped."""
        everyone = [*self._destinations.values(), *self._leaving.values()]
        await asyncio.gather(*(destination.exporter.drain(deadline_seconds) for destination in everyone))

    async def stop(self) -> None:
        """Close every connection; after `drain`."""
        self._lane.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for destination in [*self._destinations.values(), *self._leaving.values()]:
            await self._supervisor.stop(destination.task_name)
            await destination.exporter.output.stop()

    # what can be asked ------------------------------------------------------------------------------------------------

    def status(self) -> list[DestinationStatus]:
        """Each destination, in the order of the configuration, and those that are leaving."""
        return [_status(destination) for destination in (*self._destinations.values(), *self._leaving.values())]

    def blocks(self) -> Sequence[Block]:
        """The destinations as series."""
        destinations = list(self._destinations.values())
        names = tuple(each.export.name for each in destinations)
        shape = self._shapes.get(
            "destinations", names, lambda: [family.series(name) for family in _PER_DESTINATION for name in names]
        )
        rows = [_figures(each) for each in destinations]
        missed = self._shapes.get("missed", None, lambda: [MISSED.series()])
        return [
            Block(shape, [row[index] for index in range(len(_PER_DESTINATION)) for row in rows]),
            self._counted("sent", SENT, _sent(destinations)),
            self._counted("dropped", DROPPED, self._lost_by_gone + self._lost(destinations)),
            Block(missed, (self._missed,)),
        ]

    def _lost(self, destinations: Sequence[Destination]) -> Counter[tuple[str, ...]]:
        return Counter(_dropped(destinations)) + Counter(_dropped(list(self._leaving.values())))

    def _counted(self, slot: str, family: Family, counts: Mapping[tuple[str, ...], int]) -> Block:
        shape = self._shapes.get(slot, tuple(counts), lambda: [family.series(*labels) for labels in counts])
        return Block(shape, list(counts.values()))


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


def _figures(destination: Destination) -> tuple[int | float, ...]:
    exporter, statistics = destination.exporter, destination.exporter.statistics
    return (
        exporter.queue.size_bytes,
        destination.export.queue.size_bytes,
        exporter.queue.items,
        statistics.sent_requests,
        statistics.failed_requests,
        statistics.retries,
        statistics.sent_bytes,
        statistics.last_success_at or 0,
    )


def _sent(destinations: Sequence[Destination]) -> dict[tuple[str, ...], int]:
    return {
        (each.export.name, signal): count
        for each in destinations
        for signal, count in each.exporter.statistics.sent_items.items()
    }


def _dropped(destinations: Sequence[Destination]) -> dict[tuple[str, ...], int]:
    return {
        (each.export.name, signal, reason): count
        for each in destinations
        for lost in (each.exporter.queue.dropped, each.exporter.statistics.rejected_items)
        for (signal, reason), count in lost.items()
    }


def _by_reason(lost: Mapping[tuple[Signal, str], int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, reason), count in lost.items():
        counts[reason] = counts.get(reason, 0) + count
    return counts


def _status(destination: Destination) -> DestinationStatus:
    export, exporter = destination.export, destination.exporter
    statistics = exporter.statistics
    return DestinationStatus(
        name=export.name,
        type=export.type,
        endpoint=without_credentials(export.endpoint),
        protocol=export.protocol,
        state=exporter.state,
        queue_items=exporter.queue.items,
        queue_bytes=exporter.queue.size_bytes,
        queue_capacity_bytes=export.queue.size_bytes,
        sent_items=dict(statistics.sent_items.items()),
        sent_requests=statistics.sent_requests,
        sent_bytes=statistics.sent_bytes,
        failed_requests=statistics.failed_requests,
        retries=statistics.retries,
        rejected_items=_by_reason(statistics.rejected_items),
        dropped_items=_by_reason(exporter.queue.dropped),
        last_success_at=statistics.last_success_at,
        last_error=statistics.last_error,
        last_error_at=statistics.last_error_at,
        retry_in_seconds=exporter.retry_in_seconds,
    )


def without_credentials(endpoint: str) -> str:
    """A URL without the user, the password and the query that may stand in it."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

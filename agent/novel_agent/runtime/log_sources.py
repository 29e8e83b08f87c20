"""The sources of logs there are, by the configuration: each read by a task of its own, their positions kept in one file.

A source is made, kept or taken down by name. One whose settings did not change in a reload goes on undisturbed; one that
changed settles what is in flight and is read on by its successor; one that is gone leaves its positions, for when it is back.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from novel_agent.config.schema import Config, LogSource
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.model.point import MetricGroup
from novel_agent.model.resource import Resource
from novel_agent.model.value import Origin
from novel_agent.runtime.destinations import Destinations
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.log_reading import Reading, Tally
from novel_agent.runtime.status import LogSourceStatus
from novel_agent.runtime.supervise import Supervisor
from novel_agent.state.checkpoints import Checkpoints, SourcePositions
from novel_agent.wire.otlp import encode_resource
from novel_agent.wire.protobuf import length_delimited, text, varint

log = get_logger("logs")

SETTLE_SECONDS = 5.0
_WRITE_SECONDS = 1.0
_NANOS = 1_000_000_000

_BY_SOURCE = ("source",)
READ_BYTES = Family("novel_agent_log_read_bytes_total", "Bytes of logs read.", "counter", _BY_SOURCE)
RECORDS = Family(
    "novel_agent_log_records_total", "Log records read that are safe in every spool that takes them.", "counter",
    _BY_SOURCE,
)  # fmt: skip
LAG_BYTES = Family("novel_agent_log_lag_bytes", "Bytes of log files that are not read yet.", "gauge", _BY_SOURCE)
LAG_SECONDS = Family(
    "novel_agent_log_lag_seconds", "How long the end of the file that is furthest behind has not been reached.", "gauge",
    _BY_SOURCE,
)  # fmt: skip
FILES = Family("novel_agent_log_files", "Log files that are followed.", "gauge", _BY_SOURCE)
IN_FLIGHT = Family("novel_agent_log_in_flight_bytes", "Records read that are not safe yet.", "gauge", _BY_SOURCE)
TRUNCATED = Family("novel_agent_log_truncated_records_total", "Records that were cut.", "counter", _BY_SOURCE)
REPLACED = Family(
    "novel_agent_log_replaced_characters_total", "Characters that are not valid in the encoding of their file.", "counter",
    _BY_SOURCE,
)  # fmt: skip
ERRORS = Family(
    "novel_agent_log_parse_errors_total", "Lines that are not valid in the configured format; they are sent as they are.",
    "counter", ("source", "reason"),
)  # fmt: skip
DROPPED = Family(
    "novel_agent_log_dropped_records_total", "Records that a step left out.", "counter", ("source", "reason")
)
_PER_SOURCE = (READ_BYTES, RECORDS, LAG_BYTES, LAG_SECONDS, FILES, IN_FLIGHT, TRUNCATED, REPLACED)

_OF_THE_HOST = ("cloud.", "host.", "k8s.cluster.", "k8s.node.", "os.")
"""What holds for everything on this host."""

_SCOPE = length_delimited(1, text(1, "novel-engine-agent"))
_ORIGIN = Origin(resource={"service.name": "novel-engine-agent"}, scope="novel-engine-agent")

Save = Callable[[SourcePositions], object]


class _Source:
    """One source as configured, and what reads it. `reader` is the module's Files or Journal that `reading` has made last."""

    def __init__(self, source: LogSource, reading: "Reading[Any, Any]", steps: Any) -> None:
        self.source = source
        self.reading = reading
        self.steps = steps

    @property
    def task_name(self) -> str:
        return f"logs {self.source.name}"


class LogSources:
    """Every source of logs, by name.

    `resource` is the host's, `offer` shows batches to whoever watches, `level` is that of the agent's budget.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        destinations: Destinations,
        left_behind: LeftBehind,
        state_directory: str,
        executor: Executor,
        resource: Callable[[], Resource],
        *,
        offer: Callable[[Batch, str], object] = lambda batch, source: None,
        level: Callable[[], int] = lambda: 0,
    ) -> None:
        self._supervisor = supervisor
        self._destinations = destinations
        self._left_behind = left_behind
        self._executor = executor
        self._resource = resource
        self._offer = offer
        self._level = level
        self._checkpoints = Checkpoints(state_directory)
        self._configured: Mapping[str, str] = {}
        self._positions: dict[str, SourcePositions] = {}
        self._fresh: set[str] = set()
        self._changed = asyncio.Event()
        self._write_failed = ""
        self._here: dict[str, _Source] = {}
        self._tallies: dict[str, Tally] = {}
        self._shapes = ShapeMemo()
        self._is_open = False
        self._steps_before: dict[str, Any] = {}

    async def _open(self) -> None:
        loaded = await asyncio.get_running_loop().run_in_executor(self._executor, self._checkpoints.load)
        if loaded.problem:
            log.error(
                "positions of log files cannot be used, files are read as if seen for the first time",
                reason=loaded.problem,
                moved_to=loaded.moved_to,
            )
        self._positions = dict(loaded.sources)
        self._supervisor.start("log positions", self._keep_positions)
        self._is_open = True

    async def configure(self, config: Config) -> None:
        """Read what this configuration names; cannot fail."""
        self._configured = config.resource.attributes
        if config.logs and not self._is_open:
            await self._open()
        wanted = {source.name: source for source in config.logs}
        for name, here in list(self._here.items()):
            if wanted.get(name) != here.source:
                await self._take_down(here, keep=name in wanted)
        for name, source in wanted.items():
            if name not in self._here:
                self._put_in_place(source)
            else:
                self._here[name].reading.wake()  # somebody may take records now
        self._here = {name: self._here[name] for name in wanted}
        self._steps_before.clear()

    def _put_in_place(self, source: LogSource) -> None:
        steps = _steps_of(source, self._steps_before.get(source.name))
        resource = _ResourceOf(source, self._resource, lambda: self._configured)

        async def publish(records: Sequence[bytes], items: int) -> None:
            payload = _payload(resource(), records)
            batch = Batch("logs", payload, items)
            self._destinations.refuse_if_full("logs", len(payload))
            await self._destinations.publish(batch, durable=True)
            self._offer(batch, source.name)

        tally = self._tallies.setdefault(source.name, Tally())
        reading: Reading[Any, Any] = Reading(
            source.name,
            lambda: self._reader(source, steps, tally),
            publish,
            left_behind=self._left_behind,
            tally=tally,
            wanted=lambda: self._is_taken(steps),
            pause_factor=lambda: (0, 1, 3, 9)[self._level()],
        )
        here = self._here[source.name] = _Source(source, reading, steps)
        self._supervisor.start(here.task_name, reading.run)

    def _reader(self, source: LogSource, steps: Any, tally: Tally) -> Any:
        saved = self._positions.get(source.name)

        def save(positions: SourcePositions) -> None:
            self._positions[source.name] = positions
            self._fresh.add(source.name)
            self._changed.set()

        if source.journal is not None:
            from novel_agent.runtime.log_journal import JournalReader

            return JournalReader(source, saved, steps, tally, save)
        from novel_agent.runtime.log_files import FileReader

        return FileReader(source, saved, steps, tally, save)

    def _is_taken(self, steps: Any) -> bool:
        """Whether anybody wants records: a destination, or a metric that is made of them."""
        return bool(steps is not None and steps.measures) or any(
            "logs" in each.exporter.signals for each in self._destinations
        )

    async def _take_down(self, here: _Source, *, keep: bool) -> None:
        del self._here[here.source.name]
        await self._supervisor.stop(here.task_name)
        await here.reading.settle(SETTLE_SECONDS)
        here.reading.close()
        if keep and here.steps is not None:
            self._steps_before[here.source.name] = here.steps
        if here.reading.reader is not None:
            here.reading.reader.close()

    async def stop(self) -> None:
        """Read nothing more, make safe what was read, and write down how far."""
        await asyncio.gather(*(self._take_down(here, keep=False) for here in list(self._here.values())))
        await self._supervisor.stop("log positions")
        if self._is_open:
            await self._write(at_once=True)

    async def _keep_positions(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(_WRITE_SECONDS)
            self._changed.clear()
            await self._write()

    async def _write(self, *, at_once: bool = False) -> None:
        """Not while another is under way: there is one task that calls it."""
        for name in self._fresh:
            self._checkpoints.put(name, self._positions[name])
        self._fresh.clear()
        error = await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: self._checkpoints.write(time.monotonic(), at_once=at_once)
        )
        reason = "" if error is None else error.strerror or str(error)
        if reason and reason != self._write_failed:
            log.warning("positions of log files cannot be written, those before stay", reason=reason)
        elif self._write_failed and not reason:
            log.info("positions of log files are written again")
        self._write_failed = reason
        if reason:
            self._changed.set()

    # what can be asked ------------------------------------------------------------------------------------------------

    def status(self) -> list[LogSourceStatus]:
        """Each source, in the order of the configuration."""
        return [_status(here) for here in self._here.values()]

    def measured(self, now_nanos: int) -> Sequence[Batch]:
        """Metrics made of records, as OTLP."""
        metrics = [
            metric
            for here in self._here.values()
            if here.steps is not None
            for metric in here.steps.metrics(now_nanos / _NANOS)
        ]
        if not metrics:
            return ()
        from novel_agent.wire.otlp_write import write_metrics

        points = sum(len(metric.points) for metric in metrics)
        return [Batch("metrics", write_metrics([MetricGroup(_ORIGIN, metrics, [])]), points)]

    def blocks(self) -> list[Block]:
        """The sources, and what was measured in their records, as series."""
        if not self._here:
            return []
        statuses = self.status()
        names = tuple(each.name for each in statuses)
        shape = self._shapes.get(
            "sources", names, lambda: [family.series(name) for family in _PER_SOURCE for name in names]
        )
        rows = [_figures(each, self._here[each.name].reading) for each in statuses]
        return [
            Block(shape, [row[index] for index in range(len(_PER_SOURCE)) for row in rows]),
            self._counted(ERRORS, {(each.name, reason): n for each in statuses for reason, n in each.errors.items()}),
            self._counted(DROPPED, {(each.name, reason): n for each in statuses for reason, n in each.dropped.items()}),
        ]

    def measures(self, now: float) -> list[Block]:
        """What the sources' own rules measure, as series; the names are the configuration's."""
        return [block for here in self._here.values() if here.steps is not None for block in here.steps.blocks(now)]

    def _counted(self, family: Family, counts: Mapping[tuple[str, ...], int]) -> Block:
        keys = tuple(counts)
        shape = self._shapes.get(family.name, keys, lambda: [family.series(*labels) for labels in keys])
        return Block(shape, list(counts.values()))


def _payload(resource: bytes, records: Sequence[bytes]) -> bytes:
    """One ResourceLogs of one ScopeLogs, in one copy."""
    size = len(_SCOPE) + sum(map(len, records))
    scope = b"\x12" + varint(size)
    return b"".join([b"\x0a", varint(len(resource) + len(scope) + size), resource, scope, _SCOPE, *records])


class _ResourceOf:
    """The `resource` field of a source's records: of this host, as configured for everything, as configured for the source.

    Where nothing names the service it is the source.
    """

    def __init__(
        self, source: LogSource, resource: Callable[[], Resource], configured: Callable[[], Mapping[str, str]]
    ) -> None:
        self._source = source
        self._resource = resource
        self._configured = configured
        self._made_of: tuple[object, object] = (None, None)
        self._encoded = b""

    def __call__(self) -> bytes:
        made_of = resource, configured = self._resource(), self._configured()
        if made_of[0] is not self._made_of[0] or made_of[1] is not self._made_of[1]:
            self._made_of = made_of
            of_host = [label for label in resource.attributes if label[0].startswith(_OF_THE_HOST)]
            service = {"service.name": self._source.name}
            merged = Resource.merged(of_host, service, configured, self._source.resource)
            self._encoded = encode_resource(merged)
        return self._encoded


def _steps_of(source: LogSource, before: Any) -> Any:
    if not source.processors:
        return None
    from novel_agent.processors.log_steps import make_steps
    from novel_agent.runtime.spans import linear

    return make_steps(source.processors, linear, before)


def _status(here: _Source) -> LogSourceStatus:
    reading, tally, reader = here.reading, here.reading.tally, here.reading.reader
    files, reason, position = ([], "", "") if reader is None else reader.about(time.monotonic())
    return LogSourceStatus(
        name=here.source.name,
        kind="files" if here.source.journal is None else "journal",
        state=reading.state,
        reason=reading.reason or reason,
        records=tally.records,
        records_per_second=round(tally.a_second(time.monotonic()), 2),
        read_bytes=tally.read_bytes,
        errors=dict(tally.errors),
        dropped={} if here.steps is None else dict(here.steps.dropped),
        replaced_characters=tally.replaced_characters,
        truncated=tally.truncated,
        lag_bytes=sum(each.lag_bytes for each in files),
        lag_seconds=max((each.lag_seconds for each in files), default=0.0),
        position=position,
        files=files,
    )


def _figures(status: LogSourceStatus, reading: "Reading[Any, Any]") -> tuple[int | float, ...]:
    return (
        status.read_bytes,
        status.records,
        status.lag_bytes,
        status.lag_seconds,
        len(status.files),
        reading.in_flight_bytes,
        status.truncated,
        status.replaced_characters,
    )

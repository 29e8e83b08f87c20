"""Log files to records, positions and status, by the sources of a configuration."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from novel_agent.config.schema import Config, LogFilter, LogMatch, LogMetric, LogSource, LogStep, Multiline
from novel_agent.config.schema import Resource as ResourceSection
from novel_agent.model.resource import Resource
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.log_sources import LogSources
from novel_agent.runtime.supervise import Supervisor
from novel_agent.state.queue import QueueFull

HOST = Resource((("host.name", "vm-1"), ("process.pid", "1"), ("os.type", "linux")))


class Taker:
    """Stands for the destinations: keeps what is published, or refuses it."""

    def __init__(self):
        self.signals = ("logs",)
        self.exporter = self
        self.batches = []
        self.full = False

    def __iter__(self):
        return iter([self] if self.signals else [])

    def refuse_if_full(self, signal, size_bytes):
        if self.full:
            raise QueueFull("the spool of central is full")

    async def publish(self, batch, *, durable):
        assert durable
        self.batches.append(batch)

    @property
    def groups(self):
        groups = []
        for batch in self.batches:
            request = ExportLogsServiceRequest()
            request.ParseFromString(batch.payload)
            assert batch.items == sum(len(s.log_records) for g in request.resource_logs for s in g.scope_logs)
            groups += request.resource_logs
        return groups

    @property
    def records(self):
        return [record for group in self.groups for scope in group.scope_logs for record in scope.log_records]

    @property
    def bodies(self):
        return [record.body.string_value for record in self.records]


class Running:
    def __init__(self, state_directory):
        self.taker = Taker()
        self.supervisor = Supervisor()
        self.executor = ThreadPoolExecutor(2)
        self.offered = []
        self.sources = LogSources(
            self.supervisor, self.taker, LeftBehind(), str(state_directory), self.executor, lambda: HOST,
            offer=lambda batch, source: self.offered.append((source, batch.items)),
        )  # fmt: skip

    async def configure(self, *sources, **attributes):
        await self.sources.configure(Config(logs=sources, resource=ResourceSection(attributes=attributes)))

    async def until(self, holds):
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.005)

    def status(self, name="app"):
        return next(each for each in self.sources.status() if each.name == name)

    async def stop(self):
        await self.sources.stop()
        await self.supervisor.stop_all()
        self.executor.shutdown()


@pytest.fixture
async def run(tmp_path):
    running = []

    def start():
        running.append(Running(tmp_path / "state"))
        return running[-1]

    (tmp_path / "state").mkdir()
    yield start
    for each in running:
        await each.stop()


def source(tmp_path, **options):
    return LogSource(name="app", paths=(f"{tmp_path}/*.log",), **options)


def append(path, *lines):
    with open(path, "a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def attributes_of(thing):
    return {each.key: each.value.string_value for each in thing.attributes}


async def test_lines_become_records_of_this_host_and_service(run, tmp_path):
    append(tmp_path / "a.log", '{"message":"one","level":"warn"}')
    agent = run()
    await agent.configure(source(tmp_path, format="json"), **{"deployment.environment.name": "test"})
    await agent.until(lambda: agent.taker.bodies == ["one"])
    assert attributes_of(agent.taker.groups[0].resource) == {
        "host.name": "vm-1",
        "os.type": "linux",
        "service.name": "app",
        "deployment.environment.name": "test",
    }
    (record,) = agent.taker.records
    assert record.severity_number == 13
    assert attributes_of(record)["log.file.path"] == f"{tmp_path}/a.log"
    assert agent.offered == [("app", 1)]


async def test_the_source_names_its_service_over_the_configuration(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    await agent.configure(source(tmp_path, resource={"service.name": "nginx"}), **{"service.name": "novel-engine"})
    await agent.until(lambda: agent.taker.bodies == ["one"])
    assert attributes_of(agent.taker.groups[0].resource)["service.name"] == "nginx"


async def test_reading_goes_on_where_it_was_when_the_agent_stopped(run, tmp_path):
    append(tmp_path / "a.log", "one")
    first = run()
    await first.configure(source(tmp_path))
    await first.until(lambda: first.taker.bodies == ["one"])
    await first.sources.stop()
    append(tmp_path / "a.log", "two")
    second = run()
    await second.configure(source(tmp_path))
    await second.until(lambda: second.taker.bodies)
    assert second.taker.bodies == ["two"]


async def test_positions_are_written_while_it_runs(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    await agent.configure(source(tmp_path))

    def offset():
        try:
            (file,) = json.loads((tmp_path / "state" / "positions.json").read_bytes())["sources"]["app"]["files"]
        except (FileNotFoundError, ValueError):
            return None
        return file["offset"]

    await agent.until(lambda: offset() == 4)


async def test_a_traceback_is_one_record_and_is_not_passed_over_before_it_is_whole(run, tmp_path):
    append(tmp_path / "a.log", "ERROR failed", "Traceback (most recent call last):", '  File "x", line 1')
    agent = run()
    multiline = Multiline(preset="python", timeout_seconds=60.0)
    await agent.configure(source(tmp_path, multiline=multiline))
    await agent.until(lambda: agent.status().files and agent.status().files[0].read_offset > 0)
    assert agent.taker.bodies == []
    assert agent.status().files[0].committed_offset == 0
    append(tmp_path / "a.log", "ValueError: x", "INFO next", "INFO after")
    await agent.until(lambda: len(agent.taker.bodies) >= 2)
    assert agent.taker.bodies[0].splitlines()[::3] == ["ERROR failed", "ValueError: x"]


async def test_what_waits_for_its_next_line_is_sent_when_its_time_is_over(run, tmp_path):
    append(tmp_path / "a.log", "one", "  more")
    agent = run()
    await agent.configure(source(tmp_path, multiline=Multiline(start="[a-z]", timeout_seconds=0.05)))
    await agent.until(lambda: agent.taker.bodies == ["one\n  more"])
    await agent.until(lambda: agent.status().files[0].committed_offset == 11)


async def test_steps_work_on_records_and_what_they_leave_out_is_counted_and_passed(run, tmp_path):
    steps = (
        LogStep(filter=LogFilter(drop=LogMatch(body="health"))),
        LogStep(count=LogMetric(name="lines.seen")),
    )
    append(tmp_path / "a.log", "GET /health", "GET /stories", "GET /health")
    agent = run()
    await agent.configure(source(tmp_path, processors=steps))
    await agent.until(lambda: agent.status().files and agent.status().files[0].committed_offset == 37)
    assert agent.taker.bodies == ["GET /stories"]
    assert agent.status().dropped == {"filter": 2}
    (batch,) = agent.sources.measured(1_764_000_000_000_000_000)
    assert (batch.signal, batch.items) == ("metrics", 1)
    assert [block.shape.series[0].family.name for block in agent.sources.measures(1_764_000_000.0)] == [
        "lines_seen_total"
    ]


async def test_lines_that_are_not_of_the_format_are_counted_by_reason(run, tmp_path):
    append(tmp_path / "a.log", '{"message":"one"}', "no json")
    agent = run()
    await agent.configure(source(tmp_path, format="json"))
    await agent.until(lambda: len(agent.taker.records) == 2)
    assert agent.status().errors == {"not JSON": 1}
    assert agent.status().files[0].errors == 1


async def test_nothing_is_read_and_nothing_lost_while_no_export_takes_logs(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    agent.taker.signals = ()
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.status().state == "waiting")
    assert agent.status().reason == "no export takes logs"
    agent.taker.signals = ("logs",)
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.taker.bodies == ["one"])


async def test_a_full_spool_that_blocks_is_waited_for(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    agent.taker.full = True
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.status().reason == "the spool of central is full")
    assert agent.status().files[0].committed_offset == 0
    agent.taker.full = False
    await agent.until(lambda: agent.status().state == "idle" and agent.status().files[0].committed_offset == 4)
    assert agent.taker.bodies == ["one"]


async def test_a_source_that_changes_is_read_on_and_one_that_goes_keeps_its_place(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.taker.bodies == ["one"])
    await agent.configure(source(tmp_path, multiline=Multiline(start=".", timeout_seconds=0.05)))
    append(tmp_path / "a.log", "two")
    await agent.until(lambda: agent.taker.bodies == ["one", "two"])
    await agent.configure()
    assert agent.sources.status() == []
    append(tmp_path / "a.log", "three")
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.taker.bodies == ["one", "two", "three"])
    assert agent.status().records == 3


async def test_positions_that_cannot_be_used_are_moved_aside(run, tmp_path, caplog):
    (tmp_path / "state" / "positions.json").write_text("{")
    append(tmp_path / "a.log", "one")
    agent = run()
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.taker.bodies == ["one"])
    assert (tmp_path / "state" / "positions.json.damaged-1").read_text() == "{"
    assert "positions of log files cannot be used" in caplog.text


async def test_its_series_name_each_source(run, tmp_path):
    append(tmp_path / "a.log", "one")
    agent = run()
    await agent.configure(source(tmp_path))
    await agent.until(lambda: agent.status().records == 1 and agent.status().lag_bytes == 0)
    shown = {
        series.family.name: value
        for block in agent.sources.blocks()
        for series, value in zip(block.shape.series, block.values, strict=True)
    }
    assert shown["novel_agent_log_read_bytes_total"] == 4
    assert shown["novel_agent_log_records_total"] == 1
    assert shown["novel_agent_log_files"] == 1
    assert shown["novel_agent_log_lag_bytes"] == 0

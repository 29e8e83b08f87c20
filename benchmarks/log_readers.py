"""Starting what reads log files: ours and the OpenTelemetry Collector.

Both watch the `logs` directory of a place of their own. They begin with a file of one line, and have begun when that line is
at the sink.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.log_lines import MARK
from benchmarks.measure import REPOSITORY, cpu_seconds, find, free_port, resident_bytes, running

STARTED_SECONDS = 30.0
QUIET_SECONDS = 30.0
SETTLED_SECONDS = 1.5
"""After the last record: positions are noted within a second."""
_MIB = 1 << 20
_FIRST_LINE = {"timestamp": "2026-11-23T02:59:59+00:00", "level": "info", "message": f"Begun, {MARK}"}

COLLECTOR = """
receivers:
  filelog:
    include: ['LOGS/*.log']
    start_at: beginning
OPERATORS
processors: {batch: {send_batch_size: 2000, timeout: 200ms}}
exporters:
  otlp_http: {endpoint: 'SINK', compression: COMPRESSION, sending_queue: {block_on_overflow: true}}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines: {logs: {receivers: [filelog], processors: [batch], exporters: [otlp_http]}}
"""
_OPERATORS = """
    operators:
      - type: json_parser
        timestamp: {parse_from: attributes.timestamp, layout_type: gotime, layout: '2006-01-02T15:04:05.999999Z07:00'}
        severity: {parse_from: attributes.level}
      - type: trace_parser
        trace_id: {parse_from: attributes.trace_id}
        span_id: {parse_from: attributes.span_id}
      - {type: move, from: attributes.message, to: body}
"""


class Job(NamedTuple):
    """How lines are to be read and sent."""

    compression: str = "gzip"
    attributes: str = "all"


class Sink(NamedTuple):
    """Where it goes; see log_sink."""

    url: str

    def get(self, path: str = "/") -> Any:
        """What it says."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    @property
    def records(self) -> int:
        """How many lines are there."""
        return int(self.get()["records"])

    def wait(self, records: int) -> None:
        """Until so many lines are there; ends the run where none has come for QUIET_SECONDS."""
        last, last_at = -1, time.monotonic()
        while (now := self.records) < records:
            if now > last:
                last, last_at = now, time.monotonic()
            elif time.monotonic() > last_at + QUIET_SECONDS:
                raise SystemExit(f"{now} of {records} lines have come, and no more do")
            time.sleep(0.05)


Start = Callable[[Path, Sink, Job], AbstractContextManager[int]]


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """The sink in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-m", "benchmarks.log_sink", str(port)], url):
        yield Sink(url)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A directory with `logs` in it, on the disk that the state of the agent is on."""
    kept = REPOSITORY / ".state"
    with tempfile.TemporaryDirectory(dir=kept if kept.exists() else None) as directory:
        (Path(directory) / "logs").mkdir()
        yield Path(directory)


def ours(
    directory: Path, destination: Sink, job: Job, more: Mapping[str, Any] | None = None
) -> AbstractContextManager[int]:
    """The agent with one source and one destination, and nothing else to do; gives its pid. `more` replaces sections."""
    port = free_port()
    source = {
        "name": "application",
        "paths": [f"{directory}/logs/*.log"],
        "format": "json",
        "attributes": job.attributes,
    }
    export = {"name": "sink", "endpoint": destination.url, "compression": job.compression, "signals": ["logs"]}
    config = directory / "agent.json"
    config.write_text(json.dumps({"host": {"interval": "1h"}, "logs": [source], "export": [export], **(more or {})}))
    command = [sys.executable, "-m", "novel_agent", "run", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    command += ["--state-dir", f"{directory}/state", "--log-level", "warning"]
    return running(command, f"http://127.0.0.1:{port}/-/ready")


@contextlib.contextmanager
def collector(directory: Path, destination: Sink, job: Job) -> Iterator[int]:
    """The OpenTelemetry Collector, in memory; it says nowhere that it is ready, so its pid is given at once."""
    config = directory / "collector.yaml"
    text = COLLECTOR.replace("OPERATORS", _OPERATORS if job.attributes == "all" else "")
    text = text.replace("LOGS", f"{directory}/logs").replace("SINK", destination.url)
    config.write_text(text.replace("COMPRESSION", job.compression))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([find("otelcol"), f"--config={config}"], stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def begun(start: Start, directory: Path, job: Job) -> Iterator[tuple[int, Sink]]:
    """A reader whose first line has arrived; its pid and its sink."""
    (directory / "logs" / "first.log").write_text(json.dumps(_FIRST_LINE) + "\n")
    with sink() as destination, start(directory, destination, job) as pid:
        destination.wait(1)
        time.sleep(SETTLED_SECONDS)
        yield pid, destination


class Load(NamedTuple):
    """What it took to read a file."""

    microseconds_a_line: float
    wall_seconds: float
    wire_bytes_a_line: float
    idle_mib: float
    peak_mib: float


def read(start: Start, directory: Path, job: Job, file: Path, lines: int) -> Load:
    """Have a file of lines read that appears at once; CPU is of the reader's process until all is at the sink and noted."""
    with begun(start, directory, job) as (pid, destination):
        before = destination.get()
        idle_bytes = resident_bytes(pid)
        forget_peak(pid)
        began, cpu = time.monotonic(), cpu_seconds(pid)
        (directory / "logs" / "application.log").hardlink_to(file)
        destination.wait(before["records"] + lines)
        took = time.monotonic() - began
        time.sleep(SETTLED_SECONDS)
        spent = cpu_seconds(pid) - cpu
        after = destination.get()
        if after["records"] != before["records"] + lines:
            raise SystemExit(f"{after['records'] - before['records']} lines have come of {lines}")
        wire_bytes = after["wire_bytes"] - before["wire_bytes"]
        return Load(1e6 * spent / lines, took, wire_bytes / lines, idle_bytes / _MIB, peak_bytes(pid) / _MIB)


def forget_peak(pid: int) -> None:
    """Have VmHWM begin anew (proc_pid_clear_refs(5)), so that starting is not in it; where that is permitted."""
    with contextlib.suppress(PermissionError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """VmHWM."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("VmHWM"))

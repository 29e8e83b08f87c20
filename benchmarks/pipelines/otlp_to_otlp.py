"""OTLP/HTTP in, OTLP/HTTP out: spans per core-second of ours, the Collector and rotel.

Goal: what it costs to take the application's traces and forward them. 100 spans of 10 attributes a request (43 kB), protobuf,
wrk with 16 connections for ten seconds, no compression towards the sink; CPU is user and system time of the forwarding process
from the start of the load until the sink has everything. Ours keeps everything on disk with fsync before it answers. The
Collector runs in memory with its batch processor, and with its file_storage queue and fsync, rotel in memory: it has no queue
on disk. They take turns, three rounds, medians; the machine is shared, so read the ratios. Then ours alone: with processors
(a round each, against ours without), at 1,000 requests a second, and with a gibibyte waiting.

Limits: one body, loopback, two cores shared with wrk and the sink. Wire volume, back-pressure and time outs are others' cases.
The interpreter is the one that runs this: built with profile-guided optimisation (Debian's is) it takes about a fifth less.
"""

import contextlib
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import REPOSITORY, Row, cpu_seconds, find, free_port, resident_bytes, running

SPANS = 100
ATTRIBUTES = 10
SECONDS = 10
ROUNDS = 3
CONNECTIONS = 16
PACED_RATE = 1000
PACED_SECONDS = 10
BACKLOG_BYTES = 1 << 30
_SPANS_A_TRACE = 5
_SETTLED_SECONDS = 60.0
_QUIET_SECONDS = 1.0
_MIB = 1 << 20

COLLECTOR = """
receivers:
  otlp: {protocols: {http: {endpoint: '127.0.0.1:PORT'}}}
BATCH
exporters:
  otlp_http: {endpoint: 'SINK', compression: none, sending_queue: {queue_size: 5000STORAGE}}
service:
  EXTENSIONS
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {traces: {receivers: [otlp], PROCESSORSexporters: [otlp_http]}}
"""
_BATCH = "processors:\n  batch: {send_batch_size: 8192, timeout: 200ms}\n"
_FILE = "extensions:\n  file_storage: {directory: DIRECTORY, fsync: true}\n"


class Forwarder(NamedTuple):
    """A program that forwards: its pid and where it takes OTLP over HTTP."""

    pid: int
    url: str


class Load(NamedTuple):
    """What came of one load."""

    spans_per_core_second: float
    resident_bytes: int
    p99_ms: float
    refused: int


def body() -> bytes:
    """One request of spans as an application's SDK sends them, the same in every run."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (
        ("service.name", "novel-engine"),
        ("service.version", "1.0"),
        ("telemetry.sdk.language", "python"),
    ):
        attribute = resource.resource.attributes.add()
        attribute.key, attribute.value.string_value = key, value
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    began = time.time_ns()
    draw = random.Random(1).randbytes
    for number in range(SPANS):
        if number % _SPANS_A_TRACE == 0:
            trace = draw(16)
        span = scope.spans.add(
            trace_id=trace, span_id=draw(8), parent_span_id=draw(8), name="GET /api/stories/{story_id}", kind=2,
            start_time_unix_nano=began, end_time_unix_nano=began + 25_000_000,
        )  # fmt: skip
        for index in range(ATTRIBUTES):
            attribute = span.attributes.add()
            attribute.key = f"http.attribute.{index}"
            if index % 3:
                attribute.value.string_value = f"some value {number:06d}"
            else:
                attribute.value.int_value = number * 1000 + index
    return request.SerializeToString()


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The sink in a process of its own; its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-m", "benchmarks.counting_sink", str(port)], url):
        yield url


def received(sink_url: str) -> int:
    """Bytes of bodies that the sink has."""
    with urllib.request.urlopen(sink_url, timeout=30) as answer:
        return int(answer.read())


@contextlib.contextmanager
def ours(directory: str, sink_url: str, **traces: object) -> Iterator[Forwarder]:
    """The agent with the shipped conf.d, a receiver and one destination."""
    api, port = free_port(), free_port()
    config = Path(directory) / "agent.json"
    export = {
        "name": "sink",
        "endpoint": sink_url,
        "compression": "none",
        "signals": ["traces"],
        "spool": {"size": "2GiB"},
    }
    receiver = {"http": f"127.0.0.1:{port}"}
    config.write_text(json.dumps({"otlp_receiver": receiver, "traces": traces, "export": [export]}))
    command = [sys.executable, "-m", "novel_agent", "run", "--config", str(config), "--listen", f"127.0.0.1:{api}"]
    command += ["--state-dir", f"{directory}/state", "--log-level", "warning"]
    with running(command, f"http://127.0.0.1:{api}/-/ready") as pid:
        yield Forwarder(pid, f"http://127.0.0.1:{port}/v1/traces")


@contextlib.contextmanager
def collector(directory: str, sink_url: str, *, on_disk: bool) -> Iterator[Forwarder]:
    """The OpenTelemetry Collector."""
    port = free_port()
    text = COLLECTOR.replace("PORT", str(port)).replace("SINK", sink_url)
    if on_disk:
        storage = Path(directory) / "storage"
        storage.mkdir()
        text = text.replace("BATCH\n", _FILE.replace("DIRECTORY", str(storage))).replace(
            "STORAGE", ", storage: file_storage"
        )
        text = text.replace("EXTENSIONS", "extensions: [file_storage]").replace("PROCESSORS", "")
    else:
        text = text.replace("BATCH\n", _BATCH).replace("STORAGE", "").replace("  EXTENSIONS\n", "")
        text = text.replace("PROCESSORS", "processors: [batch], ")
    config = Path(directory) / "collector.yaml"
    config.write_text(text)
    with _started([find("otelcol"), f"--config={config}"], port) as pid:
        yield Forwarder(pid, f"http://127.0.0.1:{port}/v1/traces")


@contextlib.contextmanager
def rotel(directory: str, sink_url: str) -> Iterator[Forwarder]:
    """Rotel, in memory."""
    port, other = free_port(), free_port()
    command = [find("rotel"), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}"]
    command += [
        "--otlp-grpc-endpoint",
        f"127.0.0.1:{other}",
        "--exporter",
        "otlp",
        "--otlp-exporter-endpoint",
        sink_url,
    ]
    command += ["--otlp-exporter-protocol", "http", "--otlp-exporter-compression", "none"]
    with _started(command, port) as pid:
        yield Forwarder(pid, f"http://127.0.0.1:{port}/v1/traces")


@contextlib.contextmanager
def _started(command: list[str], port: int) -> Iterator[int]:
    """A program that listens on a port."""
    import socket

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise SystemExit(f"{command[0]} does not start: {log.read().decode()}") from None
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def load(forwarder: Forwarder, sink_url: str, directory: str, size_bytes: int) -> Load:
    """Ten seconds of wrk, and the time until of each request so many bytes have arrived, or no more come."""
    script = Path(directory) / "post.lua"
    script.write_text(
        f'local f = io.open("{directory}/body", "rb")\nwrk.method = "POST"\nwrk.body = f:read("*a")\nf:close()\n'
        'wrk.headers["Content-Type"] = "application/x-protobuf"\n'
    )
    before, cpu = received(sink_url), cpu_seconds(forwarder.pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script), forwarder.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    good = requests - (int(bad[1]) if bad else 0)
    _settle(sink_url, before + int(good * size_bytes * 0.99))
    spent = cpu_seconds(forwarder.pid) - cpu
    p99 = re.search(r"99%\s+([0-9.]+)(us|ms|s)\b", said)
    milliseconds = float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]] if p99 else 0.0
    return Load(good * SPANS / spent, _peak_bytes(forwarder.pid), milliseconds, requests - good)


def _settle(sink_url: str, wanted_bytes: int) -> None:
    """Wait until the sink has so much, or nothing more has come for a while."""
    began = last_at = time.monotonic()
    last = 0
    while last < wanted_bytes and time.monotonic() < min(began + _SETTLED_SECONDS, last_at + _QUIET_SECONDS):
        time.sleep(0.1)
        now = received(sink_url)
        if now > last:
            last, last_at = now, time.monotonic()


def _peak_bytes(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 if match else resident_bytes(pid)


CONTENDERS = {
    "ours": ours,
    "collector": lambda directory, url: collector(directory, url, on_disk=False),
    "collector fsync": lambda directory, url: collector(directory, url, on_disk=True),
    "rotel": rotel,
}


def run() -> list[Row]:
    """Three rounds of everybody, then ours at a fixed rate, with processors, and with a backlog."""
    loads: dict[str, list[Load]] = {name: [] for name in CONTENDERS}
    request = body()
    with tempfile.TemporaryDirectory() as common, sink() as sink_url:
        (Path(common) / "body").write_bytes(request)
        for _ in range(ROUNDS):
            for name, start in CONTENDERS.items():
                loads[name].append(_one(start, common, sink_url, len(request)))
                print(f"# {name}: {loads[name][-1]}", file=sys.stderr, flush=True)
        with_metrics = _one(lambda d, u: ours(d, u, span_metrics=True), common, sink_url, len(request))
        sampled = _one(lambda d, u: ours(d, u, head_sampling=0.1), common, sink_url, len(request))
        p99_ms = _paced(common, sink_url)
    backlog_mib = _backlog(request)
    median = {name: statistics.median(each.spans_per_core_second for each in rounds) for name, rounds in loads.items()}
    memory = {name: max(each.resident_bytes for each in rounds) / _MIB for name, rounds in loads.items()}
    own = 1e6 / median["ours"]
    return [
        Row("otlp_to_otlp", "us a span", own, 1e6 / median["collector"], "Collector in memory", "otlp_collector"),
        Row(
            "otlp_to_otlp", "us a span", own, 1e6 / median["collector fsync"], "Collector, file, fsync", "otlp_storage"
        ),
        Row("otlp_to_otlp", "us a span", own, 1e6 / median["rotel"], "rotel in memory", "otlp_rotel"),
        Row(
            "otlp span_metrics",
            "us a span",
            1e6 / with_metrics.spans_per_core_second,
            own,
            "without",
            "otlp_span_metrics",
        ),
        Row("otlp head_sampling", "us a span", 1e6 / sampled.spans_per_core_second, own, "without", "otlp_sampling"),
        Row("otlp_to_otlp", "MiB peak", memory["ours"], memory["collector"], "Collector in memory", "otlp_memory"),
        Row("otlp backlog 1 GiB", "MiB peak", backlog_mib, None, "", "otlp_memory"),
        Row("otlp 1,000 a second", "ms p99", p99_ms, None, "", "otlp_p99"),
    ]


def _one(start: object, common: str, sink_url: str, size_bytes: int) -> Load:
    with tempfile.TemporaryDirectory(
        dir=REPOSITORY / ".state" if (REPOSITORY / ".state").exists() else None
    ) as directory:
        shutil.copy(f"{common}/body", f"{directory}/body")
        with start(directory, sink_url) as forwarder:  # type: ignore[operator]
            return load(forwarder, sink_url, directory, size_bytes)


def _paced(common: str, sink_url: str) -> float:
    with tempfile.TemporaryDirectory() as directory, ours(directory, sink_url) as forwarder:
        command = [sys.executable, "-m", "benchmarks.paced_client", forwarder.url, f"{common}/body"]
        command += [str(PACED_RATE), str(PACED_SECONDS)]
        said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"# paced: {said}", file=sys.stderr)
        return float(said["latencies_ms"][2])


def _backlog(request: bytes) -> float:
    """Peak memory while a gibibyte waits for a destination that is not there, and is then delivered."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "body").write_bytes(request)
        with ours(directory, f"http://127.0.0.1:{port}") as forwarder:
            for _ in range(1 + BACKLOG_BYTES // (len(request) * 2000)):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.paced_client",
                    forwarder.url,
                    f"{directory}/body",
                    "1000",
                    "2",
                ]
                subprocess.run(command, capture_output=True, check=True)
            with running([sys.executable, "-m", "benchmarks.counting_sink", str(port)], f"http://127.0.0.1:{port}"):
                deadline = time.monotonic() + 2 * _SETTLED_SECONDS
                while received(f"http://127.0.0.1:{port}") < BACKLOG_BYTES * 0.95 and time.monotonic() < deadline:
                    time.sleep(0.5)
            return _peak_bytes(forwarder.pid) / _MIB

"""A real receiver on a loopback socket, a destination that records, and clients that send what they are told to the byte."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop
from h2_client import H2Client, framed
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from novel_agent.config.schema import OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission
from novel_agent.inputs.otlp.counts import Counts
from novel_agent.inputs.otlp.grpc import OtlpGrpcReceiver
from novel_agent.inputs.otlp.http import OtlpHttpReceiver
from novel_agent.model.batch import Batch, Signal
from novel_agent.serving.access import TokenInMemory
from novel_agent.serving.limits import Limits

DEADLINE_SECONDS = 10.0
TOKEN = "the-token"
METHODS: dict[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop the daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


def traces(spans: int = 3, padding: int = 0) -> bytes:
    """An export request with so many spans."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(spans):
        scope.spans.add(name=f"span {number}" + "x" * padding, trace_id=b"t" * 16, span_id=b"s" * 8)
    return request.SerializeToString()


def logs(records: int = 2) -> bytes:
    """An export request with so many log records."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(records):
        scope.log_records.add(severity_text="INFO")
    return request.SerializeToString()


def metrics(points: int = 4) -> bytes:
    """An export request with one gauge of so many points."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    for _ in range(points):
        metric.gauge.data_points.add(as_int=1)
    return request.SerializeToString()


class Destination:
    """A `Deliver` that records; what stands in `outcomes` is done first, one for each batch."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.outcomes: list[Callable[[], Awaitable[None]]] = []
        self.cancelled = 0

    async def __call__(self, batch: Batch) -> None:
        if self.outcomes:
            try:
                await self.outcomes.pop(0)()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        self.batches.append(batch)

    @property
    def items(self) -> int:
        return sum(batch.items for batch in self.batches)


class Reply(NamedTuple):
    """One answer over HTTP; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def reply(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Reply(int(first.split()[1]), headers, body)


class Running:
    """Both receivers, and ways to ask them."""

    def __init__(self, destination: Destination, counts: Counts, admission: Admission) -> None:
        self.destination = destination
        self.counts = counts
        self.admission = admission
        self.http: OtlpHttpReceiver
        self.grpc: OtlpGrpcReceiver
        self.http_port = 0
        self.grpc_port = 0
        self.tls: ssl.SSLContext | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.http_port, ssl=self.tls)

    async def send(self, *parts: bytes) -> bytes:
        """Send, and read until the receiver closes; what it sent before a reset is not lost."""
        reader, writer = await self.connect()
        received = b""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                with contextlib.suppress(ConnectionError):
                    for part in parts:
                        writer.write(part)
                        await writer.drain()
                with contextlib.suppress(ConnectionError):
                    while chunk := await reader.read(1 << 16):
                        received += chunk
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        return received

    def head(self, path: str = "/v1/traces", method: str = "POST", **headers: str) -> bytes:
        """The head of a request; header names are written with underscores."""
        sent = {"Host": f"127.0.0.1:{self.http_port}", "Content-Type": "application/x-protobuf", "Connection": "close"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        return "\r\n".join(lines).encode()

    async def post(self, path: str, body: bytes, method: str = "POST", **headers: str) -> Reply:
        return reply(await self.send(self.head(path, method, Content_Length=str(len(body)), **headers), body))

    async def call(
        self, path: str, message: bytes, *, compressed: bool = False, **headers: str | None
    ) -> dict[str, str]:
        client = await H2Client.connect(self.grpc_port, self.tls)
        try:
            return await client.call(path, framed(message, compressed=compressed), **headers)
        finally:
            await client.close()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start both receivers: `await start(limits=…, admission=…, max_request_bytes=…)`; stopped after the test."""
    all_running: list[Running] = []

    async def run(
        limits: Limits | None = None,
        admission: Admission | None = None,
        tls_client: ssl.SSLContext | None = None,
        names: frozenset[str] = frozenset(),
        predecessor: Running | None = None,
        **options: Any,
    ) -> Running:
        running = Running(Destination(), Counts(), admission or Admission())
        running.tls = tls_client
        config = OtlpReceiver(**({"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"} | options))
        shared: dict[str, Any] = {
            "admission": running.admission,
            "counts": running.counts,
            "token": TokenInMemory(TOKEN),
            "names": names,
            "spill_directory": str(tmp_path),
        }
        if limits is not None:
            shared["limits"] = limits
        running.http = OtlpHttpReceiver(config, running.destination, **shared)
        running.grpc = OtlpGrpcReceiver(config, running.destination, **shared)
        all_running.append(running)
        running.http_port = _port(await running.http.start(predecessor and predecessor.http))
        running.grpc_port = _port(await running.grpc.start(predecessor and predecessor.grpc))
        return running

    yield run
    for running in all_running:
        await running.http.stop(1.0)
        await running.grpc.stop(1.0)
        assert running.admission.held_bytes == 0


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1].rstrip("/"))


@pytest.fixture
async def receiver(start: Start) -> Running:
    """Receivers with the defaults."""
    return await start()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0)

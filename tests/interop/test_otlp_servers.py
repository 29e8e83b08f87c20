"""The OpenTelemetry Collector and rotel as the servers that the OTLP output delivers to.

Each receives on OTLP and sends on, by OTLP/HTTP, to a sink in the test: what arrives there must be what was sent.
"""

import asyncio
import itertools
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from novel_agent.config.schema import ClientTls, Export
from novel_agent.errors import OutputRejected
from novel_agent.inputs.host.cpu import TIME
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Shape
from novel_agent.model.resource import Resource
from novel_agent.outputs.otlp import OtlpOutput
from novel_agent.runtime.exporting import Exporter
from novel_agent.runtime.retry import Backoff
from novel_agent.state.queue import MemoryQueue
from novel_agent.wire.otlp import StartTimes, encode_metrics, encode_resource

pytestmark = pytest.mark.interop

RIVALS = Path(os.environ.get("RIVALS_DIR", Path.home() / ".cache" / "novel-engine-rivals")) / "bin"
CERTIFICATES = Path(__file__).parent.parent / "fixtures" / "tls"
PROTOCOLS = ("http/protobuf", "http/json", "grpc")
COMPRESSIONS = ("gzip", "none")
BOOT, NOW = 1_700_000_000_000_000_000, 1_700_000_100_000_000_000

COLLECTOR = """
receivers:
  otlp:
    protocols: {{http: {{endpoint: 127.0.0.1:{http}}}, grpc: {{endpoint: 127.0.0.1:{grpc}}}}}
  otlp/tls:
    protocols:
      http: {{endpoint: 127.0.0.1:{https}, tls: &tls {{cert_file: {tls}/server.pem, key_file: {tls}/server.key, client_ca_file: {tls}/ca.pem}}}}
      grpc: {{endpoint: 127.0.0.1:{grpcs}, tls: *tls}}
exporters:
  debug: {{verbosity: detailed}}
  otlp_http: {{endpoint: "{sink}", compression: none, sending_queue: {{enabled: false}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: info}}}}
  pipelines: {{metrics: {{receivers: [otlp, otlp/tls], exporters: [debug, otlp_http]}}}}
"""  # noqa: E501


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", ["collector", "rotel"], indirect=True)


def program(name):
    found = RIVALS / name if (RIVALS / name).exists() else shutil.which(name)
    assert found, f"{name} is missing; `make interop` brings it"
    return str(found)


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Sink:
    """What the servers send on, decoded."""

    def __init__(self):
        self.arrived = asyncio.Queue()

    async def take(self, request):
        await self.arrived.put(ExportMetricsServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

    async def next(self):
        async with asyncio.timeout(20):
            return await self.arrived.get()


@pytest.fixture
async def sink():
    one = Sink()
    app = web.Application()
    app.router.add_post("/v1/metrics", one.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


class Server:
    """A server that can be started; `log` is what it printed."""

    def __init__(self, name, arguments, ports, log):
        self.name = name
        self.arguments = arguments
        self.ports = ports
        self.log = log
        self.process = None

    async def start(self):
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(*self.arguments, stdout=log, stderr=log)
        async with asyncio.timeout(30):
            for port in self.ports.values():
                while not await self._listens(port):
                    assert self.process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.05)

    @staticmethod
    async def _listens(port):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def stop(self):
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def endpoint(self, protocol):
        return f"http://127.0.0.1:{self.ports['grpc' if protocol == 'grpc' else 'http']}"

    def tls_endpoint(self, protocol):
        return f"https://127.0.0.1:{self.ports['grpcs' if protocol == 'grpc' else 'https']}"


def collector(sink, directory):
    ports = dict(zip(("http", "grpc", "https", "grpcs"), free_ports(4), strict=True))
    config = directory / "collector.yaml"
    config.write_text(COLLECTOR.format(**ports, tls=CERTIFICATES, sink=sink.url))
    return Server("collector", [program("otelcol"), "--config", str(config)], ports, directory / "collector.log")


def rotel(sink, directory):
    ports = dict(zip(("http", "grpc"), free_ports(2), strict=True))
    arguments = [
        *(program("rotel"), "start", "--otlp-http-endpoint", f"127.0.0.1:{ports['http']}"),
        *("--otlp-grpc-endpoint", f"127.0.0.1:{ports['grpc']}", "--exporter", "otlp"),
        *("--otlp-exporter-endpoint", sink.url, "--otlp-exporter-protocol", "http"),
        *("--otlp-exporter-compression", "none"),
    ]
    return Server("rotel", arguments, ports, directory / "rotel.log")


@pytest.fixture
async def server(request, sink, tmp_path):
    one = {"collector": collector, "rotel": rotel}[request.param](sink, tmp_path)
    yield one
    await one.stop()


@pytest.fixture
async def output():
    made = []

    async def make(endpoint, **options):
        made.append(OtlpOutput(Export(name="central", endpoint=endpoint, **options)))
        await made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.stop()


def reading():
    """Every kind of metric, value and attribute there is, in a batch."""
    usage = Family("system.memory.usage", "Memory by state", "updowncounter", ("system.memory.state",), unit="By")
    load = Family("system.cpu.load_average.1m", "Average CPU load over 1 minute", "gauge", unit="{thread}")
    blocks = [
        Block(Shape([TIME.series(str(cpu), "user") for cpu in range(3)]), [1.25, 2.5, 1e9]),
        Block(Shape([usage.series("used"), usage.series("fréé")]), [2**53 + 1, -1]),
        Block(Shape([load.series()]), [0.21]),
    ]
    resource = encode_resource(Resource((("service.name", "novel-engine"), ("host.name", "db-1"))))
    return encode_metrics(resource, blocks, NOW, StartTimes(BOOT))


def as_sent(batch):
    return ExportMetricsServiceRequest.FromString(batch.payload).resource_metrics[0]


def expected(batch, server, protocol):
    """What was sent; but rotel 0.0.1-alpha10 reads an asInt only where JSON has it as a number, and drops a string."""
    sent = as_sent(batch)
    if (server.name, protocol) == ("rotel", "http/json"):
        for metric in sent.scope_metrics[0].metrics:
            for point in metric.sum.data_points if metric.HasField("sum") else ():
                if point.WhichOneof("value") == "as_int":
                    point.ClearField("as_int")
    return sent


@pytest.mark.parametrize(("protocol", "compression"), list(itertools.product(PROTOCOLS, COMPRESSIONS)))
async def test_what_is_delivered_arrives_unchanged(server, sink, output, protocol, compression):
    await server.start()
    batch = reading()
    delivered = await (await output(server.endpoint(protocol), protocol=protocol, compression=compression)).send(batch)
    assert (delivered.rejected_items, delivered.message) == (0, "")
    (arrived,) = (await sink.next()).resource_metrics
    assert arrived == expected(batch, server, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_joined_batches_arrive_as_each_was(server, sink, output, protocol):
    await server.start()
    batch = reading()
    otlp = await output(server.endpoint(protocol), protocol=protocol)
    await otlp.send(Batch("metrics", batch.payload * 3, batch.items * 3))
    arrived = []
    while len(arrived) < 3:
        arrived.extend((await sink.next()).resource_metrics)
    assert arrived == [expected(batch, server, protocol)] * 3


@pytest.mark.parametrize(("protocol", "reason"), [("http/protobuf", "http_400"), ("grpc", "grpc_internal")])
async def test_bytes_that_are_not_otlp_are_refused_for_good(server, output, protocol, reason):
    await server.start()
    otlp = await output(server.endpoint(protocol), protocol=protocol)
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(Batch("metrics", b"\x0a\x05x", 1))
    assert caught.value.reason == reason


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_server_that_comes_up_later_gets_everything(server, sink, output, protocol):
    exporter = Exporter(
        "central",
        await output(server.endpoint(protocol), protocol=protocol),
        MemoryQueue(1 << 20),
        backoff=Backoff(initial_seconds=0.05, longest_seconds=0.1),
    )
    running = asyncio.create_task(exporter.run())
    try:
        batch = reading()
        await exporter.put(batch)
        async with asyncio.timeout(10):
            while exporter.statistics.failed_requests < 3:
                await asyncio.sleep(0.01)
        await server.start()
        (arrived,) = (await sink.next()).resource_metrics
        assert arrived == expected(batch, server, protocol)
        await exporter.drain(5.0)
        assert exporter.statistics.sent_items == {"metrics": batch.items}
        assert not exporter.queue.dropped
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_mutual_tls_with_the_collector(sink, output, tmp_path, protocol):
    server = collector(sink, tmp_path)
    try:
        await server.start()
        files = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
        tls = ClientTls(**{name: str(CERTIFICATES / file) for name, file in files.items()})
        batch = reading()
        await (await output(server.tls_endpoint(protocol), protocol=protocol, tls=tls)).send(batch)
        (arrived,) = (await sink.next()).resource_metrics
        assert arrived == as_sent(batch)
    finally:
        await server.stop()


async def test_the_collector_names_types_and_values_as_meant(sink, output, tmp_path):
    server = collector(sink, tmp_path)
    try:
        await server.start()
        await (await output(server.endpoint("grpc"), protocol="grpc")).send(reading())
        await sink.next()
        said = server.log.read_text()
    finally:
        await server.stop()
    for line in (
        "Resource SchemaURL: https://opentelemetry.io/schemas/1.44.0",
        "     -> service.name: Str(novel-engine)",
        "InstrumentationScope novel-engine-agent",
        "     -> Name: system.cpu.time",
        "     -> DataType: Sum",
        "     -> IsMonotonic: true",
        "     -> AggregationTemporality: Cumulative",
        "     -> cpu.logical_number: Int(2)",
        "StartTimestamp: 2023-11-14 22:13:20 +0000 UTC",
        "Timestamp: 2023-11-14 22:15:00 +0000 UTC",
        "Value: 9007199254740993",
        "     -> DataType: Gauge",
    ):
        assert line in said


def test_the_daemons_loop_delivers_too(tmp_path):
    async def deliver():
        one = Sink()
        app = web.Application()
        app.router.add_post("/v1/metrics", one.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        server = collector(one, tmp_path)
        try:
            await server.start()
            for protocol in PROTOCOLS:
                output = OtlpOutput(Export(name="central", endpoint=server.endpoint(protocol), protocol=protocol))
                await output.start()
                await output.send(reading())
                await output.stop()
                assert list((await one.next()).resource_metrics) == [as_sent(reading())]
        finally:
            await server.stop()
            await runner.cleanup()

    uvloop.run(deliver())

"""Destinations on loopback, and outputs that are stopped after the test. Every test runs on asyncio's loop and on uvloop."""

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import cramjam
import pytest
import uvloop
import zstandard
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingAckReceived, RequestReceived, SettingsAcknowledged, StreamEnded, StreamReset
from h2.settings import SettingCodes

from novel_agent.config.schema import Export
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Shape
from novel_agent.model.resource import Resource
from novel_agent.outputs.otlp import OtlpOutput
from novel_agent.wire.otlp import StartTimes, encode_metrics, encode_resource

CERTIFICATES = Path(__file__).parent.parent / "fixtures" / "tls"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def certificates() -> Path:
    return CERTIFICATES


@pytest.fixture
def batch() -> Batch:
    """Two points of one metric."""
    family = Family("system.disk.io", "Bytes moved", "counter", ("system.device",), unit="By")
    block = Block(Shape([family.series("sda"), family.series("sdb")]), [4096, 8192])
    resource = encode_resource(Resource((("service.name", "novel-engine"),)))
    return encode_metrics(resource, [block], 1_700_000_100_000_000_000, StartTimes(1_700_000_000_000_000_000))


@pytest.fixture
async def output() -> Any:
    """Make and start an OtlpOutput from options of `export`; stopped after the test."""
    made: list[OtlpOutput] = []

    async def make(endpoint: str, *, now: Callable[[], float] = lambda: 1_700_000_000.0, **options: Any) -> OtlpOutput:
        options.setdefault("timeout_seconds", 5.0)
        one = OtlpOutput(Export(name="central", endpoint=endpoint, **options), now=now)
        made.append(one)
        await one.start()
        return one

    yield make
    for one in made:
        await one.stop()
        await one.stop()


@pytest.fixture
async def started() -> Any:
    """Make an output of a class from options of `export`, and start it; stopped after the test."""
    made: list[Any] = []

    async def start(kind: Any, *, now: Callable[[], float] | None = None, **options: Any) -> Any:
        options.setdefault("timeout_seconds", 5.0)
        one = kind(Export(name="central", **options), **({"now": now} if now else {}))
        made.append(one)
        await one.start()
        return one

    yield start
    for one in made:
        await one.stop()
        await one.stop()


class Request(NamedTuple):
    """What an HTTP destination was sent."""

    method: str
    path: str
    headers: Any
    raw: bytes

    @property
    def body(self) -> bytes:
        """Unpacked."""
        return _UNPACK[self.headers.get("Content-Encoding", "identity")](self.raw)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "snappy": lambda raw: bytes(cramjam.snappy.decompress_raw(raw)),
    "zstd": lambda raw: zstandard.ZstdDecompressor().decompress(raw),
}


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpDestination:
    """Records requests and answers as told, 200 when nothing is left to tell."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer | web.Response] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        # aiohttp's server unpacks a compressed body by itself, from the header; what came over the wire is wanted here.
        body = await request.read()
        self.requests.append(Request(request.method, request.raw_path, request.headers, body))
        answer = self.answers.pop(0) if self.answers else web.Response()
        return answer if isinstance(answer, web.Response) else await answer(request)

    async def start(self, tls: ssl.SSLContext | None = None) -> "HttpDestination":
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls, reuse_address=True)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.shutdown()
            await self._runner.cleanup()


@pytest.fixture
async def http_destination() -> Any:
    destination = await HttpDestination().start()
    yield destination
    await destination.stop()


@pytest.fixture
def server_tls() -> Callable[..., ssl.SSLContext]:
    """A TLS context for a server; with `mutual` it wants a client certificate."""

    def make(*, mutual: bool = False, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(CERTIFICATES / "ca.pem")
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    return make


@pytest.fixture
async def https_destination(server_tls: Any) -> Any:
    """Start a destination that speaks TLS."""
    started: list[HttpDestination] = []

    async def start(**options: Any) -> HttpDestination:
        started.append(await HttpDestination().start(server_tls(**options)))
        return started[-1]

    yield start
    for destination in started:
        await destination.stop()


class GrpcCall(NamedTuple):
    """What a gRPC destination was sent."""

    path: str
    headers: dict[str, str]
    compressed: bool
    raw: bytes

    @property
    def message(self) -> bytes:
        """Unpacked."""
        return gzip.decompress(self.raw) if self.compressed else self.raw


class GrpcConnection:
    """The server's side of one connection, on h2; what a test's answer has in its hands."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, acknowledges: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.acknowledges = acknowledges
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.resets: list[int] = []
        self.pongs = 0
        self.acknowledged = False
        self.ended = asyncio.Event()

    def flush(self) -> None:
        if not self.writer.is_closing():
            self.writer.write(self.h2.data_to_send())

    def reply(
        self, stream: int, *, body: bytes = b"", compressed: bool = False, code: int | None = 0, **trailers: str
    ) -> None:
        """A whole answer; without `code`, no gRPC status."""
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        framed = bytes([compressed]) + len(body).to_bytes(4, "big") + body
        self.h2.send_data(stream, framed)
        status = [] if code is None else [("grpc-status", str(code))]
        named = [(name.replace("_", "-"), value) for name, value in trailers.items()]
        self.h2.send_headers(stream, [*status, *named] or [("x-none", "1")], end_stream=True)
        self.flush()

    def fail(self, stream: int, code: int, **trailers: str) -> None:
        """Trailers only."""
        named = [(name.replace("_", "-"), value) for name, value in trailers.items()]
        headers = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(code)), *named]
        self.h2.send_headers(stream, headers, end_stream=True)
        self.flush()


GrpcAnswer = Callable[[GrpcConnection, int], Awaitable[None] | None]


class GrpcDestination:
    """Records calls and answers as told, an empty success when nothing is left to tell."""

    def __init__(self, *, window: int = 65_535, acknowledges: bool = True, most_streams: int = 100) -> None:
        self.calls: list[GrpcCall] = []
        self.answers: list[GrpcAnswer] = []
        self.connections: list[GrpcConnection] = []
        self.url = ""
        self._window = window
        self._acknowledges = acknowledges
        self._most_streams = most_streams
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> "GrpcDestination":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = GrpcConnection(reader, writer, self._acknowledges)
        self.connections.append(connection)
        connection.h2.initiate_connection()
        connection.h2.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: self._window, SettingCodes.MAX_CONCURRENT_STREAMS: self._most_streams}
        )
        connection.flush()
        try:
            while data := await reader.read(65_536):
                for event in connection.h2.receive_data(data):
                    await self._on_event(connection, event)
                connection.flush()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connection.ended.set()
            writer.close()
            self._tasks.discard(task)

    async def _on_event(self, connection: GrpcConnection, event: Any) -> None:
        if isinstance(event, RequestReceived):
            connection.headers[event.stream_id] = dict(event.headers)
            connection.bodies[event.stream_id] = bytearray()
        elif isinstance(event, DataReceived):
            connection.bodies[event.stream_id] += event.data
            if connection.acknowledges:
                connection.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            connection.resets.append(event.stream_id)
        elif isinstance(event, SettingsAcknowledged):
            connection.acknowledged = True
        elif isinstance(event, PingAckReceived):
            connection.pongs += 1
        elif isinstance(event, StreamEnded):
            await self._on_call(connection, event.stream_id)

    async def _on_call(self, connection: GrpcConnection, stream: int) -> None:
        headers, body = connection.headers[stream], bytes(connection.bodies[stream])
        assert len(body) == 5 + int.from_bytes(body[1:5], "big")
        self.calls.append(GrpcCall(headers[":path"], headers, bool(body[0]), body[5:]))
        answer = self.answers.pop(0) if self.answers else lambda connection, stream: connection.reply(stream)
        waiting = answer(connection, stream)
        if waiting is not None:
            await waiting

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def grpc_destination(server_tls: Any) -> Any:
    """Start a gRPC destination."""
    started: list[GrpcDestination] = []

    async def start(*, tls: bool = False, mutual: bool = False, alpn: tuple[str, ...] = ("h2",), **options: Any) -> Any:
        context = server_tls(mutual=mutual, alpn=alpn) if tls else None
        started.append(await GrpcDestination(**options).start(context))
        return started[-1]

    yield start
    for destination in started:
        await destination.stop()

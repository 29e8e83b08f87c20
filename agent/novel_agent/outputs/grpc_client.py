"""Unary gRPC calls over one HTTP/2 connection, on h2.

Sources: grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/http-grpc-status-mapping.md, RFC 9113. Just what an exporter needs: no
streaming, no load balancing, no name resolution of its own. The connection is a protocol, not a task: what a server sends
between calls (ping, settings, GOAWAY) is answered as it arrives. Why not grpcio: docs/explanation/otlp-output.md.
"""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from novel_agent.outputs.endpoint import Endpoint, Proxy, why_not_connected
from novel_agent.outputs.lookup import LOOKUPS

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED = 0, 1, 2, 4
PERMISSION_DENIED, RESOURCE_EXHAUSTED = 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16

_LARGEST_FRAME_BYTES = 16_384
_FRAME_HEADER_BYTES = 9
_GOAWAY = 7
_LARGEST_ANSWER_BYTES = 64 << 10
_LARGEST_PROXY_ANSWER_BYTES = 8 << 10
_LARGEST_UNREAD_BYTES = 1 << 20
_LONGEST_STATUS = 3
_MESSAGE_HEADER = struct.Struct(">?I")
_GZIP_WINDOW = 31
_GOODBYE_SECONDS = 1.0
_LONGEST_TIMEOUT_MILLISECONDS = 99_999_999
"""grpc-timeout has eight digits."""

_BY_HTTP_STATUS = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
_BY_RESET = {
    ErrorCodes.REFUSED_STREAM: UNAVAILABLE,
    ErrorCodes.CANCEL: CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: PERMISSION_DENIED,
}


class ConnectionFailed(Exception):  # noqa: N818 - an outcome, not a fault of the caller
    """No answer: the connection could not be made or broke. Whether the server acted is unknown."""


class Answer(NamedTuple):
    """How a call ended: a gRPC status code, its message and binary details, and the response message where it is 0."""

    code: int
    message: str = ""
    details: bytes = b""
    body: bytes = b""


class GrpcClient:
    """Calls to one server; connects when first called and again whenever the connection was lost.

    `metadata` goes with every call; a key that ends in -bin has its value sent as base64, as gRPC defines. `tls` None means
    plaintext with prior knowledge of HTTP/2.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None,
        server_name: str | None = None,
        proxy: Proxy | None = None,
        metadata: Mapping[str, str],
        user_agent: str,
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._server_name = server_name or endpoint.host
        self._proxy = proxy
        self._address = [(":method", "POST"), (":scheme", endpoint.scheme), (":authority", endpoint.authority)]
        self._headers = [
            ("te", "trailers"),
            ("content-type", "application/grpc+proto"),
            ("grpc-accept-encoding", "identity,gzip"),
            ("user-agent", user_agent),
            *_metadata(metadata),
        ]
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def call(self, path: str, message: bytes, *, encoding: str | None, timeout_seconds: float) -> Answer:
        """Send one request message, compressed already where `encoding` says how, and wait for the answer.

        Calls may overlap; they share the connection.

        DEADLINE_EXCEEDED when none came in time, ConnectionFailed when the connection broke.
        """
        milliseconds = min(max(1, round(timeout_seconds * 1000)), _LONGEST_TIMEOUT_MILLISECONDS)
        headers = [*self._address, (":path", path), ("grpc-timeout", f"{milliseconds}m"), *self._headers]
        if encoding:
            headers.append(("grpc-encoding", encoding))
        connection, heard = None, 0
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await self._connected()
                heard = connection.heard
                return await connection.call(headers, _MESSAGE_HEADER.pack(bool(encoding), len(message)) + message)
        except TimeoutError:
            if connection is not None:
                connection.give_up_if_silent(heard)
            return Answer(DEADLINE_EXCEEDED, f"no answer within {timeout_seconds:g} s")
        except H2Error as error:
            raise ConnectionFailed(f"HTTP/2: {error}") from None

    async def close(self) -> None:
        """Say goodbye and close; a call under way fails."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> "_Connection":
        async with self._connecting:
            if self._connection is None or not self._connection.usable:
                connection = await self._connect()
                if self._closed:
                    await connection.close()
                    raise ConnectionFailed("closed")
                self._connection = connection
            return self._connection

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        name = self._server_name if self._tls else None
        try:
            sock = await (_tunnel(self._proxy, self._endpoint) if self._proxy else _open(*self._endpoint[1:3]))
            pair = await loop.create_connection(_Connection, sock=sock, ssl=self._tls, server_hostname=name)
        except OSError as error:
            raise ConnectionFailed(why_not_connected(error)) from None
        transport, connection = pair
        if self._tls and transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            transport.abort()
            raise ConnectionFailed("the server does not offer HTTP/2 (no ALPN h2)")
        return connection


def _metadata(metadata: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name, value in metadata.items():
        key = name.lower()
        yield key, base64.b64encode(value.encode()).decode().rstrip("=") if key.endswith("-bin") else value


class _Call:
    """One stream: what has arrived of the answer, and a future that is done when all has."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.sent = False
        self.closed_by_server = False
        self.reset = False
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def end(self, answer: Answer) -> None:
        if not self.done.done():
            self.done.set_result(answer)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionFailed(reason))
            self.done.exception()  # whoever waits has it; nobody waiting is no fault

    def answer(self) -> Answer:
        """From the headers and trailers: the server's own status, else what HTTP says."""
        status = self.headers.get(":status", "")
        if "grpc-status" not in self.headers:
            code = UNKNOWN if status == "200" else _BY_HTTP_STATUS.get(_whole(status), UNKNOWN)
            kind = self.headers.get("content-type", "none")
            return Answer(code, f"HTTP {status or 'without status'}, content type {kind}, no gRPC status")
        code = _whole(self.headers["grpc-status"])
        message = unquote(self.headers.get("grpc-message", ""), errors="replace")
        details = _unbase64(self.headers.get("grpc-status-details-bin", ""))
        return Answer(UNKNOWN if code < 0 else code, message, details, self._message() if code == OK else b"")

    def _message(self) -> bytes:
        """The response message; empty where it cannot be read, as it is advice only."""
        if len(self.body) < _MESSAGE_HEADER.size:
            return b""
        compressed, size = _MESSAGE_HEADER.unpack_from(self.body)
        message = bytes(self.body[_MESSAGE_HEADER.size : _MESSAGE_HEADER.size + size])
        if not compressed:
            return message
        try:
            return zlib.decompressobj(_GZIP_WINDOW).decompress(message, _LARGEST_ANSWER_BYTES)
        except zlib.error:
            return b""


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_STATUS else -1


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0})
        self._buffer = bytearray()
        self._calls: dict[int, _Call] = {}
        self._moved = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._draining = False
        self.heard = 0
        self._reason = "the connection was closed by the server"
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether new calls may be made on it."""
        return self._transport is not None and not self._draining and not self._closed.is_set()

    # the call ---------------------------------------------------------------------------------------------------------

    async def call(self, headers: list[tuple[str, str]], framed_message: bytes) -> Answer:
        """Make one call and wait for its end; cancellation gives the stream back."""
        await self._stream_allowed()
        call = _Call()
        heard = self.heard
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers)
        self._flush()
        self._calls[stream] = call
        try:
            await self._send(stream, framed_message, call)
            return await call.done
        except asyncio.CancelledError:
            if len(self._calls) == 1:
                self.give_up_if_silent(heard)
            raise
        finally:
            del self._calls[stream]
            self._leave(stream, call)

    def give_up_if_silent(self, heard: int) -> None:
        """Close where not a byte has come since `heard` was looked at: the other side may be gone without a word."""
        if heard == self.heard:
            self._give_up("the server has gone silent")

    async def _stream_allowed(self) -> None:
        """Wait until the server takes one more call at a time."""
        while self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams:
            self._moved.clear()
            await self._moved.wait()
            if not self.usable:
                raise ConnectionFailed(self._reason)

    async def _send(self, stream: int, data: bytes, call: _Call) -> None:
        """Send the message as the server's flow-control windows and the socket allow, until it is sent or answered."""
        rest = memoryview(data)
        while rest and not call.done.done():
            window = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if window > 0 and self._writable.is_set():
                call.sent = len(rest) <= window
                self._h2.send_data(stream, bytes(rest[:window]), end_stream=call.sent)
                rest = rest[window:]
                self._flush()
                continue
            self._moved.clear()
            await (self._writable.wait() if window > 0 else self._moved.wait())

    def _leave(self, stream: int, call: _Call) -> None:
        """Reset a stream that a side has not ended, and close a connection that was only there for its last call."""
        if not (call.reset or (call.sent and call.closed_by_server)):
            with contextlib.suppress(H2Error):
                self._h2.reset_stream(stream, ErrorCodes.CANCEL)
            self._flush()
        self._moved.set()
        if self._draining and not self._calls and self._transport is not None:
            self._transport.close()

    # the transport ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface."""
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand whole frames to h2, one by one, but GOAWAY: after one h2 takes no frame more, of any stream."""
        self.heard += 1
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _FRAME_HEADER_BYTES and not self._closed.is_set():
            if buffer.startswith(b"HTTP/"):
                self._give_up("the server does not speak HTTP/2")
                return
            end = _FRAME_HEADER_BYTES + int.from_bytes(buffer[:3], "big")
            if end > _FRAME_HEADER_BYTES + _LARGEST_FRAME_BYTES:
                self._give_up("the server does not speak HTTP/2: a frame beyond the size agreed")
                return
            if len(buffer) < end:
                break
            frame = bytes(buffer[:end])
            del buffer[:end]
            if frame[3] == _GOAWAY:
                self._on_goaway(frame[_FRAME_HEADER_BYTES:])
            else:
                self._on_frame(frame)
        self._flush()

    def _on_frame(self, frame: bytes) -> None:
        try:
            for event in self._h2.receive_data(frame):
                self._on_event(event)
        except (H2Error, UnicodeDecodeError) as error:
            self._flush()
            self._give_up(f"HTTP/2: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        self._closed.set()
        reason = why_not_connected(exc) if isinstance(exc, OSError) else self._reason
        for call in self._calls.values():
            call.fail(reason)
        self._moved.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self._writable.set()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > _LARGEST_UNREAD_BYTES:
                self._give_up("the server sends frames to answer and reads no answers")

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self._draining = True
        for call in self._calls.values():
            call.fail(reason)
        self._moved.set()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Send GOAWAY, close, and wait until that is done; not for long."""
        if self._transport is None or self._closed.is_set():
            return
        self._draining = True
        with contextlib.suppress(H2Error):
            self._h2.close_connection()
        self._flush()
        self._reason = "closed"
        self._transport.close()
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()
            await self._closed.wait()

    # what arrives -----------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self._moved.set()
            return
        if isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        if call is None:
            return
        if isinstance(event, ResponseReceived | TrailersReceived):
            call.headers.update(cast(Iterable[tuple[str, str]], event.headers))
        elif isinstance(event, DataReceived):
            call.body += event.data[: _LARGEST_ANSWER_BYTES - len(call.body)]
        elif isinstance(event, StreamEnded):
            call.closed_by_server = True
            call.end(call.answer())
        elif isinstance(event, StreamReset):
            call.reset = True
            call.end(_reset(event))
        self._moved.set()

    def _on_goaway(self, payload: bytes) -> None:
        """No new calls; those that the server says it will not process fail, the others go on."""
        self._draining = True
        last_stream = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        for stream, call in self._calls.items():
            if stream > last_stream:
                call.fail("the server is going away")
        self._moved.set()
        if not self._calls and self._transport is not None:
            self._transport.close()


def _reset(event: StreamReset) -> Answer:
    code = event.error_code
    name = code.name if isinstance(code, ErrorCodes) else str(code)
    return Answer(_BY_RESET.get(cast(ErrorCodes, code), INTERNAL), f"the server reset the call: {name}")


async def _tunnel(proxy: Proxy, endpoint: Endpoint) -> socket.socket:
    """A socket to the endpoint through an HTTP proxy's CONNECT (RFC 9110 section 9.3.6)."""
    loop = asyncio.get_running_loop()
    sock = await _open(proxy.host, proxy.port)
    try:
        request = f"CONNECT {endpoint.authority} HTTP/1.1\r\nHost: {endpoint.authority}\r\n"
        if proxy.authorization:
            request += f"Proxy-Authorization: {proxy.authorization}\r\n"
        await loop.sock_sendall(sock, f"{request}\r\n".encode())
        answer = b""
        # One byte at a time: what follows the header is the server's, and the socket is handed on.
        while not answer.endswith(b"\r\n\r\n"):
            byte = await loop.sock_recv(sock, 1)
            answer += byte
            if not byte or len(answer) > _LARGEST_PROXY_ANSWER_BYTES:
                raise ConnectionFailed(f"the proxy {proxy.url} closed the connection")
        version, _, rest = answer.decode("latin-1").partition(" ")
        status = rest[:3]
        if not (version.startswith("HTTP/1.") and status.isdecimal()):
            raise ConnectionFailed(f"the proxy {proxy.url} does not speak HTTP")
        if not status.startswith("2"):
            raise ConnectionFailed(f"the proxy {proxy.url} answered {status}")
    except BaseException:
        sock.close()
        raise
    return sock


async def _open(host: str, port: int) -> socket.socket:
    """A socket connected to the first address that answers."""
    loop = asyncio.get_running_loop()
    problem: OSError = OSError("no address")
    for family, protocol, address in await LOOKUPS.addresses(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            problem = error
        else:
            return sock
    raise problem

"""OTLP over gRPC: the three Export methods, on h2.

Sources: grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/compression.md, RFC 9113, opentelemetry-proto docs/specification.md "OTLP/gRPC".
Unary calls are all there is. Only imported where it is configured; why not grpcio: docs/explanation/otlp-receiver.md.

What a client may do to a connection is bounded frame by frame before h2 sees it: the size of a frame and of a head, and by
`_Patience` how many frames that carry nothing and how many resets it may send (CVE-2023-44487, CVE-2019-9512 and their
kin). What a client sends into its flow-control window is charged to the admission, and the window is only opened again as
the data is taken.
"""

import asyncio
import base64
import contextlib
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast
from urllib.parse import quote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from novel_agent.config.schema import OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission, Part, Share
from novel_agent.inputs.otlp.counts import FAILED, HUNG_UP, REFUSED_OUTCOME, Counts, TransportCounts
from novel_agent.inputs.otlp.door import FURTHER_BYTES_A_SECOND, WHOLE_BODY_BYTES, Door
from novel_agent.inputs.otlp.intake import WHOLE_BYTES, Deliver, Intake, What
from novel_agent.inputs.otlp.refusal import (
    BROKEN_CALL,
    CODE_OF_STATUS,
    DEADLINE,
    FAULT,
    SLOW,
    UNKNOWN_ENCODING,
    UNKNOWN_PATH,
    Kind,
    Refused,
    busy,
    too_large,
)
from novel_agent.logs import get_logger
from novel_agent.model.batch import Signal
from novel_agent.serving.access import Token
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Lost
from novel_agent.wire.otlp_response import encode_status

log = get_logger("otlp_receiver")

METHODS: dict[str, Signal] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}
ENCODINGS = ("identity", "gzip")
LIMITS = Limits(connections=512)
"""A client makes all its calls over one connection, and one costs 20 KiB."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_BYTES = 9
_LARGEST_FRAME_BYTES = 16_384
_DATA, _HEADERS, _RST_STREAM, _GOAWAY, _CONTINUATION = 0, 1, 3, 7, 9
_END_HEADERS = 4
_STREAMS = 64
_STREAM_WINDOW_BYTES = 256 << 10
_CONNECTION_WINDOW_BYTES = 1 << 20
_PREFIX_BYTES = 5
_EMPTY_MESSAGE = bytes(_PREFIX_BYTES)
_CONTENT_TYPES = re.compile(r"application/grpc(\+proto)?(;.*)?")
_TIMEOUT = re.compile("([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CONTENT_TYPE = ("content-type", "application/grpc")
_HEAD = [(":status", "200"), _CONTENT_TYPE, ("grpc-accept-encoding", ",".join(ENCODINGS))]
_OK = [("grpc-status", "0")]
_NOT_HTTP2 = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this port takes OTLP over gRPC; OTLP over HTTP has a port of its own, usually 4318\n"
)


class OtlpGrpcReceiver:
    """Listens on `otlp_receiver.grpc`; the arguments are those of `OtlpHttpReceiver`."""

    def __init__(
        self,
        config: OtlpReceiver,
        deliver: Deliver,
        *,
        admission: Admission,
        counts: Counts,
        token: Token,
        names: frozenset[str],
        spill_directory: str,
        limits: Limits = LIMITS,
    ) -> None:
        assert config.grpc is not None
        self.admission = admission
        self.limits = limits
        self.max_request_bytes = config.max_request_bytes
        self.counts = counts.of("grpc")
        self.intake = Intake(
            deliver, self.counts, max_request_bytes=config.max_request_bytes, spill_directory=spill_directory
        )
        self.door = Door(
            config.grpc,
            config,
            "h2",
            self._connect,
            token=token,
            names=names,
            counts=self.counts,
            limits=limits,
            admission=admission,
        )
        self._connections: set[_Connection] = set()

    async def start(self, predecessor: "OtlpGrpcReceiver | None" = None) -> str:
        """Listen; the URL. A predecessor's sockets are taken over; it is to be stopped afterwards."""
        return await self.door.open(None if predecessor is None else predecessor.door)

    async def stop(self, deadline_seconds: float) -> None:
        """Accept nothing more, let what was asked finish within the deadline, close."""
        await self.door.close()
        for connection in list(self._connections):
            connection.go_away()
        closings = [asyncio.ensure_future(connection.closed.wait()) for connection in self._connections]
        if closings:
            await asyncio.wait(closings, timeout=deadline_seconds)
        self.door.abort()
        await asyncio.gather(*closings)

    def _connect(self, lost: Lost) -> "_Connection":
        def gone(connection: "_Connection") -> None:
            self._connections.discard(connection)
            lost(connection)

        return _Connection(self, gone)

    def up(self, connection: "_Connection") -> None:
        """A connection is made."""
        self._connections.add(connection)


class _Patience:
    """How much a client may do that brings nothing: tokens that frames cost, and that time and finished calls give back."""

    MOST = 500.0
    A_SECOND = 10.0
    A_CALL = 10.0
    RESET = 5.0

    def __init__(self, now: float) -> None:
        self._tokens = self.MOST
        self._at = now

    def take(self, tokens: float, now: float) -> bool:
        """Whether there still is patience after this."""
        self._tokens = min(self.MOST, self._tokens + (now - self._at) * self.A_SECOND) - tokens
        self._at = now
        return self._tokens >= 0

    def give_back(self) -> None:
        """A call was answered."""
        self._tokens = min(self.MOST, self._tokens + self.A_CALL)


class _Headers(dict[str, str]):
    """Header fields by name in lower case, as HTTP/2 has them; found by any case."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return super().get(name.lower(), default)


class _Asked(NamedTuple):
    """A request as `Access` looks at it."""

    method: str
    raw_path: str
    headers: Mapping[str, str]
    remote: str | None


class _Call:
    """One stream: what has arrived and was not read yet."""

    def __init__(self, connection: "_Connection", stream: int, headers: _Headers, until: float) -> None:
        self.stream = stream
        self.headers = headers
        self.part = Part(connection.share)
        self.has_ended = False
        self.task: asyncio.Task[None] | None = None
        self._is_busy = False
        self._connection = connection
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._until = until
        self._left_bytes = WHOLE_BODY_BYTES

    def arrive(self, data: bytes, window_bytes: int) -> None:
        """Data, and what of the window it took."""
        self.part.charge(len(data))
        self._chunks.append((data, window_bytes))
        self._wake()

    def end(self) -> None:
        """The client has sent everything."""
        self.has_ended = True
        self._wake()

    def refuse(self) -> None:
        """Where more is waited for, that ends as busy."""
        if self._arrived is not None:
            self._is_busy = True
            self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def read(self) -> bytes:
        """The next bytes, empty at the end; Refused where they do not come in time. Opens the window for as many more."""
        while not self._chunks:
            if self.has_ended:
                return b""
            await self._wait()
        data, window_bytes = self._chunks.popleft()
        self._connection.acknowledge(window_bytes, self.stream)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._until += -self._left_bytes / FURTHER_BYTES_A_SECOND
            self._left_bytes = 0
        return data

    async def _wait(self) -> None:
        self._arrived = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(self._until):
                await self._arrived
        except TimeoutError:
            raise Refused(SLOW, "the message did not arrive in time") from None
        finally:
            self._arrived = None
        if self._is_busy:
            raise busy()

    def drop(self) -> None:
        """Forget what was not read; the connection's window is opened for it."""
        for _, window_bytes in self._chunks:
            self._connection.acknowledge(window_bytes, self.stream)
        self._chunks.clear()
        self.part.discharge(self.part.size_bytes)


class _Message:
    """The one message of a call, as a `Source`: its prefix is read first, then exactly as many bytes as that says."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._rest = b""
        self._left_bytes = 0

    async def prefix(self) -> tuple[bool, int]:
        """Whether it is compressed, and its size."""
        read = b""
        while len(read) < _PREFIX_BYTES:
            chunk = await self._call.read()
            if not chunk:
                what = "a call without a message" if not read else "a message that is cut off"
                raise Refused(BROKEN_CALL, what)
            read += chunk
        if read[0] > 1:
            raise Refused(BROKEN_CALL, "a message that is neither compressed nor not")
        self._rest = read[_PREFIX_BYTES:]
        self._left_bytes = int.from_bytes(read[1:_PREFIX_BYTES], "big")
        return bool(read[0]), self._left_bytes

    async def read(self) -> bytes:
        chunk = self._rest or await self._call.read()
        self._rest = b""
        if len(chunk) > self._left_bytes:
            raise Refused(BROKEN_CALL, "more than one message")
        if self._left_bytes and not chunk:
            raise Refused(BROKEN_CALL, "a message that is cut off")
        self._left_bytes -= len(chunk)
        return chunk

    async def whole(self) -> bytes:
        """All of it."""
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Connection(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self, receiver: OtlpGrpcReceiver, lost: Lost) -> None:
        self.closed = asyncio.Event()
        self.share: Share
        self._receiver = receiver
        self._limits = receiver.limits
        self._counts: TransportCounts = receiver.counts
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: receiver.limits.head_bytes,
            },
        )
        self._patience = _Patience(self._loop.time())
        self._buffer = bytearray()
        self._buffer_charged = 0
        self._head_bytes = 0
        self._has_greeted = False
        self._calls: dict[int, _Call] = {}
        self._requests = 0
        self._last_stream = 0
        self._is_draining = False
        self._is_held = False
        self._is_blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_reason = ""
        self._wire: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        """The same until it is being closed."""
        self._remote: str | None = None

    # the transport ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings."""
        self._wire = self._transport = cast(asyncio.Transport, transport)
        self._remote = (transport.get_extra_info("peername") or (None,))[0]
        self.share = self._receiver.admission.share(self)
        self._receiver.up(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._counts.refuse("malformed")
            self.abort()
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - 65_535)
        self._flush()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is under way."""
        if isinstance(exc, TimeoutError):  # TCP_USER_TIMEOUT: what was sent was not taken
            self._counts.refuse("slow reader")
        self._disarm()
        self._wire = self._transport = None
        for call in list(self._calls.values()):
            if call.task is not None:
                call.task.cancel()
        self.share.close()
        self.closed.set()
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        """Hand whole frames to h2, one by one."""
        buffer = self._buffer
        buffer += data
        if self._has_greeted or self._greet():
            self._read_frames()
        self._charge_buffer()
        if self._is_held:  # uvloop reads once after connection_made, whatever was said there
            self._read_or_not()
        self._flush()
        self._arm()

    def _charge_buffer(self) -> None:
        """What is left is the beginning of a frame."""
        growth = len(self._buffer) - self._buffer_charged
        self._buffer_charged += growth
        if growth > 0:
            self.share.charge(growth)
        else:
            self.share.discharge(-growth)

    def _greet(self) -> bool:
        """Whether the client's preface is complete; it is handed to h2 then."""
        if not _PREFACE.startswith(self._buffer[: len(_PREFACE)]):
            if self._transport is not None:
                self._transport.write(_NOT_HTTP2)
            self._cut("malformed")
            return False
        if len(self._buffer) < len(_PREFACE):
            return False
        self._h2.receive_data(bytes(self._buffer[: len(_PREFACE)]))
        del self._buffer[: len(_PREFACE)]
        self._has_greeted = True
        return True

    def _read_frames(self) -> None:
        buffer = self._buffer
        position = 0
        while self._transport is not None and len(buffer) - position >= _FRAME_HEADER_BYTES:
            size = int.from_bytes(buffer[position : position + 3], "big")
            if size > _LARGEST_FRAME_BYTES:
                self._end(ErrorCodes.FRAME_SIZE_ERROR, "malformed")
                break
            end = position + _FRAME_HEADER_BYTES + size
            if len(buffer) < end:
                break
            kind, flags = buffer[position + 3], buffer[position + 4]
            if self._is_tolerable(kind, flags, size):
                if kind == _GOAWAY:
                    self._is_draining = True
                    self._leave_if_done()
                else:
                    self._on_frame(bytes(buffer[position:end]))
            position = end
        if self._transport is None:
            buffer.clear()
        else:
            del buffer[:position]

    def _is_tolerable(self, kind: int, flags: int, size: int) -> bool:
        """Whether a frame may go on to h2; where not, the connection is ended."""
        if kind in (_HEADERS, _CONTINUATION):
            self._head_bytes += size
            if self._head_bytes > self._limits.head_bytes:
                self._end(ErrorCodes.ENHANCE_YOUR_CALM, "too large")
                return False
            if flags & _END_HEADERS:
                self._head_bytes = 0
        if (kind == _DATA and size) or (kind == _HEADERS and size):
            return True
        if not self._patience.take(_Patience.RESET if kind == _RST_STREAM else 1.0, self._loop.time()):
            self._end(ErrorCodes.ENHANCE_YOUR_CALM, "flood")
            return False
        return True

    def _on_frame(self, frame: bytes) -> None:
        try:
            for event in self._h2.receive_data(frame):
                self._on_event(event)
        except (H2Error, UnicodeDecodeError) as error:
            log.debug("connection broke HTTP/2", peer=self._remote, reason=error)
            self._flush()
            self._cut("malformed")

    def _end(self, code: ErrorCodes, reason: str) -> None:
        """Say why, and close."""
        with contextlib.suppress(H2Error):
            self._h2.close_connection(code)
        self._flush()
        self._cut(reason)

    def _cut(self, reason: str) -> None:
        """Count, and close when what was written has left."""
        self._counts.refuse(reason)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()

    def pause_writing(self) -> None:
        """The client does not take its answers: nothing more is read from it until it does."""
        self._is_blocked = True
        self._read_or_not()
        self._set_timer(self._limits.write_seconds, "slow reader")

    def resume_writing(self) -> None:
        """It does."""
        self._is_blocked = False
        self._disarm()
        self._arm()
        self._read_or_not()

    # the gate of its share --------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Read nothing more."""
        self._is_held = True
        self._read_or_not()

    def let(self) -> None:
        """Read again."""
        self._is_held = False
        self._read_or_not()

    def refuse(self) -> None:
        """End the calls that wait for more."""
        for call in list(self._calls.values()):
            call.refuse()

    def _read_or_not(self) -> None:
        if self._transport is not None:
            if self._is_held or self._is_blocked:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # deadlines --------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Between calls a connection may be quiet for long, but what it has begun to send must come soon."""
        if self._is_blocked:
            return
        if self._calls or self._transport is None:
            self._disarm()
        elif self._buffer or self._head_bytes or not self._requests:
            if self._timer_reason != "slow request":
                self._set_timer(self._limits.head_seconds, "slow request")
        else:
            self._set_timer(self._limits.idle_seconds, "")

    def _set_timer(self, seconds: float, reason: str) -> None:
        self._disarm()
        self._timer_reason = reason
        self._timer = self._loop.call_later(seconds, self._on_timer, reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_reason = ""

    def _on_timer(self, reason: str) -> None:
        self._timer = None
        if reason:
            self._counts.refuse("busy" if self._is_held and reason == "slow request" else reason)
            self.abort()
        else:
            self.go_away()

    def go_away(self) -> None:
        """Take no new calls; close when those under way are answered.

        The frame is written by hand: after one of its own h2 sends nothing more.
        """
        if not self._is_draining and self._transport is not None:
            self._is_draining = True
            payload = self._last_stream.to_bytes(4, "big") + ErrorCodes.NO_ERROR.to_bytes(4, "big")
            self._transport.write(len(payload).to_bytes(3, "big") + bytes([_GOAWAY, 0, 0, 0, 0, 0]) + payload)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._is_draining and not self._calls and self._transport is not None:
            self._transport.close()

    # calls ------------------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event.stream_id, cast(Iterable[tuple[str, str]], event.headers))
            return
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, DataReceived):
            size = event.flow_controlled_length
            if call is None:
                self.acknowledge(size, event.stream_id)
            else:
                call.arrive(event.data, size)
        elif call is None:
            return
        elif isinstance(event, StreamEnded):
            call.end()
        elif isinstance(event, StreamReset) and call.task is not None:
            call.task.cancel()

    def _begin(self, stream: int, headers: Iterable[tuple[str, str]]) -> None:
        if self._is_draining:
            self._reset(stream, ErrorCodes.REFUSED_STREAM)
            return
        self._last_stream = stream
        self._requests += 1
        call = _Call(self, stream, _Headers(headers), self._loop.time() + self._limits.body_seconds)
        self._calls[stream] = call
        call.task = self._loop.create_task(
            self._serve(call, is_deep=self._receiver.door.is_checked_deeply(self._requests))
        )

    def acknowledge(self, window_bytes: int, stream: int) -> None:
        """Data was taken: the client may send as much again."""
        if self._transport is not None and window_bytes:
            with contextlib.suppress(H2Error):
                self._h2.acknowledge_received_data(window_bytes, stream)
            self._flush()

    async def _serve(self, call: _Call, *, is_deep: bool) -> None:
        try:
            status = await self._status(call, is_deep=is_deep)
            self._answer(call, status)
        except asyncio.CancelledError:
            self._counts.requests[HUNG_UP] += 1
            raise
        finally:
            del self._calls[call.stream]
            call.drop()
            self._flush()
            self._arm()
            self._leave_if_done()

    async def _status(self, call: _Call, *, is_deep: bool) -> "_Status":
        """Take the call; how it ended."""
        try:
            refusal = await self._judge(call)
            if refusal is not None:
                self._counts.requests[REFUSED_OUTCOME] += 1
                return refusal
            seconds = _timeout_seconds(call.headers.get("grpc-timeout"))
            if seconds is None:
                await self._take(call, is_deep=is_deep)
            else:
                async with asyncio.timeout(seconds):
                    await self._take(call, is_deep=is_deep)
        except Refused as refused:
            return self._refused(refused.kind, refused.message, refused.retry_after_seconds)
        except TimeoutError:
            return self._refused(DEADLINE, "the call's deadline has passed", None)
        except Exception:  # a fault of ours ends one call, with an answer; the others on the connection go on
            log.exception("request failed", path=call.headers[":path"])
            self._counts.refuse(FAULT.reason)
            self._counts.requests[FAILED] += 1
            return _Status(FAULT.grpc_code, "the agent failed to answer; its log says why")
        self._patience.give_back()
        return _TAKEN

    def _refused(self, kind: Kind, message: str, retry_after_seconds: float | None) -> "_Status":
        self._counts.refuse(kind.reason)
        self._counts.requests[REFUSED_OUTCOME] += 1
        return _Status(kind.grpc_code, message, retry_after_seconds)

    async def _judge(self, call: _Call) -> "_Status | None":
        headers = call.headers
        headers.setdefault("host", headers.get(":authority") or "")
        method, path = headers[":method"], headers[":path"]
        content_type = headers.get("content-type") or ""
        if method != "POST" or not _CONTENT_TYPES.fullmatch(content_type):
            self._counts.refuse("wrong method" if method != "POST" else "unknown content type")
            return _Status(0, http_status=405 if method != "POST" else 415)
        asked = _Asked(method, path, headers, self._remote)
        refusal = await self._receiver.door.access.judge(asked)
        if refusal is None:
            return None
        return _Status(CODE_OF_STATUS[refusal.status], refusal.error)

    async def _take(self, call: _Call, *, is_deep: bool) -> None:
        path = call.headers[":path"]
        signal = METHODS.get(path)
        if signal is None:
            raise Refused(UNKNOWN_PATH, f"there is no {path[:100]}")
        encoding = call.headers.get("grpc-encoding") or "identity"
        if encoding not in ENCODINGS:
            raise Refused(UNKNOWN_ENCODING, f"the encoding must be one of {', '.join(ENCODINGS)}")
        message = _Message(call)
        is_compressed, size = await message.prefix()
        if size > self._receiver.max_request_bytes:
            raise too_large(self._receiver.max_request_bytes)
        if is_compressed and encoding == "identity":
            raise Refused(BROKEN_CALL, "a compressed message without grpc-encoding")
        what = What(signal, "protobuf", encoding if is_compressed else "identity", is_deep)
        if size > WHOLE_BYTES:
            await self._receiver.intake.take(what, message, call.part)
        else:
            await self._receiver.intake.take_whole(what, await message.whole(), call.part)

    def _answer(self, call: _Call, status: "_Status") -> None:
        """Send it; a stream that the client has not ended is reset after it, as RFC 9113, section 8.1, wants it."""
        if self._transport is None:
            return
        try:
            if status is _TAKEN:
                self._h2.send_headers(call.stream, _HEAD)
                self._h2.send_data(call.stream, _EMPTY_MESSAGE)
                self._h2.send_headers(call.stream, _OK, end_stream=True)
            else:
                self._h2.send_headers(call.stream, status.headers(), end_stream=True)
        except H2Error:
            self._reset(call.stream, ErrorCodes.INTERNAL_ERROR)
            return
        if not call.has_ended:
            self._reset(call.stream, ErrorCodes.NO_ERROR)

    def _reset(self, stream: int, code: ErrorCodes) -> None:
        with contextlib.suppress(H2Error):
            self._h2.reset_stream(stream, code)


class _Status(NamedTuple):
    """How a call ended; `http_status` where it was no gRPC call at all."""

    code: int
    message: str = ""
    retry_after_seconds: float | None = None
    http_status: int = 200

    def headers(self) -> list[tuple[str, str]]:
        """As an answer that is nothing but headers."""
        if self.http_status != 200:
            return [(":status", str(self.http_status))]
        headers = [
            *_HEAD,
            ("grpc-status", str(self.code)),
            ("grpc-message", quote(self.message, safe=" !#$&'()*+,/:;=?@[]")),
        ]
        if self.retry_after_seconds is not None:
            details = base64.b64encode(encode_status(self.code, self.message, self.retry_after_seconds))
            headers.append(("grpc-status-details-bin", details.decode().rstrip("=")))
        return headers


_TAKEN = _Status(0)


def _timeout_seconds(text: str | None) -> float | None:
    """The value of grpc-timeout; None where there is none, or none that can be read."""
    match = _TIMEOUT.fullmatch(text or "")
    return None if match is None else int(match[1]) * _SECONDS[match[2]]

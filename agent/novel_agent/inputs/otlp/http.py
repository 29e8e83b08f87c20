"""OTLP over HTTP: `POST /v1/traces`, `/v1/metrics` and `/v1/logs`, protobuf and JSON.

Source: opentelemetry-proto docs/specification.md, "OTLP/HTTP". Success is 200 with an empty Export…ServiceResponse in the
request's content type, sent when the data is as durable as configured; errors are google.rpc.Status in that type, JSON where it
is neither. There is no router and no middleware, and an answer that is not an error is a constant but for its date: what is
left is aiohttp's own cost, which is most of what a request costs here.
"""

import asyncio
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import ClassVar, cast

from novel_agent.config.schema import OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission, Share
from novel_agent.inputs.otlp.body import DECODERS
from novel_agent.inputs.otlp.counts import FAILED, HUNG_UP, REFUSED_OUTCOME, Counts, TransportCounts
from novel_agent.inputs.otlp.door import FURTHER_BYTES_A_SECOND, WHOLE_BODY_BYTES, Door
from novel_agent.inputs.otlp.intake import Deliver, Form, Intake, What
from novel_agent.inputs.otlp.refusal import (
    CODE_OF_STATUS,
    FAULT,
    MALFORMED,
    RESOURCE_EXHAUSTED,
    SLOW,
    UNKNOWN,
    UNKNOWN_ENCODING,
    UNKNOWN_PATH,
    UNKNOWN_TYPE,
    WRONG_METHOD,
    Refused,
    busy,
    too_large,
    whole_seconds,
)
from novel_agent.model.batch import Signal
from novel_agent.serving.access import Refusal, Token
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.connection import Connection
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Lost
from novel_agent.wire.otlp_response import encode_status, encode_status_json

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
CONTENT_TYPES: dict[Form, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}
_FORMS: dict[str, Form] = {name: form for form, name in CONTENT_TYPES.items()}
_EMPTY_ANSWERS: dict[Form, bytes] = {"protobuf": b"", "json": b"{}"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    + encode_status_json(RESOURCE_EXHAUSTED, "the head of the request is too large")
)

REQUEST_BYTES = 6 << 10
"""What a request costs while it is under way, whatever its body; charged to the admission."""

LIMITS = Limits(read_bytes=64 << 10)


class OtlpHttpReceiver:
    """Listens on `otlp_receiver.http`.

    `token` is the API's, for requests that need one where the configuration names none; `names` are the hosts that may be
    named besides addresses of this machine. Large requests pass through files in `spill_directory`.
    """

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
        assert config.http is not None
        self._admission = admission
        self._limits = limits
        self._max_request_bytes = config.max_request_bytes
        self.counts = counts.of("http")
        self._intake = Intake(
            deliver, self.counts, max_request_bytes=config.max_request_bytes, spill_directory=spill_directory
        )
        self.door = Door(
            config.http,
            config,
            "http/1.1",
            self._connect,
            token=token,
            names=names,
            counts=self.counts,
            limits=limits,
            admission=admission,
        )
        self._server: web.Server | None = None

    async def start(self, predecessor: "OtlpHttpReceiver | None" = None) -> str:
        """Listen; the URL. A predecessor's sockets are taken over; it is to be stopped afterwards."""
        self._server = web.Server(self._handle, handler_cancellation=True)
        return await self.door.open(None if predecessor is None else predecessor.door)

    async def stop(self, deadline_seconds: float) -> None:
        """Accept nothing more, finish what was asked within the deadline, close."""
        await self.door.close()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(deadline_seconds)
        self.door.abort()

    def _connect(self, lost: Lost) -> "_HttpConnection":
        assert self._server is not None
        return _HttpConnection(self._server, self._limits, self.counts, lost, self._admission)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(_HttpConnection, request.protocol)
        connection.request_begins()
        counts = self.counts
        try:
            return await self._serve(request, connection)
        except Refused as refused:
            counts.refuse(refused.kind.reason)
            counts.requests[REFUSED_OUTCOME] += 1
            return _refused(request, refused)
        except asyncio.CancelledError:
            counts.requests[HUNG_UP] += 1
            raise
        finally:
            connection.request_ends(whole=request.content.is_eof())

    async def _serve(self, request: web.BaseRequest, connection: "_HttpConnection") -> web.StreamResponse:
        refusal = await self.door.access.judge(request)
        if refusal is not None:
            self.counts.requests[REFUSED_OUTCOME] += 1
            return _not_let_in(request, refusal)
        what = _what(request, is_deep=self.door.is_checked_deeply(connection.requests))
        content = request.content
        if content.is_eof():
            await self._intake.take_whole(what, content.read_nowait(), connection.share)
        else:
            await self._receive(request, connection, what)
        return _TAKEN[what.form, request.keep_alive]

    async def _receive(self, request: web.BaseRequest, connection: "_HttpConnection", what: What) -> None:
        """A request whose body has not arrived yet."""
        if (request.content_length or 0) > self._max_request_bytes:
            raise too_large(self._max_request_bytes)
        expected = request.headers.get("Expect")
        if expected is not None and expected.lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)
        await self._intake.take(what, _Rest(request, connection, self._limits.body_seconds), connection.share)


def _what(request: web.BaseRequest, *, is_deep: bool) -> What:
    signal = PATHS.get(request.rel_url.raw_path)
    if signal is None:
        raise Refused(UNKNOWN_PATH, f"there is no {request.path[:100]}; there are {', '.join(PATHS)}")
    if request.method != "POST":
        raise Refused(WRONG_METHOD, f"{request.method} is not for {request.path}; use POST")
    form = _form(request)
    if form is None:
        raise Refused(UNKNOWN_TYPE, f"the content type must be one of {', '.join(_FORMS)}")
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in DECODERS:
        raise Refused(UNKNOWN_ENCODING, "the content encoding must be one of gzip, zstd, deflate, identity")
    return What(signal, form, encoding, is_deep)


def _form(request: web.BaseRequest) -> Form | None:
    content_type = request.headers.get("Content-Type", "")
    return _FORMS.get(content_type) or _FORMS.get(content_type.partition(";")[0].strip().lower())


class _Rest:
    """A `Source` of the rest of a body, which must come within a time that grows with what has come."""

    def __init__(self, request: web.BaseRequest, connection: "_HttpConnection", seconds: float) -> None:
        self._content = request.content
        self._connection = connection
        self._until = asyncio.get_running_loop().time() + seconds
        self._left_bytes = WHOLE_BODY_BYTES

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._until) as deadline:
                self._connection.waiting = deadline
                chunk = await self._content.readany()
        except TimeoutError:
            raise busy() if self._connection.is_busy else Refused(SLOW, "the body did not arrive in time") from None
        except web.RequestPayloadError:
            raise Refused(MALFORMED, "malformed body") from None
        finally:
            self._connection.waiting = None
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            self._until += -self._left_bytes / FURTHER_BYTES_A_SECOND
            self._left_bytes = 0
        return chunk


class _HttpConnection(Connection):
    """A connection whose bytes are charged to the admission, which may stop it from being read."""

    __slots__ = ("_admission", "_is_discarding", "_is_held", "is_busy", "requests", "share", "waiting")

    _traffic: TransportCounts
    head_too_large: ClassVar[bytes] = _HEAD_TOO_LARGE

    def __init__(
        self, server: web.Server, limits: Limits, counts: TransportCounts, lost: Lost, admission: Admission
    ) -> None:
        super().__init__(server, limits, counts, lost)
        self._admission = admission
        self._is_discarding = False
        self._is_held = False
        self.requests = 0
        self.share: Share
        self.waiting: asyncio.Timeout | None = None
        """Of the request under way, the wait for its body."""
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.share = self._admission.share(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.share.close()

    def data_received(self, data: bytes) -> None:
        if data and self._is_discarding:
            return  # the answer is on its way and the connection ends after it
        if data:
            self.share.charge(len(data) if self.share.size_bytes else len(data) + REQUEST_BYTES)
            if self._is_held:  # uvloop reads once after connection_made, whatever was said there
                self._pause()
        super().data_received(data)

    def request_begins(self) -> None:
        super().request_begins()
        self.requests += 1

    def request_ends(self, *, whole: bool) -> None:
        super().request_ends(whole=whole)
        self._is_discarding = not whole
        self.share.discharge(self.share.size_bytes)
        if self._is_held and self._is_discarding:
            self._read_on()  # what comes is thrown away; closing on it would reset the connection and lose the answer

    def resume_reading(self, resume_parser: bool = True) -> None:
        super().resume_reading(resume_parser)
        if self._is_held:
            self._pause()

    def _cut(self, reason: str) -> None:
        super()._cut("busy" if self._is_held and reason == "slow request" else reason)

    def hold(self) -> None:
        """Read nothing more."""
        self._is_held = True
        self._pause()

    def _pause(self) -> None:
        if self._wire is not None and not self._is_discarding:
            self._wire.pause_reading()

    def let(self) -> None:
        """Read again."""
        self._is_held = False
        self._read_on()

    def _read_on(self) -> None:
        """Unless aiohttp has enough."""
        if self._wire is not None and not self._reading_paused and not self._buffer_paused:
            self._wire.resume_reading()

    def refuse(self) -> None:
        """End the wait for the rest of a body."""
        if self.waiting is not None:
            self.is_busy = True
            self.waiting.reschedule(asyncio.get_running_loop().time())

    def error_answer(self, request: web.BaseRequest, status: int, error: str) -> web.StreamResponse:
        if status == 400:
            self._traffic.requests[REFUSED_OUTCOME] += 1
        else:
            self._traffic.requests[FAILED] += 1
            self._traffic.refuse(FAULT.reason)
        return _error(request, status, error)


class _Answer(web.StreamResponse):
    """A whole answer, written at once; constant but for its date, so one object may answer any number of requests."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._headers_of_ours = dict(headers)
        self._whole_body = body
        self._keep_alive = keep_alive
        self._head = b""

    def force_close(self) -> None:
        super().force_close()
        self._head = b""

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is not None:
            head = self._head or self._make_head()
            body = b"" if request.method == "HEAD" else self._whole_body
            transport.write(b"".join((head, _date(int(time.time())), b"\r\n\r\n", body)))

    async def write_eof(self, data: bytes = b"") -> None:
        """All was written before."""

    def _make_head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {self.reason}", "Server: novel-agent", "X-Content-Type-Options: nosniff"]
        lines += [f"{name}: {value}" for name, value in self._headers_of_ours.items()]
        lines.append(f"Content-Length: {len(self._whole_body)}")
        if not self.keep_alive:
            lines.append("Connection: close")
        self._head = "\r\n".join([*lines, "Date: "]).encode()
        return self._head


@lru_cache(maxsize=1)
def _date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode()


_TAKEN = {
    (form, keep_alive): _Answer(200, {"Content-Type": CONTENT_TYPES[form]}, body, keep_alive=keep_alive)
    for form, body in _EMPTY_ANSWERS.items()
    for keep_alive in (True, False)
}


def _error(
    request: web.BaseRequest,
    status: int,
    message: str,
    *,
    code: int | None = None,
    retry_after_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> _Answer:
    """A google.rpc.Status in the request's content type; one whose body was not read to its end closes the connection."""
    form = _form(request) or "json"
    encode = encode_status if form == "protobuf" else encode_status_json
    body = encode(CODE_OF_STATUS.get(status, UNKNOWN) if code is None else code, message, retry_after_seconds)
    all_headers = {"Content-Type": CONTENT_TYPES[form], **(headers or {})}
    if retry_after_seconds is not None:
        all_headers["Retry-After"] = str(whole_seconds(retry_after_seconds))
    return _Answer(status, all_headers, body, keep_alive=request.keep_alive and request.content.is_eof())


def _refused(request: web.BaseRequest, refused: Refused) -> _Answer:
    kind = refused.kind
    headers = {"Allow": "POST"} if kind is WRONG_METHOD else None
    return _error(
        request,
        kind.http_status,
        refused.message,
        code=kind.grpc_code,
        retry_after_seconds=refused.retry_after_seconds,
        headers=headers,
    )


def _not_let_in(request: web.BaseRequest, refusal: Refusal) -> _Answer:
    return _error(request, refusal.status, refusal.error, headers=refusal.headers)

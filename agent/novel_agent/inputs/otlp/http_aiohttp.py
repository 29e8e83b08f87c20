"""aiohttp's part in the receiver: requests that are new, large, in pieces, unusual or wrong.

There is no router and no middleware; an answer is written at once.
"""

import asyncio
from typing import ClassVar, cast

from novel_agent.inputs.otlp import http_answer
from novel_agent.inputs.otlp.body import DECODERS
from novel_agent.inputs.otlp.counts import FAILED, HUNG_UP, REFUSED_OUTCOME, TransportCounts
from novel_agent.inputs.otlp.door import FURTHER_BYTES_A_SECOND, WHOLE_BODY_BYTES
from novel_agent.inputs.otlp.http_answer import CONTENT_TYPES, TAKEN, Answer
from novel_agent.inputs.otlp.http_connection import HttpConnection, Service
from novel_agent.inputs.otlp.intake import Form, What
from novel_agent.inputs.otlp.refusal import (
    FAULT,
    MALFORMED,
    RESOURCE_EXHAUSTED,
    SLOW,
    UNKNOWN_ENCODING,
    UNKNOWN_PATH,
    UNKNOWN_TYPE,
    WRONG_METHOD,
    Refused,
    busy,
    too_large,
)
from novel_agent.model.batch import Signal
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.connection import Connection
from novel_agent.wire.otlp_response import encode_status_json

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
_FORMS: dict[str, Form] = {name: form for form, name in CONTENT_TYPES.items()}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    + encode_status_json(RESOURCE_EXHAUSTED, "the head of the request is too large")
)


class AiohttpConnection(Connection):
    """Gets what an `HttpConnection` does not serve itself."""

    __slots__ = ("front", "is_busy", "waiting")

    _traffic: TransportCounts
    head_too_large: ClassVar[bytes] = _HEAD_TOO_LARGE

    def __init__(self, server: web.Server, service: Service, front: HttpConnection) -> None:
        super().__init__(server, service.limits, service.counts, _nothing_more)
        self.front = front
        self.waiting: asyncio.Timeout | None = None
        """Of the request under way, the wait for its body."""
        self.is_busy = False

    @property
    def waits(self) -> bool:
        """For the first byte of a request, unless its parser has some already."""
        is_waiting = self._waiter is not None and not self._waiter.done() and not self._messages
        is_open = not (self._close or self._force_close or self._upgraded)
        return is_waiting and is_open and not self.has_enough and not self.writing_paused

    @property
    def has_enough(self) -> bool:
        """Whether it wants nothing to be read for now."""
        return self._reading_paused or self._buffer_paused

    def take_over(self, transport: asyncio.Transport, head_seconds: float) -> None:
        """The connection is at the beginning of a request, whose head must come within this time."""
        self.connection_made(transport)
        self._cut_after(head_seconds, "slow request")

    def retire(self) -> None:
        """Let go of the connection, which goes on without it."""
        self.transport = None
        self.connection_lost(None)

    def request_ended(self, request: web.BaseRequest) -> None:
        """The answer is about to be written."""
        whole = request.content.is_eof()
        self.request_ends(whole=whole)
        self.front.request_ended(request, whole=whole)

    def resume_reading(self, resume_parser: bool = True) -> None:
        super().resume_reading(resume_parser)
        if self.front.is_held:
            self.front.pause()

    def _cut(self, reason: str) -> None:
        super()._cut("busy" if self.front.is_held and reason == "slow request" else reason)

    def end_wait(self) -> None:
        """Refuse the request whose body is waited for, if there is one."""
        if self.waiting is not None:
            self.is_busy = True
            self.waiting.reschedule(asyncio.get_running_loop().time())

    def error_answer(self, request: web.BaseRequest, status: int, error: str) -> web.StreamResponse:
        form = _form(request) or "json"
        if status == 400:
            self._traffic.requests[REFUSED_OUTCOME] += 1
            return _Written(http_answer.error(form, status, error, keep_alive=False))
        self._traffic.requests[FAILED] += 1
        self._traffic.refuse(FAULT.reason)
        return _Written(http_answer.fault(form, status))


def _nothing_more(connection: object) -> None:
    """The front tells the listener."""


class AiohttpRequests:
    """The handler of aiohttp's server."""

    def __init__(self, max_request_bytes: int) -> None:
        self._max_request_bytes = max_request_bytes
        self.service: Service

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        connection = cast(AiohttpConnection, request.protocol)
        connection.request_begins()
        connection.front.requests += 1
        counts = self.service.counts
        try:
            return _Written(await self._serve(request, connection))
        except Refused as why:
            counts.refuse(why.kind.reason)
            counts.requests[REFUSED_OUTCOME] += 1
            return _Written(http_answer.refused(_form(request) or "json", why, keep_alive=_keeps_alive(request)))
        except asyncio.CancelledError:
            counts.requests[HUNG_UP] += 1
            raise
        finally:
            connection.request_ended(request)

    async def _serve(self, request: web.BaseRequest, connection: AiohttpConnection) -> Answer:
        door = self.service.door
        refusal = await door.access.judge(request)
        if refusal is not None:
            self.service.counts.requests[REFUSED_OUTCOME] += 1
            return http_answer.not_let_in(_form(request) or "json", refusal, keep_alive=_keeps_alive(request))
        front = connection.front
        what = _what(request)
        front.learn(request, what)
        what = what._replace(is_deep=door.is_checked_deeply(front.requests))
        content = request.content
        if content.is_eof():
            await self.service.intake.take_whole(what, content.read_nowait(), front.share)
        else:
            await self._receive(request, connection, what)
        return TAKEN[what.form, request.keep_alive]

    async def _receive(self, request: web.BaseRequest, connection: AiohttpConnection, what: What) -> None:
        """A request whose body has not arrived yet."""
        if (request.content_length or 0) > self._max_request_bytes:
            raise too_large(self._max_request_bytes)
        expected = request.headers.get("Expect")
        if expected is not None and expected.lower() == "100-continue" and request.transport is not None:
            request.transport.write(_CONTINUE)
        rest = _Rest(request, connection, self.service.limits.body_seconds)
        await self.service.intake.take(what, rest, connection.front.share)


def _what(request: web.BaseRequest) -> What:
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
    return What(signal, form, encoding, is_deep=False)


def _form(request: web.BaseRequest) -> Form | None:
    content_type = request.headers.get("Content-Type", "")
    return _FORMS.get(content_type) or _FORMS.get(content_type.partition(";")[0].strip().lower())


def _keeps_alive(request: web.BaseRequest) -> bool:
    """Whether another request can come behind the answer to this one: not where its body was not read to the end."""
    return request.keep_alive and request.content.is_eof()


class _Rest:
    """A `Source` of the rest of a body, which must come within a time that grows with what has come."""

    def __init__(self, request: web.BaseRequest, connection: AiohttpConnection, seconds: float) -> None:
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


class _Written(web.StreamResponse):
    """An answer of ours as aiohttp sends it: at once."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(status=answer.status)
        self._answer = answer
        self._keep_alive = answer.keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is not None:
            transport.write(self._answer.whole(without_body=request.method == "HEAD"))

    async def write_eof(self, data: bytes = b"") -> None:
        """All was written before."""

"""One connection: aiohttp's protocol with the deadlines and bounds it does not have."""

import asyncio
from typing import ClassVar, cast

from novel_agent.logs import get_logger
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Lost
from novel_agent.serving.route import error_type, problem
from novel_agent.serving.traffic import Tally

log = get_logger("api")

_END_OF_HEAD = b"\r\n\r\n"
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'\r\n{"status":"error","errorType":"%s","error":"the head of the request is too large"}' % error_type(431).encode()
)


class Connection(web.RequestHandler):
    """Cuts off a client that is slow to ask or slow to take the answer, and bounds the head of a request.

    Errors look as the API's do; a server whose errors look otherwise overrides `head_too_large` and `error_answer`.
    """

    head_too_large: ClassVar[bytes] = _HEAD_TOO_LARGE
    """The whole answer, for a request that was not parsed."""

    __slots__ = ("_head_bytes", "_head_end", "_limits", "_lost", "_reads_head", "_timer", "_traffic", "_wire")

    def __init__(self, server: web.Server, limits: Limits, traffic: Tally, lost: Lost) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle_seconds,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp calls no access log
            max_line_size=limits.line_bytes,
            max_field_size=limits.field_bytes,
            max_headers=limits.headers,
            lingering_time=1.0,
            read_bufsize=limits.read_bytes,
            auto_decompress=False,
        )
        self._lost = lost
        self._limits = limits
        self._traffic = traffic
        self._wire: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reads_head = True
        self._head_bytes = 0
        self._head_end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        self._cut_after(self._limits.head_seconds, "slow request")

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, TimeoutError):  # TCP_USER_TIMEOUT: what was sent was not taken
            self._traffic.refuse("slow reader")
        self._disarm()
        self._wire = None
        super().connection_lost(exc)
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        if data and self._reads_head:
            if self._timer is None:
                self._cut_after(self._limits.head_seconds, "slow request")
            if self._is_head_too_large(data):
                self._refuse_head()
                return
        super().data_received(data)

    def _is_head_too_large(self, data: bytes) -> bool:
        end = (self._head_end + data).find(_END_OF_HEAD)
        if end >= 0:
            excess = self._head_bytes + end > self._limits.head_bytes
            self._head_bytes, self._head_end, self._reads_head = 0, b"", False
            return excess
        self._head_bytes += len(data)
        self._head_end = data[-3:]
        return self._head_bytes > self._limits.head_bytes

    def _refuse_head(self) -> None:
        self._traffic.refuse("too large")
        if self._wire is not None:
            self._wire.write(self.head_too_large)
        self.force_close()

    def request_begins(self) -> None:
        """The head of a request is complete."""
        self._disarm()
        self._reads_head = False

    def request_ends(self, *, whole: bool) -> None:
        """The answer is about to be written; unless the `whole` request was read, what comes is still its body."""
        self._reads_head = whole

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut_after(self._limits.write_seconds, "slow reader")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._disarm()

    def _cut_after(self, seconds: float, reason: str) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cut, reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self, reason: str) -> None:
        self._timer = None
        self._traffic.refuse(reason)
        self.abort()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A malformed request, or an exception of ours."""
        if status == 400:
            self._traffic.refuse("malformed")
            said = (message or "").partition("\n")[0].rstrip(":")
            response = self.error_answer(request, 400, f"malformed request: {said}")
        else:
            log.exception("request failed", path=request.path)
            response = self.error_answer(request, status, "the agent failed to answer; its log says why")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        response.force_close()
        return response

    def error_answer(self, request: web.BaseRequest, status: int, error: str) -> web.StreamResponse:
        """The answer to a request that was malformed, or that an exception of ours has ended."""
        return problem(status, error)

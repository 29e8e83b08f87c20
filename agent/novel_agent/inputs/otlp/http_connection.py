"""One connection over HTTP/1.1: the requests whose heads are known are served here, all others by aiohttp.

The rule. A request is served here when the connection is at the beginning of a request, the whole head has come in one
read and is one of the known `Heads`, and the body, whose length it gives, is no longer than what is handled whole. Every
other byte goes to aiohttp, which is made for the connection when the first such byte comes; it decides what is well formed,
and what it finds in order and plain becomes a known head. Who may send, how deeply a body is checked, what is charged and
counted, and every answer are the same on both ways.

A connection that aiohttp has served comes back here when exactly one request was given to it since it was at the beginning of
one: the bytes it got are as many as the head, which must be byte for byte what aiohttp read, and the length of the body
say. Where that cannot be told (bodies in chunks, a request behind another in one read, heads written unusually) the
connection is aiohttp's until it ends. Bytes behind a request that is served here wait until it is answered, and nothing is
read meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, cast

from novel_agent.inputs.otlp import http_answer
from novel_agent.inputs.otlp.admission import Admission, Share
from novel_agent.inputs.otlp.counts import FAILED, HUNG_UP, REFUSED_OUTCOME, TransportCounts
from novel_agent.inputs.otlp.door import Door
from novel_agent.inputs.otlp.http_answer import TAKEN, Answer
from novel_agent.inputs.otlp.http_head import LONGEST_HEAD_BYTES, Head, Heads, Parsed, Request, body_bytes, written
from novel_agent.inputs.otlp.intake import Intake, What
from novel_agent.inputs.otlp.refusal import FAULT, SLOW, Refused, busy
from novel_agent.logs import get_logger
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Lost

log = get_logger("api")

REQUEST_BYTES = 6 << 10
"""What a request costs while it is under way, whatever its body; charged to the admission."""

LINGER_SECONDS = 1.0
"""So long what comes is thrown away behind an answer that came before the end of the body."""

_NEVER = float("inf")

Due = Literal["slow request", "slow reader", "body", "quiet", "linger"]
"""What is the matter when a deadline passes."""


class Aiohttp(Protocol):
    """aiohttp's part in a connection."""

    @property
    def waits(self) -> bool:
        """For the first byte of a request, unless its parser has some already."""

    @property
    def has_enough(self) -> bool:
        """Whether it wants nothing to be read for now."""

    def take_over(self, transport: asyncio.Transport, head_seconds: float) -> None:
        """The connection is at the beginning of a request, whose head must come within this time."""

    def retire(self) -> None:
        """Let go of the connection, which goes on without it."""

    def end_wait(self) -> None:
        """Refuse the request whose body is waited for, if there is one."""

    def data_received(self, data: bytes) -> None:
        """As an `asyncio.Protocol`, like those below."""

    def connection_lost(self, exc: BaseException | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Service(NamedTuple):
    """What the connections of a receiver have in common."""

    door: Door
    intake: Intake
    admission: Admission
    counts: TransportCounts
    limits: Limits
    heads: Heads
    whole_bytes: int
    """The longest body that is served here."""
    make_aiohttp: "Callable[[HttpConnection], Aiohttp]"
    connections: "set[HttpConnection]"
    """Those that are up."""


class HttpConnection(asyncio.Protocol):
    """Speaks as much HTTP/1.1 as clients that send data do; its bytes are charged to the admission, which may hold it."""

    __slots__ = (
        "_aiohttp",
        "_body",
        "_came",
        "_came_bytes",
        "_due",
        "_due_at",
        "_is_blocked",
        "_is_discarding",
        "_is_ending",
        "_left_bytes",
        "_loop",
        "_lost",
        "_remote",
        "_service",
        "_tail",
        "_tail_start",
        "_timer",
        "_timer_at",
        "_wait",
        "_wire",
        "is_held",
        "requests",
        "share",
        "task",
    )

    def __init__(self, service: Service, lost: Lost) -> None:
        self._service = service
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._wire: asyncio.Transport | None = None
        self._remote: str | None = None
        self._aiohttp: Aiohttp | None = None
        self._came: bytes | None = b""
        """What aiohttp was given since the beginning of a request, as far as it may be a head; None: that is not known."""
        self._came_bytes = 0
        self._body: list[bytes] = []
        self._left_bytes = 0
        """Of the body of the request that is served here."""
        self._wait: asyncio.Future[None] | None = None
        """For the rest of the body."""
        self._tail = b""
        self._tail_start = 0
        """What comes behind that request."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._due: Due = "quiet"
        self._due_at = _NEVER
        self._is_blocked = False
        self._is_discarding = False
        self._is_ending = False
        self.is_held = False
        self.requests = 0
        self.task: asyncio.Task[None] | None = None
        """Serves a request here."""
        self.share: Share

    # what the transport tells -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._be_due_in(self._service.limits.head_seconds, "slow request")
        self._service.connections.add(self)
        self.share = self._service.admission.share(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._aiohttp is not None:
            self._aiohttp.connection_lost(exc)
        elif isinstance(exc, TimeoutError):  # TCP_USER_TIMEOUT: what was sent was not taken
            self._service.counts.refuse("slow reader")
        if self.task is not None:
            self.task.cancel()
        self._tail = b""
        self.share.close()
        self._service.connections.discard(self)
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        if self._is_discarding:
            self._discard(len(data))
            return
        self._charge(len(data))
        if self.is_held:  # uvloop reads once after connection_made, whatever was said there
            self._pause()
        if self._left_bytes:
            self._gather(data)
        elif self.task is not None or self._is_blocked or self._is_ending:
            self._keep(data, 0)
        else:
            self._receive(data, 0)

    def pause_writing(self) -> None:
        if self._aiohttp is not None:
            self._aiohttp.pause_writing()
            return
        self._is_blocked = True
        self._be_due_in(self._service.limits.write_seconds, "slow reader")

    def resume_writing(self) -> None:
        if self._aiohttp is not None:
            self._aiohttp.resume_writing()
            return
        self._is_blocked = False
        if self.task is None:
            self._go_on()
        elif self._left_bytes:
            self._be_due_in(self._service.limits.body_seconds, "body")
        else:
            self._due_at = _NEVER

    # receiving --------------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes, start: int) -> None:
        """Bytes at the beginning of a request, or anywhere in one of aiohttp's."""
        if self._aiohttp is None or (self._came == b"" and self._aiohttp.waits):
            found = self._service.heads.find(data, start)
            if found is not None and found[2] <= self._service.whole_bytes:
                self._begin(data, *found)
                return
        self._hand_over(data[start:] if start else data)

    def _begin(self, data: bytes, head: Head, start: int, length: int) -> None:
        if self._aiohttp is not None:
            self._aiohttp.retire()
            self._aiohttp = None
        if self._remote is None:
            self._remote = self._look_up_remote()
        self._due_at = _NEVER
        end = start + length
        if len(data) < end:
            self._left_bytes = end - len(data)
            self._body.append(data[start:])
            self._be_due_in(self._service.limits.body_seconds, "body")
        else:
            self._body.append(data[start:end])
            if len(data) > end:
                self._keep(data, end)
        self.task = self._loop.create_task(self._serve(head), name="request")

    def _gather(self, data: bytes) -> None:
        taken = min(self._left_bytes, len(data))
        self._left_bytes -= taken
        self._body.append(data if taken == len(data) else data[:taken])
        if self._left_bytes:
            return
        self._due_at = _NEVER
        if taken < len(data):
            self._keep(data, taken)
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(None)

    async def _rest_of_body(self) -> None:
        """Wait for it; Refused where it does not come in time."""
        self._wait = self._loop.create_future()
        try:
            await self._wait
        finally:
            self._wait = None

    def _keep(self, data: bytes, start: int) -> None:
        """Until the request before is answered; more is not read."""
        if self._tail:
            self._tail, self._tail_start = self._tail[self._tail_start :] + data[start:], 0
        else:
            self._tail, self._tail_start = data, start
        self._pause()

    def _discard(self, size_bytes: int) -> None:
        """The answer is on its way, and the connection ends after it."""
        self._left_bytes -= size_bytes
        if self._aiohttp is None and self._left_bytes <= 0 and self._wire is not None:
            self._wire.close()

    # serving ----------------------------------------------------------------------------------------------------------

    async def _serve(self, head: Head) -> None:
        """One request."""
        self.requests += 1
        counts = self._service.counts
        form = head.what.form
        try:
            answer = await self._ask(head)
        except Refused as why:
            counts.refuse(why.kind.reason)
            counts.requests[REFUSED_OUTCOME] += 1
            answer = http_answer.refused(form, why, keep_alive=not self._left_bytes)
        except asyncio.CancelledError:
            counts.requests[HUNG_UP] += 1
            self._is_ending = True
            self._end(None)
            raise
        except Exception as error:  # of whatever the batch is handed to: told, counted, and the next request is served
            log.exception("request failed", path=head.raw_path)
            counts.requests[FAILED] += 1
            counts.refuse(FAULT.reason)
            answer = http_answer.fault(form, 504 if isinstance(error, TimeoutError) else 500)
        self._end(answer)

    async def _ask(self, head: Head) -> Answer:
        door, what = self._service.door, head.what
        refusal = await door.access.judge(Request(head.method, head.raw_path, head.headers, self._remote))
        if refusal is not None:
            self._service.counts.requests[REFUSED_OUTCOME] += 1
            return http_answer.not_let_in(what.form, refusal, keep_alive=not self._left_bytes)
        if door.is_checked_deeply(self.requests):
            what = head.deep_what
        if self._left_bytes:
            await self._rest_of_body()
        taking = self._service.intake.take_whole(what, b"".join(self._body), self.share)
        self._body.clear()
        await taking
        return TAKEN[what.form, True]

    def _look_up_remote(self) -> str | None:
        """The peer's address, as aiohttp has it."""
        peer = None if self._wire is None else self._wire.get_extra_info("peername")
        if peer is None:
            return None
        return str(peer[0]) if isinstance(peer, list | tuple) else str(peer)

    def _end(self, answer: Answer | None) -> None:
        """The request is over."""
        self.task = None
        self._body.clear()
        self.share.discharge(self.share.size_bytes)
        if self._wire is None or answer is None:
            self.close()
            return
        self._wire.write(answer.whole())
        if self._left_bytes:
            self._tail = b""
            self._be_due_in(LINGER_SECONDS, "linger")
            self.discard_the_rest()
        elif self._is_ending or not answer.keep_alive:
            self.close()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """With what has come meanwhile, or wait for what comes."""
        if self._is_blocked or self._wire is None:
            return
        if not self._tail:
            self._be_due_in(self._service.limits.idle_seconds, "quiet")
            return
        tail, start = self._tail, self._tail_start
        self._tail = b""
        self._charge(len(tail) - start)
        self._receive(tail, start)
        if not self._tail and not self.is_held:
            self._read_on()

    # aiohttp's part ---------------------------------------------------------------------------------------------------

    def _hand_over(self, data: bytes) -> None:
        if self._aiohttp is None:
            assert self._wire is not None
            head_seconds = self._service.limits.head_seconds
            if not self.requests and self._due == "slow request":
                head_seconds = max(0.0, self._due_at - self._loop.time())
            self._due_at = _NEVER
            self._came = b""
            self._aiohttp = self._service.make_aiohttp(self)
            self._aiohttp.take_over(self._wire, head_seconds)
        if self._came is not None:
            self._came_bytes = len(data) + (self._came_bytes if self._came else 0)
            if len(self._came) < LONGEST_HEAD_BYTES:
                self._came += data[: LONGEST_HEAD_BYTES - len(self._came)]
        self._aiohttp.data_received(data)

    def learn(self, parsed: Parsed, what: What) -> None:
        """Keep the head of a request that aiohttp was given, as it is of a kind that is taken."""
        head = written(parsed)
        if head and self._came is not None and self._came.startswith(head):
            self._service.heads.learn(head, parsed, what)

    def request_ended(self, parsed: Parsed, *, whole: bool) -> None:
        """An answer of aiohttp's is about to be written; unless the `whole` request was read, what comes is still its body."""
        head = written(parsed)
        length = body_bytes(parsed)
        is_one = whole and head and length is not None and self._came is not None and self._came.startswith(head)
        self._came = b"" if is_one and self._came_bytes == len(head) + (length or 0) else None
        self.share.discharge(self.share.size_bytes)
        if not whole:
            self.discard_the_rest()

    def discard_the_rest(self) -> None:
        """What comes is thrown away; closing on it would reset the connection and lose the answer."""
        self._is_discarding = True
        self._read_on()

    # admission and the end --------------------------------------------------------------------------------------------

    def _charge(self, size_bytes: int) -> None:
        self.share.charge(size_bytes if self.share.size_bytes else size_bytes + REQUEST_BYTES)

    def hold(self) -> None:
        """Read nothing more."""
        self.is_held = True
        if not self._is_discarding:
            self._pause()

    def let(self) -> None:
        """Read again."""
        self.is_held = False
        self._read_on()

    def refuse(self) -> None:
        """End the wait for the rest of a body."""
        if self._aiohttp is not None:
            self._aiohttp.end_wait()
        elif self._wait is not None and not self._wait.done():
            self._wait.set_exception(busy())

    def pause(self) -> None:
        """Read nothing more, where aiohttp has begun to."""
        self._pause()

    def _pause(self) -> None:
        if self._wire is not None and not self._wire.is_closing():
            self._wire.pause_reading()

    def _read_on(self) -> None:
        """Unless there is something to be worked on first."""
        has_enough = self._tail or (self._aiohttp is not None and self._aiohttp.has_enough)
        if self._wire is not None and not self._wire.is_closing() and not has_enough:
            self._wire.resume_reading()

    def finish(self) -> None:
        """Begin no further request; the connection ends when it is answered what it was asked."""
        self._is_ending = True
        if self._aiohttp is None and self.task is None:
            self.close()

    def close(self) -> None:
        """When what was written is sent."""
        if not self._is_blocked:
            self._due_at = _NEVER
        self._tail = b""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()

    # deadlines --------------------------------------------------------------------------------------------------------

    def _be_due_in(self, seconds: float, due: Due) -> None:
        """One timer for all deadlines; where it comes too early it is set again."""
        self._due, self._due_at = due, self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._due_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self._loop.call_at(self._due_at, self._look), self._due_at

    def _look(self) -> None:
        self._timer = None
        if self._due_at == _NEVER or self._wire is None:
            return
        if self._loop.time() < self._due_at:
            self._timer, self._timer_at = self._loop.call_at(self._due_at, self._look), self._due_at
            return
        self._due_at = _NEVER
        if self._due == "body":
            if self._wait is not None and not self._wait.done():
                late = busy() if self.is_held else Refused(SLOW, "the body did not arrive in time")
                self._wait.set_exception(late)
        elif self._due in ("quiet", "linger"):
            self.close()
        else:
            self._service.counts.refuse("busy" if self.is_held and self._due == "slow request" else self._due)
            self.abort()

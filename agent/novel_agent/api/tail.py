"""`GET /api/v1/tail`: what flows through right now, a JSON object a line for as long as somebody reads it."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import msgspec

from novel_agent.api.trace_parameters import BadParameter, Parameters
from novel_agent.model.batch import SIGNALS, Signal
from novel_agent.runtime.destinations import Destinations
from novel_agent.runtime.tap import MOST_LISTENERS, Listener, TooManyListeners
from novel_agent.runtime.tapped import SEVERITIES, TailEnd, TailHeartbeat, TailLine, TailSkipped, Wanted
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import HEADERS, JSON, Answer, Problem, Route, problem

NDJSON = "application/x-ndjson"
HEARTBEAT_SECONDS = 5.0
LAST_LINE_SECONDS = 1.0
MOST_ITEMS = 1_000_000

_HEADERS = HEADERS | {"Content-Type": NDJSON, "X-Accel-Buffering": "no"}
_QUERY = {
    "signal": "logs, traces, metrics, several with commas between, or all, which is the default",
    "source": "Only what came through this input or is of this service; several times: of any of them",
    "min_severity": f"Log records at least that severe: {', '.join(SEVERITIES)}; of spans those that failed, no metrics",
    "match": "Only what has this text, as written, in its body, names, or the keys and texts of its attributes",
    "limit": f"End after so many items, 1 to {MOST_ITEMS}; without an end unless given",
}


class HasTap(Protocol):
    """What this path needs of the daemon."""

    destinations: Destinations


class TailResource:
    """What flows to the destinations. `closing` is set when the server that holds this begins to close."""

    def __init__(self, daemon: HasTap, closing: asyncio.Event) -> None:
        self._daemon = daemon
        self._closing = closing

    def routes(self) -> list[Route]:
        """What there is to ask."""
        answers = {
            200: Answer("One of these a line, as they pass", {NDJSON: TailLine}),
            400: Answer("A parameter that cannot be used", {JSON: Problem}),
            503: Answer(f"{MOST_LISTENERS} look on already", {JSON: Problem}),
        }
        summary = "What flows through right now"
        return [Route("GET", "/api/v1/tail", self.tail, summary, answers, query=_QUERY)]

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Stream until the limit is reached, the client hangs up or the server closes."""
        try:
            wanted, limit = _wanted(Parameters(request))
        except BadParameter as error:
            return problem(400, str(error))
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        try:
            listener = self._daemon.destinations.tap.listen(wanted)
        except TooManyListeners as error:
            return problem(503, str(error))
        response = web.StreamResponse(headers=_HEADERS)
        with listener, self._ended_with_the_server(listener, request), contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await self._stream(response, listener, limit)
            await response.write_eof()
        return response

    @contextmanager
    def _ended_with_the_server(self, listener: Listener, request: web.Request) -> Iterator[None]:
        task = asyncio.create_task(self._end_with_the_server(listener, request), name="end of a stream")
        try:
            yield
        finally:
            task.cancel()

    async def _end_with_the_server(self, listener: Listener, request: web.Request) -> None:
        """A client that does not even take the last line holds nobody up."""
        await self._closing.wait()
        listener.close()
        await asyncio.sleep(LAST_LINE_SECONDS)
        if request.transport is not None:
            request.transport.abort()

    @staticmethod
    async def _stream(response: web.StreamResponse, listener: Listener, limit: int | None) -> None:
        await response.write(_encoded([TailHeartbeat(time.time())]))
        while not listener.is_closed:
            found = await listener.next(HEARTBEAT_SECONDS)
            skipped = listener.take_skipped()
            if limit is not None:
                found = found[:limit]
                limit -= len(found)
            lines = [*([TailSkipped(skipped)] if skipped else []), *found]
            await response.write(_encoded(lines or [TailHeartbeat(time.time())]))
            if limit == 0:
                await response.write(_encoded([TailEnd("limit")]))
                return
        await response.write(_encoded([TailEnd("closing")]))


def _encoded(lines: Sequence[object]) -> bytes:
    return msgspec.json.Encoder().encode_lines(lines)


def _wanted(parameters: Parameters) -> tuple[Wanted, int | None]:
    parameters.check_names(_QUERY)
    severity = parameters.text("min_severity")
    if severity is not None and severity not in SEVERITIES:
        raise BadParameter("min_severity", severity, f"write one of {', '.join(SEVERITIES)}")
    limit = parameters.limit(MOST_ITEMS, MOST_ITEMS) if parameters.text("limit") is not None else None
    wanted = Wanted(
        signals=_signals(parameters.text("signal") or "all"),
        sources=tuple(parameters.every("source")),
        min_severity=SEVERITIES[severity] if severity is not None else 0,
        match=parameters.text("match") or "",
    )
    return wanted, limit


def _signals(sent: str) -> tuple[Signal, ...]:
    names = sent.split(",")
    if not {*names} <= {*SIGNALS, "all"}:
        raise BadParameter("signal", sent, "write logs, traces, metrics, several with commas between, or all")
    return SIGNALS if "all" in names else tuple(cast(list[Signal], names))

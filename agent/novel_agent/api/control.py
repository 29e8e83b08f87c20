"""`/-/healthy`, `/-/ready` and `POST /-/reload`, as Prometheus has them."""

import asyncio

from novel_agent.errors import AgentError, ConfigErrors
from novel_agent.runtime.daemon import Daemon
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, TEXT, Answer, Problem, Route, answer, problem, words

_MOVING = "the server closes before the reload has ended"


class Control:
    """What steers the agent. `closing` is set when the server that holds this begins to close."""

    def __init__(self, daemon: Daemon, closing: asyncio.Event) -> None:
        self._daemon = daemon
        self._closing = closing
        self._reloads: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """What there is to ask."""
        said, done = {TEXT: None}, {JSON: dict[str, str]}
        ready = {200: Answer("It is", said), 503: Answer("It starts or stops", {JSON: Problem})}
        reload = {
            200: Answer("The configuration is in force", done),
            202: Answer("The server closes before the reload has ended", done),
            400: Answer("It is not valid, the one before stays in force; `errors` has every mistake", {JSON: Problem}),
        }
        return [
            Route("GET", "/-/healthy", self.healthy, "Whether the process answers", {200: ready[200]}, is_open=True),
            Route("GET", "/-/ready", self.ready, "Whether the agent is up", ready, is_open=True),
            Route("POST", "/-/reload", self.reload, "Load the configuration anew", reload),
        ]

    async def healthy(self, request: web.Request) -> web.StreamResponse:
        """Alive."""
        return words("Novel Engine Agent is healthy.")

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Up."""
        if self._daemon.ready:
            return words("Novel Engine Agent is ready.")
        return problem(503, "Novel Engine Agent is starting or stopping")

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """Reload; goes on when the client hangs up, and does not hold up the server it may be about to close."""
        reload = self._next_reload()
        closing = asyncio.create_task(self._closing.wait(), name="server closes")
        try:
            await asyncio.wait({reload, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        if not reload.done():
            return answer({"status": "success", "message": _MOVING}, status=202)
        return _outcome(reload.exception())

    def _next_reload(self) -> asyncio.Task[None]:
        """The reload that begins after this; requests that come while one waits for its turn share it."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._reload_in_turn(), name="reload by request")
            self._reloads.add(self._waiting)
            self._waiting.add_done_callback(self._done)
        return self._waiting

    async def _reload_in_turn(self) -> None:
        async with self._turn:
            self._waiting = None
            await self._daemon.reload()

    def _done(self, reload: asyncio.Task[None]) -> None:
        self._reloads.discard(reload)
        if not reload.cancelled():
            reload.exception()  # the daemon has logged it; asyncio need not complain that nobody looked


def _outcome(error: BaseException | None) -> web.Response:
    if error is None:
        return answer({"status": "success", "message": "the configuration is in force"})
    if isinstance(error, ConfigErrors):
        return problem(400, str(error), errors=[str(each) for each in error.errors])
    if isinstance(error, AgentError):
        return problem(400, str(error), errors=[str(error)])
    raise error

"""`GET /api/v1/status` and `/api/v1/system/overview`: what runs and at what cost, and the host at a glance."""

from novel_agent.runtime.daemon import Daemon
from novel_agent.runtime.status import Overview, Status
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, Answer, Route, answer


class StatusResource:
    """The agent and its host."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """What there is to ask."""
        status = Answer("Times in seconds since the epoch; counts since start", {JSON: Status})
        overview = Answer("Shares are 0 to 1; null where unknown", {JSON: Overview})
        return [
            Route("GET", "/api/v1/status", self.status, "What `novel-agent status` prints", {200: status}),
            Route("GET", "/api/v1/system/overview", self.overview, "The host at a glance", {200: overview}),
        ]

    async def status(self, request: web.Request) -> web.StreamResponse:
        """The agent."""
        return answer(self._daemon.status())

    async def overview(self, request: web.Request) -> web.StreamResponse:
        """The host."""
        return answer(await self._daemon.overview())

"""`GET /api/v1/inputs/{name}/check`: one input run once, now, by the agent itself; one at a time."""

import asyncio

from novel_agent.runtime.daemon import Daemon
from novel_agent.runtime.once import OnceResult
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, Answer, Problem, Route, answer, problem


class InputsResource:
    """The inputs that are on."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> list[Route]:
        """What there is to ask."""
        answers = {
            200: Answer("What it yielded", {JSON: OnceResult}),
            404: Answer("No such input is on", {JSON: Problem}),
        }
        name = {"name": "An input, as `novel-agent plugins` names it"}
        return [Route("GET", "/api/v1/inputs/{name}/check", self.check, "Run one input now", answers, name)]

    async def check(self, request: web.Request) -> web.StreamResponse:
        """Run it."""
        name = request.match_info["name"]
        async with self._one_at_a_time:
            result = await self._daemon.check(name)
        if result is None:
            return problem(404, f"no input named {name[:100]!r} is on; /api/v1/status lists them")
        return answer(result)

"""`GET /health…`: whether the agent is well, from what supervision knows already. Nothing is asked or waited for.

Healthy and degraded are 200, unhealthy is 503. With `Accept: application/health+json` the same is said as
draft-inadarei-api-health-check-06 has it: pass, warn, fail.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from novel_agent import __version__
from novel_agent.runtime.daemon import Daemon
from novel_agent.runtime.status import HealthCheck
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.negotiate import media_type
from novel_agent.serving.route import JSON, Answer, Problem, Route, answer, problem

HEALTH_JSON = "application/health+json"

_OFFERS = (JSON, HEALTH_JSON)
_DRAFT_STATUS = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}


class Brief(msgspec.Struct):
    """The status, and what stands behind it where it is not `healthy`."""

    status: str
    reasons: list[str]


class Check(msgspec.Struct):
    """One check. `checked_at` is in seconds since the epoch."""

    name: str
    status: str
    message: str
    checked_at: float
    age_seconds: float


class Detailed(msgspec.Struct):
    """The status and every check."""

    status: str
    version: str
    host: str
    started_at: float
    uptime_seconds: float
    checks: list[Check]


class HealthResource:
    """Health as a whole, in parts, and for orchestrators."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """What there is to ask."""
        brief, detailed, one = _answers(Brief), _answers(Detailed), _answers(Check)
        one[404] = Answer("No check has that name", {JSON: Problem})
        name = {"name": "A check, as /health/detailed names it"}
        return [
            Route("GET", "/health", self.get, "Whether the agent is well, and why not", brief, is_open=True),
            Route("GET", "/health/live", self.live, "Whether the process answers", {200: brief[200]}, is_open=True),
            Route("GET", "/health/ready", self.ready, "Whether the agent is up", brief, is_open=True),
            Route("GET", "/health/detailed", self.detailed, "Every check with its age", detailed, is_open=True),
            Route("GET", "/health/check/{name}", self.check, "One check", one, name, is_open=True),
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The whole."""
        health = self._daemon.health()
        reasons = [f"{check.name}: {check.message}" for check in health.checks if check.status != "healthy"]
        return _answer(request, health.status, Brief(health.status, reasons), health.checks)

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Alive, as this answer shows."""
        return _answer(request, "healthy", Brief("healthy", []), [])

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Whether start-up is over and shutdown has not begun."""
        ready = self._daemon.ready
        status = "healthy" if ready else "unhealthy"
        return _answer(request, status, Brief(status, [] if ready else ["starting or stopping"]), [])

    async def detailed(self, request: web.Request) -> web.StreamResponse:
        """Everything."""
        status, now = self._daemon.status(), time.time()
        checks = [_with_age(check, now) for check in status.health.checks]
        uptime = now - status.started_at
        body = Detailed(status.health.status, __version__, status.host, status.started_at, uptime, checks)
        return _answer(request, body.status, body, status.health.checks)

    async def check(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        name = request.match_info["name"]
        for check in self._daemon.health().checks:
            if check.name == name:
                return _answer(request, check.status, _with_age(check, time.time()), [check])
        return problem(404, f"no check is named {name[:100]!r}; /health/detailed lists them")


def _answers(body: type) -> dict[int, Answer]:
    content = {JSON: body, HEALTH_JSON: None}
    return {200: Answer("Healthy or degraded", content), 503: Answer("Unhealthy", content)}


def _with_age(check: HealthCheck, now: float) -> Check:
    return Check(check.name, check.status, check.message, check.checked_at, max(0.0, now - check.checked_at))


def _answer(request: web.Request, status: str, body: object, checks: Iterable[HealthCheck]) -> web.Response:
    form = media_type(request.headers.get("Accept", ""), _OFFERS)
    code = 503 if status == "unhealthy" else 200
    return answer(body if form == JSON else _draft(status, checks), status=code, content_type=form)


def _draft(status: str, checks: Iterable[HealthCheck]) -> dict[str, Any]:
    """Sections 3 and 4 of the draft; `output` is for what does not pass."""
    return {
        "status": _DRAFT_STATUS[status],
        "version": "1",
        "releaseId": __version__,
        "description": "health of Novel Engine Agent",
        "checks": {check.name: [_draft_check(check)] for check in checks},
    }


def _draft_check(check: HealthCheck) -> dict[str, str]:
    time_of_check = datetime.fromtimestamp(check.checked_at, UTC).isoformat(timespec="milliseconds")
    about = {
        "componentType": "component",
        "status": _DRAFT_STATUS[check.status],
        "time": time_of_check.replace("+00:00", "Z"),
    }
    return about if check.status == "healthy" else about | {"output": check.message}

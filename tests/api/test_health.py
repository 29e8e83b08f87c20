import asyncio
import time
from typing import Any

import pytest

from .conftest import Running

HEALTH_JSON = {"Accept": "application/health+json"}
WATCHED = ["inputs", "tasks", "budget", "configuration"]


def break_inputs(agent: Running, *names: str) -> None:
    for watched in agent.daemon.sampler.watched:
        watched.component.state = "failing" if watched.component.name in names else "up"


async def test_a_well_agent_is_healthy(agent: Running) -> None:
    reply = await agent.ask("/health")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {"status": "healthy", "reasons": []}


async def test_degraded_is_still_200_and_says_why(agent: Running) -> None:
    break_inputs(agent, "cpu")
    reply = await agent.ask("/health")
    assert reply.status == 200
    assert reply.json() == {"status": "degraded", "reasons": ["inputs: failing: cpu"]}


async def test_unhealthy_is_503_and_liveness_does_not_care(agent: Running) -> None:
    break_inputs(agent, "cpu", "loadavg")
    assert (await agent.ask("/health")).status == 503
    assert (await agent.ask("/health/detailed")).status == 503
    assert (await agent.ask("/health/check/inputs")).status == 503
    assert (await agent.ask("/health/check/tasks")).status == 200
    assert (await agent.ask("/health/live")).status == 200
    assert (await agent.ask("/health/ready")).status == 200


async def test_ready_follows_the_daemon(agent: Running) -> None:
    agent.daemon.ready = False
    reply = await agent.ask("/health/ready")
    assert reply.status == 503
    assert reply.json() == {"status": "unhealthy", "reasons": ["starting or stopping"]}
    agent.daemon.ready = True
    assert (await agent.ask("/health/ready")).status == 200


async def test_every_check_has_its_age(agent: Running) -> None:
    body = (await agent.ask("/health/detailed")).json()
    assert [check["name"] for check in body["checks"]] == WATCHED
    assert all(0 <= check["age_seconds"] < 60 for check in body["checks"])
    assert body["uptime_seconds"] < 60
    agent.daemon.sampler.watched[0].component.last_run_at = time.time() - 100
    aged = (await agent.ask("/health/check/inputs")).json()
    assert 100 <= aged["age_seconds"] < 160


async def test_a_check_that_does_not_exist_is_404(agent: Running) -> None:
    reply = await agent.ask("/health/check/no%20such")
    assert reply.status == 404
    assert "'no such'" in reply.json()["error"]


@pytest.mark.parametrize(
    ("broken", "status", "code"), [("", "pass", 200), ("cpu", "warn", 200), ("cpu loadavg", "fail", 503)]
)
async def test_the_health_json_of_the_draft_is_served_by_accept(
    agent: Running, broken: str, status: str, code: int
) -> None:
    break_inputs(agent, *broken.split())
    reply = await agent.ask("/health", **HEALTH_JSON)
    body = reply.json()
    assert reply.status == code
    assert reply.headers["content-type"] == "application/health+json"
    assert body["status"] == status
    assert list(body["checks"]) == WATCHED
    [inputs] = body["checks"]["inputs"]
    assert inputs["status"] == status
    assert ("output" in inputs) == bool(broken)
    assert inputs["time"].endswith("Z")


async def test_health_answers_at_once_while_a_scrape_hangs(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = asyncio.Event()

    async def hang() -> Any:
        await hanging.wait()
        return []

    monkeypatch.setattr(agent.daemon, "metrics", hang)
    scrape = asyncio.create_task(agent.ask("/metrics"))
    took = []
    for path in ["/health", "/health/live", "/health/ready", "/health/detailed", "/health/check/inputs"] * 3:
        began = time.perf_counter()
        assert (await agent.ask(path)).status == 200
        took.append(time.perf_counter() - began)
    assert sorted(took)[len(took) // 2] < 0.05
    hanging.set()
    await scrape

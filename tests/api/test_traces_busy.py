"""Searches of recent traces are few at a time and end."""

import asyncio
from pathlib import Path

import pytest
from trace_payloads import request, span

from novel_agent.outputs.recent_traces import RecentTraces, SpanWanted, TooBusy, TraceWanted

from .traced import traced

PATHS = [
    "/api/v1/traces",
    "/api/v1/traces/1",
    "/api/services",
    "/api/traces?limit=5",
    "/api/traces/1",
    "/api/dependencies",
]


def store_with(spans: int, **options: float) -> RecentTraces:
    store = RecentTraces(8 << 20, **options)
    for number in range(0, spans, 250):
        store.add(request(*(span(each + 1, each + 1, "op", k="v") for each in range(number, number + 250))), 1000.0)
    return store


@pytest.mark.parametrize("path", PATHS)
async def test_a_third_search_is_told_to_come_back(tmp_path: Path, path: str) -> None:
    store = RecentTraces(1 << 20, wait_seconds=0.05)
    store.add(request(span(1, 1, "op")), 1000.0)
    async with traced(tmp_path, store) as agent:
        async with store.search():
            assert (await agent.ask(path)).status == 200
            async with store.search():
                reply = await agent.ask(path)
                assert (reply.status, reply.headers["retry-after"]) == (503, "5")
                assert reply.json()["error"] == "2 searches are under way already"
        assert (await agent.ask(path)).status == 200


async def test_who_waits_has_the_place_when_it_is_free(tmp_path: Path) -> None:
    store = RecentTraces(1 << 20, wait_seconds=10)
    async with traced(tmp_path, store) as agent:
        async with store.search(), store.search():
            asking = asyncio.create_task(agent.ask("/api/v1/traces"))
            await asyncio.sleep(0)
        assert (await asking).status == 200


async def test_what_takes_too_long_is_given_up() -> None:
    store = store_with(5_000, search_seconds=0.001)
    with pytest.raises(TooBusy, match=r"longer than 0\.001 s"):
        async with store.search():
            await store.find(SpanWanted(attributes={"k": "no"}), TraceWanted(), 10)
    assert len(await store.find(SpanWanted(), TraceWanted(), 10)) == 10


async def test_a_search_that_fails_gives_its_place_back() -> None:
    store = RecentTraces(1 << 20, wait_seconds=0.01)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with store.search():
                raise KeyError
    async with store.search(), store.search():
        pass

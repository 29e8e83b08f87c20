from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from trace_payloads import BEGAN, pairs, request, span, span_id, trace_id

from novel_agent.outputs.recent_traces import RecentTraces

from .conftest import Running
from .traced import traced

ID = trace_id(1).hex()
STORY = span(
    1, 1, "GET /story", for_ms=1500, kind=2, http__route="/story", http__response__status_code=500, failed="boom"
)
STORY.events.add(name="exception", time_unix_nano=BEGAN + 1000).attributes.extend(
    pairs({"exception.type": "ValueError"})
)
STORY.links.add(trace_id=trace_id(7), span_id=span_id(8))


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Running]:
    store = RecentTraces(1 << 20)
    store.add(request(STORY, scope="lib 1.2", host__name="h"), 1_790_000_002.5)
    store.add(request(span(1, 2, "SELECT", parent=1, at_ms=250, for_ms=20, kind=3), service="db"), 1_790_000_002.75)
    store.add(request(span(2, 3, "GET /", at_ms=2000, for_ms=3)), 1_790_000_003.0)
    async with traced(tmp_path, store) as running:
        yield running


async def ids(agent: Running, query: str) -> list[int]:
    reply = await agent.ask(f"/api/v1/traces?{query}")
    assert reply.status == 200, reply.body
    return [int(each["trace_id"], 16) for each in reply.json()["traces"]]


async def test_traces_are_listed_newest_first_with_what_matters_of_each(agent: Running) -> None:
    body = (await agent.ask("/api/v1/traces")).json()
    assert [each["trace_id"] for each in body["traces"]] == [trace_id(2).hex(), ID]
    assert body["traces"][1] == {
        "trace_id": "00000000000000000000000000000001",
        "service": "web",
        "name": "GET /story",
        "start": 1790000000.0,
        "duration_seconds": 1.5,
        "span_count": 2,
        "error_count": 1,
        "services": ["db", "web"],
    }
    store = body["store"]
    assert (store["since"], store["undecodable_requests"], store["skipped_spans"]) == (1790000002.5, 0, 0)
    assert store["held_bytes"] > 450


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("service=db", [1]),
        ("service=web", [2, 1]),
        ("service=web&operation=SELECT", []),
        ("operation=GET%20/story", [1]),
        ("min_duration=1s", [1]),
        ("min_duration=1.5s", [1]),
        ("min_duration=1501ms", []),
        ("max_duration=1m30s&min_duration=3000us", [2, 1]),
        ("max_duration=100ms", [2]),
        ("error=true", [1]),
        ("error=false", [2, 1]),
        ("limit=1", [2]),
        ("start=1790000001", [2]),
        ("end=1790000001.5", [1]),
        ("start=2026-09-21T14:13:21Z", [2]),
        ("start=2026-09-21T16:13:21%2B02:00", [2]),
        ("end=2026-09-21T14:13:20Z", [1]),
        ("tag=http.route:/story", [1]),
        ("tag=http.route:/story&tag=http.response.status_code:500", [1]),
        ("tag=http.route:/story&tag=http.response.status_code:200", []),
        ("tag=host.name:h", [1]),
        ("service=&tag=", [2, 1]),
    ],
)
async def test_traces_are_chosen_by_what_is_asked(agent: Running, query: str, found: list[int]) -> None:
    assert await ids(agent, query) == found


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("limit=0", "limit=0: write a number from 1 to 1000"),
        ("limit=1001", "limit=1001: write a number from 1 to 1000"),
        ("limit=ten", "limit=ten: write a whole number"),
        ("limit=-1", "limit=-1: write a whole number"),
        ("min_duration=10", "min_duration=10: write a duration such as 250ms, 1.5s or 1m30s"),
        ("min_duration=1d", "min_duration=1d: write a duration such as 250ms, 1.5s or 1m30s"),
        ("min_duration=2s&max_duration=1s", "max_duration=1s: write no less than min_duration"),
        ("start=now", "start=now: write seconds since the epoch, or a time such as 2026-11-28T10:00:00Z"),
        ("end=2026-11-28", "end=2026-11-28: write seconds since the epoch, or a time such as 2026-11-28T10:00:00Z"),
        ("tag=route", "tag=route: write key:value"),
        ("error=yes", "error=yes: write true or false"),
        (
            "sevice=web",
            "sevice=web: not known here; there are service, operation, min_duration, max_duration, start, end, limit, "
            "tag, error",
        ),
    ],
)  # fmt: skip
async def test_a_parameter_that_cannot_be_used_is_named_with_what_would_be_right(
    agent: Running, query: str, error: str
) -> None:
    reply = await agent.ask(f"/api/v1/traces?{query}")
    assert (reply.status, reply.json()) == (400, {"status": "error", "errorType": "bad_data", "error": error})


async def test_one_trace_is_shown_whole_in_the_order_of_its_spans(agent: Running) -> None:
    body = (await agent.ask(f"/api/v1/traces/{ID}")).json()
    assert (body["trace"]["name"], body["left_out"]) == ("GET /story", 0)
    assert body["resources"] == [{"service.name": "web", "host.name": "h"}, {"service.name": "db"}]
    first, second = body["spans"]
    assert first == {
        "span_id": "0000000000000001",
        "parent_span_id": None,
        "name": "GET /story",
        "kind": "SERVER",
        "service": "web",
        "start": 1790000000.0,
        "offset_seconds": 0.0,
        "duration_seconds": 1.5,
        "status": {"code": "ERROR", "message": "boom"},
        "attributes": {"http.route": "/story", "http.response.status_code": 500},
        "events": [{"time": 1790000000.000001, "name": "exception", "attributes": {"exception.type": "ValueError"}}],
        "links": [{"trace_id": trace_id(7).hex(), "span_id": "0000000000000008", "attributes": {}}],
        "scope": "lib 1.2",
        "resource": 0,
    }
    assert (second["parent_span_id"], second["offset_seconds"], second["resource"]) == ("0000000000000001", 0.25, 1)


async def test_an_id_may_be_written_short_or_in_capitals(agent: Running) -> None:
    assert (await agent.ask("/api/v1/traces/1")).json()["trace"]["trace_id"] == ID
    assert (await agent.ask("/api/v1/traces/0001")).status == 200


async def test_an_unknown_trace_is_not_found_and_an_id_that_is_none_is_refused(agent: Running) -> None:
    reply = await agent.ask("/api/v1/traces/ABC")
    assert reply.status == 404
    assert reply.json()["error"] == (
        "no trace 00000000000000000000000000000abc is held; /api/v1/traces lists those that are"
    )
    reply = await agent.ask("/api/v1/traces/xyz")
    assert reply.status == 400
    assert reply.json()["error"] == "trace id=xyz: write up to 32 hexadecimal digits"
    assert (await agent.ask(f"/api/v1/traces/{ID}0")).status == 400


async def test_without_a_store_both_paths_say_why(tmp_path: Path) -> None:
    async with traced(tmp_path, None) as agent:
        for path in ("/api/v1/traces", f"/api/v1/traces/{ID}"):
            reply = await agent.ask(path)
            assert (reply.status, reply.json()["error"]) == (404, "no traces are kept here: traces.recent is 0")


async def test_an_answer_is_bounded_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    store = RecentTraces(64 << 20)
    for number in range(1, 13):
        store.add(request(span(1, number, at_ms=number, text="x" * 1_000_000)), 1.0)
    async with traced(tmp_path, store) as agent:
        reply = await agent.ask("/api/v1/traces/1")
    assert len(reply.body) < 8 << 20
    body: Any = reply.json()
    assert (len(body["spans"]), body["left_out"], body["trace"]["span_count"]) == (8, 4, 12)


async def test_values_json_has_no_word_for_do_no_harm(tmp_path: Path) -> None:
    store = RecentTraces(1 << 20)
    odd = span(1, 1, nan=float("nan"), raw=b"\x00\xff", many=["a", "b"], big=1 << 62)
    odd.end_time_unix_nano = (1 << 64) - 1
    store.add(request(odd), 1.0)
    async with traced(tmp_path, store) as agent:
        (shown,) = (await agent.ask("/api/v1/traces/1")).json()["spans"]
    assert shown["attributes"] == {"nan": None, "raw": "AP8=", "many": ["a", "b"], "big": 4611686018427387904}


async def test_both_paths_are_described(agent: Running) -> None:
    body = (await agent.ask("/openapi.json")).json()
    answers = body["paths"]["/api/v1/traces"]["get"]["responses"]
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/RecentTraceList"}
    assert "401" in body["paths"]["/api/v1/traces/{id}"]["get"]["responses"]
    assert "offset_seconds" in body["components"]["schemas"]["TraceSpan"]["properties"]

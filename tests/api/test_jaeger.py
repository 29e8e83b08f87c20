"""What Grafana's Jaeger data source and jaeger-ui ask, and what they can read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from trace_payloads import BEGAN, pairs, request, span, span_id, trace_id

from novel_agent.outputs.recent_traces import RecentTraces

from .conftest import Running
from .traced import traced

BEGAN_US = 1_790_000_000_000_000
ID = "00000000000000000000000000000001"
STORY = span(
    1, 1, "GET /story", for_ms=1500, kind=2, failed="boom",
    http__route="/story", retries=3, ratio=0.5, cached=True, raw=b"\x00\xff",
)  # fmt: skip
STORY.trace_state = "a=b"
STORY.events.add(name="exception", time_unix_nano=BEGAN + 1000).attributes.extend(
    pairs({"exception.type": "ValueError"})
)
STORY.links.add(trace_id=trace_id(7), span_id=span_id(8))


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Running]:
    store = RecentTraces(1 << 20)
    store.add(request(STORY, scope="lib 1.2", host__name="h"), 1.0)
    store.add(request(span(1, 2, "SELECT", parent=1, at_ms=250, for_ms=20, kind=3), service="db"), 2.0)
    store.add(request(span(2, 3, "GET /", at_ms=2000, for_ms=3), service="web"), 3.0)
    async with traced(tmp_path, store) as running:
        yield running


async def data(agent: Running, path: str) -> Any:
    reply = await agent.ask(path)
    assert reply.status == 200, reply.body
    body = reply.json()
    assert set(body) == {"data", "total", "limit", "offset", "errors"}
    assert body["errors"] is None
    return body["data"]


async def ids(agent: Running, query: str) -> list[int]:
    return [int(each["traceID"], 16) for each in await data(agent, f"/api/traces?{query}")]


async def test_services_are_what_the_health_check_of_a_data_source_asks_for(agent: Running) -> None:
    body = (await agent.ask("/api/services")).json()
    assert body == {"data": ["db", "web"], "total": 2, "limit": 0, "offset": 0, "errors": None}


async def test_lists_are_empty_rather_than_null(tmp_path: Path) -> None:
    async with traced(tmp_path, RecentTraces(1 << 20)) as agent:
        paths = ("services", "services/web/operations", "operations?service=web", "traces?service=web", "dependencies")
        for path in paths:
            assert await data(agent, f"/api/{path}") == []


async def test_operations_have_names_and_by_the_other_path_kinds(agent: Running) -> None:
    assert await data(agent, "/api/services/web/operations") == ["GET /", "GET /story"]
    assert await data(agent, "/api/operations?service=web") == [
        {"name": "GET /", "spanKind": ""},
        {"name": "GET /story", "spanKind": "server"},
    ]
    assert await data(agent, "/api/operations?service=web&spanKind=server") == [
        {"name": "GET /story", "spanKind": "server"}
    ]


async def test_a_service_with_a_slash_may_be_encoded_once_or_twice(tmp_path: Path) -> None:
    store = RecentTraces(1 << 20)
    store.add(request(span(1, 1, "x"), service="team/web app"), 1.0)
    async with traced(tmp_path, store) as agent:
        once = quote("team/web app", safe="")
        assert await data(agent, f"/api/services/{once}/operations") == ["x"]
        assert await data(agent, f"/api/services/{quote(once)}/operations") == ["x"]


async def test_a_trace_looks_as_jaeger_would_show_it(agent: Running) -> None:
    (trace,) = await data(agent, f"/api/traces/{ID}")
    assert (trace["traceID"], trace["warnings"]) == (ID, [])
    assert trace["processes"] == {
        "p1": {"serviceName": "web", "tags": [{"key": "host.name", "type": "string", "value": "h"}]},
        "p2": {"serviceName": "db", "tags": []},
    }
    first, second = trace["spans"]
    assert first == {
        "traceID": ID,
        "spanID": "0000000000000001",
        "operationName": "GET /story",
        "references": [{"refType": "FOLLOWS_FROM", "traceID": trace_id(7).hex(), "spanID": "0000000000000008"}],
        "startTime": BEGAN_US,
        "duration": 1_500_000,
        "tags": [
            {"key": "otel.scope.name", "type": "string", "value": "lib"},
            {"key": "otel.scope.version", "type": "string", "value": "1.2"},
            {"key": "http.route", "type": "string", "value": "/story"},
            {"key": "retries", "type": "int64", "value": 3},
            {"key": "ratio", "type": "float64", "value": 0.5},
            {"key": "cached", "type": "bool", "value": True},
            {"key": "raw", "type": "binary", "value": "AP8="},
            {"key": "span.kind", "type": "string", "value": "server"},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_description", "type": "string", "value": "boom"},
            {"key": "w3c.tracestate", "type": "string", "value": "a=b"},
        ],
        "logs": [
            {
                "timestamp": BEGAN_US + 1,
                "fields": [
                    {"key": "event", "type": "string", "value": "exception"},
                    {"key": "exception.type", "type": "string", "value": "ValueError"},
                ],
            }
        ],
        "processID": "p1",
        "warnings": [],
    }
    assert second["references"] == [{"refType": "CHILD_OF", "traceID": ID, "spanID": "0000000000000001"}]
    assert (second["processID"], second["logs"]) == ("p2", [])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # as Grafana's data source writes it, in Go and before that in the browser
        (f"end={BEGAN_US + 3_000_000}&limit=20&service=web&start={BEGAN_US}", [2, 1]),
        (
            f"operation=GET%20%2Fstory&service=web&tags=%7B%22error%22%3A%22true%22%7D&minDuration=1.2s&maxDuration=2s"
            f"&limit=1500&start={BEGAN_US}&end={BEGAN_US}&lookback=custom",
            [1],
        ),
        # as jaeger-ui does
        (
            f"end={BEGAN_US + 3_000_000}&limit=20&lookback=1h&maxDuration&minDuration&service=web&start={BEGAN_US + 1}"
            "&tags=%7B%22host.name%22%3A%22h%22%7D",
            [],
        ),
        ("service=db", [1]),
        ("service=mail", []),
        ("", [2, 1]),
        ("tag=http.route:/story", [1]),
        ("tag=http.route:/story&tag=retries:4", []),
        ("tags={%22http.route%22:%22/story%22,%22cached%22:%22true%22}", [1]),
        ("service=web&limit=1", [2]),
        ("limit=0", [2, 1]),
        ("minDuration=20ms&service=db", [1]),
        ("minDuration=20001us&service=db", []),
        ("maxDuration=0s&service=db", [1]),
        (f"start={BEGAN_US + 2_000_000}", [2]),
        (f"traceID={ID}&traceID=7&traceID=2", [1, 2]),
    ],
)
async def test_searches_find_what_they_should(agent: Running, query: str, found: list[int]) -> None:
    assert await ids(agent, query) == found


async def test_calls_between_services_make_the_dependency_graph(agent: Running) -> None:
    link = [{"parent": "web", "child": "db", "callCount": 1}]
    end = BEGAN_US // 1000 + 1000
    assert await data(agent, f"/api/dependencies?endTs={end}&lookback=3600000") == link
    assert await data(agent, f"/api/dependencies?endTs={end}&lookback=3600000&service=db") == link
    assert await data(agent, f"/api/dependencies?endTs={end}&lookback=3600000&service=mail") == []
    assert await data(agent, f"/api/dependencies?endTs={end}&lookback=700") == []


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("traces/abc", 404, "trace not found"),
        ("traces/xyz", 400, "trace id=xyz: write up to 32 hexadecimal digits"),
        ("traces?traceID=xyz", 400, "traceID=xyz: write up to 32 hexadecimal digits"),
        ("traces?start=yesterday", 400, "start=yesterday: write a whole number"),
        ("traces?minDuration=5", 400, "minDuration=5: write a duration such as 250ms, 1.5s or 1m30s"),
        ("traces?tag=x", 400, "tag=x: write key:value"),
        ("traces?tags=x", 400, 'tags=x: write a JSON object of texts, such as {"http.route":"/x"}'),
        ("operations", 400, "service=: name a service; /api/services lists them"),
        (
            "operations?service=web&spanKind=x",
            400,
            "spanKind=x: write one of internal, server, client, producer, consumer",
        ),
        ("dependencies?lookback=1h", 400, "lookback=1h: write a whole number"),
    ],
)
async def test_errors_have_jaegers_form_and_the_agents(agent: Running, path: str, status: int, message: str) -> None:
    reply = await agent.ask(f"/api/{path}")
    body = reply.json()
    assert (reply.status, body["errors"]) == (status, [{"code": status, "msg": message}])
    assert (body["status"], body["error"], body["data"]) == ("error", message, [])


async def test_without_a_store_the_health_check_fails_and_says_why(tmp_path: Path) -> None:
    async with traced(tmp_path, None) as agent:
        reply = await agent.ask("/api/services")
        assert (reply.status, reply.json()["error"]) == (404, "no traces are kept here: traces.recent is 0")


async def test_what_javascript_cannot_hold_is_text(tmp_path: Path) -> None:
    store = RecentTraces(1 << 20)
    store.add(
        request(span(1, 1, big=(1 << 53) + 1, safe=(1 << 53) - 1, low=-(1 << 62), nan=float("nan"), many=["a", 1])), 1.0
    )
    async with traced(tmp_path, store) as agent:
        ((trace),) = await data(agent, "/api/traces/1")
    assert trace["spans"][0]["tags"] == [
        {"key": "big", "type": "int64", "value": "9007199254740993"},
        {"key": "safe", "type": "int64", "value": 9007199254740991},
        {"key": "low", "type": "int64", "value": "-4611686018427387904"},
        {"key": "nan", "type": "string", "value": "nan"},
        {"key": "many", "type": "string", "value": '["a",1]'},
    ]


async def test_an_answer_is_bounded_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    store = RecentTraces(64 << 20)
    for number in range(1, 13):
        large = span(1 if number < 11 else number, number, at_ms=-number, text="x" * 1_000_000)
        store.add(request(large), 1.0)
    async with traced(tmp_path, store) as agent:
        one = await agent.ask("/api/traces/1")
        many = await agent.ask("/api/traces?service=web")
    assert len(one.body) < 8 << 20
    assert len(many.body) < 8 << 20
    (trace,) = one.json()["data"]
    assert (len(trace["spans"]), trace["warnings"]) == (8, ["2 of 10 spans are not shown"])
    assert [each["traceID"] for each in many.json()["data"]] == [ID]
    assert many.json()["errors"] == [{"code": 413, "msg": "only 1 traces: the answer would be larger than 8 MiB"}]


async def test_every_path_is_described_and_needs_the_token_elsewhere(agent: Running) -> None:
    paths = (await agent.ask("/openapi.json")).json()["paths"]
    for path in (
        "/api/services", "/api/services/{service}/operations", "/api/operations", "/api/traces", "/api/traces/{id}",
        "/api/dependencies",
    ):  # fmt: skip
        assert "401" in paths[path]["get"]["responses"]

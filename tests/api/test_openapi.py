import re
from typing import Any

from .conftest import Running


async def document(agent: Running) -> Any:
    return (await agent.ask("/openapi.json")).json()


async def test_it_describes_exactly_the_routes_that_exist(agent: Running) -> None:
    described = {
        (method.upper(), path) for path, operations in (await document(agent))["paths"].items() for method in operations
    }
    app = agent.server._runner.app  # type: ignore[union-attr]
    existing = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    head = {(method, path) for method, path in existing if method == "HEAD"}
    assert existing - head == described
    assert {path for _, path in head} == {path for method, path in described if method == "GET"}


async def test_every_reference_leads_somewhere(agent: Running) -> None:
    body = await document(agent)
    text = (await agent.ask("/openapi.json")).body.decode()
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names
    assert names <= set(body["components"]["schemas"])


async def test_every_path_parameter_is_described(agent: Running) -> None:
    for path, operations in (await document(agent))["paths"].items():
        for operation in operations.values():
            described = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
            assert described == re.findall(r"\{(\w+)\}", path)


async def test_what_a_search_takes_is_described(agent: Running) -> None:
    paths = (await document(agent))["paths"]
    searched = {
        path: [each["name"] for each in operations["get"]["parameters"] if each["in"] == "query"]
        for path, operations in paths.items()
        if path in ("/api/v1/traces", "/api/operations", "/api/traces", "/api/dependencies")
    }
    assert searched == {
        "/api/v1/traces": [
            "service", "operation", "min_duration", "max_duration", "start", "end", "limit", "tag", "error",
        ],
        "/api/operations": ["service", "spanKind"],
        "/api/traces": [
            "service", "operation", "tag", "tags", "start", "end", "minDuration", "maxDuration", "limit", "traceID",
        ],
        "/api/dependencies": ["service", "endTs", "lookback"],
    }  # fmt: skip
    assert paths["/api/traces"]["get"]["parameters"][0] == {
        "name": "service",
        "in": "query",
        "required": False,
        "description": "Of this service",
        "schema": {"type": "string"},
    }


async def test_open_routes_are_those_that_need_no_token(agent: Running) -> None:
    paths = (await document(agent))["paths"]
    free = {path for path, operations in paths.items() if all(each["security"] == [] for each in operations.values())}
    assert free == {
        "/metrics", "/health", "/health/live", "/health/ready", "/health/detailed", "/health/check/{name}",
        "/-/healthy", "/-/ready", "/", "/page.css", "/page.js", "/icon.svg",
    }  # fmt: skip
    assert "401" in paths["/-/reload"]["post"]["responses"]
    assert "401" not in paths["/metrics"]["get"]["responses"]


async def test_answers_are_typed(agent: Running) -> None:
    body = await document(agent)
    status = body["paths"]["/api/v1/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert status == {"$ref": "#/components/schemas/Status"}
    assert "resident_bytes" in body["components"]["schemas"]["Status"]["properties"]
    assert set(body["components"]["schemas"]["Problem"]["required"]) == {"errorType", "error"}

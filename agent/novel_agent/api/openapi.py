"""`GET /openapi.json`: every route, described from the routes themselves (OpenAPI 3.1)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from novel_agent import __version__
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, Answer, Problem, Route, answer

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SHARED_ANSWERS = {
    403: Answer("A page of another site sent the request", {JSON: Problem}),
    421: Answer("The Host header names a host this agent does not answer to", {JSON: Problem}),
}
_TOKEN_ANSWERS = {
    401: Answer("A token is required, or the one sent is wrong", {JSON: Problem}),
    429: Answer("Too many wrong tokens", {JSON: Problem}),
}


class OpenApi:
    """The description; made when asked for, since hardly anybody does."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [*routes, *self.routes()]

    def routes(self) -> list[Route]:
        """What there is to ask."""
        content = {200: Answer("OpenAPI 3.1", {JSON: dict[str, Any]})}
        return [Route("GET", "/openapi.json", self.get, "This description", content)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The document."""
        return answer(document(self._routes))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI of the routes."""
    routes = list(routes)
    types = [body for route in routes for each in _answers(route).values() for body in each.content.values() if body]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Novel Engine Agent", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _answers(route: Route) -> dict[int, Answer]:
    return {**route.answers, **_SHARED_ANSWERS, **({} if route.is_open else _TOKEN_ANSWERS)}


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "security": [] if route.is_open else [{}, {"token": []}],
        "responses": {str(code): _response(each, schemas) for code, each in sorted(_answers(route).items())},
    }
    parameters = [_parameter("path", name, route.parameters[name]) for name in _PLACEHOLDER.findall(route.path)]
    parameters += [_parameter("query", name, means) for name, means in route.query.items()]
    if parameters:
        operation["parameters"] = parameters
    return operation


def _parameter(place: str, name: str, means: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": means,
        "schema": {"type": "string"},
    }


def _response(each: Answer, schemas: Mapping[str, Any]) -> dict[str, Any]:
    content = {
        media_type: {"schema": schemas[str(body)] if body else {"type": "string"}}
        for media_type, body in each.content.items()
    }
    return {"description": each.description, **({"content": content} if content else {})}

"""A route with what OpenAPI says about it, and how answers and errors look.

Errors are `{"status":"error","errorType":…,"error":…}` everywhere. Nothing an agent answers may be framed, guessed at,
kept by a cache or read by another site's page; the headers here say so.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from novel_agent.serving.aiohttp_web import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JSON = "application/json"
TEXT = "text/plain"

BASE_HEADERS = {
    "Server": "novel-agent",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HEADERS = BASE_HEADERS | {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

ERROR_TYPES = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    421: "misdirected",
    429: "too_many_requests",
    431: "too_large",
    503: "unavailable",
}


class Problem(msgspec.Struct, kw_only=True):
    """An error; `errors` lists every mistake where there may be several."""

    status: Literal["error"] = "error"
    error_type: str = msgspec.field(name="errorType")
    error: str
    errors: list[str] | msgspec.UnsetType = msgspec.UNSET


class Answer(NamedTuple):
    """One answer a route may give: in words, and by media type the msgspec type of the body, or None for plain text."""

    description: str
    content: Mapping[str, Any] = {}


class Route(NamedTuple):
    """One method of one path. `is_open` routes are answered to everybody, without a token."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Answer]
    parameters: Mapping[str, str] = {}
    """What each placeholder of the path stands for."""
    is_open: bool = False
    query: Mapping[str, str] = {}
    """What each parameter of the query means; none is required."""


def answer(value: object, *, status: int = 200, content_type: str = JSON) -> web.Response:
    """A value as JSON."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=HEADERS | {"Content-Type": content_type}
    )


def words(text: str, *, status: int = 200) -> web.Response:
    """A line of text."""
    return web.Response(text=f"{text}\n", status=status, headers=HEADERS)


def problem(
    status: int, error: str, *, errors: list[str] | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error."""
    body = Problem(error_type=error_type(status), error=error, errors=errors or msgspec.UNSET)
    response = answer(body, status=status)
    response.headers.update(headers or {})
    return response


def error_type(status: int) -> str:
    """The `errorType` of an HTTP status."""
    return ERROR_TYPES.get(status, "internal" if status >= 500 else "bad_data")

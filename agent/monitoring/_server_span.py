"""The span of an ASGI request or websocket, in the context of whoever called (W3C Trace Context).

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP server spans (semconv 1.23 and newer,
stable). Queries are left out: they hold what people type, and keys.
"""

from collections.abc import Iterable
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context

from monitoring._context import Scope, mark

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"})
_CARRIED = frozenset({b"traceparent", b"baggage", b"b3", b"uber-trace-id", b"x-b3-traceid"})
_LONGEST_PATH = 2048

Headers = Iterable[tuple[bytes, bytes]]


class _HeaderGetter(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_GETTER = _HeaderGetter()


class OpenServerSpan:
    """A span that is open in this task, and what is to be undone at its end."""

    __slots__ = ("_method", "_span", "_token")

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        self._token = contexts.attach(set_span_in_context(span))

    def end(self, status_code: int | None, route: str | None, error: BaseException | None = None) -> None:
        """Names the span after the route; an answer of 5xx, or an exception, is an error, one of 4xx is none."""
        span = self._span
        if error is not None:
            mark(error)
        contexts.detach(self._token)
        if span.is_recording():
            attributes: dict[str, str | int] = {}
            if route is not None and route != "unmatched":
                span.update_name(f"{self._method} {route}")
                attributes["http.route"] = route
            if status_code is not None:
                attributes["http.response.status_code"] = status_code
            if isinstance(error, Exception):
                span.record_exception(error)
                attributes["error.type"] = type(error).__qualname__
                span.set_status(Status(StatusCode.ERROR, str(error)[:1024]))
            elif status_code is not None and status_code >= 500:
                attributes["error.type"] = str(status_code)
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(attributes)
        span.end()


def start(tracer: Tracer, scope: Scope, *, is_instead_of_fastapi: bool) -> OpenServerSpan | None:
    """Opens the span of a request; None where a server span is open already, of somebody else's instrumentation."""
    here = get_current_span()
    if here.is_recording() and getattr(here, "kind", None) is SpanKind.SERVER:
        return None
    if is_instead_of_fastapi:
        _replace_fastapis_own(scope)
    headers = scope.get("headers") or ()
    method = "GET" if scope["type"] == "websocket" else str(scope.get("method", ""))
    known = method if method in _METHODS else "HTTP"
    carried: Context | None = None
    if any(name in _CARRIED for name, _ in headers):
        carried = extract(headers, getter=_GETTER)
    attributes = _attributes(scope, headers, method)
    span = tracer.start_span(known, carried, SpanKind.SERVER, attributes)
    return OpenServerSpan(span, known)


def _replace_fastapis_own(scope: Scope) -> None:
    """FastAPI's own tracing (0.165 has it) gives no spans beside ours, see `_spans`, and need not prepare any.

    Applications mounted in this one take a request with `fastapi.telemetry` as one that is seen to. This one is told for the
    requests to come, which saves a third of what tracing a request costs; there is no public way once it is made, and
    without it all is right but slower. One that names a tracer provider for its own tracing keeps it.
    """
    if "fastapi.telemetry" not in scope:
        scope["fastapi.telemetry"] = None
        return
    config = getattr(scope.get("app"), "_telemetry", None)
    if isinstance(config, dict) and config.get("tracer_provider") is None and "tracing" in config:
        config["tracing"] = False


def _attributes(scope: Scope, headers: Headers, method: str) -> dict[str, Any]:
    is_known = method in _METHODS
    attributes: dict[str, Any] = {
        "http.request.method": method if is_known else "_OTHER",
        "url.path": str(scope.get("path", ""))[:_LONGEST_PATH],
        "url.scheme": scope.get("scheme") or "http",
        "network.protocol.version": scope.get("http_version") or "1.1",
    }
    if not is_known:
        attributes["http.request.method_original"] = method[:32]
    server, client = scope.get("server"), scope.get("client")
    if server:
        attributes["server.address"] = server[0]
        if server[1] is not None:
            attributes["server.port"] = server[1]
    if client:
        attributes["client.address"] = client[0]
    for name, value in headers:
        if name == b"user-agent":
            attributes["user_agent.original"] = value[:512].decode("latin-1")
            break
    return attributes

"""`GET /api/services`, `/api/traces` …: recent traces as Jaeger's query service answers, so that its readers work here.

Grafana's Jaeger data source asks for the services (its health check), their operations, traces by search and by id, and the
dependencies; jaeger-ui asks the same. Lists are never null. Errors carry Jaeger's fields beside this agent's own.
A search needs no `service`, which Jaeger insists on; `lookback` goes unread beside traces, as there. Clock skew is not
adjusted. An answer holds at most 8 MiB of spans: what was left out is in a trace's `warnings`, or in `errors`.

Source: jaegertracing/jaeger, internal/uimodel and cmd/query/app/query_parser.go; grafana/grafana, pkg/tsdb/jaeger.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, cast
from urllib.parse import unquote

import msgspec

from novel_agent.api.trace_parameters import BadParameter, Parameters, trace_id
from novel_agent.api.traces import MOST_BYTES, MOST_TRACES, NONE_KEPT, KeepsTraces, service_of
from novel_agent.model.span import KINDS, UNSPECIFIED, Span, SpanEvent
from novel_agent.model.value import Attributes, Origin, Value, as_text
from novel_agent.outputs.recent_traces import RecentTraces, SpanWanted, TooBusy, Trace, TraceWanted, span_tags
from novel_agent.outputs.trace_index import NO_SPAN
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, Answer, Route, answer, error_type

_DEFAULT_TRACES = 100
_DAY_MILLISECONDS = 86_400_000
_LARGEST_SAFE_INTEGER = (1 << 53) - 1
_KINDS = {name.lower(): kind for kind, name in enumerate(KINDS) if kind != UNSPECIFIED}
_NOTHING_MORE: Mapping[str, str] = {}
_SERVICE = {"service": "Of this service"}
_SEARCH = {
    **_SERVICE,
    "operation": "With this name",
    "tag": "key:value, several times",
    "tags": 'A JSON object of texts, as {"key":"value"}',
    "start": "That began then or later, in microseconds since the epoch",
    "end": "That began then or earlier, in microseconds since the epoch",
    "minDuration": "That took at least this long, as 100ms",
    "maxDuration": "That took at most this long",
    "limit": f"How many, at most {MOST_TRACES}; {_DEFAULT_TRACES} unless given",
    "traceID": "This one instead of all that, several times",
}
_CALLS = {
    **_SERVICE,
    "endTs": "Until then, in milliseconds since the epoch",
    "lookback": "So long before, in milliseconds",
}

Data = TypeVar("Data")


class JaegerError(msgspec.Struct):
    """One error of an answer."""

    code: int
    msg: str


class JaegerAnswer(msgspec.Struct, Generic[Data]):
    """What every path answers with."""

    data: Data
    total: int = 0
    limit: int = 0
    offset: int = 0
    errors: list[JaegerError] | None = None


class JaegerProblem(msgspec.Struct):
    """An error, in Jaeger's form and in this agent's."""

    error_type: str = msgspec.field(name="errorType")
    error: str
    errors: list[JaegerError]
    status: str = "error"
    data: list[str] = []
    total: int = 0
    limit: int = 0
    offset: int = 0


class JaegerTag(msgspec.Struct):
    """A value with its type: `string`, `bool`, `int64`, `float64` or `binary`."""

    key: str
    type: str
    value: Any


class JaegerReference(msgspec.Struct):
    """`CHILD_OF` the parent, `FOLLOWS_FROM` whatever a link names."""

    ref_type: str = msgspec.field(name="refType")
    trace_id: str = msgspec.field(name="traceID")
    span_id: str = msgspec.field(name="spanID")


class JaegerLog(msgspec.Struct):
    """An event; time in microseconds since the epoch."""

    timestamp: int
    fields: list[JaegerTag]


class JaegerSpan(msgspec.Struct):
    """A span; times in microseconds, the start since the epoch."""

    trace_id: str = msgspec.field(name="traceID")
    span_id: str = msgspec.field(name="spanID")
    operation_name: str = msgspec.field(name="operationName")
    references: list[JaegerReference]
    start_time: int = msgspec.field(name="startTime")
    duration: int
    tags: list[JaegerTag]
    logs: list[JaegerLog]
    process_id: str = msgspec.field(name="processID")
    warnings: list[str]


class JaegerProcess(msgspec.Struct):
    """A resource."""

    service_name: str = msgspec.field(name="serviceName")
    tags: list[JaegerTag]


class JaegerTrace(msgspec.Struct):
    """A trace, its spans by their start."""

    trace_id: str = msgspec.field(name="traceID")
    spans: list[JaegerSpan]
    processes: dict[str, JaegerProcess]
    warnings: list[str]


class JaegerOperation(msgspec.Struct):
    """What a service does; `span_kind` is empty where it is not known."""

    name: str
    span_kind: str = msgspec.field(name="spanKind")


class JaegerDependency(msgspec.Struct):
    """How often `parent` called `child`."""

    parent: str
    child: str
    call_count: int = msgspec.field(name="callCount")


class _Nothing(Exception):  # noqa: N818 - an answer, not a fault
    """There is none of that."""


class JaegerResource:
    """Recent traces for those who know Jaeger."""

    def __init__(self, daemon: KeepsTraces) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """What there is to ask."""
        none = Answer("No traces are kept, or none with that id", {JSON: JaegerProblem})
        bad = Answer("A parameter that cannot be used", {JSON: JaegerProblem})
        busy = Answer("Other searches are under way, or it took too long; see Retry-After", {JSON: JaegerProblem})
        service, id_ = {"service": "A service, percent-encoded"}, {"id": "A trace id, up to 32 hexadecimal digits"}

        def route(
            path: str,
            handler: _Question,
            summary: str,
            body: Any,
            names: Mapping[str, str] = _NOTHING_MORE,
            query: Mapping[str, str] = _NOTHING_MORE,
        ) -> Route:
            answers = {200: Answer("As Jaeger", {JSON: JaegerAnswer[body]}), 400: bad, 404: none, 503: busy}
            return Route("GET", path, self._answering(handler), summary, answers, names, query=query)

        kinds = _SERVICE | {"spanKind": f"Of this kind: {', '.join(_KINDS)}"}
        return [
            route("/api/services", self._services, "Services with recent traces", list[str]),
            route("/api/services/{service}/operations", self._names, "What a service does", list[str], service),
            route(
                "/api/operations", self._operations, "What a service does, by kind", list[JaegerOperation], query=kinds
            ),
            route("/api/traces", self._find, "Recent traces as Jaeger's", list[JaegerTrace], query=_SEARCH),
            route("/api/traces/{id}", self._get, "One recent trace as Jaeger's", list[JaegerTrace], id_),
            route(
                "/api/dependencies",
                self._dependencies,
                "Which service calls which",
                list[JaegerDependency],
                query=_CALLS,
            ),
        ]

    def _answering(self, question: "_Question") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            store = self._daemon.recent_traces
            if store is None:
                return _problem(404, NONE_KEPT)
            try:
                async with store.search():
                    found = await question(store, request)
                return answer(found)
            except BadParameter as error:
                return _problem(400, str(error))
            except _Nothing as error:
                return _problem(404, str(error))
            except TooBusy as error:
                response = _problem(503, str(error))
                response.headers["Retry-After"] = str(error.retry_after_seconds)
                return response

        return handle

    async def _services(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        services = await store.services()
        return JaegerAnswer(services, total=len(services))

    async def _names(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        service = request.match_info["service"]
        operations = await store.operations(service) or await store.operations(unquote(service))
        names = sorted({each.name for each in operations})
        return JaegerAnswer(names, total=len(names))

    async def _operations(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        parameters = Parameters(request)
        service, kind = parameters.text("service"), parameters.text("spanKind")
        if service is None:
            raise BadParameter("service", "", "name a service; /api/services lists them")
        if kind is not None and kind not in _KINDS:
            raise BadParameter("spanKind", kind, f"write one of {', '.join(_KINDS)}")
        found = await store.operations(service, _KINDS[kind] if kind else None)
        return JaegerAnswer([JaegerOperation(each.name, _kind(each.kind)) for each in found], total=len(found))

    async def _find(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        parameters = Parameters(request)
        ids = [trace_id(sent, "traceID") for sent in parameters.every("traceID")[:MOST_TRACES]]
        if not ids:
            wanted, limit = _wanted(parameters), min(MOST_TRACES, parameters.whole("limit", 0) or _DEFAULT_TRACES)
            ids = [each.trace_id for each in await store.find(wanted, TraceWanted(), limit)]
        return await _traces(store, ids)

    async def _get(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        found = await _traces(store, [trace_id(request.match_info["id"])])
        if not found.data:
            raise _Nothing("trace not found")
        return found

    async def _dependencies(self, store: RecentTraces, request: web.Request) -> JaegerAnswer[Any]:
        parameters = Parameters(request)
        end = parameters.whole("endTs", math.ceil(time.time() * 1000))
        lookback = parameters.whole("lookback", _DAY_MILLISECONDS)
        service = parameters.text("service")
        calls = await store.calls((end - lookback) * 1_000_000, end * 1_000_000)
        return JaegerAnswer(
            [
                JaegerDependency(caller, callee, count)
                for (caller, callee), count in sorted(calls.items())
                if service in (None, caller, callee)
            ]
        )


_Question = Callable[[RecentTraces, web.Request], Awaitable[JaegerAnswer[Any]]]


def _problem(status: int, error: str) -> web.Response:
    return answer(JaegerProblem(error_type(status), error, [JaegerError(status, error)]), status=status)


def _wanted(parameters: Parameters) -> SpanWanted:
    shortest, longest = parameters.durations("minDuration", "maxDuration")
    end = parameters.whole("end", 0)
    return SpanWanted(
        service=parameters.text("service"),
        operation=parameters.text("operation"),
        attributes=parameters.tags("tag", "tags"),
        shortest_nano=shortest,
        longest_nano=longest or None,
        earliest_unix_nano=parameters.whole("start", 0) * 1000,
        latest_unix_nano=end * 1000 + 999 if end else None,
    )


async def _traces(store: RecentTraces, ids: list[bytes]) -> JaegerAnswer[Any]:
    found: list[JaegerTrace] = []
    left_bytes = MOST_BYTES
    for each in ids:
        trace = await store.trace(each)
        if trace is None:
            continue
        if left_bytes <= 0:
            message = f"only {len(found)} traces: the answer would be larger than {MOST_BYTES >> 20} MiB"
            return JaegerAnswer(found, errors=[JaegerError(413, message)])
        shown, size_bytes = await _trace(store, trace, left_bytes)
        found.append(shown)
        left_bytes -= size_bytes
    return JaegerAnswer(found)


async def _trace(store: RecentTraces, trace: Trace, most_bytes: int) -> tuple[JaegerTrace, int]:
    """The trace, and the size of its spans; `most_bytes` where not all have room."""
    processes: dict[bytes, str] = {}
    spans: list[msgspec.Raw] = []
    size_bytes = 0
    async for span, origin in store.spans(trace):
        process = msgspec.json.encode(_process(origin.resource))
        size_bytes += 0 if process in processes else len(process)
        process_id = processes.setdefault(process, f"p{len(processes) + 1}")
        raw = msgspec.json.encode(_span(span, origin, process_id))
        if size_bytes + len(raw) > most_bytes:
            size_bytes = most_bytes
            break
        size_bytes += len(raw)
        spans.append(msgspec.Raw(raw))
    left_out = trace.summary.span_count - len(spans)
    shown = JaegerTrace(
        trace_id=trace.summary.trace_id.hex(),
        spans=cast(list[JaegerSpan], spans),
        processes=cast(dict[str, JaegerProcess], {name: msgspec.Raw(each) for each, name in processes.items()}),
        warnings=[f"{left_out} of {trace.summary.span_count} spans are not shown"] if left_out else [],
    )
    return shown, size_bytes


def _span(span: Span, origin: Origin, process_id: str) -> JaegerSpan:
    id_ = span.trace_id.hex()
    references = [JaegerReference("FOLLOWS_FROM", each.trace_id.hex(), each.span_id.hex()) for each in span.links]
    if span.parent_span_id not in (b"", NO_SPAN):
        references.insert(0, JaegerReference("CHILD_OF", id_, span.parent_span_id.hex()))
    return JaegerSpan(
        trace_id=id_,
        span_id=span.span_id.hex(),
        operation_name=span.name,
        references=references,
        start_time=span.start_unix_nano // 1000,
        duration=max(0, span.end_unix_nano - span.start_unix_nano) // 1000,
        tags=[_tag(key, value) for key, value in span_tags(span, origin)],
        logs=[_log(event) for event in span.events],
        process_id=process_id,
        warnings=[],
    )


def _log(event: SpanEvent) -> JaegerLog:
    fields = [_tag(key, value) for key, value in event.attributes.items()]
    if event.name and "event" not in event.attributes:
        fields.insert(0, JaegerTag("event", "string", event.name))
    return JaegerLog(event.time_unix_nano // 1000, fields)


def _process(resource: Attributes) -> JaegerProcess:
    tags = [_tag(key, value) for key, value in resource.items() if key != "service.name"]
    return JaegerProcess(service_of(resource), tags)


def _tag(key: str, value: Value) -> JaegerTag:
    """JavaScript has no integers beyond 2⁵³ and JSON no infinities: those are text."""
    if isinstance(value, bool):
        return JaegerTag(key, "bool", value)
    if isinstance(value, int):
        return JaegerTag(key, "int64", value if abs(value) <= _LARGEST_SAFE_INTEGER else str(value))
    if isinstance(value, float):
        return JaegerTag(key, "float64", value) if math.isfinite(value) else JaegerTag(key, "string", str(value))
    return JaegerTag(key, "binary" if isinstance(value, bytes) else "string", as_text(value))


def _kind(kind: int) -> str:
    return KINDS[kind].lower() if UNSPECIFIED < kind < len(KINDS) else ""

"""`GET /api/v1/traces` and `/api/v1/traces/{id}`: the traces that passed through lately, to look at a slow request here.

An answer holds at most 8 MiB of spans; it says how many were left out.
"""

from typing import Any, Protocol, cast

import msgspec

from novel_agent.api.trace_parameters import BadParameter, Parameters, trace_id
from novel_agent.model.span import KINDS, Span
from novel_agent.model.value import Attributes, Origin, as_text
from novel_agent.outputs.recent_traces import RecentTraces, SpanWanted, Summary, TooBusy, Trace, TraceWanted
from novel_agent.outputs.trace_index import NO_SPAN, UNKNOWN_SERVICE
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import JSON, Answer, Problem, Route, answer, problem

MOST_BYTES = 8 << 20
MOST_TRACES = 1000
NONE_KEPT = "no traces are kept here: traces.recent is 0"

_DEFAULT_TRACES = 20
_STATUS = ("UNSET", "OK", "ERROR")
_QUERY = {
    "service": "With a span of that service",
    "operation": "With a span of that name",
    "min_duration": "That took at least this long, as 250ms, 1.5s or 1m30s",
    "max_duration": "That took at most this long",
    "start": "That began then or later: seconds since the epoch, or RFC 3339",
    "end": "That began then or earlier",
    "limit": f"How many, 1 to {MOST_TRACES}; {_DEFAULT_TRACES} unless given",
    "tag": "With a span that has key:value among its attributes; several times: all on one span",
    "error": "true: with a span whose status is an error",
}


class KeepsTraces(Protocol):
    """What the trace paths need of the daemon."""

    @property
    def recent_traces(self) -> RecentTraces | None:
        """None where the configuration keeps none."""


class TraceSummary(msgspec.Struct):
    """A trace from outside. `service` and `name` are those of its root: where it is not here, of the span that began first."""

    trace_id: str
    service: str
    name: str
    start: float
    duration_seconds: float
    span_count: int
    error_count: int
    services: list[str]


class TraceStore(msgspec.Struct):
    """What can be searched: nothing older than `since`, when the oldest request held came."""

    since: float | None
    held_bytes: int
    undecodable_requests: int
    unsearched_requests: int
    skipped_spans: int


class RecentTraceList(msgspec.Struct):
    """Traces, those that began last first."""

    traces: list[TraceSummary]
    store: TraceStore


class TraceEvent(msgspec.Struct):
    """Something that happened within a span."""

    time: float
    name: str
    attributes: dict[str, Any]


class TraceLink(msgspec.Struct):
    """Another span that this one has to do with."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class TraceSpanStatus(msgspec.Struct):
    """`UNSET`, `OK` or `ERROR`, and what the instrumentation said."""

    code: str
    message: str


class TraceSpan(msgspec.Struct):
    """One span; `offset_seconds` is from the start of the trace, `resource` an index into its `resources`."""

    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    service: str
    start: float
    offset_seconds: float
    duration_seconds: float
    status: TraceSpanStatus
    attributes: dict[str, Any]
    events: list[TraceEvent]
    links: list[TraceLink]
    scope: str
    resource: int


class WholeTrace(msgspec.Struct):
    """One trace, its spans by their start. `left_out` is how many spans more there are."""

    trace: TraceSummary
    spans: list[TraceSpan]
    resources: list[dict[str, Any]]
    left_out: int


class TracesResource:
    """The traces that are still in memory."""

    def __init__(self, daemon: KeepsTraces) -> None:
        self._daemon = daemon

    def routes(self) -> list[Route]:
        """What there is to ask."""
        none = Answer("No traces are kept, or none with that id", {JSON: Problem})
        bad = Answer("A parameter that cannot be used", {JSON: Problem})
        busy = Answer("Other searches are under way, or it took too long; see Retry-After", {JSON: Problem})
        found = {
            200: Answer("Times in seconds since the epoch", {JSON: RecentTraceList}),
            400: bad,
            404: none,
            503: busy,
        }
        whole = {200: Answer("Times in seconds since the epoch", {JSON: WholeTrace}), 400: bad, 404: none, 503: busy}
        id_ = {"id": "A trace id, up to 32 hexadecimal digits"}
        return [
            Route("GET", "/api/v1/traces", self.find, "Recent traces, newest first", found, query=_QUERY),
            Route("GET", "/api/v1/traces/{id}", self.get, "One recent trace", whole, id_),
        ]

    async def find(self, request: web.Request) -> web.StreamResponse:
        """Traces that fit."""
        store = self._daemon.recent_traces
        if store is None:
            return problem(404, NONE_KEPT)
        try:
            span, trace, limit = _wanted(Parameters(request))
        except BadParameter as error:
            return problem(400, str(error))
        try:
            async with store.search():
                found = await store.find(span, trace, limit)
        except TooBusy as error:
            return _busy(error)
        return answer(RecentTraceList([_summary(each) for each in found], _about(store)))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One trace."""
        store, sent = self._daemon.recent_traces, request.match_info["id"]
        if store is None:
            return problem(404, NONE_KEPT)
        try:
            wanted = trace_id(sent)
            async with store.search():
                trace = await store.trace(wanted)
                whole = None if trace is None else await _whole(store, trace)
        except BadParameter as error:
            return problem(400, str(error))
        except TooBusy as error:
            return _busy(error)
        if whole is None:
            return problem(404, f"no trace {sent.lower():0>32} is held; /api/v1/traces lists those that are")
        return answer(whole)


def _busy(error: TooBusy) -> web.Response:
    return problem(503, str(error), headers={"Retry-After": str(error.retry_after_seconds)})


def _wanted(parameters: Parameters) -> tuple[SpanWanted, TraceWanted, int]:
    parameters.check_names(_QUERY)
    shortest, longest = parameters.durations("min_duration", "max_duration")
    span = SpanWanted(
        service=parameters.text("service"), operation=parameters.text("operation"), attributes=parameters.tags("tag")
    )
    trace = TraceWanted(
        shortest_nano=shortest,
        longest_nano=longest,
        earliest_unix_nano=parameters.time("start") or 0,
        latest_unix_nano=parameters.time("end"),
        failed=parameters.flag("error"),
    )
    return span, trace, parameters.limit(_DEFAULT_TRACES, MOST_TRACES)


def _about(store: RecentTraces) -> TraceStore:
    return TraceStore(
        since=store.oldest_received_at,
        held_bytes=store.held_bytes,
        undecodable_requests=store.undecodable,
        unsearched_requests=store.beyond_index,
        skipped_spans=store.skipped_spans,
    )


def _summary(summary: Summary) -> TraceSummary:
    return TraceSummary(
        trace_id=summary.trace_id.hex(),
        service=summary.root.service,
        name=summary.root.name,
        start=summary.start_unix_nano / 1e9,
        duration_seconds=summary.duration_nano / 1e9,
        span_count=summary.span_count,
        error_count=summary.error_count,
        services=summary.services,
    )


async def _whole(store: RecentTraces, trace: Trace) -> WholeTrace:
    resources: dict[bytes, int] = {}
    spans: list[msgspec.Raw] = []
    size_bytes = 0
    left_out = trace.summary.span_count
    async for span, origin in store.spans(trace):
        encoded = msgspec.json.encode(origin.resource)
        size_bytes += 0 if encoded in resources else len(encoded)
        resource = resources.setdefault(encoded, len(resources))
        raw = msgspec.json.encode(_span(span, origin, trace.summary.start_unix_nano, resource))
        size_bytes += len(raw)
        if size_bytes > MOST_BYTES:
            break
        spans.append(msgspec.Raw(raw))
        left_out -= 1
    return WholeTrace(
        trace=_summary(trace.summary),
        spans=cast(list[TraceSpan], spans),
        resources=cast(list[dict[str, Any]], [msgspec.Raw(each) for each in resources]),
        left_out=left_out,
    )


def _span(span: Span, origin: Origin, trace_start_nano: int, resource: int) -> TraceSpan:
    return TraceSpan(
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() if span.parent_span_id not in (b"", NO_SPAN) else None,
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else str(span.kind),
        service=service_of(origin.resource),
        start=span.start_unix_nano / 1e9,
        offset_seconds=(span.start_unix_nano - trace_start_nano) / 1e9,
        duration_seconds=span.seconds,
        status=TraceSpanStatus(_status(span.status_code), span.status_message),
        attributes=span.attributes,
        events=[TraceEvent(each.time_unix_nano / 1e9, each.name, each.attributes) for each in span.events],
        links=[TraceLink(each.trace_id.hex(), each.span_id.hex(), each.attributes) for each in span.links],
        scope=f"{origin.scope} {origin.scope_version}".strip(),
        resource=resource,
    )


def _status(code: int) -> str:
    return _STATUS[code] if 0 <= code < len(_STATUS) else str(code)


def service_of(resource: Attributes) -> str:
    """The service a resource belongs to."""
    return as_text(resource.get("service.name")) or UNKNOWN_SERVICE

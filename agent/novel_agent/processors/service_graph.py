"""Who calls whom, out of spans: calls, failures and durations between two services, as metrics.

The span of a caller (CLIENT, PRODUCER) and the span of the callee (SERVER, CONSUMER) whose parent it is make an edge; the first
of the two to come waits for the other, in a bounded store. Callees that send no spans become nodes by what the caller says of
them. Names and labels are those of Grafana Tempo and of the OpenTelemetry Collector's servicegraph connector.
"""

from collections.abc import Iterable, Iterator
from sys import getsizeof
from typing import NamedTuple

from novel_agent.model.metric import Block, Family, Number, Shape
from novel_agent.model.point import Metric
from novel_agent.model.span import CLIENT, CONSUMER, PRODUCER, SERVER, STATUS_ERROR, Span, SpanGroup
from novel_agent.model.value import Attributes
from novel_agent.processors.measures import Measure, Measures, Sampled, label_value
from novel_agent.processors.span_metrics import UNKNOWN_SERVICE, weight

_LABELS = ("client", "server", "connection_type")
REQUESTS = Family("traces_service_graph_request_total", "Requests between two nodes.", "counter", _LABELS)
FAILED = Family("traces_service_graph_request_failed_total", "Failed requests between two nodes.", "counter", _LABELS)
SERVER_SECONDS = Family(
    "traces_service_graph_request_server_seconds",
    "Time of a request as seen from the server; from the client where the server sends no spans.",
    "histogram",
    _LABELS,
    "s",
)
CLIENT_SECONDS = Family(
    "traces_service_graph_request_client_seconds",
    "Time of a request as seen from the client.",
    "histogram",
    _LABELS,
    "s",
)
UNPAIRED = Family(
    "traces_service_graph_unpaired_spans_total",
    "Spans whose other side did not come in time and is not known.",
    "counter",
)
DROPPED = Family(
    "traces_service_graph_dropped_spans_total", "Spans that stopped waiting early, for want of memory.", "counter"
)
FAMILIES = (REQUESTS, FAILED, SERVER_SECONDS, CLIENT_SECONDS, UNPAIRED, DROPPED)

USER = "user"
"""The client of what came without a caller."""

DATABASE, MESSAGING, VIRTUAL = "database", "messaging_system", "virtual_node"
_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PEER = ("peer.service", "server.address", "net.peer.name")
_DATABASE = ("db.system.name", "db.system")
_DATABASE_NAMES = (*_PEER, "network.peer.address", "db.namespace", "db.name", *_DATABASE)
_MESSAGING_NAMES = (*_PEER, "messaging.system")

_EDGE_BYTES = 960
"""Both ids, a side and what holds them, without its texts."""
_SHAPES = (Shape([UNPAIRED.series()]), Shape([DROPPED.series()]))
_CALLERS, _CALLEES = frozenset({CLIENT, PRODUCER}), frozenset({SERVER, CONSUMER})
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)

_Key = tuple[bytes, bytes]
"""Trace id, and the id of the caller's span."""


class _Side(NamedTuple):
    """One side of an edge; `node` and `connection` say whom a caller called, as far as it knows."""

    service: str
    seconds: float
    failed: bool
    messaging: bool
    weight: Number
    sample: Sampled
    node: str = ""
    connection: str = ""


class _Waiting:
    """What came of an edge so far: the caller, or callees that came before it."""

    __slots__ = ("callees", "caller", "expires_at", "paired", "size_bytes")

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at
        self.caller: _Side | None = None
        self.callees: list[_Side] = []
        self.paired = False
        self.size_bytes = 0


class ServiceGraph:
    """Metrics of the edges between the services whose spans it was shown; `now` is in seconds since the epoch.

    One side waits `wait_seconds` for the other, the oldest less where more than `memory_bytes` wait. A producer waits on for
    further consumers when it has one.
    """

    families = FAMILIES

    def __init__(
        self,
        wait_seconds: float = 10.0,
        memory_bytes: int = 2 << 20,
        most_series: int = 1000,
        buckets_seconds: tuple[float, ...] = _BUCKETS_SECONDS,
    ) -> None:
        self._wait_seconds = wait_seconds
        self._memory_bytes = memory_bytes
        self._waiting: dict[_Key, _Waiting] = {}
        self._measures = Measures(
            [Measure(REQUESTS, REQUESTS.name, "{request}"), Measure(FAILED, FAILED.name, "{request}")],
            [Measure(SERVER_SECONDS, SERVER_SECONDS.name, "s"), Measure(CLIENT_SECONDS, CLIENT_SECONDS.name, "s")],
            _LABELS,
            buckets_seconds,
            most_series,
        )
        self.size_bytes = 0
        """What waits; an estimate from above."""
        self.unpaired = 0
        """Spans whose other side never came, and is not known."""
        self.dropped = 0
        """Spans that stopped waiting before their time; of them `unpaired` has those that made no edge."""

    @property
    def waiting(self) -> int:
        """Edges of which a side may still come."""
        return len(self._waiting)

    @property
    def overflowed(self) -> int:
        """Requests that were counted in the shared series."""
        return self._measures.overflowed

    def take(self, groups: Iterable[SpanGroup], now: float) -> None:
        """Look at the spans, pair them with those that wait, and give up what has waited long enough."""
        self.expire(now)
        for group in groups:
            service = label_value(group.origin.resource.get("service.name", UNKNOWN_SERVICE))
            for span in group.spans:
                if span.kind in _CALLERS:
                    self._caller(span, _side(service, span, _callee_of(span)), now)
                elif span.kind in _CALLEES:
                    self._callee(span, _side(service, span), now)
        while self.size_bytes > self._memory_bytes:
            waiting = self._conclude(next(iter(self._waiting)), now)
            if not waiting.paired:
                self.dropped += len(waiting.callees) or 1

    def expire(self, now: float) -> None:
        """Give up waiting where it is time."""
        while self._waiting:
            key, waiting = next(iter(self._waiting.items()))
            if waiting.expires_at > now:
                break
            self._conclude(key, now)

    def blocks(self, now: float) -> Iterator[Block]:
        """For `/metrics`."""
        self.expire(now)
        yield from self._measures.blocks(now)
        for shape, value in zip(_SHAPES, (self.unpaired, self.dropped), strict=True):
            yield Block(shape, [value])

    def metrics(self, now: float) -> list[Metric]:
        """For OTLP."""
        self.expire(now)
        return self._measures.metrics(now)

    def _caller(self, span: Span, caller: _Side, now: float) -> None:
        key = (span.trace_id, span.span_id)
        if not _is_valid(*key):
            self.unpaired += 1
            return
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._wait(key, now)
        for callee in waiting.callees:
            self._edge(caller, callee, now)
            waiting.paired = True
        self._grow(waiting, -waiting.size_bytes)
        waiting.callees = []
        if waiting.paired and not caller.messaging:
            del self._waiting[key]
        else:
            waiting.caller = caller
            self._grow(waiting, _size_bytes(caller))

    def _callee(self, span: Span, callee: _Side, now: float) -> None:
        key = (span.trace_id, span.parent_span_id)
        if span.parent_span_id in (b"", _NO_SPAN):
            self._without_caller(callee, now)
            return
        if not _is_valid(*key):
            self.unpaired += 1
            return
        waiting = self._waiting.get(key)
        if waiting is None or waiting.caller is None:
            waiting = waiting or self._wait(key, now)
            waiting.callees.append(callee)
            self._grow(waiting, _size_bytes(callee))
            return
        self._edge(waiting.caller, callee, now)
        waiting.paired = True
        if not waiting.caller.messaging:
            self._grow(waiting, -waiting.size_bytes)
            del self._waiting[key]

    def _without_caller(self, callee: _Side, now: float) -> None:
        if callee.messaging:
            self.unpaired += 1
        else:
            self._record(USER, callee.service, VIRTUAL, callee, callee, now)

    def _wait(self, key: _Key, now: float) -> _Waiting:
        waiting = self._waiting[key] = _Waiting(now + self._wait_seconds)
        return waiting

    def _grow(self, waiting: _Waiting, size_bytes: int) -> None:
        waiting.size_bytes += size_bytes
        self.size_bytes += size_bytes

    def _conclude(self, key: _Key, now: float) -> _Waiting:
        """Wait no longer; what a caller said of the other side makes an edge."""
        waiting = self._waiting.pop(key)
        self._grow(waiting, -waiting.size_bytes)
        caller = waiting.caller
        if caller is None:
            self.unpaired += len(waiting.callees)
        elif not waiting.paired:
            if caller.node:
                self._record(caller.service, caller.node, caller.connection, caller, caller, now)
            else:
                self.unpaired += 1
        return waiting

    def _edge(self, caller: _Side, callee: _Side, now: float) -> None:
        connection = MESSAGING if caller.messaging or callee.messaging else ""
        self._record(caller.service, callee.service, connection, caller, callee, now)

    def _record(self, client: str, server: str, connection: str, caller: _Side, callee: _Side, now: float) -> None:
        entry = self._measures.entry((client, server, connection), now)
        stands_for = max(caller.weight, callee.weight)
        entry.counters[0] += stands_for
        if caller.failed or callee.failed:
            entry.counters[1] += stands_for
        server_seconds, client_seconds = entry.histograms
        self._measures.observe(server_seconds, callee.seconds, stands_for, callee.sample)
        self._measures.observe(client_seconds, caller.seconds, stands_for, caller.sample)


def _is_valid(trace_id: bytes, span_id: bytes) -> bool:
    """Whether these tell spans apart: 16 and 8 bytes, not all of them zero (trace/v1/trace.proto)."""
    return len(trace_id) == 16 and len(span_id) == 8 and trace_id != _NO_TRACE and span_id != _NO_SPAN


def _ids(span: Span) -> tuple[bytes, bytes]:
    """Those of an exemplar; none where they are not ids, which may be of any size and would wait with the side."""
    return (span.trace_id, span.span_id) if _is_valid(span.trace_id, span.span_id) else (b"", b"")


def _size_bytes(side: _Side) -> int:
    return _EDGE_BYTES + getsizeof(side.node) + getsizeof(side.service)


def _side(service: str, span: Span, callee: tuple[str, str] = ("", "")) -> _Side:
    seconds = span.seconds
    return _Side(
        service,
        seconds,
        span.status_code == STATUS_ERROR,
        span.kind in (PRODUCER, CONSUMER),
        weight(span),
        (span.end_unix_nano, seconds, *_ids(span)),
        *callee,
    )


def _callee_of(span: Span) -> tuple[str, str]:
    """Whom a caller called, by its attributes, and the kind of connection; empty where it does not say."""
    attributes = span.attributes
    if not attributes.keys().isdisjoint(_DATABASE):
        return _first(attributes, _DATABASE_NAMES), DATABASE
    if span.kind == PRODUCER:
        return _first(attributes, _MESSAGING_NAMES), MESSAGING
    return _first(attributes, _PEER), VIRTUAL


def _first(attributes: Attributes, names: Iterable[str]) -> str:
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return label_value(value)
    return ""

"""Calls, errors and durations out of spans, by service, span, route and status: metrics where the application has none.

Names and labels are those of the OpenTelemetry Collector's spanmetrics connector, as Grafana's dashboards ask for them;
errors are the calls whose `status_code` is `STATUS_CODE_ERROR`. Spans that were sampled before they came, and say so (`th`
in `tracestate`), count as the number they stand for, so the counts estimate what was there. Belongs before any sampling.
"""

from collections.abc import Iterable, Iterator

from novel_agent.config import schema
from novel_agent.model.metric import Block, Family, Number, Shape
from novel_agent.model.point import Metric
from novel_agent.model.span import KINDS, Span, SpanGroup
from novel_agent.model.value import Attributes
from novel_agent.processors.measures import Measure, Measures, label_name, label_value
from novel_agent.processors.probability import adjusted_count, randomness, stated

_LABELS = ("service.name", "span.name", "span.kind", "status.code", "http.route", "http.response.status_code")
CALLS = Family(
    "traces_span_metrics_calls_total",
    "Spans, sampled ones at what they stand for.",
    "counter",
    tuple(map(label_name, _LABELS)),
)
DURATION = Family(
    "traces_span_metrics_duration_seconds", "How long spans took.", "histogram", tuple(map(label_name, _LABELS)), "s"
)
OVERFLOWED = Family(
    "novel_agent_span_metrics_overflowed_total", "Spans counted in the one series beyond max_series.", "counter"
)
_RESERVED = {*map(label_name, _LABELS), "le", "otel_metric_overflow"}

_KIND_VALUES = tuple(f"SPAN_KIND_{kind}" for kind in KINDS)
_STATUS_VALUES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
_OVERFLOWED_SHAPE = Shape([OVERFLOWED.series()])
UNKNOWN_SERVICE = "unknown_service"


class SpanMetrics:
    """Metrics of all spans it was shown, cumulative for each series from its first span on."""

    def __init__(self, options: schema.SpanMetrics) -> None:
        self._dimensions = _further(options.dimensions)
        labels = _LABELS + self._dimensions
        calls, duration = (_labelled(family, labels) for family in (CALLS, DURATION))
        self.families = (calls, duration, OVERFLOWED)
        self._measures = Measures(
            [Measure(calls, "traces.span.metrics.calls", "{call}")],
            [Measure(duration, "traces.span.metrics.duration", "s")],
            labels,
            options.buckets_seconds,
            options.max_series,
        )

    def __len__(self) -> int:
        """Series of calls."""
        return len(self._measures)

    @property
    def overflowed(self) -> int:
        """Spans that were counted in the shared series."""
        return self._measures.overflowed

    def take(self, groups: Iterable[SpanGroup], now: float) -> None:
        """Count the spans; `now` in seconds since the epoch."""
        measures = self._measures
        for group in groups:
            resource = group.origin.resource
            service = label_value(resource.get("service.name", UNKNOWN_SERVICE))
            for span in group.spans:
                entry = measures.entry(self._values(service, resource, span), now)
                stands_for = weight(span)
                exemplar = (span.end_unix_nano, span.seconds, span.trace_id, span.span_id)
                entry.counters[0] += stands_for
                measures.observe(entry.histograms[0], exemplar[1], stands_for, exemplar)

    def blocks(self, now: float) -> Iterator[Block]:
        """For `/metrics`."""
        yield from self._measures.blocks(now)
        yield Block(_OVERFLOWED_SHAPE, [self.overflowed])

    def metrics(self, now: float) -> list[Metric]:
        """For OTLP."""
        return self._measures.metrics(now)

    def _values(self, service: str, resource: Attributes, span: Span) -> tuple[str, ...]:
        attributes = span.attributes
        status = attributes.get("http.response.status_code")
        if status is None:
            status = attributes.get("http.status_code")
        values = (
            service,
            label_value(span.name),
            _KIND_VALUES[span.kind if 0 < span.kind < len(KINDS) else 0],
            _STATUS_VALUES[span.status_code if 0 < span.status_code < len(_STATUS_VALUES) else 0],
            label_value(attributes.get("http.route")),
            label_value(status),
        )
        if not self._dimensions:
            return values
        return values + tuple(
            label_value(attributes[name] if name in attributes else resource.get(name)) for name in self._dimensions
        )


def _further(dimensions: Iterable[str]) -> tuple[str, ...]:
    """The dimensions whose labels are not taken yet."""
    further: dict[str, str] = {}
    for name in dimensions:
        if label_name(name) not in _RESERVED:
            further.setdefault(label_name(name), name)
    return tuple(further.values())


def _labelled(family: Family, labels: Iterable[str]) -> Family:
    return Family(family.name, family.help, family.kind, tuple(map(label_name, labels)), family.unit)


def weight(span: Span) -> Number:
    """How many spans it stands for; 1 where its `tracestate` does not say, or cannot be true."""
    if not span.trace_state:
        return 1
    explicit, threshold = stated(span.trace_state)
    if not threshold:
        return 1
    chance = explicit if explicit is not None else randomness(span.trace_id)
    return 1 if chance is None or chance < threshold else adjusted_count(threshold)

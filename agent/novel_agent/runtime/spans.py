"""What is done to spans on their way, as configured; nothing that is not configured costs anything.

In this order: what must not be seen is taken out, what is too much is cut, calls are counted and the traces kept for looking
up (so that sampling changes no figure), and then traces are chosen by their ids. Whole traces are chosen later, by `tail`.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

from novel_agent.config.schema import SpanMetrics, Traces
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.model.point import Metric, MetricGroup
from novel_agent.model.span import SpanGroup
from novel_agent.model.value import Origin
from novel_agent.processors.patterns import Pattern
from novel_agent.wire.protobuf import WireError

log = get_logger("traces")

DROPPED = Family(
    "novel_agent_traces_dropped_spans_total", "Spans that were not kept, by what decided so.", "counter", ("reason",)
)
OVERFLOWED = Family(
    "novel_agent_traces_overflowed_total", "Spans counted in the one series for all beyond the bound.", "counter",
    ("measure",),
)  # fmt: skip
EDITED = Family("novel_agent_traces_edited_values_total", "Values of spans that were redacted or cut.", "counter")
HEAD_SAMPLING, UNREADABLE = "head_sampling", "unreadable"

_NANOS = 1_000_000_000
_SPANS_A_SLICE = 400
_SPANS_A_GROUP = 2
"""What a resource costs beside its spans, in spans."""
_ORIGIN = Origin(resource={"service.name": "novel-engine-agent"}, scope="novel-engine-agent")

Edit = Callable[[bytes], Generator[None, None, tuple[bytes, int]]]
"""A payload to the edited one, and how many values were changed; in slices."""


class Measure(Protocol):
    """Metrics made of spans; `now` is in seconds since the epoch."""

    def take(self, groups: Iterable[SpanGroup], now: float) -> None:
        """Count these."""

    @property
    def overflowed(self) -> int:
        """Counted beyond the bound of series."""

    def blocks(self, now: float) -> Iterable[Block]:
        """As series of /metrics."""

    def metrics(self, now: float) -> list[Metric]:
        """The same for OTLP."""


class SpanPipeline:
    """The steps for one configuration; `before` is the one whose measures it goes on with, where they are the same.

    `dropped` counts spans by reason, those of tail sampling too.
    """

    def __init__(self, traces: Traces, before: "SpanPipeline | None" = None) -> None:
        self.traces = traces
        self.dropped: Counter[str] = before.dropped if before is not None else Counter()
        self.edited: int = before.edited if before is not None else 0
        self._shapes = ShapeMemo()
        self._edits = list(_edits(traces))
        known: dict[object, Measure] = before.measures if before is not None else {}
        self.measures: dict[object, Measure] = _measures(traces, known)
        self._choose: Callable[[bytes], tuple[bytes, int, int]] | None = None
        if traces.head_sampling < 1:
            from novel_agent.processors.head_sampling import HeadSampler

            self._choose = HeadSampler(traces.head_sampling)

    def look(self, batch: Batch, now: float) -> Batch:
        """Edit and measure. Spans that cannot be read pass as they came.

        WireError where they cannot be redacted; nothing was counted then.
        """
        looking = self.looking(batch, now)
        while True:
            try:
                next(looking)
            except StopIteration as end:
                looked: Batch = end.value
                return looked

    def looking(self, batch: Batch, now: float) -> Generator[None, None, Batch]:
        """The same, yielding between slices of some 10 ms: others may have a turn."""
        if not self._edits and not self.measures:
            return batch
        try:
            payload, changes = yield from self._edit(batch.payload)
        except WireError as error:
            if self.traces.redact is not None:
                raise
            log.warning("spans that cannot be read", reason=error)
            payload, changes = batch.payload, 0
        self.edited += changes
        try:
            yield from self._measure(payload, now)
        except WireError as error:
            log.warning("spans that cannot be read are not counted", reason=error)
        return batch if payload is batch.payload else Batch("traces", payload, batch.items)

    def _edit(self, payload: bytes) -> Generator[None, None, tuple[bytes, int]]:
        edited = 0
        for edit in self._edits:
            payload, changes = yield from edit(payload)
            edited += changes
        return payload, edited

    def _measure(self, payload: bytes, now: float) -> Iterator[None]:
        if not self.measures:
            return
        from novel_agent.wire.otlp_read import read_spans

        groups: Iterable[SpanGroup] = read_spans(payload)
        if self.traces.redact is not None:  # refused where one cannot be read: then none is counted
            held: list[SpanGroup] = []
            yield from _in_slices(groups, held.append)
            groups = held
        yield from _in_slices(groups, lambda group: self._count(group, now))

    def _count(self, group: SpanGroup, now: float) -> None:
        for measure in self.measures.values():
            measure.take([group], now)

    def choose(self, batch: Batch) -> Batch:
        """What head sampling keeps."""
        if self._choose is None:
            return batch
        try:
            payload, kept, dropped = self._choose(batch.payload)
        except WireError:
            return batch
        self.dropped[HEAD_SAMPLING] += dropped
        return Batch("traces", payload, kept)

    def measured(self, now_nanos: int) -> Sequence[Batch]:
        """What was measured, as OTLP metrics of the agent's own."""
        metrics = [each for measure in self.measures.values() for each in measure.metrics(now_nanos / _NANOS)]
        if not metrics:
            return ()
        from novel_agent.wire.otlp_write import write_metrics

        points = sum(len(metric.points) for metric in metrics)
        return [Batch("metrics", write_metrics([MetricGroup(_ORIGIN, metrics, [])]), points)]

    def blocks(self, now: float) -> list[Block]:
        """What was measured and what was dropped, as series."""
        reasons, measures = tuple(sorted(self.dropped)), tuple(self.measures)
        shape = self._shapes.get(
            "own",
            (reasons, measures),
            lambda: [
                *(DROPPED.series(reason) for reason in reasons),
                *(OVERFLOWED.series(_measure_name(each)) for each in measures),
                EDITED.series(),
            ],
        )
        overflowed = [measure.overflowed for measure in self.measures.values()]
        own = Block(shape, [*(self.dropped[reason] for reason in reasons), *overflowed, self.edited])
        return [*(block for measure in self.measures.values() for block in measure.blocks(now)), own]


def _in_slices(groups: Iterable[SpanGroup], do: Callable[[SpanGroup], None]) -> Iterator[None]:
    spans = 0
    for group in groups:
        if spans >= _SPANS_A_SLICE:
            spans = 0
            yield
        spans += _SPANS_A_GROUP + len(group.spans)
        do(group)


def _edits(traces: Traces) -> Iterator[Edit]:
    if traces.redact is not None:
        from novel_agent.processors.redact import Redactor

        if traces.redact.attributes or traces.redact.values:
            yield Redactor(traces.redact, linear).editing
        else:
            yield Redactor(traces.redact).editing
    if traces.limits is not None:
        from novel_agent.processors.attribute_limits import AttributeLimiter

        yield AttributeLimiter(traces.limits).editing


def linear(pattern: str) -> Pattern:
    """A regular expression that somebody configured, in time that grows with the text alone. Loads RE2 when first asked."""
    import re2

    return re2.compile(pattern)  # type: ignore[no-any-return]


def _measures(traces: Traces, known: dict[object, Measure]) -> dict[object, Measure]:
    """By what they are made of; those that are known already go on."""
    wanted: list[tuple[object, Callable[[], Measure]]] = []
    if traces.span_metrics is not False:
        options = SpanMetrics() if traces.span_metrics is True else traces.span_metrics
        wanted.append((options, lambda: _span_metrics(options)))
    if traces.service_graph:
        wanted.append(("service graph", _service_graph))
    return {key: known[key] if key in known else make() for key, make in wanted}


def _measure_name(key: object) -> str:
    return "span_metrics" if isinstance(key, SpanMetrics) else "service_graph"


def _span_metrics(options: SpanMetrics) -> Measure:
    from novel_agent.processors import span_metrics

    return span_metrics.SpanMetrics(options)


def _service_graph() -> Measure:
    from novel_agent.processors.service_graph import ServiceGraph

    return ServiceGraph()

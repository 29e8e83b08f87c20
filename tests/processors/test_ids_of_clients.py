"""What becomes of ids that are not 16 and 8 bytes, which any client may send."""

import tracemalloc

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from novel_agent.config import schema
from novel_agent.model.log import LogGroup, LogRecord
from novel_agent.model.metric import BlockWithExemplars
from novel_agent.model.point import Exemplar, NumberPoint
from novel_agent.model.span import CLIENT, SERVER, Span, SpanGroup
from novel_agent.model.value import Origin
from novel_agent.processors.received_series import Kept
from novel_agent.processors.service_graph import ServiceGraph
from novel_agent.processors.span_metrics import SpanMetrics
from novel_agent.wire.loki import encode_push
from novel_agent.wire.prometheus import render_openmetrics

NOW = 1_700_000_000.0
START = 1_700_000_000_000_000_000
TRACE, SPAN = b"\x0a" * 16, b"\x0b" * 8
WRONG = [
    (b"\x0a" * 17, SPAN),
    (b"\x0a" * 15, SPAN),
    (b"\x0a" * 70, SPAN),
    (b"", SPAN),
    (TRACE, b"\x0b" * 9),
    (TRACE, b"\x0b" * 7),
]


def group(*spans):
    return SpanGroup(Origin(resource={"service.name": "api"}), list(spans), [])


def span(trace_id=TRACE, span_id=SPAN, kind=SERVER, parent=b"", **attributes):
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        kind=kind,
        name="GET",
        start_unix_nano=START,
        end_unix_nano=START + 100_000_000,
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
    )


def shown_exemplars(blocks):
    return [each for block in blocks if isinstance(block, BlockWithExemplars) for each in block.exemplars.values()]


def exemplars(metrics):
    return [each for metric in metrics for point in metric.points for each in point.exemplars]


@pytest.mark.parametrize(("trace_id", "span_id"), WRONG)
@pytest.mark.parametrize("make", [lambda: SpanMetrics(schema.SpanMetrics()), ServiceGraph])
def test_a_span_with_ids_of_another_length_is_counted_and_is_no_exemplar(make, trace_id, span_id):
    measure = make()
    measure.take([group(span(trace_id, span_id))], NOW)
    blocks = list(measure.blocks(NOW))
    assert exemplars(measure.metrics(NOW)) == []
    assert shown_exemplars(blocks) == []
    assert len(measure.metrics(NOW)) == (4 if isinstance(measure, ServiceGraph) else 2)
    assert list(text_string_to_metric_families(render_openmetrics(blocks).decode()))


def test_a_span_with_sound_ids_is_the_exemplar():
    metrics = SpanMetrics(schema.SpanMetrics())
    metrics.take([group(span()), group(span(b"\x0c" * 17))], NOW)
    assert [(each.trace_id, each.span_id) for each in exemplars(metrics.metrics(NOW))] == [(TRACE, SPAN)]


@pytest.mark.parametrize(("trace_id", "span_id"), [*WRONG, (TRACE, b""), (bytes(16), SPAN), (TRACE, bytes(8))])
def test_a_caller_or_callee_without_sound_ids_makes_no_edge_and_does_not_wait(trace_id, span_id):
    graph = ServiceGraph()
    graph.take([group(span(trace_id, span_id, CLIENT, peer__service="db"))], NOW)
    assert (graph.waiting, graph.size_bytes, graph.unpaired) == (0, 0, 1)
    if span_id.strip(b"\0"):
        graph.take([group(span(trace_id, SPAN, SERVER, parent=span_id))], NOW)
        assert (graph.waiting, graph.size_bytes, graph.unpaired) == (0, 0, 2)
        assert graph.metrics(NOW + 60) == []


def test_a_parent_of_zeros_is_none():
    graph = ServiceGraph()
    graph.take([group(span(parent=bytes(8)))], NOW)
    assert [point.attributes["client"] for point in graph.metrics(NOW)[0].points] == ["user"]


def test_long_ids_take_no_memory():
    graph, metrics = ServiceGraph(), SpanMetrics(schema.SpanMetrics())
    tracemalloc.start()
    try:
        for number in range(50):
            long = number.to_bytes(4, "big") * 25_000
            for kind in (CLIENT, SERVER):
                groups = [group(span(long, SPAN, kind)), group(span(TRACE, long, kind, parent=long))]
                graph.take(groups, NOW)
                metrics.take(groups, NOW)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_services_of_many_bytes_are_counted_while_they_wait():
    graph = ServiceGraph(memory_bytes=100_000)
    for number in range(100):
        origin = Origin(resource={"service.name": f"{number:04}" + "\U0001f600" * 252})
        graph.take([SpanGroup(origin, [span(TRACE, number.to_bytes(8, "big") or SPAN, CLIENT)], [])], NOW)
    assert graph.waiting <= 100_000 // (960 + 256 * 4)


@pytest.mark.parametrize(
    ("trace_id", "span_id", "labels"),
    [
        (TRACE, SPAN, ("trace_id", "span_id")),
        (b"\x0a" * 40, SPAN, ("span_id",)),
        (TRACE, b"\x0b" * 4, ("trace_id",)),
        (b"\x0a" * 900_000, b"", ()),
    ],
)
def test_a_received_exemplar_has_only_sound_ids(trace_id, span_id, labels):
    kept = Kept(None)
    kept.keep(NumberPoint(value=1))
    kept.keep_exemplars([Exemplar(value=1.0, trace_id=trace_id, span_id=span_id)])
    assert kept.exemplars is not None
    assert tuple(name for name, _ in kept.exemplars[0].labels) == labels


def test_loki_is_told_only_sound_ids():
    records = [LogRecord(body="x", trace_id=b"\x0a" * 17, span_id=b"\x0b" * 7), LogRecord(trace_id=TRACE, span_id=SPAN)]
    body = encode_push([LogGroup(Origin(resource={}), records, [])], (), START)
    assert (body.count(b"trace_id"), body.count(b"span_id")) == (1, 1)

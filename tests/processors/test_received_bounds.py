"""What a client that sends large or odd metrics may cost: bytes of names and labels, memory of names, time at a stretch."""

import tracemalloc

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as MetricMessage

from novel_agent.model.point import (
    CUMULATIVE,
    Exemplar,
    HistogramPoint,
    Metric,
    MetricGroup,
    NumberPoint,
)
from novel_agent.model.value import Origin
from novel_agent.processors.received_metrics import ReceivedMetrics
from novel_agent.wire.otlp_read import metric_parts, raw_groups, read_metric
from novel_agent.wire.otlp_write import write_metrics
from novel_agent.wire.prometheus import render_text
from novel_agent.wire.protobuf import varint

SECOND = 1_000_000_000
STORIES = Origin(resource={"service.name": "stories"})
MIB = 1 << 20


def payload(*metrics, origin=STORIES):
    return write_metrics([MetricGroup(origin, list(metrics), [])])


def gauge(name, *labels, value=1, time=1, unit="", description=""):
    points = [NumberPoint(value=value, time_unix_nano=time * SECOND, attributes=each) for each in labels or ({},)]
    return Metric(name=name, unit=unit, description=description, kind="gauge", points=points)


def histogram(bounds, *, time=2, attributes=None, exemplars=0, start=1):
    point = HistogramPoint(
        count=0,
        total=0.0,
        counts=[0] * (bounds + 1),
        bounds=[float(each) for each in range(bounds)],
        start_unix_nano=start * SECOND,
        time_unix_nano=time * SECOND,
        attributes=attributes or {},
        exemplars=[Exemplar(value=each + 0.5, time_unix_nano=1) for each in range(exemplars)],
    )
    return Metric(name="latency", kind="histogram", temporality=CUMULATIVE, points=[point])


def shown(received, name=""):
    return [line for line in render_text(received.blocks(1)).decode().splitlines() if line.startswith(name)]


def large(number):
    return {f"{'k' * 230}_{label:02}": f"{number}_{label}_{'v' * 230}" for label in range(60)}


def test_the_bytes_of_labels_are_bounded_and_the_rest_is_refused():
    received = ReceivedMetrics()
    for number in range(0, 2_000, 20):
        received.take(payload(gauge("big", *(large(each) for each in range(number, number + 20)))), 1)
    assert received.statistics.size_bytes <= 16 * MIB
    assert sum(map(len, shown(received))) <= 16 * MIB
    assert received.statistics.series + received.statistics.refused["bytes_limit"] == 2_000
    received.take(payload(gauge("other")), 1)
    assert received.statistics.refused["bytes_limit"] > 1_000


def test_many_series_of_usual_size_have_room():
    received = ReceivedMetrics()
    for metric in range(10):
        labels = [{"http.route": f"/stories/{each:05}", "http.method": "GET", "zone": "a"} for each in range(1_900)]
        origin = Origin(resource={"service.name": f"stories-{metric // 5}", "service.instance.id": "i-0123456789"})
        received.take(payload(gauge(f"queue.length.{metric}", *labels), origin=origin), 1)
    assert received.statistics.series == 19_000
    assert received.statistics.refused == {}


def test_what_is_forgotten_gives_its_bytes_back():
    received = ReceivedMetrics()
    received.take(payload(gauge("big", large(1), large(2)), histogram(10, exemplars=10)), 1)
    assert received.statistics.size_bytes > 100_000
    assert received.blocks(302) == []
    assert received.statistics.size_bytes == 0


def test_target_info_has_its_part_in_the_bytes():
    received = ReceivedMetrics(most_bytes=200_000)
    for number in range(20):
        origin = Origin(resource=large(number) | {"service.name": f"s{number}"})
        received.take(payload(gauge("src"), origin=origin), 1)
    statistics = received.statistics
    assert statistics.size_bytes <= 200_000
    assert statistics.series == 20
    assert len(shown(received, "target_info{")) == 20 - statistics.refused["target_info"] == 3


def test_a_histogram_counts_its_labels_once_for_each_of_its_lines():
    received = ReceivedMetrics(most_bytes=MIB)
    for number in range(10):
        received.take(payload(histogram(100, attributes={"label": f"{number}" * 200})), 1)
    assert sum(map(len, shown(received))) <= MIB
    received = ReceivedMetrics(most_bytes=MIB)
    received.take(payload(histogram(250, attributes=large(1))), 1)
    assert received.statistics.refused == {"bytes_limit": 1}


def test_a_series_that_grows_is_held_to_the_same_bounds():
    received = ReceivedMetrics(most_series=100)
    received.take(payload(histogram(1)), 1)
    received.take(payload(histogram(200, time=3)), 1)
    assert received.statistics.refused == {"limit": 1}
    assert received.statistics.series == 4
    received.take(payload(histogram(2, time=4)), 1)
    assert received.statistics.series == 5


def test_names_that_fall_together_take_no_memory():
    received = ReceivedMetrics()
    received.take(payload(gauge("leak")), 1)
    tracemalloc.start()
    try:
        for number in range(20):
            received.take(payload(gauge("leak" + "." * (200_000 + number))), 1)
        for number in range(0, 20_000, 100):
            units = [gauge("leak", unit=f"{{{each}}}", time=number + 2) for each in range(number, number + 100)]
            received.take(payload(*units), 1)
        assert tracemalloc.get_traced_memory()[0] < 1_500_000
    finally:
        tracemalloc.stop()
    assert received.statistics.refused["name"] == 20
    assert received.statistics.series == 1
    assert shown(received, "leak{") == ['leak{job="stories"} 1']


def test_a_unit_that_is_no_unit_is_refused():
    received = ReceivedMetrics()
    received.take(payload(gauge("a", unit="u" * 65), gauge("b", unit="u" * 64)), 1)
    assert received.statistics.refused == {"name": 1}


def test_what_is_from_the_future_is_refused_and_blocks_nothing():
    received = ReceivedMetrics()
    latest = 3_600 * SECOND
    received.take(payload(gauge("fut", value=1, time=(2**64 - 1) // SECOND)), 1, latest)
    received.take(payload(histogram(1, start=7_200, time=2)), 1, latest)
    assert received.statistics.refused == {"future": 2}
    received.take(payload(gauge("fut", value=42, time=3_600)), 1, latest)
    assert shown(received, "fut") == ['fut{job="stories"} 42']


def test_metrics_without_points_cost_nothing():
    received = ReceivedMetrics()
    received.take(payload(*(Metric(name=f"m{number}", kind="gauge") for number in range(100))), 1)
    assert (received.statistics.families, received.statistics.size_bytes) == (0, 0)


def test_it_gives_way_between_slices_also_within_one_metric():
    received = ReceivedMetrics()
    body = payload(gauge("m", *({"n": str(number)} for number in range(10_000))))
    slices = sum(1 for _ in received.taking(body, 1))
    assert 10 <= slices <= 100
    assert received.statistics.points == 10_000
    assert received.statistics.series == 2_001


def test_it_gives_way_between_resources():
    received = ReceivedMetrics()
    groups = [MetricGroup(Origin(resource={"service.name": str(number)}), [], []) for number in range(10)]
    body = write_metrics([MetricGroup(each.origin, [gauge("m")], []) for each in groups]) * 200
    assert sum(1 for _ in received.taking(body, 1)) >= 10


def test_what_is_taken_in_meanwhile_keeps_its_source():
    received = ReceivedMetrics()
    slow = received.taking(payload(*(gauge(f"m{number}") for number in range(1_000))), 1)
    next(slow)
    received.blocks(10_000)
    received.take(payload(gauge("other")), 10_000)
    assert list(slow)
    assert received.statistics.sources == 1
    assert received.statistics.series >= 500


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "summary"])
def test_a_metric_in_parts_has_the_same_points_and_the_same_head(kind):
    message = MetricMessage(name="m", description="d", unit="s")
    data = getattr(message, kind)
    if kind in {"sum", "histogram"}:
        data.aggregation_temporality = 2
    for number in range(300):
        data.data_points.add(time_unix_nano=number + 1)
    content = message.SerializeToString()
    parts = [read_metric(each) for each in metric_parts(content, 100)]
    whole = read_metric(content)
    assert len(parts) > 20
    assert [point.time_unix_nano for part in parts for point in part.points] == list(range(1, 301))
    for part in parts:
        assert (part.name, part.description, part.unit, part.kind, part.temporality) == (
            *(whole.name, whole.description, whole.unit, whole.kind),
            whole.temporality,
        )


def test_a_small_metric_is_one_part():
    (group,) = raw_groups(payload(gauge("m")))
    assert [each == bytes(group.items[0]) for each in metric_parts(group.items[0])] == [True]


def test_a_large_metric_without_points_is_one_part():
    content = MetricMessage(name="m", description="d" * 200).SerializeToString()
    assert list(metric_parts(content, 100)) == [content]


def test_parts_do_not_repeat_what_stands_between_points():
    between = b"\x0a\x00\x10\x02" * 20_000 + b"\x22\x02xx" * 20_000
    content = b"\x0a\x01m\x3a" + varint(len(between)) + between
    parts = list(metric_parts(content, 1_000))
    assert sum(map(len, parts)) < 60_000
    assert sum(len(read_metric(each).points) for each in parts) == 20_000
    assert {read_metric(each).temporality for each in parts} == {2}

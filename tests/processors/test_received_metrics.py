import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from novel_agent.model.point import (
    CUMULATIVE,
    DELTA,
    NO_RECORDED_VALUE,
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    Metric,
    MetricGroup,
    NumberPoint,
    SummaryPoint,
)
from novel_agent.model.value import Origin
from novel_agent.processors.received_metrics import ReceivedMetrics
from novel_agent.wire.otlp_write import write_metrics
from novel_agent.wire.prometheus import render_openmetrics, render_text
from novel_agent.wire.prometheus_text import parse_text as parse_strictly

SECOND = 1_000_000_000
STORIES = Origin(resource={"service.name": "stories"})


def payload(*metrics, origin=STORIES):
    return write_metrics([MetricGroup(origin, list(metrics), [])])


def gauge(name="queue.length", value=1, *, unit="", time=1, **attributes):
    point = NumberPoint(value=value, time_unix_nano=time * SECOND, attributes=attributes)
    return Metric(name=name, unit=unit, kind="gauge", points=[point])


def counter(name="requests", value=1, *, start=1, time=2, temporality=CUMULATIVE, exemplars=(), **attributes):
    point = NumberPoint(
        value=value,
        start_unix_nano=start * SECOND,
        time_unix_nano=time * SECOND,
        attributes=attributes,
        exemplars=list(exemplars),
    )
    return Metric(name=name, kind="sum", temporality=temporality, monotonic=True, points=[point])


def histogram(counts, bounds, *, name="latency", total=1.5, start=1, time=2, temporality=CUMULATIVE, exemplars=()):
    point = HistogramPoint(
        count=sum(counts),
        total=total,
        counts=counts,
        bounds=bounds,
        start_unix_nano=start * SECOND,
        time_unix_nano=time * SECOND,
        exemplars=list(exemplars),
    )
    return Metric(name=name, unit="s", kind="histogram", temporality=temporality, points=[point])


def exponential(
    positive=(0, [1]), *, scale=0, zero=0, threshold=0.0, negative=(0, []), time=2, temporality=CUMULATIVE, exemplars=()
):
    point = ExponentialHistogramPoint(
        count=sum(positive[1]) + sum(negative[1]) + zero,
        total=3.5,
        scale=scale,
        zero_count=zero,
        zero_threshold=threshold,
        positive=Buckets(offset=positive[0], counts=positive[1]),
        negative=Buckets(offset=negative[0], counts=negative[1]),
        start_unix_nano=SECOND,
        time_unix_nano=time * SECOND,
        exemplars=list(exemplars),
    )
    return Metric(name="sizes", unit="By", kind="exponential_histogram", temporality=temporality, points=[point])


def summary(quantiles):
    point = SummaryPoint(count=5, total=2.5, quantiles=quantiles, time_unix_nano=SECOND)
    return Metric(name="wait", unit="s", kind="summary", points=[point])


def lines(received, now=0.0):
    """The samples of the text format."""
    return [line for line in render_text(received.blocks(now)).decode().split("\n") if line and line[0] != "#"]


def shown(*metrics, origin=STORIES):
    received = ReceivedMetrics()
    received.take(payload(*metrics, origin=origin), 0.0)
    return lines(received)


def both_formats_parse(received, now=0.0):
    blocks = received.blocks(now)
    text, openmetrics = render_text(blocks), render_openmetrics(blocks).decode()
    parse_strictly(text)
    list(parse_text(text.decode()))
    # client_python cannot read an odd number of escaped quotes in an exemplar.
    without_quotes = re.sub(r"\\(.)", lambda escape: "'" if escape[1] == '"' else escape[0], openmetrics)
    return {family.name: family for family in parse_openmetrics(without_quotes)}


def test_a_gauge_is_shown_with_its_unit_and_the_labels_of_its_source():
    origin = Origin(
        resource={"service.name": "stories", "service.namespace": "novel", "service.instance.id": "i-1"},
        scope="lib",
        scope_version="1.2",
    )
    assert shown(gauge("process.memory.usage", 512, unit="By", **{"memory.kind": "rss"}), origin=origin) == [
        'process_memory_usage_bytes{memory_kind="rss",otel_scope_name="lib",otel_scope_version="1.2"'
        ',job="novel/stories",instance="i-1"} 512'
    ]


def test_types_and_help_are_shown():
    received = ReceivedMetrics()
    metric = counter()
    metric.description = "How many."
    received.take(payload(metric, gauge()), 0.0)
    text = render_text(received.blocks(0.0)).decode()
    assert "# HELP requests_total How many.\n# TYPE requests_total counter\n" in text
    assert "# TYPE queue_length gauge\n" in text


def test_sums_that_may_fall_are_gauges():
    metric = counter("connections", 5)
    metric.monotonic = False
    received = ReceivedMetrics()
    received.take(payload(metric), 0.0)
    assert "# TYPE connections gauge" in render_text(received.blocks(0.0)).decode()


def test_what_else_the_resource_says_is_in_target_info_once_a_source():
    origin = Origin(resource={"service.name": "stories", "host.name": "h1", "process.pid": 7, "tags": ["a", True]})
    assert shown(gauge(), counter(), origin=origin)[-1] == (
        'target_info{host_name="h1",process_pid="7",tags="[""a"",true]",job="stories"} 1'.replace('""', '\\"')
    )


def test_a_resource_without_a_service_has_no_target_info():
    assert shown(gauge(), origin=Origin(resource={"host.name": "h1"})) == ["queue_length 1"]


def test_scope_attributes_are_labels():
    origin = Origin(resource={}, scope="lib", scope_attributes={"short.name": "l"})
    assert shown(gauge(), origin=origin) == ['queue_length{otel_scope_short_name="l",otel_scope_name="lib"} 1']


def test_attributes_whose_names_fall_together_are_joined():
    assert shown(gauge(**{"a.b": "1", "a_b": "2"})) == ['queue_length{a_b="1;2",job="stories"} 1']


def test_an_attribute_that_wants_a_label_of_ours_is_exported():
    assert shown(gauge(job="x", le="0.5", exported_job="y")) == [
        'queue_length{exported_job="y",exported_exported_job="x",exported_le="0.5",job="stories"} 1'
    ]


def test_long_values_are_cut_and_stay_different():
    received = ReceivedMetrics()
    received.take(payload(gauge(path="x" * 300 + "a"), gauge(path="x" * 300 + "b")), 0.0)
    values = [line.split('"')[1] for line in lines(received)]
    assert [len(value) for value in values] == [256, 256]
    assert values[0] != values[1]


def test_a_histogram_has_cumulative_buckets():
    assert shown(histogram([1, 2, 3], [0.1, 1.0])) == [
        'latency_seconds_bucket{job="stories",le="0.1"} 1',
        'latency_seconds_bucket{job="stories",le="1"} 3',
        'latency_seconds_bucket{job="stories",le="+Inf"} 6',
        'latency_seconds_sum{job="stories"} 1.5',
        'latency_seconds_count{job="stories"} 6',
    ]


def test_a_histogram_without_buckets_has_the_one_for_all():
    metric = histogram([], [])
    metric.points[0].count = 4
    assert shown(metric)[0] == 'latency_seconds_bucket{job="stories",le="+Inf"} 4'


def test_a_bound_that_is_infinite_is_the_bucket_for_all():
    assert shown(histogram([1, 2, 0], [0.1, math.inf]))[:2] == [
        'latency_seconds_bucket{job="stories",le="0.1"} 1',
        'latency_seconds_bucket{job="stories",le="+Inf"} 3',
    ]


def test_a_histogram_that_may_have_negative_values_has_no_sum():
    assert not any("_sum" in line for line in shown(histogram([1, 2, 3], [-1.0, 1.0])))
    assert not any("_sum" in line for line in shown(exponential((0, [1]), negative=(0, [1]))))


@pytest.mark.parametrize("total", [None, -1.0, math.nan])
def test_a_sum_that_is_unknown_or_no_counters_is_left_out(total):
    received = ReceivedMetrics()
    received.take(payload(histogram([1, 2, 3], [0.1, 1.0], total=total)), 0.0)
    assert [line.partition("{")[0] for line in lines(received)][-2:] == [
        "latency_seconds_bucket",
        "latency_seconds_count",
    ]
    assert {sample.name for sample in both_formats_parse(received)["latency_seconds"].samples} == {
        "latency_seconds_bucket"
    }


def test_an_exponential_histogram_is_shown_with_powers_as_bounds():
    assert shown(exponential((0, [1, 2]), zero=3, negative=(1, [4]))) == [
        'sizes_bytes_bucket{job="stories",le="-2"} 4',
        'sizes_bytes_bucket{job="stories",le="0"} 7',
        'sizes_bytes_bucket{job="stories",le="2"} 8',
        'sizes_bytes_bucket{job="stories",le="4"} 10',
        'sizes_bytes_bucket{job="stories",le="+Inf"} 10',
        'sizes_bytes_count{job="stories"} 10',
    ]


def test_a_fine_exponential_histogram_is_shown_with_twenty_bounds_and_kept_whole():
    received = ReceivedMetrics()
    received.take(payload(exponential((0, [1] * 160), scale=5)), 0.0)
    assert len(lines(received)) == 20 + 3
    assert lines(received)[0] == 'sizes_bytes_bucket{job="stories",le="1.189207115002721"} 8'
    (native,) = received.native_histograms(0.0)
    assert (native.family.name, native.labels) == ("sizes_bytes", (("job", "stories"),))
    assert (native.point.scale, native.point.positive.counts) == (5, [1] * 160)


def test_a_summary_has_quantiles():
    assert shown(summary([(1.0, 2.0), (0.5, 0.5), (0.5, 0.25)])) == [
        'wait_seconds{job="stories",quantile="0.5"} 0.25',
        'wait_seconds{job="stories",quantile="1"} 2.0',
        'wait_seconds_sum{job="stories"} 2.5',
        'wait_seconds_count{job="stories"} 5',
    ]


def test_deltas_are_summed_up():
    received = ReceivedMetrics()
    for time, value in ((2, 5), (3, 7), (5, 1)):
        received.take(payload(counter(value=value, start=time - 1, time=time, temporality=DELTA)), 0.0)
    assert lines(received) == ['requests_total{job="stories"} 13']


def test_a_delta_that_is_not_newer_is_not_added_again():
    received = ReceivedMetrics()
    for start, time in ((1, 2), (2, 3), (2, 3), (1, 2)):
        received.take(payload(counter(value=5, start=start, time=time, temporality=DELTA)), 0.0)
    assert lines(received) == ['requests_total{job="stories"} 10']
    assert received.statistics.refused == {"out_of_order": 2}


def test_a_delta_that_starts_before_the_sum_begins_it_anew():
    received = ReceivedMetrics()
    received.take(payload(counter(value=5, start=10, time=11, temporality=DELTA)), 0.0)
    received.take(payload(counter(value=2, start=9, time=12, temporality=DELTA)), 0.0)
    assert lines(received) == ['requests_total{job="stories"} 2']


def test_delta_histograms_are_summed_up_and_begin_anew_with_other_bounds():
    received = ReceivedMetrics()
    for time, counts, bounds in ((2, [1, 2], [0.1]), (3, [1, 0], [0.1])):
        received.take(payload(histogram(counts, bounds, start=time - 1, time=time, temporality=DELTA)), 0.0)
    assert lines(received) == [
        'latency_seconds_bucket{job="stories",le="0.1"} 2',
        'latency_seconds_bucket{job="stories",le="+Inf"} 4',
        'latency_seconds_sum{job="stories"} 3.0',
        'latency_seconds_count{job="stories"} 4',
    ]
    received.take(payload(histogram([5, 6], [0.2], start=3, time=4, temporality=DELTA)), 0.0)
    assert lines(received)[:2] == [
        'latency_seconds_bucket{job="stories",le="0.2"} 5',
        'latency_seconds_bucket{job="stories",le="+Inf"} 11',
    ]


def test_delta_exponential_histograms_are_summed_up_at_the_coarser_scale():
    received = ReceivedMetrics()
    received.take(payload(exponential((0, [1, 1, 1, 1]), scale=1, zero=1, time=2, temporality=DELTA)), 0.0)
    received.take(payload(exponential((0, [1, 1]), scale=0, zero=1, time=3, temporality=DELTA)), 0.0)
    (native,) = received.native_histograms(0.0)
    assert (native.point.scale, native.point.zero_count) == (0, 2)
    assert native.point.positive == Buckets(offset=0, counts=[3, 3])
    assert (native.point.count, native.point.total) == (8, 7.0)


def test_a_cumulative_reset_passes_through():
    received = ReceivedMetrics()
    received.take(payload(counter(value=50, start=1, time=10)), 0.0)
    received.take(payload(counter(value=3, start=11, time=12)), 0.0)
    assert lines(received) == ['requests_total{job="stories"} 3']


def test_a_cumulative_point_that_is_older_is_ignored():
    received = ReceivedMetrics()
    received.take(payload(counter(value=50, start=5, time=10)), 0.0)
    received.take(payload(counter(value=40, start=5, time=9)), 0.0)
    received.take(payload(counter(value=90, start=1, time=11)), 0.0)
    assert lines(received) == ['requests_total{job="stories"} 50']
    assert received.statistics.refused == {"out_of_order": 2}


def test_series_that_are_not_refreshed_go_after_five_minutes():
    received = ReceivedMetrics()
    received.take(payload(gauge(time=1), counter(time=2)), 0.0)
    received.take(payload(gauge(time=2)), 200.0)
    assert len(lines(received, 299.9)) == 2
    assert lines(received, 300.0) == ['queue_length{job="stories"} 1']
    assert lines(received, 500.0) == []
    assert received.statistics.series == received.statistics.families == received.statistics.sources == 0


def test_series_go_also_while_nobody_looks():
    received = ReceivedMetrics()
    for number in range(20):
        received.take(payload(gauge(number=number)), number * 100.0)
    assert received.statistics.series <= 4


def test_a_series_without_a_recorded_value_ends_at_once():
    received = ReceivedMetrics()
    received.take(payload(gauge(kind="a"), gauge(kind="b")), 0.0)
    ended = gauge(kind="a", time=2)
    ended.points[0].flags = NO_RECORDED_VALUE
    received.take(payload(ended), 1.0)
    assert lines(received, 1.0) == ['queue_length{kind="b",job="stories"} 1']
    assert received.statistics.series == 1


def test_a_name_that_is_the_agents_own_is_renamed_and_reported():
    received = ReceivedMetrics({"node_load1", "node_cpu_seconds_total"}, {"node_memory_.*"})
    received.take(
        payload(gauge("node.load1"), counter("node.cpu.seconds"), gauge("node.memory.x"), gauge("target.info")), 0.0
    )
    assert {line.partition("{")[0] for line in lines(received)} == {
        "otlp_node_load1",
        "otlp_node_cpu_seconds_total",
        "otlp_node_memory_x",
        "otlp_target_info",
    }
    assert received.statistics.renamed == {
        "node_load1": "otlp_node_load1",
        "node_cpu_seconds_total": "otlp_node_cpu_seconds_total",
        "node_memory_x": "otlp_node_memory_x",
        "target_info": "otlp_target_info",
    }


def test_names_that_are_renamed_do_not_fall_together_either():
    received = ReceivedMetrics({"work", "otlp_work"})
    received.take(payload(gauge("work"), histogram([1, 0], [0.1], name="work")), 0.0)
    metric = Metric(name="work", kind="summary", points=[SummaryPoint(count=1)])
    received.take(payload(metric), 0.0)
    assert {block.shape.series[0].family.name for block in received.blocks(0.0)} == {
        "otlp_2_work",
        "work_seconds",
        "otlp_3_work",
    }


def test_metrics_of_one_name_and_two_types_are_not_merged():
    received = ReceivedMetrics()
    received.take(payload(gauge("work"), histogram([1, 0], [0.1], name="work"), gauge("work.count", unit="s")), 0.0)
    received.take(payload(counter("work"), histogram([1, 0], [0.1], name="work.x")), 0.0)
    families = both_formats_parse(received)
    assert {family.name: family.type for family in families.values()} == {
        "work": "gauge",
        "work_seconds": "histogram",
        "work_count_seconds": "gauge",
        "otlp_work": "counter",
        "work_x_seconds": "histogram",
    }


def test_a_gauge_of_a_histograms_sample_name_is_renamed():
    received = ReceivedMetrics()
    received.take(payload(histogram([1, 0], [0.1]), gauge("latency_seconds_count")), 0.0)
    assert received.statistics.renamed == {"latency_seconds_count": "otlp_latency_seconds_count"}


def test_a_name_is_free_again_when_its_series_have_gone():
    received = ReceivedMetrics()
    received.take(payload(gauge("work")), 0.0)
    received.take(payload(histogram([1, 0], [0.1], name="work_x")), 400.0)
    metric = Metric(name="work", kind="summary", points=[SummaryPoint(count=1)])
    received.take(payload(metric), 400.0)
    assert 'work_count{job="stories"} 1' in lines(received, 400.0)


def test_one_metric_of_two_sources_is_one_family():
    received = ReceivedMetrics()
    received.take(payload(gauge()), 0.0)
    received.take(payload(gauge(), origin=Origin(resource={"service.name": "users"})), 0.0)
    assert lines(received) == ['queue_length{job="stories"} 1', 'queue_length{job="users"} 1']


def test_beyond_the_bound_of_a_metric_there_is_one_series_for_the_rest():
    received = ReceivedMetrics(most_per_metric=2)
    for number in range(5):
        received.take(payload(counter(value=number + 1, temporality=DELTA, number=number)), 0.0)
    assert lines(received) == [
        'requests_total{number="0",job="stories"} 1',
        'requests_total{number="1",job="stories"} 2',
        'requests_total{otel_metric_overflow="true"} 12',
    ]
    assert received.statistics.refused == {"metric_limit": 3}


def test_the_series_for_the_rest_has_the_largest_of_cumulative_counters():
    received = ReceivedMetrics(most_per_metric=1)
    received.take(payload(*(counter(value=value, number=value) for value in (1, 7, 3))), 0.0)
    assert lines(received)[-1] == 'requests_total{otel_metric_overflow="true"} 7'
    received.take(payload(gauge(value=1, number=1), gauge(value=5, number=2), gauge(value=4, number=3)), 0.0)
    assert 'queue_length{otel_metric_overflow="true"} 4' in lines(received)


def test_a_source_and_all_of_them_are_bounded():
    received = ReceivedMetrics(most_per_source=10, most_series=14)
    users = Origin(resource={"service.name": "users"})
    for origin in (STORIES, users):
        for number in range(20):
            received.take(payload(gauge(f"metric{number}"), origin=origin), 0.0)
    assert received.statistics.series == 14
    assert received.statistics.refused == {"source_limit": 10, "limit": 16}


def test_a_histogram_counts_as_what_is_shown_of_it():
    received = ReceivedMetrics(most_per_source=10)
    received.take(payload(histogram([1] * 6, [1.0, 2.0, 3.0, 4.0, 5.0])), 0.0)
    received.take(payload(histogram([1] * 6, [1.0, 2.0, 3.0, 4.0, 5.0], name="other")), 0.0)
    assert received.statistics.series == len(lines(received)) == 8


def test_the_same_series_are_compiled_once():
    received = ReceivedMetrics()
    received.take(payload(gauge(), histogram([1, 0], [0.1])), 0.0)
    before = [block.shape for block in received.blocks(0.0)]
    received.take(payload(gauge(value=2, time=3), histogram([2, 0], [0.1], time=3)), 0.0)
    assert [block.shape for block in received.blocks(0.0)] == before
    received.take(payload(gauge(kind="a")), 0.0)
    after = [block.shape for block in received.blocks(0.0)]
    assert after[0] is not before[0]
    assert after[1] is before[1]


def test_exemplars_are_shown_by_openmetrics_with_their_span():
    exemplars = [
        Exemplar(value=0.05, time_unix_nano=5 * SECOND, trace_id=b"\x01" * 16, span_id=b"\x02" * 8),
        Exemplar(value=0.07, time_unix_nano=6 * SECOND, trace_id=b"\x03" * 16, span_id=b"\x04" * 8),
        Exemplar(value=9, time_unix_nano=7 * SECOND, attributes={"user.id": "u1"}),
    ]
    received = ReceivedMetrics()
    received.take(payload(histogram([2, 0, 1], [0.1, 1.0], exemplars=exemplars)), 0.0)
    page = render_openmetrics(received.blocks(0.0)).decode().splitlines()
    assert (
        'latency_seconds_bucket{job="stories",le="0.1"} 2 # {trace_id="03030303030303030303030303030303",'
        'span_id="0404040404040404"} 0.07 6.000' in page
    )
    assert 'latency_seconds_bucket{job="stories",le="1.0"} 2' in page
    assert 'latency_seconds_bucket{job="stories",le="+Inf"} 3 # {user_id="u1"} 9 7.000' in page
    family = both_formats_parse(received)["latency_seconds"]
    assert [sample.exemplar.value for sample in family.samples if sample.exemplar] == [0.07, 9.0]
    assert b" # {" not in render_text(received.blocks(0.0))


def test_a_counter_has_its_last_exemplar_and_a_gauge_none():
    exemplar = Exemplar(value=2, trace_id=b"\x01" * 16)
    metric = gauge()
    metric.points[0].exemplars = [exemplar]
    received = ReceivedMetrics()
    received.take(payload(metric, counter(exemplars=[Exemplar(value=1), exemplar])), 0.0)
    families = both_formats_parse(received)
    assert families["requests"].samples[0].exemplar.value == 2
    assert families["queue_length"].samples[0].exemplar is None


def test_exemplars_of_an_exponential_histogram_stand_at_the_bound_that_is_shown():
    received = ReceivedMetrics()
    received.take(payload(exponential((0, [1, 2]), exemplars=[Exemplar(value=3.0, time_unix_nano=SECOND)])), 0.0)
    family = both_formats_parse(received)["sizes_bytes"]
    assert [sample.labels["le"] for sample in family.samples if sample.exemplar] == ["4.0"]


def test_an_exemplar_has_no_more_labels_than_openmetrics_takes():
    attributes = {"a": "x" * 60, "b": "y" * 100, "c": "z"}
    exemplar = Exemplar(value=1, trace_id=b"\x01" * 16, span_id=b"\x02" * 8, attributes=attributes)
    received = ReceivedMetrics()
    received.take(payload(counter(exemplars=[exemplar])), 0.0)
    (sample,) = both_formats_parse(received)["requests"].samples
    assert sample.exemplar.labels.keys() == {"trace_id", "span_id", "a", "c"}


def test_exemplars_outlive_points_without():
    received = ReceivedMetrics()
    received.take(payload(counter(exemplars=[Exemplar(value=1)])), 0.0)
    received.take(payload(counter(value=5, time=3)), 0.0)
    (sample,) = both_formats_parse(received)["requests"].samples
    assert (sample.value, sample.exemplar.value) == (5, 1)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (counter(value=-1), "malformed"),
        (counter(value=math.nan), "malformed"),
        (counter(value=None), "malformed"),
        (counter(temporality=0), "temporality"),
        (histogram([1, 2], [0.1, 0.2]), "malformed"),
        (histogram([1, 2, 3], [0.2, 0.1]), "malformed"),
        (histogram([1, 2, 3], [0.1, 0.1]), "malformed"),
        (histogram([1, 2], [math.nan]), "malformed"),
        (histogram([1] * 252, [float(number) for number in range(251)]), "buckets"),
        (summary([(1.5, 1.0)]), "malformed"),
        (summary([(0.5, -1.0)]), "malformed"),
        (exponential(threshold=math.nan), "malformed"),
        (gauge("@#$"), "name"),
        (gauge("x" * 300), "name"),
        (gauge(**{f"k{number}": "v" for number in range(65)}), "labels"),
        (gauge(**{"k" * 257: "v"}), "labels"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_counted(metric, reason):
    received = ReceivedMetrics()
    received.take(payload(metric), 0.0)
    assert received.blocks(0.0) == []
    assert received.statistics.refused == {reason: 1}
    assert received.statistics.points == 1


def test_numbers_that_are_not_finite_are_shown():
    received = ReceivedMetrics()
    received.take(payload(gauge("a", math.nan), gauge("b", -math.inf)), 0.0)
    assert lines(received) == ['a{job="stories"} NaN', 'b{job="stories"} -Inf']


def made(kind, /, **fields):
    return st.fixed_dictionaries(fields).map(lambda drawn: kind(**drawn))


NUMBERS = st.floats() | st.integers(-10, 10)
COUNTS = st.integers(0, 5) | st.integers(0, 2**64 - 1)
NAMES = st.sampled_from(["work", "work.count", "work_total", "node.load1", "target_info", "größe"]) | st.text(
    max_size=4
)
EXEMPLARS = st.lists(
    made(
        Exemplar,
        value=NUMBERS,
        trace_id=st.binary(max_size=80),
        time_unix_nano=st.integers(0, 2**64 - 1),
        attributes=st.dictionaries(st.text(max_size=3), st.text(max_size=70), max_size=3),
    ),
    max_size=3,
)
BUCKETS = made(Buckets, offset=st.integers(-(2**31), 2**31 - 1) | st.integers(-9, 9), counts=st.lists(COUNTS))
COMMON = {
    "attributes": st.dictionaries(st.sampled_from(["a", "le", "job", "a.b", "a_b", ""]), st.text(max_size=3) | NUMBERS),
    "start_unix_nano": st.integers(0, 3),
    "time_unix_nano": st.integers(0, 3),
    "exemplars": EXEMPLARS,
}
DISTRIBUTION = COMMON | {"count": COUNTS, "total": st.none() | NUMBERS.map(float)}
POINTS = {
    "gauge": made(NumberPoint, value=NUMBERS, **COMMON),
    "sum": made(NumberPoint, value=NUMBERS, **COMMON),
    "histogram": st.lists(st.floats(), max_size=5, unique=True).flatmap(
        lambda bounds: made(
            HistogramPoint,
            bounds=st.just(sorted(bounds)),
            counts=st.lists(COUNTS, min_size=len(bounds) + 1, max_size=len(bounds) + 1),
            **DISTRIBUTION,
        )
    ),
    "exponential_histogram": made(
        ExponentialHistogramPoint,
        scale=st.integers(-12, 22) | st.integers(-(2**31), 2**31 - 1),
        zero_count=COUNTS,
        zero_threshold=st.floats(0, 1) | st.floats(),
        positive=BUCKETS,
        negative=BUCKETS,
        **DISTRIBUTION,
    ),
    "summary": made(
        SummaryPoint,
        count=COUNTS,
        total=st.floats(),
        quantiles=st.lists(st.tuples(st.floats(0, 1), st.floats(0) | st.floats()), max_size=4),
        **{name: strategy for name, strategy in COMMON.items() if name != "exemplars"},
    ),
}
METRICS = st.sampled_from(sorted(POINTS)).flatmap(
    lambda kind: made(
        Metric,
        name=NAMES,
        description=st.text(max_size=4),
        unit=st.sampled_from(["", "s", "By/s", "1", "{x}"]),
        kind=st.just(kind),
        temporality=st.sampled_from([DELTA, CUMULATIVE]) if kind not in {"gauge", "summary"} else st.just(0),
        monotonic=st.booleans() if kind == "sum" else st.just(False),
        points=st.lists(POINTS[kind], max_size=4),
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(METRICS, max_size=4), max_size=4), st.integers(1, 60))
def test_whatever_arrives_both_parsers_read_what_is_shown(batches, most_series):
    received = ReceivedMetrics({"node_load1"}, most_per_metric=2, most_series=most_series)
    for number, metrics in enumerate(batches):
        received.take(payload(*metrics), float(number))
    both_formats_parse(received, 5.0)
    assert received.statistics.series >= len(lines(received, 5.0))

import pytest
import re2

from novel_agent.config.schema import LogMatch, LogMetric
from novel_agent.model.log import LogRecord
from novel_agent.model.point import CUMULATIVE, Exemplar
from novel_agent.processors.log_metrics import LogMeasure
from novel_agent.wire.prometheus import render_openmetrics, render_text

NOW = 1_700_000_000.0
START = 1_700_000_000_000_000_000
TRACE, SPAN = b"\x01" * 16, b"\x02" * 8


def measured(*records, now=NOW, **rule):
    measure = LogMeasure(LogMetric(**rule), re2.compile)
    assert measure(list(records), now) == list(records)
    return measure


def shown(measure, now=NOW):
    lines = render_text(measure.blocks(now)).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_records_that_match_are_counted_by_their_attributes():
    measure = measured(
        LogRecord(severity_number=17, attributes={"component": "pdf"}),
        LogRecord(severity_number=18, attributes={"component": "pdf"}),
        LogRecord(severity_number=21, attributes={"component": "mail"}),
        LogRecord(severity_number=9, attributes={"component": "mail"}),
        LogRecord(severity_number=17),
        name="stories.failed",
        match=LogMatch(min_severity="error"),
        attributes=("component", "severity"),
    )
    assert shown(measure) == {
        'stories_failed_total{component="pdf",severity="error"}': "2",
        'stories_failed_total{component="mail",severity="fatal"}': "1",
        'stories_failed_total{severity="error"}': "1",
    }


def test_nothing_is_shown_before_something_was_counted():
    measure = measured(name="stories.failed")
    assert shown(measure) == {}
    assert measure.metrics(NOW) == []


def test_a_counter_for_otlp_is_a_cumulative_sum_with_its_start():
    measure = measured(
        LogRecord(attributes={"c": "x"}), name="stories.failed", description="Failed.", attributes=("c",)
    )
    measure([LogRecord(attributes={"c": "x"})], NOW + 10)
    (metric,) = measure.metrics(NOW + 20)
    assert (metric.name, metric.description, metric.unit) == ("stories.failed", "Failed.", "{record}")
    assert (metric.kind, metric.temporality, metric.monotonic) == ("sum", CUMULATIVE, True)
    (point,) = metric.points
    assert (point.attributes, point.value) == ({"c": "x"}, 2)
    assert (point.start_unix_nano, point.time_unix_nano) == (START, START + 20_000_000_000)


def test_the_number_of_an_attribute_falls_into_buckets():
    measure = measured(
        *(LogRecord(attributes={"took": {"ms": number}}) for number in (5, 10, 10.5, 250)),
        name="story.duration",
        unit="ms",
        value="took.ms",
        buckets=(10, 100),
    )
    assert shown(measure) == {
        'story_duration_milliseconds_bucket{le="10.0"}': "2",
        'story_duration_milliseconds_bucket{le="100.0"}': "3",
        'story_duration_milliseconds_bucket{le="+Inf"}': "4",
        "story_duration_milliseconds_sum": "275.5",
        "story_duration_milliseconds_count": "4",
    }
    (metric,) = measure.metrics(NOW)
    (point,) = metric.points
    assert (metric.kind, metric.unit, point.count, point.total) == ("histogram", "ms", 4, 275.5)
    assert (point.counts, point.bounds) == ([2, 1, 1], [10, 100])


def test_without_buckets_numbers_are_summed_up_as_they_are():
    measure = measured(
        *(LogRecord(attributes={"cost": number}) for number in (0.25, 1, "2.5")), name="story.cost", value="cost"
    )
    assert shown(measure) == {"story_cost_total": "3.75"}
    assert measure.metrics(NOW)[0].points[0].value == 3.75


@pytest.mark.parametrize(
    "value", [-1, "-0.5", "many", "", True, float("nan"), float("inf"), "inf", 10**400, "1_000", [1], "1" * 65]
)
def test_what_is_no_number_to_add_up_is_told_apart_and_changes_nothing(value):
    measure = measured(LogRecord(attributes={"cost": value}), name="story.cost", value="cost")
    assert (len(measure), measure.unusable) == (0, 1)


def test_a_record_without_the_number_does_not_count():
    measure = measured(LogRecord(), LogRecord(attributes={"cost": None}), name="story.cost", value="cost")
    assert (len(measure), measure.unusable) == (0, 0)


def test_beyond_the_bound_one_series_counts_for_all():
    records = [LogRecord(attributes={"user": f"u{number}"}) for number in range(5)]
    measure = measured(*records, name="logins", attributes=("user",), max_series=2)
    assert shown(measure) == {
        'logins_total{user="u0"}': "1",
        'logins_total{user="u1"}': "1",
        'logins_total{otel_metric_overflow="true"}': "3",
    }
    assert measure.overflowed == 3
    assert measure.metrics(NOW)[0].points[2].attributes == {"otel.metric.overflow": True}


def test_the_last_record_of_a_trace_is_the_exemplar():
    measure = measured(
        LogRecord(time_unix_nano=START, trace_id=b"\x09" * 16),
        LogRecord(time_unix_nano=START + 1_500_000_000, trace_id=TRACE, span_id=SPAN),
        LogRecord(time_unix_nano=START + 2_000_000_000),
        name="stories.failed",
    )
    (point,) = measure.metrics(NOW)[0].points
    assert point.exemplars == [Exemplar(time_unix_nano=START + 1_500_000_000, value=1, trace_id=TRACE, span_id=SPAN)]
    text = render_openmetrics(measure.blocks(NOW)).decode()
    assert f'stories_failed_total 3 # {{trace_id="{TRACE.hex()}",span_id="{SPAN.hex()}"}} 1 1700000001.500' in text


def test_a_bucket_keeps_its_exemplar_when_a_record_without_a_trace_comes():
    traced = LogRecord(observed_unix_nano=START, trace_id=TRACE, span_id=SPAN, attributes={"ms": 5})
    measure = measured(traced, LogRecord(attributes={"ms": 6}), name="d", value="ms", buckets=(10,))
    (point,) = measure.metrics(NOW)[0].points
    assert point.exemplars == [Exemplar(time_unix_nano=START, value=5, trace_id=TRACE, span_id=SPAN)]


def test_attributes_that_would_share_a_label_come_once():
    measure = measured(
        LogRecord(attributes={"a.b": "1", "a_b": "2"}),
        name="m",
        attributes=("a.b", "a_b", "le", "otel.metric.overflow"),
    )
    assert shown(measure) == {'m_total{a_b="1"}': "1"}


def test_long_values_are_cut():
    measure = measured(LogRecord(attributes={"a": "x" * 300}), name="m", attributes=("a",))
    assert shown(measure) == {f'm_total{{a="{"x" * 256}"}}': "1"}


def test_a_series_that_is_idle_for_an_hour_goes_and_begins_anew():
    measure = measured(LogRecord(), name="m")
    assert measure.metrics(NOW + 3600) == []
    measure([LogRecord()], NOW + 4000)
    (point,) = measure.metrics(NOW + 4000)[0].points
    assert (point.value, point.start_unix_nano) == (1, START + 4_000_000_000_000)

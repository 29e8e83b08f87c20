import pytest
from prometheus_client.parser import text_string_to_metric_families

from novel_agent.config import schema
from novel_agent.model.metric import BlockWithExemplars
from novel_agent.model.point import CUMULATIVE, Exemplar
from novel_agent.model.span import CLIENT, SERVER, STATUS_ERROR, Span, SpanGroup
from novel_agent.model.value import Origin
from novel_agent.processors.span_metrics import SpanMetrics
from novel_agent.wire.prometheus import render_text

NOW = 1_700_000_000.0
START = 1_700_000_000_000_000_000
HIGH = bytes.fromhex("010203040506070809ff000000000000")


def span(
    seconds=0.1, *, name="GET /stories", kind=SERVER, status=0, attributes=None, trace_state="", span_id=b"\x01" * 8
):
    return Span(
        trace_id=HIGH,
        span_id=span_id,
        trace_state=trace_state,
        name=name,
        kind=kind,
        status_code=status,
        start_unix_nano=START,
        end_unix_nano=START + round(seconds * 1e9),
        attributes=attributes or {},
    )


def group(*spans, service="api", **resource):
    return SpanGroup(Origin(resource={"service.name": service} | resource), list(spans), [])


def measured(*spans, now=NOW, **options):
    metrics = SpanMetrics(schema.SpanMetrics(**options))
    metrics.take([group(*spans)], now)
    return metrics


def samples(metrics, now=NOW):
    text = render_text(metrics.blocks(now)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by_le(metrics, now=NOW):
    found = samples(metrics, now).items()
    return {dict(labels)["le"]: value for (name, labels), value in found if name.endswith("_bucket")}


def calls(metrics, now=NOW):
    return {
        tuple(value for _, value in labels): number
        for (name, labels), number in samples(metrics, now).items()
        if name == "traces_span_metrics_calls_total"
    }


def test_calls_are_told_apart_by_service_span_kind_status_and_route():
    metrics = measured(
        span(attributes={"http.route": "/stories", "http.response.status_code": 200}),
        span(attributes={"http.route": "/stories", "http.response.status_code": 503}, status=STATUS_ERROR),
        span(name="SELECT", kind=CLIENT),
        span(name="SELECT", kind=CLIENT),
    )
    base = ("service_name", "api")
    assert {key: value for key, value in samples(metrics).items() if key[0] == "traces_span_metrics_calls_total"} == {
        (
            "traces_span_metrics_calls_total",
            (
                ("http_response_status_code", "200"),
                ("http_route", "/stories"),
                base,
                ("span_kind", "SPAN_KIND_SERVER"),
                ("span_name", "GET /stories"),
                ("status_code", "STATUS_CODE_UNSET"),
            ),
        ): 1.0,
        (
            "traces_span_metrics_calls_total",
            (
                ("http_response_status_code", "503"),
                ("http_route", "/stories"),
                base,
                ("span_kind", "SPAN_KIND_SERVER"),
                ("span_name", "GET /stories"),
                ("status_code", "STATUS_CODE_ERROR"),
            ),
        ): 1.0,
        (
            "traces_span_metrics_calls_total",
            (base, ("span_kind", "SPAN_KIND_CLIENT"), ("span_name", "SELECT"), ("status_code", "STATUS_CODE_UNSET")),
        ): 2.0,
    }


def test_the_older_name_of_the_status_is_read_too():
    (labels,) = calls(measured(span(attributes={"http.status_code": 404})))
    assert labels[0] == "404"


def test_durations_fall_into_cumulative_buckets_and_a_bound_is_its_own_buckets():
    metrics = measured(span(0.05), span(0.1), span(0.12), span(0.3), buckets_seconds=(0.05, 0.1, 0.15, 0.25))
    assert by_le(metrics) == {"0.05": 1.0, "0.1": 2.0, "0.15": 3.0, "0.25": 3.0, "+Inf": 4.0}
    found = samples(metrics)
    assert [value for (name, _), value in found.items() if name.endswith("_sum")] == [pytest.approx(0.57)]
    assert [value for (name, _), value in found.items() if name.endswith("_count")] == [4.0]


def test_the_shipped_buckets_hold_the_thresholds_of_the_targets():
    assert {0.05, 0.1, 0.15, 0.25, 0.5} <= set(schema.SpanMetrics().buckets_seconds)


def test_further_dimensions_come_from_the_span_or_else_its_resource():
    metrics = SpanMetrics(schema.SpanMetrics(dimensions=("user.tier", "host.name", "service.name")))
    metrics.take([group(span(attributes={"user.tier": "gold"}), **{"host.name": "h1"})], NOW)
    (labels,) = (dict(labels) for name, labels in samples(metrics) if name == "traces_span_metrics_calls_total")
    assert labels["user_tier"] == "gold"
    assert labels["host_name"] == "h1"
    assert metrics.families[0].labels[-2:] == ("user_tier", "host_name")


def test_dimensions_that_would_share_a_label_come_once():
    metrics = measured(span(attributes={"a.b": "1", "a_b": "2"}), dimensions=("a.b", "a_b", "le"))
    assert metrics.families[0].labels[-1] == "a_b"
    assert len(metrics.families[0].labels) == 7


def test_sampled_spans_count_as_what_they_stand_for():
    metrics = measured(span(trace_state="ot=th:c"), span(), buckets_seconds=(1.0,))
    assert list(calls(metrics).values()) == [5.0]
    assert by_le(metrics) == {"1.0": 5.0, "+Inf": 5.0}


def test_a_threshold_that_its_own_trace_id_is_below_is_not_believed():
    metrics = measured(span(trace_state="ot=th:fff"))
    assert list(calls(metrics).values()) == [1.0]


def test_counts_that_are_no_whole_numbers_are_rounded_when_read():
    metrics = measured(*(span(trace_state="ot=th:5555") for _ in range(3)))
    assert list(calls(metrics).values()) == [4.0]


def test_beyond_the_cap_one_series_takes_the_rest():
    metrics = measured(*(span(name=f"span {number}") for number in range(25)), max_series=10)
    found = calls(metrics)
    assert len(found) == 11
    assert found[("true",)] == 15.0
    assert samples(metrics)["novel_agent_span_metrics_overflowed_total", ()] == 15.0


def test_a_million_names_do_not_grow_it():
    metrics = measured(max_series=10)
    for number in range(1000):
        metrics.take([group(*(span(name="x" * 1000 + str(100 * number + each)) for each in range(10)))], NOW)
    assert len(metrics) == 1


def test_a_series_that_is_idle_for_an_hour_is_forgotten():
    metrics = measured(span(name="old"))
    metrics.take([group(span(name="new"))], NOW + 1800)
    assert len(calls(metrics, NOW + 3599)) == 2
    assert [labels[2] for labels in calls(metrics, NOW + 3600)] == ["new"]


def test_the_page_keeps_its_shape_while_no_series_comes_or_goes():
    metrics = measured(span())
    before = [block.shape for block in metrics.blocks(NOW)]
    metrics.take([group(span())], NOW)
    assert [block.shape for block in metrics.blocks(NOW)] == before
    metrics.take([group(span(name="other"))], NOW)
    assert next(block.shape for block in metrics.blocks(NOW)) is not before[0]


def test_otlp_points_are_cumulative_from_the_first_span_on_and_hold_exemplars():
    metrics = measured(
        span(0.02, attributes={"http.route": "/", "http.response.status_code": 200}, span_id=b"\x01" * 8),
        span(0.03, attributes={"http.route": "/", "http.response.status_code": 200}, span_id=b"\x02" * 8),
        buckets_seconds=(0.05, 0.1),
    )
    calls_metric, duration = metrics.metrics(NOW + 60)
    assert (calls_metric.name, calls_metric.kind, calls_metric.monotonic) == ("traces.span.metrics.calls", "sum", True)
    assert (duration.name, duration.unit, duration.temporality) == ("traces.span.metrics.duration", "s", CUMULATIVE)
    (point,) = duration.points
    assert point.attributes == {
        "service.name": "api",
        "span.name": "GET /stories",
        "span.kind": "SPAN_KIND_SERVER",
        "status.code": "STATUS_CODE_UNSET",
        "http.route": "/",
        "http.response.status_code": 200,
    }
    assert (point.start_unix_nano, point.time_unix_nano) == (START, START + 60_000_000_000)
    assert (point.count, point.counts, point.bounds) == (2, [2, 0, 0], [0.05, 0.1])
    assert point.total == pytest.approx(0.05)
    assert point.exemplars == [
        Exemplar(time_unix_nano=START + 30_000_000, value=0.03, trace_id=HIGH, span_id=b"\x02" * 8)
    ]


def test_a_bucket_shows_the_last_span_that_fell_into_it():
    metrics = measured(span(0.02), span(0.03, span_id=b"\x02" * 8), span(0.2), buckets_seconds=(0.05, 0.1))
    duration = [*metrics.blocks(NOW)][1]
    assert isinstance(duration, BlockWithExemplars)
    assert [duration.shape.series[index].labels[-1] for index in duration.exemplars] == [("le", "0.05"), ("le", "+Inf")]
    labels = (("trace_id", "010203040506070809ff000000000000"), ("span_id", "0202020202020202"))
    assert duration.exemplars[0] == (labels, 0.03, 1_700_000_000.03)


def test_the_overflow_of_otlp_has_the_attribute_of_the_specification():
    metrics = measured(*(span(name=f"span {number}") for number in range(11)), max_series=10)
    assert metrics.metrics(NOW)[0].points[-1].attributes == {"otel.metric.overflow": True}


def test_nothing_seen_is_nothing_shown():
    metrics = measured()
    assert metrics.metrics(NOW) == []
    assert samples(metrics) == {("novel_agent_span_metrics_overflowed_total", ()): 0.0}


def test_kinds_and_statuses_of_the_future_count_as_unspecified():
    (labels,) = calls(measured(span(kind=9, status=7)))
    assert labels[1:] == ("SPAN_KIND_UNSPECIFIED", "GET /stories", "STATUS_CODE_UNSET")

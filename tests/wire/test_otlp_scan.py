import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from otlp_messages import messages

from novel_agent.model.batch import SIGNALS
from novel_agent.wire.otlp_scan import CutOff, Scanned, scan
from novel_agent.wire.protobuf import WireError, integer, length_delimited, tag, text

CLASSES = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
RANDOM = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
REQUESTS = st.sampled_from(SIGNALS).flatmap(lambda signal: st.tuples(st.just(signal), messages(CLASSES[signal])))


def items_of(signal, request):
    if signal == "traces":
        return sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)
    if signal == "logs":
        return sum(len(scope.log_records) for group in request.resource_logs for scope in group.scope_logs)
    metrics = [
        metric for group in request.resource_metrics for scope in group.scope_metrics for metric in scope.metrics
    ]
    return sum(
        len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics if metric.WhichOneof("data")
    )


def spans(*contents):
    """A request of one ResourceSpans with one ScopeSpans with spans of these contents."""
    return length_delimited(1, length_delimited(2, *(length_delimited(2, content) for content in contents)))


@RANDOM
@given(REQUESTS, st.booleans())
def test_items_are_counted_and_the_body_is_the_payload(request_of, deep):
    signal, request = request_of
    body = request.SerializeToString()
    scanned = scan(signal, body, deep=deep)
    assert scanned == Scanned(items_of(signal, request), body)
    assert scanned.payload is body


@pytest.mark.parametrize("deep", [False, True])
def test_an_empty_request_has_no_items(deep):
    assert [scan(signal, b"", deep=deep) for signal in SIGNALS] == [(0, b"")] * 3


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_spans_of_every_length_of_length_are_counted(size, deep):
    name = text(5, "x" * size)
    assert scan("traces", spans(name, b"", name, b"", b""), deep=deep).items == 5
    assert scan("traces", spans(name), deep=deep).items == 1


def test_logs_are_counted_by_record_and_metrics_by_point():
    logs = ExportLogsServiceRequest()
    for count in (2, 3):
        logs.resource_logs.add().scope_logs.add().log_records.extend([LogRecord(severity_text="x" * 200)] * count)
    assert scan("logs", logs.SerializeToString()).items == 5

    metrics = ExportMetricsServiceRequest()
    scope = metrics.resource_metrics.add().scope_metrics.add()
    scope.metrics.add(name="a", gauge={"data_points": [{"as_int": 1}] * 3})
    scope.metrics.add(name="b", sum={"data_points": [{"as_int": 1}], "is_monotonic": True})
    scope.metrics.add(name="c", histogram={"data_points": [{"count": 1}] * 2, "aggregation_temporality": 2})
    scope.metrics.add(name="d", exponential_histogram={"data_points": [{"count": 1}]})
    scope.metrics.add(name="e", summary={"data_points": [{"count": 1}] * 4})
    scope.metrics.add(name="f", metadata=[KeyValue(key="not a point")])
    assert scan("metrics", metrics.SerializeToString()).items == 11


def test_what_stands_beside_field_1_of_the_request_is_left_out_of_the_payload():
    one, two = spans(b""), spans(b"", b"")
    foreign = text(2, "x" * 300) + integer(9, 300) + tag(3, 1) + bytes(8) + tag(4, 5) + bytes(4) + integer(1, 7)
    assert scan("traces", foreign + one + foreign + two + foreign) == (3, one + two)
    assert scan("traces", one + two + foreign) == (3, one + two)
    assert scan("traces", foreign) == (0, b"")


@pytest.mark.parametrize("deep", [False, True])
def test_unknown_fields_further_in_are_passed_over_and_kept(deep):
    unknown = text(999, "from the future") + integer(1000, 2**64 - 1) + tag(31, 1) + bytes(8) + tag(32, 5) + bytes(4)
    foreign = integer(2, 1) + tag(2, 5) + bytes(4)
    span = length_delimited(2, unknown)
    body = length_delimited(1, unknown, foreign, length_delimited(2, foreign, span, unknown, span, foreign), unknown)
    assert scan("traces", body, deep=deep) == (2, body)


@pytest.mark.parametrize("deep", [False, True])
def test_tags_and_lengths_may_be_written_longer_than_they_need(deep):
    span = b"\x92\x80\x00" + b"\x82\x80\x00" + b"\x2a\x00"
    body = length_delimited(1, length_delimited(2, span, length_delimited(2, b""), span))
    assert scan("traces", b"\x8a\x00" + body[1:], deep=deep) == (3, b"\x8a\x00" + body[1:])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"\x0a", "byte 0: cut off within a field"),
        (b"\x0a\x05\x01", "byte 3: the ExportTraceServiceRequest ends within a field"),
        (b"\x0a\x80", "byte 0: cut off within a field"),
        (b"\x0a\x02\x12\x01", "byte 4: the resource's message ends within a field"),
        (b"\x0a\x04\x12\x02\x12\x01", "byte 6: the scope's message ends within a field"),
        (b"\x0a\x04\x12\x02\x12\x01" + b"\x0a\x00", "byte 6: the scope's message ends within a field"),
        (b"\x0a\x03\x12\x01\x12\x0a\x00", "byte 5: the scope's message ends within a field"),
        (b"\x0b", "byte 0: wire type 3"),
        (b"\x0a\x02\x13\x14", "byte 2: wire type 3"),
        (b"\x0a\x04\x12\x02\x0c\x00", "byte 4: wire type 4"),
        (b"\x0e\x00", "byte 0: wire type 6"),
        (b"\x0a\x02\x02\x00", "byte 2: field number 0"),
        (b"\x82\x80\x80\x80\x10\x00", "byte 0: field number 536870912"),
        (b"\x10" + b"\xff" * 10 + b"\x00", "byte 1: a varint longer than ten bytes"),
        (b"\x10" + b"\xff" * 9 + b"\x02", "byte 1: a varint beyond 64 bits"),
        (b"\x11\x00", "byte 2: the ExportTraceServiceRequest ends within a field"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "byte 11: the ExportTraceServiceRequest ends within a field"),
    ],
)
def test_what_does_not_add_up_is_refused_with_its_place(body, problem, deep):
    with pytest.raises(WireError) as error:
        scan("traces", body, deep=deep)
    if not deep:
        assert str(error.value) == problem
    assert "byte " in str(error.value)


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        (length_delimited(2, b"\x2a\x03\x0a\x02\x00"), "byte 11: the metric's data ends within a field"),
        (length_delimited(2, b"\x2a\x03\x0a"), "byte 9: the Metric ends within a field"),
        (b"\x12\x04\x0a\x00", "byte 8: the scope's message ends within a field"),
    ],
)
def test_metrics_are_checked_down_to_their_points(metric, problem):
    with pytest.raises(WireError, match=problem):
        scan("metrics", length_delimited(1, length_delimited(2, metric)))


def test_data_that_ends_early_is_told_from_data_that_is_wrong():
    with pytest.raises(CutOff):
        scan("traces", b"\x0a")


FAULTS_WITHIN_A_SPAN = {
    "the Span ends within a field": b"\x2a\x05abc",
    "cut off within a field": b"\x30",
    "wire type 7": b"\x2f",
    "a varint longer than ten bytes": b"\x30" + b"\x80" * 11,
    "the KeyValue ends within a field": length_delimited(9, b"\x0a\x05abc"),
    "the AnyValue ends within a field": length_delimited(9, text(1, "k"), length_delimited(2, b"\x0a\x02a")),
    "the Status ends within a field": length_delimited(15, b"\x12\x01"),
}


@pytest.mark.parametrize("problem", FAULTS_WITHIN_A_SPAN)
def test_only_a_deep_scan_looks_into_items(problem):
    body = spans(FAULTS_WITHIN_A_SPAN[problem])
    assert scan("traces", body).items == 1
    with pytest.raises(WireError, match=problem):
        scan("traces", body, deep=True)


@pytest.mark.parametrize(
    ("number", "point", "problem"),
    [
        (9, length_delimited(6, bytes(9)), "a packed field that ends within a number"),
        (10, length_delimited(8, length_delimited(2, b"\x01\x80")), "a packed field that ends within a number"),
        (10, length_delimited(8, length_delimited(2, b"\xff" * 10 + b"\x01")), "a varint longer than ten bytes"),
    ],
)
def test_packed_numbers_are_checked_by_a_deep_scan(number, point, problem):
    metric = length_delimited(number, length_delimited(1, point))
    body = length_delimited(1, length_delimited(2, length_delimited(2, metric)))
    # a field behind it, so that the fault is not the end of the data
    body += length_delimited(1, b"")
    assert scan("metrics", body).items == 1
    with pytest.raises(WireError, match=problem):
        scan("metrics", body, deep=True)


def test_text_need_not_be_utf8():
    assert scan("traces", spans(length_delimited(5, b"\xff\xfe")), deep=True).items == 1


def nested(depth):
    """A span with an attribute whose value stands within so many arrays."""
    value = AnyValue(string_value="core").SerializeToString()
    for _ in range(depth):
        value = length_delimited(5, length_delimited(1, value))
    return spans(length_delimited(9, text(1, "k"), length_delimited(2, value)))


def test_a_deep_scan_goes_100_messages_deep_as_protobuf_does():
    assert scan("traces", nested(47), deep=True).items == 1
    for depth in (48, 10_000):
        assert scan("traces", nested(depth)).items == 1
        with pytest.raises(WireError, match="nested more than 100 deep"):
            scan("traces", nested(depth), deep=True)


VALUES = [
    AnyValue(string_value="x" * size) for size in (0, 1, 50, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 300)
] + [
    AnyValue(bool_value=True),
    AnyValue(int_value=0),
    AnyValue(int_value=127),
    AnyValue(int_value=128),
    AnyValue(int_value=2**14),
    AnyValue(int_value=-1),
    AnyValue(double_value=0.5),
    AnyValue(bytes_value=b"\xff"),
    AnyValue(array_value=ArrayValue(values=[AnyValue()])),
    AnyValue(kvlist_value=KeyValueList(values=[KeyValue()])),
    AnyValue(),
]


@pytest.mark.parametrize("key", ["", "k", "k" * 127, "k" * 128])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:20])
def test_every_kind_of_attribute_passes_a_deep_scan_and_none_cut_short_does(key, value):
    attribute = KeyValue(key=key, value=value).SerializeToString()
    assert scan("traces", spans(length_delimited(9, attribute)), deep=True).items == 1
    whole = {text(1, key), b""}
    for size in range(len(attribute)):
        cut = attribute[:size]
        body = spans(length_delimited(9, cut)) + spans(b"")
        if cut in whole:
            assert scan("traces", body, deep=True).items == 2
        else:
            with pytest.raises(WireError):
                scan("traces", body, deep=True)

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from otlp_messages import a_metric, a_record, a_span, any_value, messages, origin

from novel_agent.model.span import SERVER, STATUS_ERROR
from novel_agent.wire import otlp_read, otlp_values
from novel_agent.wire.otlp_read import (
    raw_groups,
    read_logs,
    read_metric,
    read_metrics,
    read_record,
    read_span,
    read_spans,
)
from novel_agent.wire.protobuf import WireError, integer, length_delimited, tag, text, varint

READERS = [read_spans, read_logs, read_metrics]


def same(got, wanted):
    """Equal, NaN included."""
    return repr(got) == repr(wanted)


@settings(max_examples=40, deadline=None)
@given(messages(Span), messages(Span))
def test_a_span_is_read_as_protobuf_reads_it_also_where_fields_stand_twice(one, other):
    written = one.SerializeToString() + other.SerializeToString()
    assert same(read_span(written), a_span(Span.FromString(written)))


@settings(max_examples=40, deadline=None)
@given(messages(LogRecord), messages(LogRecord))
def test_a_record_is_read_as_protobuf_reads_it_also_where_fields_stand_twice(one, other):
    written = one.SerializeToString() + other.SerializeToString()
    assert same(read_record(written), a_record(LogRecord.FromString(written)))


@settings(max_examples=40, deadline=None)
@given(messages(Metric), messages(Metric))
def test_a_metric_is_read_as_protobuf_reads_it_also_where_fields_stand_twice(one, other):
    written = one.SerializeToString() + other.SerializeToString()
    assert same(read_metric(written), a_metric(Metric.FromString(written)))


@settings(max_examples=40, deadline=None)
@given(messages(ResourceSpans), messages(ResourceSpans))
def test_a_resource_that_is_written_twice_is_merged(one, other):
    written = one.SerializeToString() + other.SerializeToString()
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans.FromString(written)])
    assert_groups_are_those_of(request, list(read_spans(length_delimited(1, written))))


@settings(max_examples=40, deadline=None)
@given(messages(ExportTraceServiceRequest))
def test_spans_come_by_resource_and_scope(request):
    assert_groups_are_those_of(request, list(read_spans(request.SerializeToString())))


def assert_groups_are_those_of(request, groups):
    wanted = [(resource, scope) for resource in request.resource_spans for scope in resource.scope_spans if scope.spans]
    assert len(groups) == len(wanted)
    for group, (resource, scope) in zip(groups, wanted, strict=True):
        assert same(group.origin, origin(resource, scope))
        assert same(group.spans, [a_span(span) for span in scope.spans])
        assert [Span.FromString(bytes(raw)) for raw in group.raw] == list(scope.spans) or "nan" in repr(scope)


@settings(max_examples=40, deadline=None)
@given(messages(ExportLogsServiceRequest))
def test_records_come_by_resource_and_scope(request):
    wanted = [
        (origin(resource, scope), [a_record(record) for record in scope.log_records])
        for resource in request.resource_logs
        for scope in resource.scope_logs
        if scope.log_records
    ]
    assert same([(group.origin, group.records) for group in read_logs(request.SerializeToString())], wanted)


@settings(max_examples=40, deadline=None)
@given(messages(ExportMetricsServiceRequest))
def test_metrics_come_by_resource_and_scope(request):
    wanted = [
        (origin(resource, scope), [a_metric(metric) for metric in scope.metrics])
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        if scope.metrics
    ]
    assert same([(group.origin, group.metrics) for group in read_metrics(request.SerializeToString())], wanted)


@settings(max_examples=40, deadline=None)
@given(messages(AnyValue))
def test_values_are_read_as_protobuf_reads_them(message):
    assert same(otlp_values.any_value(message.SerializeToString()), any_value(message))


def test_a_span_by_hand():
    span = read_span(
        bytes.fromhex(
            "0a02abcd"  # trace_id
            "1201ef"  # span_id
            "2a03474554"  # name: GET
            "3002"  # kind: server
            "390100000000000000"  # start
            "41ffffffffffffffff"  # end
            "4a090a016b12040a026d65"  # k: me
            "7a021802"  # status: error
            "850101000000"  # flags
        )
    )
    assert (span.trace_id, span.span_id, span.name, span.kind) == (b"\xab\xcd", b"\xef", "GET", SERVER)
    assert (span.start_unix_nano, span.end_unix_nano) == (1, 18446744073709551615)
    assert (span.attributes, span.status_code, span.flags) == ({"k": "me"}, STATUS_ERROR, 1)


def test_repeated_numbers_may_be_packed_or_not():
    fixed = tag(6, 1) + (7).to_bytes(8, "little")
    packed = length_delimited(6, (8).to_bytes(8, "little"), (9).to_bytes(8, "little"))
    metric = read_metric(length_delimited(9, length_delimited(1, fixed, packed, fixed)))
    assert metric.points[0].counts == [7, 8, 9, 7]
    buckets = length_delimited(8, integer(2, 1), length_delimited(2, varint(300), varint(2)), integer(2, 3))
    metric = read_metric(length_delimited(10, length_delimited(1, buckets)))
    assert metric.points[0].positive.counts == [1, 300, 2, 3]


def test_text_that_is_not_utf8_gets_replacement_characters():
    content = length_delimited(5, b"a\xff") + length_delimited(
        9, length_delimited(1, b"\xfe"), length_delimited(2, length_delimited(1, b"\xc3("))
    )
    span = read_span(content)
    assert span.name == "a\ufffd"
    assert span.attributes == {"\ufffd": "\ufffd("}


def test_fields_that_are_unknown_or_of_another_wire_type_are_skipped():
    content = integer(99, 5) + text(5, "GET") + integer(5, 7) + text(6, "x") + length_delimited(1000, b"abc")
    assert read_span(content).name == "GET"
    assert read_span(content).kind == 0


def test_what_an_enum_does_not_know_is_kept_as_its_number():
    assert read_span(integer(6, 77)).kind == 77
    assert read_span(integer(6, -1)).kind == -1


def test_a_list_of_one_span_is_not_shared_with_the_next():
    value = length_delimited(2, length_delimited(5, length_delimited(1, length_delimited(1, b"a"))))
    content = length_delimited(9, text(1, "k"), value)
    first, second = read_span(content), read_span(content)
    first.attributes["k"].append("b")
    assert second.attributes == {"k": ["a"]}


def test_equal_origins_are_one_object():
    resource = length_delimited(1, length_delimited(1, text(1, "a"), length_delimited(2, text(1, "b"))))
    payload = length_delimited(1, resource, length_delimited(2, length_delimited(2, text(5, "GET")))) * 2
    one, other = read_spans(payload)
    assert one.origin is other.origin
    assert one.origin.resource == {"a": "b"}


def test_fields_beside_the_items_stay_as_they_came():
    resource = length_delimited(1, length_delimited(1, text(1, "a"))) + text(3, "https://schema") + integer(77, 5)
    scope = length_delimited(1, text(1, "lib")) + integer(78, 6)
    payload = length_delimited(1, length_delimited(2, length_delimited(2, b""), scope), resource)
    (group,) = raw_groups(payload)
    assert group.resource_fields == resource
    assert group.scope_fields == scope
    assert [bytes(item) for item in group.items] == [b""]


def test_a_large_scope_comes_as_several_groups():
    scope = length_delimited(2, length_delimited(2, text(5, "GET")) * 1100)
    groups = list(read_spans(length_delimited(1, scope)))
    assert [len(group.spans) for group in groups] == [512, 512, 76]
    long = length_delimited(2, text(5, "x" * 200_000))
    groups = list(read_spans(length_delimited(1, length_delimited(2, long * 3))))
    assert [len(group.spans) for group in groups] == [2, 1]


def test_the_groups_before_a_fault_are_given():
    good = length_delimited(1, length_delimited(2, length_delimited(2, text(5, "GET"))))
    groups = read_spans(good + b"\x0a\x05\x00")
    assert next(groups).spans[0].name == "GET"
    with pytest.raises(WireError, match="a field longer than its message"):
        next(groups)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("2a", "cut off within a varint"),
        ("2a80", "cut off within a varint"),
        ("2a05616263", "a field longer than its message"),
        ("4a057a", "a field longer than its message|cut off"),
        ("3900000000", "a field longer than its message"),
        ("30" + "80" * 10 + "01", "a varint longer than ten bytes"),
        ("30" + "ff" * 9 + "02", "a varint beyond 64 bits"),
        ("0001", "field number 0"),
        ("80808080a00100", "field number 536870912"),
        ("0b0c", "wire type 3"),
        ("4f", "wire type 7"),
        ("7a0118", "cut off within a varint"),
        ("5a0109", "a field longer than its message"),
    ],
)
def test_refuses_a_span_that_is_not_protobuf(content, fault):
    with pytest.raises(WireError, match=fault):
        read_span(bytes.fromhex(content))


def nested(levels):
    value = length_delimited(1, b"x")
    for _ in range(levels):
        value = length_delimited(5, length_delimited(1, value))
    return length_delimited(9, text(1, "k"), length_delimited(2, value))


def test_values_may_nest_as_deep_as_messages_may_and_no_deeper():
    assert read_span(nested(47)).attributes["k"]
    with pytest.raises(WireError, match="nested deeper than 100 messages"):
        read_span(nested(49))
    with pytest.raises(WireError, match="nested deeper than 100 messages"):
        read_span(nested(10_000))


def test_a_message_of_very_many_fields_is_refused():
    array = length_delimited(2, length_delimited(5, b"\x0a\x00" * 65_537))
    with pytest.raises(WireError, match="more than 65536 fields"):
        read_span(length_delimited(9, text(1, "k"), array))
    with pytest.raises(WireError, match="more than 65536 fields"):
        read_span(b"\x5a\x00" * 65_537)


def test_packed_numbers_that_end_within_one_are_refused():
    with pytest.raises(WireError, match="packed numbers"):
        read_metric(length_delimited(9, length_delimited(1, length_delimited(6, b"1234567"))))


def test_a_histogram_may_have_many_points():
    points = length_delimited(1, b"") * 70_000
    assert len(read_metric(length_delimited(5, points)).points) == 70_000


def test_what_is_remembered_is_bounded():
    for number in range(5_000):
        read_span(length_delimited(9, text(1, f"key{number}"), length_delimited(2, integer(3, number))))
        otlp_read.origin_of(text(3, f"https://schema/{number}"), b"")
    assert len(otlp_values.pairs) <= 2048
    assert len(otlp_values._keys) <= 2048
    assert len(otlp_read._origins) <= 256


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for read in (read_span, read_record, read_metric, otlp_values.any_value):
        with suppress(WireError):
            read(data)
    for read in READERS:
        with suppress(WireError):
            list(read(data))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        messages(ExportTraceServiceRequest), messages(ExportLogsServiceRequest), messages(ExportMetricsServiceRequest)
    ),
    st.data(),
)
def test_bodies_that_were_damaged_are_read_or_refused(request, data):
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            place = data.draw(st.integers(0, len(body) - 1))
            body[place] ^= 1 << data.draw(st.integers(0, 7))
    for read in READERS:
        with suppress(WireError):
            list(read(memoryview(body)))

from hypothesis import given, settings
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from otlp_messages import a_span, any_value, messages

from novel_agent.model.log import LogGroup, LogRecord
from novel_agent.model.point import CUMULATIVE, HistogramPoint, Metric, MetricGroup, NumberPoint
from novel_agent.model.span import Span, SpanGroup
from novel_agent.model.value import Origin, RawGroup
from novel_agent.wire.otlp_read import raw_groups, read_logs, read_metrics, read_spans
from novel_agent.wire.otlp_write import (
    assemble,
    resource_fields,
    scope_fields,
    span_message,
    value_message,
    write_logs,
    write_metrics,
    write_spans,
)

LIBRARY = Origin(
    resource={"service.name": "stories"}, scope="lib", scope_version="1.2", resource_schema_url="https://x"
)


@settings(max_examples=40, deadline=None)
@given(messages(SpanMessage))
def test_protobuf_reads_a_span_as_it_was(message):
    span = a_span(message)
    assert repr(a_span(SpanMessage.FromString(span_message(span)))) == repr(span)


@settings(max_examples=40, deadline=None)
@given(messages(AnyValue))
def test_protobuf_reads_values_as_they_were(message):
    value = any_value(message)
    assert repr(any_value(AnyValue.FromString(value_message(value)))) == repr(value)


@settings(max_examples=40, deadline=None)
@given(messages(ExportTraceServiceRequest))
def test_spans_are_read_back_as_they_were_written(request):
    groups = list(read_spans(request.SerializeToString()))
    again = list(read_spans(write_spans(groups)))
    assert repr(decoded(again)) == repr(joined(decoded(groups)))


@settings(max_examples=40, deadline=None)
@given(messages(ExportLogsServiceRequest))
def test_records_are_read_back_as_they_were_written(request):
    groups = list(read_logs(request.SerializeToString()))
    assert repr(decoded(read_logs(write_logs(groups)))) == repr(joined(decoded(groups)))


@settings(max_examples=40, deadline=None)
@given(messages(ExportMetricsServiceRequest))
def test_metrics_are_read_back_as_they_were_written(request):
    groups = list(read_metrics(request.SerializeToString()))
    again = ExportMetricsServiceRequest.FromString(write_metrics(groups))
    assert repr(decoded(read_metrics(again.SerializeToString()))) == repr(joined(decoded(groups)))


def decoded(groups):
    return [(group[0], list(group[1])) for group in groups]


def one_by_one(groups):
    return [(group[0], item) for group in groups for item in group[1]]


def joined(groups):
    """Groups in a row of one origin are written as one."""
    found = []
    for origin, items in groups:
        if found and repr(found[-1][0]) == repr(origin):
            found[-1][1].extend(items)
        else:
            found.append((origin, items))
    return found


def test_protobuf_reads_what_was_written_by_hand():
    request = ExportTraceServiceRequest.FromString(
        write_spans([SpanGroup(LIBRARY, [Span(trace_id=b"t" * 16, name="GET", attributes={"n": 1})], [])])
    )
    (resource,) = request.resource_spans
    assert resource.resource.attributes[0].value.string_value == "stories"
    assert resource.schema_url == "https://x"
    assert (resource.scope_spans[0].scope.name, resource.scope_spans[0].scope.version) == ("lib", "1.2")
    (span,) = resource.scope_spans[0].spans
    assert (span.trace_id, span.name, span.attributes[0].value.int_value) == (b"t" * 16, "GET", 1)


def test_a_value_of_0_is_written_and_a_value_that_is_none_is_not():
    metric = Metric(name="m", kind="gauge", points=[NumberPoint(value=0), NumberPoint(value=0.0), NumberPoint()])
    request = ExportMetricsServiceRequest.FromString(write_metrics([MetricGroup(LIBRARY, [metric], [])]))
    points = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points
    assert [point.WhichOneof("value") for point in points] == ["as_int", "as_double", None]


def test_a_histogram_is_written_with_its_temporality():
    point = HistogramPoint(count=3, total=0.5, counts=[1, 2], bounds=[0.1], minimum=0.05)
    metric = Metric(name="m", unit="s", kind="histogram", temporality=CUMULATIVE, points=[point])
    request = ExportMetricsServiceRequest.FromString(write_metrics([MetricGroup(LIBRARY, [metric], [])]))
    (written,) = request.resource_metrics[0].scope_metrics[0].metrics
    assert written.histogram.aggregation_temporality == 2
    (data,) = written.histogram.data_points
    assert (list(data.bucket_counts), list(data.explicit_bounds), data.sum, data.min) == ([1, 2], [0.1], 0.5, 0.05)
    assert not data.HasField("max")


def test_groups_of_one_resource_in_a_row_come_under_one_resource():
    other_scope = Origin(resource=LIBRARY.resource, scope="other", resource_schema_url="https://x")
    elsewhere = Origin(resource={"service.name": "users"}, scope="lib")
    payload = write_logs(
        LogGroup(origin, [LogRecord(body=body)], [])
        for origin, body in ((LIBRARY, "a"), (LIBRARY, "b"), (other_scope, "c"), (elsewhere, "d"))
    )
    request = ExportLogsServiceRequest.FromString(payload)
    assert [
        [[record.body.string_value for record in scope.log_records] for scope in resource.scope_logs]
        for resource in request.resource_logs
    ] == [[["a", "b"], ["c"]], [["d"]]]


@settings(max_examples=40, deadline=None)
@given(messages(ExportTraceServiceRequest))
def test_groups_that_are_kept_whole_are_the_same_messages_again(request):
    payload = request.SerializeToString()
    again = assemble(raw_groups(payload))
    assert repr(one_by_one(read_spans(again))) == repr(one_by_one(read_spans(payload)))


def test_items_that_are_not_kept_are_gone_and_the_rest_stays_as_it_came():
    payload = write_spans(
        [
            SpanGroup(LIBRARY, [Span(name="keep"), Span(name="drop")], []),
            SpanGroup(Origin(resource={"service.name": "users"}), [Span(name="drop")], []),
        ]
    )
    kept = assemble(
        group._replace(items=[item for item in group.items if b"keep" in bytes(item)]) for group in raw_groups(payload)
    )
    assert kept == write_spans([SpanGroup(LIBRARY, [Span(name="keep")], [])])


def test_an_item_may_be_replaced_by_one_written_anew():
    (group,) = raw_groups(write_spans([SpanGroup(LIBRARY, [Span(name="a")], [])]))
    replaced = assemble([RawGroup(group.resource_fields, group.scope_fields, [span_message(Span(name="b"))])])
    (read,) = read_spans(replaced)
    assert (read.origin, read.spans) == (LIBRARY, [Span(name="b")])


def test_an_origin_is_written_as_the_fields_of_its_groups():
    assert resource_fields(Origin(resource={})) == bytes.fromhex("0a00")
    assert scope_fields(Origin(resource={}, scope="a", scope_schema_url="b")) == bytes.fromhex("0a030a0161" + "1a0162")


def test_text_with_surrogates_is_written_with_question_marks():
    (group,) = read_logs(
        write_logs([LogGroup(LIBRARY, [LogRecord(body="a\udcff", attributes={"k\udcff": "\udcff"})], [])])
    )
    assert group.records == [LogRecord(body="a?", attributes={"k?": "?"})]

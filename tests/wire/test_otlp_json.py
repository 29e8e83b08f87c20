import json
from base64 import b64decode

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from otlp_messages import messages

from novel_agent.wire.otlp_json import request_to_json
from novel_agent.wire.protobuf import WireError, integer, length_delimited, text


def to_json(request):
    payload = request if isinstance(request, bytes) else request.SerializeToString()
    return json.loads(request_to_json("metrics", payload))


def request_of(**metric):
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(**metric)
    return request


def metric_of(request):
    return to_json(request)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]


def test_a_sum_as_the_specification_writes_it():
    request = request_of(
        name="my.counter",
        unit="1",
        description="I am a Counter",
        sum={
            "aggregation_temporality": 1,
            "is_monotonic": True,
            "data_points": [
                {
                    "as_double": 5,
                    "start_time_unix_nano": 1544712660300000000,
                    "time_unix_nano": 1544712660300000000,
                    "attributes": [KeyValue(key="my.counter.attr", value=AnyValue(string_value="some value"))],
                }
            ],
        },
    )
    assert metric_of(request) == {
        "name": "my.counter",
        "unit": "1",
        "description": "I am a Counter",
        "sum": {
            "aggregationTemporality": 1,
            "isMonotonic": True,
            "dataPoints": [
                {
                    "asDouble": 5,
                    "startTimeUnixNano": "1544712660300000000",
                    "timeUnixNano": "1544712660300000000",
                    "attributes": [{"key": "my.counter.attr", "value": {"stringValue": "some value"}}],
                }
            ],
        },
    }


def test_ids_are_hex_and_other_bytes_base64():
    request = request_of(
        gauge={
            "data_points": [
                {
                    "as_int": -7,
                    "attributes": [KeyValue(key="raw", value=AnyValue(bytes_value=b"\x00\xff"))],
                    "exemplars": [{"trace_id": bytes(range(16)), "span_id": bytes(range(8)), "as_double": 0.5}],
                }
            ]
        }
    )
    (point,) = metric_of(request)["gauge"]["dataPoints"]
    assert point == {
        "asInt": "-7",
        "attributes": [{"key": "raw", "value": {"bytesValue": "AP8="}}],
        "exemplars": [{"traceId": "000102030405060708090a0b0c0d0e0f", "spanId": "0001020304050607", "asDouble": 0.5}],
    }


@pytest.mark.parametrize(
    ("number", "shown"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"), (0.0, 0.0)]
)
def test_doubles_that_json_cannot_write_are_named(number, shown):
    assert metric_of(request_of(gauge={"data_points": [{"as_double": number}]}))["gauge"]["dataPoints"] == [
        {"asDouble": shown}
    ]


def test_64_bit_integers_are_strings_and_32_bit_ones_numbers():
    request = request_of(
        exponential_histogram={
            "data_points": [
                {"count": 2**64 - 1, "scale": -10, "positive": {"offset": -3, "bucket_counts": [1, 300]}, "flags": 1}
            ]
        }
    )
    assert metric_of(request)["exponentialHistogram"]["dataPoints"] == [
        {
            "count": "18446744073709551615",
            "scale": -10,
            "positive": {"offset": -3, "bucketCounts": ["1", "300"]},
            "flags": 1,
        }
    ]


def test_packed_and_single_numbers_are_alike():
    packed = length_delimited(2, length_delimited(6, (3).to_bytes(8, "little") + (4).to_bytes(8, "little")))
    single = b"".join(b"\x31" + number.to_bytes(8, "little") for number in (3, 4))
    for histogram in (length_delimited(1, packed[2:]), length_delimited(1, single)):
        body = length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(9, histogram))))
        (metric,) = to_json(body)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        assert metric == {"histogram": {"dataPoints": [{"bucketCounts": ["3", "4"]}]}}


def test_unknown_fields_and_foreign_wire_types_are_left_out():
    body = length_delimited(1, integer(3, 5), text(999, "from the future"), text(3, "https://example.org/schema"))
    assert to_json(body) == {"resourceMetrics": [{"schemaUrl": "https://example.org/schema"}]}


def test_a_message_written_twice_is_merged_and_a_scalar_is_the_last():
    resource = [length_delimited(1, length_delimited(1, text(1, key))) for key in ("a", "b")]
    body = length_delimited(1, *resource, text(3, "first"), text(3, "last"))
    assert to_json(body) == {
        "resourceMetrics": [{"resource": {"attributes": [{"key": "a"}, {"key": "b"}]}, "schemaUrl": "last"}]
    }


def test_of_a_choice_the_last_is_shown():
    def metric(*data):
        return length_delimited(1, length_delimited(2, length_delimited(2, text(1, "m"), *data)))

    gauge, total = length_delimited(5, b""), length_delimited(7, integer(3, 1))
    assert to_json(metric(gauge, total))["resourceMetrics"][0]["scopeMetrics"][0]["metrics"] == [
        {"name": "m", "sum": {"isMonotonic": True}}
    ]
    assert to_json(metric(total, gauge))["resourceMetrics"][0]["scopeMetrics"][0]["metrics"] == [
        {"name": "m", "gauge": {}}
    ]


def test_text_that_is_not_utf8_is_replaced():
    body = length_delimited(1, length_delimited(3, b"a\xffb"))
    assert to_json(body) == {"resourceMetrics": [{"schemaUrl": "a\ufffdb"}]}


def test_joined_batches_are_one_request():
    assert to_json(length_delimited(1, text(3, "a")) + length_delimited(1, text(3, "b"))) == {
        "resourceMetrics": [{"schemaUrl": "a"}, {"schemaUrl": "b"}]
    }
    assert to_json(b"") == {}


def nested(depth):
    value = AnyValue(string_value="core").SerializeToString()
    for _ in range(depth):
        value = length_delimited(5, length_delimited(1, value))
    return length_delimited(1, length_delimited(1, length_delimited(1, text(1, "k"), length_delimited(2, value))))


def test_nesting_is_bounded():
    assert "core" in json.dumps(to_json(nested(40)))
    with pytest.raises(WireError, match="nested more than 100 deep"):
        to_json(nested(100_000 // 1_000))


@pytest.mark.parametrize("body", [b"\x0a\x05\x01", b"\x0b", b"\x0a\x02\x1a\x05"])
def test_what_is_not_protobuf_is_refused(body):
    with pytest.raises(WireError):
        request_to_json("metrics", body)


def test_a_packed_field_that_ends_within_a_number_is_refused():
    point = length_delimited(6, b"\x00" * 9)
    body = length_delimited(
        1, length_delimited(2, length_delimited(2, length_delimited(9, length_delimited(1, point))))
    )
    with pytest.raises(WireError, match="ends within a number"):
        to_json(body)


def ids_as_hex(value):
    if isinstance(value, list):
        return [ids_as_hex(item) for item in value]
    if isinstance(value, dict):
        return {
            key: b64decode(item).hex() if key in {"traceId", "spanId", "parentSpanId"} else ids_as_hex(item)
            for key, item in value.items()
        }
    return value


REQUESTS = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(REQUESTS)).flatmap(lambda name: st.tuples(st.just(name), messages(REQUESTS[name]))))
def test_any_request_of_any_signal_is_shown_as_protobufs_own_json_shows_it(named):
    signal, request = named
    expected = json_format.MessageToDict(request, use_integers_for_enums=True)
    shown = json.loads(request_to_json(signal, request.SerializeToString()))
    assert json.dumps(shown, sort_keys=True) == json.dumps(ids_as_hex(expected), sort_keys=True)


def test_a_span_as_the_specification_writes_it():
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=bytes.fromhex("5b8efff798038103d269b633813fc60c"),
        span_id=bytes.fromhex("eee19b7ec3c1b174"),
        parent_span_id=bytes.fromhex("eee19b7ec3c1b173"),
        name="I'm a server span",
        start_time_unix_nano=1544712660000000000,
        end_time_unix_nano=1544712661000000000,
        kind=2,
        attributes=[KeyValue(key="my.span.attr", value=AnyValue(string_value="some value"))],
        status={"code": 2, "message": "däwn"},
        flags=257,
        links=[{"trace_id": bytes(16), "span_id": bytes(8), "trace_state": "a=b", "dropped_attributes_count": 1}],
    )
    shown = json.loads(request_to_json("traces", request.SerializeToString()))
    assert shown["resourceSpans"][0]["scopeSpans"][0]["spans"] == [
        {
            "traceId": "5b8efff798038103d269b633813fc60c",
            "spanId": "eee19b7ec3c1b174",
            "parentSpanId": "eee19b7ec3c1b173",
            "name": "I'm a server span",
            "startTimeUnixNano": "1544712660000000000",
            "endTimeUnixNano": "1544712661000000000",
            "kind": 2,
            "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
            "status": {"code": 2, "message": "däwn"},
            "flags": 257,
            "links": [
                {"traceId": "0" * 32, "spanId": "0" * 16, "traceState": "a=b", "droppedAttributesCount": 1},
            ],
        }
    ]


def test_a_log_record_as_the_specification_writes_it():
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(
        time_unix_nano=1544712660300000000,
        observed_time_unix_nano=1544712660300000000,
        severity_number=10,
        severity_text="Information",
        trace_id=bytes.fromhex("5b8efff798038103d269b633813fc60c"),
        span_id=bytes.fromhex("eee19b7ec3c1b174"),
        body=AnyValue(string_value="Example log record"),
        event_name="my.event",
    )
    shown = json.loads(request_to_json("logs", request.SerializeToString()))
    assert shown["resourceLogs"][0]["scopeLogs"][0]["logRecords"] == [
        {
            "timeUnixNano": "1544712660300000000",
            "observedTimeUnixNano": "1544712660300000000",
            "severityNumber": 10,
            "severityText": "Information",
            "traceId": "5b8efff798038103d269b633813fc60c",
            "spanId": "eee19b7ec3c1b174",
            "body": {"stringValue": "Example log record"},
            "eventName": "my.event",
        }
    ]

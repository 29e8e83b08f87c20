import json
import math

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_messages import messages

from novel_agent.wire.otlp_json import request_to_json
from novel_agent.wire.otlp_json_read import request_from_json
from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.protobuf import WireError

CLASSES = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
RANDOM = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
REQUESTS = st.sampled_from(sorted(CLASSES)).flatmap(lambda name: st.tuples(st.just(name), messages(CLASSES[name])))


def read(signal, content):
    """The request that protobuf reads from what was made of this JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    payload, items = request_from_json(signal, body)
    assert scan(signal, payload, deep=True) == (items, payload)
    return CLASSES[signal].FromString(payload)


def span_of(**fields):
    request = read("traces", {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})
    return request.resource_spans[0].scope_spans[0].spans[0]


def value_of(value):
    return span_of(attributes=[{"key": "k", "value": value}]).attributes[0].value


def point_of(kind="gauge", **fields):
    request = read(
        "metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{kind: {"dataPoints": [fields]}}]}]}]}
    )
    return getattr(request.resource_metrics[0].scope_metrics[0].metrics[0], kind).data_points[0]


def refusal(signal, content):
    with pytest.raises(WireError) as error:
        request_from_json(signal, content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(error.value)


def refusal_of_span(**fields):
    message = refusal("traces", {"resourceSpans": [{"scopeSpans": [{"spans": [{}, fields]}]}]})
    assert message.startswith("resourceSpans[0].scopeSpans[0].spans[1].")
    return message.removeprefix("resourceSpans[0].scopeSpans[0].spans[1].")


@RANDOM
@given(REQUESTS)
def test_what_otlp_json_writes_is_read_back(named):
    signal, request = named
    body = request.SerializeToString()
    payload, items = request_from_json(signal, request_to_json(signal, body))
    back = CLASSES[signal].FromString(payload)
    # not ==, which NaN is not
    assert back.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert items == scan(signal, body).items


def ids_as_hex(message, shown):
    """What protobuf's own JSON shows, with ids as OTLP has them."""
    for field, value in message.ListFields():
        content = shown[field.json_name]
        if field.name in {"trace_id", "span_id", "parent_span_id"}:
            shown[field.json_name] = value.hex().upper()
        elif field.message_type is not None:
            for each, inner in zip(value, content, strict=True) if field.is_repeated else [(value, content)]:
                ids_as_hex(each, inner)
    return shown


@RANDOM
@given(REQUESTS)
def test_what_protobufs_own_json_writes_with_names_of_enums_is_read(named):
    signal, request = named
    shown = ids_as_hex(request, json_format.MessageToDict(request, always_print_fields_with_no_presence=True))
    payload, _ = request_from_json(signal, json.dumps(shown).encode())
    back = CLASSES[signal].FromString(payload)
    assert back.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


def test_the_traces_example_of_the_specification():
    span = span_of(
        traceId="5B8EFFF798038103D269B633813FC60C",
        spanId="EEE19B7EC3C1B174",
        parentSpanId="EEE19B7EC3C1B173",
        name="I'm a server span",
        startTimeUnixNano="1544712660000000000",
        endTimeUnixNano="1544712661000000000",
        kind=2,
        attributes=[{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
    )
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert span.span_id.hex() == "eee19b7ec3c1b174"
    assert span.parent_span_id.hex() == "eee19b7ec3c1b173"
    assert span.name == "I'm a server span"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1544712660000000000, 1544712661000000000)
    assert span.kind == 2
    assert span.attributes[0].value.string_value == "some value"


def test_ids_of_links_and_exemplars_are_hex_too():
    (link,) = span_of(links=[{"traceId": "0a" * 16, "spanId": "0B" * 8}]).links
    assert (link.trace_id, link.span_id) == (b"\x0a" * 16, b"\x0b" * 8)
    (exemplar,) = point_of(exemplars=[{"traceId": "0c" * 16, "spanId": "0d" * 8, "asInt": "1"}]).exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (b"\x0c" * 16, b"\x0d" * 8)


def test_empty_ids_null_and_unknown_keys_are_as_if_they_were_not_there():
    request = {
        "resourceSpans": [{"resource": None, "new": [{}], "scopeSpans": [{"spans": [{"traceId": "", "kind": None}]}]}]
    }
    expected = ExportTraceServiceRequest()
    expected.resource_spans.add().scope_spans.add().spans.add()
    assert read("traces", request) == expected
    assert request_from_json("traces", b"{}") == request_from_json("traces", b'{"resourceSpans":[]}') == (b"", 0)
    assert request_from_json("traces", b'{"resource_spans":[{}]}') == (b"", 0)


@pytest.mark.parametrize(
    ("written", "number"),
    [("7", 7), (7, 7), (7.0, 7), ("-9223372036854775808", -(2**63)), (2**63 - 1, 2**63 - 1), ("0", 0), (1e3, 1000)],
)
def test_64_bit_integers_are_strings_or_numbers(written, number):
    assert value_of({"intValue": written}).int_value == number
    assert point_of(asInt=written).as_int == number


def test_unsigned_64_bit_integers_reach_to_the_end():
    assert span_of(startTimeUnixNano="18446744073709551615").start_time_unix_nano == 2**64 - 1
    point = point_of(
        "histogram",
        count="18446744073709551615",
        bucketCounts=["1", 2],
    )
    assert (point.count, list(point.bucket_counts)) == (2**64 - 1, [1, 2])


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (0.5, 0.5),
        (3, 3.0),
        ("1.5e3", 1500.0),
        ("-2", -2.0),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        (-0.0, -0.0),
        (10**300, 1e300),
    ],
)
def test_doubles_are_numbers_or_text(written, number):
    assert repr(value_of({"doubleValue": written}).double_value) == repr(number)
    assert repr(point_of(asDouble=written).as_double) == repr(number)


def test_not_a_number_is_named():
    assert math.isnan(value_of({"doubleValue": "NaN"}).double_value)


@pytest.mark.parametrize("written", ["-_-_AA==", "-_-_AA", "+/+/AA==", "+/+/AA"])
def test_bytes_are_base64_in_either_alphabet(written):
    assert value_of({"bytesValue": written}).bytes_value == b"\xfb\xff\xbf\x00"


def test_enums_are_numbers_or_names():
    assert span_of(kind="SPAN_KIND_CONSUMER").kind == 5
    assert span_of(kind=17).kind == 17
    assert span_of(kind="3").kind == 3
    assert span_of(status={"code": "STATUS_CODE_ERROR"}).status.code == 2
    logs = read(
        "logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"severityNumber": "SEVERITY_NUMBER_WARN2"}]}]}]}
    )
    assert logs.resource_logs[0].scope_logs[0].log_records[0].severity_number == 14
    total = {"sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": True}}
    metrics = read("metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [total]}]}]})
    assert metrics.resource_metrics[0].scope_metrics[0].metrics[0].sum.aggregation_temporality == 2


def test_a_default_that_says_something_is_written():
    for value, kind in (
        ({"stringValue": ""}, "string_value"),
        ({"boolValue": False}, "bool_value"),
        ({"intValue": 0}, "int_value"),
        ({"doubleValue": 0}, "double_value"),
        ({"arrayValue": {}}, "array_value"),
        ({"kvlistValue": {}}, "kvlist_value"),
        ({"bytesValue": ""}, "bytes_value"),
        ({}, None),
    ):
        assert value_of(value).WhichOneof("value") == kind
    point = point_of("histogram", sum=0, min=0, count=0)
    assert (point.HasField("sum"), point.HasField("min"), point.HasField("max")) == (True, True, False)
    assert point_of(asInt="0").WhichOneof("value") == "as_int"


def test_of_a_key_that_is_there_twice_the_last_counts():
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","name":"b"}]}]}]}'
    assert read("traces", body).resource_spans[0].scope_spans[0].spans[0].name == "b"


def test_text_keeps_every_character():
    assert span_of(name="ü\U0001f600\x00").name == "ü\U0001f600\x00"


def test_items_are_counted():
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {}]}]}, {"scopeLogs": [{"logRecords": [{}]}]}]}
    assert request_from_json("logs", json.dumps(body).encode())[1] == 3
    points = [{"gauge": {"dataPoints": [{}, {}]}}, {"summary": {"dataPoints": [{}]}}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": points}]}]}
    assert request_from_json("metrics", json.dumps(body).encode())[1] == 3


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"traceId": "xy"}, "traceId: not hex"),
        ({"traceId": "abc"}, "traceId: not hex"),
        ({"traceId": "ab cd"}, "traceId: not hex"),
        ({"traceId": 7}, "traceId: not hex"),
        ({"parentSpanId": ["ab"]}, "parentSpanId: not hex"),
        ({"name": 7}, "name: not a string"),
        ({"kind": "SPAN_KIND_OTHER"}, "kind: not an integer"),
        ({"kind": 2**31}, "kind: out of range"),
        ({"kind": True}, "kind: not an integer"),
        ({"startTimeUnixNano": "-1"}, "startTimeUnixNano: out of range"),
        ({"startTimeUnixNano": 2**64}, "startTimeUnixNano: out of range"),
        ({"startTimeUnixNano": "9" * 5_000}, "startTimeUnixNano: not an integer"),
        ({"startTimeUnixNano": "1_0"}, "startTimeUnixNano: not an integer"),
        ({"startTimeUnixNano": "--1"}, "startTimeUnixNano: not an integer"),
        ({"startTimeUnixNano": "\u0663"}, "startTimeUnixNano: not an integer"),
        ({"startTimeUnixNano": 1.5}, "startTimeUnixNano: not an integer"),
        ({"startTimeUnixNano": 1e300}, "startTimeUnixNano: out of range"),
        ({"droppedEventsCount": -1}, "droppedEventsCount: out of range"),
        ({"droppedEventsCount": 2**32}, "droppedEventsCount: out of range"),
        ({"flags": 2**32}, "flags: out of range"),
        ({"status": []}, "status: not an object"),
        ({"attributes": {}}, "attributes: not an array"),
        ({"events": [{"name": "a"}, {"name": "b", "attributes": [None]}]}, "events[1].attributes[0]: not an object"),
        ({"attributes": [{}, {"key": "k", "value": {"intValue": "1e3"}}]}, "attributes[1].value.intValue: not an integer"),
        ({"attributes": [{"value": {"intValue": 2**63}}]}, "attributes[0].value.intValue: out of range"),
        ({"attributes": [{"value": {"boolValue": "true"}}]}, "attributes[0].value.boolValue: neither true nor false"),
        ({"attributes": [{"value": {"doubleValue": "nan"}}]}, "attributes[0].value.doubleValue: not a number"),
        ({"attributes": [{"value": {"doubleValue": True}}]}, "attributes[0].value.doubleValue: not a number"),
        ({"attributes": [{"value": {"doubleValue": 10**400}}]}, "attributes[0].value.doubleValue: out of range"),
        ({"attributes": [{"value": {"bytesValue": "a"}}]}, "attributes[0].value.bytesValue: not base64"),
        ({"attributes": [{"value": {"bytesValue": "ä"}}]}, "attributes[0].value.bytesValue: not base64"),
        ({"attributes": [{"value": {"bytesValue": 1}}]}, "attributes[0].value.bytesValue: not base64"),
        (
            {"attributes": [{"value": {"arrayValue": {"values": [{}, {"stringValue": []}]}}}]},
            "attributes[0].value.arrayValue.values[1].stringValue: not a string",
        ),
        (
            {"attributes": [{"value": {"stringValue": "a", "intValue": 1}}]},
            "attributes[0].value: stringValue and intValue: only one of them may be there",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_field_is_refused_with_its_path(fields, problem):
    assert refusal_of_span(**fields) == problem


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ({"gauge": {}, "sum": {}}, "gauge and sum: only one of them may be there"),
        ({"histogram": {"dataPoints": [{"bucketCounts": [1, -1]}]}}, "histogram.dataPoints[0].bucketCounts[1]: out of range"),
        ({"histogram": {"dataPoints": [{"explicitBounds": ["a"]}]}}, "histogram.dataPoints[0].explicitBounds[0]: not a number"),
        ({"histogram": {"dataPoints": [{"explicitBounds": 1}]}}, "histogram.dataPoints[0].explicitBounds: not an array"),
        (
            {"exponentialHistogram": {"dataPoints": [{"scale": 2**31}]}},
            "exponentialHistogram.dataPoints[0].scale: out of range",
        ),
    ],
)  # fmt: skip
def test_metrics_are_refused_with_their_path(metric, problem):
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    path = "resourceMetrics[0].scopeMetrics[0].metrics[0]"
    assert refusal("metrics", body) in {f"{path}.{problem}", f"{path}: {problem}"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000, b'{"a":' * 100_000, b'{"a":1e999}'])
def test_what_is_not_json_is_refused(body):
    assert "JSON" in refusal("traces", body)


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"x"'])
def test_a_request_is_an_object(body):
    assert refusal("traces", body) == "not an object"


def nested(depth):
    value = b'{"stringValue":"core"}'
    value = b'{"arrayValue":{"values":[' * depth + value + b"]}}" * depth
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":' + value + b"}]}]}]}]}"


def test_nesting_is_bounded_as_in_protobuf():
    assert read("traces", nested(47))
    assert refusal("traces", nested(48)).endswith("nested more than 100 deep")
    assert refusal("traces", nested(50_000)) == "JSON nested too deeply"

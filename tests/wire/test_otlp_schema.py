import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from novel_agent.wire.otlp_schema import MESSAGES, REQUESTS

PROFILES_ONLY = {"key_strindex", "string_value_strindex"}
IDS = {"trace_id", "span_id", "parent_span_id"}
REQUEST_CLASSES = (ExportMetricsServiceRequest, ExportLogsServiceRequest, ExportTraceServiceRequest)


def reachable(descriptor, found):
    if descriptor.name not in found:
        found[descriptor.name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                reachable(field.message_type, found)
    return found


def descriptors():
    found = {}
    for request_class in REQUEST_CLASSES:
        reachable(request_class.DESCRIPTOR, found)
    return found


@pytest.mark.parametrize("descriptor", descriptors().values(), ids=lambda descriptor: descriptor.name)
def test_every_field_of_the_installed_protocol_is_in_the_tables(descriptor):
    expected = {}
    for field in descriptor.fields:
        if field.name in PROFILES_ONLY:
            continue
        kinds = {
            value: name.removeprefix("TYPE_").lower()
            for name, value in vars(type(field)).items()
            if name.startswith("TYPE_")
        }
        is_optional = field.containing_oneof is not None and field.containing_oneof.name == f"_{field.name}"
        expected[field.number] = (
            field.json_name,
            field.message_type.name if field.message_type else "id" if field.name in IDS else kinds[field.type],
            tuple(value.name for value in field.enum_type.values) if field.enum_type else (),
            field.is_repeated,
            field.containing_oneof.name if field.containing_oneof and not is_optional else "",
            is_optional,
        )
    assert {
        number: (
            field.name,
            field.type if isinstance(field.type, str) else field.type.name,
            () if isinstance(field.type, str) else field.type.names,
            field.repeated,
            field.choice,
            field.optional,
        )
        for number, field in MESSAGES[descriptor.name].items()
    } == expected


def test_there_are_no_messages_but_those_of_the_three_requests():
    assert set(MESSAGES) == set(descriptors())
    assert set(REQUESTS.values()) == {request_class.DESCRIPTOR.name for request_class in REQUEST_CLASSES}

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from otlp_messages import messages

from novel_agent.wire.otlp import attribute
from novel_agent.wire.otlp_enrich import Enricher
from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.protobuf import WireError, length_delimited, text

GROUPS = {
    "metrics": (ExportMetricsServiceRequest, "resource_metrics"),
    "logs": (ExportLogsServiceRequest, "resource_logs"),
    "traces": (ExportTraceServiceRequest, "resource_spans"),
}


def enricher(**attributes):
    return Enricher([(key, attribute((key, value))) for key, value in attributes.items()])


def resource(**attributes):
    return length_delimited(1, *(length_delimited(1, attribute(label)) for label in attributes.items()))


def texts(message):
    return [(each.key, each.value.string_value) for each in message.attributes]


def enriched(payload, **attributes):
    """The attributes of each resource after enriching with these."""
    request = ExportTraceServiceRequest.FromString(enricher(**attributes)(payload))
    return [texts(group.resource) for group in request.resource_spans]


def test_what_is_missing_is_appended_and_nothing_is_overridden():
    payload = length_delimited(1, resource(service="api", host="theirs"))
    assert enriched(payload, host="ours", zone="b") == [[("service", "api"), ("host", "theirs"), ("zone", "b")]]


def test_a_resource_is_made_where_there_is_none():
    scope = length_delimited(2, length_delimited(2, text(5, "span")))
    payload = length_delimited(1, scope, text(3, "url")) + length_delimited(1, b"")
    assert enriched(payload, host="ours") == [[("host", "ours")], [("host", "ours")]]
    assert scan("traces", enricher(host="ours")(payload)).items == 1


def test_an_attribute_without_a_value_is_there():
    payload = length_delimited(1, length_delimited(1, length_delimited(1, text(1, "host"))))
    assert enriched(payload, host="ours") == [[("host", "")]]


def test_a_payload_that_misses_nothing_is_returned_as_it_is():
    payload = length_delimited(1, resource(host="theirs", zone="a"), text(3, "url"))
    assert enricher(host="ours", zone="b")(payload) is payload
    assert Enricher([])(payload) is payload
    assert enricher(host="ours")(b"") == b""


def test_only_the_resources_that_miss_something_change():
    full, empty = length_delimited(1, resource(host="theirs")), length_delimited(1, resource())
    assert enricher(host="ours")(full + empty + full) == full + length_delimited(1, resource(host="ours")) + full


def test_a_resource_that_is_written_twice_counts_as_one():
    scope = length_delimited(2, length_delimited(2, b""))
    payload = length_delimited(1, resource(host="theirs"), scope, resource(service="api"), text(3, "url"))
    assert enriched(payload, host="ours", zone="b") == [[("host", "theirs"), ("service", "api"), ("zone", "b")]]
    assert scan("traces", enricher(zone="b")(payload)).items == 1


def test_of_a_key_that_is_given_twice_the_first_counts():
    twice = Enricher([("host", attribute(("host", "first"))), ("host", attribute(("host", "second")))])
    assert twice(length_delimited(1, b"")) == length_delimited(1, resource(host="first"))


def test_of_a_key_that_is_written_twice_the_last_counts():
    payload = length_delimited(1, length_delimited(1, length_delimited(1, text(1, "host"), text(1, "zone"))))
    assert enriched(payload, host="ours", zone="b") == [[("zone", ""), ("host", "ours")]]


def test_lengths_may_grow_by_a_byte():
    for size in (100, 118, 119, 120, 16_350, 16_370, 16_380):
        payload = length_delimited(1, resource(service="x" * size), length_delimited(2, length_delimited(2, b"")))
        assert enriched(payload, host="ours") == [[("service", "x" * size), ("host", "ours")]]


def test_typed_attributes_stay_typed():
    number = KeyValue(key="n", value=AnyValue(int_value=7)).SerializeToString()
    request = ExportTraceServiceRequest.FromString(Enricher([("n", number)])(length_delimited(1, b"")))
    assert request.resource_spans[0].resource.attributes[0].value.int_value == 7


def test_more_resources_than_are_remembered_come_out_the_same_each_time():
    payload = b"".join(length_delimited(1, resource(service=f"s{number}")) for number in range(100))
    expected = [[("service", f"s{number}"), ("host", "ours")] for number in range(100)]
    enrich = enricher(host="ours")
    for _ in range(3):
        request = ExportTraceServiceRequest.FromString(enrich(payload))
        assert [texts(group.resource) for group in request.resource_spans] == expected


def test_thousands_of_small_resources_come_out_in_order():
    payload = b"".join(length_delimited(1, text(3, str(number))) for number in range(3_000))
    request = ExportTraceServiceRequest.FromString(enricher(host="ours")(payload))
    assert [group.schema_url for group in request.resource_spans] == [str(number) for number in range(3_000)]
    assert all(texts(group.resource) == [("host", "ours")] for group in request.resource_spans)


def test_what_is_remembered_is_bounded():
    enrich = enricher(host="ours")
    for number in range(1_000):
        enrich(length_delimited(1, resource(service=f"s{number}")))
    enrich(length_delimited(1, resource(service="x" * 20_000)))
    assert len(enrich._remembered) == 32
    assert max(map(len, enrich._remembered)) < 100


@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a",
        b"\x0a\x05\x0a",
        b"\x0a\x02\x0a\x05",
        length_delimited(1, length_delimited(1, b"\x0a\x05")),
        length_delimited(1, length_delimited(1, length_delimited(1, b"\x0a\x05a"))),
        length_delimited(1, length_delimited(1, length_delimited(1, b"\x0b"))),
        length_delimited(1, length_delimited(1, b"\x0a\x05"), length_delimited(1, b"")),
    ],
)
def test_a_resource_that_is_not_well_formed_is_an_error(payload):
    with pytest.raises(WireError):
        enricher(host="ours")(payload)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(GROUPS)).flatmap(lambda name: st.tuples(st.just(name), messages(GROUPS[name][0]))),
    st.lists(messages(KeyValue), max_size=4),
)
def test_any_request_changes_as_if_it_had_been_decoded(named, additions):
    name, request = named
    request_class, groups = GROUPS[name]
    enrich = Enricher([(each.key, each.SerializeToString()) for each in additions])
    payload = request.SerializeToString()
    once, again = enrich(payload), enrich(payload)
    for group in getattr(request, groups):
        keys = {each.key for each in group.resource.attributes}
        for each in additions:
            if each.key not in keys:
                keys.add(each.key)
                group.resource.attributes.append(each)
    assert request_class.FromString(once).SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    )
    assert again == once
    assert enrich(once) is once

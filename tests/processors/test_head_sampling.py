from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from novel_agent.processors.head_sampling import HeadSampler
from novel_agent.wire.protobuf import WireError

LOW = bytes.fromhex("01020304050607080900000000000001")
HIGH = bytes.fromhex("010203040506070809ff000000000000")

trace_ids = st.binary(min_size=16, max_size=16)


def span(trace_id=HIGH, trace_state="", **fields):
    return Span(
        trace_id=trace_id,
        span_id=b"\x11" * 8,
        trace_state=trace_state,
        name="GET /",
        start_time_unix_nano=1_700_000_000_000_000_000,
        end_time_unix_nano=1_700_000_000_100_000_000,
        **fields,
    )


def request(*spans):
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


def sampled(probability, *spans):
    payload, kept, dropped = HeadSampler(probability)(request(*spans).SerializeToString())
    read = ExportTraceServiceRequest.FromString(payload)
    left = [span for resource in read.resource_spans for scope in resource.scope_spans for span in scope.spans]
    assert kept == len(left)
    assert kept + dropped == len(spans)
    return left


def test_the_trace_id_decides():
    assert [span.trace_id for span in sampled(0.5, span(LOW), span(HIGH))] == [HIGH]


def test_randomness_equal_to_the_threshold_is_kept():
    just, below = LOW[:9] + b"\x80" + bytes(6), LOW[:9] + b"\x7f" + b"\xff" * 6
    assert [span.trace_id for span in sampled(0.5, span(just), span(below))] == [just]


def test_what_is_kept_says_how_much_it_stands_for_and_is_otherwise_unchanged():
    assert sampled(0.25, span()) == [span(trace_state="ot=th:c")]


def test_explicit_randomness_goes_before_the_trace_ids():
    (kept,) = sampled(0.5, span(LOW, "ot=rv:ffffffffffffff"), span(HIGH, "ot=rv:00000000000001"))
    assert (kept.trace_id, kept.trace_state) == (LOW, "ot=rv:ffffffffffffff;th:8")


def test_a_higher_threshold_from_before_stays():
    assert sampled(0.5, span(HIGH, "ot=th:f")) == [span(HIGH, "ot=th:f")]


def test_a_lower_threshold_from_before_is_raised():
    assert sampled(0.25, span(HIGH, "v=1,ot=th:8")) == [span(HIGH, "ot=th:c,v=1")]


def test_a_span_below_its_own_threshold_is_dropped():
    half = LOW[:9] + b"\x90" + bytes(6)
    assert sampled(0.5, span(half, "ot=th:c")) == []


def test_other_vendors_entries_are_kept():
    assert sampled(0.5, span(HIGH, "v=1,w=2")) == [span(HIGH, "ot=th:8,v=1,w=2")]


def test_a_share_of_one_gives_the_same_bytes():
    payload = request(span(LOW), span(HIGH)).SerializeToString()
    kept, items, dropped = HeadSampler(1.0)(payload)
    assert kept is payload
    assert (items, dropped) == (2, 0)


def test_a_share_of_nothing_drops_everything():
    assert HeadSampler(0.0)(request(span(), span(b"")).SerializeToString()) == (b"", 0, 2)


@pytest.mark.parametrize("trace_id", [b"", b"\x01", b"\x01" * 17, bytes(16)])
def test_a_span_without_a_valid_trace_id_is_kept_as_it_is(trace_id):
    assert sampled(0.000001, span(trace_id)) == [span(trace_id)]


def test_fields_in_any_order():
    head = span().SerializeToString()
    state = Span(trace_state="v=1").SerializeToString()
    turned = state + head[18:] + head[:18]
    payload = b"\x12" + bytes([len(turned)]) + turned
    payload = b"\x12" + bytes([len(payload) % 128 | 128, len(payload) // 128]) + payload
    payload = b"\x0a" + bytes([len(payload) % 128 | 128, len(payload) // 128]) + payload
    left, kept, _ = HeadSampler(0.5)(payload)
    (resource,) = ExportTraceServiceRequest.FromString(left).resource_spans
    assert kept == 1
    assert resource.scope_spans[0].spans[0] == span(trace_state="ot=th:8,v=1")


def test_resources_and_scopes_without_spans_left_go():
    whole = ExportTraceServiceRequest()
    for name, trace_id in (("a", LOW), ("b", HIGH)):
        resource = whole.resource_spans.add(schema_url="https://example.org/1")
        resource.resource.attributes.add(key="service.name").value.string_value = name
        scope = resource.scope_spans.add(spans=[span(trace_id)])
        scope.scope.name = "library"
    payload, kept, dropped = HeadSampler(0.5)(whole.SerializeToString())
    del whole.resource_spans[0]
    whole.resource_spans[0].scope_spans[0].spans[0].trace_state = "ot=th:8"
    assert ExportTraceServiceRequest.FromString(payload) == whole
    assert (kept, dropped) == (1, 1)


@given(trace_ids, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_all_that_a_smaller_one_keeps(trace_id, one, other):
    smaller, larger = sorted((one, other))
    assert len(sampled(smaller, span(trace_id))) <= len(sampled(larger, span(trace_id)))


@given(trace_ids, st.floats(0, 1), st.integers(0, 2**64 - 1), st.text())
def test_spans_of_a_trace_share_their_fate_whatever_else_they_hold(trace_id, probability, number, name):
    other = span(trace_id, parent_span_id=number.to_bytes(8, "big"), kind=number % 6)
    other.attributes.add(key=name).value.int_value = number - 2**63
    assert len(sampled(probability, span(trace_id), other)) in (0, 2)


@given(st.lists(trace_ids, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_sampling_twice_is_sampling_with_the_smaller_share(ids, one, other):
    smaller = min(one, other)
    payload = request(*(span(trace_id) for trace_id in ids)).SerializeToString()
    twice = HeadSampler(other)(HeadSampler(one)(payload)[0])[0]
    assert twice == HeadSampler(smaller)(payload)[0]


@given(st.binary(max_size=64))
def test_malformed_bytes_are_a_wire_error(data):
    with suppress(WireError):
        HeadSampler(0.5)(data)

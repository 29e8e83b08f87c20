import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from novel_agent.config.schema import AttributeLimits
from novel_agent.processors.attribute_limits import AttributeLimiter


def span(attributes=0, **fields):
    made = Span(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="GET /", **fields)
    for number in range(attributes):
        made.attributes.add(key=f"k{number}").value.int_value = number
    return made


def request(*spans):
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add()
    resource.resource.attributes.add(key="long").value.string_value = "x" * 100
    resource.scope_spans.add(spans=spans).scope.name = "library"
    return whole.SerializeToString()


def limited(*spans, **limits):
    edited = AttributeLimiter(AttributeLimits(**limits))(request(*spans))
    after = ExportTraceServiceRequest.FromString(edited.payload).resource_spans[0].scope_spans[0].spans
    return [*after], edited.changes


def test_the_first_attributes_are_kept_and_the_rest_counted():
    (after,), changes = limited(span(5, dropped_attributes_count=2), count=3)
    assert [each.key for each in after.attributes] == ["k0", "k1", "k2"]
    assert after.dropped_attributes_count == 4
    assert changes == 2


def test_as_many_as_are_allowed_stay():
    assert limited(span(3), count=3) == ([span(3)], 0)


def test_events_and_links_are_counted_apart():
    made = span()
    for number in range(3):
        made.events.add(name=f"e{number}")
        made.links.add(span_id=bytes([number]) * 8)
    (after,), changes = limited(made, events=1, links=2)
    assert [each.name for each in after.events] == ["e0"]
    assert [each.span_id[0] for each in after.links] == [0, 1]
    assert (after.dropped_events_count, after.dropped_links_count, after.dropped_attributes_count) == (2, 1, 0)
    assert changes == 3


def test_no_events_at_all():
    made = span()
    made.events.add(name="e")
    (after,), _ = limited(made, events=0)
    assert (len(after.events), after.dropped_events_count) == (0, 1)


def test_events_and_links_have_attributes_of_their_own():
    made = span()
    event, link = made.events.add(name="e", dropped_attributes_count=1), made.links.add(span_id=b"\x01" * 8)
    for number in range(3):
        event.attributes.add(key=f"e{number}").value.int_value = 1
        link.attributes.add(key=f"l{number}").value.int_value = 1
    (after,), changes = limited(made, count=2)
    assert [each.key for each in after.events[0].attributes] == ["e0", "e1"]
    assert [each.key for each in after.links[0].attributes] == ["l0", "l1"]
    assert (after.events[0].dropped_attributes_count, after.links[0].dropped_attributes_count) == (2, 1)
    assert changes == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x" * 16, "x" * 16), ("x" * 17, "x" * 16), ("ä" * 16, "ä" * 16), ("ä" * 20, "ä" * 16), ("🦊" * 17, "🦊" * 16)],
)
def test_text_is_cut_by_characters(text, expected):
    made = span()
    made.attributes.add(key="k").value.string_value = text
    (after,), changes = limited(made, value_length=16)
    assert after.attributes[0].value.string_value == expected
    assert after.dropped_attributes_count == 0
    assert changes == (text != expected)


def test_texts_and_bytes_within_lists_and_maps_are_cut_too():
    made = span()
    values = made.attributes.add(key="k").value.array_value.values
    values.add().string_value = "x" * 20
    values.add().bytes_value = b"y" * 20
    values.add().kvlist_value.values.add(key="z").value.string_value = "z" * 20
    (after,), _ = limited(made, value_length=16)
    text, raw, pairs = after.attributes[0].value.array_value.values
    assert text.string_value == "x" * 16
    assert raw.bytes_value == b"y" * 16
    assert pairs.kvlist_value.values[0].value.string_value == "z" * 16


def test_events_texts_are_cut_and_names_are_not():
    made = span()
    made.name = "n" * 40
    made.events.add(name="e" * 40).attributes.add(key="k").value.string_value = "x" * 40
    (after,), _ = limited(made, value_length=16)
    assert after.name == "n" * 40
    assert after.events[0].name == "e" * 40
    assert after.events[0].attributes[0].value.string_value == "x" * 16


def test_what_is_within_the_limits_is_the_same_object():
    payload = request(span(5), span(100))
    edited = AttributeLimiter(AttributeLimits())(payload)
    assert edited.payload is payload
    assert edited.changes == 0


def test_a_tag_written_longer_than_it_need_be_does_not_get_around_a_limit():
    key_value = b"\x0a\x01k\x12\x02\x18\x01"
    content = (b"\xca\x00" + bytes([len(key_value)]) + key_value) * 4
    payload = b""
    for tag in (b"\x12", b"\x12", b"\x0a"):
        payload = tag + bytes([len(payload or content)]) + (payload or content)
    edited = AttributeLimiter(AttributeLimits(count=2))(payload)
    (after,) = ExportTraceServiceRequest.FromString(edited.payload).resource_spans[0].scope_spans[0].spans
    assert (len(after.attributes), after.dropped_attributes_count) == (2, 2)


@given(st.integers(0, 12), st.integers(1, 8), st.text(max_size=40), st.integers(16, 24))
def test_what_comes_out_is_within_the_limits_and_cutting_again_changes_nothing(attributes, count, text, length):
    made = span(attributes)
    made.attributes.add(key="text").value.string_value = text
    limiter = AttributeLimiter(AttributeLimits(count=count, value_length=length))
    once = limiter(request(made)).payload
    (after,) = ExportTraceServiceRequest.FromString(once).resource_spans[0].scope_spans[0].spans
    assert len(after.attributes) == min(attributes + 1, count)
    assert after.dropped_attributes_count == max(0, attributes + 1 - count)
    assert all(len(each.value.string_value) <= length for each in after.attributes)
    assert limiter(once).payload is once

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from novel_agent.processors.span_bytes import Resource, Scope, count, edited, field, join, occurrences, split, walk
from novel_agent.wire.protobuf import WireError, fields, integer, length_delimited, tag


def request(*names, scope="library"):
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add(schema_url="https://example.org/1")
    resource.resource.attributes.add(key="service.name").value.string_value = "api"
    scope_spans = resource.scope_spans.add(schema_url="https://example.org/2")
    scope_spans.scope.name = scope
    for name in names:
        scope_spans.spans.add(name=name)
    return whole


def test_what_is_split_and_joined_says_the_same():
    whole = request("a", "b" * 200, "c" * 20_000, "d" * 3_000_000)
    whole.MergeFrom(request("e", scope="other"))
    payload = whole.SerializeToString()
    assert ExportTraceServiceRequest.FromString(join(split(payload))) == whole
    assert count(payload) == 5


def test_fields_that_are_not_known_stay():
    unknown = integer(99, 7)
    span = length_delimited(2, b"\x2a\x01a" + unknown)
    payload = length_delimited(1, length_delimited(2, unknown + span) + unknown)
    assert split(payload) == [Resource(unknown, [Scope(unknown, [b"\x2a\x01a" + unknown])])]


def test_what_has_no_spans_is_left_out():
    assert join([Resource(b"", [Scope(b"\x0a\x00", [])]), Resource(b"", [])]) == b""


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 255, 256, 16_383, 16_384, 2_097_152])
def test_contents_of_every_size(size):
    message = length_delimited(2, b"x" * size) + integer(3, 1)
    assert occurrences(message, 0x12) == (integer(3, 1), [b"x" * size])


def test_a_length_written_longer_than_it_need_be():
    assert occurrences(b"\x12\x81\x00x\x12\x82\x80\x00yz", 0x12) == (b"", [b"x", b"yz"])


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))))
def test_walking_agrees_with_the_other_reader(written):
    message = b"".join(
        integer(number, value) if isinstance(value, int) else length_delimited(number, value)
        for number, value in written
    )
    message += tag(7, 1) + b"12345678" + tag(8, 5) + b"1234"
    walked = [(key >> 3, key & 7, message[start:stop]) for key, _, start, stop in walk(message)]
    assert [(number, kind) for number, kind, _ in walked] == [(number, kind) for number, kind, _ in fields(message)]
    assert [content for _, kind, content in walked if kind != 0] == [
        bytes(value) for _, _, value in fields(message) if not isinstance(value, int)
    ]


def test_only_what_differs_is_written_anew():
    message = field(0x0A, b"one") + integer(3, 1) + field(0x12, b"two")
    assert edited(message, {0x0A: lambda content: content, 0x12: lambda content: content}) is message
    assert edited(message, {0x12: lambda _: b"2"}) == field(0x0A, b"one") + integer(3, 1) + field(0x12, b"2")


@given(st.binary(max_size=64))
def test_malformed_bytes_are_a_wire_error(data):
    for read in (split, lambda data: list(walk(data))):
        with suppress(WireError):
            read(data)


@pytest.mark.parametrize("data", ["0a", "0a05", "0a80", "0a8080", "0b00", "08", "0980", "02", "0a" + "ff" * 11])
def test_what_is_cut_off_or_not_protobuf_is_refused(data):
    with pytest.raises(WireError):
        split(bytes.fromhex(data))
    with pytest.raises(WireError):
        list(walk(bytes.fromhex(data)))

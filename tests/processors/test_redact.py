import time
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from novel_agent.config.schema import Redaction
from novel_agent.processors.redact import Redactor
from novel_agent.wire.protobuf import WireError

ALL = ("email", "bearer", "key", "card", "url_password")


def span(**attributes):
    made = Span(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="GET /")
    for key, value in attributes.items():
        made.attributes.add(key=key.replace("__", ".")).value.string_value = value
    return made


def request(*spans):
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add(schema_url="https://example.org/1")
    resource.resource.attributes.add(key="service.name").value.string_value = "api"
    resource.scope_spans.add(spans=spans).scope.name = "library"
    return whole


def redacted(*spans, **config):
    edited = Redactor(Redaction(**config))(request(*spans).SerializeToString())
    return [*ExportTraceServiceRequest.FromString(edited.payload).resource_spans[0].scope_spans[0].spans]


def text_after(text, *patterns, **config):
    (made,) = redacted(span(text=text), patterns=patterns, **config)
    return made.attributes[0].value.string_value


@pytest.mark.parametrize(
    ("pattern", "before", "after"),
    [
        ("email", "mail from ann.lee+x@mail.example.org today", "mail from [redacted] today"),
        ("email", "häns@exämple.org", "[redacted]"),
        ("email", "user@localhost", "user@localhost"),
        ("email", "@decorated.function", "@decorated.function"),
        ("bearer", "Authorization: Bearer abc.DEF-123_456==", "Authorization: Bearer [redacted]"),
        ("bearer", "bearer ab", "bearer ab"),
        ("url_password", "postgres://app:s3cr3t@db:5432/novel", "postgres://app:[redacted]@db:5432/novel"),
        ("url_password", "redis://:p@ss@cache/0", "redis://:[redacted]@cache/0"),
        ("url_password", "https://example.org:8080/a@b", "https://example.org:8080/a@b"),
        ("card", "paid with 4111 1111 1111 1111.", "paid with [redacted]."),
        ("card", "5500-0000-0000-0004", "[redacted]"),
        ("card", "378282246310005", "[redacted]"),
        ("card", "4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("card", "at 1764000000000", "at 1764000000000"),
        ("card", "id x4111111111111111", "id x4111111111111111"),
        ("key", "AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("key", "ghp_" + "a1B2" * 9 + " here", "[redacted] here"),
        ("key", "sk-proj-" + "x" * 24, "[redacted]"),
        ("key", "?api_key=0123456789abcdef&page=2", "?api_key=[redacted]&page=2"),
        ("key", '{"client_secret": "0123456789"}', '{"client_secret": "[redacted]"}'),
        ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "[redacted]"),
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[redacted]"),
        ("key", "the key to success: tokens", "the key to success: tokens"),
        ("key", "task-management-and-scheduling-service", "task-management-and-scheduling-service"),
    ],
)
def test_built_in_patterns(pattern, before, after):
    assert text_after(before, pattern) == after
    assert text_after(before, *ALL) == after


def test_a_password_in_a_url_is_not_taken_for_part_of_an_address():
    before = "smtp://ann:secret@mail.example.org"
    assert text_after(before, "email", "url_password") == "smtp://ann:[redacted]@mail.example.org"


def test_further_patterns_are_taken_out_of_text():
    assert text_after("order NE-12345678 and NE-1", values=("NE-[0-9]{8}",)) == "order [redacted] and NE-1"


def test_anchors_of_further_patterns_mean_the_text_and_not_the_message():
    assert text_after("abc", values=("^abc$",)) == "[redacted]"
    assert text_after("xabc", values=("^abc$",)) == "xabc"


def test_attributes_whose_whole_name_matches_lose_their_value_whatever_it_is():
    made = span(password="x", passwords="kept")
    made.attributes.add(key="http.request.header.cookie").value.array_value.values.add().string_value = "a=b"
    made.attributes.add(key="token").value.int_value = 7
    (after,) = redacted(made, attributes=(r"password|token|http\.request\.header\.(authorization|cookie)",))
    assert [(each.key, each.value.string_value) for each in after.attributes] == [
        ("password", "[redacted]"),
        ("passwords", "kept"),
        ("http.request.header.cookie", "[redacted]"),
        ("token", "[redacted]"),
    ]


def test_every_text_of_a_span_is_looked_at():
    made = span(plain="a@b.org")
    made.name = "mail to a@b.org"
    made.status.message = "no a@b.org"
    made.status.code = 2
    made.events.add(name="a@b.org").attributes.add(key="k").value.string_value = "a@b.org"
    made.links.add(trace_id=b"\x03" * 16).attributes.add(key="k").value.string_value = "a@b.org"
    made.attributes.add(key="list").value.array_value.values.add().string_value = "a@b.org"
    nested = made.attributes.add(key="map").value.kvlist_value.values.add(key="k").value
    nested.kvlist_value.values.add(key="deep").value.string_value = "a@b.org"
    (after,) = redacted(made, patterns=("email",))
    assert b"a@b.org" not in after.SerializeToString()
    assert after.name == "mail to [redacted]"
    assert after.status.code == 2
    assert after.links[0].trace_id == b"\x03" * 16
    assert (
        after.attributes[2].value.kvlist_value.values[0].value.kvlist_value.values[0].value.string_value == "[redacted]"
    )


def test_the_resource_and_the_scope_are_looked_at_too():
    whole = request(span())
    whole.resource_spans[0].resource.attributes.add(key="owner").value.string_value = "a@b.org"
    whole.resource_spans[0].scope_spans[0].scope.attributes.add(key="by").value.string_value = "a@b.org"
    edited = Redactor(Redaction(patterns=("email",)))(whole.SerializeToString())
    assert b"a@b.org" not in edited.payload
    assert edited.changes == 2
    after = ExportTraceServiceRequest.FromString(edited.payload)
    assert after.resource_spans[0].schema_url == "https://example.org/1"
    assert after.resource_spans[0].scope_spans[0].scope.name == "library"


def test_changes_count_values_also_those_seen_before():
    redactor = Redactor(Redaction(patterns=("email",)))
    payload = request(span(a="a@b.org c@d.org"), span(a="a@b.org c@d.org")).SerializeToString()
    assert redactor(payload).changes == 2
    assert redactor(payload).changes == 2


def test_where_nothing_matches_the_payload_is_the_same_object():
    payload = request(span(plain="text", number="42")).SerializeToString()
    edited = Redactor(Redaction(patterns=ALL, attributes=("password",), values=("NE-[0-9]{8}",)))(payload)
    assert edited.payload is payload
    assert edited.changes == 0


def test_bytes_that_are_not_utf8_pass():
    key_value = b"\x0a\x01k\x12\x0c\x0a\x0a\xff a@b.org\xfe"
    inner = b"\x4a" + bytes([len(key_value)]) + key_value
    scope = b"\x12" + bytes([len(inner)]) + inner
    resource = b"\x12" + bytes([len(scope)]) + scope
    payload = b"\x0a" + bytes([len(resource)]) + resource
    assert b"\xff [redacted]\xfe" in Redactor(Redaction(patterns=("email",)))(payload).payload


@pytest.mark.parametrize(("lists", "refused"), [(49, False), (51, True), (5000, True)])
def test_values_nested_deeper_than_50_are_refused(lists, refused):
    content = b"\x0a\x07a@b.org"
    for _ in range(lists):
        content = b"\x2a" + _sized(b"\x0a" + _sized(content))
    attribute = b"\x4a" + _sized(b"\x0a\x01k\x12" + _sized(content))
    payload = b"\x0a" + _sized(b"\x12" + _sized(b"\x12" + _sized(attribute)))
    with pytest.raises(WireError, match="deeper") if refused else nullcontext():
        assert b"[redacted]" in Redactor(Redaction(patterns=("email",)))(payload).payload


def _sized(content):
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return length + bytes([size]) + content


@pytest.mark.parametrize("pattern", ALL)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 50_000,
        "a@" * 50_000,
        "a." * 50_000 + "@",
        "4" * 50_000,
        "4-" * 50_000,
        "eyJ" * 35_000,
        "eyJaaaaaaaaa." * 15_000,
        "sk-" * 35_000,
        "://a:" * 40_000,
        "://a:" + "@" * 50_000,
        "bearer " * 30_000,
        "api_key" + " " * 50_000,
        "api_key=" * 25_000,
        "-----BEGIN PRIVATE KEY" * 9_000,
        "-----BEGIN PRIVATE KEY-----" * 8_000,
    ],
)
def test_built_in_patterns_take_linear_time(pattern, text):
    redactor = Redactor(Redaction(patterns=(pattern,)))
    payload = request(span(text=text)).SerializeToString()
    before = time.process_time()
    redactor(payload)
    assert time.process_time() - before < 1.0


@given(st.lists(st.text(max_size=60), max_size=8))
def test_redacting_again_changes_nothing(texts):
    redactor = Redactor(Redaction(patterns=ALL))
    payload = request(*(span(text=text) for text in texts)).SerializeToString()
    once = redactor(payload).payload
    assert redactor(once).payload == once


def test_another_engine_may_be_put_in():
    class Engine:
        def __init__(self, pattern):
            self.pattern = pattern

        def fullmatch(self, text):
            return text == self.pattern or None

        def subn(self, replacement, text):
            return text.replace(self.pattern, replacement), text.count(self.pattern)

    redactor = Redactor(Redaction(attributes=("a",), values=("b",)), Engine)
    edited = redactor(request(span(a="x", c="abc")).SerializeToString())
    (after,) = ExportTraceServiceRequest.FromString(edited.payload).resource_spans[0].scope_spans[0].spans
    assert [each.value.string_value for each in after.attributes] == ["[redacted]", "a[redacted]c"]

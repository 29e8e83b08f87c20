"""What a redactor looks at beside plain texts, and credentials by how they are written."""

import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from novel_agent.config.schema import Redaction
from novel_agent.processors.patterns import compile_re
from novel_agent.processors.redact import Redactor
from novel_agent.processors.redact_text import TextRedactor
from novel_agent.processors.span_bytes import occurrences, split
from novel_agent.wire.protobuf import length_delimited

MAIL = "leak@example.org"
ALL = ("email", "bearer", "key", "card", "url_password")
CARD = 4111111111111111


def request(*spans):
    whole = ExportTraceServiceRequest()
    whole.resource_spans.add().scope_spans.add(spans=spans)
    return whole


def after(whole, *patterns, **config):
    edited = Redactor(Redaction(patterns=patterns, **config))(whole.SerializeToString())
    return ExportTraceServiceRequest.FromString(edited.payload), edited.changes


def value_after(value, *patterns):
    made = Span()
    made.attributes.add(key="k", value=value)
    whole, changes = after(request(made), *patterns)
    return whole.resource_spans[0].scope_spans[0].spans[0].attributes[0].value, changes


def text_after(text, *patterns):
    return TextRedactor(patterns, (), compile_re).of_text(text)


# where it looks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"\x8a\x00"
        + length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(5, MAIL.encode()))))[1:],
        length_delimited(
            1, b"\x92\x00" + length_delimited(2, length_delimited(2, length_delimited(5, MAIL.encode())))[1:]
        ),
        length_delimited(
            1, length_delimited(2, b"\x92\x00" + length_delimited(2, length_delimited(5, MAIL.encode()))[1:])
        ),
        length_delimited(
            1, length_delimited(2, length_delimited(2, b"\xaa\x80\x00" + length_delimited(5, MAIL.encode())[1:]))
        ),
    ],
)
def test_a_tag_in_more_bytes_than_it_needs_hides_nothing(payload):
    assert ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans[0].name == MAIL
    edited = Redactor(Redaction(patterns=("email",)))(payload)
    assert MAIL.encode() not in edited.payload
    assert edited.changes == 1
    assert (
        ExportTraceServiceRequest.FromString(edited.payload).resource_spans[0].scope_spans[0].spans[0].name
        == "[redacted]"
    )


def test_spans_with_such_tags_are_found_by_whoever_takes_a_payload_apart():
    assert occurrences(b"\x92\x00\x01a\x12\x01b\x1a\x01c", 0x12) == (b"\x1a\x01c", [b"a", b"b"])
    assert [
        scope.spans for resource in split(b"\x0a\x07\x92\x00\x04\x92\x80\x00\x00") for scope in resource.scopes
    ] == [[b""]]


def test_states_names_versions_and_urls_are_looked_at():
    made = Span(trace_state=f"vendor={MAIL},ot=th:8;rv:41111111111111,other=x")
    made.links.add(trace_state=f"a={MAIL}")
    made.events.add(name=f"to {MAIL}")
    whole = request(made)
    whole.resource_spans[0].schema_url = f"https://{MAIL}/1"
    scope = whole.resource_spans[0].scope_spans[0]
    scope.schema_url = f"https://{MAIL}/2"
    scope.scope.name, scope.scope.version = f"library of {MAIL}", f"1 {MAIL}"
    edited, changes = after(whole, *ALL)
    assert MAIL not in str(edited)
    assert changes == 7
    span = edited.resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_state == "vendor=[redacted],ot=th:8;rv:41111111111111,other=x"
    assert edited.resource_spans[0].scope_spans[0].scope.name == "library of [redacted]"


def test_an_ot_member_that_is_none_is_looked_at():
    made = Span(trace_state=f"ot=th:8;x:{MAIL}")
    edited, _ = after(request(made), "email")
    assert MAIL not in str(edited)


def test_byte_strings_that_hold_text_are_looked_at():
    value, changes = value_after(AnyValue(bytes_value=b"\xff\x00mail " + MAIL.encode() + b" \xfe"), "email")
    assert (value.bytes_value, changes) == (b"\xff\x00mail [redacted] \xfe", 1)


def test_keys_lose_what_a_built_in_pattern_matches():
    made = Span()
    made.attributes.add(key=f"visits of {MAIL}").value.int_value = 1
    made.attributes.add(key="map").value.kvlist_value.values.add(key=MAIL).value.int_value = 1
    edited, changes = after(request(made), "email")
    assert MAIL not in str(edited)
    assert changes == 2
    assert edited.resource_spans[0].scope_spans[0].spans[0].attributes[0].key == "visits of [redacted]"


def test_keys_keep_what_only_a_further_pattern_matches():
    made = Span()
    made.attributes.add(key="order").value.string_value = "order"
    edited, _ = after(request(made), values=("order",))
    (attribute,) = edited.resource_spans[0].scope_spans[0].spans[0].attributes
    assert (attribute.key, attribute.value.string_value) == ("order", "[redacted]")


@pytest.mark.parametrize(
    "value", [AnyValue(int_value=CARD), AnyValue(double_value=float(CARD)), AnyValue(int_value=378282246310005)]
)
def test_a_number_that_may_be_a_card_is_taken_out(value):
    edited, changes = value_after(value, "card")
    assert (edited.string_value, changes) == ("[redacted]", 1)


def test_so_it_is_in_a_list():
    value = AnyValue()
    value.array_value.values.add().int_value = CARD
    value.array_value.values.add().int_value = 7
    edited, changes = value_after(value, "card")
    assert [each.string_value or each.int_value for each in edited.array_value.values] == ["[redacted]", 7]
    assert changes == 1


@pytest.mark.parametrize(
    "value",
    [
        AnyValue(int_value=CARD + 1),
        AnyValue(int_value=1764000000000),
        AnyValue(int_value=-CARD),
        AnyValue(int_value=4111111111111111110),
        AnyValue(double_value=CARD + 0.5),
        AnyValue(double_value=float("nan")),
        AnyValue(double_value=float("inf")),
        AnyValue(bool_value=True),
    ],
)
def test_other_numbers_stay(value):
    assert value_after(value, "card") == (value, 0)


def test_without_the_pattern_numbers_stay():
    assert value_after(AnyValue(int_value=CARD), "email") == (AnyValue(int_value=CARD), 0)


# how it is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "before", "wanted"),
    [
        ("email", "to=leak%40example.org&x=1", "to=[redacted]&x=1"),
        ("url_password", r"postgres:\/\/u:p4ss@h\/db", r"postgres:\/\/u:[redacted]@h\/db"),
        ("bearer", "Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic [redacted]"),
        ("bearer", "basic authentication failed", "basic authentication failed"),
        ("bearer", "Cookie: session=abc; theme=dark", "Cookie: [redacted]"),
        ("bearer", '{"set-cookie": "id=1; HttpOnly", "x": 1}', '{"set-cookie": "[redacted]", "x": 1}'),
        ("bearer", "cookie: none was sent", "cookie: none was sent"),
        ("key", "password=hunter2&x=1", "password=[redacted]&x=1"),
        ("key", "db_passwd: x", "db_passwd: [redacted]"),
        ("key", "PWD=abc", "PWD=[redacted]"),
        ("key", '{"userPassword": "correct horse, battery", "x": 1}', '{"userPassword": "[redacted]", "x": 1}'),
        ("key", r"{\"password\":\"p4ss\",\"x\":1}", r"{\"password\":\"[redacted]\",\"x\":1}"),
        ("key", "session_token=abc123 next", "session_token=[redacted] next"),
        ("key", '"token": "abc"', '"token": "[redacted]"'),
        ("key", "secret=s", "secret=[redacted]"),
        ("key", r"{\"api_key\":\"0123456789\"}", r"{\"api_key\":\"[redacted]\"}"),
        ("key", "unexpected token: identifier", "unexpected token: identifier"),
        ("key", "max_tokens=4096", "max_tokens=4096"),
        ("key", "the password was wrong", "the password was wrong"),
        ("card", "4111.1111.1111.1111", "[redacted]"),
        ("card", "4111\t1111\t1111\t1111", "[redacted]"),
        ("card", "4111\u00a01111\u00a01111\u00a01111", "[redacted]"),
        ("card", "4111_1111_1111_1111", "[redacted]"),
        ("card", "4111  1111  1111  1111", "[redacted]"),
        ("card", "3782.822463.10005", "[redacted]"),
        ("card", "4111.1111.1111.1112", "4111.1111.1111.1112"),
        ("card", "5.123456789012346", "5.123456789012346"),
        ("card", "4111.1111 1111.1111", "4111.1111 1111.1111"),
    ],
)
def test_credentials_by_how_they_are_written(pattern, before, wanted):
    assert text_after(before, pattern) == wanted
    assert text_after(wanted, pattern) == wanted
    assert text_after(before, *ALL) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "password" * 40_000,
        "password=" * 40_000,
        "password\"\\'\\" * 30_000,
        "token='" * 40_000,
        'secret":"' * 40_000,
        "cookie:" * 40_000,
        "cookie=[" + "a" * 300_000,
        "basic " * 50_000,
        "basic " + "A" * 300_000,
        "4111.1111." * 30_000,
        "4111\u00a0" * 50_000,
        "a%40" * 80_000,
        "a%40" + "a." * 150_000,
        ":\\/\\/" * 60_000 + "@",
        "pwd" * 100_000 + ":" * 300,
    ],
)
def test_time_is_linear_in_what_is_made_to_hurt(text):
    redactor = TextRedactor(ALL, (), compile_re)
    began = time.process_time()
    redactor.of_text(text)
    assert time.process_time() - began < 2.0

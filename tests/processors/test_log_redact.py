import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.schema import Redaction
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_redact import LogRedactor

ALL = ("email", "bearer", "key", "card", "url_password")


def redacted(record, *patterns, **config):
    (after,) = LogRedactor(Redaction(patterns=patterns, **config), re2.compile)([record], 0)
    return after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mail from ann.lee@mail.example.org", "mail from [redacted]"),
        ("Authorization: Bearer abc.DEF-123_456==", "Authorization: Bearer [redacted]"),
        ("postgres://app:s3cr3t@db:5432/novel", "postgres://app:[redacted]@db:5432/novel"),
        ("paid with 4111 1111 1111 1111.", "paid with [redacted]."),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("nothing to see", "nothing to see"),
    ],
)
def test_built_in_patterns_are_those_of_spans(before, after):
    assert redacted(LogRecord(body=before), *ALL).body == after


def test_every_text_of_a_record_is_looked_at():
    record = LogRecord(
        body={"to": "a@b.org", "cc": ["a@b.org", 7]},
        severity_text="a@b.org",
        event_name="a@b.org",
        attributes={"user": "by a@b.org", "map": {"deep": ["a@b.org"]}, "raw": b"a@b.org\xff", "count": 3},
    )
    after = redacted(record, "email")
    assert after.body == {"to": "[redacted]", "cc": ["[redacted]", 7]}
    assert (after.severity_text, after.event_name) == ("[redacted]", "[redacted]")
    assert after.attributes == {
        "user": "by [redacted]", "map": {"deep": ["[redacted]"]}, "raw": "[redacted]\ufffd", "count": 3,
    }  # fmt: skip
    assert list(after.attributes) == ["user", "map", "raw", "count"]


def test_named_attributes_lose_their_whole_value_wherever_they_stand():
    record = LogRecord(
        body={"password": "x"}, attributes={"password": 7, "passwords": "kept", "headers": {"cookie": ["a=b"]}}
    )
    after = redacted(record, attributes=("password|cookie",))
    assert after.body == {"password": "[redacted]"}
    assert after.attributes == {"password": "[redacted]", "passwords": "kept", "headers": {"cookie": "[redacted]"}}


def test_further_patterns_are_taken_out():
    assert redacted(LogRecord(body="order NE-12345678"), values=("NE-[0-9]{8}",)).body == "order [redacted]"


def test_changed_values_are_counted_and_what_was_redacted_before_is_not():
    redactor = LogRedactor(Redaction(patterns=("email",), attributes=("token",)), re2.compile)
    records = [LogRecord(body="a@b.org c@d.org", attributes={"token": "x", "mail": "a@b.org", "plain": 1})]
    redactor(records, 0)
    assert redactor.edited == 3
    redactor(records, 0)
    assert redactor.edited == 3


def test_what_is_not_changed_is_the_same_object_and_shared_attributes_are_not_edited():
    shared = {"mail": "a@b.org", "list": ["x"]}
    untouched = {"list": ["x"], "map": {"k": "v"}}
    records = [LogRecord(attributes=shared), LogRecord(attributes=untouched)]
    LogRedactor(Redaction(patterns=ALL), re2.compile)(records, 0)
    assert shared == {"mail": "a@b.org", "list": ["x"]}
    assert records[0].attributes["list"] is shared["list"]
    assert records[1].attributes is untouched


def test_the_uid_that_the_agent_gave_stays_and_another_does_not():
    uid = "4111111111111111-1024"
    assert redacted(LogRecord(attributes={"log.record.uid": uid}), "card").attributes == {"log.record.uid": uid}
    after = redacted(LogRecord(attributes={"log.record.uid": "4111111111111111"}), "card")
    assert after.attributes == {"log.record.uid": "[redacted]"}


def test_what_is_nested_too_deep_is_replaced_whole():
    value = "a@b.org"
    for _ in range(900):
        value = [value]
    assert "a@b.org" not in repr(redacted(LogRecord(attributes={"deep": value}), "email").attributes)


def test_text_with_surrogates_is_redacted_by_further_patterns_too():
    after = redacted(LogRecord(body="\ud800 NE-12345678"), values=("NE-[0-9]{8}",)).body
    assert after.endswith(" [redacted]")
    assert redacted(LogRecord(body="\ud800"), values=("NE-[0-9]{8}",)).body == "\ud800"


@given(st.recursive(st.text(max_size=40) | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_redacting_again_changes_nothing(body):
    once = redacted(LogRecord(body=body), *ALL).body
    assert redacted(LogRecord(body=once), *ALL).body == once

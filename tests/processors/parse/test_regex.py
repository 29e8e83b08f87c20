"""Lines of a user's pattern."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.config.schema import LogKeys
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.regex import RegexParser

NOON = 1_714_564_800_000_000_000


def read_time(text: str) -> int:
    """One time is known here."""
    if text == "2024-05-01T12:00:00Z":
        return NOON
    raise ValueError(text)


def parser(pattern: str) -> RegexParser:
    """A parser by the default keys."""
    return RegexParser(pattern, FieldReader(LogKeys(), read_time, {"INFO": 9, "ERROR": 17}.get))  # type: ignore[arg-type]


def test_named_groups_are_parts_and_attributes() -> None:
    record = parser(r"(?P<time>\S+) (?P<level>[A-Z]+) \[(?P<thread>[^\]]*)\] (?P<message>.*)").parse(
        b"2024-05-01T12:00:00Z ERROR [main] out of ink"
    )
    assert record == LogRecord(
        time_unix_nano=NOON,
        severity_number=17,
        severity_text="ERROR",
        body="out of ink",
        attributes={"thread": "main"},
    )


def test_a_group_that_took_no_part_gives_no_attribute() -> None:
    pattern = r"(?P<a>x)?(?P<b>y)?(z)(?P<empty>)"
    assert parser(pattern).parse(b"yz").attributes == {"b": "y", "empty": ""}


def test_without_a_group_for_it_the_body_is_the_line() -> None:
    record = parser(r"(?P<level>\w+): ").parse(b"INFO: ready to write")
    assert (record.severity_number, record.body, record.attributes) == (9, "INFO: ready to write", {})


def test_the_pattern_is_found_at_the_beginning_and_need_not_reach_the_end() -> None:
    assert parser(r"(?P<word>\w+)").parse(b"one two").attributes == {"word": "one"}
    with pytest.raises(LineError) as error:
        parser(r"(?P<word>two)").parse(b"one two")
    assert error.value.reason == "no match"


def test_a_dot_goes_over_the_lines_of_a_record() -> None:
    assert (
        parser(r"(?P<level>[A-Z]+) (?P<message>.*)").parse(b"ERROR boom\n  at x\n  at y").body == "boom\n  at x\n  at y"
    )


def test_characters_are_matched_not_bytes() -> None:
    assert parser(r"(?P<three>.{3})(?P<rest>.*)").parse("äöüß".encode()).attributes == {"three": "äöü", "rest": "ß"}


def test_what_is_not_utf_8_is_replaced_and_matched() -> None:
    record = parser(r"(?P<first>\S+) (?P<rest>.*)").parse(b"a\xffb \xfe")
    assert (record.attributes, record.body) == ({"first": "a�b", "rest": "�"}, "a�b �")


@settings(max_examples=200, deadline=None)
@given(line=st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_line_error(line: bytes) -> None:
    each = parser(r"(?P<a>[a-z\x{80}-\x{10ffff}]*)(?P<b>\W+)?(?P<c>\C*)")
    record = each.parse(line)
    assert sum(len(str(value)) for value in record.attributes.values()) <= 4 * len(line)

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.schema import LogFilter, LogMatch, LogRate, LogStep
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_encoded import EncodedFilter
from novel_agent.processors.log_steps import make_steps, needs_records
from novel_agent.wire.otlp_write import record_message
from novel_agent.wire.protobuf import WireError, length_delimited

KEEP_INFO = LogFilter(keep=LogMatch(min_severity="info"))


def encoded(*records):
    return b"".join(length_delimited(2, record_message(record)) for record in records)


def record(number, **fields):
    return LogRecord(**{"severity_number": number, "body": f"number {number}", "attributes": {"a": 1}} | fields)


def test_records_are_left_out_by_their_severity():
    debug, info, none, error = (record(number, time_unix_nano=7) for number in (5, 9, 0, 17))
    kept, dropped = EncodedFilter([KEEP_INFO])(encoded(debug, info, none, error))
    assert (kept, dropped) == (encoded(info, error), 2)


def test_where_all_go_on_the_bytes_are_the_same_object():
    records = encoded(record(9), record(17))
    kept, dropped = EncodedFilter([KEEP_INFO])(records)
    assert kept is records
    assert dropped == 0


def test_a_severity_is_found_wherever_it_stands():
    observed_first = b"\x59" + bytes(8) + b"\x10\x05"
    after_the_body = b"\x2a\x03\x0a\x01x" + b"\x10\x05"
    after_a_large_field = b"\x92\x7d\x01x" + b"\x10\x09"
    two_bytes = b"\x10\x85\x01"
    records = [length_delimited(2, each) for each in (observed_first, after_the_body, after_a_large_field, two_bytes)]
    assert EncodedFilter([KEEP_INFO])(b"".join(records)) == (records[2] + records[3], 2)


@pytest.mark.parametrize("records", [b"\x0a\x00", b"\x12", b"\x12\x05\x10", b"\x12\x80"])
def test_what_are_no_records_is_refused(records):
    with pytest.raises(WireError):
        EncodedFilter([KEEP_INFO])(records)


severities = st.sampled_from(["trace", "debug", "info", "warn", "error", "fatal"])
matches = st.builds(
    LogMatch, min_severity=st.none() | severities, max_severity=st.none() | severities
)  # fmt: skip
filters = st.builds(LogFilter, keep=matches) | st.builds(LogFilter, drop=matches)


@given(st.lists(filters, min_size=1, max_size=3), st.lists(st.integers(0, 30), max_size=8))
def test_the_same_goes_on_as_of_decoded_records(chosen, numbers):
    steps = tuple(LogStep(filter=each) for each in chosen)
    assert not needs_records(steps)
    made = make_steps(steps, re2.compile)
    decoded = make_steps(steps, re2.compile).take([record(number) for number in numbers], 0)
    kept, dropped = made.take_encoded(encoded(*map(record, numbers)))
    assert kept == encoded(*decoded)
    assert dropped == made.dropped["filter"] == len(numbers) - len(decoded)


def test_without_steps_everything_goes_on_and_other_steps_need_records():
    assert make_steps((), re2.compile).take_encoded(b"x") == (b"x", 0)
    with pytest.raises(TypeError):
        make_steps((LogStep(rate_limit=LogRate(per_second=1)),), re2.compile).take_encoded(b"")
    assert needs_records((LogStep(filter=LogFilter(drop=LogMatch(body="x"))),))
    assert needs_records((LogStep(filter=LogFilter(drop=LogMatch(attributes={"a": "x"}))),))

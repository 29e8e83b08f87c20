import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.schema import LogSample
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_sample import Sample

LOW = bytes.fromhex("01020304050607080900000000000001")
HIGH = bytes.fromhex("010203040506070809ff000000000000")


def info(trace_id=b"", uid="", **fields):
    attributes = {"log.record.uid": uid} if uid else {}
    return LogRecord(**{"severity_number": 9, "trace_id": trace_id, "attributes": attributes} | fields)


def kept(config, *records):
    return Sample(config)(list(records), 0)


def test_the_trace_id_decides_and_what_is_kept_says_how_much_it_stands_for():
    (record,) = kept(LogSample(info=0.25), info(LOW), info(HIGH))
    assert record.trace_id == HIGH
    assert record.attributes == {"sampling.threshold": "c"}


def test_randomness_equal_to_the_threshold_is_kept():
    just, below = LOW[:9] + b"\x80" + bytes(6), LOW[:9] + b"\x7f" + b"\xff" * 6
    assert [record.trace_id for record in kept(LogSample(info=0.5), info(just), info(below))] == [just]


@pytest.mark.parametrize(
    ("number", "share_of"),
    [(1, "trace"), (4, "trace"), (5, "debug"), (9, "info"), (13, "warn"), (17, "error"), (24, "fatal")],
)
def test_each_severity_has_its_own_share(number, share_of):
    record = info(HIGH, severity_number=number)
    assert kept(LogSample(**{share_of: 0.0}), record) == []
    shares = dict.fromkeys(("trace", "debug", "info", "warn", "error", "fatal"), 0.0)
    assert kept(LogSample(**shares | {share_of: 1.0}), record) == [record]
    assert record.attributes == {}


@pytest.mark.parametrize("number", [0, 25, -1])
def test_a_record_without_a_severity_is_kept(number):
    record = info(LOW, severity_number=number)
    shares = dict.fromkeys(("trace", "debug", "info", "warn", "error", "fatal"), 0.0)
    assert kept(LogSample(**shares), record) == [record]


def test_without_a_trace_the_uid_decides_the_same_way_each_time():
    uids = [f"0123456789abcdef-{number * 100}" for number in range(2000)]
    first = [record.attributes["log.record.uid"] for record in kept(LogSample(info=0.1), *(info(uid=u) for u in uids))]
    again = [record.attributes["log.record.uid"] for record in kept(LogSample(info=0.1), *(info(uid=u) for u in uids))]
    assert first == again
    assert 150 < len(first) < 250


def test_a_randomness_that_no_trace_id_gives_is_written_down():
    (record,) = kept(LogSample(info=0.999), info(uid="0123456789abcdef-0"))
    assert record.attributes["sampling.threshold"] == "0042"
    assert len(record.attributes["sampling.randomness"]) == 14


def test_a_trace_id_that_is_not_valid_does_not_decide():
    records = [info(bytes(16), uid=f"0123456789abcdef-{number}") for number in range(200)]
    assert 50 < len(kept(LogSample(info=0.5), *records)) < 150


def test_without_trace_and_uid_time_and_body_decide():
    records = [info(time_unix_nano=number, body="x") for number in range(200)]
    assert 50 < len(kept(LogSample(info=0.5), *records)) < 150


def test_of_two_steps_the_smaller_share_is_what_a_record_stands_for():
    for shares in ((0.5, 0.25), (0.25, 0.5)):
        records = [info(HIGH)]
        for share in shares:
            records = Sample(LogSample(info=share))(records, 0)
        assert records[0].attributes["sampling.threshold"] == "c"


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_who_keeps_a_larger_share_keeps_all_that_others_keep(trace_id, one, other):
    smaller, larger = sorted((one, other))
    if kept(LogSample(info=smaller), info(trace_id)):
        assert kept(LogSample(info=larger), info(trace_id))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.processors.probability import (
    NOTHING,
    Stated,
    adjusted_count,
    randomness,
    stated,
    threshold,
    with_threshold,
    written,
)


@pytest.mark.parametrize(
    ("probability", "th"),
    [
        (1, "0"),
        (1 / 2, "8"),
        (1 / 3, "aaab"),
        (1 / 4, "c"),
        (1 / 5, "cccd"),
        (1 / 8, "e"),
        (1 / 10, "e666"),
        (1 / 16, "f"),
        (1 / 100, "fd70a"),
        (1 / 1000, "ffbe77"),
        (1 / 10000, "fff9724"),
        (1 / 100000, "ffff583a"),
        (1 / 1000000, "ffffef39"),
    ],
)
def test_thresholds_are_those_of_the_specifications_table_at_four_digits(probability, th):
    assert written(threshold(probability)) == th


@pytest.mark.parametrize(("digits", "th"), [(3, "fd71"), (4, "fd70a"), (5, "fd70a4")])
def test_the_precision_counts_digits_after_the_leading_fs(digits, th):
    assert written(threshold(0.01, digits)) == th


def test_nothing_is_a_threshold_that_no_randomness_reaches():
    assert threshold(0) == NOTHING == 0x100000000000000


def test_the_smallest_share_can_still_be_written():
    assert written(threshold(2.0**-56)) == "ffffffffffff"


def test_one_kept_span_stands_for_the_inverse_of_its_share():
    assert adjusted_count(threshold(0.25)) == 4.0
    assert adjusted_count(0) == 1.0


def test_randomness_is_the_last_seven_bytes_of_the_trace_id():
    assert randomness(bytes.fromhex("ffffffffffffffffff0123456789abcd")) == 0x0123456789ABCD


@pytest.mark.parametrize("trace_id", [b"", b"\x01" * 15, b"\x01" * 17, b"\x00" * 16])
def test_an_invalid_trace_id_has_no_randomness(trace_id):
    assert randomness(trace_id) is None


@pytest.mark.parametrize(
    ("trace_state", "expected"),
    [
        ("", Stated()),
        ("vendor=1", Stated()),
        ("ot=th:0", Stated(threshold=0)),
        ("ot=th:c", Stated(threshold=0xC0000000000000)),
        ("ot=rv:6e6d1a75832a2f;th:FD70a", Stated(0x6E6D1A75832A2F, 0xFD70A000000000)),
        ("vendor=1 , ot=p:8;th:8", Stated(threshold=0x80000000000000)),
        ("ot=th:;rv:123", Stated()),
        ("ot=th:xyz", Stated()),
        ("ot=th:123456789abcdef", Stated()),
        ("robot=th:8", Stated()),
    ],
)
def test_what_a_tracestate_says_of_sampling(trace_state, expected):
    assert stated(trace_state) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "ot=th:c"),
        ("vendor=1", "ot=th:c,vendor=1"),
        ("a=1,ot=rv:6e6d1a75832a2f,b=2", "ot=rv:6e6d1a75832a2f;th:c,a=1,b=2"),
        ("a=1, ot=th:8;p:8", "ot=p:8;th:c,a=1"),
    ],
)
def test_the_modified_member_comes_first_and_the_others_stay(before, after):
    assert with_threshold(before, 0xC0000000000000) == after


def test_a_tracestate_has_32_members_at_most():
    full = ",".join(f"v{number}=1" for number in range(32))
    members = with_threshold(full, 0xC0000000000000).split(",")
    assert len(members) == 32
    assert members[0] == "ot=th:c"
    assert members[-1] == "v30=1"


def test_an_ot_member_that_would_become_too_long_stays():
    full = "ot=k:" + "x" * 250
    assert with_threshold(full, 0xC0000000000000) == full


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_share_never_has_a_lower_threshold(one, other):
    smaller, larger = sorted((one, other))
    assert threshold(smaller) >= threshold(larger)


@given(st.floats(2.0**-40, 1))
def test_what_is_written_is_read_back(probability):
    wanted = threshold(probability)
    assert stated(f"ot=th:{written(wanted)}").threshold == wanted

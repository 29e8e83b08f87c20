import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

MILLISECONDS = st.integers(0, 292 * 365 * 86_400_000)
BYTES = st.one_of(
    st.integers(0, 2**63 - 1),
    st.builds(lambda count, power: count << power, st.integers(0, 1000), st.sampled_from((10, 20, 30, 40))),
    st.builds(lambda count, power: count * 10**power, st.integers(0, 1000), st.sampled_from((3, 6, 9, 12))),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("1h30m", 5400.0),
        ("1d12h", 129600.0),
        ("1m500ms", 60.5),
        ("2w", 1209600.0),
        ("1y", 31536000.0),
        ("90m", 5400.0),
        ("007s", 7.0),
        ("0s", 0.0),
        ("0", 0.0),
    ],
)
def test_reads_durations_as_prometheus_writes_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; write a duration such as 15s"),
        ("15", "has no unit; write 15s if seconds are meant"),
        ("-5s", "is negative; write a duration such as 15s"),
        ("1.5h", "has a fraction; write 1h30m"),
        ("1.5", "has a fraction; write 1s500ms"),
        ("0.0001s", "has a fraction; write whole numbers such as 1h30m"),
        ("30m1h", "is not written as a duration is; write 1h30m"),
        ("1h1h", "is not written as a duration is; write 2h"),
        ("15 s", "is not written as a duration is; write 15s"),
        ("5min", "is not written as a duration is; write 5m"),
        ("3 days 2 hours", "is not written as a duration is; write 3d2h"),
        ("15S", "is not written as a duration is; write 15s"),
        ("1.5 hours", "has a fraction; write 1h30m"),
        ("3x", "has the unknown unit x; known are ms, s, m, h, d, w, y"),
        ("soon", "is not a duration; write one such as 500ms, 15s, 5m, 1h30m or 7d"),
        ("293y", "is longer than 292 years"),
        ("9" * 41 + "s", "is too long for a duration; write one such as 15s or 1h30m"),
        ("١s", "is not a duration; write one such as 500ms, 15s, 5m, 1h30m or 7d"),
    ],
)
def test_says_how_a_duration_is_written(text, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (15.0, "15s"),
        (90.0, "1m30s"),
        (5400.0, "1h30m"),
        (604800.0, "7d"),
        (1.001, "1s1ms"),
    ],
)
def test_writes_durations_in_days_and_smaller_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1.0, 0.0001, 1e-9])
def test_refuses_to_write_what_milliseconds_cannot_express(seconds):
    with pytest.raises(ValueError, match="not a whole number of milliseconds"):
        format_duration(seconds)


@given(MILLISECONDS)
def test_a_written_duration_reads_as_itself(milliseconds):
    text = format_duration(milliseconds / 1000)
    assert parse_duration(text) == milliseconds / 1000
    assert re.fullmatch(DURATION_PATTERN, text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_refusal(text):
    if re.fullmatch(DURATION_PATTERN, text):
        assert parse_duration(text) >= 0
    else:
        with pytest.raises(ValueError, match=r"; (write|known)"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0B", 0),
        ("512B", 512),
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1kB", 1000),
        ("1KB", 1000),
        ("512MiB", 536_870_912),
        ("1.5GiB", 1_610_612_736),
        ("2 TiB", 2_199_023_255_552),
        ("0.5KiB", 512),
    ],
)
def test_reads_decimal_and_binary_sizes(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; write a size such as 64MiB"),
        ("64", "has no unit; write 64B if bytes are meant, or a size such as 64MiB"),
        ("-1B", "is negative; write a size such as 64MiB"),
        ("64M", "has the unknown unit M; write 64MiB"),
        ("64Mi", "has the unknown unit Mi; write 64MiB"),
        ("64mb", "has the unknown unit mb; write 64MB"),
        ("64 bytes", "has the unknown unit bytes; write 64B"),
        ("5QB", "has the unknown unit QB; known are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        ("1.3B", "is not a whole number of bytes"),
        ("lots", "is not a size; write one such as 64KiB, 10MB or 512MiB"),
        ("8388608TiB", "is larger than 8388607TiB"),
        ("9" * 41, "is not a size; write one such as 64KiB, 10MB or 512MiB"),
    ],
)
def test_says_how_a_size_is_written(text, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1000, "1kB"),
        (1024, "1KiB"),
        (10_000_000, "10MB"),
        (100_663_296, "96MiB"),
        (1_610_612_736, "1536MiB"),
        (12_345_678, "12345678B"),
    ],
)
def test_writes_the_shortest_exact_size(size_bytes, text):
    assert format_size(size_bytes) == text


def test_refuses_to_write_a_negative_size():
    with pytest.raises(ValueError, match="-1 is negative"):
        format_size(-1)


@given(BYTES)
def test_a_written_size_reads_as_itself(size_bytes):
    text = format_size(size_bytes)
    assert parse_size(text) == size_bytes
    assert re.fullmatch(SIZE_PATTERN, text)


@given(st.text(max_size=12))
def test_any_other_text_is_refused_with_the_remedy(text):
    if not re.fullmatch(SIZE_PATTERN, text):
        with pytest.raises(ValueError, match=r"; (write|known)"):
            parse_size(text)

"""Lines that belong together: recorded tracebacks of each language, and the bounds."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.config.schema import Multiline
from novel_agent.processors.parse.multiline import Joined, Line, LineJoiner

TRACEBACKS = Path(__file__).parents[2] / "fixtures" / "tracebacks"
Preset = Literal["python", "java", "go", "node"]
PRESETS: tuple[Preset, ...] = ("python", "java", "go", "node")


def placed(lines: list[bytes]) -> list[Line]:
    """Lines with their offsets, as in a file with newlines."""
    place = 0
    result = []
    for line in lines:
        result.append(Line(line, place, place + len(line) + 1))
        place += len(line) + 1
    return result


def joined(settings: Multiline, lines: list[bytes]) -> list[Joined]:
    """What becomes of lines with nothing behind them."""
    joiner = LineJoiner(settings)
    return joiner.feed(placed(lines), 0.0) + joiner.flush(0.0, force=True)


def texts(settings: Multiline, lines: list[bytes]) -> list[bytes]:
    """Of the records."""
    return [each.text for each in joined(settings, lines)]


@pytest.mark.parametrize("preset", PRESETS)
def test_recorded_tracebacks_are_joined_as_a_person_cut_them(preset: Preset) -> None:
    """The files hold what interpreters printed, with `=====` where a record ends."""
    blocks = (TRACEBACKS / f"{preset}.log").read_bytes().split(b"=====\n")
    expected = [block.rstrip(b"\n") for block in blocks]
    lines = b"".join(blocks).split(b"\n")
    assert texts(Multiline(preset=preset), lines) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_ordinary_lines_are_records_of_their_own(preset: Preset) -> None:
    lines = [
        b"2024-05-01 12:00:00,000 INFO ready",
        b'INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200 OK',
        b"plain words: with a colon",
        b'{"json": true}',
        b"at the end of a day (or so)",
        b"[12] bracketed",
        b"}",
    ]
    assert texts(Multiline(preset=preset), lines) == lines


def test_a_text_of_several_lines_belongs_to_its_error_where_lines_of_the_log_are_told_apart() -> None:
    error = [b"Traceback (most recent call last):", b'  File "x.py", line 1, in f', b"ValueError: first", b"second"]
    logged = [b"2024-05-01 12:00:00 ERROR failed", *error]
    after = b"2024-05-01 12:00:01 INFO next"
    assert texts(Multiline(preset="python"), [*logged, after]) == [b"\n".join(logged), after]
    assert texts(Multiline(preset="python"), [*error, after]) == [b"\n".join(error[:3]), b"second", after]


def test_a_traceback_behind_a_blank_line_or_another_traceback_begins_a_record() -> None:
    error = [b"Traceback (most recent call last):", b'  File "x.py", line 1, in f', b"ValueError: x"]
    assert texts(Multiline(preset="python"), [b"INFO ready", b"", *error, *error]) == [
        b"INFO ready",
        b"\n".join(error),
        b"\n".join(error),
    ]


def test_a_traceback_that_was_cut_ends_at_the_next_line_of_the_log() -> None:
    lines = [b"Traceback (most recent call last):", b'  File "x.py", line 1, in f', b"2024-05-01 12:00:01 INFO next"]
    assert texts(Multiline(preset="python"), lines) == [b"\n".join(lines[:2]), lines[2]]


def test_a_pattern_begins_records() -> None:
    lines = [b"tail of an older record", b"more", b"2024-01-01 a", b"  b", b"", b"c", b"", b"2024-01-02 d"]
    assert joined(Multiline(start=r"\d{4}-\d\d"), lines) == [
        Joined(b"tail of an older record\nmore", 0, 29),
        Joined(b"2024-01-01 a\n  b\n\nc", 29, 49),
        Joined(b"2024-01-02 d", 50, 63),
    ]


def test_what_is_held_begins_at_its_first_line() -> None:
    joiner = LineJoiner(Multiline(start="A"))
    assert joiner.held_from is None
    lines = placed([b"A1", b"x", b"A2", b"y"])
    assert joiner.feed(lines[:2], 0.0) == []
    assert joiner.held_from == 0
    assert joiner.feed(lines[2:], 0.0) == [Joined(b"A1\nx", 0, 5)]
    assert joiner.held_from == 5
    assert joiner.flush(0.0, force=True) == [Joined(b"A2\ny", 5, 10)]
    assert joiner.held_from is None


def test_a_record_is_handed_on_when_nothing_has_followed_for_the_timeout() -> None:
    joiner = LineJoiner(Multiline(start="A", timeout_seconds=2.0))
    assert (joiner.deadline, joiner.due(1000.0)) == (None, False)
    lines = placed([b"A1", b"x"])
    joiner.feed(lines[:1], 10.0)
    joiner.feed(lines[1:], 11.5)
    assert joiner.deadline == 13.5
    assert not joiner.due(13.4)
    assert joiner.flush(13.4) == []
    assert joiner.due(13.5)
    assert joiner.flush(13.5) == [Joined(b"A1\nx", 0, 5)]
    assert joiner.deadline is None
    assert joiner.flush(99.0, force=True) == []


def test_what_has_too_many_lines_is_marked_and_goes_on_in_a_next_record() -> None:
    lines = [b"A", b"1", b"2", b"", b"3", b"4", b"A"]
    assert joined(Multiline(start="A", max_lines=3), lines) == [
        Joined(b"A\n1\n2", 0, 6, truncated=True),
        Joined(b"3\n4", 7, 11),
        Joined(b"A", 11, 13),
    ]


def test_what_has_too_many_bytes_is_marked_and_no_line_is_cut() -> None:
    lines = [b"A" * 600, b"b" * 423, b"c", b"d" * 2000, b"e"]
    assert joined(Multiline(start="A", max_bytes=1024), lines) == [
        Joined(b"A" * 600 + b"\n" + b"b" * 423, 0, 1025, truncated=True),
        Joined(b"c", 1025, 1027, truncated=True),
        Joined(b"d" * 2000, 1027, 3028, truncated=True),
        Joined(b"e", 3028, 3030),
    ]


def test_a_traceback_goes_on_as_one_in_the_next_record() -> None:
    lines = [b"Traceback (most recent call last):", *([b'  File "x.py", line 1, in f'] * 5), b"ValueError: x", b"after"]
    assert texts(Multiline(preset="python", max_lines=3), lines) == [
        b"\n".join(lines[:3]),
        b"\n".join(lines[3:6]),
        lines[6],
        lines[7],
    ]


_LINES = st.lists(
    st.one_of(
        st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
        st.sampled_from(
            [
                b"", b" ", b"Traceback (most recent call last):", b'  File "x"', b"ValueError: x", b"2024-01-01 INFO", b'"""',
                b"During handling of the above exception, another exception occurred:", b"\tat x.y(Z.java)",
                b"java.lang.Error: x",
                b"Caused by: x.YException", b"panic: x", b"goroutine 1 [running]:", b"main.main()", b"\t/x.go:1", b"Error: x",
                b"    at f (x:1:1) {", b"}", b"/x.js:1", b"   ^", b"  + Exception Group Traceback (most recent call last):",
            ]
        ),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    lines=_LINES,
    cut=st.integers(0, 40),
    how=st.sampled_from(
        [Multiline(preset=each, max_lines=4, max_bytes=64) for each in PRESETS] + [Multiline(start="[a-z]")]
    ),
)
def test_nothing_is_lost_or_torn_and_it_does_not_matter_how_lines_come(
    lines: list[bytes], cut: int, how: Multiline
) -> None:
    """What is not blank is in exactly one record, in its order, and records are as large as allowed, or one line."""
    at_once = joined(how, lines)
    joiner = LineJoiner(how)
    in_two = joiner.feed(placed(lines)[:cut], 0.0)
    in_two += joiner.feed(placed(lines)[cut:], 0.0) + joiner.flush(0.0, force=True)
    assert in_two == at_once
    held = [line for each in at_once for line in each.text.split(b"\n") if line]
    assert held == [line for line in lines if line and not line.isspace()]
    for each in at_once:
        assert each.text.count(b"\n") < how.max_lines
        assert len(each.text) <= how.max_bytes or b"\n" not in each.text
    assert all(before.end <= after.offset for before, after in pairwise(at_once))

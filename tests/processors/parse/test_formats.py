"""Which parser a source gets, and that no line makes a parser's work grow faster than the line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from novel_agent.config.schema import LogFormat, LogSource, Multiline
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.formats import make_joiner, make_parser
from novel_agent.processors.parse.record import LineError, LineParser

MAY_1_NOON = 1_714_564_800.0
NANOS = 1_000_000_000


def source(log_format: LogFormat, **options: object) -> LogSource:
    """A source of this format."""
    return LogSource(name="x", paths=(Path("/x"),), format=log_format, **options)  # type: ignore[arg-type]


def parser(log_format: LogFormat, **options: object) -> LineParser:
    """Of a source of this format, on 1 May 2024 at noon."""
    return make_parser(source(log_format, **options), lambda: MAY_1_NOON)


@pytest.mark.parametrize(
    ("log_format", "line", "seconds", "body"),
    [
        ("text", b"plain \xff", 0, "plain �"),
        ("json", b'{"time":"2024-05-01T12:00:00Z","msg":"x"}', 1_714_564_800, "x"),
        ("logfmt", b"time=2024-05-01T12:00:00Z msg=x", 1_714_564_800, "x"),
        ("combined", b'::1 - - [01/May/2024:12:00:00 +0000] "GET / HTTP/1.1" 200 1', 1_714_564_800, None),
        ("syslog", b"May  1 11:00:00 h a: x", 1_714_561_200, "x"),
        ("cri", b"2024-05-01T12:00:00.000000000Z stdout F x", 1_714_564_800, "x"),
        ("docker", b'{"log":"x\\n","stream":"stdout","time":"2024-05-01T12:00:00.000000000Z"}', 1_714_564_800, "x"),
    ],
)
def test_every_format_has_its_parser(log_format: LogFormat, line: bytes, seconds: int, body: str | None) -> None:
    record = parser(log_format).parse(line)
    assert (record.time_unix_nano, record.body) == (seconds * NANOS, body if body is not None else line.decode())


def test_a_pattern_is_that_of_the_source() -> None:
    assert parser("regex", pattern="(?P<a>x+)").parse(b"xxy").attributes == {"a": "xx"}


def test_times_without_a_zone_are_of_the_zone_of_the_source() -> None:
    zone = "Europe/Berlin"
    assert parser("syslog", timezone=zone).parse(b"May  1 11:00:00 h a: x").time_unix_nano == 1_714_554_000 * NANOS
    assert (
        parser("logfmt", timezone=zone).parse(b"time=2024-05-01T12:00:00 a=1").time_unix_nano == 1_714_557_600 * NANOS
    )


def test_a_format_of_time_is_that_of_the_source() -> None:
    record = parser("logfmt", time_format="%d.%m.%Y %H:%M").parse(b'time="01.05.2024 12:00" a=1')
    assert record.time_unix_nano == 1_714_564_800 * NANOS


def test_under_envelope_the_line_stays_the_body_without_attributes() -> None:
    record = parser("logfmt", attributes="envelope").parse(b"level=warn msg=x left=3")
    assert record == LogRecord(severity_number=13, severity_text="warn", body="level=warn msg=x left=3")


def test_only_what_is_joined_has_a_joiner() -> None:
    assert make_joiner(source("logfmt")) is None
    assert make_joiner(source("cri")) is not None
    assert make_joiner(source("docker")) is not None
    assert make_joiner(source("text", multiline=Multiline(preset="java"))) is not None


def steps(work: Callable[[], object]) -> float:
    """The processor time of the quickest of three runs, in seconds."""
    from time import process_time

    def once() -> float:
        start = process_time()
        work()
        return process_time() - start

    return min(once() for _ in range(3))


_CLF = b'::1 - - [01/May/2024:12:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-" '
HOSTILE: list[tuple[LogFormat, bytes, bytes]] = [
    ("combined", b"a b ", b"c [01/May/2024:12:00:00 +0000] "),
    ("combined", b"a b ", b' [01/May/2024:12:00:00 +0000] "'),
    ("combined", b'::1 - - [01/May/2024:12:00:00 +0000] "', b"\\"),
    ("combined", _CLF, b'"\\" '),
    ("combined", _CLF, b'"a"b '),
    ("combined", b'] "', b' - "" 200 '),
    ("combined", b'] "1:1 - "GET ', b'" 200'),
    ("combined", _CLF + b'"', b"1.1.1.1, "),
    ("combined", _CLF + b'"', b"f:"),
    ("logfmt", b"a=1 ", b'a="\\" '),
    ("logfmt", b"a=1 ", b'a="x'),
    ("logfmt", b'a="', b"\\\\"),
    ("logfmt", b"", b"a" * 64),
    ("syslog", b"<34>1 - - - - - ", b'[a b="c"'),
    ("syslog", b"<34>1 - - - - - [a", b' b="c'),
    ("syslog", b"<34>1 - - - - - [a", b' b="c"'),
    ("syslog", b"<34>1 - - - - - [a", b" "),
    ("syslog", b"May  1 11:00:00 ", b"a:"),
    ("syslog", b"<34>", b"a::"),
    ("cri", b"2024-05-01T12:00:00.000000000Z stdout ", b"P:"),
    ("docker", b'{"log":"', b'\\"'),
    ("docker", b"", b'{"log":'),
]


@pytest.mark.parametrize(("log_format", "start", "repeated"), HOSTILE)
def test_work_grows_with_the_line_and_no_faster(log_format: LogFormat, start: bytes, repeated: bytes) -> None:
    """Of 1 MiB, as against 64 KiB: 16 times the bytes; were it quadratic, it would be 256 times the work."""
    each = parser(log_format)

    def parse(size: int) -> Callable[[], None]:
        line = (start + repeated * (size // len(repeated)))[:size]

        def work() -> None:
            try:
                each.parse(line)
            except LineError:
                return

        return work

    small, large = steps(parse(1 << 16)), steps(parse(1 << 20))
    assert large <= 100 * max(small, 0.0005)


@pytest.mark.parametrize("preset", ["python", "java", "go", "node"])
@pytest.mark.parametrize(
    "repeated", [b"a", b"a.", b"a(", b" ", b"^", b"at ", b"Error", b"Error: ", b"0x", b"[", b"Caused by: "]
)
def test_joining_grows_with_the_line_and_no_faster(preset: str, repeated: bytes) -> None:
    joiner = make_joiner(source("text", multiline=Multiline(preset=preset)))  # type: ignore[arg-type]
    assert joiner is not None

    def feed(size: int) -> Callable[[], object]:
        line = (repeated * (size // len(repeated)), 0, size)
        return lambda: joiner.feed([line, line], 0.0)

    small, large = steps(feed(1 << 16)), steps(feed(1 << 20))
    assert large <= 100 * max(small, 0.0005)

"""Syslog: real lines of both RFCs and of files, and what becomes of them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.syslog import SyslogParser


def read_time(text: str) -> int:
    """RFC 3339, and in UTC what names no zone; microseconds are enough here."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000) * 1000


def at(text: str) -> int:
    """Nanoseconds since the epoch."""
    return read_time(text)


def parser(now: str = "2024-05-01T12:00:00+00:00") -> SyslogParser:
    """A parser whose clock stands."""
    seconds = datetime.fromisoformat(now).timestamp()
    return SyslogParser(read_time, lambda: seconds)


AUTH: Attributes = {"syslog.facility.code": 4, "syslog.facility.name": "auth"}
LINES: list[tuple[str, str, LogRecord]] = [
    (
        "RFC 5424, example 1",
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8",
        LogRecord(
            time_unix_nano=1_065_910_455_003_000_000,
            severity_number=18,
            severity_text="crit",
            body="'su root' failed for lonvick on /dev/pts/8",
            attributes={
                **AUTH,
                "syslog.version": 1,
                "syslog.hostname": "mymachine.example.com",
                "syslog.appname": "su",
                "syslog.msgid": "ID47",
            },
        ),
    ),
    (
        "RFC 5424, example 2: nothing but a text",
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        LogRecord(
            time_unix_nano=1_061_727_255_000_003_000,
            severity_number=10,
            severity_text="notice",
            body="%% It's time to make the do-nuts.",
            attributes={
                "syslog.facility.code": 20,
                "syslog.facility.name": "local4",
                "syslog.version": 1,
                "syslog.hostname": "192.0.2.1",
                "syslog.appname": "myproc",
                "syslog.procid": "8710",
            },
        ),
    ),
    (
        "RFC 5424, example 4: structured data alone",
        '<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application"]'
        '[examplePriority@32473 class="high"]',
        LogRecord(
            time_unix_nano=1_065_910_455_003_000_000,
            severity_number=10,
            severity_text="notice",
            body="",
            attributes={
                "syslog.facility.code": 20,
                "syslog.facility.name": "local4",
                "syslog.version": 1,
                "syslog.hostname": "h",
                "syslog.appname": "evntslog",
                "syslog.msgid": "ID47",
                "syslog.structured_data": {
                    "exampleSDID@32473": {"iut": "3", "eventSource": "Application"},
                    "examplePriority@32473": {"class": "high"},
                },
            },
        ),
    ),
    (
        "RFC 5424, escapes, a name that stands twice, an element without parameters",
        '<8>1 - - - - - [o ip="192.0.2.1" ip="192.0.2.129" x="a\\"b\\\\c\\]d\\e"][empty] [text] here',
        LogRecord(
            severity_number=21,
            severity_text="emerg",
            body="[text] here",
            attributes={
                "syslog.facility.code": 1,
                "syslog.facility.name": "user",
                "syslog.version": 1,
                "syslog.structured_data": {"o": {"ip": ["192.0.2.1", "192.0.2.129"], "x": 'a"b\\c]d\\e'}, "empty": {}},
            },
        ),
    ),
    (
        "RFC 5424, structured data that does not end is text",
        '<15>1 - - - - - [o ip="192.0.2.1',
        LogRecord(
            severity_number=5,
            severity_text="debug",
            body='[o ip="192.0.2.1',
            attributes={"syslog.facility.code": 1, "syslog.facility.name": "user", "syslog.version": 1},
        ),
    ),
    (
        "RFC 3164, example 1",
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        LogRecord(
            time_unix_nano=at("2023-10-11T22:14:15"),
            severity_number=18,
            severity_text="crit",
            body="'su root' failed for lonvick on /dev/pts/8",
            attributes={**AUTH, "syslog.hostname": "mymachine", "syslog.appname": "su"},
        ),
    ),
    (
        "RFC 3164, with the octets counted",
        "46 <13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
        LogRecord(
            time_unix_nano=at("2024-02-05T17:32:18"),
            severity_number=10,
            severity_text="notice",
            body="Use the BFG!",
            attributes={"syslog.facility.code": 1, "syslog.facility.name": "user", "syslog.hostname": "10.0.0.99"},
        ),
    ),
    (
        "RFC 3164, without a time",
        "<30>dnsmasq[12]: started",
        LogRecord(
            severity_number=9,
            severity_text="info",
            body="started",
            attributes={
                "syslog.facility.code": 3,
                "syslog.facility.name": "daemon",
                "syslog.appname": "dnsmasq",
                "syslog.procid": "12",
            },
        ),
    ),
    (
        "RFC 3164, of an application that names no host",
        "<14>May  1 11:59:59 api[77]: ready",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:59:59"),
            severity_number=9,
            severity_text="info",
            body="ready",
            attributes={
                "syslog.facility.code": 1,
                "syslog.facility.name": "user",
                "syslog.appname": "api",
                "syslog.procid": "77",
            },
        ),
    ),
    (
        "a file of Debian 11",
        "May  1 11:17:01 web1 CRON[4242]: (root) CMD (   cd / && run-parts --report /etc/cron.hourly)",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01"),
            body="(root) CMD (   cd / && run-parts --report /etc/cron.hourly)",
            attributes={"syslog.hostname": "web1", "syslog.appname": "CRON", "syslog.procid": "4242"},
        ),
    ),
    (
        "the kernel's",
        "May  1 11:17:01 web1 kernel: [    0.000000] Linux version 6.1.0",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01"),
            body="[    0.000000] Linux version 6.1.0",
            attributes={"syslog.hostname": "web1", "syslog.appname": "kernel"},
        ),
    ),
    (
        "a program with a path",
        "May  1 11:17:01 mx postfix/smtpd[99]: connect from unknown[203.0.113.9]",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01"),
            body="connect from unknown[203.0.113.9]",
            attributes={"syslog.hostname": "mx", "syslog.appname": "postfix/smtpd", "syslog.procid": "99"},
        ),
    ),
    (
        "what a daemon says of itself",
        "May  1 11:17:01 web1 last message repeated 2 times",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01"),
            body="last message repeated 2 times",
            attributes={"syslog.hostname": "web1"},
        ),
    ),
    (
        "rsyslog's file format",
        "2024-05-01T13:17:01.123456+02:00 web1 sshd[812]: Failed password for root from 203.0.113.9 port 22 ssh2",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01.123456"),
            body="Failed password for root from 203.0.113.9 port 22 ssh2",
            attributes={"syslog.hostname": "web1", "syslog.appname": "sshd", "syslog.procid": "812"},
        ),
    ),
    (
        "a year, as Cisco writes it",
        "<189>May  1 2019 11:17:01.5: %LINK-3-UPDOWN: down",
        LogRecord(
            time_unix_nano=at("2019-05-01T11:17:01.5"),
            severity_number=10,
            severity_text="notice",
            body="down",
            attributes={
                "syslog.facility.code": 23,
                "syslog.facility.name": "local7",
                "syslog.appname": "%LINK-3-UPDOWN",
            },
        ),
    ),
    (
        "a priority that is none",
        "May  1 11:17:01 web1 app: <999> x",
        LogRecord(
            time_unix_nano=at("2024-05-01T11:17:01"),
            body="<999> x",
            attributes={"syslog.hostname": "web1", "syslog.appname": "app"},
        ),
    ),
]


@pytest.mark.parametrize(("line", "record"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_what_becomes_of_a_line(line: str, record: LogRecord) -> None:
    assert parser().parse(line.encode()) == record


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not syslog"),
        ("just text", "not syslog"),
        ("<192>May  1 11:17:01 h a: x", "not syslog"),
        ("Foo  1 11:17:01 h a: x", "not syslog"),
        ("<13>Feb 30 11:17:01 h a: x", "no valid time"),
        ("<13>May  1 25:17:01 h a: x", "no valid time"),
        ("2024-13-01T13:17:01Z web1 sshd[812]: x", "no valid time"),
        ("<34>1 2003-10-11T22:14:75.003Z h su - ID47 - x", "no valid time"),
    ],
)
def test_what_is_not_syslog(line: str, reason: str) -> None:
    with pytest.raises(LineError) as error:
        parser().parse(line.encode())
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("now", "written", "meant"),
    [
        ("2024-01-01T00:00:05+00:00", "Dec 31 23:59:59", "2023-12-31T23:59:59"),
        ("2023-12-31T23:59:59+00:00", "Jan  1 00:00:01", "2024-01-01T00:00:01"),
        ("2023-12-31T23:59:59+00:00", "Dec 31 23:59:58", "2023-12-31T23:59:58"),
        ("2024-05-01T12:00:00+00:00", "May  2 11:59:59", "2024-05-02T11:59:59"),
        ("2024-05-01T12:00:00+00:00", "May  2 12:00:01", "2023-05-02T12:00:01"),
        ("2025-03-01T00:00:00+00:00", "Feb 29 10:00:00", "2024-02-29T10:00:00"),
        ("2024-02-29T12:00:00+00:00", "Feb 29 10:00:00", "2024-02-29T10:00:00"),
        ("2103-01-01T12:00:00+00:00", "Feb 29 10:00:00", "2096-02-29T10:00:00"),
    ],
)
def test_a_year_that_is_not_written_is_the_latest_that_is_not_ahead(now: str, written: str, meant: str) -> None:
    assert parser(now).parse(f"{written} h a: x".encode()).time_unix_nano == at(meant)


_PIECES = st.sampled_from(
    [
        b"<34>", b"1 ", b"- ", b"2003-10-11T22:14:15.003Z ", b"Oct 11 22:14:15 ", b"host ", b"su[1]: ", b"[a ", b'b="', b'"',
        b"\\", b"]",
        b" ", b"\xff", b"\xef\xbb\xbf", b"x", b":",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(line=st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=30).map(b"".join)))
def test_any_bytes_are_a_record_or_a_line_error(line: bytes) -> None:
    try:
        record = parser().parse(line)
    except LineError:
        return
    assert len(str(record.body)) + sum(len(str(value)) for value in record.attributes.values()) <= 6 * len(line) + 100

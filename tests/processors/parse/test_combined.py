"""Access logs: real lines, and what becomes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.model.value import Attributes
from novel_agent.processors.parse.combined import CombinedParser
from novel_agent.processors.parse.record import LineError

APACHE_TIME = 971_211_336_000_000_000
"""10 October 2000, 20:55:36 UTC."""


def read_time(text: str) -> int:
    """A source's own times: one is known here."""
    if text == "2024-05-01T12:00:00+02:00":
        return 1_714_557_600_000_000_000
    if text == "2024-05-01 12:00:00,123":
        return 1_714_564_800_123_000_000
    raise ValueError(text)


LINES: list[tuple[str, str, int, int, Attributes]] = [
    (
        "common, as Apache documents it",
        '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326',
        APACHE_TIME,
        9,
        {
            "client.address": "127.0.0.1",
            "user.name": "frank",
            "http.request.method": "GET",
            "network.protocol.version": "1.0",
            "url.path": "/apache_pb.gif",
            "http.response.status_code": 200,
            "http.response.body.size": 2326,
        },
    ),
    (
        "combined, of nginx, from IPv6 over HTTP/2",
        '2001:db8::1 - - [01/Jan/2024:00:00:00 +0530] "POST /api/v1/stories?draft=1&x=%27%20OR%201 HTTP/2.0" 404 0 '
        '"https://www.example.org/" "Mozilla/5.0 (X11; Linux x86_64)"',
        1_704_047_400_000_000_000,
        13,
        {
            "client.address": "2001:db8::1",
            "http.request.method": "POST",
            "network.protocol.version": "2",
            "url.path": "/api/v1/stories",
            "url.query": "draft=1&x=%27%20OR%201",
            "http.response.status_code": 404,
            "http.response.body.size": 0,
            "http.request.header.referer": ["https://www.example.org/"],
            "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)",
        },
    ),
    (
        "a user with blanks, nothing sent, no referer",
        'db7.example.org ident John Q. Public [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 304 - "-" "-"',
        APACHE_TIME,
        9,
        {
            "client.address": "db7.example.org",
            "user.name": "John Q. Public",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 304,
        },
    ),
    (
        "quotes escaped by Apache",
        '192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "GET /a\\"b\\\\c HTTP/1.1" 500 12 "-" "say \\"hi\\" \\ttab"',
        APACHE_TIME,
        17,
        {
            "client.address": "192.0.2.7",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": '/a"b\\c',
            "http.response.status_code": 500,
            "http.response.body.size": 12,
            "user_agent.original": 'say "hi" \ttab',
        },
    ),
    (
        "bytes escaped by nginx",
        '192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "GET /caf\\xC3\\xA9?q=\\x22\\xFF HTTP/1.1" 200 1 "-" "-"',
        APACHE_TIME,
        9,
        {
            "client.address": "192.0.2.7",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/café",
            "url.query": 'q="�',
            "http.response.status_code": 200,
            "http.response.body.size": 1,
        },
    ),
    (
        "a TLS handshake on a port without TLS",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "\\x16\\x03\\x01\\x02\\x00\\x01\\x00 \\xFC\\x03" 400 157 "-" "-"',
        APACHE_TIME,
        13,
        {
            "client.address": "198.51.100.3",
            "http.request.line": "\\x16\\x03\\x01\\x02\\x00\\x01\\x00 \\xFC\\x03",
            "http.response.status_code": 400,
            "http.response.body.size": 157,
        },
    ),
    (
        "no request at all",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "-" 408 - "-" "-"',
        APACHE_TIME,
        13,
        {"client.address": "198.51.100.3", "http.response.status_code": 408},
    ),
    (
        "an empty request",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "" 400 0 "-" "-"',
        APACHE_TIME,
        13,
        {"client.address": "198.51.100.3", "http.response.status_code": 400, "http.response.body.size": 0},
    ),
    (
        "a request of one word",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "GET" 400 0',
        APACHE_TIME,
        13,
        {
            "client.address": "198.51.100.3",
            "http.request.method": "GET",
            "http.response.status_code": 400,
            "http.response.body.size": 0,
        },
    ),
    (
        "one word that is no method",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "quit" 400 0',
        APACHE_TIME,
        13,
        {
            "client.address": "198.51.100.3",
            "http.request.line": "quit",
            "http.response.status_code": 400,
            "http.response.body.size": 0,
        },
    ),
    (
        "HTTP/0.9, in two words",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "GET /old" 200 5',
        APACHE_TIME,
        9,
        {
            "client.address": "198.51.100.3",
            "http.request.method": "GET",
            "url.path": "/old",
            "http.response.status_code": 200,
            "http.response.body.size": 5,
        },
    ),
    (
        "a target with blanks",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "GET /a b?c d HTTP/1.1" 200 5',
        APACHE_TIME,
        9,
        {
            "client.address": "198.51.100.3",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/a b",
            "url.query": "c d",
            "http.response.status_code": 200,
            "http.response.body.size": 5,
        },
    ),
    (
        "a method of WebDAV, and a target for a proxy",
        '198.51.100.3 - - [10/Oct/2000:13:55:36 -0700] "PROPFIND http://example.org/dav?x=1 HTTP/1.1" 405 5',
        APACHE_TIME,
        13,
        {
            "client.address": "198.51.100.3",
            "http.request.method": "_OTHER",
            "http.request.method_original": "PROPFIND",
            "network.protocol.version": "1.1",
            "url.full": "http://example.org/dav?x=1",
            "url.path": "/dav",
            "url.query": "x=1",
            "http.response.status_code": 405,
            "http.response.body.size": 5,
        },
    ),
    (
        "nginx's format main, with X-Forwarded-For",
        '172.17.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 612 "-" "curl/7.64.0" "203.0.113.9, 10.0.0.1"',
        APACHE_TIME,
        9,
        {
            "client.address": "172.17.0.1",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 200,
            "http.response.body.size": 612,
            "user_agent.original": "curl/7.64.0",
            "http.request.header.x-forwarded-for": ["203.0.113.9, 10.0.0.1"],
        },
    ),
    (
        "the same without one",
        '172.17.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 612 "-" "curl/7.64.0" "-"',
        APACHE_TIME,
        9,
        {
            "client.address": "172.17.0.1",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 200,
            "http.response.body.size": 612,
            "user_agent.original": "curl/7.64.0",
        },
    ),
    (
        "more fields, of ingress-nginx",
        '172.17.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 612 "-" "curl/7.64.0" 82 0.004 [default-web-80] [] '
        '10.1.2.3:8080 612 0.003 "a \\"b\\""',
        APACHE_TIME,
        9,
        {
            "client.address": "172.17.0.1",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 200,
            "http.response.body.size": 612,
            "user_agent.original": "curl/7.64.0",
            "http.access_log.fields": [
                "82",
                "0.004",
                "[default-web-80]",
                "[]",
                "10.1.2.3:8080",
                "612",
                "0.003",
                'a "b"',
            ],
        },
    ),
    (
        "a virtual host in front, of Apache's vhost_combined",
        'www.example.org:443 203.0.113.9 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 612 "-" "curl/7.64.0"',
        APACHE_TIME,
        9,
        {
            "client.address": "203.0.113.9",
            "server.address": "www.example.org",
            "server.port": 443,
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 200,
            "http.response.body.size": 612,
            "user_agent.original": "curl/7.64.0",
        },
    ),
    (
        "a time in ISO 8601",
        '127.0.0.1 - - [2024-05-01T12:00:00+02:00] "GET / HTTP/1.1" 200 1',
        1_714_557_600_000_000_000,
        9,
        {
            "client.address": "127.0.0.1",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 200,
            "http.response.body.size": 1,
        },
    ),
    (
        "what looks like a request in the name of a user",
        '127.0.0.1 - x [10/Oct/2000:13:55:36 -0700] y [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 401 1',
        APACHE_TIME,
        13,
        {
            "client.address": "127.0.0.1",
            "user.name": "x [10/Oct/2000:13:55:36 -0700] y",
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/",
            "http.response.status_code": 401,
            "http.response.body.size": 1,
        },
    ),
    (
        "uvicorn",
        'INFO:     127.0.0.1:54321 - "GET /x HTTP/1.1" 200 OK',
        0,
        9,
        {
            "client.address": "127.0.0.1",
            "client.port": 54321,
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/x",
            "http.response.status_code": 200,
        },
    ),
    (
        "uvicorn, with a time and a logger in front, from IPv6",
        '2024-05-01 12:00:00,123 - uvicorn.access - INFO - ::1:54321 - "GET /x?a="b" HTTP/1.1" 500',
        1_714_564_800_123_000_000,
        17,
        {
            "client.address": "::1",
            "client.port": 54321,
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/x",
            "url.query": 'a="b"',
            "http.response.status_code": 500,
        },
    ),
    (
        "uvicorn on a Unix socket, below gunicorn",
        '[10/Oct/2000:13:55:36 -0700] [INFO]  - "GET /x HTTP/1.1" 422 Unprocessable Entity',
        APACHE_TIME,
        13,
        {
            "http.request.method": "GET",
            "network.protocol.version": "1.1",
            "url.path": "/x",
            "http.response.status_code": 422,
        },
    ),
]


@pytest.mark.parametrize(
    ("line", "time", "severity", "attributes"), [row[1:] for row in LINES], ids=[row[0] for row in LINES]
)
def test_what_becomes_of_a_line(line: str, time: int, severity: int, attributes: Attributes) -> None:
    record = CombinedParser(read_time).parse(line.encode())
    assert record.attributes == attributes
    assert (record.time_unix_nano, record.severity_number, record.severity_text) == (time, severity, "")
    assert record.body == line


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not an access log line"),
        (b"2024/05/01 12:00:00 [error] 29#29: *1 open() failed", "not an access log line"),
        (b'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1', "not an access log line"),
        (b'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 20 1', "not an access log line"),
        (b'INFO:     127.0.0.1:543210 - "GET /x HTTP/1.1" 200 OK', "not an access log line"),
        (b'INFO:     Uvicorn running - "x" y', "not an access log line"),
        (b'127.0.0.1 - - [32/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1', "no valid time"),
        (b'127.0.0.1 - - [10/Oct/2000:24:55:36 -0700] "GET / HTTP/1.1" 200 1', "no valid time"),
        (b'127.0.0.1 - - [10/Okt/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1', "no valid time"),
    ],
)
def test_what_is_no_line_of_an_access_log(line: bytes, reason: str) -> None:
    with pytest.raises(LineError) as error:
        CombinedParser(read_time).parse(line)
    assert error.value.reason == reason


def test_what_is_not_utf_8_is_replaced() -> None:
    record = CombinedParser(read_time).parse(
        b'127.0.0.1 - \xff [10/Oct/2000:13:55:36 -0700] "GET /\xfe HTTP/1.1" 200 1'
    )
    assert (record.attributes["user.name"], record.attributes["url.path"]) == ("�", "/�")


def test_a_time_after_an_invalid_one_is_read() -> None:
    parser = CombinedParser(read_time)
    for time, expected in (
        ("10/Oct/2000:13:55:36 -0700", APACHE_TIME),
        ("x", None),
        ("10/Oct/2000:13:55:37 -0700", APACHE_TIME + 1_000_000_000),
    ):
        line = f'127.0.0.1 - - [{time.ljust(10)}] "GET / HTTP/1.1" 200 1'.encode()
        if expected is None:
            with pytest.raises(LineError):
                parser.parse(line)
        else:
            assert parser.parse(line).time_unix_nano == expected


def test_of_many_further_fields_the_first_64_are_kept() -> None:
    line = b'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1' + b" 7" * 100_000
    assert CombinedParser(read_time).parse(line).attributes["http.access_log.fields"] == ["7"] * 64


_PIECES = st.sampled_from(
    [
        b"127.0.0.1", b" ", b"-", b" - - [10/Oct/2000:13:55:36 -0700] \"", b"GET / HTTP/1.1",
        b'"', b'" 200 ', b"\\", b"\\x", b"\\\"",
        b"12", b' "-" "', b"\xff", b":1", b' - "', b"http://", b"?", b"[", b"]",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(line=st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=30).map(b"".join)))
def test_any_bytes_are_a_record_or_a_line_error(line: bytes) -> None:
    try:
        record = CombinedParser(read_time).parse(line)
    except LineError:
        return
    held = sum(len(name) + len(str(value)) for name, value in record.attributes.items())
    assert held <= 9 * len(line) + 600

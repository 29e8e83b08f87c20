"""Logfmt: real lines, and what becomes of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.config.schema import LogKeys
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.logfmt import LogfmtParser
from novel_agent.processors.parse.record import LineError


def read_time(text: str) -> int:
    """One time is known here."""
    if text == "2024-05-01T12:00:00Z":
        return 1_714_564_800_000_000_000
    raise ValueError(text)


def severity_number(text: str) -> int:
    """Two severities are known here."""
    return {"info": 9, "error": 17}.get(text, 0)


def parser(keys: LogKeys | None = None) -> LogfmtParser:
    """A parser by the default keys."""
    return LogfmtParser(FieldReader(keys or LogKeys(), read_time, severity_number))


NOON = 1_714_564_800_000_000_000
LINES: list[tuple[str, str, LogRecord]] = [
    (
        "of Go's slog",
        'time=2024-05-01T12:00:00Z level=info msg="request finished" path=/stories/1?a=b status=200 user="" empty=',
        LogRecord(
            time_unix_nano=NOON,
            severity_number=9,
            severity_text="info",
            body="request finished",
            attributes={"path": "/stories/1?a=b", "status": "200", "user": "", "empty": ""},
        ),
    ),
    (
        "of Heroku's router, with dots, ids and a key alone",
        "at=info method=GET path=/ host=app.example.org fwd=203.0.113.9 dyno=web.1 connect=0ms tls",
        LogRecord(
            body="at=info method=GET path=/ host=app.example.org fwd=203.0.113.9 dyno=web.1 connect=0ms tls",
            attributes={
                "at": "info",
                "method": "GET",
                "path": "/",
                "host": "app.example.org",
                "fwd": "203.0.113.9",
                "dyno": "web.1",
                "connect": "0ms",
                "tls": True,
            },
        ),
    ),
    (
        "escapes of JSON and of Go",
        r'msg="say \"hi\"\n\u00e9\ud83d\ude00" go="a\x41\a" windows="C:\Users" slash="\\"',
        LogRecord(
            body='say "hi"\né😀',
            attributes={"go": "aA\a", "windows": "C:\\Users", "slash": "\\"},
        ),
    ),
    ("of a key that stands twice the last counts", "a=1 a=2 a=3", LogRecord(body="a=1 a=2 a=3", attributes={"a": "3"})),
    (
        "ids go to their fields",
        "level=error trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 x=1",
        LogRecord(
            severity_number=17,
            severity_text="error",
            body="level=error trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 x=1",
            trace_id=bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
            span_id=bytes.fromhex("b7ad6b7169203331"),
            attributes={"x": "1"},
        ),
    ),
    (
        "ids that are none stay",
        "msg=x trace_id=0af7 span_id=0000000000000000",
        LogRecord(body="x", attributes={"trace_id": "0af7", "span_id": "0000000000000000"}),
    ),
    ("a time that is none stays", "time=soon msg=x", LogRecord(body="x", attributes={"time": "soon"})),
    ("a severity that is none has no number", "lvl=spooky msg=x", LogRecord(severity_text="spooky", body="x")),
    (
        "the first of the keys counts, wherever it stands",
        "msg=second message=first",
        LogRecord(body="first", attributes={"msg": "second"}),
    ),
    ("a key alone is no part", "level msg=x", LogRecord(body="x", attributes={"level": True})),
    ("an equals sign and a quote in a value", 'a=b=c"d', LogRecord(body='a=b=c"d', attributes={"a": 'b=c"d'})),
    ("blanks around", "  a=1 \t b=2  ", LogRecord(body="  a=1 \t b=2  ", attributes={"a": "1", "b": "2"})),
    (
        "blanks beyond ASCII are text",
        "a=1\u00a02 é=ü",
        LogRecord(body="a=1\u00a02 é=ü", attributes={"a": "1\u00a02", "é": "ü"}),
    ),
    (
        "lines that were joined",
        'msg="first\nsecond"\n  at=x',
        LogRecord(body="first\nsecond", attributes={"at": "x"}),
    ),
]


@pytest.mark.parametrize(("line", "record"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_what_becomes_of_a_line(line: str, record: LogRecord) -> None:
    assert parser().parse(line.encode()) == record


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "Something went wrong",
        'a="unfinished',
        'a="x"y b=1',
        '="x"',
        "=x",
        "a=1 =",
        '"a"=1',
        'a"b=1',
        'a=1 "text"',
        'a="x" "',
    ],
)
def test_what_is_not_logfmt(line: str) -> None:
    with pytest.raises(LineError) as error:
        parser().parse(line.encode())
    assert error.value.reason == "not logfmt"


def test_keys_are_those_of_the_source() -> None:
    keys = LogKeys(time=("when",), severity=("how",), body=("what",), trace_id=(), span_id=())
    record = parser(keys).parse(
        b"when=2024-05-01T12:00:00Z how=info what=done msg=other trace_id=0af7651916cd43dd8448eb211c80319c"
    )
    assert (record.time_unix_nano, record.severity_number, record.body) == (NOON, 9, "done")
    assert record.attributes == {"msg": "other", "trace_id": "0af7651916cd43dd8448eb211c80319c"}


_KEYS = st.text(st.characters(min_codepoint=33, exclude_characters='="', exclude_categories=("Cs", "Cc")), min_size=1)
_VALUES = st.text(st.characters(exclude_categories=("Cs",)))


@settings(max_examples=200, deadline=None)
@given(fields=st.dictionaries(_KEYS, _VALUES, min_size=1))
def test_what_is_written_as_logfmt_is_read_back(fields: dict[str, str]) -> None:
    line = b" ".join(key.encode() + b"=" + msgspec.json.encode(value) for key, value in fields.items())
    no_parts = LogKeys(time=(), severity=(), body=(), trace_id=(), span_id=())
    assert parser(no_parts).parse(line).attributes == fields


_PIECES = st.sampled_from(["a", "b=", "=", " ", '"', "\\", '\\"', "x", "\n", "\x1c", "\x01", 'k="v" ', "é", "\u00a0"])


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(_PIECES, max_size=25))
def test_simple_lines_are_read_as_all_others(pieces: list[str]) -> None:
    """A line of ASCII takes the short way, where it is simple; with an é in the last value it takes the long one."""
    line = "".join(pieces) + " last=1"
    try:
        short = parser().parse(line.encode()).attributes
    except LineError:
        short = None
    try:
        long = parser().parse(line.encode() + "é".encode()).attributes
    except LineError:
        assert short is None
        return
    assert short is not None
    assert short == {**long, "last": str(long["last"]).removesuffix("é")} or not line.endswith(" last=1")


@settings(max_examples=300, deadline=None)
@given(
    line=st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode()))
)
def test_any_bytes_are_a_record_or_a_line_error(line: bytes) -> None:
    try:
        record = parser().parse(line)
    except LineError:
        return
    assert sum(len(key) + len(str(value)) for key, value in record.attributes.items()) <= 4 * len(line)

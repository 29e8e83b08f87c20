"""Every way through the encoder gives the records that a plain reading of the lines gives."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from novel_agent.config.schema import LogKeys
from novel_agent.model.lines import Chunk, LogFile
from novel_agent.processors.parse.encoder import Counts, JsonWays, LineEncoder, lines_of
from novel_agent.processors.parse.json_record import JsonRecordParser
from novel_agent.processors.parse.record_bytes import RecordWriter
from novel_agent.processors.parse.timestamps import make_read_time

FILE = LogFile("/var/log/app.log", "0123456789abcdef")
OBSERVED = 1764000000_000000000
OWN = ("log.file.path", "log.file.name", "log.record.uid", "log.parse_error", "log.truncated")


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind is None:
        return ("null",)
    if kind == "array_value":
        return ("list", tuple(value(each) for each in any_value.array_value.values))
    if kind == "kvlist_value":
        pairs = [(each.key, value(each.value)) for each in any_value.kvlist_value.values]
        assert len(dict(pairs)) == len(pairs)
        return ("object", tuple(sorted(pairs)))
    found = getattr(any_value, kind)
    return (kind, repr(found))


def decoded(raw):
    logs = ScopeLogs()
    logs.ParseFromString(raw)
    out = []
    for r in logs.log_records:
        pairs = [(each.key, value(each.value)) for each in r.attributes]
        assert len(dict(pairs)) == len(pairs), "an attribute twice"
        out.append(
            (
                r.time_unix_nano,
                r.observed_time_unix_nano,
                r.severity_number,
                r.severity_text,
                value(r.body),
                dict(pairs),
                r.trace_id,
                r.span_id,
            )
        )
    return out


class Ways:
    def __init__(self, envelope=False, learns=True):
        read = make_read_time()
        self.counts = Counts()
        self.json = JsonWays(LogKeys(), read, envelope=envelope)
        if not learns:
            self.json.fast._learn = lambda *a, **k: None
        self.encoder = LineEncoder(
            FILE, JsonRecordParser(LogKeys(), read, envelope=envelope), self.counts, RecordWriter(), self.json
        )

    def encode(self, chunk):
        found = self.encoder.encode(chunk, OBSERVED)
        records = decoded(found.records)
        assert len(records) == found.items
        assert found.end == chunk.end
        return records

    def plain(self, chunk):
        records = self.encoder.records(lines_of(chunk, self.counts), OBSERVED)
        return decoded(RecordWriter()(records))


# an independent reading, by the standard library
def json_value(v):
    if v is None:
        return None
    if isinstance(v, bool):
        return ("bool_value", repr(v))
    if isinstance(v, int):
        if -(2**63) <= v < 2**63:
            return ("int_value", repr(v))
        return ("double_value", repr(float(v)))
    if isinstance(v, float):
        return ("double_value", repr(v))
    if isinstance(v, str):
        return ("string_value", repr(v))
    if isinstance(v, list):
        return ("list", tuple(json_value(x) or ("null",) for x in v))
    return ("object", tuple(sorted((k, json_value(x)) for k, x in v.items() if x is not None)))


def check_simple(record, line, offset):
    """Lines whose parts are as usual."""
    found = json.loads(line)
    time, observed, number, text, body, attributes, trace, span = record
    when = datetime.fromisoformat(found.pop("timestamp"))
    assert time == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert observed == OBSERVED
    assert text == found.pop("level")
    assert number == {"info": 9, "error": 17}[text]
    assert body == ("string_value", repr(found.pop("message")))
    assert trace.hex() == found.pop("trace_id").lower()
    assert span.hex() == found.pop("span_id").lower()
    expected = {k: json_value(v) for k, v in found.items() if v is not None and k not in OWN}
    expected["log.file.path"] = ("string_value", "'/var/log/app.log'")
    expected["log.file.name"] = ("string_value", "'app.log'")
    expected["log.record.uid"] = ("string_value", f"'0123456789abcdef-{offset}'")
    assert attributes == expected


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalar = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
nested = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=5
)
weird_keys = (
    st.sampled_from(
        [
            "f0",
            "__class__",
            "a b",
            "ключ",
            'q"',
            "n\n",
            "\u2028",
            "",
            "log.file.path",
            "__proto__",
            "r",
            "level",
            "x" * 300,
        ]
    )
    | text
)


def hexes(n):
    return st.integers(1, 16**n - 1).map(lambda x: f"%0{n}x" % x)


stamps = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(
    lambda d: d.replace(tzinfo=UTC).isoformat(timespec="microseconds")
)
near = st.integers(0, 3_000_000).map(
    lambda n: (datetime(2026, 11, 23, 3, tzinfo=UTC) + timedelta(microseconds=n)).isoformat(timespec="microseconds")
)


@st.composite
def applications(draw):
    """Lines of an application: the same keys, values of the same kinds mostly, optional keys."""
    keys = draw(st.lists(weird_keys, max_size=6, unique=True))
    kinds = {
        k: draw(
            st.sampled_from(["text", "int", "float", "const", "nested", "constnested", "any", "bool", "opt", "object"])
        )
        for k in keys
        if k not in ("timestamp", "level", "message", "trace_id", "span_id")
    }
    const = {k: draw(scalar) for k in kinds}
    constn = {k: draw(st.dictionaries(text, nested, max_size=3)) for k in kinds}
    names = {k: draw(st.lists(text, max_size=3, unique=True)) for k in kinds}
    count = draw(st.integers(1, 20))
    out = []
    for _ in range(count):
        line = {
            "timestamp": draw(near | near | stamps),
            "level": draw(st.sampled_from(["info", "error"])),
            "message": draw(text),
            "trace_id": draw(hexes(32)),
            "span_id": draw(hexes(16)),
        }
        for k, kind in kinds.items():
            if kind == "opt":
                if draw(st.booleans()):
                    line[k] = draw(scalar)
            else:
                line[k] = draw(
                    {
                        "text": text,
                        "int": st.integers(-(2**63), 2**63 - 1),
                        "float": st.floats(allow_nan=False, allow_infinity=False),
                        "const": st.just(const[k]),
                        "nested": nested,
                        "constnested": st.just(constn[k]),
                        "any": scalar,
                        "bool": st.booleans(),
                        "object": st.fixed_dictionaries(dict.fromkeys(names[k], text)),
                    }[kind]
                )
        out.append(line)
    return out


def dump(line, ascii_):
    return json.dumps(line, ensure_ascii=ascii_).encode()


S = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@S
@given(st.lists(applications(), min_size=1, max_size=3), st.booleans(), st.integers(0, 2))
def test_applications(batches, ascii_, digits):
    ways, general = Ways(), Ways(learns=False)
    offset = (0, 95, 999)[digits]
    for _ in range(2):
        for batch in batches:
            lines = [dump(line, ascii_) for line in batch]
            data = b"".join(line + b"\n" for line in lines)
            chunk = Chunk(data, offset, offset + len(data))
            fast = ways.encode(chunk)
            plain = ways.plain(chunk)
            assert fast == plain
            assert general.encode(chunk) == plain
            place = offset
            for line, record in zip(lines, fast, strict=False):
                check_simple(record, line, place)
                place += len(line) + 1
            offset = chunk.end


part_values = {
    "timestamp": stamps
    | near
    | st.sampled_from(
        [
            "",
            "nothing",
            "2026-11-23",
            "1764000000",
            1764000000,
            1764000000.25,
            1764000000123,
            "2026-11-23T03:00:00Z",
            "2026-11-23T03:00:00.123Z",
            "2026-11-23T03:00:00.123456789Z",
            "2026-11-23T03:00:00.1234567891+00",
            "2026-11-23T03:00:60.000000+00:00",
            "2026-11-23 03:00:00,123",
            "2026-11-23T03:00:00.12_456+00:00",
            "2026-11-23T03:00:00.+12345+00:00",
            "2026-11-23T03:00:00.12345٣+00:00",
            "1970-01-01T00:00:00.000000+00:00",
            "2554-12-31T23:59:59.999999Z",
            "2026-W48-1T03:00:00.123456+00:00",
            "2026-13-45T03:00:00.123456+00:00",
        ]
    )
    | nested,
    "time": near | nested,
    "level": st.sampled_from(["info", "ERROR", " warn ", "", 30, 30.0, 10, 17, True, "x" * 70]) | nested,
    "message": text | nested,
    "msg": text | nested,
    "trace_id": hexes(32)
    | st.sampled_from(["", "0" * 32, "A" * 32, "g" * 32, "a" * 31, " " * 32, "ab " * 10 + "ab", "١" * 32])
    | nested,
    "traceId": hexes(32) | nested,
    "span_id": hexes(16) | st.sampled_from(["", "0" * 16, "F" * 16, "a" * 15, "a b " * 4]) | nested,
    "x": nested,
    "y": text,
    "n": st.integers(-(2**70), 2**70),
    "d": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5),
    "o": st.fixed_dictionaries({"p": text}, optional={"q": nested}) | nested,
}
wild = st.fixed_dictionaries({}, optional=part_values) | st.dictionaries(weird_keys, nested, max_size=5)


@S
@given(
    st.lists(st.lists(st.tuples(wild, st.integers(1, 4)), min_size=1, max_size=8), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_wild(batches, ascii_, envelope):
    ways, general = Ways(envelope), Ways(envelope, learns=False)
    offset = 0
    for _ in range(2):
        for batch in batches:
            data = b"".join((dump(line, ascii_) + b"\n") * times for line, times in batch)
            chunk = Chunk(data, offset, offset + len(data))
            plain = ways.plain(chunk)
            assert ways.encode(chunk) == plain
            assert general.encode(chunk) == plain
            offset = chunk.end


usual = {"timestamp": "2026-11-23T03:00:00.000001+00:00", "level": "info", "message": "m", "a": {"b": "c"}, "n": 1}
raw_line = st.sampled_from(
    [
        dump(usual, True),
        dump({**usual, "n": 2, "a": {"b": "é"}}, False),
        b"",
        b" ",
        b"\t",
        b"{",
        b"}",
        b"{}",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b'{"a":1}{"a":2}',
        b'{"a":1} {"a":2}',
        b'{"a":',
        b"1}",
        b'{"a":{}',
        b'{"a":"',
        b'"}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"n":1,"n":2,"n":null}',
        b'{"a":1,"a":{"b":"c"}}',
        b'{"message":"\xff\xfe"}',
        b'{"message":"\\ud800"}',
        b'{"message":"\\ud83d\\ude00"}',
        b'{"a":01}',
        b'{"a":"\x01"}',
        b'{"a":' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'\xef\xbb\xbf{"a":1}',
        b' {"message":"x"} ',
        dump(usual, True) + b"\r",
        b'{"message":"\\u00e9\\u0000"}',
        b'{"level":"inf\\u006f","m\\u0065ssage":"k"}',
        b'{"level":"inf\\u00f6"}',
        b'{"n":-0,"d":-0.0}',
        b'{"n":123456789012345678901234567890}',
        b'{"n":1' + b"0" * 400 + b"}",
        b'{"message":null,"timestamp":null}',
        dump(usual, True) * 2,
        dump(usual, True)[:-1],
        dump(usual, True)[:30],
        dump(usual, True)[30:],
    ]
) | st.binary(max_size=20)


@S
@given(st.lists(st.lists(raw_line, max_size=12), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_raw(batches, envelope, final):
    ways = Ways(envelope)
    offset = 0
    for batch in [[dump(usual, True)] * 10, *batches, [dump(usual, True)] * 3]:
        data = b"\n".join(batch) + (b"\n" if final else b"")
        chunk = Chunk(data, offset, offset + len(data))
        plain_ways = Ways(envelope)
        plain = plain_ways.plain(chunk)
        errors = ways.counts.errors.copy()
        lines = ways.counts.lines
        assert ways.encode(chunk) == plain
        assert ways.counts.lines - lines == len(plain)
        assert ways.counts.errors - errors == plain_ways.counts.errors
        offset = chunk.end


@S
@given(
    st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]), st.booleans()
)
def test_bytes(parts, encoding, truncated):
    data = b"\n".join(parts)
    if encoding != "utf-8":
        data = data[: len(data) // 2 * 2]
    ways = Ways()
    chunk = Chunk(data, 7, 7 + len(data) + (5 if truncated else 0), encoding, truncated)
    assert ways.encode(chunk) == ways.plain(chunk)


@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize(
    "lines",
    [
        [b'{"n":', b"1}", b'{"n":1}{"n":2}'],
        [b'{"n":1}', b"", b'{"n":1}{"n":2}'],
        [dump(usual, True), b'{"message":', b'"two lines"}', b'{"message":"p"} {"message":"q"}', dump(usual, True)],
    ],
    ids=["one value on two lines", "a blank line", "between others"],
)
def test_two_values_on_a_line_do_not_make_up_for_a_line_without_one(lines, envelope):
    ways = Ways(envelope)
    for batch in ([dump(usual, True)] * 12, lines):
        data = b"\n".join(batch) + b"\n"
        chunk = Chunk(data, 0, len(data))
        assert ways.encode(chunk) == ways.plain(chunk)

"""Lines of JSON become the same records whichever way they are taken: by shape, key by key, or as decoded records."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from novel_agent.config.schema import LogKeys
from novel_agent.model.lines import Chunk, LogFile
from novel_agent.processors.parse.encoder import Counts, JsonWays, LineEncoder, lines_of
from novel_agent.processors.parse.json_record import JsonRecordParser
from novel_agent.processors.parse.record_bytes import RecordWriter
from novel_agent.processors.parse.timestamps import make_read_time

FILE = LogFile("/var/log/100%/app.log", "0123456789abcdef")
OBSERVED = 1_764_000_000_123_456_789


class Encoders:
    """One file, taken in the fast ways and in the plain one."""

    def __init__(self, *, envelope=False):
        read_time = make_read_time()
        parser = JsonRecordParser(LogKeys(), read_time, envelope=envelope)
        self.write = RecordWriter()
        self.counts, self.plain_counts = Counts(), Counts()
        self.ways = JsonWays(LogKeys(), read_time, envelope=envelope)
        self.fast = LineEncoder(FILE, parser, self.counts, self.write, self.ways)
        self.plain = LineEncoder(FILE, parser, self.plain_counts, self.write)

    def both(self, data, offset=0, **about):
        chunk = Chunk(data, offset, offset + len(data), **about)
        fast = self.fast.encode(chunk, OBSERVED)
        plain = self.write(self.plain.records(lines_of(chunk, self.plain_counts), OBSERVED))
        return decoded(fast.records), decoded(plain), fast

    def general(self, data, offset=0):
        """Every line key by key."""
        self.ways.fast = Nothing()
        chunk = Chunk(data, offset, offset + len(data))
        return decoded(self.fast.encode(chunk, OBSERVED).records)


class Nothing:
    """Takes no line the fast way."""

    def encode(self, block, otherwise, out):
        blank = 0
        for number, line in enumerate(block.lines):
            if not line or line.isspace():
                blank += 1
            else:
                out.append(otherwise(number))
        return blank, 0


def decoded(records):
    scope = ScopeLogs()
    scope.ParseFromString(records)
    return [as_dict(record) for record in scope.log_records]


def as_dict(record):
    keys = [each.key for each in record.attributes]
    assert len(keys) == len(set(keys))
    return {
        "time": record.time_unix_nano,
        "observed": record.observed_time_unix_nano,
        "number": record.severity_number,
        "text": record.severity_text,
        "body": any_value(record.body),
        "attributes": {each.key: any_value(each.value) for each in record.attributes},
        "trace": record.trace_id,
        "span": record.span_id,
    }


def any_value(value):
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return ("object", sorted((each.key, any_value(each.value)) for each in value.kvlist_value.values))
    if kind == "array_value":
        return ("list", [any_value(each) for each in value.array_value.values])
    return (kind, repr(getattr(value, kind)) if kind else None)


LINE = {
    "timestamp": "2026-11-23T03:00:00.000137+00:00",
    "level": "info",
    "message": "Story generation step 0 completed",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "00f067aa0ba902b7",
    "component": "novel-engine",
    "exception": None,
    "duration_ms": 760.96,
    "process_id": 1234,
    "cached": True,
    "business_context": {
        "story_id": "story_0",
        "words": 12,
        "tags": ["a", 1, None],
        "more": {"deep": 1.5, "none": None},
    },
    "security_context": {},
    "share": 7,
}


def lines(*objects):
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def changed(**parts):
    return {**LINE, **parts}


def without(*keys):
    return {key: value for key, value in LINE.items() if key not in keys}


def test_a_line_becomes_the_record_of_its_parts():
    (record,), _, encoded = Encoders().both(lines(LINE), offset=4096)
    assert encoded.items == 1
    assert record["time"] == 1_795_402_800_000_137_000
    assert record["observed"] == OBSERVED
    assert (record["number"], record["text"]) == (9, "info")
    assert record["body"] == ("string_value", "'Story generation step 0 completed'")
    assert record["trace"].hex() == "0af7651916cd43dd8448eb211c80319c"
    assert record["span"].hex() == "00f067aa0ba902b7"
    assert record["attributes"] == {
        "component": ("string_value", "'novel-engine'"),
        "duration_ms": ("double_value", "760.96"),
        "process_id": ("int_value", "1234"),
        "cached": ("bool_value", "True"),
        "share": ("int_value", "7"),
        "business_context": (
            "object",
            [
                ("more", ("object", [("deep", ("double_value", "1.5"))])),
                ("story_id", ("string_value", "'story_0'")),
                ("tags", ("list", [("string_value", "'a'"), ("int_value", "1"), (None, None)])),
                ("words", ("int_value", "12")),
            ],
        ),
        "security_context": ("object", []),
        "log.file.path": ("string_value", "'/var/log/100%/app.log'"),
        "log.file.name": ("string_value", "'app.log'"),
        "log.record.uid": ("string_value", "'0123456789abcdef-4096'"),
    }


def test_lines_of_one_application_are_taken_by_shape():
    encoders = Encoders()
    data = lines(*(changed(message=f"step {number}", process_id=number) for number in range(200)))
    fast, plain, encoded = encoders.both(data, offset=9_900)
    assert fast == plain
    assert encoded.items == encoders.counts.fast_lines == 200
    uids = [record["attributes"]["log.record.uid"][1] for record in fast]
    place = 9_900
    for uid, line in zip(uids, data.splitlines(keepends=True), strict=True):
        assert uid == f"'0123456789abcdef-{place}'"
        place += len(line)


MIXTURES = {
    "another type": [LINE, changed(process_id="x"), changed(duration_ms=5), changed(component=3)],
    "a missing key": [LINE, without("component"), without("exception"), without("share")],
    "a missing part": [LINE, without("message"), without("timestamp"), without("level"), without("trace_id")],
    "another key": [LINE, changed(extra="x"), changed(extra=None), changed(other={"a": [1]})],
    "a nested thing that is none": [LINE, changed(business_context=None), changed(business_context="text")],
    "a list for an object": [LINE, changed(business_context=[1, {"a": 2}]), LINE],
    "other entries": [LINE, changed(business_context={"who": 1}), changed(security_context={"a": {"b": {"c": {"d": 1}}}})],
    "times": [
        changed(timestamp=each)
        for each in (
            "2026-11-23T03:00:00.000137+00:00", "2026-11-23T03:00:00.123456789Z", "2026-11-23 03:00:00,5", 1764000000,
            1764000000.25, "1764000000123", "yesterday", "", 12, None, True, "2026-11-23T03:00:00.12_456+00:00",
            "2026-11-23T03:00:00.١٢٣٤٥٦+00:00", [1], "2026-11-23T03:00:00.000138+00:00",
            "1764000000123456789.123456", "1764000000123456789.654321",
        )
    ],
    "severities": [
        changed(level=each) for each in ("WARN", "Critical", "", "chatty", 30, 30.0, 35, True, None, {"a": 1}, "x" * 300)
    ],
    "ids": [
        changed(trace_id=each)
        for each in ("", "0" * 32, "zz", "0AF7651916CD43DD8448EB211C80319C", "0af7 651916cd43dd8448eb211c80319", 5, None, [1])
    ],
    "bodies": [changed(message=each) for each in ("", "x" * 5000, 5, {"a": None, "b": 1}, [1, None], None, False, "ü€😀")],
    "several candidates": [
        {"message": None, "msg": "b", "time": 5, "ts": "2026-11-23T03:00:00Z"},
        {"message": "a", "msg": "b", "time": "2026-11-23T03:00:00Z", "ts": "x"},
        {"msg": "b", "event": {"a": 1}, "level": None, "severity": "error"},
    ],
    "integers": [changed(process_id=each) for each in (0, 1, -1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30, 10**400)],
    "keys": [
        {"message": "m", key: 1} for key in ("", " ", "a b", "__class__", "f0", "class", 'q"', "b\\s", "n\n", "ü", "k" * 300)
    ],
    "our own keys": [{"message": "m", "log.file.path": "x", "log.parse_error": "y", "log.truncated": True}],
    "no objects": [[], 1, "text", None, True, {}],
}  # fmt: skip


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("envelope", [False, True])
def test_what_fits_no_shape_becomes_the_same(name, envelope):
    encoders = Encoders(envelope=envelope)
    encoders.both(lines(*[LINE] * 5))
    for _ in range(3):
        fast, plain, _ = encoders.both(lines(*MIXTURES[name], *MIXTURES[name]))
        assert fast == plain
        if not envelope:
            assert Encoders().general(lines(*MIXTURES[name], *MIXTURES[name])) == plain


RAW = [
    b"not json\n", b'{"a": 1} x\n', b'{"message": "a"', b"\n\n", b'  \t\n{"message":"a"}\n \n', b'{"message":"a"}\r\n',
    b'{"message":"\xff"}\n', b'{"\xff":1,"message":"a"}\n', b'{"message":"a","a":{"b":"\xff"}}\n', b'{"message":"\\ud800"}\n',
    b'{"message":"a","a":1,"a":2}\n', b'{"message":"a","message":"b"}\n', b'{"message":"a","x":NaN}\n',
    b'{"message":"a","x":1e999}\n', b'{"message":"a","x":-0.0,"y":1E2,"z":1.0}\n', b'{"message":"a","x":00}\n',
    b"[" * 5000 + b"\n", b'{"message":' * 5000 + b"\n", b'{"message":"a","x":' + b"[" * 200 + b"]" * 200 + b"}\n",
    b'\xef\xbb\xbf{"message":"a"}\n', b'{"message":"a\\u0000b"}\n', b'{"message":"a\0b"}\n', b"\0\0\0\n",
    b'{"message":"x"}\n{}', b'{"message":"a","x":' + b'{"a":' * 200 + b"null" + b"}" * 200 + b"}\n",
    b'{"message":' + b"[" * 200 + b"]" * 200 + b"}\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("envelope", [False, True])
def test_lines_that_are_odd_become_the_same(raw, envelope):
    encoders = Encoders(envelope=envelope)
    for data in (raw, lines(LINE) + raw, raw if not raw.endswith(b"\n") else raw + lines(LINE, LINE)):
        fast, plain, encoded = encoders.both(data)
        assert fast == plain
        assert encoded.items == len(fast)
    assert encoders.counts.errors == encoders.plain_counts.errors
    assert encoders.counts.replaced_characters == encoders.plain_counts.replaced_characters
    assert encoders.counts.lines == encoders.plain_counts.lines


def test_a_line_that_is_not_json_stays_whole():
    (record,), _, _ = Encoders().both(b'{"a": 1\n')
    assert record["body"] == ("string_value", "'{\"a\": 1'")
    assert record["attributes"]["log.parse_error"] == ("string_value", "'not JSON'")
    assert (record["number"], record["text"], record["time"]) == (0, "", 0)


def test_the_beginning_of_a_line_that_was_cut_is_marked():
    fast, plain, _ = Encoders().both(b'{"a": 1', truncated=True)
    assert fast == plain
    assert fast[0]["attributes"]["log.truncated"] == ("bool_value", "True")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read(encoding):
    data = '{"message":"ü"}\r\n{"message":"\u0a00\u0d0a"}\n'.encode(encoding)
    fast, plain, _ = Encoders().both(data, offset=2, encoding=encoding)
    assert fast == plain
    assert [record["body"][1] for record in fast] == ["'ü'", repr("\u0a00\u0d0a")]
    assert fast[1]["attributes"]["log.record.uid"] == ("string_value", "'0123456789abcdef-36'")


def test_a_file_whose_lines_have_ever_new_keys_stops_being_learned():
    encoders = Encoders()
    for batch in range(40):
        data = lines(*({"message": "m", f"k{batch}_{number}": 1, f"j{number}_{batch}": 2} for number in range(30)))
        fast, plain, _ = encoders.both(data)
        assert fast == plain
    assert encoders.ways.fast._lessons < 1
    assert len(encoders.ways.fast._shapes) <= 8


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "timestamp",
        "level",
        "message",
        "trace_id",
        "span_id",
        "msg",
        "time",
        "a",
        "b",
        "c",
        "nested",
        "log.file.path",
        "f0",
    ]
) | st.text(max_size=4)
usual = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": st.sampled_from([LINE["timestamp"], "2026-11-23T03:00:01.999999+00:00", "nothing", 1764000000])
        | values,
        "level": st.sampled_from(["info", "error"]) | values,
        "message": st.text(max_size=30) | values,
        "trace_id": st.just(LINE["trace_id"]) | values,
        "a": values,
        "b": st.text(max_size=5),
        "nested": st.fixed_dictionaries({}, optional={"x": values, "y": st.text(max_size=3)}) | values,
    },
)
objects = st.lists(st.one_of(usual, usual, st.dictionaries(keys, values, max_size=6)), max_size=12)


@settings(max_examples=300)
@given(st.lists(objects, min_size=1, max_size=4), st.booleans())
def test_every_way_gives_the_same_records(batches, envelope):
    encoders = Encoders(envelope=envelope)
    for batch in batches:
        fast, plain, encoded = encoders.both(lines(*batch), offset=990)
        assert fast == plain
        assert encoded.items == len(batch)
        if not envelope:
            assert Encoders().general(lines(*batch), offset=990) == plain
    assert encoders.counts.errors == encoders.plain_counts.errors


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=30) | st.just(json.dumps(LINE).encode()), max_size=6), st.booleans())
def test_whatever_the_lines_are_they_become_the_same(raw, envelope):
    encoders = Encoders(envelope=envelope)
    data = b"\n".join(raw)
    fast, plain, _ = encoders.both(data)
    assert fast == plain
    assert encoders.counts.errors == encoders.plain_counts.errors

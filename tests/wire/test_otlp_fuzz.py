"""Bodies as nobody should send them: whatever reads requests answers with WireError or with a result, and soon."""

import json
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from novel_agent.model.batch import SIGNALS
from novel_agent.wire.otlp import attribute
from novel_agent.wire.otlp_enrich import Enricher
from novel_agent.wire.otlp_json import request_to_json
from novel_agent.wire.otlp_json_read import request_from_json
from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.otlp_split import RequestSplitter
from novel_agent.wire.protobuf import WireError, length_delimited

ATTRIBUTES = [
    {"key": "text", "value": {"string_value": "value"}},
    {"key": "number", "value": {"int_value": 300}},
    {"key": "list", "value": {"array_value": {"values": [{"bool_value": True}, {"double_value": 0.5}]}}},
    {"key": "map", "value": {"kvlist_value": {"values": [{"key": "k", "value": {"bytes_value": b"b"}}]}}},
]
RESOURCE = {"attributes": ATTRIBUTES[:1]}
SCOPE = {"name": "scope", "version": "1"}
SPAN = {
    "trace_id": b"t" * 16,
    "span_id": b"s" * 8,
    "name": "n",
    "kind": 2,
    "end_time_unix_nano": 1,
    "attributes": ATTRIBUTES,
    "events": [{"name": "e"}],
    "links": [{"trace_id": b"l" * 16}],
    "status": {"code": 2, "message": "m"},
}
RECORD = {"severity_number": 9, "body": {"string_value": "line"}, "attributes": ATTRIBUTES, "event_name": "e"}
METRICS = [
    {"name": "g", "gauge": {"data_points": [{"as_int": 1, "exemplars": [{"span_id": b"s" * 8}]}]}},
    {"name": "h", "histogram": {"data_points": [{"bucket_counts": [1, 2], "explicit_bounds": [0.5], "sum": 1}]}},
    {
        "name": "e",
        "exponential_histogram": {"data_points": [{"scale": -1, "positive": {"offset": 3, "bucket_counts": [1, 300]}}]},
    },
    {"name": "s", "summary": {"data_points": [{"quantile_values": [{"quantile": 0.5, "value": 1}]}]}},
]
BODIES = {
    "traces": ExportTraceServiceRequest(
        resource_spans=[
            {"resource": RESOURCE, "scope_spans": [{"scope": SCOPE, "spans": [SPAN, {}], "schema_url": "u"}]}
        ]
    ).SerializeToString(),
    "logs": ExportLogsServiceRequest(
        resource_logs=[{"resource": RESOURCE, "scope_logs": [{"scope": SCOPE, "log_records": [RECORD, {}]}]}]
    ).SerializeToString(),
    "metrics": ExportMetricsServiceRequest(
        resource_metrics=[{"resource": RESOURCE, "scope_metrics": [{"scope": SCOPE, "metrics": METRICS}]}]
    ).SerializeToString(),
}
ENRICHER = Enricher([(key, attribute((key, "v"))) for key in ("text", "host")])
RANDOM = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(work):
    """What a call gives, or None for WireError, the only error it may raise."""
    try:
        return work()
    except WireError:
        return None


def split_items(signal, body, chunk_bytes):
    items = []
    splitter = RequestSplitter(signal, lambda payload, count: items.append(count), deep=True)
    for start in range(0, len(body), chunk_bytes):
        splitter.feed(body[start : start + chunk_bytes])
    splitter.finish()
    return sum(items)


def try_all(signal, body):
    """Give a body to everything that reads one; what passes the deep scan must pass the rest."""
    shallow = outcome(lambda: scan(signal, body))
    deep = outcome(lambda: scan(signal, body, deep=True))
    enriched = outcome(lambda: ENRICHER(body))
    split = outcome(lambda: split_items(signal, body, 50))
    shown = outcome(lambda: request_to_json(signal, body))
    if deep is None:
        return
    assert deep == shallow
    assert enriched is not None
    assert outcome(lambda: scan(signal, ENRICHER(deep.payload), deep=True)).items == deep.items
    assert split == deep.items
    assert shown is not None


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_body_cut_at_every_byte(signal):
    body = BODIES[signal]
    assert scan(signal, body, deep=True).items > 0
    for size in range(len(body)):
        try_all(signal, body[:size])
        if size:
            assert outcome(lambda: scan(signal, body[:size])) is None  # noqa: B023 - called at once


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_bit_flipped(signal):
    body = BODIES[signal]
    for position in range(len(body)):
        for bit in range(8):
            flipped = bytearray(body)
            flipped[position] ^= 1 << bit
            try_all(signal, bytes(flipped))


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_byte_left_out_doubled_or_replaced(signal):
    body = BODIES[signal]
    for position in range(len(body)):
        before, here, after = body[:position], body[position : position + 1], body[position + 1 :]
        for other in (b"", here * 2, b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff" * 9 + b"\x01", b"\xff" * 11):
            try_all(signal, before + other + after)


@RANDOM
@given(st.sampled_from(SIGNALS), st.binary(max_size=200))
def test_any_bytes(signal, body):
    try_all(signal, body)
    try_all(signal, length_delimited(1, body))
    try_all(signal, length_delimited(1, length_delimited(2, body)))
    outcome(lambda: request_from_json(signal, body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def put_into(content, path, value):
    """Change what stands at a path drawn from 0 to 1 a step; the path ends early where there is nothing further in."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[int(path[0] * len(keys))]
    if len(path) > 1 and isinstance(content[key], dict | list) and content[key]:
        put_into(content[key], path[1:], value)
    else:
        content[key] = value


@RANDOM
@given(
    st.sampled_from(SIGNALS), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12), JSON, st.booleans()
)
def test_any_value_anywhere_in_json(signal, path, value, whole):
    request = json.loads(request_to_json(signal, BODIES[signal]))
    put_into(request, path, value)
    if (read := outcome(lambda: request_from_json(signal, json.dumps(request).encode()))) is not None:
        payload, items = read
        assert scan(signal, payload, deep=True) == (items, payload)


@pytest.mark.parametrize("signal", SIGNALS)
def test_json_cut_at_every_byte_and_every_bit_flipped(signal):
    body = request_to_json(signal, BODIES[signal])
    for position in range(len(body)):
        assert outcome(lambda: request_from_json(signal, body[:position])) is None  # noqa: B023 - called at once
        for bit in range(8):
            flipped = bytearray(body)
            flipped[position] ^= 1 << bit
            outcome(lambda: request_from_json(signal, bytes(flipped)))  # noqa: B023 - called at once


def within(number, content):
    """The content as the innermost of what a request holds down to its items' level, `number` fields deep."""
    for field in (2, 2, 1)[3 - number :]:
        content = length_delimited(field, content)
    return content


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "pattern",
    [b"\x0a\x00", b"\x12\x00", b"\x12\x80\x80\x00", b"\x92\x00\x00", b"\x2a\x00", b"\x08\x00", b"\x0a\x02\x0a\x00"],
)
@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_flood_of_next_to_nothing_is_read_in_time_in_proportion(signal, pattern, depth):
    body = within(depth, pattern * ((1 << 16) // len(pattern)))
    began = time.process_time()
    outcome(lambda: scan(signal, body, deep=True))
    outcome(lambda: scan(signal, body))
    outcome(lambda: ENRICHER(body))
    outcome(lambda: split_items(signal, body, 10_000))
    assert time.process_time() - began < 5


def test_random_megabytes():
    generator = random.Random(4)
    for signal in SIGNALS:
        for _ in range(3):
            body = generator.randbytes(1 << 20)
            for depth in range(4):
                outcome(lambda: scan(signal, within(depth, body)))  # noqa: B023 - called at once
                outcome(lambda: split_items(signal, within(depth, body), 1 << 16))  # noqa: B023 - called at once

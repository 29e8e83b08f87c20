import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_messages import messages

from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.otlp_split import RequestSplitter
from novel_agent.wire.protobuf import WireError, integer, length_delimited, text

FIELDS = {
    "metrics": (ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
}


def pieces_of(signal, body, chunk_sizes=(1 << 16,), **options):
    """What is emitted for a body that comes in chunks of these sizes, the last repeated."""
    emitted = []
    splitter = RequestSplitter(signal, lambda payload, items: emitted.append((payload, items)), **options)
    sizes = list(chunk_sizes)
    position = 0
    while position < len(body):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        splitter.feed(body[position : position + size])
        position += size
    splitter.finish()
    return emitted


def has_points(metric):
    data = metric.WhichOneof("data")
    return data is not None and len(getattr(metric, data).data_points) > 0


def placed(signal, body):
    """Every item in order with the resource and scope that it stands under; of metrics those that have points."""
    request_class, groups, scopes, items = FIELDS[signal]
    return [
        tuple(message.SerializeToString(deterministic=True) for message in (group.resource, scope.scope, item))
        for group in getattr(request_class.FromString(body), groups)
        for scope in getattr(group, scopes)
        for item in getattr(scope, items)
        if signal != "metrics" or has_points(item)
    ]


def span(size, name="s"):
    """A span of exactly this size with tag and length, which must be below 128."""
    return length_delimited(2, text(5, (name * size)[: size - 4]))


def request(*spans, resource=b"", scope=b"", scope_url=b"", url=b""):
    return length_delimited(1, resource, length_delimited(2, scope, *spans, scope_url), url)


RESOURCE = length_delimited(1, length_delimited(1, text(1, "service.name")))
SCOPE = length_delimited(1, text(1, "scope"))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), messages(FIELDS[name][0]))),
    st.lists(st.integers(1, 80), min_size=1, max_size=20),
    st.integers(1, 600),
    st.booleans(),
)
def test_the_pieces_of_any_request_hold_its_items_under_their_resource_and_scope(named, sizes, piece_bytes, deep):
    signal, message = named
    body = message.SerializeToString()
    emitted = pieces_of(signal, body, sizes, piece_bytes=piece_bytes, deep=deep)
    assert placed(signal, b"".join(payload for payload, _ in emitted)) == placed(signal, body)
    assert [scan(signal, payload, deep=True) for payload, _ in emitted] == [
        (items, payload) for payload, items in emitted
    ]
    assert sum(items for _, items in emitted) == scan(signal, body).items


def test_a_request_that_fits_is_one_piece_as_it_came():
    body = request(span(50), span(60), resource=RESOURCE, scope=SCOPE) * 3
    assert pieces_of("traces", body) == [(body, 6)]


def test_a_large_message_is_cut_between_its_items_and_each_part_says_whose_it_is():
    body = request(*[span(40, letter) for letter in "abcde"], resource=RESOURCE, scope=SCOPE)
    expected = [
        request(*[span(40, letter) for letter in letters], resource=RESOURCE, scope=SCOPE)
        for letters in ("ab", "cd", "e")
    ]
    for chunk in (1, 7, 41, 10_000):
        assert pieces_of("traces", body, [chunk], piece_bytes=110) == [
            (expected[0], 2),
            (expected[1], 2),
            (expected[2], 1),
        ]


def test_schema_urls_that_are_written_first_stand_in_every_part_and_those_behind_in_the_last():
    url, other = text(3, "https://example.org/1"), text(3, "https://example.org/2")
    first = length_delimited(1, url, length_delimited(2, other, span(40), span(40)))
    last = length_delimited(1, length_delimited(2, span(40), span(40), other), url)
    of_first = [
        ExportTraceServiceRequest.FromString(payload) for payload, _ in pieces_of("traces", first, piece_bytes=60)
    ]
    of_last = [
        ExportTraceServiceRequest.FromString(payload) for payload, _ in pieces_of("traces", last, piece_bytes=60)
    ]

    def urls(requests):
        return [
            (each.resource_spans[0].schema_url[-1:], each.resource_spans[0].scope_spans[0].schema_url[-1:])
            for each in requests
        ]

    assert urls(of_first) == [("1", "2"), ("1", "2")]
    assert urls(of_last) == [("", ""), ("1", "2")]


def test_a_resource_behind_its_items_counts_for_those_that_have_not_left():
    body = length_delimited(1, length_delimited(2, span(40), SCOPE), RESOURCE)
    ((payload, items),) = pieces_of("traces", body, [5], piece_bytes=200)
    assert items == 1
    assert placed("traces", payload) == placed("traces", body)
    late = [
        length_delimited(1, length_delimited(2, span(40), span(40), SCOPE)),
        length_delimited(1, length_delimited(2, span(40), span(40)), RESOURCE),
        length_delimited(1, RESOURCE, length_delimited(2, span(40), span(40)), RESOURCE),
    ]
    for body in late:
        with pytest.raises(WireError, match="a resource or scope behind more than 50 bytes of its items"):
            pieces_of("traces", body, [5], piece_bytes=50)


def test_what_has_no_items_is_no_piece_of_its_own():
    empty = length_delimited(1, RESOURCE)
    assert pieces_of("traces", b"") == []
    assert pieces_of("traces", empty * 100, piece_bytes=50) == []
    assert pieces_of("traces", empty + request(span(40))) == [(empty + request(span(40)), 1)]


def test_unknown_fields_are_kept_but_those_of_the_request_itself():
    unknown = integer(1000, 300) + text(999, "x" * 200)
    body = length_delimited(1, RESOURCE, unknown, length_delimited(2, SCOPE, unknown, span(40), unknown))
    for size in (1, 10, 1_000):
        assert pieces_of("traces", unknown + body + unknown, [size]) == [(body, 1)]


def test_a_metric_is_one_item_to_cut_at_and_counted_by_its_points():
    message = ExportMetricsServiceRequest()
    scope = message.resource_metrics.add().scope_metrics.add()
    for count in (3, 1, 2):
        scope.metrics.add(name="x" * 30, gauge={"data_points": [{"as_int": 1}] * count})
    emitted = pieces_of("metrics", message.SerializeToString(), [9], piece_bytes=60)
    assert [items for _, items in emitted] == [3, 1, 2]


@pytest.mark.parametrize("size", [61, 4096, 1 << 20, 1 << 24])
def test_a_large_body_comes_in_pieces_of_the_size_asked_for(size):
    generator = random.Random(7)
    spans = [
        length_delimited(2, text(5, "x" * generator.randrange(3_000))) for _ in range(400 if size == 61 else 2_000)
    ]
    body = request(*spans, resource=RESOURCE, scope=SCOPE)
    emitted = pieces_of("traces", body, [size], piece_bytes=100_000)
    assert all(97_000 < len(payload) <= 100_000 for payload, _ in emitted[:-1])
    assert placed("traces", b"".join(payload for payload, _ in emitted)) == placed("traces", body)


def test_a_large_resource_is_not_repeated_for_every_item():
    resource = length_delimited(1, length_delimited(1, text(1, "k" * 10_000)))
    body = request(*[span(100)] * 1_000, resource=resource)
    emitted = pieces_of("traces", body, piece_bytes=1_000)
    assert len(emitted) == 10
    assert sum(len(payload) for payload, _ in emitted) < 2.2 * len(body)


def test_an_item_larger_than_a_piece_is_a_piece():
    large = length_delimited(2, text(5, "x" * 5_000))
    body = request(span(40), large, span(40))
    assert pieces_of("traces", body, [100], piece_bytes=1_000) == [
        (request(each), 1) for each in (span(40), large, span(40))
    ]


@pytest.mark.parametrize(
    "body",
    [
        request(length_delimited(2, text(5, "x" * 2_000))),
        request(span(40), resource=length_delimited(1, bytes(2_000))),
        request(span(40), resource=length_delimited(1, text(4, "x" * 600)) * 2),
        request(span(40), scope=length_delimited(1, text(4, "x" * 2_000))),
        request(span(40), url=text(3, "x" * 2_000)),
        request(span(40), scope_url=text(999, "x" * 2_000)),
        b"\x0a\xff\xff\xff\xff\x7f\x12\xff\xff\xff\xff\x3f\x12\xff\xff\xff\xff\x1f",
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_what_is_too_large_is_refused_before_it_is_held(body, size):
    with pytest.raises(WireError, match="of more than 1000 bytes"):
        pieces_of("traces", body, [size], largest_item_bytes=1_000)


@pytest.mark.parametrize(
    "flood", [b"\x0a\x00" * 50_000, length_delimited(1, b"\x12\x00" * 50_000), request(b"\x12\x00" * 50_000)]
)
def test_a_flood_of_empty_messages_is_not_held(flood):
    emitted = []
    splitter = RequestSplitter("traces", lambda payload, items: emitted.append(len(payload)), piece_bytes=1_000)
    for start in range(0, len(flood), 500):
        splitter.feed(flood[start : start + 500])
        assert len(splitter._done) + len(splitter._buffer) < 2_000
    splitter.finish()
    assert all(size <= 1_020 for size in emitted)


def test_a_body_that_ends_early_is_refused_at_every_byte():
    body = text(7, "beside") + request(span(20), span(20), resource=RESOURCE, scope=SCOPE, url=text(3, "url"))
    whole = {0, len(text(7, "beside"))}
    for size in range(len(body)):
        if size in whole:
            assert pieces_of("traces", body[:size]) == []
        else:
            with pytest.raises(WireError):
                pieces_of("traces", body[:size])
    assert [items for _, items in pieces_of("traces", body)] == [2]


def test_faults_say_where_they_are():
    body = request(span(40), span(40)) + b"\x0b"
    with pytest.raises(WireError, match=r"^byte 84: wire type 3$"):
        pieces_of("traces", body, [40])


def test_deep_every_item_is_checked():
    body = request(span(40), length_delimited(2, b"\x0a\x05a"))
    assert [items for _, items in pieces_of("traces", body)] == [2]
    with pytest.raises(WireError, match="the Span ends within a field"):
        pieces_of("traces", body, deep=True)


def test_a_metric_that_ends_within_a_field_is_refused_though_it_is_the_last_there_is():
    body = length_delimited(1, length_delimited(2, length_delimited(2, b"\x2a\x80")))
    splitter = RequestSplitter("metrics", lambda payload, items: None)
    with pytest.raises(WireError, match="byte 6: cut off within a field"):
        splitter.feed(body)

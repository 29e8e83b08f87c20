"""How many parts a request may have: what is empty costs few bytes, and as much work as anything."""

import pytest

from novel_agent.wire.otlp import attribute
from novel_agent.wire.otlp_enrich import Enricher
from novel_agent.wire.otlp_json_read import request_from_json
from novel_agent.wire.otlp_scan import TooMany, scan
from novel_agent.wire.otlp_split import RequestSplitter
from novel_agent.wire.protobuf import length_delimited

EMPTY_ITEM, EMPTY_POINT = b"\x12\x00", b"\x0a\x00"


def scope(items):
    return length_delimited(2, items)


def request(*scopes):
    return length_delimited(1, *scopes)


def gauge(points):
    return length_delimited(2, length_delimited(5, EMPTY_POINT * points))


def pieces(signal, body, **options):
    emitted = []
    splitter = RequestSplitter(signal, lambda payload, items: emitted.append((payload, items)), **options)
    for position in range(0, len(body), 1 << 16):
        splitter.feed(body[position : position + (1 << 16)])
    splitter.finish()
    return emitted


FULL = [
    ("traces", request(scope(EMPTY_ITEM * 49_989)), EMPTY_ITEM),
    ("logs", request(scope(EMPTY_ITEM * 49_989)), EMPTY_ITEM),
    ("metrics", request(scope(EMPTY_ITEM * 49_989)), EMPTY_ITEM),
    ("traces", request(scope(b"")) * 4_545, b""),
    ("metrics", request(scope(b"") * 49_990), b""),
    ("metrics", request(scope(gauge(49_988))), b""),
]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("signal", "body"), [(signal, body) for signal, body, _ in FULL])
def test_50000_parts_are_taken(signal, body, deep):
    assert scan(signal, body, deep=deep).payload is body


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("signal", "body"),
    [
        ("traces", request(scope(EMPTY_ITEM * 49_990))),
        ("logs", request(scope(EMPTY_ITEM * 49_990))),
        ("metrics", request(scope(EMPTY_ITEM * 49_990))),
        ("metrics", request(scope(gauge(49_989)))),
        ("metrics", request(scope(b"") * 49_991)),
        ("traces", request(scope(b"")) * 4_546),
        ("traces", b"\x0a\x00" * 5_001),
    ],
)
def test_one_more_is_refused(signal, body, deep):
    with pytest.raises(TooMany, match="more than 50000 items"):
        scan(signal, body, deep=deep)


def test_json_has_the_same_bound():
    spans = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 49_988 + b"{%b}]}]}]}"
    assert request_from_json("traces", spans % b"")[1] == 49_989
    with pytest.raises(TooMany):
        request_from_json("traces", spans % b"},{")


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_piece_has_at_most_so_many_items(signal):
    emitted = pieces(signal, request(scope(EMPTY_ITEM * 25_000)))
    assert [items for _, items in emitted] == [9_989, 10_000, 5_011]
    assert sum(scan(signal, payload).items for payload, _ in emitted) == 25_000


def test_a_piece_has_at_most_so_many_metrics_with_their_points():
    emitted = pieces("metrics", request(scope(gauge(1) * 8_000)))
    assert [items for _, items in emitted] == [4_995, 3_005]


def test_a_piece_has_at_most_so_many_resources():
    emitted = pieces("traces", request(scope(EMPTY_ITEM)) * 2_000)
    assert [items for _, items in emitted] == [833, 834, 333]


def test_items_of_usual_size_are_cut_by_their_bytes_alone():
    item = length_delimited(2, b"\x2a\x7e" + b"n" * 126)
    emitted = pieces("traces", request(scope(item * 9_000)))
    assert [len(payload) > 1_000_000 for payload, _ in emitted] == [True, False]


@pytest.mark.parametrize(
    ("signal", "body"),
    [
        ("traces", request(scope(EMPTY_ITEM * 500_000))),
        ("metrics", request(scope(EMPTY_ITEM * 500_000))),
        ("metrics", request(scope(b"") * 500_000)),
        ("traces", b"\x0a\x00" * 50_001),
        ("metrics", request(scope(gauge(40_000) * 13))),
    ],
)
def test_a_request_has_at_most_500000_parts(signal, body):
    with pytest.raises(TooMany, match="more than 500000 items"):
        pieces(signal, body)


@pytest.mark.parametrize("points", [50_001, 500_000])
def test_one_metric_has_at_most_50000_points(points):
    assert pieces("metrics", request(scope(gauge(50_000))))[0][1] == 50_000
    with pytest.raises(TooMany, match="more than 50000 items"):
        pieces("metrics", request(scope(gauge(points))))


def test_not_more_is_added_than_four_times_a_piece():
    enrich = Enricher([("host.name", attribute(("host.name", "h" * 1000)))])
    resources = request(length_delimited(1), scope(EMPTY_ITEM))
    assert len(enrich(resources * 4_000)) > 4_000_000
    with pytest.raises(TooMany, match="more than 4194304 bytes of attributes would"):
        enrich(resources * 4_200)

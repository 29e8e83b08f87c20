import asyncio
import gc
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from trace_payloads import BEGAN, MS, pairs, request, span, span_id, trace_id

from novel_agent.model.span import CLIENT, SERVER
from novel_agent.outputs.recent_traces import MOST_SPANS, RecentTraces, SpanWanted, TraceWanted
from novel_agent.outputs.trace_index import LARGEST_ORIGIN_BYTES, LARGEST_SPAN_BYTES, Operation

MIB = 1 << 20
ANY = SpanWanted()
ANY_TRACE = TraceWanted()
TEXT = "x" * 300


def store_of(*payloads, capacity_bytes=8 * MIB, **options):
    store = RecentTraces(capacity_bytes, **options)
    for number, payload in enumerate(payloads):
        store.add(payload, 1000.0 + number)
    return store


async def found(store, span_wanted=ANY, trace_wanted=ANY_TRACE, limit=20):
    return [int.from_bytes(each.trace_id, "big") for each in await store.find(span_wanted, trace_wanted, limit)]


async def decoded(store, number):
    trace = await store.trace(trace_id(number))
    return [(each, origin) async for each, origin in store.spans(trace)]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


# what is held ---------------------------------------------------------------------------------------------------------


def test_payloads_are_held_as_they_came_and_the_oldest_make_room():
    payload = bytes(850)  # and 150 for what stands around it
    store = store_of(*[payload] * 3, capacity_bytes=3000)
    assert (len(store), store.held_bytes, store.evicted, store.oldest_received_at) == (3, 3000, 0, 1000.0)
    store.add(payload, 1003.0)
    assert (len(store), store.held_bytes, store.evicted, store.oldest_received_at) == (3, 3000, 1, 1001.0)


def test_a_payload_larger_than_the_store_pushes_nothing_out():
    store = store_of(bytes(10), capacity_bytes=1000)
    store.add(bytes(1001), 1.0)
    assert (len(store), store.too_large, store.evicted) == (1, 1, 0)


def test_a_smaller_capacity_evicts_at_once():
    store = store_of(*[bytes(850)] * 3, capacity_bytes=3000)
    store.resize(1000)
    assert (len(store), store.held_bytes, store.evicted) == (1, 1000, 2)


def test_an_empty_store_has_nothing_oldest():
    assert RecentTraces(1000).oldest_received_at is None


def test_adding_decodes_nothing():
    store = store_of(b"\xff\xff\xff")
    assert (len(store), store.undecodable, store.index_bytes) == (1, 0, 0)


# finding --------------------------------------------------------------------------------------------------------------


async def test_a_trace_is_put_together_from_the_requests_of_several_services():
    store = store_of(
        request(span(1, 2, "SELECT", parent=1, at_ms=2, for_ms=5, kind=CLIENT), service="db"),
        request(span(1, 1, "GET /story", at_ms=0, for_ms=20, kind=SERVER), span(2, 9), service="web"),
    )
    trace = await store.trace(trace_id(1))
    summary = trace.summary
    assert summary.root == Operation("web", "GET /story", SERVER)
    assert (summary.span_count, summary.error_count, summary.services) == (2, 0, ["db", "web"])
    assert (summary.start_unix_nano, summary.duration_nano) == (BEGAN, 20 * MS)
    spans = await decoded(store, 1)
    assert [(each.name, origin.resource["service.name"]) for each, origin in spans] == [
        ("GET /story", "web"),
        ("SELECT", "db"),
    ]


async def test_an_unknown_trace_is_none():
    assert await store_of(request(span(1, 1))).trace(trace_id(2)) is None


async def test_spans_keep_their_attributes_events_links_and_scope():
    made = span(1, 1, http__route="/x", retries=3)
    made.events.add(name="exception", time_unix_nano=5).attributes.extend(pairs({"exception.type": "ValueError"}))
    made.links.add(trace_id=trace_id(7), span_id=span_id(8))
    ((read, origin),) = await decoded(store_of(request(made, scope="lib 1.2", host__name="h")), 1)
    assert read.attributes == {"http.route": "/x", "retries": 3}
    assert (read.events[0].name, read.events[0].attributes) == ("exception", {"exception.type": "ValueError"})
    assert (read.links[0].trace_id, read.links[0].span_id) == (trace_id(7), span_id(8))
    assert (origin.scope, origin.scope_version, origin.resource["host.name"]) == ("lib", "1.2", "h")


async def test_where_the_root_is_not_here_the_span_that_began_first_stands_for_it():
    store = store_of(request(span(1, 3, "later", parent=2, at_ms=5), span(1, 2, "first", parent=1, at_ms=1)))
    assert (await store.trace(trace_id(1))).summary.root.name == "first"


async def test_a_request_that_came_twice_counts_once():
    payload = request(span(1, 1, failed=""), span(1, 2, parent=1))
    summary = (await store_of(payload, payload).trace(trace_id(1))).summary
    assert (summary.span_count, summary.error_count) == (2, 1)


async def test_traces_are_found_newest_first_up_to_a_limit():
    store = store_of(request(span(1, 1, at_ms=1), span(3, 3, at_ms=3)), request(span(2, 2, at_ms=2)))
    assert await found(store) == [3, 2, 1]
    assert await found(store, limit=2) == [3, 2]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (SpanWanted(service="web"), [1, 2]),
        (SpanWanted(service="db"), [1]),
        (SpanWanted(service="mail"), []),
        (SpanWanted(operation="SELECT"), [1]),
        (SpanWanted(service="web", operation="SELECT"), []),
        (SpanWanted(shortest_nano=20 * MS), [1]),
        (SpanWanted(service="db", shortest_nano=6 * MS), []),
        (SpanWanted(longest_nano=5 * MS), [1]),
        (SpanWanted(earliest_unix_nano=BEGAN - MS), [1, 2]),
        (SpanWanted(earliest_unix_nano=BEGAN + 1 * MS), [1]),
        (SpanWanted(latest_unix_nano=BEGAN - 1), [2]),
    ],
)
async def test_one_span_must_fit_in_everything(wanted, numbers):
    store = store_of(
        request(span(1, 1, at_ms=0, for_ms=20), span(2, 9, at_ms=-1), service="web"),
        request(span(1, 2, "SELECT", parent=1, at_ms=2, for_ms=5), service="db"),
    )
    assert await found(store, wanted) == numbers


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (TraceWanted(shortest_nano=12 * MS), [1]),
        (TraceWanted(longest_nano=11 * MS), [2]),
        (TraceWanted(earliest_unix_nano=BEGAN + 1), [2]),
        (TraceWanted(latest_unix_nano=BEGAN), [1]),
        (TraceWanted(failed=True), [2]),
    ],
)
async def test_a_trace_may_have_to_fit_as_a_whole(wanted, numbers):
    """Trace 1 takes 12 ms, though none of its spans takes more than 10."""
    store = store_of(
        request(span(1, 1), span(1, 2, parent=1, at_ms=2)),
        request(span(2, 3, at_ms=50), span(2, 4, parent=3, at_ms=51, for_ms=1, failed="no")),
    )
    assert await found(store, ANY, wanted) == numbers


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("http.route", "/x"),
        ("retries", "3"),
        ("cached", "true"),
        ("ratio", "0.5"),
        ("tags", '["a","b"]'),
        ("deployment.environment", "production"),
        ("exception.type", "ValueError"),
        ("event", "exception"),
        ("span.kind", "server"),
        ("error", "true"),
        ("otel.status_code", "ERROR"),
        ("otel.status_description", "boom"),
        ("otel.scope.name", "lib"),
        ("otel.scope.version", "1.2"),
    ],
)
async def test_attributes_are_compared_as_text_wherever_they_stand(key, value):
    fits = span(
        1,
        1,
        http__route="/x",
        retries=3,
        cached=True,
        ratio=0.5,
        tags=["a", "b"],
        failed="boom",
        kind=Span.SPAN_KIND_SERVER,
    )
    fits.events.add(name="exception").attributes.extend(pairs({"exception.type": "ValueError"}))
    store = store_of(
        request(fits, scope="lib 1.2", deployment__environment="production"),
        request(span(2, 2, http__route="/y"), service="other"),
    )
    assert await found(store, SpanWanted(attributes={key: value})) == [1]
    assert await found(store, SpanWanted(attributes={key: value + "?"})) == []
    assert await found(store, SpanWanted(attributes={key: value, "http.route": "/x"})) == [1]


async def test_services_and_operations_are_listed():
    store = store_of(
        request(span(1, 1, "b", kind=SERVER), span(1, 2, "a", kind=CLIENT), span(2, 3, "a", kind=SERVER)),
        request(span(1, 4, "c"), service="db"),
        request(span(1, 5, "d"), service=""),
    )
    assert await store.services() == ["db", "unknown_service", "web"]
    assert [(each.name, each.kind) for each in await store.operations("web")] == [
        ("a", SERVER),
        ("a", CLIENT),
        ("b", SERVER),
    ]
    assert [each.name for each in await store.operations("web", CLIENT)] == ["a"]
    assert await store.operations("mail") == []


async def test_calls_between_services_are_counted():
    store = store_of(
        request(span(1, 2, parent=1), span(1, 3, parent=1), span(1, 4, parent=3), service="db"),
        request(span(1, 1), span(2, 1), service="web"),
        request(span(2, 5, parent=1, at_ms=100), service="db"),
    )
    assert await store.calls(BEGAN, BEGAN + 100 * MS) == {("web", "db"): 3}
    assert await store.calls(BEGAN, BEGAN + 99 * MS) == {("web", "db"): 2}


# what is not as it should be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [b"\x0a\x05abc", b"\xff\xff\xff", b"\x0a\x02\x12\x7f", b"\x0a", b"\x0b", b"\x0a\x06\x12\x04\x12\x02\x0a\x7f"],
    ids=["short", "varint", "short scope", "no length", "group", "short span"],
)
async def test_a_payload_that_cannot_be_decoded_is_skipped_and_counted_once(payload):
    store = store_of(request(span(1, 1)), payload, request(span(2, 2, at_ms=1)))
    assert await found(store) == [2, 1]
    assert await found(store) == [2, 1]
    assert store.undecodable == 1


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_a_payload_cut_anywhere_does_no_harm(cut):
    payload = request(span(1, 1, http__route="/x"), span(1, 2, parent=1))
    store = store_of(payload[:-cut])
    assert await found(store) == []
    assert store.undecodable == 1


async def test_spans_without_valid_ids_are_left_out():
    broken = [
        Span(name="none"),
        Span(trace_id=bytes(16), span_id=span_id(1)),
        Span(trace_id=trace_id(1), span_id=bytes(8)),
    ]
    store = store_of(request(span(1, 1), *broken, Span(trace_id=b"short", span_id=span_id(1))))
    assert await found(store) == [1]
    assert store.skipped_spans == 4


async def test_what_is_too_large_to_be_decoded_in_one_go_is_left_out():
    large_span = span(1, 2, text="x" * LARGEST_SPAN_BYTES)
    store = store_of(request(span(1, 1), large_span), request(span(2, 3), service="y" * LARGEST_ORIGIN_BYTES))
    assert await found(store) == [1]
    assert store.skipped_spans == 2


async def test_a_span_that_ends_before_it_begins_took_no_time():
    assert (await store_of(request(span(1, 1, for_ms=-5))).trace(trace_id(1))).summary.duration_nano == 0


async def test_of_a_giant_trace_so_many_spans_are_shown_and_the_rest_counted():
    spans = [span(1, number, parent=1, at_ms=number) for number in range(1, MOST_SPANS + 11)]
    trace = await store_of(request(*spans)).trace(trace_id(1))
    assert (trace.summary.span_count, len(trace.places), trace.left_out) == (10_010, 10_000, 10)


# the index ------------------------------------------------------------------------------------------------------------


async def test_new_payloads_are_read_while_questions_go_on():
    store = store_of(request(span(1, 1)))
    assert await found(store) == [1]
    before = store.index_bytes
    store.add(request(span(2, 2, at_ms=1)), 1.0)
    assert await found(store) == [2, 1]
    assert store.index_bytes > before


async def test_what_is_evicted_is_found_no_more():
    payloads = [request(span(number, number, at_ms=number)) for number in (1, 2, 3)]
    store = store_of(*payloads, capacity_bytes=3 * (len(payloads[0]) + 150))
    assert await found(store) == [3, 2, 1]
    store.add(request(span(4, 4, at_ms=4)), 1.0)
    assert await found(store) == [4, 3, 2]
    store.resize(0)
    assert (await found(store), store.index_bytes, store.held_bytes) == ([], 0, 0)


async def test_the_index_goes_when_nobody_asks_any_more_and_comes_back_with_the_next_question():
    store = store_of(request(span(1, 1)), b"\xff", kept_seconds=0)
    assert await found(store) == [1]
    await until(lambda: store.index_bytes == 0)
    assert store.skipped_spans == 0
    assert await found(store) == [1]
    assert store.undecodable == 1


async def test_the_index_stays_while_a_question_is_under_way():
    store = store_of(*[request(*[span(n, n) for n in range(1, 2000)])] * 2, kept_seconds=0)
    asking = asyncio.create_task(store.find(ANY, ANY_TRACE, 1))
    await until(lambda: store.index_bytes > 0)
    assert await found(store, limit=1) == [1999]
    assert len(await asking) == 1


async def test_questions_that_come_together_share_the_reading():
    payload = request(*[span(number, number) for number in range(1, 3000)])
    alone, together = store_of(payload), store_of(payload)
    await alone.services()
    await asyncio.gather(*[together.services() for _ in range(5)])
    assert together.slices == alone.slices > 5


async def test_a_question_given_up_leaves_the_store_usable():
    store = store_of(*[request(*[span(number, number) for number in range(1, 1500)])] * 4)
    asking = asyncio.create_task(store.services())
    await until(lambda: store.slices > 2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await store.services() == ["web"]


async def test_the_index_is_bounded_and_gives_up_the_oldest_first():
    """30 bytes a span take 65 in the index, and may not take more than twice the store."""
    tiny = [Span(trace_id=trace_id(number), span_id=span_id(number)) for number in range(1, 30_001)]
    payloads = [request(*tiny[first : first + 1000]) for first in range(0, 30_000, 1000)]
    store = store_of(*payloads, capacity_bytes=1 << 20)
    await store.services()
    assert store.index_bytes <= 2 << 20
    store.resize(700_000)
    await store.services()
    store.add(request(span(1, 1)), 1.0)
    await store.services()
    assert store.index_bytes <= 1_400_000
    assert await store.trace(trace_id(30_000)) is not None


async def test_one_payload_cannot_fill_the_index():
    tiny = [Span(trace_id=trace_id(number), span_id=span_id(number)) for number in range(1, 30_001)]
    store = store_of(request(*tiny), capacity_bytes=1 << 20)
    await store.services()
    assert store.index_bytes <= 1 << 20 + 65
    assert store.skipped_spans > 10_000


def _full(capacity_bytes):
    store = RecentTraces(capacity_bytes)
    number = 0
    while not store.evicted:
        numbers = range(number, number + 100)
        spans = [
            span(n // 5 + 1, n + 1, f"GET /{n % 7}", at_ms=n, http__route=f"/{n % 7}", user=f"u{n}", text=TEXT)
            for n in numbers
        ]
        store.add(request(*spans, service=f"s{number % 3}"), 1.0)
        number += 100
    return store, number


async def test_a_question_about_a_full_store_gives_the_loop_its_turn_all_the_time():
    """Of about 380 bytes a span no slice reads more than 100; the time that takes is the machine's."""
    store, number = _full(8 * MIB)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    assert len(await store.find(SpanWanted(attributes={"user": f"u{number - 1}"}), ANY_TRACE, 20)) == 1
    other.cancel()
    spans = sum(len(held.page.records) // 65 for held in store._held)
    assert spans > 15_000
    assert store.slices >= spans // 110
    assert turns >= store.slices


@pytest.mark.parametrize(
    "group", [b"\x0a\x00", b"\x0a\x02\x12\x00", b"\x0a\x04\x12\x02\x12\x00"], ids=["resource", "scope", "span"]
)
async def test_groups_with_nothing_in_them_neither_hold_the_loop_nor_fill_memory(group):
    store = store_of(group * 50_000, capacity_bytes=MIB)
    assert await found(store) == []
    assert store.slices >= 50_000 // 1500
    assert store.index_bytes <= MIB + 65


async def test_memory_follows_the_bytes_that_are_said():
    store, _ = _full(MIB)
    await store.services()
    assert store.index_bytes < MIB
    assert store.index_bytes > len(store) * 100 * 65


def test_adding_is_cheap():
    """A generous bound, since the machine may be busy: it says that nothing is decoded or copied, not how quick it is."""
    payload = request(*[span(1, number) for number in range(1, 500)])
    store = RecentTraces(8 * MIB)
    gc.collect()
    began = time.process_time()
    for _ in range(10_000):
        store.add(payload, 1.0)
    assert time.process_time() - began < 0.5
    assert store._held[0].payload is payload


async def test_resources_and_scopes_may_stand_behind_their_spans():
    """Protobuf allows any order of fields."""
    batch = ExportTraceServiceRequest.FromString(request(span(1, 1), service="late", scope="lib")).resource_spans[0]
    scope_spans = batch.scope_spans[0]
    spans = b"".join(_field(2, each.SerializeToString()) for each in scope_spans.spans)
    inner = spans + _field(1, scope_spans.scope.SerializeToString())
    store = store_of(_field(1, _field(2, inner) + _field(1, batch.resource.SerializeToString())))
    ((_, origin),) = await decoded(store, 1)
    assert (await store.services(), origin.scope) == (["late"], "lib")


def _field(number, content):
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([number << 3 | 2]) + size + content


async def test_a_status_that_is_not_an_error_is_none():
    fine = span(1, 1)
    fine.status.code = Status.STATUS_CODE_OK
    assert (await store_of(request(fine)).trace(trace_id(1))).summary.error_count == 0

"""Requests of few bytes and very many parts: refused before anything is decoded, and counted."""

import gzip

import pytest

from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.protobuf import length_delimited

from .conftest import METHODS, Running

EMPTY = b"\x12\x00"


def empty_items(count: int) -> bytes:
    return length_delimited(1, length_delimited(2, EMPTY * count))


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics"])
async def test_half_a_million_empty_items_are_refused_over_http(receiver: Running, path: str) -> None:
    answer = await receiver.post(path, empty_items(500_000))
    assert answer.status == 413
    assert b"more than 50000 items" in answer.body
    assert receiver.counts.of("http").refused["too large"] == 1
    assert receiver.destination.batches == []


async def test_and_over_grpc(receiver: Running) -> None:
    trailers = await receiver.call(METHODS["traces"], empty_items(500_000))
    assert trailers["grpc-status"] == "8"
    assert receiver.counts.of("grpc").refused["too large"] == 1
    assert receiver.destination.batches == []


@pytest.mark.parametrize(
    "body", [empty_items(5_000_000), b"\x0a\x00" * 2_000_000, b"\x0a\x04\x12\x02\x12\x00" * 2_800_000]
)
async def test_a_bomb_of_empty_parts_is_refused_before_any_of_it_is_delivered(receiver: Running, body: bytes) -> None:
    answer = await receiver.post("/v1/traces", gzip.compress(body, 1), Content_Encoding="gzip")
    assert answer.status == 413
    assert b"more than 500000 items" in answer.body
    assert receiver.destination.batches == []


async def test_a_large_request_of_small_items_is_delivered_in_pieces_of_few(receiver: Running) -> None:
    answer = await receiver.post("/v1/logs", length_delimited(1, length_delimited(2, b"\x12\x04\x1a\x02ab" * 200_000)))
    assert answer.status == 200
    assert sum(batch.items for batch in receiver.destination.batches) == 200_000
    assert max(batch.items for batch in receiver.destination.batches) == 10_000
    assert all(scan("logs", batch.payload).items == batch.items for batch in receiver.destination.batches)


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 300_000 + b"{}]}]}]}",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 650_000 + b"{}]}]}]}",
        b'{"x":[' + b"[]," * 290_000 + b"0]}",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 60_000 + b"{}]}]}]}",
        b'{"x":[' + b"1," * 300_000 + b"0]}",
    ],
)
async def test_json_of_very_many_objects_is_refused_unread(receiver: Running, body: bytes) -> None:
    answer = await receiver.post("/v1/traces", body, Content_Type="application/json")
    assert answer.status == 413
    assert b" JSON " in answer.body
    assert receiver.counts.of("http").refused["too large"] == 1


async def test_json_of_usual_density_is_taken(receiver: Running) -> None:
    attribute = b'{"key":"a","value":{"intValue":"1"}}'
    span = b'{"name":"n","attributes":[%s]}' % b",".join([attribute] * 20)
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % b",".join([span] * 1_000)
    answer = await receiver.post("/v1/traces", body, Content_Type="application/json")
    assert answer.status == 200
    assert [batch.items for batch in receiver.destination.batches] == [1_000]

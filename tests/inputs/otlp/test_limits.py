"""Slow clients, large requests, bombs, floods and noise: refused, counted, and no growth."""

import asyncio
import contextlib
import gzip
import os
import random
import socket
import zlib
from pathlib import Path

import pytest
import zstandard
from h2_client import H2Client, frame, framed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from novel_agent.inputs.otlp.admission import Admission
from novel_agent.serving.limits import Limits
from novel_agent.wire.protobuf import varint

from .conftest import METHODS, Running, Start, reply, traces, until

MIB = 1 << 20
TRACES = METHODS["traces"]


async def test_a_head_that_drips_in_is_cut_off(start: Start) -> None:
    receiver = await start(Limits(head_seconds=0.1))
    assert await receiver.send(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") == b""
    assert receiver.counts.of("http").refused["slow request"] == 1


async def test_a_head_that_is_too_large_is_refused(receiver: Running) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 4000) for number in range(60))
    answer = reply(await receiver.send(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n" + lines))
    assert (answer.status, answer.headers["content-type"]) == (431, "application/json")


async def test_what_is_not_http_is_answered_with_a_status(receiver: Running) -> None:
    answer = reply(await receiver.send(b"nonsense\r\n\r\n"))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert b'"code":3' in answer.body.replace(b": ", b":")


async def test_a_body_that_drips_in_is_answered_and_cut_off(start: Start) -> None:
    receiver = await start(Limits(body_seconds=0.1))
    answer = reply(await receiver.send(receiver.head(Content_Length="10", Connection="keep-alive"), b"ab"))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert receiver.counts.of("http").refused["slow request"] == 1


async def test_a_quiet_connection_is_closed(start: Start) -> None:
    receiver = await start(Limits(idle_seconds=0.2))
    answers = await receiver.send(receiver.head(Content_Length="0", Connection="keep-alive"))
    assert answers.startswith(b"HTTP/1.1 200")
    client = await H2Client.connect(receiver.grpc_port)
    assert (await client.call(TRACES, framed(traces(1))))["grpc-status"] == "0"
    await client.until_closed()
    assert client.goaway == 0
    await client.close()


async def test_a_grpc_client_that_says_nothing_is_cut_off(start: Start) -> None:
    receiver = await start(Limits(head_seconds=0.1))
    client = await H2Client.connect(receiver.grpc_port)
    await client.until_closed()
    assert receiver.counts.of("grpc").refused["slow request"] == 1
    await client.close()


async def test_a_grpc_head_that_drips_in_is_cut_off(start: Start) -> None:
    receiver = await start(Limits(head_seconds=0.1))
    client = await H2Client.connect(receiver.grpc_port)
    await client.call(TRACES, framed(traces(1)))
    client.writer.write(frame(1, 3, b"x" * 100)[:-1])
    await client.until_closed()
    assert receiver.counts.of("grpc").refused["slow request"] == 1
    await client.close()


async def test_a_grpc_message_that_drips_in_ends_its_call_alone(start: Start) -> None:
    receiver = await start(Limits(body_seconds=0.1))
    client = await H2Client.connect(receiver.grpc_port)
    stream = client.begin(TRACES)
    await client.send(stream, framed(traces(1))[:-1], end=False)
    assert (await client.answer(stream))["grpc-status"] == "4"
    assert (await client.call(TRACES, framed(traces(1))))["grpc-status"] == "0"
    await client.close()


CALL = b"".join(  # without HPACK's table, so that it can be repeated
    [b"\x83\x86", b"\x01\x09localhost", b"\x04\x40" + b"/" * 64, b"\x0f\x10\x10application/grpc"]
)


def calls(first: int, count: int) -> bytes:
    """Calls of an unknown method, without a message."""
    return b"".join(frame(1, first + 2 * number, CALL, flags=5) for number in range(count))


async def test_a_grpc_client_that_reads_no_answers_is_cut_off(start: Start) -> None:
    receiver = await start(Limits(write_seconds=0.2))
    client = await H2Client.connect(receiver.grpc_port)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: receiver.grpc._connections)
    [connection] = receiver.grpc._connections
    for end, option in ((client.writer.transport, socket.SO_RCVBUF), (connection._wire, socket.SO_SNDBUF)):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
    refused = receiver.counts.of("grpc").refused
    while not (connection._is_blocked or refused["slow reader"]):
        answered = connection._requests
        client.writer.write(calls(1 + 2 * answered, 30))
        await until(
            lambda goal=answered + 30: connection._is_blocked or refused["slow reader"] or connection._requests == goal
        )
    await until(lambda: receiver.counts.of("grpc").refused["slow reader"] == 1)
    await until(lambda: receiver.counts.of("grpc").connections == 0)
    client.writer.transport.abort()


async def test_connections_beyond_the_most_are_refused(start: Start) -> None:
    receiver = await start(Limits(connections=2))
    held = [await receiver.connect() for _ in range(2)]
    await until(lambda: receiver.counts.of("http").connections == 2)
    assert await receiver.send(receiver.head(Content_Length="0")) == b""
    assert receiver.counts.of("http").refused["too many connections"] == 1
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    await until(lambda: receiver.counts.of("http").connections == 0)
    assert (await receiver.post("/v1/traces", b"")).status == 200


async def test_a_body_declared_too_large_is_refused_before_it_is_sent(start: Start) -> None:
    receiver = await start(max_request_bytes=MIB)
    reader, writer = await receiver.connect()
    writer.write(receiver.head(Content_Length=str(MIB + 1), Expect="100-continue"))
    assert reply(await reader.read()).status == 413
    writer.close()
    await writer.wait_closed()


def compressed(body: bytes, encoding: str) -> bytes:
    zstd = zstandard.ZstdCompressor()
    return {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress, "identity": bytes}[encoding](body)


def of_size(size_bytes: int) -> bytes:
    """A valid export request of 1 MiB or more, of exactly so many bytes; one span in it."""
    request = traces(1)
    padding = size_bytes - len(request) - 5
    return request + b"\x7a" + varint(padding).ljust(4, b"\0") + bytes(padding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate", "identity"])
async def test_the_most_is_taken_and_a_byte_more_is_not(start: Start, encoding: str) -> None:
    receiver = await start(max_request_bytes=4 * MIB)
    body = of_size(4 * MIB)
    assert len(body) == 4 * MIB
    sent = compressed(body, encoding)
    assert (await receiver.post("/v1/traces", sent, Content_Encoding=encoding)).status == 200
    sent = compressed(body + b"\0", encoding)
    assert (await receiver.post("/v1/traces", sent, Content_Encoding=encoding)).status == 413
    chunked = receiver.head(Transfer_Encoding="chunked", Content_Encoding=encoding)
    assert reply(await receiver.send(chunked, *chunks(sent))).status == 413
    assert receiver.destination.items == 1
    assert receiver.counts.of("http").refused["too large"] == 2


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_over_grpc_the_most_is_taken_and_a_byte_more_is_not(start: Start, is_compressed: bool) -> None:
    receiver = await start(max_request_bytes=4 * MIB)
    encode = gzip.compress if is_compressed else bytes
    sent = encode(of_size(4 * MIB))
    assert (await receiver.call(TRACES, sent, compressed=is_compressed, grpc_encoding="gzip"))["grpc-status"] == "0"
    sent = encode(of_size(4 * MIB) + b"\0")
    assert (await receiver.call(TRACES, sent, compressed=is_compressed, grpc_encoding="gzip"))["grpc-status"] == "8"
    assert receiver.destination.items == 1


async def test_the_most_may_be_less_than_what_is_taken_as_a_whole(start: Start) -> None:
    receiver = await start(max_request_bytes=64 << 10)
    body = traces(1, padding=(64 << 10) - 60)
    assert len(body) < 64 << 10 < len(body + body)
    assert (await receiver.post("/v1/traces", body)).status == 200
    assert (await receiver.post("/v1/traces", body + body)).status == 413
    assert (await receiver.post("/v1/traces", gzip.compress(body + body), Content_Encoding="gzip")).status == 413
    assert (await receiver.call(TRACES, body + body))["grpc-status"] == "8"
    sent = gzip.compress(body + body)
    assert (await receiver.call(TRACES, sent, compressed=True, grpc_encoding="gzip"))["grpc-status"] == "8"


async def test_a_large_request_is_delivered_in_pieces_in_order(receiver: Running) -> None:
    body = traces(3000, padding=1000)
    assert (await receiver.post("/v1/traces", gzip.compress(body), Content_Encoding="gzip")).status == 200
    batches = receiver.destination.batches
    assert len(batches) > 2
    assert all(len(batch.payload) <= 1.1 * MIB for batch in batches)
    assert receiver.destination.items == receiver.counts.of("http").items["traces"] == 3000
    joined = ExportTraceServiceRequest.FromString(b"".join(batch.payload for batch in batches))
    names = [span.name.rstrip("x") for each in joined.resource_spans for span in each.scope_spans[0].spans]
    assert names == [f"span {number}" for number in range(3000)]


async def test_of_a_large_request_that_is_malformed_at_its_end_nothing_is_delivered(receiver: Running) -> None:
    body = traces(3000, padding=1000) + b"\xff"
    assert (await receiver.post("/v1/traces", body)).status == 400
    assert (await receiver.call(TRACES, body))["grpc-status"] == "3"
    assert receiver.destination.batches == []


async def test_no_file_is_left_behind(receiver: Running, tmp_path: Path) -> None:
    await receiver.post("/v1/traces", traces(3000, padding=1000))
    assert os.listdir(tmp_path) == []


async def test_without_room_for_the_file_the_client_is_told_to_come_back(start: Start, tmp_path: Path) -> None:
    receiver = await start()
    os.rmdir(tmp_path)
    answer = await receiver.post("/v1/traces", traces(3000, padding=1000))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    os.mkdir(tmp_path)


async def test_large_json_is_taken_up_to_its_own_bound(receiver: Running) -> None:
    record = b'{"body":{"stringValue":"%s"}}' % (b"x" * 100_000)
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}'
    taken = body % b",".join([record] * 15)
    assert (await receiver.post("/v1/logs", taken, Content_Type="application/json")).status == 200
    assert receiver.destination.items == 15
    refused = await receiver.post("/v1/logs", body % b",".join([record] * 25), Content_Type="application/json")
    assert (refused.status, receiver.destination.items) == (413, 15)
    assert b"protobuf" in refused.body


def chunks(body: bytes) -> list[bytes]:
    parts = [body[start : start + 50000] for start in range(0, len(body), 50000)] + [b""]
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]


BOMBS = [
    ("gzip", gzip.compress(bytes(64 * MIB), 9)),
    ("deflate", zlib.compress(bytes(64 * MIB), 9)),
    ("zstd", zstandard.ZstdCompressor(level=19).compress(bytes(64 * MIB))),
]


@pytest.mark.parametrize(("encoding", "bomb"), BOMBS, ids=[encoding for encoding, _ in BOMBS])
async def test_a_bomb_is_found_out_while_it_unfolds(start: Start, encoding: str, bomb: bytes) -> None:
    receiver = await start()
    assert (await receiver.post("/v1/traces", bomb, Content_Encoding=encoding)).status == 400
    assert receiver.admission.highest_bytes < 3 * MIB


async def test_a_zstd_frame_with_a_window_beyond_the_usual_is_refused(receiver: Running) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    frame_of_it = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    sent = frame_of_it.compress(traces(1)) + frame_of_it.flush()
    assert (await receiver.post("/v1/traces", sent, Content_Encoding="zstd")).status == 400


# floods ---------------------------------------------------------------------------------------------------------------


async def flooded(receiver: Running, flood: bytes) -> H2Client:
    client = await H2Client.connect(receiver.grpc_port)
    with contextlib.suppress(ConnectionError):
        client.writer.write(flood)
        await client.until_closed()
    await until(lambda: receiver.counts.of("grpc").connections == 0)
    await client.close()
    return client


FLOODS = [
    ("resets", b"".join(calls(number, 1) + frame(3, number, bytes(4)) for number in range(1, 4000, 2))),
    ("pings", frame(6, 0, bytes(8)) * 1000),
    ("settings", frame(4, 0, b"") * 1000),
    ("priorities", frame(2, 1, bytes(5)) * 1000),
    ("empty data", calls(1, 1)[:4] + b"\x04" + calls(1, 1)[5:] + frame(0, 1, b"") * 1000),
    ("window updates", frame(8, 0, b"\0\0\0\1") * 1000),
    ("unknown frames", frame(99, 0, b"x") * 1000),
]


@pytest.mark.parametrize(("kind", "flood"), FLOODS, ids=[kind for kind, _ in FLOODS])
async def test_a_flood_of_frames_that_bring_nothing_ends_the_connection(
    receiver: Running, kind: str, flood: bytes
) -> None:
    client = await flooded(receiver, flood)
    assert receiver.counts.of("grpc").refused["flood"] == 1
    assert client.goaway in (11, None)
    assert receiver.admission.held_bytes == 0


async def test_a_head_that_goes_on_and_on_ends_the_connection(receiver: Running) -> None:
    endless = frame(1, 1, CALL, flags=0) + frame(9, 1, bytes(16000)) * 10
    await flooded(receiver, endless)
    assert receiver.counts.of("grpc").refused["too large"] == 1


async def test_more_calls_at_a_time_than_agreed_end_the_connection(receiver: Running) -> None:
    await flooded(receiver, b"".join(frame(1, 1 + 2 * number, CALL, flags=4) for number in range(65)))
    assert receiver.counts.of("grpc").refused["malformed"] == 1


async def test_a_frame_larger_than_agreed_ends_the_connection(receiver: Running) -> None:
    client = await flooded(receiver, b"\xff\xff\xff" + bytes(6))
    assert client.goaway == 6


async def test_http_on_the_grpc_port_is_told_where_it_belongs(receiver: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.grpc_port)
    writer.write(b"POST /v1/traces HTTP/1.1\r\n\r\n")
    raw = await reader.read()
    assert b"HTTP/1.1 400" in raw
    assert b"4318" in raw
    writer.close()
    await writer.wait_closed()


async def test_pings_are_answered_and_calls_go_on(receiver: Running) -> None:
    client = await H2Client.connect(receiver.grpc_port)
    for _ in range(100):
        client.h2.ping(b"12345678")
        assert (await client.call(TRACES, framed(traces(1))))["grpc-status"] == "0"
    await client.close()
    assert receiver.destination.items == 100


# noise ----------------------------------------------------------------------------------------------------------------


def damaged(body: bytes, generator: random.Random) -> bytes:
    kind = generator.randrange(3)
    if kind == 0:
        return body[: generator.randrange(len(body))]
    if kind == 1:
        position = generator.randrange(len(body))
        return body[:position] + bytes([body[position] ^ 1 << generator.randrange(8)]) + body[position + 1 :]
    return generator.randbytes(generator.randrange(200))


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd", "deflate"])
async def test_damaged_bodies_are_refused_or_taken_and_nothing_else(receiver: Running, encoding: str) -> None:
    generator = random.Random(4318)
    sound = compressed(traces(5), encoding)
    reader, writer = await receiver.connect()
    for _ in range(300):
        body = damaged(sound, generator)
        writer.write(
            receiver.head(Content_Length=str(len(body)), Content_Encoding=encoding, Connection="keep-alive") + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:12] in (b"200", b"400")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()
    await until(lambda: receiver.admission.held_bytes == 0)
    assert receiver.counts.of("http").requests["failed"] == 0


async def test_damaged_frames_end_the_connection_at_the_most(receiver: Running) -> None:
    generator = random.Random(4317)
    sound = frame(1, 1, CALL, flags=4) + frame(0, 1, framed(traces(3)), flags=1)
    for _ in range(200):
        client = await H2Client.connect(receiver.grpc_port)
        client.writer.write(damaged(sound, generator))
        await client.receive()
        await client.close()
    await until(lambda: receiver.counts.of("grpc").connections == 0)
    assert receiver.admission.held_bytes == 0
    assert receiver.counts.of("grpc").requests["failed"] == 0
    assert (await receiver.call(TRACES, traces(1)))["grpc-status"] == "0"


# many connections -----------------------------------------------------------------------------------------------------


async def test_more_than_the_budget_is_not_read(start: Start) -> None:
    receiver = await start(admission=Admission(MIB))
    waiting = asyncio.Event()

    async def wait() -> None:
        await waiting.wait()

    receiver.destination.outcomes = [wait] * 200
    body = traces(20, padding=1000)
    asking = [asyncio.create_task(receiver.post("/v1/traces", body)) for _ in range(200)]
    await until(lambda: receiver.admission.is_full)
    assert receiver.admission.held_bytes < 2 * MIB
    waiting.set()
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 200
    assert receiver.admission.highest_bytes < 2 * MIB


async def test_who_is_held_up_for_too_long_is_told_to_come_back(start: Start) -> None:
    receiver = await start(Limits(body_seconds=5.0), admission=Admission(100_000, wait_seconds=0.2))
    _, writer = await receiver.connect()
    writer.write(receiver.head(Content_Length="1000000") + bytes(50_000))
    await until(lambda: receiver.admission.held_bytes >= 50_000)
    _, second_writer = second = await receiver.connect()
    second_writer.write(receiver.head(Content_Length="1000000") + bytes(60_000))
    raw = await second[0].read()
    answer = reply(raw)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    for each in (writer, second_writer):
        each.close()
        with contextlib.suppress(ConnectionError):
            await each.wait_closed()
    assert receiver.counts.of("http").refused["busy"] == 1

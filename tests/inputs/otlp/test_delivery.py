"""When a request is answered, and what happens when its data cannot be taken."""

import asyncio
import base64
import contextlib

import pytest
from h2_client import H2Client, framed

from novel_agent.state.queue import QueueFull
from novel_agent.wire.otlp_response import rpc_status

from .conftest import METHODS, Running, Start, logs, traces, until


async def full() -> None:
    error = QueueFull("full")
    error.retry_after_seconds = 2.5  # type: ignore[attr-defined,unused-ignore]
    raise error


async def fault() -> None:
    raise RuntimeError("a fault of ours")


async def test_the_answer_comes_when_the_data_is_durable_and_not_before(receiver: Running) -> None:
    durable = asyncio.Event()

    async def wait() -> None:
        await durable.wait()

    receiver.destination.outcomes = [wait, wait]
    over_http = asyncio.create_task(receiver.post("/v1/traces", traces(1)))
    over_grpc = asyncio.create_task(receiver.call(METHODS["traces"], traces(1)))
    await until(lambda: not receiver.destination.outcomes)
    assert not over_http.done()
    assert not over_grpc.done()
    durable.set()
    assert (await over_http).status == 200
    assert (await over_grpc)["grpc-status"] == "0"


async def test_a_full_queue_is_told_with_a_time_to_come_back(receiver: Running) -> None:
    receiver.destination.outcomes = [full, full]
    answer = await receiver.post("/v1/traces", traces(1))
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert rpc_status(answer.body).retry_after_seconds == 2.5
    trailers = await receiver.call(METHODS["traces"], traces(1))
    assert trailers["grpc-status"] == "14"
    details = base64.b64decode(trailers["grpc-status-details-bin"] + "==")
    assert rpc_status(details).retry_after_seconds == 2.5
    assert receiver.counts.of("http").refused["queue full"] == receiver.counts.of("grpc").refused["queue full"] == 1
    assert (await receiver.post("/v1/traces", traces(1))).status == 200


async def test_a_full_queue_is_told_in_json_too(receiver: Running) -> None:
    receiver.destination.outcomes = [full]
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityText":"INFO"}]}]}]}'
    answer = await receiver.post("/v1/logs", body, Content_Type="application/json")
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert b'"retryDelay":"2.5' in answer.body.replace(b'": "', b'":"')


async def test_a_fault_of_ours_is_logged_and_told_as_one(receiver: Running, caplog: pytest.LogCaptureFixture) -> None:
    receiver.destination.outcomes = [fault, fault]
    assert (await receiver.post("/v1/traces", traces(1))).status == 500
    assert (await receiver.call(METHODS["traces"], traces(1)))["grpc-status"] == "13"
    assert [record.message for record in caplog.records] == ["request failed", "request failed"]
    for transport in (receiver.counts.of("http"), receiver.counts.of("grpc")):
        assert (transport.requests["failed"], transport.refused["fault"]) == (1, 1)
    assert (await receiver.call(METHODS["logs"], logs(1)))["grpc-status"] == "0"


async def test_a_client_that_hangs_up_is_not_waited_for(receiver: Running) -> None:
    receiver.destination.outcomes = [asyncio.Event().wait, asyncio.Event().wait]  # type: ignore[list-item]
    _, writer = await receiver.connect()
    writer.write(receiver.head(Content_Length=str(len(traces(1)))) + traces(1))
    client = await H2Client.connect(receiver.grpc_port)
    stream = client.begin(METHODS["traces"])
    await client.send(stream, framed(traces(1)))
    await until(lambda: not receiver.destination.outcomes)
    writer.close()
    client.reset(stream)
    await until(lambda: receiver.destination.cancelled == 2)
    await until(lambda: receiver.counts.of("http").requests["hung_up"] == 1)
    await until(lambda: receiver.counts.of("grpc").requests["hung_up"] == 1)
    assert (await client.call(METHODS["traces"], framed(traces(1))))["grpc-status"] == "0"
    await client.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_client_that_hangs_up_within_its_body_leaves_nothing(receiver: Running) -> None:
    _, writer = await receiver.connect()
    writer.write(receiver.head(Content_Length="100000") + b"x" * 50000)
    await until(lambda: receiver.admission.held_bytes > 50000)
    writer.close()
    await until(lambda: receiver.admission.held_bytes == 0)
    assert receiver.destination.batches == []


async def test_a_calls_deadline_is_kept(receiver: Running) -> None:
    receiver.destination.outcomes = [asyncio.Event().wait]  # type: ignore[list-item]
    assert (await receiver.call(METHODS["traces"], traces(1), grpc_timeout="20m"))["grpc-status"] == "4"
    assert receiver.destination.cancelled == 1
    assert (await receiver.call(METHODS["traces"], traces(1), grpc_timeout="nonsense"))["grpc-status"] == "0"


async def test_stopping_lets_what_was_asked_finish(start: Start) -> None:
    receiver = await start()
    durable = asyncio.Event()

    async def wait() -> None:
        await durable.wait()

    receiver.destination.outcomes = [wait, wait]
    client = await H2Client.connect(receiver.grpc_port)
    stream = client.begin(METHODS["traces"])
    await client.send(stream, framed(traces(1)))
    over_http = asyncio.create_task(receiver.post("/v1/traces", traces(1)))
    await until(lambda: not receiver.destination.outcomes)
    while client.h2.remote_settings.max_concurrent_streams > 1000:
        await client.receive()
    stopping = asyncio.gather(receiver.grpc.stop(5.0), receiver.http.stop(5.0))
    goaway = await client.reader.readexactly(17)
    assert (goaway[3], goaway[9:]) == (7, bytes([0, 0, 0, stream, 0, 0, 0, 0]))
    durable.set()
    assert (await over_http).status == 200
    await stopping
    assert kinds_of_frames(await client.reader.read()) == ["HEADERS", "DATA", "HEADERS"]
    await client.close()


def kinds_of_frames(raw: bytes) -> list[str]:
    kinds = []
    while raw:
        kinds.append({0: "DATA", 1: "HEADERS", 8: "WINDOW_UPDATE"}[raw[3]])
        raw = raw[9 + int.from_bytes(raw[:3], "big") :]
    return kinds


async def test_what_does_not_finish_is_cut_off_at_the_deadline(start: Start) -> None:
    receiver = await start()
    receiver.destination.outcomes = [asyncio.Event().wait, asyncio.Event().wait]  # type: ignore[list-item]
    over_http = asyncio.create_task(receiver.send(receiver.head(Content_Length=str(len(traces(1)))), traces(1)))
    over_grpc = asyncio.create_task(receiver.call(METHODS["traces"], traces(1)))
    await until(lambda: not receiver.destination.outcomes)
    await receiver.http.stop(0.05)
    await receiver.grpc.stop(0.05)
    assert await over_http == b""
    assert await over_grpc == {}


async def test_a_successor_at_the_same_address_takes_the_sockets_over(start: Start) -> None:
    first = await start()
    second = await start(predecessor=first)
    assert (second.http_port, second.grpc_port) == (first.http_port, first.grpc_port)
    await first.http.stop(1.0)
    await first.grpc.stop(1.0)
    assert (await first.post("/v1/traces", traces(1))).status == 200
    assert (await first.call(METHODS["traces"], traces(2)))["grpc-status"] == "0"
    assert (first.destination.items, second.destination.items) == (0, 3)

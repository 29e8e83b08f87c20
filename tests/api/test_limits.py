import asyncio
import contextlib
import socket
from typing import cast

import pytest

from novel_agent.serving.limits import Limits

from .conftest import DEADLINE_SECONDS, Reply, Running, Start, until

FIRST_LINES = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
MIB = 1 << 20


async def answered(agent: Running, raw: bytes) -> Reply:
    answer = await agent.send(raw)
    assert answer.count(b"HTTP/1.") == 1
    return Reply(answer)


async def test_a_request_line_that_is_too_long_is_refused(agent: Running) -> None:
    reply = await answered(agent, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert reply.status == 400
    assert reply.json()["errorType"] == "bad_data"
    assert agent.server.traffic.refused["malformed"] == 1


async def test_a_header_that_is_too_long_is_refused(agent: Running) -> None:
    assert (await answered(agent, FIRST_LINES + b"Cookie: " + b"a" * 9000 + b"\r\n\r\n")).status == 400


async def test_too_many_headers_are_refused(agent: Running) -> None:
    headers = b"".join(b"X-%d: 1\r\n" % number for number in range(70))
    assert (await answered(agent, FIRST_LINES + headers + b"\r\n")).status == 400


async def test_a_head_that_is_too_large_in_all_is_refused(agent: Running) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 4000) for number in range(60))
    reply = await answered(agent, FIRST_LINES + headers)
    assert reply.status == 431
    assert reply.json() == {
        "status": "error",
        "errorType": "too_large",
        "error": "the head of the request is too large",
    }
    assert agent.server.traffic.refused["too large"] == 1


async def test_a_head_that_is_too_large_is_refused_also_where_it_is_complete(start: Start) -> None:
    agent = await start(Limits(head_bytes=200))
    assert (await answered(agent, FIRST_LINES + b"Cookie: " + b"a" * 200 + b"\r\n\r\n")).status == 431
    assert (await answered(agent, FIRST_LINES + b"Connection: close\r\n\r\n")).status == 200


NOT_HTTP = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"]


@pytest.mark.parametrize("raw", NOT_HTTP)
async def test_what_is_not_http_is_refused_in_one_answer(agent: Running, raw: bytes) -> None:
    reply = await answered(agent, raw)
    assert reply.status == 400
    assert reply.json()["status"] == "error"


async def test_a_body_declared_too_large_is_refused(agent: Running) -> None:
    head = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (100 * MIB)
    reply = await answered(agent, head + b"x" * (2 * MIB))
    assert reply.status == 413
    assert reply.json()["errorType"] == "too_large"
    assert agent.server.traffic.refused["too large"] == 1
    assert agent.daemon.config_status.last_reload_at is None


async def test_a_chunked_body_is_refused_where_it_becomes_too_large(agent: Running) -> None:
    head = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert (await answered(agent, head + chunk * 20)).status == 413


async def test_a_body_sent_to_what_everybody_may_ask_is_not_read(agent: Running) -> None:
    head = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (100 * MIB)
    assert (await answered(agent, head)).status == 200


async def test_a_malformed_body_is_refused(agent: Running) -> None:
    head = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await answered(agent, head + b"5\r\nab\r\nzz\r\n\r\n")).status == 400


async def test_a_head_that_drips_in_is_cut_off(start: Start) -> None:
    agent = await start(Limits(head_seconds=0.1))
    assert await agent.send(FIRST_LINES + b"X-Slow: ") == b""
    assert agent.server.traffic.refused["slow request"] == 1
    await until(lambda: agent.server.traffic.connections == 0)


async def test_a_connection_that_asks_nothing_is_cut_off(start: Start) -> None:
    agent = await start(Limits(head_seconds=0.1))
    assert await agent.send(b"") == b""


async def test_a_second_head_that_drips_in_is_cut_off_too(start: Start) -> None:
    agent = await start(Limits(head_seconds=0.1, idle_seconds=60.0))
    reader, writer = await agent.connect()
    writer.write(FIRST_LINES + b"\r\n")
    await reader.readuntil(b"}")
    writer.write(FIRST_LINES)
    assert await reader.read() == b""
    assert agent.server.traffic.refused["slow request"] == 1
    writer.close()
    await writer.wait_closed()


async def test_the_end_of_a_head_may_fall_between_two_packets(agent: Running) -> None:
    reader, writer = await agent.connect()
    writer.write(b"POST /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\nConnection: close\r\n\r")
    await asyncio.sleep(0)
    writer.write(b"\n" + b"x" * 40000)
    assert Reply(await reader.read()).status == 405
    writer.close()
    await writer.wait_closed()


async def test_a_quiet_connection_is_kept_for_the_next_scrape_and_then_closed(start: Start) -> None:
    agent = await start(Limits(head_seconds=0.05, idle_seconds=0.3))
    reader, writer = await agent.connect()
    for _ in range(2):
        writer.write(FIRST_LINES + b"\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    assert await reader.read() == b""
    assert agent.server.traffic.refused["slow request"] == 0
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_drips_in_is_answered_and_cut_off(start: Start) -> None:
    agent = await start(Limits(body_seconds=0.1))
    reply = await answered(agent, b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nab")
    assert reply.status == 408
    assert reply.json()["errorType"] == "timeout"
    assert agent.server.traffic.refused["slow request"] == 1


async def test_a_client_that_does_not_take_its_answers_is_cut_off(start: Start) -> None:
    agent = await start(Limits(write_seconds=0.2))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", agent.port))

        async def ask_and_never_read() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(client, b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)

        asking = asyncio.create_task(ask_and_never_read())
        await until(lambda: agent.server.traffic.refused["slow reader"] == 1)
        await until(lambda: agent.server.traffic.connections == 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_client_that_takes_its_answers_in_sips_is_cut_off_too(start: Start) -> None:
    agent = await start(Limits(write_seconds=0.5))
    _, writer = await agent.connect()
    transport = cast(asyncio.Transport, writer.transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.pause_reading()
    writer.write(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
    await until(lambda: any(each.writing_paused for each in agent.server._listener._connections))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not agent.server.traffic.refused["slow reader"]:
            transport.resume_reading()
            await asyncio.sleep(0)
            transport.pause_reading()
            await asyncio.sleep(0.02)
    transport.abort()


async def test_a_client_whose_answers_the_kernel_cannot_deliver_is_cut_off_too(start: Start) -> None:
    agent = await start(Limits(write_seconds=0.5))
    _, writer = await agent.connect()
    transport = cast(asyncio.Transport, writer.transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.pause_reading()
    writer.write(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    await until(lambda: agent.server.traffic.refused["slow reader"] == 1)
    assert agent.server.traffic.connections == 0
    transport.abort()


async def test_connections_beyond_the_most_are_refused_until_one_ends(start: Start) -> None:
    agent = await start(Limits(connections=2))
    held = [await agent.connect() for _ in range(2)]
    await until(lambda: agent.server.traffic.connections == 2)
    assert await agent.send(FIRST_LINES + b"\r\n") == b""
    assert agent.server.traffic.refused["too many connections"] == 1
    held[0][1].close()
    await until(lambda: agent.server.traffic.connections == 1)
    assert (await agent.ask("/health")).status == 200
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_stopping_closes_every_connection(start: Start) -> None:
    agent = await start(Limits(stop_seconds=0.1))
    reader, writer = await agent.connect()
    writer.write(FIRST_LINES + b"\r\n")
    await reader.readuntil(b"}")
    await agent.server.stop()
    assert await reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await agent.connect()
    writer.close()
    await writer.wait_closed()

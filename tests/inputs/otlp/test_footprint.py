"""Resident memory of a process that does nothing but receive, whatever is sent to it."""

import asyncio
import contextlib
import gzip
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from h2_client import H2Client, framed

from .conftest import METHODS, reply, traces

MIB = 1 << 20
MOST_MIB = 64
CONNECTIONS = 1000

SERVER = """
import asyncio, signal, sys, uvloop
from novel_agent.config.schema import OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission
from novel_agent.inputs.otlp.counts import Counts
from novel_agent.inputs.otlp.grpc import OtlpGrpcReceiver
from novel_agent.inputs.otlp.http import OtlpHttpReceiver
from novel_agent.serving.access import TokenInMemory

async def deliver(batch):
    await asyncio.sleep(0.005)

async def main():
    config = OtlpReceiver(http="127.0.0.1:0", grpc="127.0.0.1:0")
    shared = dict(admission=Admission(), counts=Counts(), token=TokenInMemory("x"), names=frozenset(),
                  spill_directory=sys.argv[1])
    receivers = [kind(config, deliver, **shared) for kind in (OtlpHttpReceiver, OtlpGrpcReceiver)]
    print(*[(await receiver.start()).rsplit(":", 1)[1].strip("/") for receiver in receivers], flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for receiver in receivers:
        await receiver.stop(1.0)

uvloop.run(main())
"""


class Server:
    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-W", "error", "-c", SERVER, str(directory)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.http_port, self.grpc_port = map(int, self.process.stdout.readline().split())

    def highest_mib(self) -> float:
        """The most that was resident so far."""
        with open(f"/proc/{self.process.pid}/status") as file:
            [line] = [line for line in file if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            return self.process.wait(20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    running = Server(tmp_path)
    yield running
    assert running.stop() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def head(size: int, **headers: str) -> bytes:
    lines = ["POST /v1/traces HTTP/1.1", "Host: localhost", "Content-Type: application/x-protobuf"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode()


async def ask(port: int, *parts: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    status = reply(await reader.readuntil(b"\r\n\r\n")).status
    writer.close()
    await writer.wait_closed()
    return status


async def test_the_largest_request_and_one_byte_more(server: Server) -> None:
    piece = traces(1000, padding=1000)
    body = (piece * (64 * MIB // len(piece) + 1))[: 64 * MIB]
    whole = body[: len(body) // len(piece) * len(piece)]
    assert await ask(server.http_port, head(len(whole)), whole) == 200
    assert await ask(server.http_port, head(len(sent := gzip.compress(whole, 1)), Content_Encoding="gzip"), sent) == 200
    too_much = gzip.compress(body + piece[:1], 1)
    assert await ask(server.http_port, head(len(too_much), Content_Encoding="gzip"), too_much) in (400, 413)
    client = await H2Client.connect(server.grpc_port)
    assert (await client.call(METHODS["traces"], framed(whole)))["grpc-status"] == "0"
    assert (await client.call(METHODS["traces"], framed(bytes(64 * MIB + 1))))["grpc-status"] == "8"
    await client.close()
    assert server.highest_mib() < MOST_MIB


async def test_a_thousand_connections_that_send_at_once(server: Server) -> None:
    body = traces(100, padding=400)
    everyone = [ask(server.http_port, head(len(body)), body) for _ in range(CONNECTIONS)]
    assert set(await asyncio.gather(*everyone)) == {200}
    assert server.highest_mib() < MOST_MIB


async def test_two_hundred_megabytes_at_once(server: Server) -> None:
    body = traces(900, padding=1000)
    everyone = [ask(server.http_port, head(len(body)), body) for _ in range(200)]
    assert set(await asyncio.gather(*everyone)) <= {200, 503}
    assert server.highest_mib() < MOST_MIB


async def test_a_thousand_connections_that_stall_within_their_bodies(server: Server) -> None:
    held = [await asyncio.open_connection("127.0.0.1", server.http_port) for _ in range(CONNECTIONS)]
    for _, writer in held:
        writer.write(head(1000_000) + bytes(200_000))
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await ask(server.http_port, head(0))  # answered or cut off when the others are, after seconds
    for _, writer in held:
        writer.transport.abort()
    assert server.highest_mib() < MOST_MIB


async def test_five_hundred_grpc_connections(server: Server) -> None:
    message = framed(traces(20))
    clients = [await H2Client.connect(server.grpc_port) for _ in range(500)]
    answers = await asyncio.gather(*[client.call(METHODS["traces"], message) for client in clients])
    assert {answer["grpc-status"] for answer in answers} == {"0"}
    for client in clients:
        await client.close()
    assert server.highest_mib() < MOST_MIB

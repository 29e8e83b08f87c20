"""Sends one body at a fixed rate: `python -m benchmarks.paced_client URL FILE RATE SECONDS`. Prints a line of JSON.

Requests begin at their time whether or not those before were answered (an open loop), so a server that stalls is seen to.
`latencies_ms` has quantiles 0.5, 0.9, 0.99 and 1 of the time from when a request was due to its answer.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 32


class Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] | None = None
        self._got = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """An answer ends with its head: success has no body."""
        self._got += data
        if b"\r\n\r\n" in self._got and self.answer is not None:
            self.answer.set_result(self._got[:12])
            self._got = b""


async def main(url: str, body: bytes, rate: float, seconds: float) -> dict[str, object]:
    """Run and summarise."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(Client, parts.hostname, parts.port)
        free.put_nowait(client)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-protobuf\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    latencies: list[float] = []
    bad = 0

    async def one(due: float) -> None:
        nonlocal bad
        client = await free.get()
        assert client.transport is not None
        client.answer = loop.create_future()
        client.transport.write(request)
        status = await client.answer
        bad += not status.endswith(b" 200")
        latencies.append(time.perf_counter() - due)
        free.put_nowait(client)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    latencies.sort()
    quantiles = [latencies[min(len(latencies) - 1, int(len(latencies) * each))] for each in (0.5, 0.9, 0.99, 1.0)]
    took = time.perf_counter() - began
    return {
        "sent": len(latencies),
        "bad": bad,
        "rate": len(latencies) / took,
        "latencies_ms": [1000 * each for each in quantiles],
    }


if __name__ == "__main__":
    print(
        json.dumps(
            uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), float(sys.argv[3]), float(sys.argv[4])))
        )
    )

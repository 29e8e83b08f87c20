"""A server that answers every POST with 200 and counts bytes: `python -m benchmarks.counting_sink PORT`. GET gives the count.

Bare asyncio on uvloop, so that it costs little of the two cores that the programs compared run on.
"""

import asyncio
import sys
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
received_bytes = 0


class Sink(asyncio.Protocol):
    """Knows just enough HTTP/1.1: heads, Content-Length, chunks."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._chunked = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Count, and answer at the end of each request."""
        global received_bytes
        while data:
            if self._left:
                taken = min(self._left, len(data))
                received_bytes += taken
                self._left -= taken
                data = data[taken:]
                if not self._left:
                    self._answer(_ANSWER)
                continue
            if self._chunked:
                self._head += data
                if not self._head.endswith(b"0\r\n\r\n"):
                    received_bytes += len(data)
                    self._head = self._head[-8:]
                    return
                self._head, self._chunked = b"", False
                self._answer(_ANSWER)
                return
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._head = self._head[:end].lower(), self._head[end + 4 :], b""
            if head.startswith(b"get"):
                body = str(received_bytes).encode()
                self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                continue
            self._chunked = b"transfer-encoding: chunked" in head
            if not self._chunked:
                self._left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                if not self._left:
                    self._answer(_ANSWER)

    def _answer(self, answer: bytes) -> None:
        assert self._transport is not None
        self._transport.write(answer)


async def main(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

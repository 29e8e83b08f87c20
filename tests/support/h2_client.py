"""A gRPC client to the frame: it sends what it is told, right or wrong, and shows what came back."""

import asyncio
import contextlib
import ssl
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import H2Error

DEADLINE_SECONDS = 10.0


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """A message with gRPC's prefix."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class H2Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.reader = reader
        self.writer = writer
        self.authority = authority
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.closed = False

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> "H2Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        client = cls(reader, writer, f"127.0.0.1:{port}")
        client.h2.initiate_connection()
        client.flush()
        return client

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def begin(self, path: str, **headers: str | None) -> int:
        """Send the head of a call; header names are written with underscores, None leaves one out."""
        stream = self.h2.get_next_available_stream_id()
        sent: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": self.authority,
            ":path": path,
            "te": "trailers",
            "content-type": "application/grpc",
        }
        pseudo = {"method", "authority"}
        sent |= {(f":{name}" if name in pseudo else name.replace("_", "-")): value for name, value in headers.items()}
        self.h2.send_headers(stream, [(name, value) for name, value in sent.items() if value is not None])
        self.flush()
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send data as the windows allow, until all is sent or the stream is ended by the server."""
        rest = memoryview(data)
        while rest:
            if stream in self.resets or stream in self.ended or self.closed:
                return
            window = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if window:
                self.h2.send_data(stream, bytes(rest[:window]))
                rest = rest[window:]
                self.flush()
            else:
                await self.receive()
        if end:
            with contextlib.suppress(H2Error):
                self.h2.end_stream(stream)
            self.flush()

    async def receive(self) -> None:
        """Take what comes next."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                data = await self.reader.read(1 << 16)
            except ConnectionError:
                data = b""
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self._on(event)
        self.flush()

    def _on(self, event: Any) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            self.headers.setdefault(event.stream_id, {}).update(event.headers)
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)

    async def answer(self, stream: int) -> dict[str, str]:
        """The headers and trailers of the answer, once it is complete."""
        while stream not in self.ended and stream not in self.resets and not self.closed:
            await self.receive()
        return self.headers.get(stream, {})

    async def call(self, path: str, data: bytes, **headers: str | None) -> dict[str, str]:
        """One call: its answer's headers and trailers."""
        stream = self.begin(path, **headers)
        await self.send(stream, data)
        return await self.answer(stream)

    async def until_closed(self) -> None:
        """Read until the server has closed the connection."""
        while not self.closed:
            await self.receive()

    def reset(self, stream: int) -> None:
        self.h2.reset_stream(stream, ErrorCodes.CANCEL)
        self.flush()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

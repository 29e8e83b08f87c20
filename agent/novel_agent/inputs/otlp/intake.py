"""From the bytes of a request to batches that are delivered, whatever transport they came by.

A request of up to `WHOLE_BYTES` is decompressed and checked in memory and delivered as one batch. A larger one in protobuf
goes through a temporary file without a name: on the way in it is decompressed, bounded and checked in pieces; when it has
been found whole and valid, the file is read back and delivered in pieces of about 1 MiB. So a request is refused or taken as
a whole, unless a queue fills up between two of its pieces: the client repeats it then, and what was delivered already is
delivered twice. A larger one in JSON has to be parsed at once and is bounded by `JSON_BYTES`. Of requests larger than
`WHOLE_BYTES` only a few are under way at a time: see `LARGE_AT_A_TIME`; of JSON only one is parsed.

Nobody on the way holds on to bytes that whoever comes next has: a body would otherwise stand in memory beside what was made of
it for as long as that takes to be durable.
"""

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Literal, NamedTuple, Protocol

from novel_agent.inputs.otlp.admission import WAIT_SECONDS, Part, Share
from novel_agent.inputs.otlp.body import DECODERS, PIECE_BYTES, Decoder
from novel_agent.inputs.otlp.counts import TransportCounts
from novel_agent.inputs.otlp.refusal import BUSY, MALFORMED, QUEUE_FULL, TOO_LARGE, Refused, busy, too_large
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch, Signal
from novel_agent.state.queue import QueueFull
from novel_agent.wire.otlp_scan import Scanned, TooMany, scan
from novel_agent.wire.otlp_split import RequestSplitter
from novel_agent.wire.protobuf import WireError

log = get_logger("otlp_receiver")

Form = Literal["protobuf", "json"]

WHOLE_BYTES = 1 << 20
JSON_BYTES = 2 << 20
"""Parsing takes about ten times as much memory."""

JSON_IN_THREAD_BYTES = 64 << 10
SMALLEST_OBJECT_BYTES = 12
"""On average, of a larger JSON body: real ones have more than 18, and each takes some 200 bytes while it is read."""

MOST_JSON_VALUES = 300_000

LARGEST_ITEM_BYTES = 4 << 20
"""A single span, log record or metric of a request that is taken in pieces."""

LARGE_AT_A_TIME = 2
LARGE_ZSTD_AT_A_TIME = 1
"""zstd looks back over up to 8 MiB, gzip over 32 KiB."""

_CHECKED_PIECE_BYTES = 64 << 10
_FED_BYTES = 32 << 10
"""Some 20 ms where every two bytes are a part."""
_NO_ROOM_SECONDS = 5.0
_FULL_SECONDS = 2.0


class Deliver(Protocol):
    """Where batches go."""

    def __call__(self, batch: Batch) -> Coroutine[object, object, None]:
        """Returns when the batch is as durable as configured in every destination's queue; QueueFull where one has no room."""


class Source(Protocol):
    """The rest of a body that is still arriving."""

    async def read(self) -> bytes:
        """The next bytes, empty at the end; Refused where they do not come in time."""


class What(NamedTuple):
    """What a request says it is; `encoding` is a key of `DECODERS`."""

    signal: Signal
    form: Form
    encoding: str
    is_deep: bool
    """Whether every field is checked, or only what must be to count."""


class Intake:
    """Takes requests; one for each transport."""

    def __init__(
        self, deliver: Deliver, counts: TransportCounts, *, max_request_bytes: int, spill_directory: str
    ) -> None:
        self._deliver = deliver
        self._counts = counts
        self._max_request_bytes = max_request_bytes
        self._spill_directory = spill_directory
        self._large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self._large_zstd = asyncio.Semaphore(LARGE_ZSTD_AT_A_TIME)
        self._parsing = asyncio.Lock()

    async def take_whole(self, what: What, wire: bytes, share: Share | Part) -> None:
        """A request whose body is all there, `wire`; Refused where it is not taken. Anything else is a fault."""
        make = DECODERS[what.encoding]
        self._counts.wire_bytes += len(wire)
        if make is None:
            if len(wire) > WHOLE_BYTES:
                await self._take_large(what, _Body([wire], None, None, share))
            else:
                taking = self._take_small(what, wire)
                del wire
                await taking
            return
        decoder = make()
        pieces: list[bytes] = []
        size = 0
        unfolding = decoder.feed(wire)
        for piece in unfolding:
            share.charge(len(piece))
            pieces.append(piece)
            size += len(piece)
            if size > WHOLE_BYTES:
                await self._take_large(what, _Body(chain(pieces, unfolding), decoder, None, share))
                return
        decoder.finish()
        taking = self._take_small(what, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        pieces.clear()
        del wire, unfolding, piece
        await taking

    async def take(self, what: What, source: Source, share: Share | Part) -> None:
        """A request whose body is still arriving; as `take_whole`."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await source.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > WHOLE_BYTES:
                make = DECODERS[what.encoding]
                await self._take_large(what, _Body(chunks, make and make(), source, share))
                return
        taking = self.take_whole(what, b"".join(chunks), share)
        chunks.clear()
        await taking

    async def _take_small(self, what: What, body: bytes) -> None:
        if len(body) > self._max_request_bytes:
            raise too_large(self._max_request_bytes)
        self._counts.bytes += len(body)
        if what.form == "json":
            if len(body) > JSON_IN_THREAD_BYTES:
                async with self._parsing:
                    items, payload = await asyncio.to_thread(self._from_json, what.signal, body)
            else:
                items, payload = self._from_json(what.signal, body)
        else:
            try:
                items, payload = scan(what.signal, body, deep=what.is_deep)
            except WireError as error:
                raise _unusable(error) from None
        passing = self._pass_on(Batch(what.signal, payload, items)) if items else None
        del body, payload
        if passing is not None:
            await passing
        self._counts.accept(what.signal, items)

    @staticmethod
    def _from_json(signal: Signal, body: bytes) -> Scanned:
        from novel_agent.wire.otlp_json_read import request_from_json

        if not body:
            return Scanned(0, b"")
        if body.count(b",") >= MOST_JSON_VALUES:
            raise Refused(TOO_LARGE, f"more than {MOST_JSON_VALUES} JSON values")
        objects = body.count(b"{") + body.count(b"[")
        if len(body) > JSON_IN_THREAD_BYTES and objects * SMALLEST_OBJECT_BYTES > len(body):
            raise Refused(
                TOO_LARGE, f"more than {len(body) // SMALLEST_OBJECT_BYTES} JSON objects in {len(body)} bytes"
            )
        try:
            payload, items = request_from_json(signal, body)
        except WireError as error:
            raise _unusable(error) from None
        return Scanned(items, payload)

    async def _pass_on(self, batch: Batch) -> None:
        delivering = self._deliver(batch)
        del batch
        try:
            await delivering
        except WireError as error:
            raise _unusable(error) from None
        except QueueFull as full:
            seconds = getattr(full, "retry_after_seconds", _FULL_SECONDS)
            raise Refused(QUEUE_FULL, "a queue of this agent is full", retry_after_seconds=seconds) from None

    async def _take_large(self, what: What, body: "_Body") -> None:
        limit = self._max_request_bytes
        async with self._turn(self._large_zstd if what.encoding == "zstd" else self._large):
            if what.form == "json":
                await self._take_large_json(what, body, min(limit, JSON_BYTES))
                return
            with _opened(self._spill_directory) as file:
                checking = RequestSplitter(
                    what.signal, _discard, piece_bytes=_CHECKED_PIECE_BYTES, largest_item_bytes=LARGEST_ITEM_BYTES
                )
                size = 0
                error = too_large(limit)
                async for piece in body.pieces(limit, error):
                    size += len(piece)
                    if size > limit:
                        raise error
                    await _feed(checking, piece)
                    await file.write(piece)
                await _feed(checking, None)
                await self._take_from_file(what, file, body.share)
            self._counts.wire_bytes += body.read_bytes
            self._counts.bytes += size

    async def _take_large_json(self, what: What, body: "_Body", limit: int) -> None:
        pieces: list[bytes] = []
        size = 0
        error = too_large(limit, "a request in JSON, which cannot be taken piece by piece as protobuf can,")
        async for piece in body.pieces(limit, error):
            size += len(piece)
            if size > limit:
                raise error
            body.share.charge(len(piece))
            pieces.append(piece)
        joined = b"".join(pieces)
        pieces.clear()
        self._counts.wire_bytes += body.read_bytes
        self._counts.bytes += size
        async with self._parsing:
            items, payload = await asyncio.to_thread(self._from_json, what.signal, joined)
        if items:
            await self._pass_on(Batch(what.signal, payload, items))
        self._counts.accept(what.signal, items)

    async def _take_from_file(self, what: What, file: "_SpillFile", share: Share | Part) -> None:
        ready: list[tuple[bytes, int]] = []
        splitter = RequestSplitter(
            what.signal, lambda payload, items: ready.append((payload, items)), largest_item_bytes=LARGEST_ITEM_BYTES
        )
        total = 0
        chunk: bytes | None = b""
        while chunk is not None:
            chunk = await file.read() or None
            await _feed(splitter, chunk)
            for payload, items in ready:
                await share.room()
                share.charge(len(payload))
                await self._pass_on(Batch(what.signal, payload, items))
                share.discharge(len(payload))
                total += items
            ready.clear()
        self._counts.accept(what.signal, total)

    @asynccontextmanager
    async def _turn(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        """One of the places for large requests; Refused where none becomes free in time."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await places.acquire()
        except TimeoutError:
            raise busy() from None
        try:
            yield
        finally:
            places.release()


def _discard(payload: bytes, items: int) -> None:
    """What is emitted while a request is only being checked."""


async def _feed(splitter: RequestSplitter, chunk: bytes | None) -> None:
    """Feed, or finish where there is no chunk; others have a turn in between."""
    try:
        if chunk is None:
            splitter.finish()
            return
        for start in range(0, len(chunk), _FED_BYTES):
            splitter.feed(chunk[start : start + _FED_BYTES])
            await asyncio.sleep(0)
    except WireError as error:
        raise _unusable(error) from None


def _unusable(error: WireError) -> Refused:
    if isinstance(error, TooMany):
        return Refused(TOO_LARGE, f"the request has {error}")
    return Refused(MALFORMED, f"not an export request: {error}")


class _Body:
    """A large body: what was read of it already, decoded where there is a decoder, and the rest that `source` brings."""

    def __init__(
        self, begun: Iterable[bytes], decoder: Decoder | None, source: Source | None, share: Share | Part
    ) -> None:
        self._begun = begun
        self._decoder = decoder
        self._source = source
        self.share = share
        self.read_bytes = 0

    async def pieces(self, limit: int, error: Refused) -> AsyncIterator[bytes]:
        """All of it, decoded, in pieces of bounded size; raises `error` where more than `limit` bytes are sent."""
        if self._source is None:
            for piece in self._begun:
                yield piece
        else:
            async for chunk in self._chunks(self._source, limit, error):
                for piece in self._decoded(chunk):
                    yield piece
        if self._decoder is not None:
            self._decoder.finish()

    def _decoded(self, chunk: bytes) -> Iterator[bytes]:
        if self._decoder is not None:
            yield from self._decoder.feed(chunk)
            return
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]

    async def _chunks(self, source: Source, limit: int, error: Refused) -> AsyncIterator[bytes]:
        for chunk in self._begun:
            self.read_bytes += len(chunk)
            yield chunk
            self.share.discharge(len(chunk))
        self._begun = ()
        while True:
            await self.share.room()
            chunk = await source.read()
            if not chunk:
                return
            self.read_bytes += len(chunk)
            if self.read_bytes > limit:
                raise error
            yield chunk
            self.share.discharge(len(chunk))


class _SpillFile:
    """A temporary file without a name, written from its beginning and then read from its beginning, in threads.

    A thread may still be at it when its request is cancelled; the lock keeps it from a descriptor that is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._lock = threading.Lock()
        self._is_closed = False

    async def write(self, data: bytes) -> None:
        """Append; Refused where the disk has no room."""
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            raise _no_room(error) from None

    async def read(self) -> bytes:
        """The next piece, empty at the end."""
        data = await asyncio.to_thread(self._read)
        self._position += len(data)
        return data

    def _write(self, data: bytes) -> None:
        with self._lock:
            view = memoryview(b"" if self._is_closed else data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def _read(self) -> bytes:
        with self._lock:
            return b"" if self._is_closed else os.pread(self._descriptor, PIECE_BYTES, self._position)

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self._descriptor)

    def __enter__(self) -> "_SpillFile":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._close)


def _opened(directory: str) -> _SpillFile:
    """A file in the directory that is gone when it is closed, also where the agent is killed."""
    try:
        return _SpillFile(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError:
        pass  # a file system, or a kernel, without O_TMPFILE: open(2)
    try:
        descriptor, path = tempfile.mkstemp(prefix=".request-", dir=directory)
        os.unlink(path)
    except OSError as error:
        raise _no_room(error) from None
    return _SpillFile(descriptor)


def _no_room(error: OSError) -> Refused:
    log.warning("a large request cannot be kept while it arrives", reason=error.strerror or error)
    return Refused(BUSY, "no room for a request of this size", retry_after_seconds=_NO_ROOM_SECONDS)

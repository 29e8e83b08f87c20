"""Request bodies: encoding and compressing them, off the loop where they are large.

Measured on 1 MiB of spans: gzip by isal at level 1 takes 1.6 ms and gives 23 % (zlib 8.0 ms, 24 %), zstd at level 1 takes
3.2 ms and gives 20 %. A thread costs 0.1 ms; isal and zstd let other threads run meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from isal import isal_zlib

Compression = Literal["gzip", "zstd", "none"]

OFF_LOOP_BYTES = 512 << 10
"""From this size on a body is compressed in a thread: less takes the loop a millisecond at the most."""

_LEVEL = 1
_GZIP_CONTAINER = 31


def gzip(body: bytes) -> bytes:
    """A gzip file in one go."""
    return isal_zlib.compress(body, _LEVEL, _GZIP_CONTAINER)


def zstd(body: bytes) -> bytes:
    """A zstd frame that states its content's size; a compressor for each, as one may not be used by two threads."""
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=_LEVEL).compress(body)


def compress(compression: Compression, body: bytes) -> bytes:
    """The body as it goes out."""
    if compression == "none":
        return body
    return gzip(body) if compression == "gzip" else zstd(body)


CONTENT_ENCODINGS: dict[Compression, str | None] = {"gzip": "gzip", "zstd": "zstd", "none": None}
"""Values of Content-Encoding; None where there is no such header."""


async def compressed(compression: Compression, body: bytes) -> bytes:
    """The same without holding up the loop."""
    if compression == "none":
        return body
    return await made(lambda payload: compress(compression, payload), body, OFF_LOOP_BYTES)


async def compressed_pieces(compression: Compression, pieces: Sequence[bytes]) -> Sequence[bytes]:
    """Pieces of a body to pieces of the body as it goes out, without joining them or holding up the loop."""
    if compression == "none":
        return pieces
    if compression == "zstd" or len(pieces) == 1:  # zstd states the whole size in front
        return [await compressed(compression, b"".join(pieces))]
    if sum(map(len, pieces)) < OFF_LOOP_BYTES:
        return gzip_pieces(pieces)
    return await asyncio.to_thread(gzip_pieces, pieces)


def gzip_pieces(pieces: Sequence[bytes]) -> list[bytes]:
    """A gzip file of pieces one behind the other, in pieces."""
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_CONTAINER)
    return [piece for piece in [*map(compressor.compress, pieces), compressor.flush()] if piece]


async def made(make: Callable[[bytes], bytes], payload: bytes, off_loop_bytes: int) -> bytes:
    """What `make` makes of the payload, in a thread where the payload is at least this large."""
    if len(payload) < off_loop_bytes:
        return make(payload)
    return await asyncio.to_thread(make, payload)

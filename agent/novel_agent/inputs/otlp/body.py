"""Request bodies out of their content encoding, in pieces of bounded size whatever was sent.

Sources: RFC 1952 (gzip: members follow each other, zeros may follow the last), RFC 1950 (deflate), RFC 8878 (zstd). Every
decoder gives at most `PIECE_BYTES` at a time and takes no step further until asked, so that a bomb is found out while it
unfolds. What is damaged or cut off is Refused as malformed.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from novel_agent.inputs.otlp.refusal import MALFORMED, Refused

PIECE_BYTES = 256 << 10
_GZIP, _ZLIB = 31, 15
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE_MAGIC = 0x184D2A50
_ZSTD_WINDOW_BYTES = 8 << 20
"""What RFC 8878, section 3.1.1.1.2, recommends to support; a decoder takes as much memory as the data it has seen."""

_ZSTD_BLOCK_BYTES = 128 << 10
_RLE, _RESERVED = 1, 3


class Decoder(Protocol):
    """One body, as it comes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes unfold to; to be exhausted before more is fed."""

    def finish(self) -> None:
        """The body has ended: Refused if it should not have."""


class _Zlib:
    """gzip and zlib streams, any number of them in a row."""

    def __init__(self, window_bits: int) -> None:
        from isal import isal_zlib

        self._make = isal_zlib.decompressobj
        self._error = cast(type[Exception], isal_zlib.error)
        self._window_bits = window_bits
        self._stream: Any = None
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        is_full = False
        while data or is_full:
            if self._stream is None:
                if self._has_begun and not (data := data.lstrip(b"\0")):
                    return
                self._stream = self._make(self._window_bits)
                self._has_begun = True
            stream = self._stream
            try:
                piece = stream.decompress(data, PIECE_BYTES)
            except self._error as error:
                raise Refused(MALFORMED, f"the body's compression is damaged: {error}") from None
            is_full = len(piece) == PIECE_BYTES and not stream.eof  # there may be more though all was taken in
            if stream.eof:
                data, self._stream = stream.unused_data, None
            else:
                data = stream.unconsumed_tail
            if piece:
                yield piece

    def finish(self) -> None:
        if self._stream is not None or not self._has_begun:
            raise _cut_off()


def _cut_off() -> Refused:
    return Refused(MALFORMED, "the body ends before its compression does")


class _Zstd:
    """zstd frames, any number of them in a row, fed to the library block by block: no block unfolds to more than 128 KiB.

    The library can neither bound what one call gives nor say whether a frame is complete.
    """

    def __init__(self) -> None:
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        self._error = zstandard.ZstdError
        self._data = bytearray()
        self._frame: Any = None
        self._header_size = 0
        self._checksum_bytes = 0
        self._skip_bytes = 0
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        buffered = self._data
        buffered += data
        self._has_begun = self._has_begun or bool(data)
        while size := self._part_bytes():
            part = bytes(buffered[:size])
            del buffered[:size]
            if self._frame is None:  # a skippable frame, or a part of one
                continue
            try:
                piece = self._frame.decompress(part)
            except self._error as error:
                raise Refused(MALFORMED, f"the body's compression is damaged: {error}") from None
            if self._frame.eof:
                self._frame = None
            if piece:
                yield piece

    def finish(self) -> None:
        if self._frame is not None or self._data or self._skip_bytes or not self._has_begun:
            raise _cut_off()

    def _part_bytes(self) -> int:
        """The length of the next block, with the header before it and the checksum behind it; 0 while not all is there."""
        if self._skip_bytes:
            size = min(self._skip_bytes, len(self._data))
            self._skip_bytes -= size
            return size
        if self._frame is None:
            size, is_begun = self._begin()
            if not is_begun:
                return size if size <= len(self._data) else 0
            self._header_size = size
        size = self._block_bytes(self._header_size)
        if size > len(self._data):
            return 0
        self._header_size = 0
        return size

    def _begin(self) -> tuple[int, bool]:
        """The length of the frame's header, and whether it is begun: all of it is there and it is none to be skipped."""
        data = self._data
        if len(data) < 5:
            return (5 if data else 0), False
        magic = int.from_bytes(data[:4], "little")
        if magic & 0xFFFFFFF0 == _ZSTD_SKIPPABLE_MAGIC:
            if len(data) >= 8:
                self._skip_bytes = int.from_bytes(data[4:8], "little")
            return 8, False
        if magic != _ZSTD_MAGIC:
            raise Refused(MALFORMED, "the body is not zstd")
        descriptor = data[4]
        is_single_segment = descriptor >> 5 & 1
        content_size_bytes = (is_single_segment, 2, 4, 8)[descriptor >> 6]
        size = 6 - is_single_segment + (0, 1, 2, 4)[descriptor & 3] + content_size_bytes
        if len(data) < size:
            return size, False
        self._checksum_bytes = 4 if descriptor & 4 else 0
        self._frame = self._decompressor.decompressobj()
        return size, True

    def _block_bytes(self, start: int) -> int:
        """Where the block that begins at `start` ends; behind its checksum if it is the last."""
        if len(self._data) < start + 3:
            return start + 3
        header = int.from_bytes(self._data[start : start + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == _RESERVED or size > _ZSTD_BLOCK_BYTES:
            raise Refused(MALFORMED, "the body's compression is damaged: a block that cannot be")
        end = start + 3 + (1 if kind == _RLE else size)
        return end + self._checksum_bytes if header & 1 else end


DECODERS: dict[str, Callable[[], Decoder] | None] = {
    "": None,
    "identity": None,
    "gzip": lambda: _Zlib(_GZIP),
    "x-gzip": lambda: _Zlib(_GZIP),
    "zstd": _Zstd,
    "deflate": lambda: _Zlib(_ZLIB),
}
"""By content coding; None where the body is what it is."""

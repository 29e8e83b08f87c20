"""Bytes of a log file at an offset, from a plain file or from what a compressed one holds."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import IO, Protocol, cast

from novel_agent.inputs.logs.inotify import file_system_kind

_DECOMPRESSED_AT_ONCE = 256 << 10


class Bytes(Protocol):
    """An open file, read at offsets that never go back by more than what was asked for last."""

    def fileno(self) -> int: ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from an offset; fewer bytes mean that the file ends there. OSError; ValueError: damaged."""

    def approach(self, offset: int, most_bytes: int) -> int:
        """Go on towards an offset by at most so many bytes; how many are left."""

    def close(self) -> None: ...


class PlainFile:
    """A regular file as it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def read_into(self, buffer: memoryview, offset: int) -> int:
        filled = 0
        while filled < len(buffer):
            count = os.preadv(self._descriptor, [buffer[filled:]], offset + filled)
            if count == 0:
                break
            filled += count
        return filled

    def approach(self, offset: int, most_bytes: int) -> int:
        return 0

    def close(self) -> None:
        os.close(self._descriptor)


class CompressedFile:
    """What a gzip or zstd file holds; what was passed cannot be read again."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._file = os.fdopen(descriptor, "rb", closefd=False)
        self._stream = _decompressing(self._file, name)
        self._stated = (stated_length(descriptor, name) or 0) if name.endswith(".zst") else 0
        self._window = bytearray()
        self._start = 0

    def fileno(self) -> int:
        return self._descriptor

    def read_into(self, buffer: memoryview, offset: int) -> int:
        if offset < self._start:
            raise ValueError("what was decompressed and passed is not there any more")
        self._pass(offset)
        while self._start < offset and self._more():
            self._pass(offset)
        while len(self._window) < len(buffer) and self._more():
            pass
        count = min(len(buffer), len(self._window)) if self._start == offset else 0
        buffer[:count] = memoryview(self._window)[:count]
        return count

    def approach(self, offset: int, most_bytes: int) -> int:
        until = min(offset, self._start + most_bytes)
        self._pass(until)
        while self._start < until and self._more():
            self._pass(until)
        return offset - until

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()
        self._file.close()
        os.close(self._descriptor)

    def _pass(self, offset: int) -> None:
        count = min(offset - self._start, len(self._window))
        if count > 0:
            del self._window[:count]
            self._start += count

    def _more(self) -> bool:
        try:
            read = self._stream.read(_DECOMPRESSED_AT_ONCE)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - each decompressor has exceptions of its own
            raise ValueError(f"damaged or not complete: {error}") from None
        self._window += read
        if not read and self._start + len(self._window) < self._stated:
            raise ValueError("not complete")
        return bool(read)


def _decompressing(file: IO[bytes], name: str) -> IO[bytes]:
    if name.endswith(".zst"):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
        return cast("IO[bytes]", reader)
    from isal import igzip

    return cast("IO[bytes]", igzip.open(file, "rb"))  # type: ignore[no-untyped-call]


def stated_length(descriptor: int, name: str) -> int | None:
    """What a compressed file says of its length, modulo 2^32; None where that is not known.

    Of gzip (RFC 1952) that is ISIZE of the last member, of zstd (RFC 8878) the content size of the first frame: a log is
    compressed into one.
    """
    size = os.fstat(descriptor).st_size
    if name.endswith(".zst"):
        import zstandard

        try:
            length = zstandard.frame_content_size(os.pread(descriptor, 18, 0))
        except zstandard.ZstdError:
            return None
        return length % (1 << 32) if length >= 0 else None
    if not name.endswith(".gz") or size < 18:
        return None
    return int.from_bytes(os.pread(descriptor, 4, size - 4), "little")


def open_regular(path: str) -> int:
    """A descriptor of a regular file, without waiting for anything. OSError; ValueError where it is something else."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("is not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        if file_system_kind(descriptor) == "kernel":
            raise ValueError("is made up by the kernel")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def data_from(descriptor: int, offset: int) -> int:
    """Where data begins at or after an offset, holes skipped: the end where there is none, itself where that is not known."""
    size = os.fstat(descriptor).st_size
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return max(offset, size) if error.errno == errno.ENXIO else offset


@contextlib.contextmanager
def opened(path: str) -> Iterator[Bytes]:
    """A file for a look: plain, or decompressed if its name says so. OSError, ValueError."""
    descriptor = open_regular(path)
    source: Bytes
    try:
        source = CompressedFile(descriptor, path) if path.endswith((".gz", ".zst")) else PlainFile(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield source
    finally:
        source.close()

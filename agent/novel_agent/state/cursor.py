"""How far a stream of a spool is acknowledged, in a small file of fixed size.

Two slots in sectors of their own, written in turn, little-endian: sequence, segment, offset (8 bytes each) and their CRC32C.
The newest slot that is whole counts. A file that is missing or damaged means that all there is counts as not acknowledged:
it is sent again, never lost.
"""

import errno
import os
import struct
from typing import NamedTuple

from novel_agent.state.checksum import crc32c

_SLOT_BYTES = 512
_FIELDS = struct.Struct("<QQQ")
_CHECK = struct.Struct("<I")
_WRITTEN_BYTES = _FIELDS.size + _CHECK.size


class Position(NamedTuple):
    """A place in a stream: everything before it is acknowledged. The zeros are before everything."""

    segment: int
    offset: int


BEGINNING = Position(0, 0)


class CursorFile:
    """The file of one cursor. Not for more than one thread at a time; every method may block on the disk."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._sequence = 0

    def read(self) -> tuple[Position, bool]:
        """Where the stream is acknowledged, and whether that is sure: False where the file is damaged. OSError."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return BEGINNING, True
        try:
            content = os.pread(descriptor, 2 * _SLOT_BYTES, 0)
        finally:
            os.close(descriptor)
        slots = [slot for start in (0, _SLOT_BYTES) if (slot := _slot(content[start : start + _WRITTEN_BYTES]))]
        if not slots:
            return BEGINNING, not content
        self._sequence, segment, offset = max(slots)
        return Position(segment, offset), True

    def write(self, position: Position) -> None:
        """Note a position; a kill at any moment leaves this one or the one before. OSError where it cannot be written."""
        if self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink:
            self.close()
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o600)
        sequence = self._sequence + 1
        fields = _FIELDS.pack(sequence, *position)
        written = os.pwrite(self._descriptor, fields + _CHECK.pack(crc32c(fields)), _SLOT_BYTES * (sequence % 2))
        if written < _WRITTEN_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        self._sequence = sequence

    def sync(self) -> None:
        """Make what was written outlive the machine. OSError."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file; safe more than once."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _slot(written: bytes) -> tuple[int, int, int] | None:
    if len(written) < _WRITTEN_BYTES:
        return None
    fields, check = written[: _FIELDS.size], _CHECK.unpack_from(written, _FIELDS.size)
    return _FIELDS.unpack(fields) if check == (crc32c(fields),) else None

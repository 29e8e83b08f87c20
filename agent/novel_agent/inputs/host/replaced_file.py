"""Reading files that programs replace by renaming a new one over them: settings, not kernel state."""

import os
from stat import S_ISREG

from novel_agent.errors import InputError

Signature = tuple[int, int, int, int]

LARGEST_SIZE_BYTES = 16 << 20


def signature(path: str) -> Signature:
    """What changes when a file's content does: device, inode, size, time of change in nanoseconds.

    OSError where it cannot be looked at; `InputError` where it is no regular file, which reading could block on.
    """
    status = os.stat(path)
    if not S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def content(path: str) -> bytes:
    """The whole file, of 16 MiB at most; `InputError` beyond."""
    with open(path, "rb", buffering=0) as file:
        parts = []
        room = LARGEST_SIZE_BYTES + 1
        while room > 0 and (part := file.read(room)):
            parts.append(part)
            room -= len(part)
    if room <= 0:
        raise InputError(f"{path} is larger than {LARGEST_SIZE_BYTES >> 20} MiB")
    return b"".join(parts)


class ReplacedFile:
    """One such file; it is opened only when it has changed since the last call."""

    __slots__ = ("_content", "_signature", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._signature: Signature | None = None
        self._content = b""

    def read(self) -> bytes:
        """The content now. OSError or `InputError` as above."""
        now = signature(self.path)
        if now != self._signature:
            self._content = content(self.path)
            self._signature = now
        return self._content

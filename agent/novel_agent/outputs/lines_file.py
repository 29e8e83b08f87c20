"""A file of lines that is appended to, rotated, and never left with half a line; blocking, for one thread at a time.

A group of lines is written whole and synced, or the file is cut back to where it was. What a crash leaves of a line is removed
at the next write, as whoever wrote it was never told that it is safe and writes it again. A file that somebody else moves
away (logrotate) is made anew at the next write. No two writers may have one path.
"""

import contextlib
import errno
import os
import stat
from typing import NamedTuple

from isal import isal_zlib

_MODE = 0o640
_DIRECTORY_MODE = 0o750
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK_BYTES = 64 << 10
_GZIP_LEVEL = 1
_GZIP_CONTAINER = 31


class Limits(NamedTuple):
    """When a file is put aside (at the first line that would make it larger), how many are kept, and whether as gzip."""

    size_bytes: int
    keep: int
    compress: bool


class LinesFile:
    """One path. `begin` is what every line begins with: half a line that does not is somebody else's and is left alone."""

    def __init__(self, path: str, limits: Limits, begin: bytes) -> None:
        self.path = path
        self._limits = limits
        self._begin = begin
        self._descriptor = -1

    def check(self) -> None:
        """OSError where nothing can be written there. Makes nothing: whoever only looks may be another user."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            _check_directory(os.path.dirname(os.path.abspath(self.path)))
            return
        _refuse_all_but_regular(there)
        _check_access(self.path, os.R_OK | os.W_OK)

    def open(self) -> None:
        """Open the file, made (0640) if need be, in a directory made (0750) if need be, and remove half a line at its end."""
        if self._descriptor >= 0:
            return
        directory = os.path.dirname(self.path) or "."
        os.makedirs(directory, mode=_DIRECTORY_MODE, exist_ok=True)
        descriptor = os.open(self.path, _FLAGS, _MODE)
        try:
            _refuse_all_but_regular(os.fstat(descriptor))
            _sync_directory(directory)
            self._mend(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def close(self) -> None:
        """Safe more than once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def append(self, lines: list[bytes]) -> None:
        """Write these lines, each with its newline, and wait until the disk has them; all or none, OSError where none."""
        if self._moved_away():
            self.close()
        self.open()
        start = os.fstat(self._descriptor).st_size
        if start and start + sum(map(len, lines)) > self._limits.size_bytes:
            self._rotate()
            start = 0
        try:
            _write_whole(self._descriptor, b"".join(lines))
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # what cannot be cut back now is when the file is opened next
                os.ftruncate(self._descriptor, start)
            self.close()
            raise

    def _moved_away(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def _mend(self, descriptor: int) -> None:
        """Remove what a crash left of a line; end one that is not ours."""
        end = os.fstat(descriptor).st_size
        if not end or os.pread(descriptor, 1, end - 1) == b"\n":
            return
        start = _start_of_last_line(descriptor, end)
        beginning = os.pread(descriptor, len(self._begin), start)
        if self._begin.startswith(beginning):
            os.ftruncate(descriptor, start)
        else:
            _write_whole(descriptor, b"\n")

    def _rotate(self) -> None:
        """Put the file aside as `.1`, what was put aside before one further, and begin a new one."""
        self.close()
        if self._limits.keep == 0:
            os.unlink(self.path)
        else:
            for number in range(self._limits.keep, 0, -1):
                for suffix in ("", ".gz"):
                    self._shift(f"{self.path}.{number}{suffix}", f"{self.path}.{number + 1}{suffix}", number)
            os.rename(self.path, f"{self.path}.1")
        self.open()
        if self._limits.keep and self._limits.compress:
            with contextlib.suppress(OSError):  # a full disk: it stays as it is
                _compress(f"{self.path}.1")

    def _shift(self, old: str, new: str, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            if number == self._limits.keep:
                os.unlink(old)
            else:
                os.rename(old, new)


def _check_directory(path: str) -> None:
    """That the directory, or the first above it that is there, is one that something can be made in."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    _check_access(path, os.W_OK | os.X_OK)


def _check_access(path: str, mode: int) -> None:
    if not os.access(path, mode, effective_ids=True):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)


def _refuse_all_but_regular(there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "something else there"
        raise OSError(errno.EINVAL, f"not a regular file but {kind}")


def _write_whole(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _start_of_last_line(descriptor: int, end: int) -> int:
    position = end
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        newline = os.pread(descriptor, size, position).rfind(b"\n")
        if newline >= 0:
            return position + newline + 1
    return 0


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compress(path: str) -> None:
    """Replace a file by its gzip; a crash leaves the one or the other."""
    temporary = f"{path}.gz.tmp"
    packer = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_CONTAINER)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        with open(path, "rb") as source, open(descriptor, "wb") as target:
            while block := source.read(_BLOCK_BYTES):
                target.write(packer.compress(block))
            target.write(packer.flush())
            target.flush()
            os.fsync(descriptor)
        os.rename(temporary, f"{path}.gz")
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    os.unlink(path)

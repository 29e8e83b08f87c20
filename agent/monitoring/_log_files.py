"""Appends lines to the files of one directory, of which other processes may append to the same.

Each batch is written under an exclusive flock on `.novel-engine.lock`, to the file that bears the name at that moment, and
what a process that was killed left of a line is taken away first. So lines are whole, none goes to a file that was rotated,
and what was rotated does not change any more. A process that cannot have the lock within a second writes without: a line
late in a rotated file is better than none.

Rotation is by rename (`a.log` → `a.log.1` → `a.log.2`), which a tailer follows by the file's identity. `a.log.1` stays as it is
until the next rotation; older ones are compressed in a thread of their own, one process at a time, under a name that no pattern
matches until the result is complete.
"""

import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_LOCK_NAME = ".novel-engine.lock"
_COMPRESS_LOCK_NAME = ".novel-engine.compress.lock"
_LOCK_SECONDS = 1.0
_LOCK_PAUSE_SECONDS = 0.001
_CHUNK_BYTES = 1 << 20
_LONGEST_TAIL = 1 << 20
_FILE_MODE = 0o640
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogFiles:
    """The files of a directory that one process writes. For one thread at a time; blocks on the disk."""

    def __init__(self, directory: str, *, max_bytes: int, backups: int) -> None:
        self.directory = os.path.abspath(directory)
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptors: dict[str, int] = {}
        self._lock = -1
        self._compression: threading.Thread | None = None

    def write(self, name: str, lines: bytes) -> None:
        """Appends whole lines to the file of this name and rotates it when it has grown enough; OSError where it cannot.

        Either all of the lines are in the file afterwards or, with the error, none.
        """
        with self._locked() as is_locked:
            descriptor = self._at_home(name)
            size = self._mend(descriptor) if is_locked else os.fstat(descriptor).st_size
            self._append(descriptor, lines, size if is_locked else None)
            if is_locked and size + len(lines) >= self._max_bytes:
                self._rotate(name)

    def close(self) -> None:
        """Closes what is open; it is opened again when needed."""
        for descriptor in (*self._descriptors.values(), self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors.clear()
        self._lock = -1

    def reset_in_child(self) -> None:
        """After a fork: an open file, and so its flock, is one with the parent's."""
        self.close()
        self._compression = None
        while _guards:
            os.close(_guards.pop())

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether nobody else writes here in the meantime."""
        if self._lock < 0 or not _is_at(self._lock, self._path(_LOCK_NAME)):
            self._reopen_lock()
        is_locked = _lock(self._lock, _LOCK_SECONDS)
        try:
            yield is_locked
        finally:
            if is_locked:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _reopen_lock(self) -> None:
        os.makedirs(self.directory, exist_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._lock = os.open(self._path(_LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _at_home(self, name: str) -> int:
        """A descriptor of the file that bears the name now."""
        descriptor = self._descriptors.get(name, -1)
        if descriptor >= 0:
            if _is_at(descriptor, self._path(name)):
                return descriptor
            del self._descriptors[name]
            os.close(descriptor)
        descriptor = self._descriptors[name] = os.open(self._path(name), _FLAGS, _FILE_MODE)
        return descriptor

    def _mend(self, descriptor: int) -> int:
        """Takes an unfinished line away: its writer was killed, for writers hold the lock until theirs is whole."""
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return size
        begin = max(0, size - _LONGEST_TAIL)
        whole = os.pread(descriptor, size - begin, begin).rfind(b"\n") + 1
        if whole or begin == 0:
            os.ftruncate(descriptor, begin + whole)
            return begin + whole
        os.write(descriptor, b"\n")
        return size + 1

    @staticmethod
    def _append(descriptor: int, lines: bytes, size: int | None) -> None:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            if size is not None:
                os.ftruncate(descriptor, size)
            raise

    def _rotate(self, name: str) -> None:
        """Every backup one number up; without backups the file is begun anew under the same name."""
        numbers = self._numbered(name)
        for number in sorted(numbers, reverse=True):
            for suffix in numbers[number]:
                here = self._path(f"{name}.{number}{suffix}")
                if number >= self._backups:
                    os.unlink(here)
                else:
                    os.rename(here, self._path(f"{name}.{number + 1}{suffix}"))
        if self._backups:
            os.rename(self._path(name), self._path(f"{name}.1"))
        else:
            os.unlink(self._path(name))
        os.close(self._descriptors.pop(name))
        self._descriptors[name] = os.open(self._path(name), _FLAGS, _FILE_MODE)
        if any(number >= 1 and "" in suffixes for number, suffixes in numbers.items()):
            self._compress_soon()

    def _numbered(self, name: str) -> dict[int, list[str]]:
        """The suffixes, empty or `.gz`, of the backups that there are, by number."""
        pattern = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,5})(\.gz)?")
        found: dict[int, list[str]] = {}
        for entry in os.listdir(self.directory):
            match = pattern.fullmatch(entry)
            if match:
                found.setdefault(int(match[1]), []).append(match[2] or "")
        return found

    def _compress_soon(self) -> None:
        if self._compression is not None and self._compression.is_alive():
            return
        self._compression = threading.Thread(target=self._compress, name="monitoring-gzip", daemon=True)
        with suppress(RuntimeError):
            self._compression.start()

    def _compress(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        with suppress(OSError):
            compress_backups(self.directory)

    def wait_for_compression(self, timeout_seconds: float) -> None:
        """For who needs the directory to be at rest."""
        if self._compression is not None and self._compression.ident is not None:
            self._compression.join(timeout_seconds)


_BACKUP = re.compile(r"(.+\.log)\.([1-9][0-9]{0,5})")
_UNFINISHED = re.compile(r"\.novel-engine\.[0-9]+-[0-9]+\.gz\.tmp")


def compress_backups(directory: str) -> None:
    """Compresses every backup but the first of each log; returns at once where another process is at it.

    A backup may be renamed while it is compressed: its compressed form gets the name that it bears in the end, and its time.
    """
    with _guarded(os.path.join(directory, _COMPRESS_LOCK_NAME), 0) as is_locked:
        if not is_locked:
            return
        for entry in os.listdir(directory):
            if _UNFINISHED.fullmatch(entry):
                os.unlink(os.path.join(directory, entry))
        while (path := _next_to_compress(directory)) is not None:
            if not _compress_one(directory, path):
                return


def _next_to_compress(directory: str) -> str | None:
    matches = [match for entry in os.listdir(directory) if (match := _BACKUP.fullmatch(entry)) and int(match[2]) > 1]
    oldest = max(matches, key=lambda match: int(match[2]), default=None)
    return None if oldest is None else os.path.join(directory, oldest[0])


def _compress_one(directory: str, path: str) -> bool:
    import zlib

    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        status = os.fstat(source)
        unfinished = os.path.join(directory, f".novel-engine.{status.st_dev}-{status.st_ino}.gz.tmp")
        compress = zlib.compressobj(6, wbits=31)
        with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, _FILE_MODE)) as target:
            while chunk := os.read(source, _CHUNK_BYTES):
                target.write(compress.compress(chunk))
            target.write(compress.flush())
            target.flush()
            os.fsync(target.fileno())
        os.utime(unfinished, ns=(status.st_atime_ns, status.st_mtime_ns))
        return _put_in_place(directory, source, unfinished)
    finally:
        os.close(source)


def _put_in_place(directory: str, source: int, unfinished: str) -> bool:
    """Under the writers' lock, so that no rotation renames anything in between."""
    with _guarded(os.path.join(directory, _LOCK_NAME), 10 * _LOCK_SECONDS) as is_locked:
        for entry in os.listdir(directory) if is_locked else ():
            path = os.path.join(directory, entry)
            if _BACKUP.fullmatch(entry) and _is_at(source, path):
                os.rename(unfinished, f"{path}.gz")
                os.unlink(path)
                return True
        os.unlink(unfinished)
        return is_locked


_guards: set[int] = set()


@contextmanager
def _guarded(path: str, timeout_seconds: float) -> Iterator[bool]:
    """Whether the flock on this file could be had. It is given back by name: a child of fork may hold a copy of it."""
    guard = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    _guards.add(guard)
    try:
        is_locked = _lock(guard, timeout_seconds)
        try:
            yield is_locked
        finally:
            if is_locked:
                fcntl.flock(guard, fcntl.LOCK_UN)
    finally:
        _guards.discard(guard)
        os.close(guard)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether an open file bears this name."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def _lock(descriptor: int, timeout_seconds: float, now: Callable[[], float] = time.monotonic) -> bool:
    """Takes an exclusive flock; False where another process keeps it, or the file system has none."""
    deadline = now() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= deadline:
                return False
            time.sleep(_LOCK_PAUSE_SECONDS)
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}:
                return False
            raise
        else:
            return True

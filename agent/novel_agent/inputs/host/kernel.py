"""Reading the kernel's files: the roots are arguments, handles stay open, parsing happens elsewhere.

A file under /proc or /sys makes its content anew at every read from position 0, so a handle is opened once and read with
pread. That saves the path walk, which costs more than most reads. A handle that fails (its device went) is closed and
opened again at the next read.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from novel_agent.errors import NoData

Item = TypeVar("Item")
Result = TypeVar("Result")

_FIRST_SIZE_BYTES = 4096
_SMALLEST_PAGE_BYTES = 4096
_LARGEST_SIZE_BYTES = 64 << 20


class KernelFile:
    """One file, read whole at every call.

    `one_read` says that the kernel hands over the whole content in one read when the buffer is large enough: true of
    every sysfs attribute and of those /proc files that the kernel opens with single_open (stat, meminfo, vmstat, loadavg,
    pressure, …), false of tables (mounts, net/*, interrupts, diskstats), which come in pieces of about a page.

    `record_bytes` is for such a table whose longest record is known not to be longer, header and line ends included.
    The kernel puts records into a page until the next does not fit (fs/seq_file.c), so a first piece that leaves room
    for one more has the whole table in it, and it is not walked a second time to be told so.
    """

    __slots__ = ("_complete_below_bytes", "_descriptor", "_one_read", "_size_bytes", "path")

    def __init__(self, path: str, *, one_read: bool = False, record_bytes: int | None = None) -> None:
        self.path = path
        self._descriptor = -1
        self._size_bytes = _FIRST_SIZE_BYTES
        self._one_read = one_read
        self._complete_below_bytes = 1
        if one_read:
            self._complete_below_bytes = _FIRST_SIZE_BYTES
        elif record_bytes is not None:
            self._complete_below_bytes = max(1, _SMALLEST_PAGE_BYTES - record_bytes)

    def read(self) -> bytes:
        """The content now. OSError as the kernel gives it (ENOENT, EACCES, ENODEV, EIO, …)."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(self._descriptor, self._size_bytes, 0)
            if len(data) < self._complete_below_bytes:
                return data
            return self._rest(data)
        except OSError:
            self.close()
            raise

    def _rest(self, data: bytes) -> bytes:
        parts = [data]
        total = len(data)
        while total < _LARGEST_SIZE_BYTES and (more := os.pread(self._descriptor, self._size_bytes, total)):
            parts.append(more)
            total += len(more)
        while self._size_bytes <= total:
            self._size_bytes *= 2
        if self._one_read:
            self._complete_below_bytes = self._size_bytes
        return data if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Give the handle back; the next read opens anew."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class Isolate(Protocol):
    """Runs calls that may never return (statvfs on a dead mount) where they can be left behind."""

    def __call__(
        self, call: Callable[[Item], Result], items: Sequence[Item], deadline_seconds: float
    ) -> list[Result | OSError | None]:
        """One outcome an item: what the call returned, the OSError it raised, or None where it missed the deadline."""


def call_directly(
    call: Callable[[Item], Result], items: Sequence[Item], deadline_seconds: float
) -> list[Result | OSError | None]:
    """An `Isolate` without isolation, for one-off runs and tests."""
    outcomes: list[Result | OSError | None] = []
    for item in items:
        try:
            outcomes.append(call(item))
        except OSError as error:
            outcomes.append(error)
    return outcomes


class Kernel:
    """Where the kernel shows itself to one collector: the roots, the open handles, the time.

    Each collector has its own, so that closing one takes nothing from another. `proc` and `sys` are directories as /proc
    and /sys; `root` is the host's / as seen from here (/host in a container). `now` gives seconds since the epoch.
    Not for more than one thread at a time.
    """

    _ATTRIBUTES_KEPT_OPEN = 512

    def __init__(
        self,
        proc: str = "/proc",
        sys: str = "/sys",
        root: str = "/",
        *,
        now: Callable[[], float] = time.time,
        isolate: Isolate = call_directly,
    ) -> None:
        self.proc = proc.rstrip("/")
        self.sys = sys.rstrip("/")
        self.root = root.rstrip("/")
        self.now = now
        self.isolate = isolate
        self._files: list[KernelFile] = []
        self._attributes: OrderedDict[str, KernelFile] = OrderedDict()

    def proc_file(self, relative: str, *, one_read: bool = False, record_bytes: int | None = None) -> KernelFile:
        """A handle for a file below /proc that is read at every sampling; opened at its first read."""
        return self._keep(KernelFile(f"{self.proc}/{relative}", one_read=one_read, record_bytes=record_bytes))

    def sys_file(self, relative: str) -> KernelFile:
        """The same below /sys."""
        return self._keep(KernelFile(f"{self.sys}/{relative}", one_read=True))

    def _keep(self, file: KernelFile) -> KernelFile:
        self._files.append(file)
        return file

    def attribute(self, relative: str) -> bytes | None:
        """A sysfs attribute without its trailing newline and blanks; None where it is missing or the driver refuses.

        The handles of the most recently used attributes stay open.
        """
        file = self._attributes.get(relative)
        if file is None:
            file = KernelFile(f"{self.sys}/{relative}", one_read=True)
        else:
            self._attributes.move_to_end(relative)
        try:
            data = file.read()
        except OSError:
            self._attributes.pop(relative, None)
            return None
        if relative not in self._attributes:
            self._attributes[relative] = file
            if len(self._attributes) > self._ATTRIBUTES_KEPT_OPEN:
                self._attributes.popitem(last=False)[1].close()
        return data.strip()

    def integer(self, relative: str) -> int | None:
        """A sysfs attribute that holds one decimal integer; None where it is missing or holds anything else."""
        data = self.attribute(relative)
        if data is None:
            return None
        try:
            return int(data)
        except ValueError:
            return None

    def sys_entries(self, relative: str) -> list[str]:
        """The names in a directory below /sys, sorted; [] where there is none."""
        return _entries(f"{self.sys}/{relative}")

    def proc_entries(self, relative: str) -> list[str]:
        """The names in a directory below /proc, sorted; [] where there is none."""
        return _entries(f"{self.proc}/{relative}")

    def sys_link(self, relative: str) -> str | None:
        """Where a symbolic link below /sys points, as written in it; None where there is none."""
        try:
            return os.readlink(f"{self.sys}/{relative}")
        except OSError:
            return None

    def close(self) -> None:
        """Close every handle; a later read opens what it needs."""
        for file in (*self._files, *self._attributes.values()):
            file.close()
        self._attributes.clear()


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def read_or_no_data(file: KernelFile, what: str) -> bytes:
    """The content; `NoData` naming `what` is missing where the file does not exist."""
    try:
        return file.read()
    except FileNotFoundError:
        raise NoData(f"{what}: {file.path} does not exist") from None


def integers(fields: Iterable[bytes]) -> list[int]:
    """Decimal fields as numbers."""
    return [int(field) for field in fields]

"""inotify(7), through the C library: which names in which directories changed."""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

MODIFY = 0x2
ATTRIB = 0x4
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ISDIR = 0x40000000
_ONLYDIR = 0x1000000

MOVED = MOVED_FROM | MOVED_TO | CREATE | DELETE
"""A name is another file's, or nobody's, or somebody's again."""
SELF_GONE = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED
_WATCHED = MODIFY | ATTRIB | MOVED | DELETE_SELF | MOVE_SELF | _ONLYDIR
_NAMES_ONLY = CREATE | MOVED_TO | DELETE_SELF | MOVE_SELF | _ONLYDIR
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """What happened to a name in a watched directory; `name` is empty for the directory itself and for lost events."""

    watch: int
    mask: int
    name: str


class Inotify:
    """An inotify instance, not blocking. OSError where the kernel or the user's limits have none to give."""

    def __init__(self) -> None:
        self.descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "")

    def add(self, directory: str, *, names_only: bool = False) -> int:
        """Watch a directory, a symbolic link followed; one directory has one number. OSError.

        `names_only` is for names that appear. A directory that is added again is watched as was asked for last.
        """
        mask = _NAMES_ONLY if names_only else _WATCHED
        return _checked(_libc.inotify_add_watch(self.descriptor, os.fsencode(directory), mask), directory)

    def remove(self, watch: int) -> None:
        """Watch no more; what has ended by itself is no error."""
        _libc.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[Event]:
        """What happened since the last call."""
        events: list[Event] = []
        while True:
            try:
                content = os.read(self.descriptor, _READ_BYTES)
            except BlockingIOError:
                return events
            events += _events(content)

    def close(self) -> None:
        """Watch nothing more; safe more than once."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


def _events(content: bytes) -> list[Event]:
    events, start = [], 0
    while start < len(content):
        watch, mask, _, length = _EVENT.unpack_from(content, start)
        start += _EVENT.size
        name = content[start : start + length].rstrip(b"\0")
        start += length
        events.append(Event(watch, mask, os.fsdecode(name)))
    return events


def _checked(result: int, path: str) -> int:
    if result < 0:
        code = ctypes.get_errno() or errno.EIO
        raise OSError(code, os.strerror(code), path or None)
    return result


_NETWORK = {
    0x6969,
    0xFF534D42,
    0xFE534D42,
    0x517B,
    0x65735546,
    0x01021997,
    0x00C36400,
    0x5346414F,
    0x0BD00BD0,
    0x47504653,
}
"""Changed by others without this kernel noticing: NFS, CIFS, SMB2, SMB, FUSE, 9p, Ceph, AFS, Lustre, GPFS."""
_KERNEL = {
    0x9FA0, 0x62656572, 0x63677270, 0x27E0EB, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11, 0x62656570, 0x42494E4D,
}  # fmt: skip
"""Made up when read: proc, sysfs, cgroup2, cgroup, debugfs, tracefs, securityfs, bpf, configfs, binfmt_misc."""


def file_system_kind(descriptor: int) -> str:
    """Whether an open file is on a "local" file system, a "network" one, or one of the "kernel" (statfs(2), linux/magic.h)."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(descriptor, buffer) != 0:
        return "local"
    magic = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return "network" if magic in _NETWORK else "kernel" if magic in _KERNEL else "local"

"""The mount table: /proc/PID/mountinfo (Documentation/filesystems/proc.rst section 3.5)."""

import re
from collections.abc import Callable
from typing import NamedTuple

from novel_agent.inputs.host.kernel import Kernel, KernelFile
from novel_agent.inputs.host.sysfs import text

_MEMORY_TYPES = frozenset(
    b"tmpfs devtmpfs ramfs rootfs hugetlbfs proc sysfs devpts mqueue bpf cgroup cgroup2 cpuset debugfs tracefs"
    b" securityfs configfs pstore nsfs fusectl binfmt_misc selinuxfs"
    # On disk, but statfs(2) of these reads counters the kernel keeps in memory, whatever the disk does.
    b" ext2 ext3 ext4 xfs".split()
)
_READ_ONLY = frozenset((b"ro", b"emergency_ro"))
_OCTAL = re.compile(rb"\\([0-7]{3})")
_SERVER = re.compile(r"//(?P<share>[^/]+)/|(?P<export>[^/].*?):/")


class Mount(NamedTuple):
    """One mount. `device`, `mount_point` and `fs_type` are label values, as node_exporter writes them."""

    device: str
    mount_point: str
    fs_type: str
    major: str
    minor: str
    read_only: bool
    path: bytes
    """Where it is for a system call, below the host's root."""

    in_memory: bool
    """The kernel answers from its own memory, and so do the file systems on the way there: no call on it can hang."""

    server: str
    """The machine that serves it, '' for a local one."""

    address: str
    """The network address it is mounted from (`addr=`), or ''."""

    def __str__(self) -> str:
        return self.mount_point


def every_mount(mount_point: str, fs_type: str) -> bool:
    """Want them all."""
    return True


def parse(data: bytes, root: str = "", wanted: Callable[[str, str], bool] = every_mount) -> list[Mount]:
    """The mounts whose mount point and type are wanted, in the kernel's order.

    `root` is where the host's / is mounted; it is cut off the mount points and stands before every path.
    """
    prefix = root.encode()
    mounts: list[Mount] = []
    outside_memory: set[bytes] = set()
    for line in data.split(b"\n"):
        if not line:
            continue
        head, _, tail = line.partition(b" - ")
        _, _, number, _, point, options = head.split(b" ", 6)[:6]
        fs_type, source, super_options = tail.split(b" ", 2)
        point = _below(prefix, point)
        path = prefix + (_OCTAL.sub(_character, point) if b"\\" in point else point)
        if b"\0" in path:
            raise ValueError("NUL in a mount point")
        in_memory = fs_type in _MEMORY_TYPES
        if not in_memory:
            outside_memory.add(path)
        mount_point = text(point.replace(rb"\040", b" ").replace(rb"\011", b"\t"))
        kind = text(fs_type)
        if not wanted(mount_point, kind):
            continue
        major, minor = map(int, number.split(b":"))
        device = text(source)
        read_only = b"ro" in options.split(b",") or not _READ_ONLY.isdisjoint(super_options.split(b","))
        server, address = _server(device), _address(super_options)
        mounts.append(
            Mount(device, mount_point, kind, str(major), str(minor), read_only, path, in_memory, server, address)
        )
    outside_memory.discard(prefix + b"/")
    return [
        mount._replace(in_memory=False) if mount.in_memory and _crosses(mount.path, outside_memory) else mount
        for mount in mounts
    ]


def _below(prefix: bytes, point: bytes) -> bytes:
    if point == prefix:
        return b"/"
    return point.removeprefix(prefix) if prefix and point.startswith(prefix + b"/") else point


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 8) & 0xFF,))


def _crosses(path: bytes, mount_points: set[bytes]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in mount_points:
            return True
    return False


def _server(device: str) -> str:
    found = _SERVER.match(device)
    return (found["share"] or found["export"]) if found else ""


def _address(super_options: bytes) -> str:
    for option in super_options.split(b","):
        if option.startswith(b"addr="):
            return text(option[5:])
    return ""


class MountTable:
    """The mounts of PID 1, or of this process where another's are hidden; parsed when the table has changed.

    The table is read every time: a file system that turns read-only by an error wakes nobody who polls the file.
    """

    def __init__(self, kernel: Kernel, wanted: Callable[[str, str], bool] = every_mount) -> None:
        self._files: tuple[KernelFile, ...] = (kernel.proc_file("1/mountinfo"), kernel.proc_file("self/mountinfo"))
        self._root = kernel.root
        self._wanted = wanted
        self._data: bytes | None = None
        self._mounts: tuple[Mount, ...] = ()

    def read(self) -> tuple[Mount, ...]:
        """The wanted mounts now; the same object for as long as nothing has changed."""
        data = self._read()
        if data != self._data:
            self._mounts = tuple(parse(data, self._root, self._wanted))
            self._data = data
        return self._mounts

    def _read(self) -> bytes:
        first, *others = self._files
        try:
            return first.read()
        except (FileNotFoundError, PermissionError):
            if not others:
                raise
        self._files = tuple(others)
        return self._read()

"""The files of /proc/PID as values; pure functions of their bytes.

Sources: Documentation/filesystems/proc.rst (tables 1-2 to 1-5, 3.3), proc(5). Each raises ValueError for content that the
kernel does not write. Times are in USER_HZ ticks, memory in the unit of the file unless the name says otherwise.
"""

from typing import NamedTuple

PF_FORKNOEXEC = 0x40
PF_KTHREAD = 0x200000


class Stat(NamedTuple):
    """What /proc/PID/stat (or /proc/PID/task/TID/stat) holds and this agent uses.

    The `children_` figures are those of descendants that exited and were waited for. `image` changes with every exec that
    the reader may see: the kernel shows the addresses in it as 0 to those who may not trace the process.
    """

    comm: bytes
    state: str
    parent: int
    flags: int
    minor_faults: int
    children_minor_faults: int
    major_faults: int
    children_major_faults: int
    user: int
    system: int
    children_user: int
    children_system: int
    threads: int
    start: int
    virtual_bytes: int
    resident_pages: int
    image: tuple[bytes, ...]

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & PF_KTHREAD)

    @property
    def executed(self) -> tuple[bytes, bool, tuple[bytes, ...]]:
        """Differs after an exec: the name, the mark of a fork that has not yet executed, the layout of the memory."""
        return self.comm, bool(self.flags & PF_FORKNOEXEC), self.image


def stat(data: bytes) -> Stat:
    """/proc/PID/stat. The name in parentheses may itself hold blanks and parentheses."""
    try:
        opening, closing = data.index(b"("), data.rindex(b")")
        field = data[closing + 2 :].split()
        return Stat(
            data[opening + 1 : closing],
            field[0].decode("ascii"),
            int(field[1]),
            int(field[6]),
            int(field[7]),
            int(field[8]),
            int(field[9]),
            int(field[10]),
            int(field[11]),
            int(field[12]),
            int(field[13]),
            int(field[14]),
            int(field[17]),
            int(field[19]),
            int(field[20]),
            int(field[21]),
            (field[25], field[45]),
        )
    except IndexError:
        raise ValueError("stat has too few fields") from None


class Status(NamedTuple):
    """What /proc/PID/status holds beyond stat; the switches are those of this one thread."""

    uid: int
    swapped_bytes: int
    voluntary_switches: int
    involuntary_switches: int


def status(data: bytes) -> Status:
    """/proc/PID/status; `uid` is the effective one. A kernel thread has no VmSwap line."""
    switches = data[data.rfind(b"\nvoluntary_ctxt_switches:") + 1 :].split(None, 4)
    if len(switches) < 4 or switches[2] != b"nonvoluntary_ctxt_switches:":
        raise ValueError("status has no context switches")
    return Status(
        _number_after(data, b"\nUid:", 1),
        _number_after(data, b"\nVmSwap:") * 1024 if b"\nVmSwap:" in data else 0,
        int(switches[1]),
        int(switches[3]),
    )


def io(data: bytes) -> tuple[int, int]:
    """Bytes that /proc/PID/io says were fetched from and sent to storage."""
    field = data.split()
    if len(field) < 12 or field[8] != b"read_bytes:" or field[10] != b"write_bytes:":
        raise ValueError("io has no read_bytes and write_bytes")
    return int(field[9]), int(field[11])


def descriptor_limit(data: bytes) -> int | None:
    """The soft limit of open files in /proc/PID/limits; None where there is none."""
    start = data.find(b"\nMax open files")
    field = data[start + 15 : start + 80].split(None, 1) if start >= 0 else []
    if not field:
        raise ValueError("limits has no 'Max open files'")
    return None if field[0] == b"unlimited" else int(field[0])


def smaps_rollup(data: bytes) -> tuple[int, int]:
    """Proportional resident and swapped bytes."""
    return _number_after(data, b"\nPss:") * 1024, _number_after(data, b"\nSwapPss:") * 1024


def wchan(data: bytes) -> str:
    """The kernel function a thread sleeps in; '' where it runs or the reader may not know."""
    name = data.decode("ascii", "replace").strip("\0\n ")
    return "" if name == "0" else name


def command_line(data: bytes) -> str:
    """The words of /proc/PID/cmdline joined by blanks; programs that rename themselves pad it with zeros."""
    return data.rstrip(b"\0 ").replace(b"\0", b" ").decode("utf-8", "replace")


def control_groups(data: bytes) -> tuple[str, ...]:
    """The distinct paths in /proc/PID/cgroup: the unified hierarchy's first, then systemd's own, then the others."""
    ranked: list[tuple[int, str]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        rank = 0 if hierarchy == "0" else 1 if controllers == "name=systemd" else 2
        ranked.append((rank, path))
    ranked.sort(key=lambda entry: entry[0])
    return tuple(dict.fromkeys(path for _, path in ranked))


_UNIT_TYPES = (".service", ".scope", ".socket", ".mount", ".swap")


def units(path: str) -> tuple[str, ...]:
    """The systemd units in a control group's path, outermost first: the system's, then those of a user's own manager.

    Slices only hold units. What a delegated unit makes below itself has no suffix of a unit type or comes after one.
    """
    names = [part.removeprefix("_") for part in path.split("/")]
    return tuple(name for name in names if name.endswith(_UNIT_TYPES))


def _number_after(data: bytes, key: bytes, position: int = 0) -> int:
    start = data.find(key)
    if start < 0:
        raise ValueError(f"no {key.decode().strip()} line")
    try:
        return int(data[start + len(key) : start + len(key) + 64].split(None, position + 1)[position])
    except IndexError:
        raise ValueError(f"no number after {key.decode().strip()}") from None

"""Where control groups are: the hierarchies mounted below /sys/fs/cgroup, this process's own groups, and groups by name.

One hierarchy holds everything (cgroup v2), or each controller has its own (v1), or both (a v1 host whose systemd also
mounts v2, for pressure). Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/, cgroups(7).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from novel_agent.inputs.host.kernel import Kernel

_ROOT = "fs/cgroup"
_V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "blkio", "pids")
_MOST_DIRECTORIES = 512
_DEEPEST_SLICE = 8

Signature = tuple[int, int, int]


class Hierarchy(NamedTuple):
    """One tree of groups.

    `controller` is '' for v2, which has all of them, or pressure only beside v1. `base` is where it is mounted, below
    /sys; `root` is the path, as the kernel names it, of the group that is seen there.
    """

    controller: str
    base: str
    root: str = "/"

    def directory(self, path: str) -> str | None:
        """The directory of a group, below /sys; None where it is out of sight."""
        if self.root != "/":
            if path != self.root and not path.startswith(self.root + "/"):
                return None
            path = path[len(self.root) :]
        return self.base + path.rstrip("/")


class Group(NamedTuple):
    """One group: its path and its directory in each hierarchy that has it, by controller."""

    path: str
    directories: dict[str, str]


def parse_own_paths(data: bytes) -> dict[str, str]:
    """The paths of /proc/self/cgroup by controller, '' for v2."""
    paths = {}
    for line in data.decode(errors="replace").splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator or not path.startswith("/"):
            raise ValueError(f"not a line of /proc/self/cgroup: {line[:80]!r}")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def parse_mount_roots(data: bytes) -> dict[str, str]:
    """By mount point, which group is mounted there: from the cgroup lines of /proc/self/mountinfo."""
    roots = {}
    for line in data.decode(errors="replace").splitlines():
        mount, separator, rest = line.partition(" - ")
        fields = mount.split(" ")
        if separator and rest.split(" ", 1)[0] in ("cgroup", "cgroup2") and len(fields) > 4:
            roots[fields[4]] = fields[3]
    return roots


def find_hierarchies(kernel: Kernel) -> list[Hierarchy]:
    """What is mounted below /sys/fs/cgroup, v2 first."""
    roots = parse_mount_roots(_content(f"{kernel.proc}/self/mountinfo"))

    def hierarchy(controller: str, base: str) -> Hierarchy:
        return Hierarchy(controller, base, roots.get(os.path.realpath(f"{kernel.sys}/{base}"), "/"))

    names = kernel.sys_entries(_ROOT)
    if "cgroup.controllers" in names:
        return [hierarchy("", _ROOT)]
    found = [hierarchy(name, f"{_ROOT}/{name}") for name in _V1_CONTROLLERS if name in names]
    return [*([hierarchy("", f"{_ROOT}/unified")] if "unified" in names else []), *found]


def own_groups(kernel: Kernel, hierarchies: Iterable[Hierarchy]) -> list[Group]:
    """The groups this process is in: one under v2, and under v1 too unless its controllers disagree."""
    own_paths = parse_own_paths(_content(f"{kernel.proc}/self/cgroup"))
    groups: dict[str, Group] = {}
    for hierarchy in hierarchies:
        path = own_paths.get(hierarchy.controller)
        if path is not None and ".." not in path and ".." not in hierarchy.root:
            directory = hierarchy.directory(path)
            if directory is not None and os.path.isdir(f"{kernel.sys}/{directory}"):
                groups.setdefault(path, Group(path, {})).directories[hierarchy.controller] = directory
    return list(groups.values())


def group_at(kernel: Kernel, hierarchies: Iterable[Hierarchy], path: str) -> Group:
    """The group at a path below each mount, in those hierarchies that have it."""
    directories = {
        hierarchy.controller: hierarchy.base + path.rstrip("/")
        for hierarchy in hierarchies
        if os.path.isdir(f"{kernel.sys}/{hierarchy.base}{path}")
    }
    return Group(path, directories)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


class Search:
    """Finds groups by patterns, and tells cheaply whether looking again could find others.

    A pattern with a `/` is a path from the top, any part of which may hold `*`, `?` and `[…]`; one without is the name of
    a systemd unit, looked for in all slices.
    """

    def __init__(self, kernel: Kernel, patterns: Sequence[str]) -> None:
        self._kernel = kernel
        self._paths = [[part for part in pattern.split("/") if part] for pattern in patterns if "/" in pattern]
        self._units = [pattern for pattern in patterns if "/" not in pattern]
        self._looked_in: dict[str, Signature | None] = {}

    def is_stale(self) -> bool:
        """Whether a directory that was looked into has got or lost children since."""
        return any(_signature(self._full(directory)) != was for directory, was in self._looked_in.items())

    def find(self, hierarchies: Iterable[Hierarchy]) -> list[str]:
        """The paths, sorted."""
        self._looked_in = {}
        found: set[str] = set()
        for hierarchy in hierarchies:
            for parts in self._paths:
                found.update(self._matching(hierarchy.base, "", parts))
            if self._units:
                found.update(self._in_slices(hierarchy.base, "", 0))
        return sorted(found)

    def _matching(self, base: str, path: str, parts: Sequence[str]) -> Iterator[str]:
        if not parts:
            yield path or "/"
            return
        part, *rest = parts
        if any(character in part for character in "*?["):
            names: Iterable[str] = [name for name in self._children(base + path) if fnmatchcase(name, part)]
        else:
            names = [part] if part in self._children(base + path) else []
        for name in names:
            yield from self._matching(base, f"{path}/{name}", rest)

    def _in_slices(self, base: str, path: str, depth: int) -> Iterator[str]:
        for name in self._children(base + path):
            if any(fnmatchcase(name, unit) for unit in self._units):
                yield f"{path}/{name}"
            if depth < _DEEPEST_SLICE and (name.endswith(".slice") or name.startswith("user@")):
                yield from self._in_slices(base, f"{path}/{name}", depth + 1)

    def _children(self, directory: str) -> list[str]:
        if len(self._looked_in) >= _MOST_DIRECTORIES:
            return []
        full = self._full(directory)
        self._looked_in[directory] = _signature(full)
        try:
            with os.scandir(full) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            return []

    def _full(self, directory: str) -> str:
        return f"{self._kernel.sys}/{directory}"


def _signature(directory: str) -> Signature | None:
    """Inode, links and time of change. The links of a directory below /sys count its children."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_ino, status.st_nlink, status.st_mtime_ns

"""What control groups use and may use: this process's own and chosen others, under cAdvisor's and OpenTelemetry's names.

In a container the limits that count are the group's and those of the groups above it, not the host's: they are shown
as `container_effective_*`, beside the group's own under cAdvisor's `container_spec_*`.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.errors import NoData
from novel_agent.inputs.host.cgroup_files import (
    LIMIT_FILES,
    V1_FILES,
    V2_FILES,
    Limits,
    Usage,
    effective_limits,
    parse_limits,
    parse_v1,
    parse_v2,
)
from novel_agent.inputs.host.cgroup_tree import (
    Group,
    Hierarchy,
    Search,
    find_hierarchies,
    group_at,
    own_groups,
)
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.cpu import parse_cpu_list
from novel_agent.inputs.host.kernel import Kernel, KernelFile
from novel_agent.model.metric import Block, Family, Kind, Number, Series

MOST_GROUPS = 100

_CONTAINER_ID = re.compile("[0-9a-f]{64}")
_ONLINE = "devices/system/cpu/online"


def _family(kind: Kind, name: str, help_text: str, *labels: str) -> Family:
    return Family(f"container_{name}", help_text, kind, ("id", *labels))


def _congestion(resource: str, title: str) -> dict[str, Family]:
    name = f"pressure_{resource}"
    waiting = f"Total time duration tasks in the container have waited due to {title} congestion."
    stalled = f"Total time duration no tasks in the container could make progress due to {title} congestion."
    return {
        f"{resource}_waiting_seconds": _family("counter", f"{name}_waiting_seconds_total", waiting),
        f"{resource}_stalled_seconds": _family("counter", f"{name}_stalled_seconds_total", stalled),
    }


CPU_USAGE = _family("counter", "cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "cpu")
FAILURES = _family(
    "counter", "memory_failures_total", "Cumulative count of memory allocation failures.", "failure_type", "scope"
)
DEVICE_FAMILIES = (
    _family("counter", "fs_reads_bytes_total", "Cumulative count of bytes read", "device"),
    _family("counter", "fs_writes_bytes_total", "Cumulative count of bytes written", "device"),
    _family("counter", "fs_reads_total", "Cumulative count of reads completed", "device"),
    _family("counter", "fs_writes_total", "Cumulative count of writes completed", "device"),
)

# By field of Usage.
FAMILIES: dict[str, Family] = {
    "user_seconds": _family("counter", "cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds."),
    "system_seconds": _family("counter", "cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds."),
    "periods": _family("counter", "cpu_cfs_periods_total", "Number of elapsed enforcement period intervals."),
    "throttled_periods": _family("counter", "cpu_cfs_throttled_periods_total", "Number of throttled period intervals."),
    "throttled_seconds": _family(
        "counter", "cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled."
    ),
    "memory_bytes": _family(
        "gauge",
        "memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    "memory_peak_bytes": _family("gauge", "memory_max_usage_bytes", "Maximum memory usage recorded in bytes"),
    "working_set_bytes": _family("gauge", "memory_working_set_bytes", "Current working set in bytes."),
    "rss_bytes": _family("gauge", "memory_rss", "Size of RSS in bytes."),
    "cache_bytes": _family("gauge", "memory_cache", "Number of bytes of page cache memory."),
    "swap_bytes": _family("gauge", "memory_swap", "Container swap usage in bytes."),
    "mapped_file_bytes": _family("gauge", "memory_mapped_file", "Size of memory mapped files in bytes."),
    "oom_kills": _family("counter", "oom_events_total", "Count of out of memory events observed for the container"),
    "processes": _family("gauge", "processes", "Number of processes running inside the container."),
    "threads": _family("gauge", "threads", "Number of threads running inside the container"),
    "threads_max": _family(
        "gauge",
        "threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
    ),
    **_congestion("cpu", "CPU"),
    **_congestion("memory", "memory"),
    **_congestion("io", "IO"),
    "memory_limit_bytes": _family("gauge", "spec_memory_limit_bytes", "Memory limit for the container."),
    "cpu_quota_microseconds": _family("gauge", "spec_cpu_quota", "CPU quota of the container."),
    "cpu_period_microseconds": _family("gauge", "spec_cpu_period", "CPU period of the container."),
    "effective_memory_bytes": _family(
        "gauge",
        "effective_memory_limit_bytes",
        "Memory limit that holds for the container: the lowest of its own and those above it.",
    ),
    "effective_cpus": _family(
        "gauge",
        "effective_cpu_limit_cores",
        "CPU limit that holds for the container: the lowest quota of its own and those above it, and its CPU set.",
    ),
}

_GROUP = "process.linux.cgroup"
_CONTAINER = "container.id"


def _otel(name: str, help_text: str, kind: Kind, unit: str, *labels: str) -> Family:
    return Family(f"container.{name}", help_text, kind, (_GROUP, _CONTAINER, *labels), unit=unit)


CPU_TIME = _otel("cpu.time", "Total CPU time consumed", "counter", "s", "cpu.mode")
CPU_CORES = _otel("cpu.usage", "CPUs in use on average since the last reading", "gauge", "{cpu}")
MEMORY_USAGE = _otel("memory.usage", "Memory usage of the container", "updowncounter", "By")
MEMORY_AVAILABLE = _otel("memory.available", "Memory limit less the working set", "updowncounter", "By")
MEMORY_RSS = _otel("memory.rss", "Container memory RSS", "updowncounter", "By")
WORKING_SET = _otel("memory.working_set", "Container memory working set", "updowncounter", "By")
FAULTS = _otel("paging.faults", "Container memory paging faults", "counter", "{fault}", "system.paging.fault.type")
DISK_IO = _otel("disk.io", "Disk bytes for the container", "counter", "By", "disk.io.direction", "system.device")

Row = tuple[Family, tuple[str, ...], Number]
"""A family, the values of its labels ('' for a label left out), and a number."""


class ControlGroupOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which groups are shown beside this process's own."""

    groups: Annotated[
        tuple[str, ...],
        Meta(
            description="Paths (/docker/*) or units (novel-engine.service), with * and ? for several; "
            f"{MOST_GROUPS} groups at most."
        ),
    ] = ()


class Reading(NamedTuple):
    """Every group's usage, at `seconds` since the epoch; how many groups were left out at the bound."""

    seconds: float
    groups: list[Usage]
    left_out: int


class Watched(NamedTuple):
    """A group, the files it has (below /sys, by name), and those with the limits of each group above it.

    systemd gives a group its controllers one by one, so `controllers` is what it had when its files were looked up: the
    content of cgroup.controllers, or with v1 the directories that were missing.
    """

    path: str
    is_v2: bool
    controllers: tuple[str, bytes | None] | list[str]
    files: dict[str, str]
    levels: list[dict[str, str]]
    members: KernelFile | None


class ControlGroup(HostCollector[Reading]):
    """What containers and services use of what they may."""

    name = "cgroup"
    summary = "CPU, memory, I/O, pressure and limits of this process's control group and of chosen others"
    Options = ControlGroupOptions
    prometheus = (CPU_USAGE, *FAMILIES.values(), FAILURES, *DEVICE_FAMILIES)
    otel = (CPU_TIME, CPU_CORES, MEMORY_USAGE, MEMORY_AVAILABLE, MEMORY_RSS, WORKING_SET, FAULTS, DISK_IO)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, ControlGroupOptions)
        self._search = Search(self.kernel, options.groups)
        self._watched: list[Watched] | None = None
        self._left_out = 0
        self._online = 0
        self._devices: dict[str, str] = {}
        self._devices_before: dict[str, str] = {}
        self._exported: tuple[float, dict[str, float]] = (0.0, {})

    def read(self) -> Reading:
        if self._watched is None or self._search.is_stale():
            self._watched = self._look()
        # A number that is out of use for one reading may stand for another device at the next.
        self._devices_before, self._devices = self._devices, {}
        usages = list(self._usages(self._watched))
        if len(usages) < len(self._watched):
            self._watched = self._look()
            usages = list(self._usages(self._watched))
        if not usages:
            raise NoData("no control groups below /sys/fs/cgroup")
        return Reading(self.kernel.now(), usages, self._left_out)

    def _look(self) -> list[Watched]:
        """Find the groups, and which files each has. Handles of a group that was made anew are dead, hence closed."""
        self.close()
        kernel = self.kernel
        hierarchies = find_hierarchies(kernel)
        groups = {group.path: group for group in own_groups(kernel, hierarchies)}
        for path in self._search.find(hierarchies):
            groups.setdefault(path, group_at(kernel, hierarchies, path))
        self._left_out = max(0, len(groups) - MOST_GROUPS)
        self._online = len(parse_cpu_list(kernel.attribute(_ONLINE) or b""))
        shown = [group for group in groups.values() if group.directories][:MOST_GROUPS]
        return [self._watch(group, hierarchies) for group in shown]

    def _watch(self, group: Group, hierarchies: Sequence[Hierarchy]) -> Watched:
        is_v2 = not any(hierarchy.controller for hierarchy in hierarchies)
        controllers: tuple[str, bytes | None] | list[str]
        if is_v2:
            path = f"{group.directories['']}/cgroup.controllers"
            controllers = path, self.kernel.attribute(path)
        else:
            everywhere = [f"{self.kernel.sys}/{hierarchy.base}{group.path}" for hierarchy in hierarchies]
            controllers = [directory for directory in everywhere if not os.path.isdir(directory)]
        files: dict[str, str] = {}
        for controller, directory in group.directories.items():
            files |= _present(self.kernel, directory, V2_FILES if is_v2 else V1_FILES[controller])
        files = {name: path for name, path in files.items() if self.kernel.attribute(path) is not None}
        levels = list(_levels_above(self.kernel, group))
        return Watched(group.path, is_v2, controllers, files, levels, self._members(group))

    def _members(self, group: Group) -> KernelFile | None:
        """The list of the group's processes; None at the top of a host, where it is as long as /proc."""
        directory = next(iter(group.directories.values()))
        present = self.kernel.sys_entries(directory)
        is_top = "release_agent" in present or ("cgroup.controllers" in present and "cgroup.events" not in present)
        return None if is_top else KernelFile(f"{self.kernel.sys}/{directory}/cgroup.procs")

    def _usages(self, all_watched: Sequence[Watched]) -> Iterator[Usage]:
        """Those of the groups that are as they were: not ended, nor restarted, nor given another controller."""
        for watched in all_watched:
            contents = _contents(self.kernel, watched.files)
            if len(contents) == len(watched.files) and self._has_same_controllers(watched):
                usage = (parse_v2 if watched.is_v2 else parse_v1)(contents)
                usage.path = watched.path
                usage.transfers = {self._device(number): moved for number, moved in usage.transfers.items()}
                usage.processes = _lines(watched.members)
                self._set_effective(usage, contents, watched.levels)
                yield usage

    def _has_same_controllers(self, watched: Watched) -> bool:
        if isinstance(watched.controllers, tuple):
            path, names = watched.controllers
            return self.kernel.attribute(path) == names
        return not any(map(os.path.isdir, watched.controllers))

    def _set_effective(self, usage: Usage, own: Mapping[str, bytes], levels: Sequence[Mapping[str, str]]) -> None:
        cpuset = usage.cpuset_cpus
        limits = effective_limits(
            [
                parse_limits(own),
                *(parse_limits(_contents(self.kernel, files)) for files in levels),
                Limits(None, cpuset if cpuset and cpuset < self._online else None),
            ]
        )
        usage.effective_memory_bytes, usage.effective_cpus = limits

    def families(self, reading: Reading) -> Sequence[Block]:
        groups = reading.groups
        rows: list[Row] = [
            (CPU_USAGE, (usage.path, "total"), usage.cpu_seconds) for usage in groups if usage.cpu_seconds is not None
        ]
        for field, family in FAMILIES.items():
            for usage in groups:
                value = getattr(usage, field)
                if value is not None:
                    rows.append((family, (usage.path,), value))
        rows += [row for usage in groups for row in _failures(usage)]
        rows += [
            (family, (usage.path, device), transfers[index])
            for index, family in enumerate(DEVICE_FAMILIES)
            for usage in groups
            for device, transfers in usage.transfers.items()
        ]
        return [self._block("prometheus", rows)]

    def _block(self, slot: str, rows: Sequence[Row]) -> Block:
        key = tuple([row[:2] for row in rows])
        return Block(self.shapes.get(slot, key, lambda: _series(key)), [value for _, _, value in rows])

    def _device(self, number: str) -> str:
        """`/dev/sda` for `8:0`; the numbers themselves where the kernel does not know the device any more."""
        name = self._devices.get(number) or self._devices_before.get(number)
        if name is None:
            link = self.kernel.sys_link(f"dev/block/{number}")
            name = f"/dev/{link.rpartition('/')[2]}" if link else number
        self._devices[number] = name
        return name

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        before, spent = self._exported
        self._exported = (
            reading.seconds,
            {usage.path: usage.cpu_seconds for usage in reading.groups if usage.cpu_seconds is not None},
        )
        rows: list[Row] = []
        for usage in reading.groups:
            rows += self._telemetry(usage)
            if usage.path in spent and usage.cpu_seconds is not None and reading.seconds > before:
                cores = max(0.0, usage.cpu_seconds - spent[usage.path]) / (reading.seconds - before)
                rows.append((CPU_CORES, _identity(usage), cores))
        order = {family: index for index, family in enumerate(self.otel)}
        rows.sort(key=lambda row: order[row[0]])
        return [self._block("otel", rows)]

    def _telemetry(self, usage: Usage) -> Iterator[Row]:
        identity = _identity(usage)
        if usage.user_seconds is not None and usage.system_seconds is not None:
            yield CPU_TIME, (*identity, "user"), usage.user_seconds
            yield CPU_TIME, (*identity, "system"), usage.system_seconds
        for family, number in (
            (MEMORY_USAGE, usage.memory_bytes),
            (MEMORY_RSS, usage.rss_bytes),
            (WORKING_SET, usage.working_set_bytes),
        ):
            if number is not None:
                yield family, identity, number
        if usage.effective_memory_bytes is not None and usage.working_set_bytes is not None:
            yield MEMORY_AVAILABLE, identity, max(0, usage.effective_memory_bytes - usage.working_set_bytes)
        if usage.faults is not None and usage.major_faults is not None:
            yield FAULTS, (*identity, "minor"), usage.faults - usage.major_faults
            yield FAULTS, (*identity, "major"), usage.major_faults
        for device, transfers in usage.transfers.items():
            yield DISK_IO, (*identity, "read", device), transfers.read_bytes
            yield DISK_IO, (*identity, "write", device), transfers.written_bytes

    def close(self) -> None:
        for watched in self._watched or ():
            if watched.members is not None:
                watched.members.close()
        self._watched = None
        super().close()


def own_limits(kernel: Kernel) -> Limits:
    """What memory and processors this process may use, of what the host has; walks up from its own groups."""
    hierarchies = find_hierarchies(kernel)
    levels = []
    for group in own_groups(kernel, hierarchies):
        for directory in group.directories.values():
            levels.append(_present(kernel, directory, (*LIMIT_FILES, "memory.stat")))
        levels += _levels_above(kernel, group)
    return effective_limits(parse_limits(_contents(kernel, files)) for files in levels)


def _levels_above(kernel: Kernel, group: Group) -> Iterator[dict[str, str]]:
    """The files with the limits of each group above one, as far as this process sees them."""
    for directory in group.directories.values():
        for _ in range(group.path.rstrip("/").count("/")):
            directory = directory.rpartition("/")[0]
            files = _present(kernel, directory, LIMIT_FILES)
            if files:
                yield files


def _present(kernel: Kernel, directory: str, wanted: Sequence[str]) -> dict[str, str]:
    present = set(kernel.sys_entries(directory))
    return {name: f"{directory}/{name}" for name in wanted if name in present}


def _contents(kernel: Kernel, files: Mapping[str, str]) -> dict[str, bytes]:
    read = kernel.attribute
    return {name: data for name, path in files.items() if (data := read(path)) is not None}


def _lines(file: KernelFile | None) -> int | None:
    if file is None:
        return None
    try:
        return file.read().count(b"\n")
    except OSError:
        return None


def _failures(usage: Usage) -> Iterator[Row]:
    for kind, scope, count in (
        ("pgfault", "container", usage.faults),
        ("pgmajfault", "container", usage.major_faults),
        ("pgfault", "hierarchy", usage.faults_with_below),
        ("pgmajfault", "hierarchy", usage.major_faults_with_below),
    ):
        if count is not None:
            yield FAILURES, (usage.path, kind, scope), count


def _identity(usage: Usage) -> tuple[str, str]:
    """The group's path, and the container's id where the path ends in one."""
    ids = _CONTAINER_ID.findall(usage.path)
    return usage.path, ids[-1] if ids else ""


def _series(rows: Sequence[tuple[Family, tuple[str, ...]]]) -> Iterator[Series]:
    for family, values in rows:
        yield Series(family, tuple(label for label in zip(family.labels, values, strict=True) if label[1]))

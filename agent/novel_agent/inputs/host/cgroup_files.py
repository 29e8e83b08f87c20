"""The files of a control group as numbers: what it uses, what it may use. Pure functions of bytes, for v2 and v1.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, cgroup-v1/cpuacct.rst,
cgroup-v1/blkio-controller.rst and Documentation/scheduler/sched-bwc.rst.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host import pressure
from novel_agent.inputs.host.cpu import TICKS_PER_SECOND, parse_cpu_list

_NANOSECONDS = 1_000_000_000
_MICROSECONDS = 1_000_000
_UNLIMITED_BYTES = 1 << 62  # v1 writes the largest multiple of a page instead of "max"

_PRESSURE_FILES = ("cpu.pressure", "memory.pressure", "io.pressure")
V2_FILES = (
    "cpu.stat",
    "cpu.max",
    "cpuset.cpus.effective",
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.stat",
    "memory.swap.current",
    "memory.events",
    "io.stat",
    "pids.current",
    "pids.max",
    *_PRESSURE_FILES,
)
"""What `parse_v2` looks at."""

V1_FILES: dict[str, tuple[str, ...]] = {
    "": _PRESSURE_FILES,
    "cpu": ("cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpuacct": ("cpuacct.usage", "cpuacct.stat"),
    "cpuset": ("cpuset.effective_cpus",),
    "memory": (
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.stat",
        "memory.oom_control",
    ),
    "blkio": ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
    "pids": ("pids.current", "pids.max"),
}
"""What `parse_v1` looks at, by controller; '' is a v2 hierarchy beside them."""
LIMIT_FILES = ("memory.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us")
"""What `parse_limits` looks at, of either version; memory.stat too, but not of every group on the way up."""


class Limits(NamedTuple):
    """Most memory and most processors; None for no limit."""

    memory_bytes: int | None = None
    cpus: float | None = None


class Transfers(NamedTuple):
    """What a group read from and wrote to one device."""

    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Usage(msgspec.Struct, kw_only=True):
    """What one group used since it was made, or uses now; None where the kernel does not say.

    `faults` are those of the group alone where the kernel tells them apart (v1). Throttling is None without a quota.
    The group's own limits are 0 for no limit; the effective ones are filled in by who knows the groups above.
    """

    path: str = "/"
    cpu_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    working_set_bytes: int | None = None
    rss_bytes: int | None = None
    cache_bytes: int | None = None
    swap_bytes: int | None = None
    mapped_file_bytes: int | None = None
    faults: int | None = None
    major_faults: int | None = None
    faults_with_below: int | None = None
    major_faults_with_below: int | None = None
    oom_kills: int | None = None
    processes: int | None = None
    threads: int | None = None
    threads_max: int | None = None
    cpu_waiting_seconds: float | None = None
    cpu_stalled_seconds: float | None = None
    memory_waiting_seconds: float | None = None
    memory_stalled_seconds: float | None = None
    io_waiting_seconds: float | None = None
    io_stalled_seconds: float | None = None
    memory_limit_bytes: int | None = None
    cpu_quota_microseconds: int | None = None
    cpu_period_microseconds: int | None = None
    cpuset_cpus: int | None = None
    effective_memory_bytes: int | None = None
    effective_cpus: float | None = None
    transfers: dict[str, Transfers] = {}


Files = Mapping[str, bytes]
"""The content of a group's files, by name."""


def effective_limits(levels: Iterable[Limits]) -> Limits:
    """What holds for a group, from its own limits and those of every group above it: the tightest of each."""
    memory, cpus = None, None
    for level in levels:
        if level.memory_bytes is not None and (memory is None or level.memory_bytes < memory):
            memory = level.memory_bytes
        if level.cpus is not None and (cpus is None or level.cpus < cpus):
            cpus = level.cpus
    return Limits(memory, cpus)


def parse_limits(files: Files) -> Limits:
    """The limits that one group sets by itself, v2 or v1.

    With v1's memory.stat also what the groups above it allow, which a container without a namespace cannot look up.
    """
    quota, period = _quota(files)
    _, _, rest = files.get("memory.stat", b"").partition(b"hierarchical_memory_limit ")
    above = int(rest.split(b"\n", 1)[0]) if rest else _UNLIMITED_BYTES
    own = _memory_limit(files)
    memory = above if own is None else min(own, above)
    return Limits(memory if memory < _UNLIMITED_BYTES else None, quota / period if quota and period else None)


def _memory_limit(files: Files) -> int | None:
    limit = _number(files.get("memory.max", files.get("memory.limit_in_bytes")))
    return None if limit is None or limit >= _UNLIMITED_BYTES else limit


def _quota(files: Files) -> tuple[int | None, int | None]:
    """Microseconds of CPU time in each period of so many microseconds; None for no quota, or no such controller."""
    if "cpu.max" in files:
        quota, period = files["cpu.max"].split()
        return _number(quota), int(period)
    quota_v1 = _number(files.get("cpu.cfs_quota_us"))
    return (None if quota_v1 is not None and quota_v1 < 0 else quota_v1), _number(files.get("cpu.cfs_period_us"))


def _number(data: bytes | None) -> int | None:
    """A number; None for `max` and for a file that is not there."""
    return None if data is None or data == b"max" else int(data)


def _flat(data: bytes | None) -> dict[bytes, int]:
    words = (data or b"").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def _scaled(number: int | None, divisor: int) -> float | None:
    return None if number is None else number / divisor


def parse_v2(files: Files) -> Usage:
    """The files of a group of v2. Its memory.stat counts the groups below it too."""
    cpu, memory = _flat(files.get("cpu.stat")), _flat(files.get("memory.stat"))
    used = _number(files.get("memory.current"))
    quota, period = _quota(files)
    usage = Usage(
        cpu_seconds=_scaled(cpu.get(b"usage_usec"), _MICROSECONDS),
        user_seconds=_scaled(cpu.get(b"user_usec"), _MICROSECONDS),
        system_seconds=_scaled(cpu.get(b"system_usec"), _MICROSECONDS),
        periods=cpu.get(b"nr_periods"),
        throttled_periods=cpu.get(b"nr_throttled"),
        throttled_seconds=_scaled(cpu.get(b"throttled_usec"), _MICROSECONDS),
        memory_bytes=used,
        memory_peak_bytes=_number(files.get("memory.peak")),
        working_set_bytes=_working_set(used, memory.get(b"inactive_file")),
        rss_bytes=memory.get(b"anon"),
        cache_bytes=memory.get(b"file"),
        swap_bytes=_number(files.get("memory.swap.current")),
        mapped_file_bytes=memory.get(b"file_mapped"),
        faults=memory.get(b"pgfault"),
        major_faults=memory.get(b"pgmajfault"),
        faults_with_below=memory.get(b"pgfault"),
        major_faults_with_below=memory.get(b"pgmajfault"),
        oom_kills=_flat(files.get("memory.events")).get(b"oom_kill"),
        cpu_quota_microseconds=quota,
        cpu_period_microseconds=period,
        cpuset_cpus=_cpuset(files.get("cpuset.cpus.effective")),
        transfers=_parse_io_stat(files.get("io.stat", b"")),
    )
    return _with_common(usage, files)


def parse_v1(files: Files) -> Usage:
    """The files of a group of v1, out of all its hierarchies."""
    cpu, ticks, memory = (_flat(files.get(name)) for name in ("cpu.stat", "cpuacct.stat", "memory.stat"))
    used = _number(files.get("memory.usage_in_bytes"))
    quota, period = _quota(files)
    usage = Usage(
        cpu_seconds=_scaled(_number(files.get("cpuacct.usage")), _NANOSECONDS),
        user_seconds=_scaled(ticks.get(b"user"), TICKS_PER_SECOND),
        system_seconds=_scaled(ticks.get(b"system"), TICKS_PER_SECOND),
        periods=cpu.get(b"nr_periods"),
        throttled_periods=cpu.get(b"nr_throttled"),
        throttled_seconds=_scaled(cpu.get(b"throttled_time"), _NANOSECONDS),
        memory_bytes=used,
        memory_peak_bytes=_number(files.get("memory.max_usage_in_bytes")),
        working_set_bytes=_working_set(used, memory.get(b"total_inactive_file")),
        rss_bytes=memory.get(b"total_rss"),
        cache_bytes=memory.get(b"total_cache"),
        swap_bytes=memory.get(b"total_swap"),
        mapped_file_bytes=memory.get(b"total_mapped_file"),
        faults=memory.get(b"pgfault"),
        major_faults=memory.get(b"pgmajfault"),
        faults_with_below=memory.get(b"total_pgfault"),
        major_faults_with_below=memory.get(b"total_pgmajfault"),
        oom_kills=_flat(files.get("memory.oom_control")).get(b"oom_kill"),
        cpu_quota_microseconds=quota,
        cpu_period_microseconds=period,
        cpuset_cpus=_cpuset(files.get("cpuset.effective_cpus")),
        transfers=_parse_blkio(
            files.get("blkio.throttle.io_service_bytes_recursive", b""),
            files.get("blkio.throttle.io_serviced_recursive", b""),
        ),
    )
    return _with_common(usage, files)


def _with_common(usage: Usage, files: Files) -> Usage:
    if "memory.max" in files or "memory.limit_in_bytes" in files:
        usage.memory_limit_bytes = _memory_limit(files) or 0
    if not usage.cpu_quota_microseconds:
        usage.periods = usage.throttled_periods = usage.throttled_seconds = None
    usage.threads = _number(files.get("pids.current"))
    if "pids.max" in files:
        usage.threads_max = _number(files["pids.max"]) or 0
    for name in _PRESSURE_FILES:
        if files.get(name):
            resource = name.partition(".")[0]
            stalls = pressure.parse(files[name])
            setattr(usage, f"{resource}_waiting_seconds", _scaled(stalls.some, _MICROSECONDS))
            setattr(usage, f"{resource}_stalled_seconds", _scaled(stalls.full, _MICROSECONDS))
    return usage


def _working_set(used: int | None, inactive_file: int | None) -> int | None:
    return None if used is None or inactive_file is None else max(0, used - inactive_file)


def _cpuset(data: bytes | None) -> int | None:
    return len(parse_cpu_list(data)) if data else None


def _parse_io_stat(data: bytes) -> dict[str, Transfers]:
    transfers = {}
    for line in data.decode().splitlines():
        device, *pairs = line.split()
        field = dict(pair.split("=", 1) for pair in pairs)
        counts = [int(field.get(name, 0)) for name in ("rbytes", "wbytes", "rios", "wios")]
        transfers[device] = Transfers(*counts)
    return transfers


def _parse_blkio(sizes: bytes, operations: bytes) -> dict[str, Transfers]:
    """Lines `8:0 Read 4096`; the last line of each is a total of all devices."""
    counts: dict[str, dict[str, int]] = {}
    for data, fields in ((sizes, ("read_bytes", "written_bytes")), (operations, ("reads", "writes"))):
        for line in data.decode().splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in ("Read", "Write"):
                counts.setdefault(words[0], {})[fields[words[1] == "Write"]] = int(words[2])
    return {device: Transfers(**of_device) for device, of_device in counts.items()}

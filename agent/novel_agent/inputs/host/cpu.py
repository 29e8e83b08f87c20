"""Processor time from /proc/stat, throttling and hotplug from sysfs, models from /proc/cpuinfo.

Sources: Documentation/filesystems/proc.rst section 1.8, Documentation/admin-guide/cputopology.rst,
Documentation/ABI/testing/sysfs-devices-system-cpu. The kernel counts in USER_HZ, which is 100 on every architecture
this runs on.
"""

import re
from collections.abc import Sequence
from operator import ge
from typing import Annotated, NamedTuple

import msgspec

from novel_agent.config.schema import Regex
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.sysfs import number, read_once
from novel_agent.model.metric import Block, Family, Series

TICKS_PER_SECOND = 100
FREQUENCY_FILE = "cpuinfo_cur_freq"
"""Below a CPU's cpufreq/: its frequency as the hardware says, in kHz; not every driver knows it, and only root may ask."""

_CPUS = "devices/system/cpu"
_MOST_CPUS = 1 << 16
_HERTZ_PER_MHZ = 1_000_000
_IDLE = 3
_IDLE_JUMP_TICKS = 3 * TICKS_PER_SECOND
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_OTEL_MODES = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")

Ticks = tuple[int, ...]

SECONDS = Family("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", "counter", ("cpu", "mode"))
GUEST_SECONDS = Family(
    "node_cpu_guest_seconds_total", "Seconds the CPUs spent in guests (VMs) for each mode.", "counter", ("cpu", "mode")
)
CORE_THROTTLES = Family(
    "node_cpu_core_throttles_total", "Number of times this CPU core has been throttled.", "counter", ("package", "core")
)
PACKAGE_THROTTLES = Family(
    "node_cpu_package_throttles_total", "Number of times this CPU package has been throttled.", "counter", ("package",)
)
ISOLATED = Family(
    "node_cpu_isolated",
    "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
    "gauge",
    ("cpu",),
)
ONLINE = Family("node_cpu_online", "CPUs that are online and being scheduled.", "gauge", ("cpu",))
_CORE = ("package", "core", "cpu")
INFO = Family(
    "node_cpu_info",
    "CPU information from /proc/cpuinfo.",
    "gauge",
    (*_CORE, "vendor", "family", "model", "model_name", "microcode", "stepping", "cachesize"),
)
_INFO_KEYS = (
    "physical id",
    "core id",
    "processor",
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "microcode",
    "stepping",
    "cache size",
)
FREQUENCY = Family("node_cpu_frequency_hertz", "CPU frequency in hertz from /proc/cpuinfo.", "gauge", _CORE)
FLAG = Family(
    "node_cpu_flag_info",
    "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
    "gauge",
    ("flag",),
)
BUG = Family(
    "node_cpu_bug_info",
    "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
    "gauge",
    ("bug",),
)

TIME = Family(
    "system.cpu.time",
    "Seconds each logical CPU spent on each mode",
    "counter",
    ("cpu.logical_number", "cpu.mode"),
    unit="s",
)
UTILIZATION = Family(
    "system.cpu.utilization",
    "Share of the time since the last reading that each logical CPU spent on each mode",
    "gauge",
    ("cpu.logical_number", "cpu.mode"),
    unit="1",
)
LOGICAL_COUNT = Family(
    "system.cpu.logical.count", "Number of logical (virtual) processor cores", "updowncounter", unit="{cpu}"
)


PHYSICAL_COUNT = Family(
    "system.cpu.physical.count", "Number of actual physical processor cores", "updowncounter", unit="{cpu}"
)


class CpuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is shown beside the time by mode."""

    guest: Annotated[bool, msgspec.Meta(description="Time spent in guests, which user and nice contain as well.")] = (
        True
    )
    info: Annotated[bool, msgspec.Meta(description="Model and frequency of each CPU from /proc/cpuinfo.")] = False
    flags_include: Annotated[
        Regex | None, msgspec.Meta(description="Processor flags to show, as regular expression; implies `info`.")
    ] = None
    bugs_include: Annotated[
        Regex | None, msgspec.Meta(description="Processor bugs to show, as regular expression; implies `info`.")
    ] = None


class CpuInfo(NamedTuple):
    """INFO's label values by CPU, hertz by package, core and CPU, and those flags and bugs of the first CPU asked for."""

    cpus: tuple[tuple[str, ...], ...]
    hertz: dict[tuple[str, ...], float]
    flags: tuple[str, ...]
    bugs: tuple[str, ...]


class CpuReading(NamedTuple):
    """Ticks since boot by CPU: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""

    ticks: dict[str, Ticks]
    core_throttles: dict[tuple[str, str], int]
    package_throttles: dict[str, int]
    isolated: tuple[str, ...]
    online: dict[str, int]
    physical_count: int
    info: CpuInfo | None


def parse(data: bytes) -> dict[str, Ticks]:
    """The per-CPU lines of /proc/stat; an older kernel's missing columns are 0."""
    ticks: dict[str, Ticks] = {}
    for line in data.splitlines():
        if not line.startswith(b"cpu"):
            break
        fields = line.split()
        if fields[0] == b"cpu":
            continue
        numbers = tuple(map(int, fields[1:11]))
        if not numbers:
            raise ValueError(f"/proc/stat: {line!r} has no numbers")
        ticks[str(int(fields[0][3:]))] = numbers if len(numbers) == 10 else (*numbers, *[0] * (10 - len(numbers)))
    if not ticks:
        raise ValueError("no cpu lines in /proc/stat")
    return ticks


def parse_cpu_list(data: bytes) -> tuple[str, ...]:
    """A kernel CPU list (`0-3,8`) as single numbers."""
    numbers: list[str] = []
    for part in data.strip().split(b","):
        if part:
            first, dash, last = part.partition(b"-")
            end = int(last if dash else first)
            if end >= _MOST_CPUS:
                raise ValueError(f"no CPU list: {part!r}")
            numbers.extend(map(str, range(int(first), end + 1)))
    return tuple(numbers)


def parse_info(data: bytes) -> list[dict[str, str]]:
    """/proc/cpuinfo: the fields of each CPU. Arm calls the flags `Features`."""
    cpus: list[dict[str, str]] = []
    for line in data.decode(errors="replace").splitlines():
        name, found, value = line.partition(": ")
        key = name.strip()
        if found and key == "processor":
            cpus.append({key: str(int(value))})
        elif found and cpus:
            cpus[-1]["flags" if key == "Features" else key] = value
    if not cpus:
        raise ValueError("no processor in /proc/cpuinfo")
    return cpus


def forward(previous: Ticks | None, current: Ticks) -> Ticks:
    """The current ticks, where idle and iowait, which the kernel lets run backwards a little, never do.

    A fall of idle by three seconds or more is a CPU that was taken out and put back: its counters start again.
    """
    if previous is None or all(map(ge, current, previous)) or previous[_IDLE] - current[_IDLE] >= _IDLE_JUMP_TICKS:
        return current
    return tuple(map(max, previous, current))


class Cpu(HostCollector[CpuReading]):
    """Where the processors spend their time."""

    name = "cpu"
    summary = "seconds a CPU and mode, guests, throttling, hotplug and isolation"
    Options = CpuOptions
    prometheus = (
        SECONDS,
        GUEST_SECONDS,
        CORE_THROTTLES,
        PACKAGE_THROTTLES,
        ISOLATED,
        ONLINE,
        INFO,
        FREQUENCY,
        FLAG,
        BUG,
    )
    otel = (TIME, UTILIZATION, LOGICAL_COUNT, PHYSICAL_COUNT)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, CpuOptions)
        self._stat = self.kernel.proc_file("stat", one_read=True)
        self._cpuinfo = self.kernel.proc_file("cpuinfo")
        self._guest = options.guest
        self._flags = options.flags_include
        self._bugs = options.bugs_include
        self._info = options.info or bool(self._flags) or bool(self._bugs)
        self._kept: dict[str, Ticks] = {}
        self._exported: dict[str, Ticks] = {}
        self._resolved_for: tuple[str, ...] = ()

    def read(self) -> CpuReading:
        ticks = {cpu: forward(self._kept.get(cpu), now) for cpu, now in parse(self._stat.read()).items()}
        self._kept = ticks
        if tuple(ticks) != self._resolved_for:
            self._resolve()
            self._resolved_for = tuple(ticks)
        integer = self.kernel.integer
        return CpuReading(
            ticks,
            {core: count for core, path in self._core_paths.items() if (count := integer(path)) is not None},
            {package: count for package, path in self._package_paths.items() if (count := integer(path)) is not None},
            self._isolated,
            {cpu: integer(path) or 0 for cpu, path in self._online_paths.items()},
            self._physical_count,
            self._read_info() if self._info else None,
        )

    def _resolve(self) -> None:
        """Find what sysfs offers. That changes only when a CPU is plugged in or out, which /proc/stat shows."""
        kernel = self.kernel
        self._core_paths: dict[tuple[str, str], str] = {}
        self._package_paths: dict[str, str] = {}
        self._isolated = parse_cpu_list(read_once(kernel, f"{_CPUS}/isolated") or b"")
        entries = [name for name in kernel.sys_entries(_CPUS) if name[:3] == "cpu" and name[3:].isdigit()]
        # The boot CPU of most x86 machines cannot be taken out; where it has no such file, node_exporter shows none.
        switchable = bool(entries) and read_once(kernel, f"{_CPUS}/{entries[0]}/online") is not None
        self._online_paths = {name[3:]: f"{_CPUS}/{name}/online" for name in entries if switchable}
        # cpufreq has a metric of the same name where the hardware tells the frequency.
        self._frequency = all(read_once(kernel, f"{_CPUS}/{name}/cpufreq/{FREQUENCY_FILE}") is None for name in entries)
        cores = {read_once(kernel, f"{_CPUS}/{name}/topology/thread_siblings_list") for name in entries}
        self._physical_count = len(cores - {None})
        for name in entries:
            self._resolve_throttling(f"{_CPUS}/{name}")

    def _resolve_throttling(self, directory: str) -> None:
        package = number(read_once(self.kernel, f"{directory}/topology/physical_package_id"))
        core = number(read_once(self.kernel, f"{directory}/topology/core_id"))
        if package is None or core is None or package < 0 or core < 0:
            return
        path = f"{directory}/thermal_throttle/core_throttle_count"
        if (str(package), str(core)) not in self._core_paths and read_once(self.kernel, path) is not None:
            self._core_paths[str(package), str(core)] = path
        path = f"{directory}/thermal_throttle/package_throttle_count"
        if str(package) not in self._package_paths and read_once(self.kernel, path) is not None:
            self._package_paths[str(package)] = path

    def _read_info(self) -> CpuInfo:
        cpus = parse_info(self._cpuinfo.read())
        labels = tuple([tuple([cpu.get(key, "") for key in _INFO_KEYS]) for cpu in cpus])
        hertz = {
            place[:3]: float(cpu["cpu MHz"]) * _HERTZ_PER_MHZ
            for place, cpu in zip(labels, cpus, strict=True)
            if self._frequency and "cpu MHz" in cpu
        }
        return CpuInfo(
            labels,
            hertz,
            _matching(self._flags, cpus[0].get("flags", "")),
            _matching(self._bugs, cpus[0].get("bugs", "")),
        )

    def families(self, reading: CpuReading) -> Sequence[Block]:
        ticks = reading.ticks
        shape = self.shapes.get(
            "time", tuple(ticks), lambda: [SECONDS.series(cpu, mode) for cpu in ticks for mode in _MODES]
        )
        blocks = [Block(shape, [tick / TICKS_PER_SECOND for cpu in ticks.values() for tick in cpu[:8]])]
        if self._guest:
            shape = self.shapes.get(
                "guest",
                tuple(ticks),
                lambda: [GUEST_SECONDS.series(cpu, mode) for cpu in ticks for mode in ("user", "nice")],
            )
            blocks.append(Block(shape, [tick / TICKS_PER_SECOND for cpu in ticks.values() for tick in cpu[8:]]))
        _, core_throttles, package_throttles, isolated, online, _, info = reading
        shape = self.shapes.get(
            "rest",
            (tuple(core_throttles), tuple(package_throttles), isolated, tuple(online)),
            lambda: _rest(reading),
        )
        blocks.append(
            Block(
                shape, [*core_throttles.values(), *package_throttles.values(), *[1] * len(isolated), *online.values()]
            )
        )
        if info is not None:
            cpus, hertz, flags, bugs = info
            shape = self.shapes.get("info", (cpus, tuple(hertz), flags, bugs), lambda: _info_series(info))
            blocks.append(Block(shape, [*[1] * len(cpus), *hertz.values(), *[1] * (len(flags) + len(bugs))]))
        return blocks

    def telemetry(self, reading: CpuReading) -> Sequence[Block]:
        ticks, before = reading.ticks, self._exported
        self._exported = ticks
        shape = self.shapes.get(
            "otel.time", tuple(ticks), lambda: [TIME.series(cpu, mode) for cpu in ticks for mode in _OTEL_MODES]
        )
        blocks = [
            Block(shape, [tick / TICKS_PER_SECOND for cpu in ticks.values() for tick in cpu[:8]]),
            self.single("otel.logical", (LOGICAL_COUNT,), (len(ticks),)),
        ]
        if reading.physical_count:
            blocks.append(self.single("otel.physical", (PHYSICAL_COUNT,), (reading.physical_count,)))
        if before.keys() == ticks.keys() and before is not ticks:
            shape = self.shapes.get(
                "otel.utilization",
                tuple(ticks),
                lambda: [UTILIZATION.series(cpu, mode) for cpu in ticks for mode in _OTEL_MODES],
            )
            shares: list[float] = []
            for cpu, now in ticks.items():
                spent = [max(0, tick - last) for tick, last in zip(now[:8], before[cpu][:8], strict=True)]
                whole = sum(spent) or 1
                shares.extend(part / whole for part in spent)
            blocks.append(Block(shape, shares))
        return blocks


def _matching(pattern: str | None, words: str) -> tuple[str, ...]:
    if not pattern:
        return ()
    found = re.compile(pattern).search
    return tuple([word for word in words.split() if found(word)])


def _rest(reading: CpuReading) -> list[Series]:
    return [
        *(CORE_THROTTLES.series(package, core) for package, core in reading.core_throttles),
        *(PACKAGE_THROTTLES.series(package) for package in reading.package_throttles),
        *(ISOLATED.series(cpu) for cpu in reading.isolated),
        *(ONLINE.series(cpu) for cpu in reading.online),
    ]


def _info_series(info: CpuInfo) -> list[Series]:
    return [
        *(INFO.series(*values) for values in info.cpus),
        *(FREQUENCY.series(*place) for place in info.hertz),
        *(FLAG.series(flag) for flag in info.flags),
        *(BUG.series(bug) for bug in info.bugs),
    ]

"""Memory from /proc/meminfo (Documentation/filesystems/proc.rst, section 1.2.2), with swap as OpenTelemetry's paging.

The lines of the file stay the same for as long as the kernel runs, so where each number stands is worked out once
(`Layout`) and checked at every reading by comparing everything between the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter, mul
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family, Number, Series

_BYTES_PER_KIB = 1024

_Pick = Callable[[Sequence[bytes]], tuple[bytes, ...]]

# The lines node_exporter knows; a kernel writes more of them and may lack some.
_LINES_IN_KIB = (  # noqa: SIM905 - one name a line would fill a page
    "MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) "
    "Inactive(file) Unevictable Mlocked SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem Slab "
    "SReclaimable SUnreclaim KernelStack PageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS "
    "VmallocTotal VmallocUsed VmallocChunk Percpu HardwareCorrupted AnonHugePages ShmemHugePages ShmemPmdMapped "
    "CmaTotal CmaFree Hugepagesize DirectMap4k DirectMap2M DirectMap1G"
).split()
_LINES_IN_PAGES = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")


def _field(line: str) -> str:
    return line.replace("(", "_").replace(")", "")


FAMILIES: dict[str, Family] = {
    line: Family(f"node_memory_{field}", f"Memory information field {field}.")
    for line, field in [
        *((line, _field(line) + "_bytes") for line in _LINES_IN_KIB),
        *((line, line) for line in _LINES_IN_PAGES),
    ]
}

_STATES = ("used", "free", "buffers", "cached")
USAGE = Family(
    "system.memory.usage", "Reports memory in use by state", "updowncounter", ("system.memory.state",), unit="By"
)
UTILIZATION = Family(
    "system.memory.utilization", "Share of memory in use by state", "gauge", ("system.memory.state",), unit="1"
)
LIMIT = Family("system.memory.limit", "Total memory available in the system", "updowncounter", unit="By")
AVAILABLE = Family(
    "system.memory.linux.available",
    "Estimate of how much memory is available for starting new applications, without causing swapping",
    "updowncounter",
    unit="By",
)
SHARED = Family("system.memory.linux.shared", "Shared memory used (mostly by tmpfs)", "updowncounter", unit="By")
SLAB = Family(
    "system.memory.linux.slab.usage",
    "Memory used by the kernel for caches of frequently used objects",
    "updowncounter",
    ("system.memory.linux.slab.state",),
    unit="By",
)
HUGEPAGES_LIMIT = Family(
    "system.memory.linux.hugepages.limit", "Total number of hugepages available", "updowncounter", unit="{page}"
)
HUGEPAGES_USAGE = Family(
    "system.memory.linux.hugepages.usage",
    "Number of hugepages in use by state",
    "updowncounter",
    ("system.memory.linux.hugepages.state",),
    unit="{page}",
)
HUGEPAGES_UTILIZATION = Family(
    "system.memory.linux.hugepages.utilization",
    "Share of hugepages in use by state",
    "gauge",
    ("system.memory.linux.hugepages.state",),
    unit="1",
)
HUGEPAGES_RESERVED = Family(
    "system.memory.linux.hugepages.reserved",
    "Number of hugepages promised but not yet allocated",
    "updowncounter",
    unit="{page}",
)
HUGEPAGES_SURPLUS = Family(
    "system.memory.linux.hugepages.surplus",
    "Number of hugepages beyond the persistent pool",
    "updowncounter",
    unit="{page}",
)
HUGEPAGES_SIZE = Family("system.memory.linux.hugepages.page_size", "Hugepage size in bytes", "updowncounter", unit="By")
PAGING_USAGE = Family(
    "system.paging.usage", "Swap usage by state", "updowncounter", ("system.paging.state",), unit="By"
)
PAGING_UTILIZATION = Family(
    "system.paging.utilization", "Share of swap by state", "gauge", ("system.paging.state",), unit="1"
)


class Layout:
    """Where the numbers stand among the words of the file.

    `lines` names the numbers that are wanted, `factors` what each is multiplied by to be in bytes (or pages).
    """

    __slots__ = ("_rest", "_rest_of", "_words", "factors", "lines", "numbers_of")

    def __init__(self, words: Sequence[bytes], numbers: Mapping[str, tuple[int, int]]) -> None:
        wanted = [(line, *numbers[line]) for line in FAMILIES if line in numbers]
        if len(wanted) < 2:
            raise ValueError("/proc/meminfo has none of the lines expected there")
        self._words = len(words)
        self.lines = tuple(line for line, _, _ in wanted)
        self.factors = tuple(factor for _, _, factor in wanted)
        self.numbers_of: _Pick = itemgetter(*[position for _, position, _ in wanted])
        positions = {position for position, _ in numbers.values()}
        self._rest_of: _Pick = itemgetter(*[at for at in range(self._words) if at not in positions])
        self._rest = self._rest_of(words)

    def fits(self, words: Sequence[bytes]) -> bool:
        return len(words) == self._words and self._rest_of(words) == self._rest

    @classmethod
    def of(cls, data: bytes) -> "Layout":
        """Work it out from the lines. ValueError for a line that is not `Name: number` or `Name: number kB`."""
        numbers: dict[str, tuple[int, int]] = {}
        position = 0
        for line in data.splitlines():
            words = line.split()
            if len(words) not in (2, 3) or words[0][-1:] != b":" or (len(words) == 3 and words[2] != b"kB"):
                raise ValueError(f"not a line of /proc/meminfo: {line[:80]!r}")
            numbers[words[0][:-1].decode()] = (position + 1, _BYTES_PER_KIB if len(words) == 3 else 1)
            position += len(words)
        return cls(data.split(), numbers)


class Reading(NamedTuple):
    """Numbers in bytes (HugePages_* in pages), in the order of `layout.lines`."""

    layout: Layout
    numbers: list[int]


def parse(data: bytes, layout: Layout | None = None) -> Reading:
    """The numbers of the file; `layout` is that of the previous reading and only saves time."""
    words = data.split()
    if layout is None or not layout.fits(words):
        layout = Layout.of(data)
    return Reading(layout, list(map(mul, map(int, layout.numbers_of(words)), layout.factors)))


def _usage(field: Mapping[str, int]) -> Sequence[Number]:
    total, free, buffers, cached = field["MemTotal"], field["MemFree"], field["Buffers"], field["Cached"]
    available = field.get("MemAvailable")
    used = total - available if available is not None else max(0, total - free - buffers - cached)
    parts = (used, free, buffers, cached)
    return (*parts, *[part / total for part in parts], total)


def _hugepages(field: Mapping[str, int]) -> Sequence[Number]:
    total, free = field["HugePages_Total"], field["HugePages_Free"]
    rest = (field["HugePages_Rsvd"], field["HugePages_Surp"], field["Hugepagesize"])
    return (total, total - free, free, *rest)


def _hugepages_shares(field: Mapping[str, int]) -> Sequence[Number]:
    total, free = field["HugePages_Total"], field["HugePages_Free"]
    return ((total - free) / total, free / total)


def _paging(field: Mapping[str, int]) -> Sequence[Number]:
    return (field["SwapTotal"] - field["SwapFree"], field["SwapFree"])


def _paging_shares(field: Mapping[str, int]) -> Sequence[Number]:
    total, free = field["SwapTotal"], field["SwapFree"]
    return ((total - free) / total, free / total)


# What is computed together; a group is left out where the kernel lacks one of its lines or a total is 0.
_TELEMETRY: tuple[tuple[tuple[Series, ...], Callable[[Mapping[str, int]], Sequence[Number]]], ...] = (
    (
        (*map(USAGE.series, _STATES), *map(UTILIZATION.series, _STATES), LIMIT.series()),
        _usage,
    ),
    ((AVAILABLE.series(),), lambda field: (field["MemAvailable"],)),
    ((SHARED.series(),), lambda field: (field["Shmem"],)),
    (
        (SLAB.series("reclaimable"), SLAB.series("unreclaimable")),
        lambda field: (field["SReclaimable"], field["SUnreclaim"]),
    ),
    (
        (
            HUGEPAGES_LIMIT.series(),
            HUGEPAGES_USAGE.series("used"),
            HUGEPAGES_USAGE.series("free"),
            HUGEPAGES_RESERVED.series(),
            HUGEPAGES_SURPLUS.series(),
            HUGEPAGES_SIZE.series(),
        ),
        _hugepages,
    ),
    ((HUGEPAGES_UTILIZATION.series("used"), HUGEPAGES_UTILIZATION.series("free")), _hugepages_shares),
    ((PAGING_USAGE.series("used"), PAGING_USAGE.series("free")), _paging),
    ((PAGING_UTILIZATION.series("used"), PAGING_UTILIZATION.series("free")), _paging_shares),
)


class MemoryInfo(HostCollector[Reading]):
    """How memory and swap are used."""

    name = "meminfo"
    summary = "memory, caches, hugepages and swap as /proc/meminfo shows them"
    prometheus = tuple(FAMILIES.values())
    otel = (
        USAGE,
        UTILIZATION,
        LIMIT,
        AVAILABLE,
        SHARED,
        SLAB,
        HUGEPAGES_LIMIT,
        HUGEPAGES_USAGE,
        HUGEPAGES_UTILIZATION,
        HUGEPAGES_RESERVED,
        HUGEPAGES_SURPLUS,
        HUGEPAGES_SIZE,
        PAGING_USAGE,
        PAGING_UTILIZATION,
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("meminfo", one_read=True)
        self._layout: Layout | None = None

    def read(self) -> Reading:
        reading = parse(self._file.read(), self._layout)
        self._layout = reading.layout
        return reading

    def families(self, reading: Reading) -> Sequence[Block]:
        lines = reading.layout.lines
        shape = self.shapes.get("prometheus", lines, lambda: [FAMILIES[line].series() for line in lines])
        return [Block(shape, reading.numbers)]

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        field = dict(zip(reading.layout.lines, reading.numbers, strict=True))
        series: list[Series] = []
        values: list[Number] = []
        for group, compute in _TELEMETRY:
            try:
                values += compute(field)
            except (KeyError, ZeroDivisionError):
                continue
            series += group
        return [Block(self.shapes.get("otel", tuple(series), lambda: series), values)]

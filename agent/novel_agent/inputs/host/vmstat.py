"""Virtual memory events from /proc/vmstat; the names are the kernel's own (mm/vmstat.c)."""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family, FamilyPattern, Series

_PAGING_FIELDS = ("pgfault", "pgmajfault", "pswpin", "pswpout")

FAULTS = Family(
    "system.paging.faults", "The number of page faults", "counter", ("system.paging.fault.type",), unit="{fault}"
)
OPERATIONS = Family(
    "system.paging.operations",
    "Pages read from and written to swap",
    "counter",
    ("system.paging.fault.type", "system.paging.direction"),
    unit="{operation}",
)
_PAGING_SERIES = (
    FAULTS.series("minor"),
    FAULTS.series("major"),
    OPERATIONS.series("major", "in"),
    OPERATIONS.series("major", "out"),
)


class VmStatOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which of the kernel's counters are shown."""

    fields: Annotated[Regex, Meta(description="Regular expression found in the name of a field to show.")] = (
        "^(oom_kill|pgpg|pswp|pg.*fault).*"
    )


class Fields(NamedTuple):
    """Which fields are read, each with the bytes that precede its number; `shown` of them are for /metrics."""

    lines: int
    names: tuple[str, ...]
    needles: tuple[bytes, ...]
    shown: int


class Reading(NamedTuple):
    """Numbers in the order of `names`."""

    names: tuple[str, ...]
    numbers: list[int]
    shown: int


def select(data: bytes, pattern: "re.Pattern[str]") -> Fields:
    """The fields that `pattern` finds, and those that telemetry needs. ValueError for a line that is not `name number`."""
    names = []
    lines = data.splitlines()
    for line in lines:
        name, _, number = line.partition(b" ")
        if not number.strip().isdigit():
            raise ValueError(f"not a line of /proc/vmstat: {line[:80]!r}")
        names.append(name.decode())
    if not names:
        raise ValueError("/proc/vmstat is empty")
    shown = [name for name in names if pattern.search(name)]
    read = (*shown, *(name for name in _PAGING_FIELDS if name in names and name not in shown))
    return Fields(len(lines), read, tuple(b"\n" + name.encode() + b" " for name in read), len(shown))


def parse(data: bytes, needles: Sequence[bytes]) -> list[int]:
    """The numbers that follow the needles (`newline, name, blank`). ValueError where one is missing."""
    text = b"\n" + data
    numbers = []
    for needle in needles:
        start = text.index(needle) + len(needle)
        numbers.append(int(text[start : text.index(b"\n", start)]))
    return numbers


class VmStat(HostCollector[Reading]):
    """What the memory manager did since boot."""

    name = "vmstat"
    summary = "paging, swapping, faults and out-of-memory kills from /proc/vmstat"
    Options = VmStatOptions
    prometheus = (FamilyPattern("node_vmstat_[a-zA-Z0-9_]+", "A field of /proc/vmstat.", "untyped"),)
    otel = (FAULTS, OPERATIONS)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, VmStatOptions)
        self._file = self.kernel.proc_file("vmstat", one_read=True)
        self._pattern = re.compile(options.fields)
        self._fields: Fields | None = None

    def read(self) -> Reading:
        data = self._file.read()
        fields = self._fields
        if fields is None or data.count(b"\n") != fields.lines:
            fields = self._fields = select(data, self._pattern)
        return Reading(fields.names, parse(data, fields.needles), fields.shown)

    def families(self, reading: Reading) -> Sequence[Block]:
        names = reading.names[: reading.shown]
        return [Block(self.shapes.get("prometheus", names, lambda: map(_series, names)), reading.numbers[: len(names)])]

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        field = dict(zip(reading.names, reading.numbers, strict=True))
        try:
            faults, major, swapped_in, swapped_out = (field[name] for name in _PAGING_FIELDS)
        except KeyError:  # a kernel without swap has no pswpin
            return []
        shape = self.shapes.get("otel", None, lambda: _PAGING_SERIES)
        return [Block(shape, (faults - major, major, swapped_in, swapped_out))]


def _series(name: str) -> Series:
    return Family(f"node_vmstat_{name}", f"/proc/vmstat information field {name}.", "untyped").series()

"""Hardware interrupts by CPU and line from /proc/interrupts (Documentation/filesystems/proc.rst, section 1.2)."""

import re
from collections.abc import Sequence
from itertools import compress
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family, Series

SERVICED = Family("node_interrupts_total", "Interrupt details.", "counter", ("cpu", "type", "info", "devices"))


class InterruptsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which interrupt lines are shown, by `type;info;devices`."""

    include_names: Annotated[
        Regex | None, Meta(description="Only interrupts in whose `type;info;devices` this expression is found.")
    ] = None
    exclude_names: Annotated[
        Regex | None, Meta(description="No interrupts in whose `type;info;devices` this expression is found.")
    ] = None
    include_zeros: Annotated[bool, Meta(description="Also those that a CPU never saw.")] = True


class Interrupt(NamedTuple):
    """What the kernel says of one line; `type` is its number or a name like `LOC`."""

    type: str
    info: str
    devices: str


Counts = dict[Interrupt, list[int]]


def parse(data: bytes) -> Counts:
    """Counts in the order of the CPU columns. Lines without a column for each CPU (ERR, MIS) are left out."""
    header, *lines = data.decode(errors="replace").splitlines() or [""]
    cpus = len(header.split())
    if not cpus:
        raise ValueError("/proc/interrupts does not begin with its CPUs")
    counts: Counts = {}
    for line in lines:
        kind, _, rest = line.partition(":")
        fields = rest.split(None, cpus)
        if len(fields) > cpus:
            interrupt = _interrupt(kind.strip(), fields.pop())
            counts[interrupt] = list(map(int, fields))
    return counts


def _interrupt(kind: str, description: str) -> Interrupt:
    words = description.split()
    if kind.isdigit():
        return Interrupt(kind, words[0], " ".join(words[1:]))
    return Interrupt(kind, " ".join(words), "")


class Interrupts(HostCollector[Counts]):
    """Which devices interrupt which CPU, and how often."""

    name = "interrupts"
    summary = "hardware interrupts a CPU and line"
    default_on = False
    Options = InterruptsOptions
    prometheus = (SERVICED,)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, InterruptsOptions)
        self._file = self.kernel.proc_file("interrupts")
        self._include = re.compile(options.include_names or "")
        self._exclude = re.compile(options.exclude_names) if options.exclude_names else None
        self._zeros = options.include_zeros
        self._judged: dict[Interrupt, bool] = {}

    def read(self) -> Counts:
        counts = parse(self._file.read())
        if counts.keys() != self._judged.keys():
            self._judged = {interrupt: self._is_wanted(interrupt) for interrupt in counts}
        return {interrupt: numbers for interrupt, numbers in counts.items() if self._judged[interrupt]}

    def _is_wanted(self, interrupt: Interrupt) -> bool:
        name = ";".join(interrupt)
        return bool(self._include.search(name)) and not (self._exclude and self._exclude.search(name))

    def families(self, reading: Counts) -> Sequence[Block]:
        values = [number for numbers in reading.values() for number in numbers]
        key = tuple((interrupt, len(numbers)) for interrupt, numbers in reading.items())
        shape = self.shapes.get("prometheus", key, lambda: _series(reading))
        if self._zeros:
            return [Block(shape, values)]
        seen = tuple(map(bool, values))
        shape = self.shapes.get("seen", (key, seen), lambda: compress(shape.series, seen))
        return [Block(shape, list(compress(values, seen)))]


def _series(counts: Counts) -> list[Series]:
    return [
        SERVICED.series(str(cpu), *interrupt) for interrupt, numbers in counts.items() for cpu in range(len(numbers))
    ]

"""Pressure stall information from /proc/pressure (Documentation/accounting/psi.rst)."""

from collections.abc import Sequence
from errno import EOPNOTSUPP
from typing import NamedTuple

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.model.metric import Block, Family

_MICROSECONDS = 1_000_000


def _waiting(resource: str, what: str) -> Family:
    return Family(
        f"node_pressure_{resource}_waiting_seconds_total",
        f"Total time in seconds that processes have waited {what}",
        "counter",
    )


def _stalled(resource: str, what: str) -> Family:
    return Family(
        f"node_pressure_{resource}_stalled_seconds_total",
        f"Total time in seconds no process could make progress due to {what}",
        "counter",
    )


# CPU has a `full` line since Linux 5.13 that is undefined for the system as a whole; irq has no `some` line.
FAMILIES: dict[str, tuple[Family | None, Family | None]] = {
    "cpu": (_waiting("cpu", "for CPU time"), None),
    "io": (_waiting("io", "due to IO congestion"), _stalled("io", "IO congestion")),
    "memory": (_waiting("memory", "for memory"), _stalled("memory", "memory congestion")),
    "irq": (None, _stalled("irq", "IRQ congestion")),
}


class Stalls(NamedTuple):
    """Microseconds since boot in which some, or all, tasks were stalled; None where the kernel has no such line."""

    some: int | None
    full: int | None


def parse(data: bytes) -> Stalls:
    """The totals of one pressure file."""
    totals: dict[bytes, int] = {}
    for line in data.splitlines():
        kind, _, rest = line.partition(b" ")
        _, found, total = rest.rpartition(b" total=")
        if not found:
            raise ValueError(f"not a line of a pressure file: {line[:80]!r}")
        totals[kind] = int(total)
    return Stalls(totals.get(b"some"), totals.get(b"full"))


class Pressure(HostCollector[dict[str, Stalls]]):
    """How long work had to wait for a resource."""

    name = "pressure"
    summary = "time lost to waiting for CPU, memory, I/O and interrupts (PSI)"
    prometheus = tuple(family for pair in FAMILIES.values() for family in pair if family)

    def setup(self, options: msgspec.Struct) -> None:
        self._files: dict[str, KernelFile] = {
            resource: self.kernel.proc_file(f"pressure/{resource}", one_read=True) for resource in FAMILIES
        }

    def read(self) -> dict[str, Stalls]:
        stalls: dict[str, Stalls] = {}
        for resource, file in list(self._files.items()):
            try:
                stalls[resource] = parse(file.read())
            except FileNotFoundError:  # for as long as this kernel runs
                del self._files[resource]
            except OSError as error:
                if error.errno == EOPNOTSUPP:
                    raise NoData("pressure stall information is switched off: boot with psi=1") from None
                raise
        if not stalls:
            raise NoData("the kernel has no pressure stall information: Linux 4.20 and CONFIG_PSI have")
        _refuse_missing_lines(stalls)
        return stalls

    def families(self, reading: dict[str, Stalls]) -> Sequence[Block]:
        shape = self.shapes.get(
            "prometheus",
            tuple(reading),
            lambda: [family.series() for resource in reading for family in FAMILIES[resource] if family],
        )
        values = [
            total / _MICROSECONDS
            for resource, stalls in reading.items()
            for total, family in zip(stalls, FAMILIES[resource], strict=True)
            if family and total is not None
        ]
        return [Block(shape, values)]


def _refuse_missing_lines(stalls: dict[str, Stalls]) -> None:
    for resource, totals in stalls.items():
        for total, family in zip(totals, FAMILIES[resource], strict=True):
            if family and total is None:
                raise NoData(f"{resource} pressure lacks the line of {family.name}")

"""Software interrupts by CPU from /proc/softirqs (Documentation/filesystems/proc.rst, section 1.2)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

_TYPES = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")
CALLS = Family("node_softirqs_functions_total", "Softirq counts per CPU.", "counter", ("cpu", "type"))


def parse(data: bytes) -> dict[str, list[int]]:
    """By type, the counts in the order of the CPU columns."""
    _, *lines = data.splitlines() or [b""]
    counts: dict[str, list[int]] = {}
    for line in lines:
        name, *numbers = line.split()
        kind = name.rstrip(b":").decode()
        if kind in _TYPES:
            counts[kind] = list(map(int, numbers))
    if not counts:
        raise ValueError("no softirqs in /proc/softirqs")
    return counts


class SoftIrqs(HostCollector[dict[str, list[int]]]):
    """How often each kind of deferred interrupt work ran on each CPU."""

    name = "softirqs"
    summary = "software interrupts a CPU and type"
    default_on = False
    prometheus = (CALLS,)

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("softirqs", one_read=True)

    def read(self) -> dict[str, list[int]]:
        return parse(self._file.read())

    def families(self, reading: dict[str, list[int]]) -> Sequence[Block]:
        shape = self.shapes.get(
            "prometheus",
            tuple((kind, len(numbers)) for kind, numbers in reading.items()),
            lambda: [CALLS.series(str(cpu), kind) for kind, numbers in reading.items() for cpu in range(len(numbers))],
        )
        return [Block(shape, [number for numbers in reading.values() for number in numbers])]

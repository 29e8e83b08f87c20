"""Scheduler time by CPU from /proc/schedstat (Documentation/scheduler/sched-stats.rst; times are in nanoseconds)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.model.metric import Block, Family

_NANOSECONDS = 1_000_000_000

RUNNING = Family(
    "node_schedstat_running_seconds_total", "Number of seconds CPU spent running a process.", "counter", ("cpu",)
)
WAITING = Family(
    "node_schedstat_waiting_seconds_total",
    "Number of seconds spent by processing waiting for this CPU.",
    "counter",
    ("cpu",),
)
TIMESLICES = Family("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.", "counter", ("cpu",))

Times = tuple[int, int, int]


def parse(data: bytes) -> dict[str, Times]:
    """By CPU: nanoseconds running, nanoseconds waiting, timeslices."""
    times: dict[str, Times] = {}
    for line in data.splitlines():
        if line.startswith(b"cpu"):
            fields = line.split()
            running, waiting, slices = map(int, fields[7:10])
            times[fields[0][3:].decode()] = running, waiting, slices
    if not times:
        raise ValueError("no cpu lines in /proc/schedstat")
    return times


class SchedStat(HostCollector[dict[str, Times]]):
    """How long tasks ran on each processor, and how long they waited for it."""

    name = "schedstat"
    summary = "running time, run queue waiting time and timeslices a CPU"
    prometheus = (RUNNING, WAITING, TIMESLICES)

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("schedstat")

    def read(self) -> dict[str, Times]:
        return parse(read_or_no_data(self._file, "scheduler statistics"))

    def families(self, reading: dict[str, Times]) -> Sequence[Block]:
        shape = self.shapes.get(
            "prometheus",
            tuple(reading),
            lambda: [family.series(cpu) for family in self.prometheus for cpu in reading],
        )
        running, waiting, slices = zip(*reading.values(), strict=True)
        values = [nanoseconds / _NANOSECONDS for nanoseconds in (*running, *waiting)]
        return [Block(shape, [*values, *slices])]

"""Load averages from /proc/loadavg (Documentation/filesystems/proc.rst)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family


def parse(data: bytes) -> tuple[float, float, float]:
    """The averages over 1, 5 and 15 minutes, in runnable and uninterruptible tasks."""
    one, five, fifteen = data.split(None, 3)[:3]
    return float(one), float(five), float(fifteen)


class LoadAverage(HostCollector[tuple[float, float, float]]):
    """How many tasks run or wait for a processor or a disk."""

    name = "loadavg"
    summary = "load averages over 1, 5 and 15 minutes"
    prometheus = (
        Family("node_load1", "1m load average."),
        Family("node_load5", "5m load average."),
        Family("node_load15", "15m load average."),
    )
    otel = (
        Family("system.cpu.load_average.1m", "Average CPU load over 1 minute", unit="{thread}"),
        Family("system.cpu.load_average.5m", "Average CPU load over 5 minutes", unit="{thread}"),
        Family("system.cpu.load_average.15m", "Average CPU load over 15 minutes", unit="{thread}"),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("loadavg", one_read=True)

    def read(self) -> tuple[float, float, float]:
        return parse(self._file.read())

    def families(self, reading: tuple[float, float, float]) -> Sequence[Block]:
        return [self.single("prometheus", self.prometheus, reading)]

    def telemetry(self, reading: tuple[float, float, float]) -> Sequence[Block]:
        return [self.single("otel", self.otel, reading)]

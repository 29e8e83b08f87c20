"""Packets as the receiving softirq handles them, by CPU, from /proc/net/softnet_stat.

A line a CPU that is online, columns in hexadecimal; newer kernels append columns, the CPU's number among them
(net/core/net-procfs.c, softnet_seq_show). Without that number the lines are counted.
"""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

_CPU = ("cpu",)
_FEWEST_COLUMNS = 9
_CPU_COLUMN = 12
_LONGEST_LINE_BYTES = 512  # fifteen columns have 135; newer kernels append some

_COLUMNS = (
    (0, Family("node_softnet_processed_total", "Number of processed packets", "counter", _CPU)),
    (1, Family("node_softnet_dropped_total", "Number of dropped packets", "counter", _CPU)),
    (
        2,
        Family(
            "node_softnet_times_squeezed_total",
            "Number of times processing packets ran out of quota",
            "counter",
            _CPU,
        ),
    ),
    (
        8,
        Family(
            "node_softnet_cpu_collision_total",
            "Number of collision occur while obtaining device lock while transmitting",
            "counter",
            _CPU,
        ),
    ),
    (9, Family("node_softnet_received_rps_total", "Number of times cpu woken up received_rps", "counter", _CPU)),
    (
        10,
        Family("node_softnet_flow_limit_count_total", "Number of times flow limit has been reached", "counter", _CPU),
    ),
    (11, Family("node_softnet_backlog_len", "Softnet backlog status", "gauge", _CPU)),
)
_INDEXES = tuple(column for column, _ in _COLUMNS)


def parse(data: bytes) -> dict[str, list[int]]:
    """What is shown of each CPU, in the order of the families; 0 for what an older kernel does not count."""
    rows: dict[str, list[int]] = {}
    for position, line in enumerate(data.splitlines()):
        columns = [int(column, 16) for column in line.split()]
        if len(columns) < _FEWEST_COLUMNS:
            raise ValueError(f"net/softnet_stat has a line of {len(columns)} columns")
        cpu = columns[_CPU_COLUMN] if len(columns) > _CPU_COLUMN else position
        columns += [0] * (_CPU_COLUMN - len(columns))
        rows[str(cpu)] = [columns[index] for index in _INDEXES]
    if not rows:
        raise ValueError("net/softnet_stat is empty")
    return rows


class SoftNet(HostCollector[dict[str, list[int]]]):
    """How the processors keep up with the packets that arrive."""

    name = "softnet"
    summary = "packets processed, dropped and put off by each CPU's network softirq"
    prometheus = tuple(family for _, family in _COLUMNS)

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("net/softnet_stat", record_bytes=_LONGEST_LINE_BYTES)

    def read(self) -> dict[str, list[int]]:
        return parse(self._file.read())

    def families(self, reading: dict[str, list[int]]) -> Sequence[Block]:
        cpus = tuple(reading)
        shape = self.shapes.get(
            "prometheus", cpus, lambda: [family.series(cpu) for _, family in _COLUMNS for cpu in cpus]
        )
        return [Block(shape, [count for column in zip(*reading.values(), strict=True) for count in column])]

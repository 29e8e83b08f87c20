"""Proportional memory (PSS), at a pace that bounds its cost.

The kernel walks the page tables for /proc/PID/smaps_rollup: about 25 µs for any process and 45 ns for each resident page,
12 ms for a gigabyte. A reading spends about 1.5 ms on it, whatever the number and size of the processes: every member
has an equal share of that and is measured as often as its share pays for it, larger ones less often. Before it waits
for turns, a process is measured once when it is first seen, all such with about 12 ms a reading; where there are more
(the first reading of a large host), the rest follow at the next. One process is always read whole, however large.

Costs are counted in pages, not in time, so the pace is the same on every machine.
"""

from heapq import heappop, heappush

from novel_agent.inputs.process import parse
from novel_agent.inputs.process.measuring import Meter
from novel_agent.inputs.process.table import Process, ProcessTable

PAGES_A_READING = 32_768
FIRST_PAGES_A_READING = 8 * PAGES_A_READING
FIXED_PAGES = 512
"""What opening, reading and closing the file costs, in pages."""

_AT_ONCE = 0


class ProportionalMemory:
    """Measures those processes whose turn it is."""

    def __init__(self, table: ProcessTable, meter: Meter) -> None:
        self._table = table
        self._meter = meter
        self._reading = 0
        self._turns: dict[Process, int] = {}
        self._queue: list[tuple[int, int, Process]] = []

    def add(self, process: Process) -> None:
        """Measure this process from now on, for the first time at once."""
        if process.stat.is_kernel_thread:
            process.proportional_bytes = (0, 0)
        elif process not in self._turns:
            self._queue_up(process, _AT_ONCE)

    def remove(self, process: Process) -> None:
        """Forget a process, known or not."""
        self._turns.pop(process, None)

    def measure(self) -> None:
        """Measure the processes whose turn has come, within what a reading may cost."""
        self._reading += 1
        spent = {True: 0, False: 0}
        while self._queue and self._queue[0][0] <= self._reading:
            turn = self._queue[0][0]
            at_once = turn == _AT_ONCE
            if spent[at_once] >= (FIRST_PAGES_A_READING if at_once else PAGES_A_READING):
                break
            process = heappop(self._queue)[2]
            if self._turns.get(process) == turn:
                cost = self._measure(process)
                spent[at_once] += cost
                self._queue_up(process, self._reading + 1 + cost * len(self._turns) // PAGES_A_READING)

    def _queue_up(self, process: Process, turn: int) -> None:
        self._turns[process] = turn
        heappush(self._queue, (turn, process.order, process))

    def _measure(self, process: Process) -> int:
        if not process.stat.resident_pages:
            process.proportional_bytes = (0, 0)
            return 0
        told = self._meter.told(process, "smaps_rollup", self._read)
        process.proportional_bytes = told or process.proportional_bytes
        return FIXED_PAGES + process.stat.resident_pages

    def _read(self, process: Process) -> tuple[int, int]:
        return parse.smaps_rollup(self._table.content(process, "smaps_rollup", keep=False))

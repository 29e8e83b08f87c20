"""All processes and threads by state, and the system's limits, from /proc/PID/stat (proc(5))."""

import os
from collections import Counter
from collections.abc import Sequence
from errno import ESRCH
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

THREADS = Family("node_processes_threads", "Allocated threads in system")
MAX_THREADS = Family("node_processes_max_threads", "Limit of threads in the system")
STATE = Family("node_processes_state", "Number of processes in each state.", "gauge", ("state",))
THREAD_STATE = Family("node_processes_threads_state", "Number of threads in each state.", "gauge", ("thread_state",))
PIDS = Family("node_processes_pids", "Number of PIDs")
MAX_PROCESSES = Family("node_processes_max_processes", "Number of max PIDs limit")

COUNT = Family(
    "system.process.count",
    "Total number of processes in each state",
    "updowncounter",
    ("process.state",),
    unit="{process}",
)
LIMIT = Family(
    "system.process.limit",
    "The maximum number of concurrent processes and threads allowed by the operating system",
    "updowncounter",
    unit="{thread}",
)
_OTEL_STATES = ("running", "sleeping", "stopped", "defunct")
_OTEL_STATE = {"R": "running", "T": "stopped", "t": "stopped", "Z": "defunct", "X": "defunct", "x": "defunct"}

_STATE = 0
_THREADS = 17


class Reading(NamedTuple):
    """Processes and threads by state letter; `threads` as the processes themselves count them."""

    states: dict[str, int]
    thread_states: dict[str, int]
    threads: int
    max_threads: int
    max_processes: int


def parse(data: bytes) -> tuple[str, int]:
    """State letter and number of threads from a stat file; the name before them may hold anything."""
    fields = data[data.rindex(b")") + 1 :].split(None, _THREADS + 1)
    if len(fields) <= _THREADS:
        raise ValueError(f"not a stat file of a process: {data[:80]!r}")
    return fields[_STATE].decode(), int(fields[_THREADS])


class Processes(HostCollector[Reading]):
    """How many processes and threads there are."""

    name = "processes"
    summary = "processes and threads of the whole system by state, and their limits"
    default_on = False
    optional = True
    prometheus = (THREADS, MAX_THREADS, STATE, THREAD_STATE, PIDS, MAX_PROCESSES)
    otel = (COUNT, LIMIT)

    def setup(self, options: msgspec.Struct) -> None:
        self._max_threads = self.kernel.proc_file("sys/kernel/threads-max", one_read=True)
        self._max_processes = self.kernel.proc_file("sys/kernel/pid_max", one_read=True)

    def read(self) -> Reading:
        states: Counter[str] = Counter()
        thread_states: Counter[str] = Counter()
        total = 0
        for pid in _numbers(self.kernel.proc):
            stat = _stat(f"{self.kernel.proc}/{pid}/stat")
            if stat is not None:
                state, threads = stat
                states[state] += 1
                total += threads
                thread_states[state] += 1
                if threads > 1:
                    thread_states.update(self._other_threads(pid))
        limits = int(self._max_threads.read()), int(self._max_processes.read())
        return Reading(dict(sorted(states.items())), dict(sorted(thread_states.items())), total, *limits)

    def _other_threads(self, pid: str) -> list[str]:
        tasks = f"{self.kernel.proc}/{pid}/task"
        try:
            threads = _numbers(tasks)
        except OSError:  # it ended meanwhile
            return []
        stats = [_stat(f"{tasks}/{thread}/stat") for thread in threads if thread != pid]
        return [stat[0] for stat in stats if stat is not None]

    def families(self, reading: Reading) -> Sequence[Block]:
        states, thread_states = reading.states, reading.thread_states
        shape = self.shapes.get(
            "prometheus",
            (tuple(states), tuple(thread_states)),
            lambda: [
                *(family.series() for family in (THREADS, MAX_THREADS, PIDS, MAX_PROCESSES)),
                *map(STATE.series, states),
                *map(THREAD_STATE.series, thread_states),
            ],
        )
        pids = sum(states.values())
        totals = (reading.threads, reading.max_threads, pids, reading.max_processes)
        return [Block(shape, [*totals, *states.values(), *thread_states.values()])]

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        counts = dict.fromkeys(_OTEL_STATES, 0)
        for letter, count in reading.states.items():
            counts[_OTEL_STATE.get(letter, "sleeping")] += count
        shape = self.shapes.get("otel", None, lambda: [*map(COUNT.series, _OTEL_STATES), LIMIT.series()])
        return [Block(shape, [*counts.values(), min(reading.max_threads, reading.max_processes)])]


def _numbers(directory: str) -> list[str]:
    return [name for name in os.listdir(directory) if name.isdigit()]


def _stat(path: str) -> tuple[str, int] | None:
    """None where the process has ended since it was listed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return parse(os.read(descriptor, 4096))
    except OSError as error:
        if error.errno == ESRCH:
            return None
        raise
    finally:
        os.close(descriptor)

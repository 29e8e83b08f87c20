"""What the agent costs and does, from its own /proc entries, as `novel_agent_*`."""

import os
import resource
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from novel_agent import __version__
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.runtime.supervise import Component

_PAGE_BYTES = resource.getpagesize()
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

BUILD_INFO = Family("novel_agent_build_info", "Version of the agent and of Python.", "gauge", ("version", "python"))
CPU = Family("novel_agent_process_cpu_seconds_total", "CPU time the agent has used, user and system.", "counter")
MEMORY = Family("novel_agent_process_resident_memory_bytes", "Resident memory of the agent.")
STARTED = Family("novel_agent_process_start_time_seconds", "When the agent started, since the epoch.")
DESCRIPTORS = Family("novel_agent_process_open_fds", "Open file descriptors of the agent.")
MOST_DESCRIPTORS = Family("novel_agent_process_max_fds", "Most file descriptors the agent may open.")
THREADS_LEFT = Family(
    "novel_agent_calls_left_behind", "Threads that wait in calls into the kernel that never returned."
)

RUNS = Family("novel_agent_component_runs_total", "Runs of a component.", "counter", ("component", "kind"))
FAILURES = Family("novel_agent_component_failures_total", "Failed runs.", "counter", ("component", "kind"))
TIMEOUTS = Family("novel_agent_component_timeouts_total", "Runs past the deadline.", "counter", ("component", "kind"))
RESTARTS = Family("novel_agent_component_restarts_total", "Restarts after a fault.", "counter", ("component", "kind"))
SECONDS = Family("novel_agent_component_run_seconds_total", "Time spent in runs.", "counter", ("component", "kind"))
UP = Family(
    "novel_agent_component_up",
    "1 where the last run was good or the host has no such thing.",
    "gauge",
    ("component", "kind"),
)
_PER_COMPONENT = (RUNS, FAILURES, SECONDS, UP)
_WELL = frozenset({"up", "no data", "resting", "idle", "stopped"})


class Cost(NamedTuple):
    """CPU seconds since start, resident bytes, open descriptors."""

    cpu_seconds: float
    resident_bytes: int
    descriptors: int


def read_cost() -> Cost:
    """What this process costs now."""
    times = os.times()
    with open("/proc/self/statm", "rb") as file:
        resident = int(file.read().split()[1]) * _PAGE_BYTES
    return Cost(times.user + times.system, resident, _open_descriptors())


def _open_descriptors() -> int:
    """Since Linux 6.2 the size of the directory is their number; before that they have to be listed."""
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1


class SelfStats:
    """The agent's own series."""

    def __init__(self) -> None:
        self.started_at = time.time()
        self._shapes = ShapeMemo()
        self._most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def blocks(self, cost: Cost, left_behind: int, components: Sequence[Component]) -> list[Block]:
        """Process and component figures."""
        python = ".".join(map(str, sys.version_info[:3]))
        process = self._shapes.get(
            "process",
            None,
            lambda: [
                BUILD_INFO.series(__version__, python),
                *(family.series() for family in (CPU, MEMORY, STARTED, DESCRIPTORS, MOST_DESCRIPTORS, THREADS_LEFT)),
            ],
        )
        return [
            Block(
                process,
                (
                    1,
                    round(cost.cpu_seconds, 3),
                    cost.resident_bytes,
                    self.started_at,
                    cost.descriptors,
                    self._most_descriptors,
                    left_behind,
                ),
            ),
            self._components(components),
        ]

    def _components(self, components: Sequence[Component]) -> Block:
        """Four series for each; deadlines missed and restarts only where there were any, as most never have one."""
        every = tuple((component.name, component.kind) for component in components)
        late = tuple((each.name, each.kind) for each in components if each.timeouts)
        restarted = tuple((each.name, each.kind) for each in components if each.restarts)
        shape = self._shapes.get(
            "components",
            (every, late, restarted),
            lambda: [
                *(family.series(*labels) for family in _PER_COMPONENT for labels in every),
                *(TIMEOUTS.series(*labels) for labels in late),
                *(RESTARTS.series(*labels) for labels in restarted),
            ],
        )
        values: list[int | float] = [component.runs for component in components]
        values += [component.failures for component in components]
        values += [component.seconds for component in components]
        values += [int(component.state in _WELL) for component in components]
        values += [component.timeouts for component in components if component.timeouts]
        values += [component.restarts for component in components if component.restarts]
        return Block(shape, values)

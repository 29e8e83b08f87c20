"""The soft budget: the agent watches its own CPU and memory and slows down before it breaks `agent.budget`.

Every `CHECK_SECONDS` it compares its CPU share since the last check and its resident memory with the budget. Three checks in
a row over it climb one level, five minutes of checks below 70 % of it go down one:

    0  as configured
    1  the export interval is doubled
    2  optional collectors rest: they are read once a minute and shown as last read
    3  the export interval is quadrupled

Nothing is dropped at any level. Over the memory budget it also collects garbage and gives free pages back. Each change is
logged, shown in `status` and counted.
"""

import gc
from collections.abc import Callable, Sequence
from typing import NamedTuple

from novel_agent.config.schema import Budget
from novel_agent.logs import get_logger
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.runtime.selfstats import Cost

log = get_logger("budget")

CHECK_SECONDS = 15.0
CHECKS_TO_CLIMB = 3
CHECKS_TO_DESCEND = 20
_WELL_BELOW = 0.7
_INTERVAL_FACTORS = (1, 2, 2, 4)
_MEASURES = (
    "as configured",
    "export interval doubled",
    "export interval doubled, optional collectors rest",
    "export interval quadrupled, optional collectors rest",
)

LEVEL = Family("novel_agent_budget_level", "How far the agent has slowed down to stay in its budget, 0 to 3.")
CPU_RATIO = Family("novel_agent_budget_cpu_ratio", "CPU used since the last check, as a share of the budget.")
MEMORY_RATIO = Family("novel_agent_budget_memory_ratio", "Resident memory as a share of the budget.")
CHANGES = Family("novel_agent_budget_changes_total", "Changes of the level.", "counter")


class Reading(NamedTuple):
    """Shares of the budget: 1.0 is all of it."""

    cpu: float
    memory: float


class BudgetWatch:
    """Turns costs into a level; knows neither clock nor process."""

    def __init__(self, budget: Budget, give_back: Callable[[], object] = gc.collect) -> None:
        self.budget = budget
        self.level = 0
        self.changes = 0
        self.last = Reading(0.0, 0.0)
        self._give_back = give_back
        self._before: tuple[float, float] | None = None
        self._over = 0
        self._below = 0
        self._shapes = ShapeMemo()

    @property
    def interval_factor(self) -> int:
        """What intervals are multiplied by."""
        return _INTERVAL_FACTORS[self.level]

    @property
    def optional_rest(self) -> bool:
        """Whether optional collectors rest."""
        return self.level >= 2

    @property
    def measure(self) -> str:
        """The level in words."""
        return _MEASURES[self.level]

    def check(self, cost: Cost, monotonic: float) -> None:
        """Take one look; `monotonic` in seconds."""
        before, self._before = self._before, (cost.cpu_seconds, monotonic)
        if before is None or monotonic <= before[1]:
            return
        cpu = (cost.cpu_seconds - before[0]) / (monotonic - before[1])
        self.last = Reading(cpu * 100 / self.budget.cpu_percent, cost.resident_bytes / self.budget.memory_bytes)
        if self.last.memory > 1:
            self._give_back()
        self._over = self._over + 1 if max(self.last) > 1 else 0
        self._below = self._below + 1 if max(self.last) < _WELL_BELOW else 0
        if self._over >= CHECKS_TO_CLIMB and self.level < len(_MEASURES) - 1:
            self._go_to(self.level + 1)
        elif self._below >= CHECKS_TO_DESCEND and self.level > 0:
            self._go_to(self.level - 1)

    def _go_to(self, level: int) -> None:
        say = log.warning if level > self.level else log.info
        self.level = level
        self.changes += 1
        self._over = self._below = 0
        say(
            "budget level changed",
            level=level,
            measure=self.measure,
            cpu_of_budget=self.last.cpu,
            memory_of_budget=self.last.memory,
        )

    def blocks(self) -> Sequence[Block]:
        """The watch as series."""
        families = (LEVEL, CPU_RATIO, MEMORY_RATIO, CHANGES)
        shape = self._shapes.get("budget", None, lambda: [family.series() for family in families])
        return [Block(shape, (self.level, round(self.last.cpu, 4), round(self.last.memory, 4), self.changes))]

"""Whether the agent is well, from what supervision already knows: nothing is asked or waited for."""

from collections.abc import Sequence

from novel_agent.runtime.log_reading import NOBODY
from novel_agent.runtime.status import (
    BudgetStatus,
    ConfigStatus,
    DestinationStatus,
    Health,
    HealthCheck,
    LogSourceStatus,
)
from novel_agent.runtime.supervise import Component

_ORDER = ("healthy", "degraded", "unhealthy")
_NAMES_SHOWN = 5


def worst(statuses: Sequence[str]) -> str:
    """The worst of some statuses; healthy where there are none."""
    return max(statuses, key=_ORDER.index, default="healthy")


def assess(
    now: float,
    components: Sequence[Component],
    destinations: Sequence[DestinationStatus],
    budget: BudgetStatus,
    config: ConfigStatus,
    logs: Sequence[LogSourceStatus] = (),
) -> Health:
    """Every check and the worst of them."""
    checks = [
        _inputs(now, [component for component in components if component.kind != "task"]),
        _tasks(now, [component for component in components if component.kind == "task"]),
        *(_log_source(now, source) for source in logs),
        *(_destination(now, destination) for destination in destinations),
        _budget(now, budget),
        _config(now, config),
    ]
    return Health(worst([check.status for check in checks]), checks)


def _inputs(now: float, inputs: Sequence[Component]) -> HealthCheck:
    bad = [each.name for each in inputs if each.state in {"failing", "hung"}]
    good = [each for each in inputs if each.state in {"up", "resting", "no data"}]
    at = max((each.last_run_at for each in inputs if each.last_run_at is not None), default=now)
    if not bad:
        message = f"{len(good)} of {len(inputs)} inputs read" if good else "not sampled yet"
        return HealthCheck("inputs", "healthy", message, at)
    return HealthCheck("inputs", "degraded" if good else "unhealthy", f"failing: {_some(bad)}", at)


def _tasks(now: float, tasks: Sequence[Component]) -> HealthCheck:
    bad = [each.name for each in tasks if each.state == "restarting"]
    if bad:
        return HealthCheck("tasks", "degraded", f"restarting: {_some(bad)}", now)
    running = sum(each.state == "up" for each in tasks)
    return HealthCheck("tasks", "healthy", f"{running} running", now)


def _log_source(now: float, source: LogSourceStatus) -> HealthCheck:
    name = f"logs:{source.name}"
    unreadable = [f"{each.path}: {each.reason}" for each in source.files if each.reason]
    if source.state == "hung":
        return HealthCheck(name, "degraded", source.reason, now)
    if unreadable:
        return HealthCheck(name, "degraded", f"cannot be read: {_some(unreadable)}", now)
    if source.reason and source.reason != NOBODY:
        return HealthCheck(name, "degraded", source.reason, now)
    return HealthCheck(name, "healthy", source.reason or source.state, now)


def _destination(now: float, destination: DestinationStatus) -> HealthCheck:
    name = f"export:{destination.name}"
    lost = sum(destination.dropped_items.values()) + sum(destination.rejected_items.values())
    said = f"; {lost} items lost since start" if lost else ""
    if destination.queue_in_memory:
        return HealthCheck(name, "degraded", f"its spool cannot be written, what waits is in memory only{said}", now)
    if destination.state == "waiting to retry":
        return HealthCheck(name, "degraded", f"not delivered, retrying: {destination.last_error}{said}", now)
    if destination.last_error and (destination.last_success_at or 0) < (destination.last_error_at or 0):
        return HealthCheck(name, "degraded", f"{destination.last_error}{said}", now)
    return HealthCheck(name, "healthy", f"{destination.state}{said}", now)


def _budget(now: float, budget: BudgetStatus) -> HealthCheck:
    status = "healthy" if budget.level < 2 else "degraded"
    return HealthCheck("budget", status, budget.measure, now)


def _config(now: float, config: ConfigStatus) -> HealthCheck:
    if config.last_reload_ok:
        return HealthCheck("configuration", "healthy", "in force", now)
    message = f"last reload refused, the configuration before it is in force: {_some(config.errors)}"
    return HealthCheck("configuration", "degraded", message, now)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"

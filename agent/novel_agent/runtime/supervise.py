"""Every component is watched from outside: how often it ran, how long it took, how it failed, what state it is in.

States: `idle` (has not run yet), `up`, `no data` (the host has none of this), `failing` (its last run failed), `hung` (its
last call has not come back), `resting` (optional, read less often while the agent is over its budget), `restarting` (its
task died and waits to be started again), `stopped`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from novel_agent.logs import get_logger

State = Literal["idle", "up", "no data", "failing", "hung", "resting", "restarting", "stopped"]

log = get_logger("supervise")

_FIRST_RESTART_SECONDS = 1.0
_LONGEST_RESTART_SECONDS = 60.0
_GOOD_RUN_SECONDS = 300.0
_LONGEST_REASON = 300
_CANCELS = 2
_CANCEL_SECONDS = 5.0


class Component(msgspec.Struct):
    """What is known about one component; counted since start."""

    name: str
    kind: str
    state: State = "idle"
    runs: int = 0
    failures: int = 0
    timeouts: int = 0
    restarts: int = 0
    seconds: float = 0.0
    last_seconds: float = 0.0
    last_run_at: float | None = None
    last_success_at: float | None = None
    reason: str = ""
    """Why it is in its state, for people; never a label value."""

    def succeeded(self, seconds: float, at: float) -> bool:
        """Note a good run; True if the one before was not."""
        changed = self.state not in {"up", "idle", "resting"}
        self._ran(seconds, at)
        self.state = "up"
        self.reason = ""
        self.last_success_at = at
        return changed

    def failed(self, seconds: float, at: float, reason: str, state: State = "failing") -> bool:
        """Note a bad run; True if that is news."""
        reason = reason[:_LONGEST_REASON]
        changed = (self.state, self.reason) != (state, reason)
        self._ran(seconds, at)
        self.state = state
        self.reason = reason
        if state != "no data":
            self.failures += 1
        return changed

    def _ran(self, seconds: float, at: float) -> None:
        self.runs += 1
        self.seconds += seconds
        self.last_seconds = seconds
        self.last_run_at = at


class Supervisor:
    """Keeps long-running tasks going: one that ends by an exception is started again, later and later.

    The first restart comes after a second, each next one after up to twice as long, a minute at the most; five minutes
    without a fault forget the past. Nothing a task raises reaches the others or ends the agent.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.components: dict[str, Component] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> Component:
        """Run a task under this name, which none has at the moment, until it returns or is stopped."""
        assert name not in self._tasks
        component = self.components[name] = Component(name, "task")
        self._tasks[name] = asyncio.create_task(self._keep_running(component, run), name=name)
        return component

    async def _keep_running(self, component: Component, run: Callable[[], Awaitable[None]]) -> None:
        wait_seconds = _FIRST_RESTART_SECONDS
        while True:
            began = time.monotonic()
            component.state = "up"
            component.runs += 1
            try:
                await run()
            except Exception as error:
                lasted = time.monotonic() - began
                if lasted > _GOOD_RUN_SECONDS:
                    wait_seconds = _FIRST_RESTART_SECONDS
                component.failures += 1
                component.restarts += 1
                component.state = "restarting"
                component.reason = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
                log.exception("task died, starts again", task=component.name, after_seconds=wait_seconds)
            else:
                component.state = "stopped"
                return
            await self._sleep(wait_seconds * random.uniform(0.5, 1.0))
            wait_seconds = min(wait_seconds * 2, _LONGEST_RESTART_SECONDS)

    async def stop(self, name: str) -> None:
        """Cancel one task and wait until it is gone, ten seconds at the most; nothing if there is none."""
        task = self._tasks.pop(name, None)
        self.components.pop(name, None)
        if task is None:
            return
        for _ in range(_CANCELS):
            task.cancel()
            done, _pending = await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            if done:
                return
        log.error("task does not end, left behind", task=name)

    async def stop_all(self) -> None:
        """Cancel every task, the youngest first."""
        for name in reversed(list(self._tasks)):
            await self.stop(name)

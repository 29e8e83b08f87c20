"""What Python itself makes an application wait for: pauses of the garbage collector, and a busy event loop.

    python_gc_pause_seconds{generation}     histogram; its _count is the number of collections
    python_event_loop_lag_seconds           histogram; how late a timer set a second ahead comes, in each loop

Collections may begin anywhere, so also where this thread holds the store's lock; their cells are written without it.
That is sound because the interpreter runs one collection at a time, callbacks included.
"""

import gc
import os
import time
import weakref
from bisect import bisect_left
from typing import TYPE_CHECKING

from monitoring._series import Family, Series, store

if TYPE_CHECKING:
    import asyncio

GC_PAUSE = Family(
    "python_gc_pause_seconds",
    "histogram",
    "How long collections of garbage stopped the process.",
    (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
LOOP_LAG = Family(
    "python_event_loop_lag_seconds",
    "histogram",
    "How late the event loop ran a timer.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
_LAG_INTERVAL_SECONDS = 1.0


class _Collections:
    """The callback of `gc.callbacks`."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self._began_at = 0.0

    @property
    def is_measuring(self) -> bool:
        """Whether it has begun."""
        return bool(self._series)

    def begin(self) -> None:
        """Measure from now on; more than once is harmless."""
        if self._series:
            return
        made = [store.series(GC_PAUSE, (("generation", str(generation)),)) for generation in range(len(gc.get_count()))]
        self._series = [series for series in made if series is not None]
        if self._series and self not in gc.callbacks:
            gc.callbacks.append(self)

    def forget(self) -> None:
        """Measure no more: for tests."""
        self._series = []
        if self in gc.callbacks:
            gc.callbacks.remove(self)

    def __call__(self, phase: str, about: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._began_at = now
        elif self._began_at and about["generation"] < len(self._series):
            series = self._series[about["generation"]]
            pause, cells, at = now - self._began_at, series.cells, series.at
            cells[at] += pause
            cells[at + 1 + bisect_left(GC_PAUSE.buckets, pause)] += 1.0


class _Lag:
    """Sets a timer in each loop it is given, again and again, as long as the loop runs."""

    def __init__(self) -> None:
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def begin(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Measure this loop from now on; to be called in it; more than once is harmless."""
        if loop not in self._loops:
            self._loops.add(loop)
            self._set(loop)

    def forget(self) -> None:
        """After a fork: no loop of the parent runs here."""
        self._loops = weakref.WeakSet()

    def _set(self, loop: "asyncio.AbstractEventLoop") -> None:
        loop.call_later(_LAG_INTERVAL_SECONDS, self._came, loop, loop.time() + _LAG_INTERVAL_SECONDS)

    def _came(self, loop: "asyncio.AbstractEventLoop", due_at: float) -> None:
        series = store.series(LOOP_LAG, ())
        if series is not None:
            store.observe(series, max(0.0, loop.time() - due_at))
        if loop in self._loops:
            self._set(loop)


collections = _Collections()
lag = _Lag()
os.register_at_fork(after_in_child=lag.forget)

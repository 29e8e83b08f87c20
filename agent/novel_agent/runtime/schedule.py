"""Ticks on the wall clock's grid: at 15 s, at :00, :15, :30 and :45 of every minute.

Every host samples at the same instants, so their points line up. The next tick is computed from the clock anew each time:
nothing drifts and nothing piles up. A tick that falls while the last one's work still runs is missed and counted, never made
up for. A clock that jumps, either way, or a machine that slept, costs at most one interval without a tick.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple


class Tick(NamedTuple):
    """One beat: the grid point it stands for, in seconds since the epoch, and how many were missed before it."""

    at: float
    missed: int


def next_grid_point(now: float, interval_seconds: float, last: float | None) -> tuple[float, int]:
    """The next multiple of the interval after `now` that is not `last` again, and how many were skipped since `last`.

    A timer may fire a little before the wall clock reaches its grid point; `last` keeps that point from coming twice. A clock
    set back by more than an interval starts the count afresh.
    """
    point = (now // interval_seconds + 1) * interval_seconds
    if last is None or last - now > interval_seconds:
        return point, 0
    if point <= last:
        point = last + interval_seconds
    return point, max(0, round((point - last) / interval_seconds) - 1)


async def ticks(
    interval_seconds: Callable[[], float],
    *,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Tick]:
    """Tick for ever; the interval is asked for before each wait, so it may change.

    Points that a jump of the wall clock skipped were not missed: no more can be than the monotonic clock had time for.
    """
    last: float | None = None
    interval = fired = 0.0
    while True:
        if interval_seconds() != interval:
            interval, last = interval_seconds(), None
        moment = now()
        point, skipped = next_grid_point(moment, interval, last)
        missed = min(skipped, int((monotonic() - fired) / interval)) if skipped else 0
        await sleep(max(0.0, point - moment))
        last, fired = point, monotonic()
        yield Tick(point, missed)

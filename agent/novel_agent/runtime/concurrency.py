"""How many requests to one destination may be under way: as many as it answers well, found out by its answers.

Additive increase, multiplicative decrease, as TCP does it. Time is cut into intervals of about one round trip. At the end of
an interval in which the window was used up, its mean round trip is compared with the usual one (an exponentially weighted
mean, with its mean deviation, as RFC 6298 estimates TCP's):

- no slower than usual, by the mean deviation's double and a floor: one request more;
- slower: a tenth fewer, because what more brings is a queue at the destination;
- a failure (unavailable, refused for now, timed out): half as many, once an interval.

Sources: RFC 5681, RFC 6298. Pure but for the clock it is given.
"""

import time
from collections.abc import Callable

_USUAL_WEIGHT = 0.2
_TOLERATED_DEVIATIONS = 2.0
_TOLERATED_SECONDS = 0.005
"""Differences below this are the scheduler's, not the destination's."""

_SHORTEST_INTERVAL_SECONDS = 0.02
_FEWER_WHEN_SLOW = 0.9
_FEWER_WHEN_FAILED = 0.5


class Window:
    """The limit for one destination, between 1 and `most`; `now` is a monotonic clock."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._now = now
        self._limit = 1.0
        self._usual_seconds: float | None = None
        self._deviation_seconds = 0.0
        self._begin()
        self._failed_until = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return min(self.most, int(self._limit))

    def _begin(self) -> None:
        self._seconds = 0.0
        self._answers = 0
        self._was_full = False
        self._ends_at = self._now() + max(_SHORTEST_INTERVAL_SECONDS, self._usual_seconds or 0.0)

    def answered(self, seconds: float, under_way: int) -> None:
        """A request was answered after this time, with so many, itself included, under way when it began."""
        self._seconds += seconds
        self._answers += 1
        self._was_full = self._was_full or under_way >= self.limit
        if self._now() >= self._ends_at:
            self._judge()

    def failed(self) -> None:
        """A request failed in a way that is worth another try."""
        if self._now() >= self._failed_until:
            self._limit = max(1.0, self._limit * _FEWER_WHEN_FAILED)
            self._begin()
            self._failed_until = self._ends_at

    def _judge(self) -> None:
        mean = self._seconds / self._answers
        if self._usual_seconds is None:
            self._usual_seconds = mean
        tolerated = _TOLERATED_DEVIATIONS * self._deviation_seconds + _TOLERATED_SECONDS
        if mean > self._usual_seconds + tolerated:
            self._limit = max(1.0, self._limit * _FEWER_WHEN_SLOW)
        elif self._was_full:
            self._limit = min(float(self.most), self._limit + 1.0)
        off = mean - self._usual_seconds
        self._usual_seconds += _USUAL_WEIGHT * off
        self._deviation_seconds += _USUAL_WEIGHT * (abs(off) - self._deviation_seconds)
        self._begin()

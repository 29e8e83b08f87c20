"""How long to wait before a destination is tried again."""

import random
from collections.abc import Callable

_DOUBLINGS_KEPT = 30


class Backoff:
    """Exponential back-off with full jitter: the n-th failure in a row waits between 0 and `initial · 2ⁿ⁻¹`, at most `longest`.

    Where the destination named a time, that is waited instead, up to an hour, and a random part of `initial` more, so that
    the many who were told the same do not come back at once. There is no last attempt. Pure: it reads no clock and sleeps
    never. `uniform` gives a random float between two.
    """

    def __init__(
        self,
        initial_seconds: float = 1.0,
        longest_seconds: float = 60.0,
        longest_retry_after_seconds: float = 3600.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial_seconds = initial_seconds
        self._longest_seconds = longest_seconds
        self._longest_retry_after_seconds = longest_retry_after_seconds
        self._uniform = uniform
        self.failures = 0
        """Failed attempts since the last good one."""

    def failed(self, retry_after_seconds: float | None = None) -> float:
        """Seconds to wait after this failure."""
        self.failures += 1
        if retry_after_seconds is not None:
            wait_seconds = min(max(0.0, retry_after_seconds), self._longest_retry_after_seconds)
            return wait_seconds + self._uniform(0.0, self._initial_seconds)
        doublings = min(self.failures - 1, _DOUBLINGS_KEPT)
        return self._uniform(0.0, min(self._initial_seconds * 2.0**doublings, self._longest_seconds))

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0

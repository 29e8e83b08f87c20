"""Bounds how many records go on per second, together or for each value of an attribute."""

from collections import OrderedDict
from math import ceil

from novel_agent.config.schema import LogRate
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_fields import find, text_of

MOST_BUCKETS = 10_000
"""Values of the attribute that are told apart at a time; the one that was seen longest ago is forgotten first."""

_LONGEST_VALUE = 256


class RateLimit:
    """A bucket of `burst` tokens that gains `per_second`; a record takes one, or is dropped.

    Time is when a record is read, `now`, not when it was written. A clock that is set back gives and takes nothing. Values of
    the attribute that have their first 256 characters in common share a bucket, and so do records that do not have it.
    """

    reason = "rate_limit"

    def __init__(self, config: LogRate, most_buckets: int = MOST_BUCKETS) -> None:
        self._per_second = config.per_second
        self._burst = float(config.burst if config.burst is not None else max(1, ceil(config.per_second)))
        self._by = config.by
        self._most_buckets = most_buckets
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Values that are told apart now."""
        return len(self._buckets)

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on."""
        return [record for record in records if self._takes(self._key(record), now)]

    def _key(self, record: LogRecord) -> str:
        return text_of(find(record.attributes, self._by))[:_LONGEST_VALUE] if self._by is not None else ""

    def _takes(self, key: str, now: float) -> bool:
        buckets = self._buckets
        if key in buckets:
            left, at = buckets[key]
            tokens = min(self._burst, left + max(0.0, now - at) * self._per_second)
            buckets.move_to_end(key)
        else:
            tokens = self._burst
            if len(buckets) >= self._most_buckets:
                buckets.popitem(last=False)
        taken = tokens >= 1
        buckets[key] = (tokens - 1 if taken else tokens, now)
        return taken

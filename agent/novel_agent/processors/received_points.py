"""Which received points count, and what a series has after one (specification, metrics/data-model.md)."""

from itertools import pairwise
from math import inf, isnan

from novel_agent.model.metric import Number
from novel_agent.model.point import (
    CUMULATIVE,
    DELTA,
    AnyPoint,
    ExponentialHistogramPoint,
    HistogramPoint,
    Metric,
    NumberPoint,
    SummaryPoint,
)
from novel_agent.processors.cumulative import added, fitted

MOST_BOUNDS = 250
"""Of a histogram; the quantiles of a summary likewise."""


class RefusedError(ValueError):
    """Why a point is not shown; the text is the reason it is counted under."""


def is_delta(metric: Metric) -> bool:
    """Whether its points are to be summed up."""
    return metric.temporality == DELTA


def meaningful(metric: Metric, point: AnyPoint) -> AnyPoint:
    """The point as it is kept, refused if it means nothing.

    Sums that no counter could have are left out: negative ones, and those that are no number.
    """
    if metric.kind not in {"gauge", "summary"} and metric.temporality not in {DELTA, CUMULATIVE}:
        raise RefusedError("temporality")
    if isinstance(point, NumberPoint):
        if point.value is None or (metric.monotonic and not point.value >= 0):
            raise RefusedError("malformed")
    elif isinstance(point, HistogramPoint):
        _check_histogram(point)
        point.total = _positive(point.total)
        if point.bounds and point.bounds[-1] == inf:
            point.bounds.pop()
            point.counts[-2:] = [sum(point.counts[-2:])]
    elif isinstance(point, SummaryPoint):
        _check_summary(point)
    elif isinstance(point, ExponentialHistogramPoint):
        if not 0 <= point.zero_threshold < inf:
            raise RefusedError("malformed")
        point.total = _positive(point.total)
        return fitted(point)
    return point


def _positive(total: float | None) -> float | None:
    return total if total is not None and total >= 0 else None


def _check_summary(point: SummaryPoint) -> None:
    quantiles = dict(point.quantiles)
    if len(quantiles) > MOST_BOUNDS:
        raise RefusedError("buckets")
    if any(not 0 <= quantile <= 1 or value < 0 for quantile, value in quantiles.items()):
        raise RefusedError("malformed")
    point.quantiles = sorted(quantiles.items())


def _check_histogram(point: HistogramPoint) -> None:
    bounds, counts = point.bounds, point.counts
    if len(bounds) > MOST_BOUNDS:
        raise RefusedError("buckets")
    ascending = all(one < other for one, other in pairwise(bounds)) and not (bounds and isnan(bounds[0]))
    if not ascending or (len(counts) != len(bounds) + 1 and (counts or bounds)):
        raise RefusedError("malformed")


def continued(before: AnyPoint, point: AnyPoint, *, delta: bool) -> AnyPoint:
    """What the series has now; refused where the point is not newer."""
    if delta:
        if point.time_unix_nano <= before.time_unix_nano:
            raise RefusedError("out_of_order")
        restarted = 0 < point.start_unix_nano < before.start_unix_nano
        return point if restarted else added(before, point)
    known = point.start_unix_nano and before.start_unix_nano
    now = (point.start_unix_nano if known else 0, point.time_unix_nano)
    if now <= (before.start_unix_nano if known else 0, before.time_unix_nano):
        raise RefusedError("out_of_order")
    return point


def weight(point: AnyPoint) -> Number:
    """Which of two cumulative points is the larger."""
    return (point.value or 0) if isinstance(point, NumberPoint) else point.count

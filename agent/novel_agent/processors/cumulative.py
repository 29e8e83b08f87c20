"""Delta points summed up, and exponential histograms kept small or shown with classic buckets.

Sources: the OpenTelemetry specification, metrics/data-model.md: "Delta-to-Cumulative" and "Exponential Histogram".
"""

from collections.abc import Iterable, Sequence
from math import inf, ldexp
from typing import NamedTuple

from msgspec.structs import replace

from novel_agent.model.point import (
    AnyPoint,
    Buckets,
    ExponentialHistogramPoint,
    HistogramPoint,
    NumberPoint,
    SummaryPoint,
)

MOST_BUCKETS = 160
"""Of either sign of an exponential histogram, as OpenTelemetry's SDKs have it."""

MOST_SHOWN = 20
"""Of either sign, where it is shown with classic buckets."""

_LARGEST_SCALE = 20


class Classic(NamedTuple):
    """Ascending upper bounds, and the counts between them: one more than bounds, the last of what is above all."""

    bounds: list[float]
    counts: list[int]


def added(total: AnyPoint, delta: AnyPoint) -> AnyPoint:
    """The total with the delta, from the total's start to the delta's time.

    Points of two kinds, and histograms of other bounds, cannot be added: then it is the delta alone.
    """
    if isinstance(total, NumberPoint) and isinstance(delta, NumberPoint):
        summed: AnyPoint = replace(delta, value=(total.value or 0) + (delta.value or 0))
    elif isinstance(total, HistogramPoint) and isinstance(delta, HistogramPoint) and total.bounds == delta.bounds:
        summed = replace(
            delta,
            count=total.count + delta.count,
            total=_sum(total.total, delta.total),
            counts=[one + other for one, other in zip(total.counts, delta.counts, strict=True)],
            minimum=None,
            maximum=None,
        )
    elif isinstance(total, ExponentialHistogramPoint) and isinstance(delta, ExponentialHistogramPoint):
        summed = _merged(total, delta)
    else:
        return delta
    summed.start_unix_nano = total.start_unix_nano
    return summed


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _merged(one: ExponentialHistogramPoint, other: ExponentialHistogramPoint) -> ExponentialHistogramPoint:
    """Both at the finer scale that holds them in `MOST_BUCKETS`; the wider of the zero buckets, whose counts stay apart."""
    scale = min(one.scale, other.scale)
    pairs = [
        (_coarser(one.positive, one.scale - scale), _coarser(other.positive, other.scale - scale)),
        (_coarser(one.negative, one.scale - scale), _coarser(other.negative, other.scale - scale)),
    ]
    shift = _shift_to_fit(pairs, MOST_BUCKETS)
    positive, negative = (_joined([_coarser(buckets, shift) for buckets in pair]) for pair in pairs)
    return replace(
        other,
        count=one.count + other.count,
        total=_sum(one.total, other.total),
        scale=scale - shift,
        zero_count=one.zero_count + other.zero_count,
        zero_threshold=max(one.zero_threshold, other.zero_threshold),
        positive=positive,
        negative=negative,
        minimum=None,
        maximum=None,
    )


def fitted(point: ExponentialHistogramPoint, most: int = MOST_BUCKETS) -> ExponentialHistogramPoint:
    """The same at the largest scale at which either sign needs `most` buckets at most, without empty ones at the ends."""
    positive, negative = _trimmed(point.positive), _trimmed(point.negative)
    shift = max(_shift_to_fit([(positive,), (negative,)], most), point.scale - _LARGEST_SCALE, 0)
    return replace(
        point,
        scale=point.scale - shift,
        positive=_coarser(positive, shift),
        negative=_coarser(negative, shift),
    )


def _trimmed(buckets: Buckets) -> Buckets:
    counts = buckets.counts
    first, end = 0, len(counts)
    while end > first and not counts[end - 1]:
        end -= 1
    while first < end and not counts[first]:
        first += 1
    return Buckets(offset=buckets.offset + first, counts=counts[first:end]) if first < end else Buckets()


def _shift_to_fit(alternatives: Iterable[Sequence[Buckets]], most: int) -> int:
    """By how much the scale must be lowered so that those which are joined span `most` buckets at most."""
    shift = 0
    for joined in alternatives:
        filled = [buckets for buckets in joined if buckets.counts]
        if filled:
            first = min(buckets.offset for buckets in filled)
            last = max(buckets.offset + len(buckets.counts) - 1 for buckets in filled)
            while (last >> shift) - (first >> shift) >= most:
                shift += 1
    return shift


def _coarser(buckets: Buckets, shift: int) -> Buckets:
    """The buckets at a scale that is lower by `shift`: index i becomes i >> shift."""
    if not shift or not buckets.counts:
        return buckets
    offset = buckets.offset >> shift
    counts = [0] * ((buckets.offset + len(buckets.counts) - 1 >> shift) - offset + 1)
    for index, count in enumerate(buckets.counts, buckets.offset):
        counts[(index >> shift) - offset] += count
    return Buckets(offset=offset, counts=counts)


def _joined(parts: Sequence[Buckets]) -> Buckets:
    """The sum of buckets of one scale."""
    filled = [buckets for buckets in parts if buckets.counts]
    if not filled:
        return Buckets()
    offset = min(buckets.offset for buckets in filled)
    counts = [0] * (max(buckets.offset + len(buckets.counts) for buckets in filled) - offset)
    for buckets in filled:
        for index, count in enumerate(buckets.counts, buckets.offset - offset):
            counts[index] += count
    return Buckets(offset=offset, counts=counts)


def classic(point: ExponentialHistogramPoint, most: int = MOST_SHOWN) -> Classic:
    """The histogram with the powers as bounds; the zero bucket's is its threshold."""
    point = fitted(point, most)
    scale, positive, negative = point.scale, point.positive, point.negative
    rows = [
        (0.0 - _power(negative.offset + index, scale), negative.counts[index])
        for index in reversed(range(len(negative.counts)))
    ]
    if point.zero_count or rows:
        rows.append((point.zero_threshold, point.zero_count))
    rows += [(_power(index, scale), count) for index, count in enumerate(positive.counts, positive.offset + 1)]
    return _ascending(rows)


def _ascending(rows: Iterable[tuple[float, int]]) -> Classic:
    """A bound that is not above the one before falls together with it, an infinite one with what is above all."""
    found = Classic([], [])
    above = 0
    for bound, count in rows:
        if bound == inf:
            above += count
        elif found.bounds and bound <= found.bounds[-1]:
            found.counts[-1] += count
        else:
            found.bounds.append(bound)
            found.counts.append(count)
    found.counts.append(above)
    return found


def _power(index: int, scale: int) -> float:
    """2 ** (index * 2 ** -scale)."""
    try:
        return float(2.0 ** ldexp(index, -scale))
    except OverflowError:
        return inf if index > 0 else 0.0


def samples(point: AnyPoint) -> int:
    """As how many series Prometheus shows it, an exponential histogram at most."""
    if isinstance(point, HistogramPoint):
        return len(point.bounds) + 3
    if isinstance(point, ExponentialHistogramPoint):
        return MOST_SHOWN * (2 if point.negative.counts else 1) + 4
    return len(point.quantiles) + 2 if isinstance(point, SummaryPoint) else 1

"""What is kept of a received metric, and the blocks that `/metrics` shows of it."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain
from math import frexp
from typing import NamedTuple

from novel_agent.model.metric import Block, BlockWithExemplars, Exemplar, Family, Label, Number, Series, Shape
from novel_agent.model.point import (
    AnyPoint,
    ExponentialHistogramPoint,
    HistogramPoint,
    NumberPoint,
    SummaryPoint,
)
from novel_agent.model.point import Exemplar as ReceivedExemplar
from novel_agent.model.value import Attributes
from novel_agent.processors.cumulative import Classic, classic
from novel_agent.processors.received_labels import Labels, labels_bytes, named_labels
from novel_agent.wire.prometheus_text import format_bound

OVERFLOW_LABELS = (("otel_metric_overflow", "true"),)

_MOST_EXEMPLAR_CHARACTERS = 128
_MOST_EXEMPLARS = 24
_SUM, _COUNT = "_sum", "_count"
_KEPT_BYTES, _LABEL_BYTES, _EXEMPLAR_BYTES = 120, 60, 500


_NO_ATTRIBUTES: Attributes = {}
_NO_EXEMPLARS: list[ReceivedExemplar] = []


class Source:
    """A resource, told apart by job and instance; `size` is how many series it has on `/metrics`.

    `info_bytes` is what its `target_info` was charged with.
    """

    __slots__ = ("info", "info_bytes", "labels", "size")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.info: Labels = ()
        self.info_bytes = 0
        self.size = 0


class Kept:
    """One set of labels of a metric and its last point, summed up if it came as deltas.

    `size` is how many series it is, `line_bytes` what its name and labels take in each of their lines, `size_bytes` what it was
    charged with.
    """

    __slots__ = ("exemplars", "layout", "line_bytes", "own_bytes", "point", "seen_at", "size", "size_bytes", "source")

    def __init__(self, source: Source | None, name: str = "", labels: Labels = ()) -> None:
        self.source = source
        self.line_bytes = len(name) + labels_bytes(labels)
        self.own_bytes = _KEPT_BYTES + _LABEL_BYTES * len(labels) + self.line_bytes
        self.size_bytes = 0
        self.point: AnyPoint | None = None
        self.exemplars: dict[int, Exemplar] | None = None
        self.layout: tuple[str, ...] = ()
        self.size = 0
        self.seen_at = 0.0

    def bytes_of(self, size: int) -> int:
        """What it takes with so many series, in memory and on `/metrics`: an estimate."""
        return self.own_bytes + self.line_bytes * size + _EXEMPLAR_BYTES * len(self.exemplars or ())

    def keep(self, point: AnyPoint) -> None:
        """Have this point, which is the series' own from now on, without attributes and exemplars."""
        if self.point is None or _bounds(self.point) != _bounds(point):
            self.layout = _layout(point)
            self.exemplars = None
        point.attributes, point.exemplars = _NO_ATTRIBUTES, _NO_EXEMPLARS
        self.point = point

    def keep_exemplars(self, received: Iterable[ReceivedExemplar]) -> None:
        """Have the last of each bucket; where there are many, those of the buckets that had one last."""
        assert self.point is not None
        kept = self.exemplars or {}
        for exemplar in _exemplars(received):
            place = _place(self.point, exemplar.value)
            kept.pop(place, None)
            kept[place] = exemplar
        while len(kept) > _MOST_EXEMPLARS:
            del kept[next(iter(kept))]
        self.exemplars = kept or None


def _bounds(point: AnyPoint) -> object:
    """What a layout is made of."""
    if isinstance(point, HistogramPoint):
        return point.bounds, point.total is None
    if isinstance(point, SummaryPoint):
        return [quantile for quantile, _ in point.quantiles], point.total >= 0
    return type(point)


def _exemplars(received: Iterable[ReceivedExemplar]) -> Iterator[Exemplar]:
    for each in received:
        if each.value == each.value:
            yield Exemplar(tuple(_exemplar_labels(each)), each.value, each.time_unix_nano / 1e9)


def _exemplar_labels(exemplar: ReceivedExemplar) -> Iterator[Label]:
    """The ids, then what else fits (OpenMetrics 1.0, section 4.7: at most 128 characters of names and values)."""
    left = _MOST_EXEMPLAR_CHARACTERS
    trace_id, span_id = exemplar.trace_id, exemplar.span_id
    ids = {
        "trace_id": trace_id.hex() if len(trace_id) == 16 else "",
        "span_id": span_id.hex() if len(span_id) == 8 else "",
    }
    for label, value in (*ids.items(), *named_labels(exemplar.attributes, ids)):
        if value and len(label) + len(value) <= left:
            left -= len(label) + len(value)
            yield label, value


def _place(point: AnyPoint, value: float) -> int:
    """Which exemplars replace each other: those of one bucket, of an exponential histogram those of one power of two."""
    if isinstance(point, HistogramPoint):
        return bisect_left(point.bounds, value)
    return frexp(value)[1] if isinstance(point, ExponentialHistogramPoint) else 0


class _Row(NamedTuple):
    """What is shown of one set of labels: the values, what tells their series apart, and exemplars by index."""

    values: list[Number]
    layout: tuple[str, ...]
    exemplars: Mapping[int, Exemplar]


def _row(kept: Kept) -> _Row:
    point = kept.point
    if isinstance(point, NumberPoint):
        assert point.value is not None
        return _Row([point.value], ("",), kept.exemplars or {})
    if isinstance(point, SummaryPoint):
        sums = [point.total] if _SUM in kept.layout else []
        return _Row([*(value for _, value in point.quantiles), *sums, point.count], kept.layout, {})
    if isinstance(point, HistogramPoint):
        return _histogram_row(kept, Classic(point.bounds, point.counts or [point.count]), point.total, kept.layout)
    assert isinstance(point, ExponentialHistogramPoint)
    buckets = classic(point)
    return _histogram_row(kept, buckets, point.total, _bucket_layout(buckets.bounds, point.total))


def _histogram_row(kept: Kept, buckets: Classic, total: float | None, layout: tuple[str, ...]) -> _Row:
    cumulative = list(accumulate(buckets.counts))
    sums = [total] if total is not None and _SUM in layout else []
    exemplars = {bisect_left(buckets.bounds, each.value): each for each in (kept.exemplars or {}).values()}
    return _Row([*cumulative, *sums, cumulative[-1]], layout, exemplars)


def _layout(point: AnyPoint) -> tuple[str, ...]:
    """Bounds or quantiles as text, then the suffixes; of an exponential histogram it depends on what is shown."""
    if isinstance(point, HistogramPoint):
        return _bucket_layout(point.bounds, point.total)
    if isinstance(point, SummaryPoint):
        sums = [_SUM] if point.total >= 0 else []
        return (*(format_bound(quantile) for quantile, _ in point.quantiles), *sums, _COUNT)
    return ()


def _bucket_layout(bounds: list[float], total: float | None) -> tuple[str, ...]:
    """No sum where there may be negative values: then it is no counter, as a histogram's sum must be."""
    with_sum = total is not None and not (bounds and bounds[0] < 0)
    return (*map(format_bound, bounds), "+Inf", *([_SUM] if with_sum else []), _COUNT)


def _series(family: Family, own: Labels, layout: tuple[str, ...]) -> Iterator[Series]:
    label, suffix = ("le", "_bucket") if family.kind == "histogram" else ("quantile", "")
    for part in layout:
        if part in {"", _SUM, _COUNT}:
            yield Series(family, own, part)
        else:
            yield Series(family, (*own, (label, part)), suffix)


Wanted = tuple[str, str, str, bool]
"""A metric as it came: its name, its unit, the kind it is shown as, and whether it is a gauge."""


class Shown:
    """A metric under the name it is shown under."""

    def __init__(self, family: Family, wanted: str, claims: frozenset[str]) -> None:
        self.family = family
        self.wanted = wanted
        self.claims = claims
        self.size_bytes = 0
        """What its names and its help were charged with."""
        self.found_by: set[Wanted] = set()
        """Under which it is looked up."""
        self.series: dict[Labels, Kept] = {}
        self.overflow: Kept | None = None
        self._layouts: list[tuple[Labels, tuple[str, ...]]] = []
        self._shape = Shape(())

    def rows(self) -> Iterator[tuple[Labels, Kept]]:
        yield from self.series.items()
        if self.overflow is not None:
            yield OVERFLOW_LABELS, self.overflow

    def block(self) -> Block:
        """The shape is made anew only where series or their bounds are others than the last time."""
        values: list[Number] = []
        exemplars: dict[int, Exemplar] = {}
        layouts = []
        for own, kept in self.rows():
            row = _row(kept)
            for index, exemplar in row.exemplars.items():
                exemplars[len(values) + index] = exemplar
            values += row.values
            layouts.append((own, row.layout))
        if layouts != self._layouts:
            self._layouts = layouts
            self._shape = Shape(chain.from_iterable(_series(self.family, *layout) for layout in layouts))
        return BlockWithExemplars.of(self._shape, values, exemplars)

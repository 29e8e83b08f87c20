"""Metrics that arrive over OTLP, kept as the series that `/metrics` shows: as last seen, until they are not refreshed.

Names, units and labels are those of `wire.prometheus_names`; `job` is `service.namespace/service.name`, `instance` is
`service.instance.id`, and what else the resource says is in `target_info`. Of two attributes, or an attribute and one of
these labels, that want one name the attribute's is `exported_NAME`.

- Gauges are gauges, monotonic sums counters, other sums gauges, both kinds of histograms histograms, summaries summaries.
  Deltas are summed up. An exponential histogram is shown with at most 20 bounds of either sign, and given whole to who asks.
- A point counts only if it is newer than the last of its series: of a cumulative one (start, time) must grow, so a later start
  is a reset; of a delta the time must, and an earlier start begins the sum anew. Gaps are taken as nothing having happened.
  So of two processes that tell the same job and instance the one that started last is shown.
- A metric whose name is the agent's own, or another metric's of another type, is shown with `otlp_` before it, if that is
  taken too with `otlp_2_` and so on.
- A point from more than an hour ahead is refused: nothing that comes after it would be newer.
- Beyond the bounds of a metric or a source there is one series a metric with `otel_metric_overflow="true"`: deltas
  are added up in it, of cumulative counters and histograms it has the largest, of gauges the last.

Nothing of it knows the time: `now` is in seconds of any clock that does not go back.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from novel_agent.model.metric import Block, Family, Kind, Series, Shape
from novel_agent.model.point import NO_RECORDED_VALUE, AnyPoint, ExponentialHistogramPoint, Metric
from novel_agent.model.value import Origin
from novel_agent.processors.cumulative import added, samples
from novel_agent.processors.received_labels import (
    Labels,
    info_labels,
    is_bounded,
    labels_bytes,
    named_labels,
    scope_labels,
    source_labels,
    text_bytes,
)
from novel_agent.processors.received_points import RefusedError, continued, is_delta, meaningful, weight
from novel_agent.processors.received_series import Kept, Shown, Source, Wanted
from novel_agent.wire.otlp_read import metric_parts, origin_of, raw_groups, read_metric
from novel_agent.wire.prometheus_names import metric_name
from novel_agent.wire.prometheus_text import SUFFIXES

STALE_SECONDS = 300.0
MOST_PER_METRIC = 2_000
MOST_PER_SOURCE = 10_000
MOST_SERIES = 20_000
MOST_BYTES = 16 << 20
"""Of names, help, labels and exemplars, each as often as `/metrics` has it and once more; 800 a plain series are usual."""

_LONGEST_NAME = 256
_LONGEST_HELP = 1024
_MOST_NAMES = 10
_LONGEST_UNIT = 64
_MOST_FOUND = 2048
_FAMILY_BYTES = 600
_POINTS_A_SLICE = 500
_FULL, _TOO_MANY_BYTES = "limit", "bytes_limit"
_ANY_TIME = 1 << 64
_HISTOGRAMS = frozenset({"histogram", "exponential_histogram"})
_OUR_LABELS = frozenset({"le", "quantile", "otel_metric_overflow"})
_TARGET_INFO = Family("target_info", "What else the resources of the series say, by job and instance.", "gauge")


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the points. `series` counts what `/metrics` shows; `renamed` has the shown name by the wanted one."""

    points: int
    refused: dict[str, int]
    renamed: dict[str, str]
    series: int
    families: int
    sources: int
    size_bytes: int


class NativeHistogram(NamedTuple):
    """An exponential histogram as it is kept, for outputs that have such."""

    family: Family
    labels: Labels
    point: ExponentialHistogramPoint


class _Place(NamedTuple):
    """Where the points of a group belong: the labels that they have beside their own, and the names of those."""

    source: Source
    labels: Labels
    taken: frozenset[str]


class ReceivedMetrics:
    """The series of every source, bounded; `reserved` and `reserved_patterns` are the family names of the agent's own."""

    def __init__(
        self,
        reserved: Iterable[str] = (),
        reserved_patterns: Iterable[str] = (),
        *,
        stale_seconds: float = STALE_SECONDS,
        most_per_metric: int = MOST_PER_METRIC,
        most_per_source: int = MOST_PER_SOURCE,
        most_series: int = MOST_SERIES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`most_per_metric` bounds sets of labels, the next two what `/metrics` shows (a histogram of 10 bounds is 13)."""
        names = {_TARGET_INFO.name, *reserved}
        self._reserved = frozenset(names | {name.removesuffix("_total") for name in names})
        patterns = sorted(reserved_patterns)
        self._reserved_pattern = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
        self._stale_seconds = stale_seconds
        self._most_per_metric = most_per_metric
        self._most_per_source = most_per_source
        self._most_series = most_series
        self._most_bytes = most_bytes
        self._shown: dict[str, Shown] = {}
        self._found: dict[Wanted, Shown] = {}
        self._claimed: dict[str, str] = {}
        self._sources: dict[Labels, Source] = {}
        self._size = 0
        self._size_bytes = 0
        self._swept_at = 0.0
        self._points = 0
        self._refused: Counter[str] = Counter()
        self._info_labels: list[Labels] = []
        self._info_shape = Shape(())

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            points=self._points,
            refused=dict(self._refused),
            renamed={
                shown.wanted: shown.family.name for shown in self._shown.values() if shown.wanted != shown.family.name
            },
            series=self._size,
            families=len(self._shown),
            sources=len(self._sources),
            size_bytes=self._size_bytes,
        )

    def take(self, payload: bytes | memoryview, now: float, latest_unix_nano: int = _ANY_TIME) -> None:
        """Take in a metrics payload as in `model.batch.Batch`; `WireError` at a fault, what stands before it is in.

        Points later than `latest_unix_nano` are refused.
        """
        for _ in self.taking(payload, now, latest_unix_nano):
            pass

    def taking(self, payload: bytes | memoryview, now: float, latest_unix_nano: int = _ANY_TIME) -> Iterator[None]:
        """The same in slices of some 10 ms: it yields after each, and others may be taken in meanwhile."""
        if now - self._swept_at >= self._stale_seconds / 5:
            self._expire(now)
        steps = 0
        for group in raw_groups(payload):
            origin = origin_of(group.resource_fields, group.scope_fields)
            place = self._place(origin)
            steps += 5 + len(origin.resource)
            for item in group.items:
                for part in metric_parts(item):
                    metric = read_metric(part)
                    self._take_metric(metric, place, now, latest_unix_nano)
                    steps += 1 + len(metric.points) + len(part) // 256
                    if steps >= _POINTS_A_SLICE:
                        steps = 0
                        yield
                        place = self._place(origin)
            if not place.source.size:
                self._forget_source(place.source)
            if steps >= _POINTS_A_SLICE:
                steps = 0
                yield

    def blocks(self, now: float) -> list[Block]:
        """The series that were refreshed lately, one block a family."""
        self._expire(now)
        blocks = [shown.block() for shown in self._shown.values()]
        info = [source.info for source in self._sources.values() if source.info]
        if info:
            if info != self._info_labels:
                self._info_labels = info
                self._info_shape = Shape(Series(_TARGET_INFO, labels) for labels in info)
            blocks.append(Block(self._info_shape, [1] * len(info)))
        return blocks

    def native_histograms(self, now: float) -> Iterator[NativeHistogram]:
        """The exponential histograms among the series, whole."""
        self._expire(now)
        for shown in self._shown.values():
            for own, kept in shown.rows():
                if isinstance(kept.point, ExponentialHistogramPoint):
                    yield NativeHistogram(shown.family, own, kept.point)

    def _place(self, origin: Origin) -> _Place:
        own = source_labels(origin.resource)
        source = self._sources.get(own)
        if source is None:
            source = self._sources[own] = Source(own)
        self._describe(source, info_labels(origin.resource, own))
        labels = (*scope_labels(origin), *own)
        return _Place(source, labels, _OUR_LABELS.union(label for label, _ in labels))

    def _describe(self, source: Source, info: Labels) -> None:
        """Have this `target_info`, or none where it has no room."""
        if info == source.info:
            return
        size_bytes = 2 * labels_bytes(info) + _FAMILY_BYTES if info else 0
        if self._size_bytes - source.info_bytes + size_bytes > self._most_bytes:
            self._refused["target_info"] += 1
            info, size_bytes = (), 0
        self._size_bytes += size_bytes - source.info_bytes
        source.info, source.info_bytes = info, size_bytes

    def _forget_source(self, source: Source) -> None:
        self._describe(source, ())
        if self._sources.get(source.labels) is source:
            del self._sources[source.labels]

    def _take_metric(self, metric: Metric, place: _Place, now: float, latest_unix_nano: int) -> None:
        if not metric.points:
            return
        self._points += len(metric.points)
        try:
            shown = self._shown_as(metric)
        except RefusedError as refused:
            self._refused[str(refused)] += len(metric.points)
            return
        for point in metric.points:
            try:
                if max(point.time_unix_nano, point.start_unix_nano) > latest_unix_nano:
                    raise RefusedError("future")
                self._take_point(shown, metric, point, place, now)
            except RefusedError as refused:
                self._refused[str(refused)] += 1
        if not shown.series and shown.overflow is None:
            self._withdraw(shown)

    def _take_point(self, shown: Shown, metric: Metric, point: AnyPoint, place: _Place, now: float) -> None:
        if not is_bounded(point.attributes):
            raise RefusedError("labels")
        own = (*named_labels(point.attributes, place.taken), *place.labels)
        kept = shown.series.get(own)
        if point.flags & NO_RECORDED_VALUE:
            if kept is not None:
                self._forget(shown, own, kept)
            return
        point = meaningful(metric, point)
        if kept is None:
            kept = Kept(place.source, shown.family.name, own)
            refusal = "metric_limit" if len(shown.series) >= self._most_per_metric else self._refusal(kept, point)
            if refusal:
                if shown.series and refusal not in {_FULL, _TOO_MANY_BYTES}:
                    self._overflow(shown, metric, point, now)
                raise RefusedError(refusal)
            shown.series[own] = kept
        self._update(kept, metric, point)
        kept.seen_at = now

    def _refusal(self, kept: Kept, point: AnyPoint) -> str:
        """Why a set of labels may not have so many series; empty where it may."""
        size = samples(point)
        more = size - kept.size
        if more <= 0:
            return ""
        if kept.source is not None and kept.source.size + more > self._most_per_source:
            return "source_limit"
        if self._size + more > self._most_series:
            return _FULL
        return _TOO_MANY_BYTES if self._size_bytes + kept.bytes_of(size) - kept.size_bytes > self._most_bytes else ""

    def _overflow(self, shown: Shown, metric: Metric, point: AnyPoint, now: float) -> None:
        if shown.overflow is None:
            shown.overflow = Kept(None)
        kept = shown.overflow
        before = kept.point
        if before is not None and is_delta(metric):
            point = added(before, point)
        elif before is not None and shown.family.kind in {"counter", "histogram"} and weight(before) > weight(point):
            point = before
        self._keep(kept, point)
        kept.seen_at = now

    def _update(self, kept: Kept, metric: Metric, point: AnyPoint) -> None:
        exemplars = point.exemplars
        before = kept.point
        if before is not None and type(before) is type(point):
            point = continued(before, point, delta=is_delta(metric))
        if refusal := self._refusal(kept, point):
            raise RefusedError(refusal)
        self._keep(kept, point)
        if exemplars and (metric.monotonic or metric.kind in _HISTOGRAMS) and self._size_bytes < self._most_bytes:
            kept.keep_exemplars(exemplars)
            self._recharge(kept)

    def _keep(self, kept: Kept, point: AnyPoint) -> None:
        kept.keep(point)
        self._resize(kept, samples(point))

    def _resize(self, kept: Kept, size: int) -> None:
        self._size += size - kept.size
        if kept.source is not None:
            kept.source.size += size - kept.size
        kept.size = size
        self._recharge(kept)

    def _recharge(self, kept: Kept) -> None:
        size_bytes = kept.bytes_of(kept.size) if kept.size else 0
        self._size_bytes += size_bytes - kept.size_bytes
        kept.size_bytes = size_bytes

    def _forget(self, shown: Shown, own: Labels, kept: Kept) -> None:
        del shown.series[own]
        self._resize(kept, 0)

    def _expire(self, now: float) -> None:
        self._swept_at = now
        before = now - self._stale_seconds
        for shown in list(self._shown.values()):
            for own in [own for own, kept in shown.series.items() if kept.seen_at <= before]:
                self._forget(shown, own, shown.series[own])
            if shown.overflow is not None and shown.overflow.seen_at <= before:
                self._resize(shown.overflow, 0)
                shown.overflow = None
            if not shown.series and shown.overflow is None:
                self._withdraw(shown)
        for source in [source for source in self._sources.values() if not source.size]:
            self._forget_source(source)

    def _shown_as(self, metric: Metric) -> Shown:
        kind = _kind(metric)
        if len(metric.name) > _LONGEST_NAME or len(metric.unit) > _LONGEST_UNIT:
            raise RefusedError("name")
        key = (metric.name, metric.unit, kind, metric.kind == "gauge")
        shown = self._found.pop(key, None) or self._named(metric, kind)
        self._found[key] = shown
        shown.found_by.add(key)
        if len(self._found) > _MOST_FOUND:
            longest_ago = next(iter(self._found))
            self._found.pop(longest_ago).found_by.discard(longest_ago)
        return shown

    def _named(self, metric: Metric, kind: Kind) -> Shown:
        wanted = metric_name(metric.name, metric.unit, metric.kind, monotonic=metric.monotonic)
        if not 0 < len(wanted) <= _LONGEST_NAME:
            raise RefusedError("name")
        for name in (wanted, f"otlp_{wanted}", *(f"otlp_{number}_{wanted}" for number in range(2, _MOST_NAMES))):
            shown = self._shown.get(name)
            if shown is not None and shown.family.kind == kind:
                return shown
            claims = _claims(name, kind)
            if not any(map(self._is_taken, claims)):
                shown = Shown(Family(name, metric.description[:_LONGEST_HELP], kind, unit=metric.unit), wanted, claims)
                shown.size_bytes = _FAMILY_BYTES + 2 * text_bytes(name, shown.family.help)
                if self._size_bytes + shown.size_bytes > self._most_bytes:
                    raise RefusedError(_TOO_MANY_BYTES)
                self._size_bytes += shown.size_bytes
                self._shown[name] = shown
                self._claimed.update(dict.fromkeys(claims, name))
                return shown
        raise RefusedError("name")

    def _is_taken(self, name: str) -> bool:
        pattern = self._reserved_pattern
        return name in self._claimed or name in self._reserved or bool(pattern and pattern.fullmatch(name))

    def _withdraw(self, shown: Shown) -> None:
        """The metric has no series any more: its name is free."""
        del self._shown[shown.family.name]
        for claim in shown.claims:
            del self._claimed[claim]
        self._size_bytes -= shown.size_bytes
        for key in shown.found_by:
            del self._found[key]


def _kind(metric: Metric) -> Kind:
    if metric.kind == "gauge":
        return "untyped" if metric.metadata.get("prometheus.type") == "unknown" else "gauge"
    if metric.kind == "sum":
        return "counter" if metric.monotonic else "gauge"
    return "summary" if metric.kind == "summary" else "histogram"


def _claims(name: str, kind: Kind) -> frozenset[str]:
    """The names that no other family may have: those of its samples, and of the family in either format."""
    base = name.removesuffix("_total") if kind == "counter" else name
    return frozenset({name, base, *(name + suffix for suffix in SUFFIXES.get(kind, ()))})

"""Counters and histograms that grow by observation, told apart by label values: bounded, cumulative, forgotten when idle.

They are read two ways: as blocks for `/metrics`, and as points for OTLP. An observation may stand for several (what was
sampled before it came here); counts are whole numbers when they are read. A counter may also add up numbers of any kind.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import NamedTuple

from novel_agent.model.metric import Block, BlockWithExemplars, Family, Number, Series, Shape, ShapeMemo
from novel_agent.model.metric import Exemplar as ShownExemplar
from novel_agent.model.point import CUMULATIVE, Exemplar, HistogramPoint, Metric, NumberPoint
from novel_agent.model.value import Attributes, Value, as_text

IDLE_SECONDS = 3600.0
"""A series that nothing was added to for so long is forgotten; should it come back, it starts anew."""

_LONGEST_LABEL = 256
_OVERFLOW = ("otel.metric.overflow", "otel_metric_overflow")
_INTEGERS = frozenset({"http.response.status_code"})

Sampled = tuple[int, float, bytes, bytes]
"""An exemplar before it is one: nanoseconds since the epoch, the value (such as seconds), trace id, span id."""

_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, (0, 8)


def is_sound(exemplar: Sampled) -> bool:
    """Whether its ids have the lengths of ids; a span id may be missing."""
    return len(exemplar[2]) == _TRACE_ID_BYTES and len(exemplar[3]) in _SPAN_ID_BYTES


class Measure(NamedTuple):
    """What `/metrics` and OTLP call a counter or a histogram. A counter is read as a whole number, or else as it is."""

    family: Family
    name: str
    unit: str
    whole: bool = True


class Histogram:
    """Durations in seconds by bucket, with the exemplar that each bucket had last."""

    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts: list[Number] = [0] * buckets
        self.exemplars: list[Sampled | None] = [None] * buckets
        self.total = 0.0

    def cumulative(self) -> list[int]:
        """How many observations each bound, and then infinity, has at or below it."""
        return [round(count) for count in accumulate(self.counts)]


class Entry:
    """The numbers of one set of labels, in the order of the measures, and the exemplar that each counter had last."""

    __slots__ = ("counters", "exemplars", "histograms", "seen_at", "start_unix_nano")

    def __init__(self, counters: int, histograms: int, buckets: int, now: float) -> None:
        self.counters: list[Number] = [0] * counters
        self.exemplars: list[Sampled | None] = [None] * counters
        self.histograms = [Histogram(buckets) for _ in range(histograms)]
        self.start_unix_nano = round(now * 1e9)
        self.seen_at = now


class Measures:
    """Entries by label values; what is beyond `most_series` shares one, with the label `otel_metric_overflow`.

    `labels` are the names as OTLP has them; an empty value is left out. `now` is in seconds since the epoch.
    """

    def __init__(
        self,
        counters: Sequence[Measure],
        histograms: Sequence[Measure],
        labels: Sequence[str],
        bounds: Sequence[float],
        most_series: int,
    ) -> None:
        self._counters = counters
        self._histograms = histograms
        self._labels = tuple(labels)
        self._label_names = tuple(map(label_name, labels))
        self._bounds = sorted(set(bounds))
        self._most_series = most_series
        self._entries: dict[tuple[str, ...], Entry] = {}
        self._overflow: Entry | None = None
        self._changes = 0
        self._shapes = ShapeMemo()
        self.overflowed = 0
        """Observations that went to the shared series."""

    def __len__(self) -> int:
        return len(self._entries) + (self._overflow is not None)

    def entry(self, values: tuple[str, ...], now: float) -> Entry:
        """The entry of these label values, in the order of `labels`; every one as `label_value` gives it."""
        found = self._entries.get(values)
        if found is None:
            found = self._new(values, now)
        found.seen_at = now
        return found

    def observe(self, histogram: Histogram, seconds: float, weight: Number, exemplar: Sampled | None) -> None:
        """Add one duration, or as many as it stands for. Without an exemplar the bucket keeps the one it had.

        An exemplar whose ids have not the length of ids is none: they come from clients, and neither format knows others.
        """
        bucket = bisect_left(self._bounds, seconds)
        histogram.counts[bucket] += weight
        histogram.total += seconds * weight
        if exemplar is not None and is_sound(exemplar):
            histogram.exemplars[bucket] = exemplar

    def blocks(self, now: float) -> Iterator[Block]:
        """One block a measure, counters first; nothing where nothing was seen."""
        self._expire(now)
        entries = list(self._read())
        if not entries:
            return
        for index, measure in enumerate(self._counters):
            shape = self._shapes.get(measure.name, self._changes, partial(self._counter_series, measure))
            exemplars = {number: entry.exemplars[index] for number, (_, entry) in enumerate(entries)}
            yield BlockWithExemplars.of(
                shape,
                [_read_number(entry.counters[index], measure) for _, entry in entries],
                {number: _shown(sampled) for number, sampled in exemplars.items() if sampled is not None},
            )
        for index, measure in enumerate(self._histograms):
            shape = self._shapes.get(measure.name, self._changes, partial(self._histogram_series, measure))
            yield _histogram_block(shape, [entry.histograms[index] for _, entry in entries])

    def metrics(self, now: float) -> list[Metric]:
        """The same as cumulative sums and histograms."""
        self._expire(now)
        entries = list(self._read())
        if not entries:
            return []
        time_unix_nano = round(now * 1e9)
        metrics = [
            Metric(
                name=measure.name,
                description=measure.family.help,
                unit=measure.unit,
                kind="sum",
                temporality=CUMULATIVE,
                monotonic=True,
                points=[
                    NumberPoint(
                        attributes=self._attributes(values),
                        start_unix_nano=entry.start_unix_nano,
                        time_unix_nano=time_unix_nano,
                        value=_read_number(entry.counters[index], measure),
                        exemplars=[_exemplar(each) for each in (entry.exemplars[index],) if each is not None],
                    )
                    for values, entry in entries
                ],
            )
            for index, measure in enumerate(self._counters)
        ]
        metrics += [
            Metric(
                name=measure.name,
                description=measure.family.help,
                unit=measure.unit,
                kind="histogram",
                temporality=CUMULATIVE,
                points=[self._histogram_point(values, entry, index, time_unix_nano) for values, entry in entries],
            )
            for index, measure in enumerate(self._histograms)
        ]
        return metrics

    def _new(self, values: tuple[str, ...], now: float) -> Entry:
        if len(self._entries) < self._most_series:
            entry = self._entries[values] = self._made(now)
            return entry
        self.overflowed += 1
        if self._overflow is None:
            self._overflow = self._made(now)
        return self._overflow

    def _made(self, now: float) -> Entry:
        self._changes += 1
        return Entry(len(self._counters), len(self._histograms), len(self._bounds) + 1, now)

    def _expire(self, now: float) -> None:
        idle = [values for values, entry in self._entries.items() if now - entry.seen_at >= IDLE_SECONDS]
        for values in idle:
            del self._entries[values]
        if self._overflow is not None and now - self._overflow.seen_at >= IDLE_SECONDS:
            self._overflow = None
            self._changes += 1
        self._changes += len(idle)

    def _read(self) -> Iterator[tuple[tuple[str, ...] | None, Entry]]:
        yield from self._entries.items()
        if self._overflow is not None:
            yield None, self._overflow

    def _counter_series(self, measure: Measure) -> Iterator[Series]:
        for values, _ in self._read():
            yield Series(measure.family, self._named(values))

    def _histogram_series(self, measure: Measure) -> Iterator[Series]:
        bounds = [*map(repr, map(float, self._bounds)), "+Inf"]
        for values, _ in self._read():
            labels = self._named(values)
            yield from (Series(measure.family, (*labels, ("le", bound)), "_bucket") for bound in bounds)
            yield Series(measure.family, labels, "_sum")
            yield Series(measure.family, labels, "_count")

    def _named(self, values: tuple[str, ...] | None) -> tuple[tuple[str, str], ...]:
        if values is None:
            return ((_OVERFLOW[1], "true"),)
        return tuple((name, value) for name, value in zip(self._label_names, values, strict=True) if value)

    def _attributes(self, values: tuple[str, ...] | None) -> Attributes:
        if values is None:
            return {_OVERFLOW[0]: True}
        return {
            name: int(value) if name in _INTEGERS and value.isascii() and value.isdecimal() else value
            for name, value in zip(self._labels, values, strict=True)
            if value
        }

    def _histogram_point(
        self, values: tuple[str, ...] | None, entry: Entry, index: int, time_unix_nano: int
    ) -> HistogramPoint:
        histogram = entry.histograms[index]
        cumulative = histogram.cumulative()
        return HistogramPoint(
            attributes=self._attributes(values),
            start_unix_nano=entry.start_unix_nano,
            time_unix_nano=time_unix_nano,
            count=cumulative[-1],
            total=histogram.total,
            counts=[here - below for here, below in zip(cumulative, [0, *cumulative], strict=False)],
            bounds=list(self._bounds),
            exemplars=[_exemplar(each) for each in histogram.exemplars if each is not None],
        )


def label_name(attribute: str) -> str:
    """What Prometheus calls an attribute: other characters than its own become `_`."""
    name = "".join(each if each.isascii() and (each.isalnum() or each == "_") else "_" for each in attribute)
    return f"_{name}" if name[:1].isdigit() else name


def label_value(value: Value) -> str:
    """A value as a label: text, at most 256 characters of it."""
    text = value if isinstance(value, str) else as_text(value)
    return text if len(text) <= _LONGEST_LABEL else text[:_LONGEST_LABEL]


def _read_number(number: Number, measure: Measure) -> Number:
    return round(number) if measure.whole else number


def _histogram_block(shape: Shape, histograms: Sequence[Histogram]) -> Block:
    numbers = [_numbers(histogram) for histogram in histograms]
    exemplars = {}
    first = 0
    for histogram, own in zip(histograms, numbers, strict=True):
        for bucket, sampled in enumerate(histogram.exemplars):
            if sampled is not None:
                exemplars[first + bucket] = _shown(sampled)
        first += len(own)
    return BlockWithExemplars.of(shape, list(chain.from_iterable(numbers)), exemplars)


def _numbers(histogram: Histogram) -> list[Number]:
    cumulative = histogram.cumulative()
    return [*cumulative, histogram.total, cumulative[-1]]


def _shown(sampled: Sampled) -> ShownExemplar:
    time_unix_nano, seconds, trace_id, span_id = sampled
    return ShownExemplar(
        (("trace_id", trace_id.hex()), ("span_id", span_id.hex())), seconds, round(time_unix_nano / 1e9, 3)
    )


def _exemplar(sampled: Sampled) -> Exemplar:
    time_unix_nano, seconds, trace_id, span_id = sampled
    return Exemplar(time_unix_nano=time_unix_nano, value=seconds, trace_id=trace_id, span_id=span_id)

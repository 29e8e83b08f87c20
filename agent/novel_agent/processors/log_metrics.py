"""Counters and histograms made of records, told apart by their attributes.

A rule without `value` counts records. With one it takes the number in that attribute: into a histogram where it has `buckets`,
else it adds them up. Names on `/metrics` are those that Prometheus gives to OpenTelemetry's.
"""

from collections.abc import Iterable, Iterator

from novel_agent.config.schema import LogMetric
from novel_agent.model.log import LogRecord
from novel_agent.model.metric import Block, Family, Number
from novel_agent.model.point import Metric, PointKind
from novel_agent.model.value import Value
from novel_agent.processors.log_fields import find, severity_name
from novel_agent.processors.log_filter import Matcher
from novel_agent.processors.measures import Measure, Measures, Sampled, is_sound, label_name, label_value
from novel_agent.processors.patterns import Compile
from novel_agent.wire.prometheus_names import metric_name

SEVERITY = "severity"
"""The attribute of a rule that is not looked up: the name of the record's severity, nothing where it has none."""

_RECORDS = "{record}"
_RESERVED = {"le", "otel_metric_overflow"}
_LONGEST_NUMBER = 64
_LARGEST_NUMBER = 1e300
"""Beyond it a few would add up to infinity."""


class LogMeasure:
    """The metric of one rule, cumulative for each series from its first record on.

    Numbers below zero or too large, and what is no number, count for nothing but in `unusable`: sums only grow. A number may be
    written as text, as formats without types have it.
    """

    reason = ""

    def __init__(self, config: LogMetric, compile_regex: Compile) -> None:
        self.rule = config
        self._matches = Matcher(config.match, compile_regex)
        self._value = config.value
        self._is_histogram = config.value is not None and bool(config.buckets)
        self._labels = _distinct(config.attributes)
        self.family = _family(config, self._labels, self._is_histogram)
        measure = Measure(self.family, config.name, _unit(config), whole=config.value is None)
        self._measures = Measures(
            [] if self._is_histogram else [measure],
            [measure] if self._is_histogram else [],
            self._labels,
            config.buckets,
            config.max_series,
        )
        self.unusable = 0
        """Records that matched and whose `value` is there, but no number to use."""

    def __len__(self) -> int:
        """Series, the shared one included."""
        return len(self._measures)

    @property
    def overflowed(self) -> int:
        """Records that were counted in the series shared by all beyond the bound."""
        return self._measures.overflowed

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """The same records, counted; `now` in seconds since the epoch."""
        for record in records:
            if self._matches(record):
                self._count(record, now)
        return records

    def blocks(self, now: float) -> Iterator[Block]:
        """For `/metrics`."""
        yield from self._measures.blocks(now)

    def metrics(self, now: float) -> list[Metric]:
        """For OTLP."""
        return self._measures.metrics(now)

    def _count(self, record: LogRecord, now: float) -> None:
        number = self._number_of(record)
        if number is None:
            return
        entry = self._measures.entry(self._values(record), now)
        exemplar = _exemplar(record, number)
        if self._is_histogram:
            self._measures.observe(entry.histograms[0], number, 1, exemplar)
            return
        entry.counters[0] += number
        if exemplar is not None and is_sound(exemplar):
            entry.exemplars[0] = exemplar

    def _number_of(self, record: LogRecord) -> Number | None:
        if self._value is None:
            return 1
        value = find(record.attributes, self._value)
        number = _number(value)
        if number is None and value is not None:
            self.unusable += 1
        return number

    def _values(self, record: LogRecord) -> tuple[str, ...]:
        return tuple(
            (severity_name(record.severity_number) or "")
            if name == SEVERITY
            else label_value(find(record.attributes, name))
            for name in self._labels
        )


def _number(value: Value) -> float | None:
    """A number that a sum can take; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or "_" in value:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if 0 <= value <= _LARGEST_NUMBER else None


def _exemplar(record: LogRecord, number: Number) -> Sampled | None:
    """Of a record that belongs to a trace."""
    if len(record.trace_id) != 16:
        return None
    return (record.time_unix_nano or record.observed_unix_nano, number, record.trace_id, record.span_id)


def _distinct(attributes: Iterable[str]) -> tuple[str, ...]:
    """Those whose labels are not taken yet."""
    distinct: dict[str, str] = {}
    for name in attributes:
        if label_name(name) not in _RESERVED:
            distinct.setdefault(label_name(name), name)
    return tuple(distinct.values())


def _unit(config: LogMetric) -> str:
    return config.unit or (_RECORDS if config.value is None else "")


def _family(config: LogMetric, labels: Iterable[str], is_histogram: bool) -> Family:
    kind: PointKind = "histogram" if is_histogram else "sum"
    name = metric_name(config.name, config.unit, kind, monotonic=True)
    return Family(
        name,
        config.description or ("Records." if config.value is None else f"{config.value} of records."),
        "histogram" if is_histogram else "counter",
        tuple(map(label_name, labels)),
        _unit(config),
    )

"""What is done to the records of one source, in the order in which it is configured.

Steps look inside records, so a source that has any needs them decoded. Patterns of users are compiled by what is given, so that
an engine of linear time can be put in; what is not configured is not even loaded.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from novel_agent.config.schema import LogMetric, LogStep, Redaction
from novel_agent.model.log import LogRecord
from novel_agent.model.metric import Block
from novel_agent.model.point import Metric
from novel_agent.processors.patterns import Compile

FILTER = "filter"


class Step(Protocol):
    """Does one thing to records; what it leaves out is counted under `reason`."""

    @property
    def reason(self) -> str:
        """Short and constant; empty of a step that leaves nothing out."""

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on, in order. It may edit them and the list."""


class Measure(Step, Protocol):
    """A step that makes a metric."""

    @property
    def rule(self) -> LogMetric:
        """What it is made of."""

    @property
    def overflowed(self) -> int:
        """Records counted beyond the bound of series."""

    @property
    def unusable(self) -> int:
        """Records whose number could not be used."""

    def blocks(self, now: float) -> Iterator[Block]:
        """As series of /metrics."""

    def metrics(self, now: float) -> list[Metric]:
        """The same for OTLP."""


def needs_records(steps: tuple[LogStep, ...]) -> bool:
    """Whether the records of a source must be decoded for these: not where each is a filter by severity alone."""
    return not all(map(_asks_severity_only, steps))


def _asks_severity_only(step: LogStep) -> bool:
    match = None if step.filter is None else step.filter.keep or step.filter.drop
    return match is not None and match.body is None and not match.attributes


def make_steps(steps: tuple[LogStep, ...], compile_regex: Compile, before: "LogSteps | None" = None) -> "LogSteps":
    """The steps for one configuration; `before` is that whose counts and metrics go on, where their rules are the same."""
    return LogSteps(steps, compile_regex, before)


class LogSteps:
    """The steps of one source. `now` is in seconds since the epoch; nothing here is safe for several threads at a time."""

    def __init__(self, steps: tuple[LogStep, ...], compile_regex: Compile, before: "LogSteps | None" = None) -> None:
        self.dropped: Counter[str] = before.dropped if before is not None else Counter()
        """Records that were left out, by `filter`, `sample` or `rate_limit`."""
        self.measures: list[Measure] = []
        """What metrics are made with, in the order of their rules."""
        self._edited_before = before.edited if before is not None else 0
        self._redactors: list[_Redactor] = []
        known = before.measures if before is not None else []
        self._steps = [self._made(step, compile_regex, known) for step in steps]
        self._encoded = None if needs_records(steps) else _encoded(steps)

    @property
    def edited(self) -> int:
        """Values that were redacted."""
        return self._edited_before + sum(each.edited for each in self._redactors)

    def take(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on, in order. The list and the records belong to the steps from here on."""
        for step in self._steps:
            if not records:
                break
            kept = step(records, now)
            if len(kept) < len(records):
                self.dropped[step.reason] += len(records) - len(kept)
            records = kept
        return records

    def take_encoded(self, records: bytes) -> tuple[bytes, int]:
        """The same with encoded records (whole `log_records` fields), where the steps do not need them decoded.

        Gives those that go on, the same object where all do, and how many do not. Raises WireError of what are no records.
        """
        if self._encoded is None:
            raise TypeError("these steps need decoded records")
        kept, dropped = self._encoded(records)
        if dropped:
            self.dropped[FILTER] += dropped
        return kept, dropped

    def blocks(self, now: float) -> list[Block]:
        """The metrics of the rules, as series of `/metrics`."""
        return [block for measure in self.measures for block in measure.blocks(now)]

    def metrics(self, now: float) -> list[Metric]:
        """The same for OTLP."""
        return [metric for measure in self.measures for metric in measure.metrics(now)]

    def _made(self, step: LogStep, compile_regex: Compile, known: list[Measure]) -> Step:
        if step.redact is not None:
            config = step.redact if isinstance(step.redact, Redaction) else Redaction(patterns=step.redact)
            redactor = _redactor(config, compile_regex)
            self._redactors.append(redactor)
            return redactor
        if step.count is not None:
            going_on = [each for each in known if each.rule == step.count and each not in self.measures]
            measure = going_on[0] if going_on else _measure(step.count, compile_regex)
            self.measures.append(measure)
            return measure
        return _plain(step, compile_regex)


def _encoded(steps: tuple[LogStep, ...]) -> Callable[[bytes], tuple[bytes, int]]:
    if not steps:
        return lambda records: (records, 0)
    from novel_agent.processors.log_encoded import EncodedFilter

    return EncodedFilter([step.filter for step in steps if step.filter is not None])


class _Redactor(Step, Protocol):
    @property
    def edited(self) -> int:
        """Values that it has changed so far."""


def _redactor(config: Redaction, compile_regex: Compile) -> _Redactor:
    from novel_agent.processors.log_redact import LogRedactor

    return LogRedactor(config, compile_regex)


def _measure(rule: LogMetric, compile_regex: Compile) -> Measure:
    from novel_agent.processors.log_metrics import LogMeasure

    return LogMeasure(rule, compile_regex)


def _plain(step: LogStep, compile_regex: Compile) -> Step:
    if step.filter is not None:
        from novel_agent.processors.log_filter import Filter

        return Filter(step.filter, compile_regex)
    if step.sample is not None:
        from novel_agent.processors.log_sample import Sample

        return Sample(step.sample)
    if step.rate_limit is not None:
        from novel_agent.processors.log_rate import RateLimit

        return RateLimit(step.rate_limit)
    from novel_agent.processors.log_attributes import AddAttributes, DropAttributes

    if step.drop_attributes is not None:
        return DropAttributes(step.drop_attributes)
    return AddAttributes(step.add_attributes or {})

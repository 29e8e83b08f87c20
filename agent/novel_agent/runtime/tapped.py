"""What `tail` shows: one value a log record, span or data point that passes, and which of them somebody wants to see.

Pure. Only what somebody looks at is decoded, and before that only what can be wanted by its bytes: protobuf has texts in them
as they are.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from novel_agent.model.batch import SIGNALS, Batch, Signal
from novel_agent.model.log import LogRecord
from novel_agent.model.point import (
    NO_RECORDED_VALUE,
    AnyPoint,
    ExponentialHistogramPoint,
    HistogramPoint,
    Metric,
    NumberPoint,
    SummaryPoint,
)
from novel_agent.model.span import KINDS, STATUS_ERROR, Span
from novel_agent.model.value import Origin, Value, as_text

SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""The lowest severity number of each range (OpenTelemetry, logs data model)."""

_NAMES = tuple(SEVERITIES)
_STATUS = ("unset", "ok", "error")
_NO_SPAN = bytes(8)


class Tapped(msgspec.Struct, kw_only=True, tag_field="type"):
    """What each has. `time` is in seconds since the epoch, None where unknown; `source` is the input it came through."""

    time: float | None
    source: str
    service: str


class TappedLog(Tapped, kw_only=True, tag="log"):
    """A log record; `severity` is the name of its number's range, '' where it has none, ids are hexadecimal or ''."""

    severity: str
    severity_number: int
    severity_text: str
    body: Any
    event_name: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


class TappedSpan(Tapped, kw_only=True, tag="span"):
    """A span; `time` is when it began, `status` is `unset`, `ok` or `error`."""

    name: str
    kind: str
    duration_seconds: float
    status: str
    status_message: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    attributes: dict[str, Any]
    resource: dict[str, Any]


class TappedPoint(Tapped, kw_only=True, tag="metric"):
    """A data point: of a gauge or a sum its `value`, of what has a distribution its `count` and `sum`."""

    name: str
    unit: str
    kind: str
    value: int | float | None
    count: int | None
    sum: float | None
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Wanted(NamedTuple):
    """Which items somebody wants to see; what is not given does not choose.

    `sources` are names of inputs or services. `min_severity` is a severity number: log records of at least that, of spans
    those that failed (as if `error`), no data points. `match` is a text that must stand, as it is written, in one of the
    item's texts: body, names, keys and values of attributes; of its resource only the service.
    """

    signals: tuple[Signal, ...] = SIGNALS
    sources: tuple[str, ...] = ()
    min_severity: int = 0
    match: str = ""

    def takes(self, signal: Signal) -> bool:
        """Whether there can be anything of a signal."""
        return signal in self.signals and not (self.min_severity and signal == "metrics")

    def may_hold(self, batch: Batch, source: str) -> bool:
        """Whether it is worth looking into a batch: costs at most a search for a few texts in its bytes."""
        if not batch.payload or not self.takes(batch.signal):
            return False
        if self.sources and source not in self.sources and not _any_in(self.sources, batch.payload):
            return False
        return not self.match or self.match.encode() in batch.payload


def _any_in(texts: tuple[str, ...], payload: bytes) -> bool:
    return any(text.encode() in payload for text in texts)


def look(batch: Batch, source: str, wanted: Wanted) -> Iterator[Tapped | None]:
    """Each item that is wanted, and None for each that was looked at and is not. WireError where a fault stands."""
    from novel_agent.wire.otlp_read import origin_of, raw_groups

    shown = _SHOWN[batch.signal]
    needle = wanted.match.encode()
    for group in raw_groups(batch.payload):
        origin = origin_of(group.resource_fields, group.scope_fields)
        service = as_text(origin.resource.get("service.name"))
        if wanted.sources and source not in wanted.sources and service not in wanted.sources:
            yield None
            continue
        whole = not needle or wanted.match in service
        about = _About(source, service, origin)
        for item in group.items:
            content = bytes(item)
            if whole or needle in content:
                yield from shown(content, about, wanted._replace(match="") if whole else wanted)
            else:
                yield None


class _About(NamedTuple):
    """Who items are from."""

    source: str
    service: str
    origin: Origin


def _log(content: bytes, about: _About, wanted: Wanted) -> Iterator[Tapped | None]:
    from novel_agent.wire.otlp_read import read_record

    record = read_record(content)
    texts: list[Value] = [record.body, record.attributes, record.event_name, record.severity_text]
    yield _shown_log(record, about) if record.severity_number >= wanted.min_severity and _holds(wanted, texts) else None


def _shown_log(record: LogRecord, about: _About) -> TappedLog:
    number = record.severity_number
    return TappedLog(
        time=_seconds(record.time_unix_nano or record.observed_unix_nano),
        source=about.source,
        service=about.service,
        severity=severity_name(number),
        severity_number=number,
        severity_text=record.severity_text,
        body=record.body,
        event_name=record.event_name,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        attributes=record.attributes,
        resource=about.origin.resource,
    )


def _span(content: bytes, about: _About, wanted: Wanted) -> Iterator[Tapped | None]:
    from novel_agent.wire.otlp_read import read_span

    span = read_span(content)
    is_severe = not wanted.min_severity or (
        span.status_code == STATUS_ERROR and wanted.min_severity <= SEVERITIES["error"]
    )
    texts: list[Value] = [span.name, span.attributes, span.status_message]
    yield _shown_span(span, about) if is_severe and _holds(wanted, texts) else None


def _shown_span(span: Span, about: _About) -> TappedSpan:
    return TappedSpan(
        time=_seconds(span.start_unix_nano),
        source=about.source,
        service=about.service,
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else str(span.kind),
        duration_seconds=span.seconds,
        status=_STATUS[span.status_code] if 0 <= span.status_code < len(_STATUS) else str(span.status_code),
        status_message=span.status_message,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() if span.parent_span_id not in (b"", _NO_SPAN) else None,
        attributes=span.attributes,
        resource=about.origin.resource,
    )


def _points(content: bytes, about: _About, wanted: Wanted) -> Iterator[Tapped | None]:
    from novel_agent.wire.otlp_read import read_metric

    metric = read_metric(content)
    for point in metric.points:
        yield _shown_point(metric, point, about) if _holds(wanted, [metric.name, point.attributes]) else None


def _shown_point(metric: Metric, point: AnyPoint, about: _About) -> TappedPoint:
    value = count = total = None
    if point.flags & NO_RECORDED_VALUE:
        pass
    elif isinstance(point, NumberPoint):
        value = point.value
    elif isinstance(point, HistogramPoint | ExponentialHistogramPoint | SummaryPoint):
        count, total = point.count, point.total
    return TappedPoint(
        time=_seconds(point.time_unix_nano),
        source=about.source,
        service=about.service,
        name=metric.name,
        unit=metric.unit,
        kind=metric.kind,
        value=value,
        count=count,
        sum=total,
        attributes=point.attributes,
        resource=about.origin.resource,
    )


_SHOWN: dict[Signal, Callable[[bytes, _About, Wanted], Iterator[Tapped | None]]] = {
    "logs": _log,
    "traces": _span,
    "metrics": _points,
}


def severity_name(number: int) -> str:
    """The range a severity number is in; '' where it is in none."""
    return _NAMES[(number - 1) // 4] if 1 <= number <= 24 else ""


def _seconds(unix_nano: int) -> float | None:
    return unix_nano / 1e9 if unix_nano else None


def _holds(wanted: Wanted, texts: list[Value]) -> bool:
    return not wanted.match or any(wanted.match in text for text in _texts(texts))


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts(each)


class TailSkipped(msgspec.Struct, tag_field="type", tag="skipped"):
    """So many items passed unseen since the line before: more came than can be shown, or they could not be read."""

    items: int


class TailHeartbeat(msgspec.Struct, tag_field="type", tag="heartbeat"):
    """Nothing that is wanted came for a while. `time` is in seconds since the epoch."""

    time: float


class TailEnd(msgspec.Struct, tag_field="type", tag="end"):
    """The last line: the `limit` is reached, or the server is `closing` (a shutdown, or a reload that changes `listen`)."""

    reason: Literal["limit", "closing"]


TailLine = TappedLog | TappedSpan | TappedPoint | TailSkipped | TailHeartbeat | TailEnd
"""One line of `GET /api/v1/tail`."""

"""The nouns to OTLP protobuf bytes (opentelemetry-proto 1.11: trace, logs, metrics v1), and payloads out of kept pieces.

Payloads are as in `model.batch.Batch`. Fields that hold their default are left out, the value of a data point and of an
exemplar excepted. What a processor leaves as it came should not be written again: `assemble` takes a group's own bytes.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from sys import byteorder

from novel_agent.model.log import LogGroup, LogRecord
from novel_agent.model.point import (
    AnyPoint,
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    Metric,
    MetricGroup,
    NumberPoint,
    PointKind,
    SummaryPoint,
)
from novel_agent.model.span import Span, SpanEvent, SpanGroup, SpanLink
from novel_agent.model.value import Attributes, Origin, RawGroup, Value
from novel_agent.wire.protobuf import FIXED32, FIXED64, integer, length_delimited, tag, text, varint

_double = struct.Struct("<d").pack
_TAG_FIXED64 = [tag(field, FIXED64) for field in range(16)]


def assemble(groups: Iterable[RawGroup]) -> bytes:
    """A payload out of groups that `raw_groups` gave, with those items of theirs that stay; items may be replaced.

    The field numbers are the same for the three signals. Groups in a row of one resource come under one resource again, and
    those of one scope of it under one scope; a group without items leaves no trace.
    """
    kept = [group for group in groups if group.items]
    return b"".join(
        length_delimited(1, resource_fields, *_scopes(scopes))
        for resource_fields, scopes in groupby(kept, key=itemgetter(0))
    )


def _scopes(groups: Iterable[RawGroup]) -> list[bytes]:
    return [
        length_delimited(2, scope_fields, *(_item(item) for group in same for item in group.items))
        for scope_fields, same in groupby(groups, key=itemgetter(1))
    ]


def _item(content: bytes | memoryview) -> bytes:
    return b"\x12" + varint(len(content)) + content


def resource_fields(origin: Origin) -> bytes:
    """What stands in a ResourceSpans, -Logs or -Metrics beside the scopes."""
    resource = length_delimited(
        1,
        _attributes(1, origin.resource),
        _number(2, origin.resource_dropped_attributes),
        *(length_delimited(3, reference) for reference in origin.entity_refs),
    )
    return resource + text(3, origin.resource_schema_url)


def scope_fields(origin: Origin) -> bytes:
    """What stands in a ScopeSpans, -Logs or -Metrics beside the items."""
    scope = length_delimited(
        1,
        text(1, origin.scope),
        text(2, origin.scope_version),
        _attributes(3, origin.scope_attributes),
        _number(4, origin.scope_dropped_attributes),
    )
    return scope + text(3, origin.scope_schema_url)


def write_spans(groups: Iterable[SpanGroup]) -> bytes:
    """A traces payload out of the decoded spans; `raw` is not looked at."""
    return assemble(_written(group.origin, [span_message(span) for span in group.spans]) for group in groups)


def write_logs(groups: Iterable[LogGroup]) -> bytes:
    """A logs payload out of the decoded records; `raw` is not looked at."""
    return assemble(_written(group.origin, [record_message(record) for record in group.records]) for group in groups)


def write_metrics(groups: Iterable[MetricGroup]) -> bytes:
    """A metrics payload out of the decoded metrics; `raw` is not looked at."""
    return assemble(_written(group.origin, [metric_message(metric) for metric in group.metrics]) for group in groups)


def _written(origin: Origin, items: Sequence[bytes]) -> RawGroup:
    return RawGroup(resource_fields(origin), scope_fields(origin), items)


def span_message(span: Span) -> bytes:
    """The content of a Span message."""
    return b"".join(
        (
            _bytes(1, span.trace_id),
            _bytes(2, span.span_id),
            text(3, span.trace_state),
            _bytes(4, span.parent_span_id),
            text(5, span.name),
            _number(6, span.kind),
            _fixed64(7, span.start_unix_nano),
            _fixed64(8, span.end_unix_nano),
            _attributes(9, span.attributes),
            _number(10, span.dropped_attributes),
            *(length_delimited(11, _event(event)) for event in span.events),
            _number(12, span.dropped_events),
            *(length_delimited(13, _link(link)) for link in span.links),
            _number(14, span.dropped_links),
            _status(span),
            _fixed32(16, span.flags),
        )
    )


def _status(span: Span) -> bytes:
    content = text(2, span.status_message) + _number(3, span.status_code)
    return length_delimited(15, content) if content else b""


def _event(event: SpanEvent) -> bytes:
    return (
        _fixed64(1, event.time_unix_nano)
        + text(2, event.name)
        + _attributes(3, event.attributes)
        + _number(4, event.dropped_attributes)
    )


def _link(link: SpanLink) -> bytes:
    return (
        _bytes(1, link.trace_id)
        + _bytes(2, link.span_id)
        + text(3, link.trace_state)
        + _attributes(4, link.attributes)
        + _number(5, link.dropped_attributes)
        + _fixed32(6, link.flags)
    )


def record_message(record: LogRecord) -> bytes:
    """The content of a LogRecord message."""
    return b"".join(
        (
            _fixed64(1, record.time_unix_nano),
            _number(2, record.severity_number),
            text(3, record.severity_text),
            b"" if record.body is None else length_delimited(5, value_message(record.body)),
            _attributes(6, record.attributes),
            _number(7, record.dropped_attributes),
            _fixed32(8, record.flags),
            _bytes(9, record.trace_id),
            _bytes(10, record.span_id),
            _fixed64(11, record.observed_unix_nano),
            text(12, record.event_name),
        )
    )


_DATA_FIELDS: dict[PointKind, int] = {
    "gauge": 5,
    "sum": 7,
    "histogram": 9,
    "exponential_histogram": 10,
    "summary": 11,
}


def metric_message(metric: Metric) -> bytes:
    """The content of a Metric message."""
    return b"".join(
        (
            text(1, metric.name),
            text(2, metric.description),
            text(3, metric.unit),
            length_delimited(
                _DATA_FIELDS[metric.kind],
                *(length_delimited(1, _point(point)) for point in metric.points),
                _number(2, metric.temporality),
                _number(3, int(metric.monotonic)),
            ),
            _attributes(12, metric.metadata),
        )
    )


def _point(point: AnyPoint) -> bytes:
    times = _fixed64(2, point.start_unix_nano) + _fixed64(3, point.time_unix_nano)
    if isinstance(point, NumberPoint):
        return times + _number_point(point)
    if isinstance(point, HistogramPoint):
        return times + _histogram_point(point)
    if isinstance(point, ExponentialHistogramPoint):
        return times + _exponential_point(point)
    return times + _summary_point(point)


def _number_point(point: NumberPoint) -> bytes:
    return (
        _int_or_double(4, point.value)
        + _exemplars(5, point.exemplars)
        + _attributes(7, point.attributes)
        + _number(8, point.flags)
    )


def _histogram_point(point: HistogramPoint) -> bytes:
    return b"".join(
        (
            _fixed64(4, point.count),
            _optional_double(5, point.total),
            _packed(6, array("Q", point.counts)),
            _packed(7, array("d", point.bounds)),
            _exemplars(8, point.exemplars),
            _attributes(9, point.attributes),
            _number(10, point.flags),
            _optional_double(11, point.minimum),
            _optional_double(12, point.maximum),
        )
    )


def _exponential_point(point: ExponentialHistogramPoint) -> bytes:
    return b"".join(
        (
            _attributes(1, point.attributes),
            _fixed64(4, point.count),
            _optional_double(5, point.total),
            _number(6, _zigzag(point.scale)),
            _fixed64(7, point.zero_count),
            _buckets(8, point.positive),
            _buckets(9, point.negative),
            _number(10, point.flags),
            _exemplars(11, point.exemplars),
            _optional_double(12, point.minimum),
            _optional_double(13, point.maximum),
            _nonzero_double(14, point.zero_threshold),
        )
    )


def _buckets(field: int, buckets: Buckets) -> bytes:
    counts = length_delimited(2, *map(varint, buckets.counts)) if buckets.counts else b""
    content = _number(1, _zigzag(buckets.offset)) + counts
    return length_delimited(field, content) if content else b""


def _summary_point(point: SummaryPoint) -> bytes:
    return b"".join(
        (
            _fixed64(4, point.count),
            _nonzero_double(5, point.total),
            *(
                length_delimited(6, _nonzero_double(1, quantile), _nonzero_double(2, number))
                for quantile, number in point.quantiles
            ),
            _attributes(7, point.attributes),
            _number(8, point.flags),
        )
    )


def _exemplars(field: int, exemplars: Sequence[Exemplar]) -> bytes:
    return b"".join([length_delimited(field, _exemplar(exemplar)) for exemplar in exemplars])


def _exemplar(exemplar: Exemplar) -> bytes:
    return (
        _fixed64(2, exemplar.time_unix_nano)
        + _int_or_double(3, exemplar.value)
        + _bytes(4, exemplar.span_id)
        + _bytes(5, exemplar.trace_id)
        + _attributes(7, exemplar.attributes)
    )


def _attributes(field: int, attributes: Attributes) -> bytes:
    return b"".join([length_delimited(field, _key_value(key, value)) for key, value in attributes.items()])


def _key_value(key: str, value: Value) -> bytes:
    return text(1, key) + length_delimited(2, value_message(value))


def value_message(value: Value) -> bytes:
    """The content of an AnyValue message."""
    if isinstance(value, str):
        return length_delimited(1, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return integer(2, value)
    if isinstance(value, int):
        return integer(3, value)
    if isinstance(value, float):
        return _TAG_FIXED64[4] + _double(value)
    if isinstance(value, bytes):
        return length_delimited(7, value)
    if isinstance(value, list):
        return length_delimited(5, *(length_delimited(1, value_message(each)) for each in value))
    if isinstance(value, dict):
        return length_delimited(6, _attributes(1, value))
    return b""


def _bytes(field: int, content: bytes) -> bytes:
    return length_delimited(field, content) if content else b""


def _number(field: int, number: int) -> bytes:
    return integer(field, number) if number else b""


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else ~(number << 1)


def _fixed64(field: int, number: int) -> bytes:
    return _TAG_FIXED64[field] + number.to_bytes(8, "little") if number else b""


def _fixed32(field: int, number: int) -> bytes:
    return tag(field, FIXED32) + number.to_bytes(4, "little") if number else b""


def _int_or_double(double_field: int, number: float | None) -> bytes:
    """The value of a data point or an exemplar: the integer is field 6 of both."""
    if number is None:
        return b""
    if isinstance(number, int):
        return _TAG_FIXED64[6] + number.to_bytes(8, "little", signed=True)
    return _TAG_FIXED64[double_field] + _double(number)


def _optional_double(field: int, number: float | None) -> bytes:
    return b"" if number is None else _TAG_FIXED64[field] + _double(number)


def _nonzero_double(field: int, number: float) -> bytes:
    return _TAG_FIXED64[field] + _double(number) if number else b""


def _packed(field: int, numbers: "array[int] | array[float]") -> bytes:
    if byteorder == "big":
        numbers.byteswap()
    return length_delimited(field, numbers.tobytes()) if numbers else b""

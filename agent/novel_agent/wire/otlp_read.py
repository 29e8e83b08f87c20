"""OTLP protobuf bytes to the nouns that processors and outputs look into (opentelemetry-proto 1.11: trace, logs, metrics v1).

Payloads are as in `model.batch.Batch`. Every reader is a generator: `WireError` comes where the fault stands, after the
groups before it. As protobuf's own readers have it, unknown fields are skipped, of a scalar that is written twice the last
counts, a message that is written twice is merged, and repeated numbers may be packed or not. Text that is not UTF-8 gets
replacement characters.

A scope with more than `_MOST_ITEMS` items or `_MOST_BYTES` comes as several groups in a row, so that what is decoded at
once stays small whatever a request holds.
"""

from array import array
from collections.abc import Callable, Iterator, Sized
from struct import Struct
from sys import byteorder
from typing import Any

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
from novel_agent.model.value import Attributes, Origin, RawGroup
from novel_agent.wire.otlp_values import (
    LARGEST_TAG,
    MOST_FIELDS,
    WIRE_TYPES,
    any_value,
    double,
    fault,
    field_at,
    int32,
    pairs,
    scan,
    text,
    varint_at,
)
from novel_agent.wire.protobuf import WireError, varint, zigzag

_MOST_ITEMS = 512
_MOST_BYTES = 256 << 10
_UNLIMITED = 1 << 62
_UINT32 = 0xFFFF_FFFF

_fixed64 = Struct("<Q").unpack_from

_RESOURCE_GROUP = 0x0A
_INNER = 0x12


def read_spans(payload: bytes | memoryview) -> Iterator[SpanGroup]:
    """The spans of a traces payload, by resource and scope."""
    for resource, scope, items in _groups(payload):
        spans = [read_span(bytes(item)) for item in items]
        yield SpanGroup(origin_of(resource, scope), spans, items, resource, scope)


def read_logs(payload: bytes | memoryview) -> Iterator[LogGroup]:
    """The records of a logs payload, by resource and scope."""
    for resource, scope, items in _groups(payload):
        records = [read_record(bytes(item)) for item in items]
        yield LogGroup(origin_of(resource, scope), records, items, resource, scope)


def read_metrics(payload: bytes | memoryview) -> Iterator[MetricGroup]:
    """The metrics of a metrics payload, by resource and scope."""
    for resource, scope, items in _groups(payload):
        metrics = [read_metric(bytes(item)) for item in items]
        yield MetricGroup(origin_of(resource, scope), metrics, items, resource, scope)


def raw_groups(payload: bytes | memoryview) -> Iterator[RawGroup]:
    """The items of a payload of any signal by resource and scope, none decoded: for who decides before it decodes."""
    for resource, scope, items in _groups(payload):
        yield RawGroup(resource, scope, items)


def _groups(payload: bytes | memoryview) -> Iterator[tuple[bytes, bytes, list[memoryview]]]:
    for resource_group in _contents(memoryview(payload), _RESOURCE_GROUP):
        resource_fields = _beside_inner(resource_group)
        for scope_group in _contents(resource_group, _INNER):
            scope_fields = _beside_inner(scope_group)
            for items in _some(_contents(scope_group, _INNER)):
                yield resource_fields, scope_fields, items


def _some(contents: Iterator[memoryview]) -> Iterator[list[memoryview]]:
    items: list[memoryview] = []
    size_bytes = 0
    for item in contents:
        items.append(item)
        size_bytes += len(item)
        if size_bytes >= _MOST_BYTES or len(items) >= _MOST_ITEMS:
            yield items
            items, size_bytes = [], 0
    if items:
        yield items


def _contents(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The content of each field of this tag, which must be one of a length-delimited field."""
    for tag, _, start, end in _walk(message):
        if tag == wanted:
            yield message[start:end]


def _beside_inner(message: memoryview) -> bytes:
    """Every field but the groups or items within, as it stands there."""
    found = bytearray()
    for tag, begin, _, end in _walk(message):
        if tag != _INNER:
            found += message[begin:end]
    return bytes(found)


def _walk(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Of each field the tag, where it begins, where its content begins and where it ends."""
    position, end = 0, len(message)
    while position < end:
        begin = position
        try:
            tag, position = varint_at(message, position)
            kind = tag & 7
            if kind == 2:
                size, position = varint_at(message, position)
            elif kind == 0:
                _, behind = varint_at(message, position)
                size = behind - position
            else:
                size = {1: 8, 5: 4}.get(kind, end)
        except IndexError:
            raise WireError("cut off within a varint") from None
        if not 7 < tag <= LARGEST_TAG or size > end - position or kind not in WIRE_TYPES:
            raise fault(tag)
        start = position
        position += size
        yield tag, begin, start, position


class _Origins(dict[tuple[bytes, bytes], Origin]):
    """Origins by their bytes: at most 256 of 8 KiB each."""

    def __missing__(self, key: tuple[bytes, bytes]) -> Origin:
        origin = _origin(*key)
        if len(key[0]) + len(key[1]) <= 8192:
            if len(self) >= 256:
                self.clear()
            self[key] = origin
        return origin


_origins = _Origins()


def origin_of(resource_fields: bytes, scope_fields: bytes) -> Origin:
    """Who the items of a `RawGroup` are from; the same object for the same bytes for as long as it is remembered."""
    return _origins[resource_fields, scope_fields]


def _origin(resource_fields: bytes, scope_fields: bytes) -> Origin:
    resource, resource_url = _owner_and_url(resource_fields)
    scope, scope_url = _owner_and_url(scope_fields)
    resource_attributes: Attributes = {}
    scope_attributes: Attributes = {}
    entity_refs: list[bytes] = []
    resource_dropped = scope_dropped = 0
    name = version = b""
    for tag, value in scan(resource):
        if tag == 0x0A:
            _add(resource_attributes, value)
        elif tag == 0x10:
            resource_dropped = value & _UINT32
        elif tag == 0x1A:
            entity_refs.append(value)
    for tag, value in scan(scope):
        if tag == 0x0A:
            name = value
        elif tag == 0x12:
            version = value
        elif tag == 0x1A:
            _add(scope_attributes, value)
        elif tag == 0x20:
            scope_dropped = value & _UINT32
    return Origin(
        resource=resource_attributes,
        scope=text(name),
        scope_version=text(version),
        scope_attributes=scope_attributes,
        resource_schema_url=text(resource_url),
        scope_schema_url=text(scope_url),
        resource_dropped_attributes=resource_dropped,
        scope_dropped_attributes=scope_dropped,
        entity_refs=tuple(entity_refs),
    )


def _owner_and_url(group_fields: bytes) -> tuple[bytes, bytes]:
    """The content of the resource or scope, and the schema URL."""
    owner = url = b""
    for tag, value in scan(group_fields):
        if tag == 0x0A:
            owner += value
        elif tag == 0x1A:
            url = value
    return owner, url


def _add(attributes: Attributes, content: bytes) -> None:
    key, value = pairs[content]
    attributes[key] = value


def read_span(content: bytes) -> Span:
    """A span out of the content of its message: the hottest of the readers, hence one loop over its bytes."""
    span = Span()
    attributes = span.attributes
    status = b""
    position, end = 0, len(content)
    try:
        while position < end:
            tag = content[position]
            if tag & 0x87 == 2:
                start = position + 2
                size = content[position + 1]
                if size > 0x7F:
                    size, start = varint_at(content, position + 1)
                position = start + size
                piece = content[start:position]
                if tag == 0x4A:
                    key, value = pairs[piece]
                    attributes[key] = value
                elif tag == 0x0A:
                    span.trace_id = piece
                elif tag == 0x12:
                    span.span_id = piece
                elif tag == 0x22:
                    span.parent_span_id = piece
                elif tag == 0x2A:
                    span.name = str(piece, "utf-8", "replace")
                elif tag == 0x7A:
                    status += piece
                elif tag == 0x5A:
                    span.events.append(_event(piece))
                    _refuse_too_many(span.events)
                elif tag == 0x6A:
                    span.links.append(_link(piece))
                    _refuse_too_many(span.links)
                elif tag == 0x1A:
                    span.trace_state = text(piece)
            elif tag == 0x39 and position + 9 <= end:
                span.start_unix_nano = _fixed64(content, position + 1)[0]
                position += 9
            elif tag == 0x41 and position + 9 <= end:
                span.end_unix_nano = _fixed64(content, position + 1)[0]
                position += 9
            else:
                tag, value, position = field_at(content, position)
                _set_rare(span, tag, value)
    except IndexError:
        raise WireError("cut off within a varint") from None
    if position != end:
        raise fault(tag)
    if status:
        _set_status(span, status)
    return span


def _refuse_too_many(parts: Sized) -> None:
    if len(parts) > MOST_FIELDS:
        raise WireError(f"more than {MOST_FIELDS} fields in one message")


def _set_rare(span: Span, tag: int, value: Any) -> None:
    if tag == 0x30:
        span.kind = int32(value)
    elif tag == 0x85:
        span.flags = int.from_bytes(value, "little")
    elif tag == 0x50:
        span.dropped_attributes = value & _UINT32
    elif tag == 0x60:
        span.dropped_events = value & _UINT32
    elif tag == 0x70:
        span.dropped_links = value & _UINT32


def _set_status(span: Span, status: bytes) -> None:
    for tag, value in scan(status):
        if tag == 0x12:
            span.status_message = text(value)
        elif tag == 0x18:
            span.status_code = int32(value)


def _event(content: bytes) -> SpanEvent:
    event = SpanEvent()
    for tag, value in scan(content):
        if tag == 0x09:
            event.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x12:
            event.name = text(value)
        elif tag == 0x1A:
            _add(event.attributes, value)
        elif tag == 0x20:
            event.dropped_attributes = value & _UINT32
    return event


def _link(content: bytes) -> SpanLink:
    link = SpanLink()
    for tag, value in scan(content):
        if tag == 0x0A:
            link.trace_id = value
        elif tag == 0x12:
            link.span_id = value
        elif tag == 0x1A:
            link.trace_state = text(value)
        elif tag == 0x22:
            _add(link.attributes, value)
        elif tag == 0x28:
            link.dropped_attributes = value & _UINT32
        elif tag == 0x35:
            link.flags = int.from_bytes(value, "little")
    return link


def read_record(content: bytes) -> LogRecord:
    """A log record out of the content of its message."""
    record = LogRecord()
    body = b""
    for tag, value in scan(content):
        if tag == 0x32:
            _add(record.attributes, value)
        elif tag == 0x09:
            record.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x59:
            record.observed_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x10:
            record.severity_number = int32(value)
        elif tag == 0x1A:
            record.severity_text = text(value)
        elif tag == 0x2A:
            body += value
        elif tag == 0x4A:
            record.trace_id = value
        elif tag == 0x52:
            record.span_id = value
        elif tag == 0x45:
            record.flags = int.from_bytes(value, "little")
        elif tag == 0x62:
            record.event_name = text(value)
        elif tag == 0x38:
            record.dropped_attributes = value & _UINT32
    record.body = any_value(body)
    return record


_POINT = 0x0A
_BESIDE_POINTS = frozenset({0x10, 0x18})
_KINDS: dict[int, PointKind] = {
    0x2A: "gauge",
    0x3A: "sum",
    0x4A: "histogram",
    0x52: "exponential_histogram",
    0x5A: "summary",
}


def read_metric(content: bytes) -> Metric:
    """A metric and its points out of the content of its message."""
    metric = Metric(name="")
    data = b""
    found = 0
    for tag, value in scan(content):
        if tag in _KINDS:
            data = data + value if tag == found else value
            found = tag
        elif tag == 0x0A:
            metric.name = text(value)
        elif tag == 0x12:
            metric.description = text(value)
        elif tag == 0x1A:
            metric.unit = text(value)
        elif tag == 0x62:
            _add(metric.metadata, value)
    if found:
        metric.kind = _KINDS[found]
        _read_data(metric, data)
    return metric


def metric_parts(content: bytes | memoryview, most_bytes: int = 16 << 10) -> Iterator[bytes]:
    """The content of a metric's message as several with some of its points each, so that no more are decoded at once.

    A part is larger than `most_bytes` only where a single point is. A metric that is not comes as it is.
    """
    if len(content) <= most_bytes:
        yield bytes(content)
        return
    whole = memoryview(content)
    head, data = bytearray(), b""
    found = 0
    for tag, begin, start, end in _walk(whole):
        if tag in _KINDS:
            data = data + whole[start:end] if tag == found else bytes(whole[start:end])
            found = tag
        else:
            head += whole[begin:end]
    beside: dict[int, memoryview] = {}
    part: list[memoryview] = []
    parts = [part]
    first = last = size = 0
    inner = memoryview(data)
    for tag, begin, _, end in _walk(inner):
        if tag != _POINT:
            if tag in _BESIDE_POINTS:
                beside[tag] = inner[begin:end]
            continue
        if begin != last or size + end - first > most_bytes:
            part.append(inner[first:last])
            size += last - first
            first = begin
            if size + end - begin > most_bytes:
                part, size = [], 0
                parts.append(part)
        last = end
    part.append(inner[first:last])
    if not any(map(any, parts)):
        yield bytes(whole)
        return
    for each in parts:
        points = b"".join((*beside.values(), *each))
        yield b"".join((head, bytes([found]), varint(len(points)), points))


def _read_data(metric: Metric, data: bytes) -> None:
    read = _POINT_READERS[metric.kind]
    points = metric.points
    for tag, value in scan(data, _UNLIMITED):
        if tag == 0x0A:
            points.append(read(value))
        elif tag == 0x10 and metric.kind in _TEMPORAL:
            metric.temporality = int32(value)
        elif tag == 0x18 and metric.kind == "sum":
            metric.monotonic = bool(value)


_TEMPORAL = frozenset({"sum", "histogram", "exponential_histogram"})


def _number_point(content: bytes) -> NumberPoint:
    point = NumberPoint()
    for tag, value in scan(content):
        if tag == 0x3A:
            _add(point.attributes, value)
        elif tag == 0x19:
            point.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x11:
            point.start_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x31:
            point.value = int.from_bytes(value, "little", signed=True)
        elif tag == 0x21:
            point.value = double(value)[0]
        elif tag == 0x2A:
            point.exemplars.append(_exemplar(value))
        elif tag == 0x40:
            point.flags = value & _UINT32
    return point


def _exemplar(content: bytes) -> Exemplar:
    exemplar = Exemplar()
    for tag, value in scan(content):
        if tag == 0x3A:
            _add(exemplar.attributes, value)
        elif tag == 0x11:
            exemplar.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x19:
            exemplar.value = double(value)[0]
        elif tag == 0x31:
            exemplar.value = int.from_bytes(value, "little", signed=True)
        elif tag == 0x22:
            exemplar.span_id = value
        elif tag == 0x2A:
            exemplar.trace_id = value
    return exemplar


def _histogram_point(content: bytes) -> HistogramPoint:
    point = HistogramPoint()
    counts, bounds = array("Q"), array("d")
    for tag, value in scan(content):
        if tag == 0x4A:
            _add(point.attributes, value)
        elif tag == 0x19:
            point.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x11:
            point.start_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x21:
            point.count = int.from_bytes(value, "little")
        elif tag == 0x29:
            point.total = double(value)[0]
        elif tag in {0x31, 0x32}:
            _extend(counts, value)
        elif tag in {0x39, 0x3A}:
            _extend(bounds, value)
        elif tag == 0x42:
            point.exemplars.append(_exemplar(value))
        elif tag == 0x50:
            point.flags = value & _UINT32
        elif tag == 0x59:
            point.minimum = double(value)[0]
        elif tag == 0x61:
            point.maximum = double(value)[0]
    point.counts, point.bounds = counts.tolist(), bounds.tolist()
    return point


def _extend(numbers: "array[int] | array[float]", packed: bytes) -> None:
    """Take in repeated numbers of eight bytes, one of them or many packed."""
    if len(packed) % 8:
        raise WireError("packed numbers that end within one")
    more = array(numbers.typecode, packed)
    if byteorder == "big":
        more.byteswap()
    numbers.extend(more)


def _exponential_point(content: bytes) -> ExponentialHistogramPoint:
    point = ExponentialHistogramPoint()
    positive = negative = b""
    for tag, value in scan(content):
        if tag == 0x0A:
            _add(point.attributes, value)
        elif tag == 0x19:
            point.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x11:
            point.start_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x21:
            point.count = int.from_bytes(value, "little")
        elif tag == 0x29:
            point.total = double(value)[0]
        elif tag == 0x30:
            point.scale = _sint32(value)
        elif tag == 0x39:
            point.zero_count = int.from_bytes(value, "little")
        elif tag == 0x42:
            positive += value
        elif tag == 0x4A:
            negative += value
        elif tag == 0x50:
            point.flags = value & _UINT32
        elif tag == 0x5A:
            point.exemplars.append(_exemplar(value))
        elif tag == 0x61:
            point.minimum = double(value)[0]
        elif tag == 0x69:
            point.maximum = double(value)[0]
        elif tag == 0x71:
            point.zero_threshold = double(value)[0]
    point.positive, point.negative = _buckets(positive), _buckets(negative)
    return point


def _sint32(number: int) -> int:
    return zigzag(number & _UINT32)


def _buckets(content: bytes) -> Buckets:
    buckets = Buckets()
    for tag, value in scan(content):
        if tag == 0x08:
            buckets.offset = _sint32(value)
        elif tag == 0x12:
            buckets.counts.extend(value if value.isascii() else _varints(value))
        elif tag == 0x10:
            buckets.counts.append(value)
    return buckets


def _varints(packed: bytes) -> Iterator[int]:
    """Packed varints of any length; where each is one byte, the bytes are the numbers already."""
    position, end = 0, len(packed)
    try:
        while position < end:
            number, position = varint_at(packed, position)
            yield number
    except IndexError:
        raise WireError("cut off within a varint") from None


def _summary_point(content: bytes) -> SummaryPoint:
    point = SummaryPoint()
    for tag, value in scan(content):
        if tag == 0x3A:
            _add(point.attributes, value)
        elif tag == 0x19:
            point.time_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x11:
            point.start_unix_nano = int.from_bytes(value, "little")
        elif tag == 0x21:
            point.count = int.from_bytes(value, "little")
        elif tag == 0x29:
            point.total = double(value)[0]
        elif tag == 0x32:
            point.quantiles.append(_quantile(value))
        elif tag == 0x40:
            point.flags = value & _UINT32
    return point


def _quantile(content: bytes) -> tuple[float, float]:
    quantile = number = 0.0
    for tag, value in scan(content):
        if tag == 0x09:
            quantile = double(value)[0]
        elif tag == 0x11:
            number = double(value)[0]
    return quantile, number


_POINT_READERS: dict[PointKind, Callable[[bytes], AnyPoint]] = {
    "gauge": _number_point,
    "sum": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
    "summary": _summary_point,
}

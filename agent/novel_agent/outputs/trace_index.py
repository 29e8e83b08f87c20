"""Where the spans of a traces payload stand and what can be asked of them without decoding: 65 bytes a span.

Reading goes in slices, so that whoever runs it can let others have a turn in between. Work is counted in steps of one to
two microseconds; a slice is 1,500 of them.
"""

from collections.abc import Generator, Iterator
from struct import Struct
from typing import NamedTuple

import msgspec

from novel_agent.model.span import STATUS_ERROR, Span
from novel_agent.model.value import as_text
from novel_agent.wire.otlp_read import origin_of, read_span
from novel_agent.wire.otlp_values import WIRE_TYPES, fault, varint_at
from novel_agent.wire.protobuf import WireError

STEPS_A_SLICE = 1500
LARGEST_SPAN_BYTES = 1 << 20
"""What is larger is not shown: a span is decoded in one go."""
LARGEST_ORIGIN_BYTES = 64 << 10
UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry calls a resource that has no `service.name`."""
NO_SPAN = bytes(8)

_NO_TRACE = bytes(16)
_INNER = 0x12
_RESOURCE_SPANS = 0x0A
_PAGE_BYTES = 320
_SHARED_BYTES = 200
_MOST_SHARED = 4096
_UINT64 = (1 << 64) - 1
_record = Struct("<16s8s8sQQIIIIB")


class Operation(NamedTuple):
    """What spans have in common. `kind` is one of `model.span.KINDS` by number."""

    service: str
    name: str
    kind: int


class Source(msgspec.Struct, frozen=True):
    """A resource and a scope, as `wire.otlp_read.origin_of` takes them."""

    resource_fields: bytes
    scope_fields: bytes
    service: str


class Row(NamedTuple):
    """One span; times in nanoseconds; a root's parent is `NO_SPAN`. `operation` and `source` are indices of its page."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    start_unix_nano: int
    duration_nano: int
    offset: int
    size_bytes: int
    operation: int
    source: int
    failed: int


class Page(msgspec.Struct, frozen=True):
    """The spans of one payload. `size_bytes` is about what the page takes in memory."""

    records: bytes = b""
    operations: tuple[Operation, ...] = ()
    sources: tuple[Source, ...] = ()
    size_bytes: int = 0
    skipped: int = 0
    """Spans that are not among the records: without valid ids, or too large."""

    def rows(self) -> Iterator[Row]:
        """Every span."""
        return map(Row._make, _record.iter_unpack(self.records))


EMPTY = Page()


class Pace:
    """Counts steps; `spend` says whether a slice is over."""

    def __init__(self) -> None:
        self._left = STEPS_A_SLICE

    def spend(self, steps: int) -> bool:
        """Whether it is time to let others have a turn."""
        self._left -= steps
        if self._left > 0:
            return False
        self._left = STEPS_A_SLICE
        return True


class Shared:
    """What pages have in common, so that each holds only references. Forgets everything when it has 4,096 of a kind."""

    def __init__(self) -> None:
        self._operations: dict[Operation, Operation] = {}
        self._sources: dict[tuple[bytes, bytes], Source] = {}

    def operation(self, operation: Operation) -> tuple[Operation, int]:
        """The one to use, and the bytes it takes where it is new."""
        known = self._operations.get(operation)
        if known is not None:
            return known, 0
        if len(self._operations) >= _MOST_SHARED:
            self._operations.clear()
        self._operations[operation] = operation
        return operation, _SHARED_BYTES + len(operation.name)

    def source(self, resource_fields: bytes, scope_fields: bytes) -> tuple[Source, int]:
        """The one to use, and the bytes it takes where it is new."""
        known = self._sources.get((resource_fields, scope_fields))
        if known is not None:
            return known, 0
        if len(self._sources) >= _MOST_SHARED:
            self._sources.clear()
        name = as_text(origin_of(resource_fields, scope_fields).resource.get("service.name"))
        source = Source(resource_fields, scope_fields, name or UNKNOWN_SERVICE)
        self._sources[resource_fields, scope_fields] = source
        return source, _SHARED_BYTES + len(resource_fields) + len(scope_fields)


Reading = Generator[None, None, None]
"""Work in slices: it yields at the end of each."""


class PageReader:
    """Reads one payload, into a page of about `most_bytes` at most: run `read` to its end, then take `page`."""

    def __init__(self, payload: bytes, shared: Shared, pace: Pace, most_bytes: int) -> None:
        self._payload = payload
        self._shared = shared
        self._pace = pace
        self._most_bytes = most_bytes
        self._records = bytearray()
        self._operations: dict[Operation, int] = {}
        self._sources: list[Source] = []
        self._size_bytes = _PAGE_BYTES
        self._skipped = 0

    def page(self) -> Page:
        """What was read."""
        size = self._size_bytes + len(self._records)
        return Page(bytes(self._records), tuple(self._operations), tuple(self._sources), size, self._skipped)

    @property
    def _full(self) -> bool:
        return self._size_bytes + len(self._records) >= self._most_bytes

    def read(self) -> Reading:
        """WireError where the payload is malformed."""
        for tag, _, start, stop in self._fields(0, len(self._payload)):
            if self._pace.spend(1):
                yield
            if tag == _RESOURCE_SPANS:
                yield from self._resource_spans(start, stop)

    def _resource_spans(self, start: int, stop: int) -> Reading:
        resource_fields = bytearray()
        yield from self._beside_inner(start, stop, resource_fields)
        fields = bytes(resource_fields)
        for tag, _, begin, end in self._fields(start, stop):
            if self._pace.spend(1):
                yield
            if tag == _INNER:
                yield from self._scope_spans(fields, begin, end)

    def _scope_spans(self, resource_fields: bytes, start: int, stop: int) -> Reading:
        scope_fields = bytearray()
        yield from self._beside_inner(start, stop, scope_fields)
        source = self._source(resource_fields, bytes(scope_fields))
        index = len(self._sources) - 1
        for tag, _, begin, end in self._fields(start, stop):
            if tag != _INNER:
                continue
            if source is None or end - begin > LARGEST_SPAN_BYTES or self._full:
                self._skipped += 1
                steps = 1
            else:
                self._add(source, index, begin, end)
                steps = 8 + (end - begin) // 50
            if self._pace.spend(steps):
                yield

    def _beside_inner(self, start: int, stop: int, found: bytearray) -> Reading:
        """Collect every field but the messages within; beyond what an origin may have, nothing more."""
        for tag, begin, _, end in self._fields(start, stop):
            if self._pace.spend(1):
                yield
            if tag != _INNER and len(found) <= LARGEST_ORIGIN_BYTES:
                found += self._payload[begin : min(end, begin + LARGEST_ORIGIN_BYTES + 1)]

    def _source(self, resource_fields: bytes, scope_fields: bytes) -> Source | None:
        if len(resource_fields) + len(scope_fields) > LARGEST_ORIGIN_BYTES or self._full:
            return None
        source, size_bytes = self._shared.source(resource_fields, scope_fields)
        self._size_bytes += size_bytes + 8
        self._sources.append(source)
        return source

    def _add(self, source: Source, index: int, begin: int, end: int) -> None:
        span = read_span(self._payload[begin:end])
        if len(span.trace_id) != 16 or len(span.span_id) != 8 or span.trace_id == _NO_TRACE or span.span_id == NO_SPAN:
            self._skipped += 1
            return
        self._records += _record.pack(
            span.trace_id,
            span.span_id,
            span.parent_span_id if len(span.parent_span_id) == 8 else NO_SPAN,
            span.start_unix_nano & _UINT64,
            max(0, span.end_unix_nano - span.start_unix_nano) & _UINT64,
            begin,
            end - begin,
            self._operation(source, span),
            index,
            span.status_code == STATUS_ERROR,
        )

    def _operation(self, source: Source, span: Span) -> int:
        operation = Operation(source.service, span.name, span.kind)
        index = self._operations.get(operation)
        if index is None:
            operation, size_bytes = self._shared.operation(operation)
            self._size_bytes += size_bytes + 8
            index = self._operations[operation] = len(self._operations)
        return index

    def _fields(self, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Of each field the tag, where it begins, where its content begins and where it ends."""
        payload = self._payload
        try:
            while position < end:
                begin = position
                tag, start = varint_at(payload, position)
                kind = tag & 7
                if kind == 2:
                    size, start = varint_at(payload, start)
                    position = start + size
                elif kind == 0:
                    _, position = varint_at(payload, start)
                else:
                    position = start + (8 if kind == 1 else 4)
                if position > end or kind not in WIRE_TYPES:
                    raise fault(tag)
                yield tag, begin, start, position
        except IndexError:
            raise WireError("cut off within a varint") from None

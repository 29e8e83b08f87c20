"""Spans, decoded, for processors and stores that look inside (opentelemetry-proto, trace/v1); what passes stays bytes."""

from typing import NamedTuple

import msgspec

from novel_agent.model.value import Attributes, Origin

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)
STATUS_UNSET, STATUS_OK, STATUS_ERROR = range(3)


class SpanEvent(msgspec.Struct, kw_only=True):
    """Something that happened within a span; time in nanoseconds since the epoch."""

    time_unix_nano: int = 0
    name: str = ""
    attributes: Attributes = msgspec.field(default_factory=dict)
    dropped_attributes: int = 0


class SpanLink(msgspec.Struct, kw_only=True):
    """Another span that this one has to do with."""

    trace_id: bytes = b""
    span_id: bytes = b""
    trace_state: str = ""
    attributes: Attributes = msgspec.field(default_factory=dict)
    flags: int = 0
    dropped_attributes: int = 0


class Span(msgspec.Struct, kw_only=True):
    """One span; times in nanoseconds since the epoch, ids as bytes (16 and 8; `parent_span_id` empty for a root)."""

    trace_id: bytes = b""
    span_id: bytes = b""
    parent_span_id: bytes = b""
    trace_state: str = ""
    name: str = ""
    kind: int = UNSPECIFIED
    start_unix_nano: int = 0
    end_unix_nano: int = 0
    attributes: Attributes = msgspec.field(default_factory=dict)
    events: list[SpanEvent] = msgspec.field(default_factory=list)
    links: list[SpanLink] = msgspec.field(default_factory=list)
    status_code: int = STATUS_UNSET
    status_message: str = ""
    flags: int = 0
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0

    @property
    def seconds(self) -> float:
        """How long it took; 0 where the clock went backwards."""
        return max(0, self.end_unix_nano - self.start_unix_nano) / 1e9


class SpanGroup(NamedTuple):
    """The spans of one scope of one resource.

    `raw` holds the content of each span's message, in the same order; the two last are as in `RawGroup`, for `assemble`.
    What is made by hand has neither.
    """

    origin: Origin
    spans: list[Span]
    raw: list[memoryview]
    resource_fields: bytes = b""
    scope_fields: bytes = b""

"""Log records, decoded: for outputs of another protocol and processors that look inside (opentelemetry-proto, logs/v1)."""

from typing import NamedTuple

import msgspec

from novel_agent.model.value import Attributes, Origin, Value


class LogRecord(msgspec.Struct, kw_only=True):
    """One record; times in nanoseconds since the epoch, 0 where unknown. Ids are bytes, empty where there is none."""

    time_unix_nano: int = 0
    observed_unix_nano: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: Value = None
    attributes: Attributes = msgspec.field(default_factory=dict)
    trace_id: bytes = b""
    span_id: bytes = b""
    flags: int = 0
    event_name: str = ""
    dropped_attributes: int = 0


class LogGroup(NamedTuple):
    """The records of one scope of one resource.

    `raw` holds the content of each record's message, in the same order; the two last are as in `RawGroup`, for `assemble`.
    What is made by hand has neither.
    """

    origin: Origin
    records: list[LogRecord]
    raw: list[memoryview]
    resource_fields: bytes = b""
    scope_fields: bytes = b""

"""What an attribute or a body may hold (opentelemetry-proto 1.11, common/v1: AnyValue), and who decoded data is from."""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple, TypeAlias

import msgspec

Value: TypeAlias = "str | bool | int | float | bytes | list[Value] | dict[str, Value] | None"
"""None is an AnyValue without a value. A list is an ArrayValue, a dict a KeyValueList: of a key that stands twice the last."""

Attributes: TypeAlias = dict[str, Value]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The resource and the instrumentation scope that a group of spans, records or metrics stands under.

    Readers give one object for equal origins, so its attributes belong to everybody: make another instead of editing them.
    `entity_refs` are EntityRef messages as they came.
    """

    resource: Attributes
    scope: str = ""
    scope_version: str = ""
    scope_attributes: Attributes = msgspec.field(default_factory=dict)
    resource_schema_url: str = ""
    scope_schema_url: str = ""
    resource_dropped_attributes: int = 0
    scope_dropped_attributes: int = 0
    entity_refs: tuple[bytes, ...] = ()


class RawGroup(NamedTuple):
    """One scope of one resource as it came: everything but its items as fields ready to be written again, tags included.

    `resource_fields` are those of its ResourceSpans, -Logs or -Metrics beside the scopes (the resource, the schema URL, what
    is unknown), `scope_fields` those of its ScopeSpans, -Logs or -Metrics beside the items. `items` hold the content of each
    span, record or metric.
    """

    resource_fields: bytes
    scope_fields: bytes
    items: Sequence[bytes | memoryview]


def as_text(value: Value) -> str:
    """A value where only text fits (a label, a tag): text as it is, true and false, numbers in decimal, else JSON.

    Bytes are base64 and numbers that are not finite are named, both as OTLP JSON has them.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return msgspec.json.encode(value).decode().strip('"')

"""OTLP protobuf bytes to OTLP JSON (opentelemetry-proto 1.11, docs/specification.md "JSON Protobuf Encoding").

Driven by tables, one a message: field number to name and type. Another signal is another few tables. The mapping is proto3's
JSON mapping (protobuf.dev/programming-guides/json) with OTLP's exceptions: trace and span ids are hex, enums are integers.
64-bit integers are strings, NaN and the infinities are named, other bytes are base64; unknown fields are left out, and so
are fields whose wire type is not theirs. A field that is written is shown, also where it holds its default.
"""

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import msgspec

from novel_agent.model.batch import Signal
from novel_agent.wire.protobuf import (
    FIXED32,
    FIXED64,
    LENGTH_DELIMITED,
    VARINT,
    WireError,
    fields,
    read_varint,
    signed,
    zigzag,
)

_DEEPEST = 100
"""As protobuf's own implementations; what nests deeper (an attribute within an attribute …) is refused."""

_unpack_double = struct.Struct("<d").unpack


class _Scalar(NamedTuple):
    """How a field that is not a message is written, and what it becomes."""

    wire_type: int
    show: Callable[[Any], Any]


def _double(value: memoryview) -> float | str:
    (number,) = _unpack_double(value)
    if math.isfinite(number):
        return number  # type: ignore[no-any-return]
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _unsigned(value: memoryview) -> str:
    return str(int.from_bytes(value, "little"))


def _int64(value: int) -> str:
    return str(signed(value))


def _int32(value: int) -> int:
    low = value & 0xFFFF_FFFF
    return low - (1 << 32) if low >= 1 << 31 else low


STRING = _Scalar(LENGTH_DELIMITED, lambda value: str(value, "utf-8", "replace"))
BYTES = _Scalar(LENGTH_DELIMITED, lambda value: b64encode(value).decode())
ID = _Scalar(LENGTH_DELIMITED, lambda value: value.hex())
BOOL = _Scalar(VARINT, bool)
ENUM = INT32 = _Scalar(VARINT, _int32)
UINT32 = _Scalar(VARINT, lambda value: value & 0xFFFF_FFFF)
SINT32 = _Scalar(VARINT, zigzag)
INT64 = _Scalar(VARINT, _int64)
UINT64 = _Scalar(VARINT, str)
FIXED_UINT32 = _Scalar(FIXED32, lambda value: int.from_bytes(value, "little"))
FIXED_UINT64 = _Scalar(FIXED64, _unsigned)
FIXED_INT64 = _Scalar(FIXED64, lambda value: str(int.from_bytes(value, "little", signed=True)))
DOUBLE = _Scalar(FIXED64, _double)


class _Field(NamedTuple):
    """One field: `type` is a scalar or the name of a message; of the fields of one `choice` only the last written counts."""

    name: str
    type: _Scalar | str
    repeated: bool = False
    choice: str = ""


def _many(name: str, kind: _Scalar | str) -> _Field:
    return _Field(name, kind, repeated=True)


def _either(choice: str, name: str, kind: _Scalar | str) -> _Field:
    return _Field(name, kind, choice=choice)


_ATTRIBUTES = _many("attributes", "KeyValue")
_SCHEMA_URL = _Field("schemaUrl", STRING)
_DROPPED_ATTRIBUTES = _Field("droppedAttributesCount", UINT32)
_START = _Field("startTimeUnixNano", FIXED_UINT64)
_TIME = _Field("timeUnixNano", FIXED_UINT64)
_FLAGS = _Field("flags", UINT32)
_EXEMPLARS = _many("exemplars", "Exemplar")
_AS_DOUBLE = _either("value", "asDouble", DOUBLE)
_AS_INT = _either("value", "asInt", FIXED_INT64)
_COUNT = _Field("count", FIXED_UINT64)
_SUM = _Field("sum", DOUBLE)

_COMMON: dict[str, dict[int, _Field]] = {
    "AnyValue": {
        1: _either("value", "stringValue", STRING),
        2: _either("value", "boolValue", BOOL),
        3: _either("value", "intValue", INT64),
        4: _either("value", "doubleValue", DOUBLE),
        5: _either("value", "arrayValue", "ArrayValue"),
        6: _either("value", "kvlistValue", "KeyValueList"),
        7: _either("value", "bytesValue", BYTES),
    },
    "ArrayValue": {1: _many("values", "AnyValue")},
    "KeyValueList": {1: _many("values", "KeyValue")},
    "KeyValue": {1: _Field("key", STRING), 2: _Field("value", "AnyValue")},
    "InstrumentationScope": {
        1: _Field("name", STRING),
        2: _Field("version", STRING),
        3: _ATTRIBUTES,
        4: _DROPPED_ATTRIBUTES,
    },
    "EntityRef": {
        1: _SCHEMA_URL,
        2: _Field("type", STRING),
        3: _many("idKeys", STRING),
        4: _many("descriptionKeys", STRING),
    },
    "Resource": {1: _ATTRIBUTES, 2: _DROPPED_ATTRIBUTES, 3: _many("entityRefs", "EntityRef")},
}

_METRICS: dict[str, dict[int, _Field]] = {
    "ExportMetricsServiceRequest": {1: _many("resourceMetrics", "ResourceMetrics")},
    "ResourceMetrics": {1: _Field("resource", "Resource"), 2: _many("scopeMetrics", "ScopeMetrics"), 3: _SCHEMA_URL},
    "ScopeMetrics": {1: _Field("scope", "InstrumentationScope"), 2: _many("metrics", "Metric"), 3: _SCHEMA_URL},
    "Metric": {
        1: _Field("name", STRING),
        2: _Field("description", STRING),
        3: _Field("unit", STRING),
        5: _either("data", "gauge", "Gauge"),
        7: _either("data", "sum", "Sum"),
        9: _either("data", "histogram", "Histogram"),
        10: _either("data", "exponentialHistogram", "ExponentialHistogram"),
        11: _either("data", "summary", "Summary"),
        12: _many("metadata", "KeyValue"),
    },
    "Gauge": {1: _many("dataPoints", "NumberDataPoint")},
    "Sum": {
        1: _many("dataPoints", "NumberDataPoint"),
        2: _Field("aggregationTemporality", ENUM),
        3: _Field("isMonotonic", BOOL),
    },
    "Histogram": {1: _many("dataPoints", "HistogramDataPoint"), 2: _Field("aggregationTemporality", ENUM)},
    "ExponentialHistogram": {
        1: _many("dataPoints", "ExponentialHistogramDataPoint"),
        2: _Field("aggregationTemporality", ENUM),
    },
    "Summary": {1: _many("dataPoints", "SummaryDataPoint")},
    "NumberDataPoint": {
        2: _START,
        3: _TIME,
        4: _AS_DOUBLE,
        5: _EXEMPLARS,
        6: _AS_INT,
        7: _ATTRIBUTES,
        8: _FLAGS,
    },
    "HistogramDataPoint": {
        2: _START,
        3: _TIME,
        4: _COUNT,
        5: _SUM,
        6: _many("bucketCounts", FIXED_UINT64),
        7: _many("explicitBounds", DOUBLE),
        8: _EXEMPLARS,
        9: _ATTRIBUTES,
        10: _FLAGS,
        11: _Field("min", DOUBLE),
        12: _Field("max", DOUBLE),
    },
    "ExponentialHistogramDataPoint": {
        1: _ATTRIBUTES,
        2: _START,
        3: _TIME,
        4: _COUNT,
        5: _SUM,
        6: _Field("scale", SINT32),
        7: _Field("zeroCount", FIXED_UINT64),
        8: _Field("positive", "Buckets"),
        9: _Field("negative", "Buckets"),
        10: _FLAGS,
        11: _EXEMPLARS,
        12: _Field("min", DOUBLE),
        13: _Field("max", DOUBLE),
        14: _Field("zeroThreshold", DOUBLE),
    },
    "Buckets": {1: _Field("offset", SINT32), 2: _many("bucketCounts", UINT64)},
    "SummaryDataPoint": {
        2: _START,
        3: _TIME,
        4: _COUNT,
        5: _SUM,
        6: _many("quantileValues", "ValueAtQuantile"),
        7: _ATTRIBUTES,
        8: _FLAGS,
    },
    "ValueAtQuantile": {1: _Field("quantile", DOUBLE), 2: _Field("value", DOUBLE)},
    "Exemplar": {
        2: _TIME,
        3: _AS_DOUBLE,
        4: _Field("spanId", ID),
        5: _Field("traceId", ID),
        6: _AS_INT,
        7: _many("filteredAttributes", "KeyValue"),
    },
}

_MESSAGES = _COMMON | _METRICS
_REQUESTS: dict[Signal, str] = {"metrics": "ExportMetricsServiceRequest"}


def request_to_json(signal: Signal, payload: bytes) -> bytes:
    """An export request's protobuf bytes as JSON; WireError where they are not protobuf or nest too deeply."""
    return msgspec.json.encode(_message(payload, _MESSAGES[_REQUESTS[signal]], 1))


def _message(data: bytes | memoryview, table: dict[int, _Field], depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise WireError(f"messages nested more than {_DEEPEST} deep")
    shown: dict[str, Any] = {}
    pieces: dict[_Field, list[memoryview]] = {}
    chosen: dict[str, _Field] = {}
    for number, wire_type, value in fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.repeated:
            if items := list(_items(field.type, wire_type, value, depth)):
                shown.setdefault(field.name, []).extend(items)
            continue
        if wire_type != _wire_type(field.type):
            continue
        if field.choice:
            before = chosen.setdefault(field.choice, field)
            if before is not field:
                chosen[field.choice] = field
                shown.pop(before.name, None)
                pieces.pop(before, None)
        if isinstance(field.type, _Scalar):
            shown[field.name] = field.type.show(value)
        else:
            shown[field.name] = None
            pieces.setdefault(field, []).append(cast(memoryview, value))
    for field, parts in pieces.items():  # a message field written twice is one message: the two merged
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        shown[field.name] = _message(content, _MESSAGES[cast(str, field.type)], depth + 1)
    return shown


def _wire_type(kind: _Scalar | str) -> int:
    return LENGTH_DELIMITED if isinstance(kind, str) else kind.wire_type


def _items(kind: _Scalar | str, wire_type: int, value: Any, depth: int) -> Iterator[Any]:
    """What one occurrence of a repeated field holds: one item, or several numbers packed."""
    if isinstance(kind, str):
        if wire_type == LENGTH_DELIMITED:
            yield _message(value, _MESSAGES[kind], depth + 1)
    elif wire_type == kind.wire_type:
        yield kind.show(value)
    elif wire_type == LENGTH_DELIMITED:
        yield from map(kind.show, _unpacked(value, kind.wire_type))


def _unpacked(packed: memoryview, wire_type: int) -> Iterator[Any]:
    """The numbers of a packed field, as `fields` would give each."""
    position = 0
    if wire_type == VARINT:
        while position < len(packed):
            number, position = read_varint(packed, position)
            yield number
        return
    size = 8 if wire_type == FIXED64 else 4
    if len(packed) % size:
        raise WireError("a packed field that ends within a number")
    for position in range(0, len(packed), size):
        yield packed[position : position + size]

"""The messages of OTLP as tables (opentelemetry-proto 1.11): of each its fields by number, with JSON name and type.

What reads, writes or checks OTLP by schema is driven by these. Fields of profiles alone (`key_strindex`,
`string_value_strindex`) are left out and so count as unknown.
"""

from typing import NamedTuple

from novel_agent.model.batch import Signal
from novel_agent.wire.protobuf import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT

DEEPEST = 100
"""How many messages may stand within each other, as in protobuf's own implementations."""


class Scalar(NamedTuple):
    """How a field that is not a message is written; `names` are an enum's values from 0 on."""

    name: str
    wire_type: int
    names: tuple[str, ...] = ()


STRING = Scalar("string", LENGTH_DELIMITED)
BYTES = Scalar("bytes", LENGTH_DELIMITED)
ID = Scalar("id", LENGTH_DELIMITED)
BOOL = Scalar("bool", VARINT)
UINT32 = Scalar("uint32", VARINT)
SINT32 = Scalar("sint32", VARINT)
INT64 = Scalar("int64", VARINT)
UINT64 = Scalar("uint64", VARINT)
FIXED_UINT32 = Scalar("fixed32", FIXED32)
FIXED_UINT64 = Scalar("fixed64", FIXED64)
FIXED_INT64 = Scalar("sfixed64", FIXED64)
DOUBLE = Scalar("double", FIXED64)


class Field(NamedTuple):
    """One field: `type` is a scalar or the name of a message.

    Of the fields of one `choice` only the last written counts. A field of a choice, and one that is `optional`, says something
    also where it holds its default.
    """

    name: str
    type: Scalar | str
    repeated: bool = False
    choice: str = ""
    optional: bool = False


def _many(name: str, kind: Scalar | str) -> Field:
    return Field(name, kind, repeated=True)


def _either(choice: str, name: str, kind: Scalar | str) -> Field:
    return Field(name, kind, choice=choice)


def _enum(*names: str) -> Scalar:
    return Scalar("enum", VARINT, names)


_ATTRIBUTES = _many("attributes", "KeyValue")
_SCHEMA_URL = Field("schemaUrl", STRING)
_DROPPED_ATTRIBUTES = Field("droppedAttributesCount", UINT32)
_START = Field("startTimeUnixNano", FIXED_UINT64)
_TIME = Field("timeUnixNano", FIXED_UINT64)
_POINT_FLAGS = Field("flags", UINT32)
_EXEMPLARS = _many("exemplars", "Exemplar")
_AS_DOUBLE = _either("value", "asDouble", DOUBLE)
_AS_INT = _either("value", "asInt", FIXED_INT64)
_COUNT = Field("count", FIXED_UINT64)
_SUM = Field("sum", DOUBLE, optional=True)
_MIN = Field("min", DOUBLE, optional=True)
_MAX = Field("max", DOUBLE, optional=True)
_TEMPORALITY = Field(
    "aggregationTemporality",
    _enum("AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"),
)
_TRACE_ID = Field("traceId", ID)
_SPAN_ID = Field("spanId", ID)
_TRACE_STATE = Field("traceState", STRING)
_TRACE_FLAGS = Field("flags", FIXED_UINT32)

_COMMON: dict[str, dict[int, Field]] = {
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
    "KeyValue": {1: Field("key", STRING), 2: Field("value", "AnyValue")},
    "InstrumentationScope": {
        1: Field("name", STRING),
        2: Field("version", STRING),
        3: _ATTRIBUTES,
        4: _DROPPED_ATTRIBUTES,
    },
    "EntityRef": {
        1: _SCHEMA_URL,
        2: Field("type", STRING),
        3: _many("idKeys", STRING),
        4: _many("descriptionKeys", STRING),
    },
    "Resource": {1: _ATTRIBUTES, 2: _DROPPED_ATTRIBUTES, 3: _many("entityRefs", "EntityRef")},
}

_METRICS: dict[str, dict[int, Field]] = {
    "ExportMetricsServiceRequest": {1: _many("resourceMetrics", "ResourceMetrics")},
    "ResourceMetrics": {1: Field("resource", "Resource"), 2: _many("scopeMetrics", "ScopeMetrics"), 3: _SCHEMA_URL},
    "ScopeMetrics": {1: Field("scope", "InstrumentationScope"), 2: _many("metrics", "Metric"), 3: _SCHEMA_URL},
    "Metric": {
        1: Field("name", STRING),
        2: Field("description", STRING),
        3: Field("unit", STRING),
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
        2: _TEMPORALITY,
        3: Field("isMonotonic", BOOL),
    },
    "Histogram": {1: _many("dataPoints", "HistogramDataPoint"), 2: _TEMPORALITY},
    "ExponentialHistogram": {
        1: _many("dataPoints", "ExponentialHistogramDataPoint"),
        2: _TEMPORALITY,
    },
    "Summary": {1: _many("dataPoints", "SummaryDataPoint")},
    "NumberDataPoint": {
        2: _START,
        3: _TIME,
        4: _AS_DOUBLE,
        5: _EXEMPLARS,
        6: _AS_INT,
        7: _ATTRIBUTES,
        8: _POINT_FLAGS,
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
        10: _POINT_FLAGS,
        11: _MIN,
        12: _MAX,
    },
    "ExponentialHistogramDataPoint": {
        1: _ATTRIBUTES,
        2: _START,
        3: _TIME,
        4: _COUNT,
        5: _SUM,
        6: Field("scale", SINT32),
        7: Field("zeroCount", FIXED_UINT64),
        8: Field("positive", "Buckets"),
        9: Field("negative", "Buckets"),
        10: _POINT_FLAGS,
        11: _EXEMPLARS,
        12: _MIN,
        13: _MAX,
        14: Field("zeroThreshold", DOUBLE),
    },
    "Buckets": {1: Field("offset", SINT32), 2: _many("bucketCounts", UINT64)},
    "SummaryDataPoint": {
        2: _START,
        3: _TIME,
        4: _COUNT,
        5: Field("sum", DOUBLE),
        6: _many("quantileValues", "ValueAtQuantile"),
        7: _ATTRIBUTES,
        8: _POINT_FLAGS,
    },
    "ValueAtQuantile": {1: Field("quantile", DOUBLE), 2: Field("value", DOUBLE)},
    "Exemplar": {
        2: _TIME,
        3: _AS_DOUBLE,
        4: _SPAN_ID,
        5: _TRACE_ID,
        6: _AS_INT,
        7: _many("filteredAttributes", "KeyValue"),
    },
}

_SPAN_KIND = _enum(
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
_TRACES: dict[str, dict[int, Field]] = {
    "ExportTraceServiceRequest": {1: _many("resourceSpans", "ResourceSpans")},
    "ResourceSpans": {1: Field("resource", "Resource"), 2: _many("scopeSpans", "ScopeSpans"), 3: _SCHEMA_URL},
    "ScopeSpans": {1: Field("scope", "InstrumentationScope"), 2: _many("spans", "Span"), 3: _SCHEMA_URL},
    "Span": {
        1: _TRACE_ID,
        2: _SPAN_ID,
        3: _TRACE_STATE,
        4: Field("parentSpanId", ID),
        5: Field("name", STRING),
        6: Field("kind", _SPAN_KIND),
        7: _START,
        8: Field("endTimeUnixNano", FIXED_UINT64),
        9: _ATTRIBUTES,
        10: _DROPPED_ATTRIBUTES,
        11: _many("events", "Event"),
        12: Field("droppedEventsCount", UINT32),
        13: _many("links", "Link"),
        14: Field("droppedLinksCount", UINT32),
        15: Field("status", "Status"),
        16: _TRACE_FLAGS,
    },
    "Event": {1: _TIME, 2: Field("name", STRING), 3: _ATTRIBUTES, 4: _DROPPED_ATTRIBUTES},
    "Link": {
        1: _TRACE_ID,
        2: _SPAN_ID,
        3: _TRACE_STATE,
        4: _ATTRIBUTES,
        5: _DROPPED_ATTRIBUTES,
        6: _TRACE_FLAGS,
    },
    "Status": {
        2: Field("message", STRING),
        3: Field("code", _enum("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")),
    },
}

_SEVERITY = _enum(
    "SEVERITY_NUMBER_UNSPECIFIED",
    *(
        f"SEVERITY_NUMBER_{level}{step}"
        for level in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
        for step in ("", "2", "3", "4")
    ),
)
_LOGS: dict[str, dict[int, Field]] = {
    "ExportLogsServiceRequest": {1: _many("resourceLogs", "ResourceLogs")},
    "ResourceLogs": {1: Field("resource", "Resource"), 2: _many("scopeLogs", "ScopeLogs"), 3: _SCHEMA_URL},
    "ScopeLogs": {1: Field("scope", "InstrumentationScope"), 2: _many("logRecords", "LogRecord"), 3: _SCHEMA_URL},
    "LogRecord": {
        1: _TIME,
        2: Field("severityNumber", _SEVERITY),
        3: Field("severityText", STRING),
        5: Field("body", "AnyValue"),
        6: _ATTRIBUTES,
        7: _DROPPED_ATTRIBUTES,
        8: _TRACE_FLAGS,
        9: _TRACE_ID,
        10: _SPAN_ID,
        11: Field("observedTimeUnixNano", FIXED_UINT64),
        12: Field("eventName", STRING),
    },
}

MESSAGES = _COMMON | _METRICS | _TRACES | _LOGS
REQUESTS: dict[Signal, str] = {
    "metrics": "ExportMetricsServiceRequest",
    "logs": "ExportLogsServiceRequest",
    "traces": "ExportTraceServiceRequest",
}

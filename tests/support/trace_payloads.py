"""Traces payloads as a client makes them, out of a few words a span."""

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

BEGAN = 1_790_000_000_000_000_000
"""When the first span begins unless told: 2026-09-21T14:13:20Z in nanoseconds."""
MS = 1_000_000


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(each) for each in value]))
    kinds = {str: "string_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    return AnyValue(**{kinds[type(value)]: value})


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def span(
    trace: int,
    number: int,
    name: str = "GET /",
    parent: int = 0,
    at_ms: float = 0,
    for_ms: float = 10,
    kind: int = 0,
    failed: str | None = None,
    **attributes: Any,
) -> Span:
    """A span; `failed` is the message of its error; in names of attributes `__` is a dot."""
    start = BEGAN + round(at_ms * MS)
    return Span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_span_id=span_id(parent) if parent else b"",
        name=name,
        kind=kind,
        start_time_unix_nano=start,
        end_time_unix_nano=start + round(for_ms * MS),
        status=Status(code=Status.STATUS_CODE_ERROR, message=failed) if failed is not None else None,
        attributes=pairs({key.replace("__", "."): value for key, value in attributes.items()}),
    )


def request(*spans: Span, service: str = "web", scope: str = "", **resource: Any) -> bytes:
    """One export request's bytes: all spans of one scope of one resource."""
    named = {"service.name": service} if service else {}
    group = ResourceSpans()
    group.resource.attributes.extend(pairs(named | {key.replace("__", "."): each for key, each in resource.items()}))
    scope_spans = ScopeSpans(spans=spans)
    if scope:
        scope_spans.scope.name, _, scope_spans.scope.version = scope.partition(" ")
    group.scope_spans.append(scope_spans)
    return ExportTraceServiceRequest(resource_spans=[group]).SerializeToString()

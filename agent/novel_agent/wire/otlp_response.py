"""What an OTLP server answers: export responses, google.rpc.Status and RetryInfo, as protobuf or JSON.

Sources: opentelemetry-proto 1.11 collector/*/v1, google/rpc/status.proto, google/rpc/error_details.proto. An answer that
cannot be read is an empty answer: what it would have said is advice, the status code has decided already.
"""

import json
from typing import Any, NamedTuple

from novel_agent.wire.protobuf import LENGTH_DELIMITED, VARINT, WireError, WireValue, fields, signed

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


class PartialSuccess(NamedTuple):
    """What of a batch the server did not take; it is never sent again. 0 with a message is a warning."""

    rejected_items: int = 0
    message: str = ""


class RpcStatus(NamedTuple):
    """An error in the server's words, and when it wants to be asked again if it said so."""

    message: str = ""
    retry_after_seconds: float | None = None


def partial_success(body: bytes) -> PartialSuccess:
    """From the protobuf of ExportMetrics-, ExportLogs- or ExportTraceServiceResponse, which are alike."""
    content = _last(body, 1, LENGTH_DELIMITED, b"")
    return PartialSuccess(signed(_last(content, 1, VARINT, 0)), _text(_last(content, 2, LENGTH_DELIMITED, b"")))


def partial_success_from_json(body: bytes) -> PartialSuccess:
    """The same from JSON."""
    content = _mapping(_mapping(_parsed(body)).get("partialSuccess"))
    rejected = [content[key] for key in ("rejectedDataPoints", "rejectedLogRecords", "rejectedSpans") if key in content]
    return PartialSuccess(_whole(rejected[0]) if rejected else 0, str(content.get("errorMessage") or ""))


def rpc_status(body: bytes) -> RpcStatus:
    """From the protobuf of a google.rpc.Status."""
    return RpcStatus(_text(_last(body, 2, LENGTH_DELIMITED, b"")), _retry_delay_seconds(body))


def rpc_status_from_json(body: bytes) -> RpcStatus:
    """The same from JSON; the delay is a proto3 JSON duration (`1.5s`)."""
    content = _mapping(_parsed(body))
    details = content.get("details")
    delays = [
        _seconds(_mapping(detail).get("retryDelay"))
        for detail in (details if isinstance(details, list) else [])
        if _mapping(detail).get("@type") == _RETRY_INFO
    ]
    return RpcStatus(str(content.get("message") or ""), delays[0] if delays else None)


def _retry_delay_seconds(status: bytes) -> float | None:
    for detail in _all(status, 3):
        if _text(_last(detail, 1, LENGTH_DELIMITED, b"")) == _RETRY_INFO:
            delay = _last(_last(detail, 2, LENGTH_DELIMITED, b""), 1, LENGTH_DELIMITED, b"")
            return max(0.0, signed(_last(delay, 1, VARINT, 0)) + signed(_last(delay, 2, VARINT, 0)) / 1e9)
    return None


def _walk(data: bytes | memoryview) -> list[tuple[int, int, WireValue]]:
    try:
        return list(fields(data))
    except WireError:
        return []


def _last(data: Any, number: int, wire_type: int, default: Any) -> Any:
    """The last value of a field, as protobuf reads one that is there twice."""
    values = [value for field, kind, value in _walk(data) if (field, kind) == (number, wire_type)]
    return values[-1] if values else default


def _all(data: bytes, number: int) -> list[Any]:
    return [value for field, kind, value in _walk(data) if (field, kind) == (number, LENGTH_DELIMITED)]


def _text(value: bytes | memoryview) -> str:
    return str(value, "utf-8", "replace")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _seconds(value: Any) -> float | None:
    try:
        return max(0.0, float(str(value).removesuffix("s")))
    except ValueError:
        return None

"""What an OTLP server answers: export responses, google.rpc.Status and RetryInfo, as protobuf or JSON, read and written.

Sources: opentelemetry-proto 1.11 collector/*/v1, google/rpc/status.proto, google/rpc/error_details.proto. An answer that
cannot be read is an empty answer: what it would have said is advice, the status code has decided already.
"""

import json
from typing import Any, NamedTuple

from novel_agent.model.batch import Signal
from novel_agent.wire.protobuf import (
    LENGTH_DELIMITED,
    VARINT,
    WireError,
    WireValue,
    fields,
    integer,
    length_delimited,
    signed,
    text,
)

_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_REJECTED: dict[Signal, str] = {
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
    "traces": "rejectedSpans",
}


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
    rejected = [content[key] for key in _REJECTED.values() if key in content]
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


def encode_partial_success(signal: Signal, rejected_items: int, message: str) -> bytes:
    """An export response in protobuf, which for every signal is alike; nothing rejected and no message is full success."""
    if not rejected_items and not message:
        return b""
    return length_delimited(1, integer(1, rejected_items) if rejected_items else b"", text(2, message))


def encode_partial_success_json(signal: Signal, rejected_items: int, message: str) -> bytes:
    """The same in JSON."""
    content: dict[str, str] = {}
    if rejected_items:
        content[_REJECTED[signal]] = str(rejected_items)
    if message:
        content["errorMessage"] = message
    return json.dumps({"partialSuccess": content} if content else {}).encode()


def encode_status(code: int, message: str, retry_seconds: float | None = None) -> bytes:
    """A google.rpc.Status in protobuf: a gRPC status code, and when to ask again, which only a retryable error should say."""
    status = integer(1, code) + text(2, message)
    if retry_seconds is None:
        return status
    seconds, nanoseconds = divmod(_nanoseconds(retry_seconds), 1_000_000_000)
    duration = (integer(1, seconds) if seconds else b"") + (integer(2, nanoseconds) if nanoseconds else b"")
    retry_info = length_delimited(1, duration)
    return status + length_delimited(3, text(1, _RETRY_INFO), length_delimited(2, retry_info))


def encode_status_json(code: int, message: str, retry_seconds: float | None = None) -> bytes:
    """The same in JSON."""
    status: dict[str, Any] = {"code": code, "message": message}
    if retry_seconds is not None:
        seconds, nanoseconds = divmod(_nanoseconds(retry_seconds), 1_000_000_000)
        delay = f"{seconds}.{nanoseconds:09}s" if nanoseconds else f"{seconds}s"
        status["details"] = [{"@type": _RETRY_INFO, "retryDelay": delay}]
    return json.dumps(status).encode()


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


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

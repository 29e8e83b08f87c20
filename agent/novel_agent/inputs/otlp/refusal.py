"""Why a request is refused, and how each transport says so.

Sources: opentelemetry-proto docs/specification.md (which answers a client repeats), google/rpc/code.proto.
"""

import math
from typing import NamedTuple

UNKNOWN = 2
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 3, 4, 5, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16


class Kind(NamedTuple):
    """What a refusal is in each transport; `reason` is a label."""

    reason: str
    http_status: int
    grpc_code: int


MALFORMED = Kind("malformed", 400, INVALID_ARGUMENT)
TOO_LARGE = Kind("too large", 413, RESOURCE_EXHAUSTED)
UNKNOWN_ENCODING = Kind("unknown encoding", 415, UNIMPLEMENTED)
UNKNOWN_TYPE = Kind("unknown content type", 415, INVALID_ARGUMENT)
UNKNOWN_PATH = Kind("unknown path", 404, UNIMPLEMENTED)
WRONG_METHOD = Kind("wrong method", 405, UNIMPLEMENTED)
SLOW = Kind("slow request", 408, DEADLINE_EXCEEDED)
BUSY = Kind("busy", 503, UNAVAILABLE)
QUEUE_FULL = Kind("queue full", 503, UNAVAILABLE)
DEADLINE = Kind("deadline", 504, DEADLINE_EXCEEDED)
BROKEN_CALL = Kind("broken call", 400, INTERNAL)
FAULT = Kind("fault", 500, INTERNAL)

KINDS = (
    MALFORMED,
    TOO_LARGE,
    UNKNOWN_ENCODING,
    UNKNOWN_TYPE,
    UNKNOWN_PATH,
    WRONG_METHOD,
    SLOW,
    BUSY,
    QUEUE_FULL,
    DEADLINE,
    BROKEN_CALL,
    FAULT,
)

CODE_OF_STATUS = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: NOT_FOUND,
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    415: INVALID_ARGUMENT,
    421: PERMISSION_DENIED,
    429: RESOURCE_EXHAUSTED,
    500: INTERNAL,
    503: UNAVAILABLE,
}
"""The google.rpc.Code of a refusal over HTTP."""


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """A request is not taken; `retry_after_seconds` is set where the client should send it again."""

    def __init__(self, kind: Kind, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after_seconds = retry_after_seconds


def too_large(limit_bytes: int, what: str = "the request") -> Refused:
    """More bytes than are taken, after decompression."""
    return Refused(TOO_LARGE, f"{what} is larger than {limit_bytes} bytes after decompression")


def busy() -> Refused:
    """The bytes of all requests under way are at their bound."""
    return Refused(BUSY, "too much is being received at once", retry_after_seconds=1.0)


def whole_seconds(seconds: float) -> int:
    """For Retry-After, which has no fractions: never earlier than said."""
    return max(1, math.ceil(seconds))

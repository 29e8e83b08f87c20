"""One POST over a connection of its own, with a deadline for each step; nothing is shared with a child of fork."""

import http.client
import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from monitoring._courier import Answer, Outcome

_LONGEST_ANSWER = 4 << 20
_LATER = frozenset({408, 425, 429})
_LONGEST_WISH_SECONDS = 300.0


class Target(NamedTuple):
    """Where and as whom to send."""

    url: str
    headers: Mapping[str, str]
    timeout_seconds: float


def post(target: Target, body: bytes) -> Answer:
    """Sends; OSError or http.client.HTTPException where there is no answer.

    5xx and 408, 425, 429 are for later, for an agent that starts or is overloaded answers so; what else is not 2xx is refused.
    """
    status, headers, text = request("POST", target, body)
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED)
    reason = f"{target.url} answers {status} {text[:200].decode('utf-8', 'replace')}".rstrip()
    if status >= 500 or status in _LATER:
        wish = headers.get("Retry-After") or ""
        seconds = min(float(wish), _LONGEST_WISH_SECONDS) if wish.isascii() and wish.isdecimal() else 0.0
        return Answer(Outcome.LATER, seconds, reason)
    return Answer(Outcome.REFUSED, 0.0, reason)


def request(method: str, target: Target, body: bytes | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and at most 4 MiB of the answer."""
    parts = urlsplit(target.url)
    connection = _connection(parts, target.timeout_seconds)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, dict(target.headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(_LONGEST_ANSWER)
    finally:
        connection.close()


def _connection(parts: SplitResult, timeout_seconds: float) -> http.client.HTTPConnection:
    if not parts.hostname:
        raise OSError(f"{parts.geturl()!r} is not a URL such as http://127.0.0.1:4318")
    if parts.scheme == "https":
        import ssl

        ca_file = os.environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None
        trust = ssl.create_default_context(cafile=ca_file)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_seconds, context=trust)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_seconds)

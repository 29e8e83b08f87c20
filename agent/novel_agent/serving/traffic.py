"""What the server counts about itself."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from novel_agent.model.metric import Block, Family, ShapeMemo

_REQUEST_LABELS = ("route", "method", "code")

REQUESTS = Family("novel_agent_http_requests_total", "Requests answered.", "counter", _REQUEST_LABELS)
SECONDS = Family(
    "novel_agent_http_request_seconds_total", "Time from a request's head to its answer.", "counter", _REQUEST_LABELS
)
CONNECTIONS = Family("novel_agent_http_connections", "Open connections.")
REFUSED = Family(
    "novel_agent_http_refused_total", "Requests and connections refused or cut off, by reason.", "counter", ("reason",)
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_REASONS = (
    "cross site",
    "handshake failed",
    "malformed",
    "misdirected",
    "no token",
    "slow reader",
    "slow request",
    "too large",
    "too many connections",
    "too many failures",
    "wrong token",
)


class Tally(Protocol):
    """Where a listener, its connections and `Access` count; `reason` is one of a few constants, fit for a label."""

    connections: int

    def refuse(self, reason: str) -> None:
        """Count one request or connection that was refused or cut off."""


class Traffic:
    """The API's `Tally`. Counts since start.

    Every label has few values: templates of routes, known methods, classes of status codes.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.refused = Counter[str](dict.fromkeys(_REASONS, 0))
        self._requests: dict[tuple[str, str, str], list[float]] = {}
        self._shapes = ShapeMemo()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (route, method if method in _METHODS else "other", f"{status // 100}xx")
        counted = self._requests.setdefault(key, [0, 0.0])
        counted[0] += 1
        counted[1] += seconds

    def refuse(self, reason: str) -> None:
        """Count one refusal."""
        self.refused[reason] += 1

    def blocks(self) -> Sequence[Block]:
        """The counts as series."""
        requests, reasons = tuple(self._requests), tuple(self.refused)
        shape = self._shapes.get(
            "requests", requests, lambda: [family.series(*key) for family in (REQUESTS, SECONDS) for key in requests]
        )
        rest = self._shapes.get(
            "rest", reasons, lambda: [CONNECTIONS.series(), *(REFUSED.series(reason) for reason in reasons)]
        )
        counted = list(self._requests.values())
        values = [int(count) for count, _ in counted] + [round(seconds, 6) for _, seconds in counted]
        return [Block(shape, values), Block(rest, [self.connections, *self.refused.values()])]

"""What the receivers count."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from novel_agent.inputs.otlp.refusal import KINDS
from novel_agent.model.batch import SIGNALS, Signal
from novel_agent.model.metric import Block, Family, Series, ShapeMemo

TransportName = Literal["http", "grpc"]

ITEMS = Family(
    "novel_agent_receiver_accepted_items_total",
    "Spans, log records and data points taken and as durable as configured.",
    "counter",
    ("transport", "signal"),
)
REQUESTS = Family("novel_agent_receiver_requests_total", "Requests by outcome.", "counter", ("transport", "outcome"))
REFUSED = Family(
    "novel_agent_receiver_refused_total",
    "Requests and connections refused or cut off, by reason.",
    "counter",
    ("transport", "reason"),
)
WIRE_BYTES = Family(
    "novel_agent_receiver_wire_bytes_total", "Bytes of request bodies as they came.", "counter", ("transport",)
)
BYTES = Family(
    "novel_agent_receiver_bytes_total", "Bytes of request bodies after decompression.", "counter", ("transport",)
)
CONNECTIONS = Family("novel_agent_receiver_connections", "Open connections.", "gauge", ("transport",))
IN_FLIGHT = Family("novel_agent_receiver_in_flight_bytes", "Bytes of requests in memory.")

ACCEPTED, EMPTY, REFUSED_OUTCOME, FAILED, HUNG_UP = "accepted", "empty", "refused", "failed", "hung_up"
OUTCOMES = (ACCEPTED, EMPTY, REFUSED_OUTCOME, FAILED, HUNG_UP)

_OF_CONNECTIONS = (
    "cross site",
    "flood",
    "handshake failed",
    "misdirected",
    "no token",
    "slow reader",
    "too many connections",
    "too many failures",
    "wrong token",
)
_REASONS = tuple(sorted({*_OF_CONNECTIONS, *(kind.reason for kind in KINDS)}))


class TransportStatus(msgspec.Struct, kw_only=True):
    """One receiver, as `status` shows it."""

    connections: int
    requests: dict[str, int]
    """By outcome."""
    accepted_items: dict[str, int]
    """By signal."""
    refused: dict[str, int]
    """By reason, those that were."""
    wire_bytes: int
    bytes: int


class TransportCounts:
    """The `Tally` of one receiver. Counts since start."""

    def __init__(self) -> None:
        self.connections = 0
        self.items: dict[Signal, int] = dict.fromkeys(SIGNALS, 0)
        self.requests: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.refused = Counter[str](dict.fromkeys(_REASONS, 0))
        self.wire_bytes = 0
        self.bytes = 0

    def refuse(self, reason: str) -> None:
        """Count one refusal."""
        self.refused[reason] += 1

    def accept(self, signal: Signal, items: int) -> None:
        """Count a request that was taken."""
        self.items[signal] += items
        self.requests[ACCEPTED if items else EMPTY] += 1

    def status(self) -> TransportStatus:
        """What there is to see."""
        return TransportStatus(
            connections=self.connections,
            requests=dict(self.requests),
            accepted_items={str(signal): items for signal, items in self.items.items()},
            refused={reason: count for reason, count in self.refused.items() if count},
            wire_bytes=self.wire_bytes,
            bytes=self.bytes,
        )


class Counts:
    """Of all receivers; those that were never asked for have no series."""

    def __init__(self) -> None:
        self._transports: dict[TransportName, TransportCounts] = {}
        self._shapes = ShapeMemo()

    def of(self, transport: TransportName) -> TransportCounts:
        """Of one receiver; the same object as long as this lives, so that counts outlive a restart of the receiver."""
        return self._transports.setdefault(transport, TransportCounts())

    def status(self) -> dict[str, TransportStatus]:
        """By transport."""
        return {name: counts.status() for name, counts in self._transports.items()}

    def blocks(self, in_flight_bytes: int) -> Sequence[Block]:
        """The counts as series."""
        keys = tuple((name, tuple(counts.refused)) for name, counts in self._transports.items())
        if not keys:
            return []
        shape = self._shapes.get("all", keys, lambda: _series(keys))
        all_counts = self._transports.values()
        values: list[int | float] = [
            *(items for counts in all_counts for items in counts.items.values()),
            *(requests for counts in all_counts for requests in counts.requests.values()),
            *(count for counts in all_counts for count in counts.refused.values()),
            *(counts.wire_bytes for counts in all_counts),
            *(counts.bytes for counts in all_counts),
            *(counts.connections for counts in all_counts),
            in_flight_bytes,
        ]
        return [Block(shape, values)]


def _series(keys: Sequence[tuple[str, tuple[str, ...]]]) -> list[Series]:
    names = [name for name, _ in keys]
    return [
        *(ITEMS.series(name, signal) for name in names for signal in SIGNALS),
        *(REQUESTS.series(name, outcome) for name in names for outcome in OUTCOMES),
        *(REFUSED.series(name, reason) for name, reasons in keys for reason in reasons),
        *(WIRE_BYTES.series(name) for name in names),
        *(BYTES.series(name) for name in names),
        *(CONNECTIONS.series(name) for name in names),
        IN_FLIGHT.series(),
    ]

"""OpenTelemetry's metrics of ports that are no network interfaces: Fibre Channel, InfiniBand (conventions 1.44, hw.network)."""

from novel_agent.model.metric import Family

_PORT = ("hw.id",)
_DIRECTED = (*_PORT, "network.io.direction")

IO = Family("hw.network.io", "Received and transmitted network traffic in bytes", "counter", _DIRECTED, unit="By")
PACKETS = Family(
    "hw.network.packets",
    "Received and transmitted network traffic in packets (or frames)",
    "counter",
    _DIRECTED,
    unit="{packet}",
)
UP = Family("hw.network.up", "Link status: 1 (up) or 0 (down)", "updowncounter", _PORT, unit="1")
SPEED = Family("hw.network.bandwidth.limit", "Link speed", "updowncounter", _PORT, unit="By/s")
ERRORS = Family(
    "hw.errors",
    "Number of errors encountered by the component",
    "counter",
    ("hw.id", "hw.type", "error.type"),
    unit="{error}",
)

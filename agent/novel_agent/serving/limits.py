"""What one client may ask of the server."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of connections and requests; beyond them a client is refused or cut off, and counted.

    A request's head must arrive within `head_seconds` of its first byte, the first one of the connection being made, and
    its body within `body_seconds`; an answer must be taken within `write_seconds`. Between requests a connection may be
    quiet for `idle_seconds`, longer than most scrape intervals.
    """

    connections: int = 1024
    idle_seconds: float = 120.0
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    write_seconds: float = 30.0
    handshake_seconds: float = 5.0
    stop_seconds: float = 5.0
    line_bytes: int = 8 << 10
    field_bytes: int = 8 << 10
    head_bytes: int = 32 << 10
    headers: int = 64
    body_bytes: int = 1 << 20
    read_bytes: int = 256 << 10
    """Of a body, before it is read: a connection buffers up to twice as much."""
    failures_waiting: int = 4
    """Of one peer; see `access`."""
    all_failures_waiting: int = 64
    failure_seconds: float = 1.0

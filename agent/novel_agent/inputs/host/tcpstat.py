"""TCP sockets by state: over netlink where /proc is live, else from /proc/net/tcp and tcp6.

The kernel walks its whole table of connections for every answer, so one request serves both families: the older form of
it, TCPDIAG_GETSOCK, is not bound to one (net/ipv4/inet_diag.c). The files differ in one thing: netlink gives the longest
queue of a listening socket as if it were bytes to be sent, as node_exporter shows it, and the files do not have it.

Sources: linux/inet_diag.h, Documentation/networking/proc_net_tcp.rst.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.inputs.host.netlink import Message
from novel_agent.inputs.host.netlink_collector import NetlinkCollector
from novel_agent.model.metric import Block, Family

_NETLINK_SOCK_DIAG = 4
_TCPDIAG_GETSOCK = 18
_ALL_STATES = 0xFFF
_ALL_SOCKETS = struct.pack("=52xII", _ALL_STATES, 0)  # struct inet_diag_req
_SOCKET = struct.Struct("=xB54xII")  # struct inet_diag_msg: state, bytes in the receive and in the send queue
_FEWEST_FIELDS = 10

_STATES = {
    1: ("established", "established"),
    2: ("syn_sent", "syn_sent"),
    3: ("syn_recv", "syn_received"),
    4: ("fin_wait1", "fin_wait_1"),
    5: ("fin_wait2", "fin_wait_2"),
    6: ("time_wait", "time_wait"),
    7: ("close", "closed"),
    8: ("close_wait", "close_wait"),
    9: ("last_ack", "last_ack"),
    10: ("listen", "listen"),
    11: ("closing", "closing"),
}
"""What node_exporter and OpenTelemetry call each state of net/tcp_states.h."""

CONNECTIONS = Family("node_tcp_connection_states", "Number of connection states.", "gauge", ("state",))
CONNECTION_COUNT = Family(
    "system.network.connection.count",
    "Number of connections",
    "updowncounter",
    ("network.connection.state", "network.transport"),
    unit="{connection}",
)


class TcpReading(NamedTuple):
    """Sockets by number of their state, and the bytes in all their queues."""

    sockets: dict[int, int]
    received_bytes: int
    sent_bytes: int


def summarize(sockets: Iterable[tuple[int, int, int]]) -> TcpReading:
    """What the state, receive queue and send queue of each socket come to."""
    states, received_bytes, sent_bytes = [], 0, 0
    for state, received, sent in sockets:
        states.append(state)
        received_bytes += received
        sent_bytes += sent
    return TcpReading(Counter(states), received_bytes, sent_bytes)


def parse(data: bytes) -> list[tuple[int, int, int]]:
    """State, receive queue and send queue of each socket in /proc/net/tcp or tcp6."""
    header, *lines = data.splitlines() or [b""]
    if not header.lstrip().startswith(b"sl "):
        raise ValueError("net/tcp lacks its header")
    sockets = []
    for line in lines:
        fields = line.split()
        if len(fields) < _FEWEST_FIELDS:
            raise ValueError(f"net/tcp has a line of {len(fields)} fields")
        sent, received = fields[4].split(b":")
        sockets.append((int(fields[3], 16), int(received, 16), int(sent, 16)))
    return sockets


def parse_answer(messages: Iterable[Message]) -> Iterable[tuple[int, int, int]]:
    """The same of each socket in the answer to TCPDIAG_GETSOCK."""
    for datagram, _, start, end in messages:
        if end - start >= _SOCKET.size:
            yield _SOCKET.unpack_from(datagram, start)


class TcpStat(NetlinkCollector[TcpReading]):
    """How many TCP sockets are in each state."""

    name = "tcpstat"
    summary = "TCP sockets by state, and the bytes in their queues"
    default_on = False
    protocol = _NETLINK_SOCK_DIAG
    prometheus = (CONNECTIONS,)
    otel = (CONNECTION_COUNT,)

    def setup(self, options: msgspec.Struct) -> None:
        self._ipv4 = self.kernel.proc_file("net/tcp")
        self._ipv6 = self.kernel.proc_file("net/tcp6")

    def ask(self) -> TcpReading:
        return summarize(parse_answer(self.netlink.dump(_TCPDIAG_GETSOCK, _ALL_SOCKETS)))

    def look(self) -> TcpReading:
        return summarize([*parse(self._ipv4.read()), *_sockets_if_any(self._ipv6)])

    def families(self, reading: TcpReading) -> Sequence[Block]:
        sockets, received_bytes, sent_bytes = reading
        if not sockets:
            return []
        states = tuple(sorted(_STATES.keys() & sockets.keys()))
        shape = self.shapes.get(
            "prometheus",
            states,
            lambda: [
                CONNECTIONS.series(name)
                for name in (*(_STATES[state][0] for state in states), "rx_queued_bytes", "tx_queued_bytes")
            ],
        )
        return [Block(shape, [*(sockets[state] for state in states), received_bytes, sent_bytes])]

    def telemetry(self, reading: TcpReading) -> Sequence[Block]:
        shape = self.shapes.get(
            "otel", None, lambda: [CONNECTION_COUNT.series(name, "tcp") for _, name in _STATES.values()]
        )
        return [Block(shape, [reading.sockets.get(state, 0) for state in _STATES])]


def _sockets_if_any(file: KernelFile) -> list[tuple[int, int, int]]:
    """Without IPv6 there is no such file."""
    try:
        return parse(file.read())
    except FileNotFoundError:
        return []

"""IPVS, the kernel's load balancer: totals from /proc/net/ip_vs_stats, servers from /proc/net/ip_vs.

In the second a line names a virtual service by protocol, address and port, or by firewall mark, and the lines below it
that begin with an arrow its real servers. All numbers of addresses and of the totals are hexadecimal
(net/netfilter/ipvs/ip_vs_ctl.c).
"""

import socket
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Section
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.model.metric import Block, Family, Series

_TOTALS = 5
_TOTALS_LINE = 2
_SERVER_FIELDS = 6
_PORT_CHARACTERS = 4
_IPV4_CHARACTERS = 8

BackendLabel = Literal["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"]
_LABELS: tuple[BackendLabel, ...] = (
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "proto",
    "local_mark",
)

_TOTAL_FAMILIES = (
    Family("node_ipvs_connections_total", "The total number of connections made.", "counter"),
    Family("node_ipvs_incoming_packets_total", "The total number of incoming packets.", "counter"),
    Family("node_ipvs_outgoing_packets_total", "The total number of outgoing packets.", "counter"),
    Family("node_ipvs_incoming_bytes_total", "The total amount of incoming data.", "counter"),
    Family("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data.", "counter"),
)
_SERVER_FAMILIES = (
    Family(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
        "gauge",
        _LABELS,
    ),
    Family(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
        "gauge",
        _LABELS,
    ),
    Family("node_ipvs_backend_weight", "The current backend weight by local and remote address.", "gauge", _LABELS),
)

Server = tuple[str, ...]
"""The values of all labels, in their order."""

Load = tuple[int, int, int]
"""Active connections, inactive connections, weight."""


class IpvsReading(NamedTuple):
    """The five totals, and the load by the labels that are wanted."""

    totals: list[int]
    servers: dict[Server, Load]


def parse_totals(data: bytes) -> list[int]:
    """Connections, packets in and out, bytes in and out."""
    lines = data.splitlines()
    totals = [int(field, 16) for field in lines[_TOTALS_LINE].split()] if len(lines) > _TOTALS_LINE else []
    if len(totals) != _TOTALS:
        raise ValueError("net/ip_vs_stats lacks its five totals")
    return totals


def parse_servers(data: bytes) -> list[tuple[Server, Load]]:
    """Each real server of each virtual service."""
    servers: list[tuple[Server, Load]] = []
    local_address = local_port = protocol = mark = ""
    for line in data.decode("ascii").splitlines():
        fields = line.split()
        if len(fields) < 2 or fields[0] in ("IP", "Prot") or fields[1].startswith("RemoteAddress"):
            continue
        if fields[0] == "FWM":
            local_address, local_port, protocol, mark = "", "0", fields[0], fields[1]
        elif fields[0] != "->":
            (local_address, local_port), protocol, mark = endpoint(fields[1]), fields[0], ""
        elif len(fields) >= _SERVER_FIELDS:
            weight, active, inactive = map(int, fields[3:_SERVER_FIELDS])
            server = (local_address, local_port, *endpoint(fields[1]), protocol, mark)
            servers.append((server, (active, inactive, weight)))
    return servers


def endpoint(text: str) -> tuple[str, str]:
    """Address and port of `0A000001:0050` or `[2001:0db8:…]:0050`, as they are usually written."""
    address, _, port = text.rpartition(":")
    if len(port) != _PORT_CHARACTERS:
        raise ValueError("net/ip_vs has a port that is not four digits")
    number = str(int(port, 16))
    if len(address) == _IPV4_CHARACTERS:
        return socket.inet_ntop(socket.AF_INET, bytes.fromhex(address)), number
    if not (address.startswith("[") and address.endswith("]")):
        raise ValueError("net/ip_vs has an address of neither kind")
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address[1:-1])), number
    except OSError:
        raise ValueError("net/ip_vs has an address that is none") from None


class Ipvs(HostCollector[IpvsReading]):
    """What the kernel's load balancer distributes, and to whom."""

    name = "ipvs"
    summary = "connections, packets and bytes of IPVS, and the load of each real server"
    prometheus = (*_TOTAL_FAMILIES, *_SERVER_FAMILIES)

    class Options(Section, frozen=True, kw_only=True):
        """How finely."""

        backend_labels: Annotated[
            tuple[BackendLabel, ...],
            Meta(description="Labels of a real server's series; servers that are equal in them are added up."),
        ] = _LABELS

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, self.Options)
        self._labels = tuple(label for label in _LABELS if label in options.backend_labels)
        self._indexes = [_LABELS.index(label) for label in self._labels]
        self._totals = self.kernel.proc_file("net/ip_vs_stats")
        self._servers = self.kernel.proc_file("net/ip_vs")

    def read(self) -> IpvsReading:
        totals = parse_totals(read_or_no_data(self._totals, "IPVS"))
        servers: dict[Server, Load] = {}
        for server, (active, inactive, weight) in parse_servers(self._servers.read()):
            key = tuple([server[index] for index in self._indexes])
            before = servers.get(key, (0, 0, 0))
            servers[key] = (before[0] + active, before[1] + inactive, before[2] + weight)
        return IpvsReading(totals, servers)

    def families(self, reading: IpvsReading) -> Sequence[Block]:
        totals, servers = reading
        shape = self.shapes.get("prometheus", tuple(servers), lambda: self._series(servers))
        return [
            Block(shape, [*totals, *(number for column in zip(*servers.values(), strict=True) for number in column)])
        ]

    def _series(self, servers: dict[Server, Load]) -> list[Series]:
        labels = [tuple(zip(self._labels, server, strict=True)) for server in servers]
        return [
            *(family.series() for family in _TOTAL_FAMILIES),
            *(Series(family, server) for family in _SERVER_FAMILIES for server in labels),
        ]

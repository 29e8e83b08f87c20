"""Traffic of the network interfaces: over netlink where /proc is live, else from /proc/net/dev and sysfs.

The columns of /proc/net/dev are what is shown. Some are sums of what the kernel counts (net/core/net-procfs.c), so netlink's
counters are added up likewise. Netlink costs less the more interfaces there are, and gives the packets that no protocol
wanted besides, which files have in sysfs only, one file an interface.

Sources: linux/if_link.h (RTM_GETSTATS, struct rtnl_link_stats64), linux/if_addr.h,
Documentation/ABI/testing/sysfs-class-net-statistics.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.netlink import Message, attribute
from novel_agent.inputs.host.netlink_collector import NetlinkCollector
from novel_agent.model.metric import Block, Family, Label, Series

Columns = tuple[int, ...]
"""As /proc/net/dev has them after the name: eight of receiving, eight of transmitting."""

_COLUMNS = 16
_HEADER_LINES = 2

_RTM_GETSTATS, _RTM_GETADDR = 94, 22
_IFLA_STATS_LINK_64 = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ALL_LINK_64 = struct.pack("=8xI", 1 << (_IFLA_STATS_LINK_64 - 1))
_ALL_ADDRESSES = bytes(8)
_STATS_HEAD = struct.Struct("=4xI4x")  # struct if_stats_msg: index
_ADDRESS_HEAD = struct.Struct("=BBxxI")  # struct ifaddrmsg: family, length of the prefix, index
_COUNTERS = struct.Struct("=24Q")

_DEVICE = ("device",)
_FAMILIES = tuple(
    Family(f"node_network_{name}_total", f"Network device statistic {name}.", "counter", _DEVICE)
    for name in (
        "receive_bytes",
        "receive_packets",
        "receive_errs",
        "receive_drop",
        "receive_fifo",
        "receive_frame",
        "receive_compressed",
        "receive_multicast",
        "transmit_bytes",
        "transmit_packets",
        "transmit_errs",
        "transmit_drop",
        "transmit_fifo",
        "transmit_colls",
        "transmit_carrier",
        "transmit_compressed",
    )
)
NO_HANDLER = Family(
    "node_network_receive_nohandler_total", "Network device statistic receive_nohandler.", "counter", _DEVICE
)
ADDRESS = Family(
    "node_network_address_info",
    "node network address by device",
    "gauge",
    ("device", "address", "netmask", "scope"),
)

_DIRECTED = ("network.interface.name", "network.io.direction")
_OTEL = (
    (0, 8, Family("system.network.io", "Bytes transmitted and received", "counter", _DIRECTED, unit="By")),
    (
        1,
        9,
        Family(
            "system.network.packet.count",
            "Packets transferred",
            "counter",
            ("system.device", "network.io.direction"),
            unit="{packet}",
        ),
    ),
    (2, 10, Family("system.network.errors", "Network errors detected", "counter", _DIRECTED, unit="{error}")),
    (
        3,
        11,
        Family(
            "system.network.packet.dropped",
            "Packets dropped or discarded even though there was no error",
            "counter",
            _DIRECTED,
            unit="{packet}",
        ),
    ),
)
"""The column of what was received, the column of what was transmitted, and the family that shows both."""

_OTEL_COLUMNS = [column for received, transmitted, _ in _OTEL for column in (received, transmitted)]


class Address(NamedTuple):
    """An address of an interface, as the labels have it."""

    device: str
    address: str
    netmask: str
    scope: str


class NetDevReading(NamedTuple):
    """What went through each interface since it came, and the addresses if they are wanted."""

    devices: dict[str, Columns]
    no_handler: dict[str, int]
    addresses: tuple[Address, ...]


def parse(data: bytes) -> dict[str, Columns]:
    """The interfaces in /proc/net/dev."""
    lines = data.decode(errors="replace").splitlines()
    if len(lines) < _HEADER_LINES:
        raise ValueError("net/dev lacks its header")
    devices = {}
    for line in lines[_HEADER_LINES:]:
        name, _, numbers = line.rpartition(":")
        columns = tuple(map(int, numbers.split()))
        if not name.strip() or len(columns) != _COLUMNS:
            raise ValueError(f"net/dev has a line that is not an interface with {_COLUMNS} numbers")
        devices[name.strip()] = columns
    return devices


def columns_of(counters: tuple[int, ...]) -> Columns:
    """The columns of /proc/net/dev made of struct rtnl_link_stats64."""
    (
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
        multicast,
        collisions,
        rx_length_errors,
        rx_over_errors,
        rx_crc_errors,
        rx_frame_errors,
        rx_fifo_errors,
        rx_missed_errors,
        tx_aborted_errors,
        tx_carrier_errors,
        tx_fifo_errors,
        tx_heartbeat_errors,
        tx_window_errors,
        rx_compressed,
        tx_compressed,
        _,
    ) = counters
    return (
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped + rx_missed_errors,
        rx_fifo_errors,
        rx_frame_errors + rx_length_errors + rx_over_errors + rx_crc_errors,
        rx_compressed,
        multicast,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        tx_fifo_errors,
        collisions,
        tx_carrier_errors + tx_aborted_errors + tx_heartbeat_errors + tx_window_errors,
        tx_compressed,
    )


def parse_counters(message: Message) -> tuple[int, tuple[int, ...]] | None:
    """Index and counters of the interface that an answer to RTM_GETSTATS is about; None where it holds none."""
    datagram, _, start, end = message
    if end - start < _STATS_HEAD.size:
        return None
    (index,) = _STATS_HEAD.unpack_from(datagram, start)
    found = attribute(datagram, start + _STATS_HEAD.size, end, _IFLA_STATS_LINK_64)
    if found is None or found[1] - found[0] < _COUNTERS.size:
        return None
    return index, _COUNTERS.unpack_from(datagram, found[0])


def parse_address(message: Message, names: dict[int, str]) -> Address | None:
    """The address that an answer to RTM_GETADDR is about; None where its interface has no name here."""
    from ipaddress import ip_address

    datagram, _, start, end = message
    if end - start < _ADDRESS_HEAD.size:
        return None
    _, prefix_length, index = _ADDRESS_HEAD.unpack_from(datagram, start)
    attributes = start + _ADDRESS_HEAD.size
    # Of a point-to-point interface IFA_ADDRESS is the other end's.
    found = attribute(datagram, attributes, end, _IFA_LOCAL) or attribute(datagram, attributes, end, _IFA_ADDRESS)
    if found is None or index not in names:
        return None
    address = ip_address(datagram[slice(*found)])
    if address.is_loopback or address.is_link_local:
        scope = "link-local"
    else:
        scope = "" if address.is_multicast or address.is_unspecified else "global"
    return Address(names[index], str(address), str(prefix_length), scope)


class NetDevices(NetlinkCollector[NetDevReading]):
    """What the network interfaces received and transmitted."""

    name = "netdev"
    summary = "bytes, packets, errors and drops by network interface"
    prometheus = (*_FAMILIES, NO_HANDLER, ADDRESS)
    otel = tuple(family for _, _, family in _OTEL)

    class Options(Section, frozen=True, kw_only=True):
        """Which interfaces."""

        exclude_devices: Annotated[Regex, Meta(description="Interfaces to leave out.")] = ""
        include_devices: Annotated[Regex | None, Meta(description="Interfaces to show; all others are left out.")] = (
            None
        )
        address_info: Annotated[
            bool, Meta(description="Show the addresses of the interfaces; only where /proc is this machine's own.")
        ] = False

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, self.Options)
        self._shown = NameFilter(options.exclude_devices, options.include_devices)
        self._with_addresses = options.address_info
        self._file = self.kernel.proc_file("net/dev")
        self._known: dict[int, str] = {}
        self._wanted: dict[int, str] = {}

    def ask(self) -> NetDevReading:
        # The counters come before the names, so that each interface in them is known by then, or gone again.
        counted = [
            counters
            for message in self.netlink.dump(_RTM_GETSTATS, _ALL_LINK_64)
            if (counters := parse_counters(message))
        ]
        names = self.links.current()
        if names is not self._known:
            self._wanted = {index: name for index, name in names.items() if self._shown(name)}
            self._known = names
        wanted = self._wanted
        devices = {wanted[index]: columns_of(counters) for index, counters in counted if index in wanted}
        no_handler = {wanted[index]: counters[-1] for index, counters in counted if index in wanted}
        return NetDevReading(devices, no_handler, self._addresses() if self._with_addresses else ())

    def _addresses(self) -> tuple[Address, ...]:
        messages = self.netlink.dump(_RTM_GETADDR, _ALL_ADDRESSES)
        found = [address for message in messages if (address := parse_address(message, self._wanted))]
        return tuple(dict.fromkeys(found))

    def look(self) -> NetDevReading:
        shown = {name: columns for name, columns in parse(self._file.read()).items() if self._shown(name)}
        no_handler = {
            name: count
            for name in shown
            if (count := self.kernel.integer(f"class/net/{name}/statistics/rx_nohandler")) is not None
        }
        return NetDevReading(shown, no_handler, ())

    def families(self, reading: NetDevReading) -> Sequence[Block]:
        devices, no_handler, addresses = reading
        shape = self.shapes.get("prometheus", (tuple(devices), tuple(no_handler)), lambda: _series(reading))
        values = [*chain.from_iterable(zip(*devices.values(), strict=True)), *no_handler.values()]
        blocks = [Block(shape, values)]
        if addresses:
            shape = self.shapes.get("addresses", addresses, lambda: [ADDRESS.series(*address) for address in addresses])
            blocks.append(Block(shape, [1] * len(addresses)))
        return blocks

    def telemetry(self, reading: NetDevReading) -> Sequence[Block]:
        names = tuple(reading.devices)
        rows = reading.devices.values()
        shape = self.shapes.get(
            "otel",
            names,
            lambda: [
                family.series(name, direction)
                for _, _, family in _OTEL
                for direction in ("receive", "transmit")
                for name in names
            ],
        )
        return [Block(shape, [row[column] for column in _OTEL_COLUMNS for row in rows])]


def _series(reading: NetDevReading) -> list[Series]:
    """Ten thousand interfaces have 170,000 series: those of one interface share its label."""
    labels: dict[str, tuple[Label, ...]] = {name: (("device", name),) for name in reading.devices}
    return [
        *(Series(family, label) for family in _FAMILIES for label in labels.values()),
        *(Series(NO_HANDLER, labels[name]) for name in reading.no_handler),
    ]

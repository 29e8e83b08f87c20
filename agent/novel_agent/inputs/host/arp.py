"""Entries of the ARP table by interface: over netlink where /proc is live, else from /proc/net/arp.

The two differ by entries without a state, which only netlink shows, and by published ones, which only the file does;
node_exporter counts what netlink shows.

Sources: linux/neighbour.h (struct ndmsg), net/ipv4/arp.c.
"""

import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.netlink import Message
from novel_agent.inputs.host.netlink_collector import NetlinkCollector
from novel_agent.model.metric import Block, Family

_RTM_GETNEIGH = 30
_NUD_NOARP = 0x40
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # struct ndmsg: family, index, state, flags, type
_IPV4_NEIGHBOURS = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0)
_FIELDS = 6

ENTRIES = Family("node_arp_entries", "ARP entries by device", "gauge", ("device",))


def parse(data: bytes) -> dict[str, int]:
    """Entries by interface in /proc/net/arp."""
    lines = data.decode(errors="replace").splitlines()
    if not lines or not lines[0].startswith("IP address"):
        raise ValueError("net/arp lacks its header")
    rows = [line.split() for line in lines[1:]]
    if any(len(row) != _FIELDS for row in rows):
        raise ValueError(f"net/arp has a line without {_FIELDS} fields")
    return Counter([row[-1] for row in rows])


def count(messages: Iterable[Message]) -> dict[int, int]:
    """Entries by index of their interface in the answer to RTM_GETNEIGH; without those that need no resolving."""
    indexes = []
    for datagram, _, start, end in messages:
        if end - start >= _NEIGHBOUR.size:
            family, index, state, _, _ = _NEIGHBOUR.unpack_from(datagram, start)
            if family == socket.AF_INET and not state & _NUD_NOARP:
                indexes.append(index)
    return Counter(indexes)


class Arp(NetlinkCollector[Mapping[str, int]]):
    """How many neighbours each interface knows."""

    name = "arp"
    summary = "entries of the ARP table by network interface"
    prometheus = (ENTRIES,)

    class Options(Section, frozen=True, kw_only=True):
        """Which interfaces."""

        exclude_devices: Annotated[Regex, Meta(description="Interfaces to leave out.")] = ""
        include_devices: Annotated[Regex | None, Meta(description="Interfaces to show; all others are left out.")] = (
            None
        )

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, self.Options)
        self._shown = NameFilter(options.exclude_devices, options.include_devices)
        self._file = self.kernel.proc_file("net/arp")

    def look(self) -> Mapping[str, int]:
        return {name: entries for name, entries in parse(self._file.read()).items() if self._shown(name)}

    def ask(self) -> Mapping[str, int]:
        entries = count(self.netlink.dump(_RTM_GETNEIGH, _IPV4_NEIGHBOURS))
        names = self.links.current()
        return {
            name: number
            for index, number in entries.items()
            if (name := names.get(index)) is not None and self._shown(name)
        }

    def families(self, reading: Mapping[str, int]) -> Sequence[Block]:
        names = tuple(reading)
        shape = self.shapes.get("prometheus", names, lambda: [ENTRIES.series(name) for name in names])
        return [Block(shape, list(reading.values()))]

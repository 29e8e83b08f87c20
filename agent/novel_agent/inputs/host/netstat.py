"""Counters of the network protocols, from /proc/net/netstat, snmp and snmp6.

The first two are pairs of lines, names above numbers; the third has a name and a number a line, the protocol's name being
its part up to the 6. Which of the hundreds of numbers are shown is worked out once for each line of names, and then only
those are converted.

Sources: Documentation/networking/snmp_counter.rst, net/ipv4/proc.c, net/ipv6/proc.c.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family, FamilyPattern, Series

DEFAULT_FIELDS = (
    "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    "|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
    "|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    "|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)
_MOST_HEADINGS_KEPT = 64
_NAME = re.compile("[A-Za-z0-9]+")

Name = tuple[str, str]
"""Protocol and counter."""

Wanted = Callable[[str], object]
"""Whether `PROTOCOL_COUNTER` is shown."""


class Columns(NamedTuple):
    """The counters shown of one list of names, and where in the list they stand."""

    names: tuple[Name, ...]
    indexes: tuple[int, ...]


def choose(names: Iterable[tuple[int, Name]], wanted: Wanted) -> Columns:
    """The names that are wanted, given with their places; a name that comes twice counts at its last place."""
    found = {name: index for index, name in names if wanted("_".join(name))}
    if not all(_NAME.fullmatch(part) for name in found for part in name):
        raise ValueError("a counter of the network protocols has a name that none can have")
    return Columns(tuple(found), tuple(found.values()))


def pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The lines of names in /proc/net/netstat or snmp, each with the numbers below it."""
    lines = data.splitlines()
    if not lines or len(lines) % 2:
        raise ValueError("net/netstat or net/snmp does not consist of pairs of lines")
    for heading, numbers in zip(lines[::2], lines[1::2], strict=True):
        protocol, colon, _ = heading.partition(b":")
        if not colon or not numbers.startswith(protocol + colon) or heading.count(b" ") != numbers.count(b" "):
            raise ValueError("net/netstat or net/snmp has a line of numbers that does not fit its names")
        yield heading, numbers


def choose_pair(heading: bytes, wanted: Wanted) -> Columns:
    """What is shown of a protocol in /proc/net/netstat or snmp, given its line of names."""
    protocol, *names = heading.decode().split(" ")
    return choose([(index, (protocol.removesuffix(":"), name)) for index, name in enumerate(names, 1)], wanted)


def choose_listed(names: Sequence[bytes], wanted: Wanted) -> Columns:
    """What is shown of /proc/net/snmp6, given its first column."""
    split = [(index, name.decode().partition("6")) for index, name in enumerate(names)]
    return choose([(index, (protocol + six, name)) for index, (protocol, six, name) in split if six], wanted)


class NetStat(HostCollector[dict[Name, int]]):
    """What the network protocols count."""

    name = "netstat"
    summary = "counters of IP, ICMP, TCP and UDP"
    prometheus = (FamilyPattern("node_netstat_[A-Za-z0-9]+_[A-Za-z0-9]+", "Statistic of a network protocol."),)

    class Options(Section, frozen=True, kw_only=True):
        """Which counters."""

        fields: Annotated[
            Regex, Meta(description="Counters to show, found in the protocol and the counter joined by _.")
        ] = DEFAULT_FIELDS

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, self.Options)
        self._wanted = re.compile(options.fields).search
        self._tables = (
            self.kernel.proc_file("net/netstat", one_read=True),
            self.kernel.proc_file("net/snmp", one_read=True),
        )
        self._list = self.kernel.proc_file("net/snmp6", one_read=True)
        self._chosen: dict[bytes, Columns] = {}
        self._listed: list[bytes] = []
        self._chosen_listed = Columns((), ())

    def read(self) -> dict[Name, int]:
        counters: dict[Name, int] = {}
        for table in self._tables:
            for heading, numbers in pairs(table.read()):
                names, indexes = self._chosen.get(heading) or self._choose(heading)
                if indexes:
                    fields = numbers.split(b" ")
                    counters.update(zip(names, [int(fields[index]) for index in indexes], strict=True))
        with suppress(FileNotFoundError):  # there is none without IPv6
            counters.update(self._listed_counters(self._list.read()))
        return counters

    def _choose(self, heading: bytes) -> Columns:
        if len(self._chosen) >= _MOST_HEADINGS_KEPT:
            self._chosen.clear()
        chosen = self._chosen[heading] = choose_pair(heading, self._wanted)
        return chosen

    def _listed_counters(self, data: bytes) -> Iterable[tuple[Name, int]]:
        fields = data.split()
        names, numbers = fields[::2], fields[1::2]
        if len(names) != len(numbers):
            raise ValueError("net/snmp6 has a name without a number")
        if names != self._listed:
            self._chosen_listed = choose_listed(names, self._wanted)
            self._listed = names
        chosen = self._chosen_listed
        return zip(chosen.names, [int(numbers[index]) for index in chosen.indexes], strict=True)

    def families(self, reading: dict[Name, int]) -> Sequence[Block]:
        names = tuple(reading)
        shape = self.shapes.get("prometheus", names, lambda: [_series(*name) for name in names])
        return [Block(shape, list(reading.values()))]


def _series(protocol: str, counter: str) -> Series:
    return Family(f"node_netstat_{protocol}_{counter}", f"Statistic {protocol}{counter}.", "untyped").series()

"""Counters of the network protocols, from /proc/net/netstat, snmp and snmp6.

The first two are pairs of lines, names above numbers; the third has a name and a number a line, the protocol's name being
its part up to the 6. Which of the hundreds of numbers are shown is worked out once for the names of a file, and then only
those are looked at.

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


class NetStatReading(NamedTuple):
    """The numbers, each with its name."""

    names: tuple[Name, ...]
    numbers: list[int]


class _Line(NamedTuple):
    """A line of numbers of which some are shown: where it is, how it begins and how many fields it has."""

    place: int
    beginning: bytes
    fields: int
    indexes: tuple[int, ...]


class PairTable:
    """/proc/net/netstat or snmp, reading by reading."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._headings: list[bytes] = []
        self._names: tuple[Name, ...] = ()
        self._lines: list[_Line] = []

    def parse(self, data: bytes) -> NetStatReading:
        """What is shown of the content."""
        lines = data.splitlines()
        if lines[::2] != self._headings or len(lines) % 2 or not lines:
            self._plan(data)
            self._headings = lines[::2]
        numbers: list[int] = []
        for place, beginning, fields_there, indexes in self._lines:
            fields = lines[place].split(b" ")
            if fields[0] != beginning or len(fields) != fields_there:
                raise ValueError("net/netstat or net/snmp has a line of numbers that does not fit its names")
            numbers += [int(fields[index]) for index in indexes]
        return NetStatReading(self._names, numbers)

    def _plan(self, data: bytes) -> None:
        names: list[Name] = []
        lines: list[_Line] = []
        for position, (heading, _) in enumerate(pairs(data)):
            chosen = choose_pair(heading, self._wanted)
            if chosen.names:
                fields = heading.split(b" ")
                lines.append(_Line(2 * position + 1, fields[0], len(fields), chosen.indexes))
                names += chosen.names
        if len(set(names)) < len(names):
            raise ValueError("net/netstat or net/snmp has a counter twice")
        self._names, self._lines = tuple(names), lines


class ListedTable:
    """/proc/net/snmp6, reading by reading."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._listed: list[bytes] = []
        self._chosen = Columns((), ())

    def parse(self, data: bytes) -> NetStatReading:
        """What is shown of the content."""
        fields = data.split()
        if len(fields) % 2:
            raise ValueError("net/snmp6 has a name without a number")
        listed = fields[::2]
        if listed != self._listed:
            self._chosen = choose_listed(listed, self._wanted)
            self._listed = listed
        names, indexes = self._chosen
        return NetStatReading(names, [int(fields[2 * index + 1]) for index in indexes])


class NetStat(HostCollector[NetStatReading]):
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
        wanted = re.compile(options.fields).search
        self._tables = (
            (self.kernel.proc_file("net/netstat", one_read=True), PairTable(wanted)),
            (self.kernel.proc_file("net/snmp", one_read=True), PairTable(wanted)),
        )
        self._listed = (self.kernel.proc_file("net/snmp6", one_read=True), ListedTable(wanted))

    def read(self) -> NetStatReading:
        readings = [table.parse(file.read()) for file, table in self._tables]
        file, listed = self._listed
        with suppress(FileNotFoundError):  # there is none without IPv6
            readings.append(listed.parse(file.read()))
        return NetStatReading(
            tuple([name for names, _ in readings for name in names]),
            [number for _, numbers in readings for number in numbers],
        )

    def families(self, reading: NetStatReading) -> Sequence[Block]:
        names, numbers = reading
        return [Block(self.shapes.get("prometheus", names, lambda: [_series(*name) for name in names]), numbers)]


def _series(protocol: str, counter: str) -> Series:
    return Family(f"node_netstat_{protocol}_{counter}", f"Statistic {protocol}{counter}.", "untyped").series()

"""Sockets in use and the memory they hold, from /proc/net/sockstat and sockstat6.

Each line is a protocol and pairs of a word and a number (net/ipv4/proc.c, net/ipv6/proc.c). `mem` counts pages, `memory`
bytes. Which number is which is worked out once for a file's words and then only its numbers are read.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.model.metric import Block, Family, FamilyPattern, Series

_WORDS = ("inuse", "orphan", "tw", "alloc", "mem", "memory")
_DIGITS = b"0123456789"

USED = Family("node_sockstat_sockets_used", "Number of IPv4 sockets in use.")

Name = tuple[str, str]
"""Protocol and word."""


class Plan(NamedTuple):
    """What is shown of a file: names, and for each the field it comes from and what that is multiplied by."""

    names: tuple[Name, ...]
    fields: tuple[tuple[int, int], ...]
    fields_there: int


class SockStatReading(NamedTuple):
    """The numbers, each with its name."""

    names: tuple[Name, ...]
    numbers: list[int]


def plan(data: bytes, page_bytes: int) -> Plan:
    """What a sockstat file says and where; `mem_bytes` stands beside each `mem`."""
    found: dict[Name, tuple[int, int]] = {}
    position = 0
    for line in data.decode("ascii").splitlines():
        name, *words = line.split()
        if not words or len(words) % 2 or not name.endswith(":") or not name[:-1].isalnum():
            raise ValueError("net/sockstat has a line that is not a protocol with pairs of a word and a number")
        places = {word: position + 2 + 2 * index for index, word in enumerate(words[::2])}
        shown = ("used",) if name == "sockets:" else _WORDS
        found.update({(name[:-1], word): (places[word], 1) for word in shown if word in places})
        if "mem" in places:
            found[name[:-1], "mem_bytes"] = (places["mem"], page_bytes)
        position += 1 + len(words)
    if not found:
        raise ValueError("net/sockstat says nothing")
    return Plan(tuple(found), tuple(found.values()), position)


class _Table:
    """One of the files."""

    def __init__(self, file: KernelFile) -> None:
        self._file = file
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._words: bytes | None = None
        self._plan = Plan((), (), 0)

    def read(self) -> SockStatReading:
        """Nothing where the kernel was built or started without this version of IP."""
        try:
            data = self._file.read()
        except FileNotFoundError:
            return SockStatReading((), [])
        words = data.translate(None, _DIGITS)
        if words != self._words:
            self._plan = plan(data, self._page_bytes)
            self._words = words
        names, fields, fields_there = self._plan
        texts = data.split()
        if len(texts) != fields_there:
            raise ValueError("net/sockstat has a word without a number")
        return SockStatReading(names, [int(texts[index]) * factor for index, factor in fields])


class SockStat(HostCollector[SockStatReading]):
    """How many sockets there are of each protocol."""

    name = "sockstat"
    summary = "sockets in use by protocol, and their memory"
    prometheus = (
        USED,
        FamilyPattern(
            "node_sockstat_[A-Za-z0-9]+_(inuse|orphan|tw|alloc|mem|memory|mem_bytes)",
            "Number of sockets of a protocol in a state.",
            "gauge",
        ),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._ipv4 = _Table(self.kernel.proc_file("net/sockstat", one_read=True))
        self._ipv6 = _Table(self.kernel.proc_file("net/sockstat6", one_read=True))

    def read(self) -> SockStatReading:
        ipv4, ipv6 = self._ipv4.read(), self._ipv6.read()
        return SockStatReading(ipv4.names + ipv6.names, ipv4.numbers + ipv6.numbers)

    def families(self, reading: SockStatReading) -> Sequence[Block]:
        names, numbers = reading
        return [Block(self.shapes.get("prometheus", names, lambda: [_series(*name) for name in names]), numbers)]


def _series(protocol: str, word: str) -> Series:
    if protocol == "sockets":
        return USED.series()
    return Family(f"node_sockstat_{protocol}_{word}", f"Number of {protocol} sockets in state {word}.").series()

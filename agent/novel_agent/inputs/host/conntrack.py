"""Netfilter's connection tracking: its table's size, and what became of the packets looked up in it.

Source: Documentation/networking/nf_conntrack-sysctl.rst; /proc/net/stat/nf_conntrack has a line of hexadecimal columns for
each CPU (net/netfilter/nf_conntrack_standalone.c) and is missing in kernels without CONFIG_NF_CONNTRACK_PROCFS.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.model.metric import Block, Family

_COLUMNS = (16, 17)
_LONGEST_LINE_BYTES = 512  # the header has some 170, seventeen columns 155

ENTRIES = Family("node_nf_conntrack_entries", "Number of currently allocated flow entries for connection tracking.")
LIMIT = Family("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.")
_STATISTICS = (
    (2, Family("node_nf_conntrack_stat_found", "Number of searched entries which were successful.")),
    (4, Family("node_nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked.")),
    (
        5,
        Family(
            "node_nf_conntrack_stat_ignore",
            "Number of packets seen which are already connected to a conntrack entry.",
        ),
    ),
    (8, Family("node_nf_conntrack_stat_insert", "Number of entries inserted into the list.")),
    (
        9,
        Family(
            "node_nf_conntrack_stat_insert_failed",
            "Number of entries for which list insertion was attempted but failed.",
        ),
    ),
    (10, Family("node_nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure.")),
    (
        11,
        Family(
            "node_nf_conntrack_stat_early_drop",
            "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
        ),
    ),
    (
        16,
        Family(
            "node_nf_conntrack_stat_search_restart",
            "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
        ),
    ),
)
_INDEXES = tuple(column for column, _ in _STATISTICS)
_FAMILIES = (ENTRIES, LIMIT, *(family for _, family in _STATISTICS))


class ConntrackReading(NamedTuple):
    """Entries there are, entries there may be, and the statistics in the order of their families, if there are any."""

    entries: int
    limit: int
    statistics: tuple[int, ...]


def parse_statistics(data: bytes) -> tuple[int, ...]:
    """The columns shown, summed over the CPUs."""
    rows = []
    for line in data.splitlines()[1:]:
        columns = [int(column, 16) for column in line.split()]
        if len(columns) not in _COLUMNS:
            raise ValueError(f"net/stat/nf_conntrack has a line of {len(columns)} columns")
        columns.append(0)  # before Linux 2.6.35 searches were not restarted
        rows.append([columns[index] for index in _INDEXES])
    if not rows:
        raise ValueError("net/stat/nf_conntrack has no CPU")
    return tuple(map(sum, zip(*rows, strict=True)))


class Conntrack(HostCollector[ConntrackReading]):
    """How full the table of tracked connections is."""

    name = "conntrack"
    summary = "entries, limit and statistics of netfilter's connection tracking"
    prometheus = _FAMILIES

    def setup(self, options: msgspec.Struct) -> None:
        self._count = self.kernel.proc_file("sys/net/netfilter/nf_conntrack_count", one_read=True)
        self._maximum = self.kernel.proc_file("sys/net/netfilter/nf_conntrack_max", one_read=True)
        self._statistics = self.kernel.proc_file("net/stat/nf_conntrack", record_bytes=_LONGEST_LINE_BYTES)

    def read(self) -> ConntrackReading:
        entries = int(read_or_no_data(self._count, "connection tracking"))
        limit = int(read_or_no_data(self._maximum, "connection tracking"))
        try:
            statistics = parse_statistics(self._statistics.read())
        except FileNotFoundError:
            statistics = ()
        return ConntrackReading(entries, limit, statistics)

    def families(self, reading: ConntrackReading) -> Sequence[Block]:
        entries, limit, statistics = reading
        shape = self.shapes.get(
            "prometheus",
            len(statistics),
            lambda: [family.series() for family in _FAMILIES[: 2 + len(statistics)]],
        )
        return [Block(shape, (entries, limit, *statistics))]

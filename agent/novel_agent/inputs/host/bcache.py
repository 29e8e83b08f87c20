"""bcache from /sys/fs/bcache/UUID (Documentation/admin-guide/bcache.rst; numbers as bch_hprint in drivers/md/bcache/util.c)."""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Section
from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.samples import Samples
from novel_agent.model.metric import Block, Family, Kind, Number

_UNITS = "kMGTPEZY"
_NANOSECOND = 1e-9
_LONGEST_NUMBER = 32
_BACKING = re.compile(r"bdev[0-9]")
_CACHE = re.compile(r"cache[0-9]")


def _family(name: str, help_text: str, kind: Kind = "gauge", device: str = "") -> Family:
    return Family(f"node_bcache_{name}", help_text, kind, ("uuid", device) if device else ("uuid",))


def _backing(name: str, help_text: str, kind: Kind = "gauge") -> Family:
    return _family(name, help_text, kind, "backing_device")


def _cache(name: str, help_text: str, kind: Kind = "gauge") -> Family:
    return _family(name, help_text, kind, "cache_device")


# By file below the set's, the backing device's or the cache device's directory.
_SET_FILES = {
    "average_key_size": _family("average_key_size_sectors", "Average data per key in the btree (sectors)."),
    "btree_cache_size": _family("btree_cache_size_bytes", "Amount of memory currently used by the btree cache."),
    "cache_available_percent": _family(
        "cache_available_percent",
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    ),
    "congested": _family("congested", "Congestion."),
    "root_usage_percent": _family(
        "root_usage_percent", "Percentage of the root btree node in use (tree depth increases if too high)."
    ),
    "tree_depth": _family("tree_depth", "Depth of the btree."),
    "internal/active_journal_entries": _family(
        "active_journal_entries", "Number of journal entries that are newer than the index."
    ),
    "internal/btree_nodes": _family("btree_nodes", "Total nodes in the btree."),
    "internal/cache_read_races": _family(
        "cache_read_races_total",
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. "
        "where the pointer was stale after the read completed.",
        "counter",
    ),
}
BTREE_READ = _family("btree_read_average_duration_seconds", "Average btree read duration.")
_BACKING_FILES = {
    "dirty_data": _backing("dirty_data_bytes", "Amount of dirty data for this backing device in the cache."),
    "stats_total/bypassed": _backing(
        "bypassed_bytes_total", "Amount of IO (both reads and writes) that has bypassed the cache.", "counter"
    ),
    "stats_total/cache_hits": _backing(
        "cache_hits_total", "Hits counted per individual IO as bcache sees them.", "counter"
    ),
    "stats_total/cache_misses": _backing(
        "cache_misses_total", "Misses counted per individual IO as bcache sees them.", "counter"
    ),
    "stats_total/cache_bypass_hits": _backing(
        "cache_bypass_hits_total", "Hits for IO intended to skip the cache.", "counter"
    ),
    "stats_total/cache_bypass_misses": _backing(
        "cache_bypass_misses_total", "Misses for IO intended to skip the cache.", "counter"
    ),
    "stats_total/cache_miss_collisions": _backing(
        "cache_miss_collisions_total",
        "Instances where data insertion from cache miss raced with write (data already present).",
        "counter",
    ),
}
READAHEADS = _backing("cache_readaheads_total", "Count of times readahead occurred.", "counter")
_WRITEBACK_LINES = {
    b"target": _backing("dirty_target_bytes", "Current dirty data target threshold for this backing device in bytes."),
    b"rate": _backing("writeback_rate", "Current writeback rate for this backing device in bytes."),
    b"proportional": _backing(
        "writeback_rate_proportional_term", "Current result of proportional controller, part of writeback rate"
    ),
    b"integral": _backing(
        "writeback_rate_integral_term", "Current result of integral controller, part of writeback rate"
    ),
    b"change": _backing("writeback_change", "Last writeback rate change step for this backing device."),
}
_CACHE_FILES = {
    "io_errors": _cache("io_errors", "Number of errors that have occurred, decayed by io_error_halflife."),
    "metadata_written": _cache(
        "metadata_written_bytes_total", "Sum of all non data writes (btree writes and all other metadata).", "counter"
    ),
    "written": _cache("written_bytes_total", "Sum of all data that has been written to the cache.", "counter"),
}
_PRIORITY_LINES = {
    b"Unused": _cache("priority_stats_unused_percent", "The percentage of the cache that doesn't contain any data."),
    b"Metadata": _cache("priority_stats_metadata_percent", "Bcache's metadata overhead."),
}

Numbers = dict[Family, Number]


class CacheSet(NamedTuple):
    """One cache set: its numbers, those of its backing devices and those of its cache devices."""

    uuid: str
    numbers: Numbers
    backing: dict[str, Numbers]
    caches: dict[str, Numbers]


def parse_number(data: bytes) -> int:
    """A number as bcache prints it: `1.5k`, `-27.5M`, `512`.

    What follows the point counts hundreds of 1,024, so `1.10k` is more than `1.9k`.
    """
    if len(data) > _LONGEST_NUMBER:
        raise ValueError("no number of bcache")
    digits = data.decode("ascii").removeprefix("-")
    factor = 1
    if digits[-1:].isalpha():
        factor = 1 << 10 * (_UNITS.index(digits[-1]) + 1)
        digits = digits[:-1]
    whole, _, fraction = digits.partition(".")
    value = int((int(whole) + (int(fraction) / 10.24 if fraction else 0)) * factor)
    return -value if data.startswith(b"-") else value


def parse_lines(data: bytes, wanted: dict[bytes, Family], suffix: bytes) -> Numbers:
    """The wanted `name: value` lines of a file, without the values' suffix; 0 for those that it lacks."""
    values = dict.fromkeys(wanted, b"0")
    for line in data.splitlines():
        name, _, value = line.partition(b":")
        if name in values:
            values[name] = value.strip().removesuffix(suffix)
    return {family: parse_number(values[name]) for name, family in wanted.items()}


class Bcache(HostCollector[list[CacheSet]]):
    """How well bcache caches."""

    class Options(Section, frozen=True, kw_only=True):
        """What is read beside the cheap files."""

        priority_stats: Annotated[
            bool, Meta(description="Also read priority_stats, which is expensive: it sorts every bucket of the cache.")
        ] = False

    name = "bcache"
    summary = "hits, dirty data, writeback and wear of bcache"
    prometheus = (
        *_SET_FILES.values(),
        BTREE_READ,
        *_BACKING_FILES.values(),
        READAHEADS,
        *_WRITEBACK_LINES.values(),
        *_CACHE_FILES.values(),
        *_PRIORITY_LINES.values(),
    )

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, Bcache.Options)
        self._priority_stats = options.priority_stats

    def read(self) -> list[CacheSet]:
        return [self._set(name) for name in self.kernel.sys_entries("fs/bcache") if "-" in name]

    def _set(self, uuid: str) -> CacheSet:
        base = f"fs/bcache/{uuid}"
        numbers = self._numbers(base, _SET_FILES)
        # The file says us and holds nanoseconds, by node_exporter's reading.
        numbers[BTREE_READ] = self._number(f"{base}/internal/btree_read_average_duration_us") * _NANOSECOND
        entries = self.kernel.sys_entries(base)
        return CacheSet(
            uuid,
            numbers,
            {name: self._backing(f"{base}/{name}") for name in entries if _BACKING.match(name)},
            {name: self._cache(f"{base}/{name}") for name in entries if _CACHE.match(name)},
        )

    def _backing(self, base: str) -> Numbers:
        numbers = self._numbers(base, _BACKING_FILES)
        if readaheads := self._number(f"{base}/stats_total/cache_readaheads"):
            numbers[READAHEADS] = readaheads
        return numbers | parse_lines(self._content(f"{base}/writeback_rate_debug"), _WRITEBACK_LINES, b"/sec")

    def _cache(self, base: str) -> Numbers:
        numbers = self._numbers(base, _CACHE_FILES)
        if self._priority_stats:
            numbers |= parse_lines(self._content(f"{base}/priority_stats"), _PRIORITY_LINES, b"%")
        return numbers

    def _numbers(self, base: str, files: dict[str, Family]) -> Numbers:
        return {family: self._number(f"{base}/{name}") for name, family in files.items()}

    def _number(self, relative: str) -> int:
        data = self.kernel.attribute(relative)
        return parse_number(data) if data is not None else 0

    def _content(self, relative: str) -> bytes:
        data = self.kernel.attribute(relative)
        if data is None:
            raise InputError(f"cannot read {self.kernel.sys}/{relative}")
        return data

    def families(self, reading: list[CacheSet]) -> Sequence[Block]:
        samples = Samples()
        for uuid, numbers, backing, caches in reading:
            for family, number in numbers.items():
                samples.add(family, number, uuid)
            for device, numbers_of_device in (*backing.items(), *caches.items()):
                for family, number in numbers_of_device.items():
                    samples.add(family, number, uuid, device)
        return samples.blocks(self.shapes, "prometheus")

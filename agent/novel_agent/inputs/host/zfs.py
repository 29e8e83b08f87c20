"""ZFS statistics from /proc/spl/kstat/zfs (OpenZFS; column two of a kstat is its type: 3 signed, 4 unsigned, 7 text).

The names of the metrics are the module's own and differ between its versions.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, FamilyPattern, Series

_DIRECTORY = "spl/kstat/zfs"
_SUBSYSTEMS = {
    "abdstats": "zfs_abd",
    "arcstats": "zfs_arc",
    "dbufstats": "zfs_dbuf",
    "dmu_tx": "zfs_dmu_tx",
    "dnodestats": "zfs_dnode",
    "fm": "zfs_fm",
    "vdev_cache_stats": "zfs_vdev_cache",
    "vdev_mirror_stats": "zfs_vdev_mirror",
    "xuio_stats": "zfs_xuio",
    "zfetchstats": "zfs_zfetch",
    "zil": "zfs_zil",
}
_NUMBER_TYPES = frozenset((b"3", b"4"))
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
POOL_STATES = ("online", "degraded", "faulted", "offline", "removed", "unavail", "suspended")

STATE = Family("node_zfs_zpool_state", "kstat.zfs.misc.state", "gauge", ("zpool", "state"))


class Pool(NamedTuple):
    """One pool: its I/O counters and state where the module shows them, and the counters of its datasets."""

    name: str
    io: dict[str, int]
    datasets: dict[str, dict[str, int]]
    state: str | None


class ZfsReading(NamedTuple):
    """Counters by kstat file, and the pools."""

    kstats: dict[str, dict[str, int]]
    pools: list[Pool]


def rows(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Name, type and value of each line of a named kstat."""
    _, found, body = data.partition(b"name")
    header, _, body = body.partition(b"\n")
    if not found or header.split() != [b"type", b"data"]:
        raise ValueError("no kstat header")
    for line in body.splitlines():
        fields = line.split(None, 2)
        if len(fields) == 3:
            yield fields[0], fields[1], fields[2]


def parse(data: bytes) -> dict[str, int]:
    """The numbers of a named kstat."""
    return {text(name): int(value.split()[0]) for name, kind, value in rows(data) if kind in _NUMBER_TYPES}


def parse_dataset(data: bytes) -> tuple[str, dict[str, int]]:
    """The name of a dataset and its counters."""
    name, numbers = "", {}
    for key, kind, value in rows(data):
        if key == b"dataset_name":
            name = text(value)
        elif kind == b"4":
            numbers[text(key)] = int(value.split()[0])
    return name, numbers


def parse_io(data: bytes) -> dict[str, int]:
    """The I/O counters of a pool: a line of names that begins with `nread`, then a line of numbers."""
    lines = data.splitlines()
    for names, numbers in pairwise(lines):
        if names.startswith(b"nread"):
            return {text(name): int(number) for name, number in zip(names.split(), numbers.split(), strict=True)}
    return {}


class Zfs(HostCollector[ZfsReading]):
    """What ZFS does."""

    name = "zfs"
    summary = "ARC and other statistics of ZFS; I/O, datasets and state of its pools"
    prometheus = (
        STATE,
        FamilyPattern(
            r"node_zfs_zpool_dataset_\w+",
            "Counters of a ZFS dataset, as ZFS names them.",
            "untyped",
            ("zpool", "dataset"),
        ),
        FamilyPattern(r"node_zfs_zpool_\w+", "I/O counters of a ZFS pool, as ZFS names them.", "untyped", ("zpool",)),
        FamilyPattern(
            rf"node_({'|'.join(_SUBSYSTEMS.values())})_\w+", "Statistics of a part of ZFS, as ZFS names them."
        ),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._directory = f"{self.kernel.proc}/{_DIRECTORY}"
        self._files = {name: self.kernel.proc_file(f"{_DIRECTORY}/{name}") for name in _SUBSYSTEMS}
        self._made: dict[tuple[str, str], Family] = {}

    def read(self) -> ZfsReading:
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            raise NoData(f"ZFS: {self._directory} does not exist") from None
        kstats = {name: parse(self._files[name].read()) for name in names if name in _SUBSYSTEMS}
        pools = [pool for name in names if name not in _SUBSYSTEMS and (pool := self._pool(name)) is not None]
        return ZfsReading(kstats, pools)

    def _pool(self, name: str) -> Pool | None:
        """A pool, or None for any other file there. Files of a pool that is being exported may be gone already."""
        try:
            entries = os.listdir(f"{self._directory}/{name}")
        except OSError:
            return None
        io = self._content(f"{name}/io") if "io" in entries else None
        state = self._content(f"{name}/state") if "state" in entries else None
        found = [self._content(f"{name}/{entry}") for entry in sorted(entries) if entry.startswith("objset-")]
        datasets = dict([parse_dataset(data) for data in found if data is not None])
        return Pool(
            name,
            parse_io(io) if io is not None else {},
            datasets,
            text(state.strip()).lower() if state is not None else None,
        )

    def _content(self, relative: str) -> bytes | None:
        # Pools have thousands of datasets: no handle stays open.
        file = KernelFile(f"{self._directory}/{relative}")
        try:
            return file.read()
        except OSError:
            return None
        finally:
            file.close()

    def families(self, reading: ZfsReading) -> Sequence[Block]:
        kstats, pools = reading
        key = tuple([(kstat, tuple(numbers)) for kstat, numbers in kstats.items()])
        shape = self.shapes.get("kstats", key, lambda: self._kstat_series(kstats))
        values = [number for numbers in kstats.values() for number in numbers.values()]
        return [Block(shape, values), *self._pool_samples(pools).blocks(self.shapes, "pools")]

    def _kstat_series(self, kstats: dict[str, dict[str, int]]) -> list[Series]:
        return [
            self._family(_SUBSYSTEMS[kstat], kstat, key).series()
            for kstat, numbers in kstats.items()
            for key in numbers
        ]

    def _pool_samples(self, pools: Sequence[Pool]) -> Samples:
        samples = Samples()
        for pool in pools:
            for key, number in pool.io.items():
                samples.add(self._family("zfs_zpool", "io", key), number, pool.name)
            for dataset, numbers in pool.datasets.items():
                for key, number in numbers.items():
                    samples.add(self._family("zfs_zpool_dataset", "objset", key), number, pool.name, dataset)
            if pool.state is not None:
                for state in POOL_STATES:
                    samples.add(STATE, int(pool.state == state), pool.name, state)
        return samples

    def _family(self, subsystem: str, kstat: str, key: str) -> Family:
        family = self._made.get((subsystem, key))
        if family is None:
            labels = {"zfs_zpool": ("zpool",), "zfs_zpool_dataset": ("zpool", "dataset")}.get(subsystem, ())
            family = self._made[subsystem, key] = Family(
                f"node_{subsystem}_{_NOT_IN_NAMES.sub('_', key)}", f"kstat.zfs.misc.{kstat}.{key}", "untyped", labels
            )
        return family

"""XFS runtime statistics from /sys/fs/xfs/DEVICE/stats/stats (fs/xfs/xfs_stats.c)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import integers
from novel_agent.inputs.host.samples import table
from novel_agent.model.metric import Block, Family

_DEVICE = ("device",)
# By line of the file, what each of its numbers is: the metric's name and help.
_LINES: dict[bytes, tuple[tuple[str, str], ...]] = {
    b"extent_alloc": (
        ("extent_allocation_extents_allocated_total", "Number of extents allocated for a filesystem."),
        ("extent_allocation_blocks_allocated_total", "Number of blocks allocated for a filesystem."),
        ("extent_allocation_extents_freed_total", "Number of extents freed for a filesystem."),
        ("extent_allocation_blocks_freed_total", "Number of blocks freed for a filesystem."),
    ),
    b"abt": (
        ("allocation_btree_lookups_total", "Number of allocation B-tree lookups for a filesystem."),
        ("allocation_btree_compares_total", "Number of allocation B-tree compares for a filesystem."),
        ("allocation_btree_records_inserted_total", "Number of allocation B-tree records inserted for a filesystem."),
        ("allocation_btree_records_deleted_total", "Number of allocation B-tree records deleted for a filesystem."),
    ),
    b"blk_map": (
        ("block_mapping_reads_total", "Number of block map for read operations for a filesystem."),
        ("block_mapping_writes_total", "Number of block map for write operations for a filesystem."),
        ("block_mapping_unmaps_total", "Number of block unmaps (deletes) for a filesystem."),
        ("block_mapping_extent_list_insertions_total", "Number of extent list insertions for a filesystem."),
        ("block_mapping_extent_list_deletions_total", "Number of extent list deletions for a filesystem."),
        ("block_mapping_extent_list_lookups_total", "Number of extent list lookups for a filesystem."),
        ("block_mapping_extent_list_compares_total", "Number of extent list compares for a filesystem."),
    ),
    b"bmbt": (
        ("block_map_btree_lookups_total", "Number of block map B-tree lookups for a filesystem."),
        ("block_map_btree_compares_total", "Number of block map B-tree compares for a filesystem."),
        ("block_map_btree_records_inserted_total", "Number of block map B-tree records inserted for a filesystem."),
        ("block_map_btree_records_deleted_total", "Number of block map B-tree records deleted for a filesystem."),
    ),
    b"dir": (
        (
            "directory_operation_lookup_total",
            "Number of file name directory lookups which miss the operating systems directory name lookup cache.",
        ),
        (
            "directory_operation_create_total",
            "Number of times a new directory entry was created for a filesystem.",
        ),
        (
            "directory_operation_remove_total",
            "Number of times an existing directory entry was created for a filesystem.",
        ),
        (
            "directory_operation_getdents_total",
            "Number of times the directory getdents operation was performed for a filesystem.",
        ),
    ),
    b"ig": (
        (
            "inode_operation_attempts_total",
            "Number of times the OS looked for an XFS inode in the inode cache.",
        ),
        (
            "inode_operation_found_total",
            "Number of times the OS looked for and found an XFS inode in the inode cache.",
        ),
        (
            "inode_operation_recycled_total",
            "Number of times the OS found an XFS inode in the cache, but could not use it as it was being recycled.",
        ),
        (
            "inode_operation_missed_total",
            "Number of times the OS looked for an XFS inode in the cache, but did not find it.",
        ),
        (
            "inode_operation_duplicates_total",
            "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had already been added "
            "by another process.",
        ),
        (
            "inode_operation_reclaims_total",
            "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another purpose.",
        ),
        (
            "inode_operation_attribute_changes_total",
            "Number of times the OS explicitly changed the attributes of an XFS inode.",
        ),
    ),
    b"rw": (
        ("write_calls_total", "Number of write(2) system calls made to files in a filesystem."),
        ("read_calls_total", "Number of read(2) system calls made to files in a filesystem."),
    ),
    b"vnodes": (
        ("vnode_active_total", "Number of vnodes not on free lists for a filesystem."),
        ("vnode_allocate_total", "Number of times vn_alloc called for a filesystem."),
        ("vnode_get_total", "Number of times vn_get called for a filesystem."),
        ("vnode_hold_total", "Number of times vn_hold called for a filesystem."),
        ("vnode_release_total", "Number of times vn_rele called for a filesystem."),
        ("vnode_reclaim_total", "Number of times vn_reclaim called for a filesystem."),
        ("vnode_remove_total", "Number of times vn_remove called for a filesystem."),
    ),
}
FAMILIES = tuple(
    Family(f"node_xfs_{name}", help_text, "counter", _DEVICE) for line in _LINES.values() for name, help_text in line
)


class XfsReading(NamedTuple):
    """The devices, and for each its numbers in the order of the families."""

    devices: tuple[str, ...]
    rows: list[list[int]]


def parse(data: bytes) -> list[int]:
    """The numbers of one stats file in the order of the families; 0 for a line that it lacks."""
    lines: dict[bytes, list[bytes]] = {}
    for line in data.splitlines():
        label, *fields = line.split() or (b"",)
        lines[label] = fields
    if lines.keys().isdisjoint(_LINES):
        raise ValueError("no known line in XFS statistics")
    numbers: list[int] = []
    for label, metrics in _LINES.items():
        row = integers(lines.get(label) or [b"0"] * len(metrics))
        if len(row) < len(metrics):
            raise ValueError(f"too few numbers in line {label.decode()} of XFS statistics")
        numbers += row[: len(metrics)]
    return numbers


class Xfs(HostCollector[XfsReading]):
    """What XFS file systems do inside."""

    name = "xfs"
    summary = "extents, B-trees, directory and inode operations of XFS file systems"
    prometheus = FAMILIES

    def setup(self, options: msgspec.Struct) -> None:
        self._listed: list[str] = []
        self._mounted: list[str] = []

    def read(self) -> XfsReading:
        listed = self.kernel.sys_entries("fs/xfs")
        if listed != self._listed:
            self._mounted = [name for name in listed if os.path.exists(f"{self.kernel.sys}/{_stats(name)}")]
            self._listed = listed
        read = [(name, data) for name in self._mounted if (data := self.kernel.attribute(_stats(name))) is not None]
        return XfsReading(tuple([name for name, _ in read]), [parse(data) for _, data in read])

    def families(self, reading: XfsReading) -> Sequence[Block]:
        devices, rows = reading
        if not devices:
            return ()
        shape = self.shapes.get("prometheus", devices, lambda: table(FAMILIES, [(device,) for device in devices]))
        return [Block(shape, [number for column in zip(*rows, strict=True) for number in column])]


def _stats(device: str) -> str:
    return f"fs/xfs/{device}/stats/stats"

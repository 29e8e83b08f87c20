import pytest

from novel_agent.inputs.host.xfs import parse
from novel_agent.wire.prometheus import render_text

STATS = """\
extent_alloc 1 2 3 4
abt 5 6 7 8
blk_map 9 10 11 12 13 14 15
bmbt 16 17 18 19
dir 20 21 22 23
trans 706 944304 0
ig 24 25 26 27 28 29 30
log 2883 113448 9 17360 739
rw 31 32
attr 4 0 0 0
icluster 8677 7849 135802
vnodes 33 34 35 36 37 38 39 40
buf 2666287 7122 2659202 3599 2 7085 0 10297 7085
xpc 399724544 92823103 86219234
debug 0
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_every_number_comes_under_its_own_name(tree, collector):
    xfs = collector("xfs", tree({"sys/fs/xfs/dm-1/stats/stats": STATS}))
    assert samples(xfs.families(xfs.read())) == [
        f'node_xfs_{name}{{device="dm-1"}} {number}'
        for name, number in {
            "extent_allocation_extents_allocated_total": 1,
            "extent_allocation_blocks_allocated_total": 2,
            "extent_allocation_extents_freed_total": 3,
            "extent_allocation_blocks_freed_total": 4,
            "allocation_btree_lookups_total": 5,
            "allocation_btree_compares_total": 6,
            "allocation_btree_records_inserted_total": 7,
            "allocation_btree_records_deleted_total": 8,
            "block_mapping_reads_total": 9,
            "block_mapping_writes_total": 10,
            "block_mapping_unmaps_total": 11,
            "block_mapping_extent_list_insertions_total": 12,
            "block_mapping_extent_list_deletions_total": 13,
            "block_mapping_extent_list_lookups_total": 14,
            "block_mapping_extent_list_compares_total": 15,
            "block_map_btree_lookups_total": 16,
            "block_map_btree_compares_total": 17,
            "block_map_btree_records_inserted_total": 18,
            "block_map_btree_records_deleted_total": 19,
            "directory_operation_lookup_total": 20,
            "directory_operation_create_total": 21,
            "directory_operation_remove_total": 22,
            "directory_operation_getdents_total": 23,
            "inode_operation_attempts_total": 24,
            "inode_operation_found_total": 25,
            "inode_operation_recycled_total": 26,
            "inode_operation_missed_total": 27,
            "inode_operation_duplicates_total": 28,
            "inode_operation_reclaims_total": 29,
            "inode_operation_attribute_changes_total": 30,
            "write_calls_total": 31,
            "read_calls_total": 32,
            "vnode_active_total": 33,
            "vnode_allocate_total": 34,
            "vnode_get_total": 35,
            "vnode_hold_total": 36,
            "vnode_release_total": 37,
            "vnode_reclaim_total": 38,
            "vnode_remove_total": 39,
        }.items()
    ]


def test_only_mounted_file_systems_are_shown_and_a_new_one_is_seen(tree, collector):
    xfs = collector(
        "xfs",
        tree({"sys/fs/xfs/stats/stats": STATS, "sys/fs/xfs/sda1/stats/stats": STATS, "sys/fs/xfs/debug/x": "1\n"}),
    )
    assert xfs.read().devices == ("sda1",)
    tree({"sys/fs/xfs/sdb1/stats/stats": STATS.replace("extent_alloc 1", "extent_alloc 100")})
    reading = xfs.read()
    assert reading.devices == ("sda1", "sdb1")
    assert samples(xfs.families(reading))[:2] == [
        'node_xfs_extent_allocation_extents_allocated_total{device="sda1"} 1',
        'node_xfs_extent_allocation_extents_allocated_total{device="sdb1"} 100',
    ]


def test_an_old_kernels_vnode_line_is_shorter():
    assert parse(STATS.replace(" 39 40\n", " 39\n").encode())[-1] == 39


def test_a_missing_line_counts_nothing():
    numbers = parse(b"rw 7 8\n")
    assert len(numbers) == 39
    assert numbers[30:32] == [7, 8]
    assert sum(numbers) == 15


def test_a_host_without_xfs_shows_nothing(collector):
    xfs = collector("xfs")
    assert xfs.families(xfs.read()) == ()


@pytest.mark.parametrize("data", [b"", b"garbage\n", b"rw 1\n", b"rw 1 many\n", b"abt 1 2 3\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)

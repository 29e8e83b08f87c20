import pytest

from novel_agent.errors import InputError
from novel_agent.inputs.host.bcache import parse_number
from novel_agent.wire.prometheus import render_text

UUID = "3f8e1c54-7a2b-4d19-9c0e-5b6a7d8e9f10"
FILES = {
    "average_key_size": "96",
    "btree_cache_size": "88.5M",
    "cache_available_percent": "94",
    "congested": "0",
    "root_usage_percent": "12",
    "tree_depth": "1",
    "internal/active_journal_entries": "14",
    "internal/btree_nodes": "3540",
    "internal/btree_read_average_duration_us": "1305",
    "internal/cache_read_races": "2",
    "bdev0/dirty_data": "4.5G",
    "bdev0/writeback_rate_debug": (
        "rate:\t\t1.1M/sec\ndirty:\t\t4.3G\ntarget:\t\t9.7G\nproportional:\t-137.2M\n"
        "integral:\t4.0k\nchange:\t\t-1.0k/sec\nnext io:\t1ms"
    ),
    "bdev0/stats_total/bypassed": "1.0k",
    "bdev0/stats_total/cache_hits": "402118",
    "bdev0/stats_total/cache_misses": "31044",
    "bdev0/stats_total/cache_bypass_hits": "1204",
    "bdev0/stats_total/cache_bypass_misses": "88120",
    "bdev0/stats_total/cache_miss_collisions": "7",
    "bdev0/stats_total/cache_readaheads": "0",
    "cache0/io_errors": "3",
    "cache0/metadata_written": "512",
    "cache0/written": "2.0M",
    "cache0/priority_stats": "Unused:\t\t3%\nClean:\t\t94%\nDirty:\t\t2%\nMetadata:\t1%\nAverage:\t1204",
}


def sysfs(**changed: str) -> dict[str, str]:
    files = FILES | {name.replace("__", "/"): content for name, content in changed.items()}
    return {f"sys/fs/bcache/{UUID}/{name}": f"{content}\n" for name, content in files.items()}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_the_set_its_backing_and_its_cache_devices(tree, collector):
    bcache = collector("bcache", tree(sysfs()))
    whole = f'{{uuid="{UUID}"}}'
    backing = f'{{uuid="{UUID}",backing_device="bdev0"}}'
    cache = f'{{uuid="{UUID}",cache_device="cache0"}}'
    assert samples(bcache.families(bcache.read())) == [
        f"node_bcache_average_key_size_sectors{whole} 96",
        f"node_bcache_btree_cache_size_bytes{whole} 92786688",
        f"node_bcache_cache_available_percent{whole} 94",
        f"node_bcache_congested{whole} 0",
        f"node_bcache_root_usage_percent{whole} 12",
        f"node_bcache_tree_depth{whole} 1",
        f"node_bcache_active_journal_entries{whole} 14",
        f"node_bcache_btree_nodes{whole} 3540",
        f"node_bcache_cache_read_races_total{whole} 2",
        f"node_bcache_btree_read_average_duration_seconds{whole} 1.305e-06",
        f"node_bcache_dirty_data_bytes{backing} 4819255296",
        f"node_bcache_bypassed_bytes_total{backing} 1024",
        f"node_bcache_cache_hits_total{backing} 402118",
        f"node_bcache_cache_misses_total{backing} 31044",
        f"node_bcache_cache_bypass_hits_total{backing} 1204",
        f"node_bcache_cache_bypass_misses_total{backing} 88120",
        f"node_bcache_cache_miss_collisions_total{backing} 7",
        f"node_bcache_dirty_target_bytes{backing} 10397679616",
        f"node_bcache_writeback_rate{backing} 1150976",
        f"node_bcache_writeback_rate_proportional_term{backing} -143859712",
        f"node_bcache_writeback_rate_integral_term{backing} 4096",
        f"node_bcache_writeback_change{backing} -1024",
        f"node_bcache_io_errors{cache} 3",
        f"node_bcache_metadata_written_bytes_total{cache} 512",
        f"node_bcache_written_bytes_total{cache} 2097152",
    ]


def test_readaheads_are_shown_once_there_were_any(tree, collector):
    bcache = collector("bcache", tree(sysfs(bdev0__stats_total__cache_readaheads="12")))
    assert (f'node_bcache_cache_readaheads_total{{uuid="{UUID}",backing_device="bdev0"}} 12') in samples(
        bcache.families(bcache.read())
    )


def test_priority_statistics_are_read_where_they_are_asked_for(tree, collector):
    bcache = collector("bcache", tree(sysfs()), priority_stats=True)
    assert samples(bcache.families(bcache.read()))[-2:] == [
        f'node_bcache_priority_stats_unused_percent{{uuid="{UUID}",cache_device="cache0"}} 3',
        f'node_bcache_priority_stats_metadata_percent{{uuid="{UUID}",cache_device="cache0"}} 1',
    ]


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"0", 0),
        (b"512", 512),
        (b"1.0k", 1024),
        (b"1.10k", 2024),
        (b"1.9k", 1924),
        (b"2M", 2097152),
        (b"-27.5M", -28823552),
        (b"1.0G", 1073741824),
    ],
)
def test_reads_numbers_as_bcache_prints_them(data, number):
    assert parse_number(data) == number


@pytest.mark.parametrize("data", [b"", b"many", b"1.2.3k", b"12Q", b"\xff", b"9" * 33])
def test_refuses_what_bcache_does_not_print(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_number(data)


def test_a_backing_device_without_its_writeback_file_cannot_be_read(tree, collector):
    root = tree(sysfs())
    (root / f"sys/fs/bcache/{UUID}/bdev0/writeback_rate_debug").unlink()
    with pytest.raises(InputError):
        collector("bcache", root).read()


def test_a_host_without_bcache_shows_nothing(tree, collector):
    bcache = collector("bcache", tree({"sys/fs/bcache/register": ""}))
    assert bcache.families(bcache.read()) == []

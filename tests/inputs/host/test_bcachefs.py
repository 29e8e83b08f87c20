import os
import shutil
from pathlib import Path

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.bcachefs import (
    parse_btree_writes,
    parse_compression,
    parse_counter,
    parse_errors,
    parse_io_done,
    parse_io_errors,
    parse_size,
)
from novel_agent.wire.prometheus import render_text

METAL = Path(__file__).parents[2] / "fixtures/hosts/metal"
UUID = "b6c1f0de-24a7-4e5d-9a38-7f1c0d2e3b49"
BASE = f"sys/fs/bcachefs/{UUID}"
SMALL = {
    f"{BASE}/btree_cache_size": "405\n",
    f"{BASE}/counters/fsync": "since mount:                   1\nsince filesystem creation:     7\n",
    f"{BASE}/dev-0/label": "\n",
    f"{BASE}/dev-0/state": "[rw] ro evacuating spare \n",
    f"{BASE}/dev-0/nbuckets": "2048\n",
}


def lines(collector) -> list[str]:
    text = render_text(collector.families(collector.read())).decode()
    return [line.replace(f'uuid="{UUID}",', "").replace(f'{{uuid="{UUID}"}}', "") for line in text.splitlines()]


def samples(collector) -> list[str]:
    return [line.removeprefix("node_bcachefs_") for line in lines(collector) if not line.startswith("#")]


def of(collector, *names: str) -> list[str]:
    return [line for line in samples(collector) if line.partition("{")[0].partition(" ")[0] in names]


def handles(collector) -> list[int]:
    return [file._descriptor for file in collector.kernel._attributes.values()]


def test_shows_what_is_cached_and_compressed(collector):
    assert of(
        collector("bcachefs", METAL),
        "info",
        "btree_cache_size_bytes",
        "compression_compressed_bytes",
        "compression_uncompressed_bytes",
    ) == [
        "info 1",
        "btree_cache_size_bytes 432013312",
        'compression_compressed_bytes{algorithm="lz4_old"} 0',
        'compression_compressed_bytes{algorithm="gzip"} 0',
        'compression_compressed_bytes{algorithm="lz4"} 15676630630',
        'compression_compressed_bytes{algorithm="zstd"} 200789721088',
        'compression_compressed_bytes{algorithm="incompressible"} 649613803520',
        'compression_uncompressed_bytes{algorithm="lz4_old"} 0',
        'compression_uncompressed_bytes{algorithm="gzip"} 0',
        'compression_uncompressed_bytes{algorithm="lz4"} 23944442675',
        'compression_uncompressed_bytes{algorithm="zstd"} 431644213248',
        'compression_uncompressed_bytes{algorithm="incompressible"} 649613803520',
    ]


def test_counts_errors_and_writes_of_the_btree(collector):
    assert of(collector("bcachefs", METAL), "errors_total", "btree_writes_total", "btree_write_average_size_bytes") == [
        'errors_total{error_type="btree_node_bset_older_than_sb_min"} 3',
        'errors_total{error_type="lru_entry_bad"} 1874',
        'errors_total{error_type="backpointer_to_missing_ptr"} 20551',
        'btree_writes_total{type="initial"} 48211',
        'btree_writes_total{type="init_next_bset"} 60934',
        'btree_writes_total{type="cache_reclaim"} 97',
        'btree_writes_total{type="journal_reclaim"} 1204417',
        'btree_writes_total{type="interior"} 52306',
        'btree_write_average_size_bytes{type="initial"} 110592',
        'btree_write_average_size_bytes{type="init_next_bset"} 27033',
        'btree_write_average_size_bytes{type="cache_reclaim"} 512',
        'btree_write_average_size_bytes{type="journal_reclaim"} 683',
        'btree_write_average_size_bytes{type="interior"} 1218',
    ]


def test_describes_each_device(collector):
    assert of(
        collector("bcachefs", METAL),
        "device_info",
        "device_bucket_size_bytes",
        "device_buckets",
        "device_durability",
        "device_io_errors_total",
    ) == [
        'device_info{device="0",label="ssd.ssd1",state="[rw] ro evacuating spare"} 1',
        'device_info{device="1",label="hdd.hdd1",state="rw [ro] evacuating spare"} 1',
        'device_bucket_size_bytes{device="0"} 524288',
        'device_bucket_size_bytes{device="1"} 2097152',
        'device_buckets{device="0"} 953869',
        'device_buckets{device="1"} 2097152',
        'device_durability{device="0"} 1',
        'device_durability{device="1"} 2',
        'device_io_errors_total{device="0",type="read"} 0',
        'device_io_errors_total{device="0",type="write"} 0',
        'device_io_errors_total{device="0",type="checksum"} 2',
        'device_io_errors_total{device="1",type="read"} 31',
        'device_io_errors_total{device="1",type="write"} 4',
        'device_io_errors_total{device="1",type="checksum"} 0',
    ]


def test_counts_bytes_by_device_operation_and_type_of_data(collector):
    done = of(collector("bcachefs", METAL), "device_io_done_bytes_total")
    assert len(done) == 2 * 2 * 10
    assert [line for line in done if 'device="1"' in line and not line.endswith(" 0")] == [
        'device_io_done_bytes_total{device="1",operation="read",data_type="sb"} 77824',
        'device_io_done_bytes_total{device="1",operation="read",data_type="user"} 2208291971072',
        'device_io_done_bytes_total{device="1",operation="write",data_type="sb"} 552960',
        'device_io_done_bytes_total{device="1",operation="write",data_type="user"} 1162690461696',
    ]


def test_each_counter_is_a_metric_of_its_own(collector):
    shown = lines(collector("bcachefs", METAL))
    start = shown.index("# HELP node_bcachefs_data_read_total Bcachefs counter data_read since filesystem creation.")
    assert shown[start + 1 : start + 3] == [
        "# TYPE node_bcachefs_data_read_total counter",
        "node_bcachefs_data_read_total 2979676511272",
    ]
    assert "node_bcachefs_btree_node_read_total 3906127" in shown


def test_a_counters_name_is_made_fit_for_a_metric(tree, collector):
    name = "data__-_read.v2"
    bcachefs = collector("bcachefs", tree({f"{BASE}/counters/{name}": "since filesystem creation:     9\n"}))
    assert lines(bcachefs)[-3:] == [
        "# HELP node_bcachefs_data_read_v2_total Bcachefs counter data__-_read.v2 since filesystem creation.",
        "# TYPE node_bcachefs_data_read_v2_total counter",
        "node_bcachefs_data_read_v2_total 9",
    ]


def test_has_no_names_of_opentelemetry(collector):
    bcachefs = collector("bcachefs", METAL)
    assert list(bcachefs.telemetry(bcachefs.read())) == []


@pytest.mark.parametrize(
    ("data", "size_bytes"),
    [
        (b"0", 0),
        (b"405", 405),
        (b"542k", 555008),
        (b"1.26K", 1290),
        (b"322M", 337641472),
        (b"1.5G", 1610612736),
        (b"10.8T", 11874725579980),
        (b"2.00P", 2251799813685248),
        (b"1.00E", 1152921504606846976),
    ],
)
def test_sizes_are_powers_of_1024(data, size_bytes):
    assert parse_size(data) == size_bytes


@pytest.mark.parametrize("data", [b"", b"-1", b"k", b"1.5.2k", b"1Q", b"0x10", b"inf", b"1_0", b"9" * 33, b"9" * 5000])
def test_anything_else_is_no_size(data):
    with pytest.raises(ValueError, match="not a"):
        parse_size(data)


def test_units_are_spelt_out_by_the_kernels_that_had_bcachefs_inside(tree, collector):
    files = {
        f"{BASE}/btree_cache_size": "19.1 GiB\n",
        f"{BASE}/counters/data_read": "since mount:                    306 B\n"
        "since filesystem creation:      1.20 MiB\n",
        f"{BASE}/dev-0/bucket_size": "512 KiB\n",
    }
    assert [
        line for line in samples(collector("bcachefs", tree(files))) if not line.startswith(("info", "device_i"))
    ] == [
        "btree_cache_size_bytes 20508468838",
        "data_read_total 1258291",
        'device_bucket_size_bytes{device="0"} 524288',
        'device_buckets{device="0"} 0',
        'device_durability{device="0"} 0',
    ]


def test_units_are_spelt_out_in_tables_as_well():
    compression = (
        b"typetype          compressed    uncompressed     average extent size\n"
        b"lz4                      0 B             0 B                     0 B\n"
        b"zstd                2.86 TiB        8.15 TiB                 123 KiB\n"
        b"12 compressed & incompressible extents\n"
    )
    assert parse_compression(compression) == {"lz4": (0, 0), "zstd": (3144603255439, 8961019766374)}
    writes = (
        b"                    nr        size\n"
        b"init_next_bset:     369063    24.9 KiB\n"
        b"cache_reclaim:      11667     306 B\n"
    )
    assert parse_btree_writes(writes) == {"init_next_bset": (369063, 25497), "cache_reclaim": (11667, 306)}


def test_a_table_that_is_not_written_yet_has_no_rows():
    assert parse_compression(b"") == {}
    assert parse_btree_writes(b"                   nr        size") == {}
    assert parse_errors(b"") == {}


def test_a_large_count_of_errors_runs_into_their_time():
    data = (
        b"vfs_bad_inode_rm                                121     1758960176\n"
        b"extent_io_opts_not_set                          11299659571772285102\n"
        b"cut_off_name"
    )
    assert parse_errors(data) == {"vfs_bad_inode_rm": 121, "extent_io_opts_not_set": 11299659571772285102}


def test_a_counter_without_history_is_zero():
    assert parse_counter(b"since mount:                   12") == 0
    with pytest.raises(ValueError, match="no counter"):
        parse_counter(b"12")


def test_lines_of_no_operation_are_left_out():
    assert parse_io_done(b"sb:  1\n\nread:\nsb          :          2\nno number\nwrite:\nuser:3") == {
        ("read", "sb"): 2,
        ("write", "user"): 3,
    }


def test_errors_since_the_last_reset_are_left_out():
    assert parse_io_errors(
        b"IO errors since filesystem creation\n  read:    5\n  checksum:1\nIO errors since 8 y ago\n  read:    2\n"
    ) == {"read": 5, "checksum": 1}
    assert parse_io_errors(b"IO errors since 8 y ago\n  read:    2\n") == {}


def test_what_is_missing_is_zero_or_absent(tree, collector):
    assert samples(collector("bcachefs", tree({f"{BASE}/btree_cache_size": "", f"{BASE}/dev-3/uuid": "7c9e\n"}))) == [
        "info 1",
        "btree_cache_size_bytes 0",
        'device_info{device="3",label="",state=""} 1',
        'device_bucket_size_bytes{device="3"} 0',
        'device_buckets{device="3"} 0',
        'device_durability{device="3"} 0',
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("btree_cache_size", "much"),
        ("compression_stats", "type\nlz4  1G  a\n"),
        ("errors", "lru_entry_bad  many  1751120466\n"),
        ("errors", "lru_entry_bad  -1  1751120466\n"),
        ("counters/fsync", ""),
        ("counters/fsync", "since filesystem creation:\n"),
        ("btree_write_stats", "nr size\ninitial:  1k  1k\n"),
        ("dev-0/bucket_size", "\x00\x00"),
        ("dev-0/nbuckets", ""),
        ("dev-0/durability", "1.5"),
        ("dev-0/io_done", "read:\nsb:\n"),
        ("dev-0/io_errors", "IO errors since filesystem creation\n  read:    ?\n"),
    ],
)
def test_refuses_what_bcachefs_does_not_write(tree, collector, name, content):
    with pytest.raises(ValueError, match=r"not a|no counter"):
        collector("bcachefs", tree(SMALL | {f"{BASE}/{name}": content})).read()


def test_a_label_that_is_not_utf_8_is_shown_all_the_same(tree, collector):
    bcachefs = collector("bcachefs", tree(SMALL | {f"{BASE}/dev-0/label": b"ssd\xff\xfe.1\n"}))
    assert of(bcachefs, "device_info") == [
        'device_info{device="0",label="ssd\ufffd.1",state="[rw] ro evacuating spare"} 1'
    ]


def test_a_host_without_such_a_file_system_has_no_data(tree, collector):
    with pytest.raises(NoData):
        collector("bcachefs").read()
    with pytest.raises(NoData):
        collector("bcachefs", tree({"sys/fs/bcachefs/README": "no file system"})).read()


def test_a_reading_opens_only_what_it_has_not_open_yet(tree, collector, monkeypatch):
    bcachefs = collector("bcachefs", tree(SMALL))
    before = samples(bcachefs)

    def refuse(path, *_):
        raise AssertionError(f"opened {path}")

    monkeypatch.setattr("novel_agent.inputs.host.kernel.os.open", refuse)
    assert samples(bcachefs) == before


def test_series_are_laid_out_anew_only_when_they_change(tree, collector):
    bcachefs = collector("bcachefs", tree(SMALL))
    (first,) = bcachefs.families(bcachefs.read())
    tree({f"{BASE}/dev-0/nbuckets": "4096\n"})
    (second,) = bcachefs.families(bcachefs.read())
    assert second.shape is first.shape
    assert 4096 in second.values
    tree({f"{BASE}/dev-0/label": "ssd\n"})
    (third,) = bcachefs.families(bcachefs.read())
    assert third.shape is not first.shape


def test_devices_and_file_systems_come_and_go(tree, collector):
    root = tree(SMALL)
    bcachefs = collector("bcachefs", root)
    bcachefs.read()
    other = "sys/fs/bcachefs/00000000-0000-4000-8000-000000000001"
    tree({f"{BASE}/dev-1/nbuckets": "16\n", f"{other}/btree_cache_size": "1k\n"})
    assert of(bcachefs, "device_buckets") == ['device_buckets{device="0"} 2048', 'device_buckets{device="1"} 16']
    assert [found.btree_cache_bytes for found in bcachefs.read()] == [1024, 405]
    shutil.rmtree(root / other)
    shutil.rmtree(root / BASE / "dev-0")
    assert of(bcachefs, "device_buckets") == ['device_buckets{device="1"} 16']
    assert [found.uuid for found in bcachefs.read()] == [UUID]


def test_a_file_system_mounted_anew_is_read_at_once(tree, collector):
    bcachefs = collector("bcachefs", tree(SMALL))
    before = samples(bcachefs)
    stale = os.open("/", os.O_RDONLY)
    for descriptor in handles(bcachefs):
        os.dup2(stale, descriptor)
    os.close(stale)
    assert samples(bcachefs) == before


def test_a_file_that_vanishes_costs_one_reading(tree, collector):
    root = tree(SMALL)
    bcachefs = collector("bcachefs", root)
    bcachefs.read()
    stale = os.open("/", os.O_RDONLY)
    for descriptor in handles(bcachefs):
        os.dup2(stale, descriptor)
    os.close(stale)
    (root / BASE / "dev-0/nbuckets").unlink()
    with pytest.raises(InputError, match="dev-0/nbuckets"):
        bcachefs.read()
    assert of(bcachefs, "device_buckets") == ['device_buckets{device="0"} 0']

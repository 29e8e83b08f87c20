import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.zfs import parse, parse_dataset, parse_io
from novel_agent.wire.prometheus import render_text

KSTAT = "proc/spl/kstat/zfs"
ARC = """\
6 1 0x01 91 4368 5266997922 97951858082072
name                            type data
hits                            4    8772612
memory_available_bytes          3    -922337203685477580
c_max                           4    18446744073709551615
"""
IO = """\
12 3 0x00 1 80 79205351707403 395818011156865
nread    nwritten reads    writes   wtime    wlentime wupdate  rtime    rlentime rupdate  wcnt     rcnt
1884160  3206144  22       132      7155162  104112268 79210489694949 24168078 104112268 79210489849220 0        1
"""
OBJSET = """\
23 1 0x01 7 2160 221578688875 6665999035587
name                            type data
dataset_name                    7    tank/novel stories
writes                          4    4
nwritten                        4    8192
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_statistics_keep_zfs_own_names(tree, collector):
    zfs = collector("zfs", tree({f"{KSTAT}/arcstats": ARC, f"{KSTAT}/fm": ARC.replace("hits    ", "erpt-dropped")}))
    text = render_text(zfs.families(zfs.read())).decode()
    assert text.startswith(
        "# HELP node_zfs_arc_hits kstat.zfs.misc.arcstats.hits\n"
        "# TYPE node_zfs_arc_hits untyped\nnode_zfs_arc_hits 8772612\n"
        "# HELP node_zfs_arc_memory_available_bytes kstat.zfs.misc.arcstats.memory_available_bytes\n"
        "# TYPE node_zfs_arc_memory_available_bytes untyped\n"
        "node_zfs_arc_memory_available_bytes -922337203685477580\n"
    )
    assert "# HELP node_zfs_fm_erpt_dropped kstat.zfs.misc.fm.erpt-dropped\n" in text


def test_a_pool_shows_its_io_datasets_and_state(tree, collector):
    zfs = collector(
        "zfs",
        tree({f"{KSTAT}/tank/io": IO, f"{KSTAT}/tank/objset-0x36": OBJSET, f"{KSTAT}/tank/state": "DEGRADED\n"}),
    )
    assert samples(zfs.families(zfs.read())) == [
        'node_zfs_zpool_nread{zpool="tank"} 1884160',
        'node_zfs_zpool_nwritten{zpool="tank"} 3206144',
        'node_zfs_zpool_reads{zpool="tank"} 22',
        'node_zfs_zpool_writes{zpool="tank"} 132',
        'node_zfs_zpool_wtime{zpool="tank"} 7155162',
        'node_zfs_zpool_wlentime{zpool="tank"} 104112268',
        'node_zfs_zpool_wupdate{zpool="tank"} 79210489694949',
        'node_zfs_zpool_rtime{zpool="tank"} 24168078',
        'node_zfs_zpool_rlentime{zpool="tank"} 104112268',
        'node_zfs_zpool_rupdate{zpool="tank"} 79210489849220',
        'node_zfs_zpool_wcnt{zpool="tank"} 0',
        'node_zfs_zpool_rcnt{zpool="tank"} 1',
        'node_zfs_zpool_dataset_writes{zpool="tank",dataset="tank/novel stories"} 4',
        'node_zfs_zpool_dataset_nwritten{zpool="tank",dataset="tank/novel stories"} 8192',
        'node_zfs_zpool_state{zpool="tank",state="online"} 0',
        'node_zfs_zpool_state{zpool="tank",state="degraded"} 1',
        'node_zfs_zpool_state{zpool="tank",state="faulted"} 0',
        'node_zfs_zpool_state{zpool="tank",state="offline"} 0',
        'node_zfs_zpool_state{zpool="tank",state="removed"} 0',
        'node_zfs_zpool_state{zpool="tank",state="unavail"} 0',
        'node_zfs_zpool_state{zpool="tank",state="suspended"} 0',
    ]


def test_the_counters_of_two_pools_stand_together(tree, collector):
    zfs = collector("zfs", tree({f"{KSTAT}/tank/io": IO, f"{KSTAT}/backup/io": IO}))
    assert samples(zfs.families(zfs.read()))[:2] == [
        'node_zfs_zpool_nread{zpool="backup"} 1884160',
        'node_zfs_zpool_nread{zpool="tank"} 1884160',
    ]


def test_a_newer_module_without_the_old_files_works(tree, collector):
    zfs = collector("zfs", tree({f"{KSTAT}/tank/state": "ONLINE\n", f"{KSTAT}/chksum_bench": "implementation  1k\n"}))
    assert len(samples(zfs.families(zfs.read()))) == 7


def test_without_the_module_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("zfs").read()


def test_the_name_of_a_dataset_may_hold_blanks():
    assert parse_dataset(OBJSET.encode()) == ("tank/novel stories", {"writes": 4, "nwritten": 8192})


def test_an_io_file_without_its_lines_counts_nothing():
    assert parse_io(b"") == {}


@pytest.mark.parametrize("data", [b"", b"garbage\n", b"6 1 0x01\nname type data\nhits 4 many\n"])
def test_refuses_what_the_module_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)


def test_refuses_an_io_file_with_too_few_numbers():
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_io(b"nread nwritten\n12\n")

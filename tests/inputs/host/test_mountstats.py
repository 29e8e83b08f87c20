import pytest

from novel_agent.inputs.host.mountstats import parse
from novel_agent.wire.prometheus import render_text

NUMBERS = """\
	opts:	rw,vers=4.2,proto=tcp
	age:	13968
	caps:	caps=0xfff7,wtmult=512
	sec:	flavor=1,pseudoflavor=1
	events:	1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
	bytes:	101 102 103 104 105 106 107 108
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	tcp 832 31 32 0 33 34 35 36 12154 37 38 39 40
	per-op statistics
	READ: 51 52 53 54 55 5600 5700 5800 0
	ACCESS: 1 1 0 1 1 18446743919241604546 1667369447 1953587717 0

"""
EXPORT = "device nas:/e mounted on /home/shared with fstype nfs4 statvers=1.1\n" + NUMBERS
STATS = "device /dev/vda mounted on / with fstype ext4\n" + EXPORT
TABLE = (
    "22 1 253:0 / / rw - ext4 /dev/vda rw\n"
    "37 22 0:45 / /home/shared rw - nfs4 nas:/e rw,clientaddr=192.0.2.21,addr=192.0.2.40\n"
    "38 22 0:45 / /home/again rw - nfs4 nas:/e rw,clientaddr=192.0.2.21,addr=192.0.2.40\n"
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def shown(tree, collector):
    def read(stats: str, table: str = TABLE) -> list[str]:
        mountstats = collector("mountstats", tree({"proc/self/mountstats": stats, "proc/self/mountinfo": table}))
        return samples(mountstats.families(mountstats.read()))

    return read


def test_every_number_comes_under_its_own_name(shown):
    labels = 'export="nas:/e",protocol="tcp",mountaddr="192.0.2.40"'
    numbers = {
        "age_seconds_total": 13968,
        "read_bytes_total": 101,
        "write_bytes_total": 102,
        "direct_read_bytes_total": 103,
        "direct_write_bytes_total": 104,
        "total_read_bytes_total": 105,
        "total_write_bytes_total": 106,
        "read_pages_total": 107,
        "write_pages_total": 108,
        "event_inode_revalidate_total": 1,
        "event_dnode_revalidate_total": 2,
        "event_data_invalidate_total": 3,
        "event_attribute_invalidate_total": 4,
        "event_vfs_open_total": 5,
        "event_vfs_lookup_total": 6,
        "event_vfs_access_total": 7,
        "event_vfs_update_page_total": 8,
        "event_vfs_read_page_total": 9,
        "event_vfs_read_pages_total": 10,
        "event_vfs_write_page_total": 11,
        "event_vfs_write_pages_total": 12,
        "event_vfs_getdents_total": 13,
        "event_vfs_setattr_total": 14,
        "event_vfs_flush_total": 15,
        "event_vfs_fsync_total": 16,
        "event_vfs_lock_total": 17,
        "event_vfs_file_release_total": 18,
        "event_truncation_total": 20,
        "event_write_extension_total": 21,
        "event_silly_rename_total": 22,
        "event_short_read_total": 23,
        "event_short_write_total": 24,
        "event_jukebox_delay_total": 25,
        "event_pnfs_read_total": 26,
        "event_pnfs_write_total": 27,
    }
    transport = {
        "bind_total": 31,
        "connect_total": 32,
        "idle_time_seconds": 33,
        "sends_total": 34,
        "receives_total": 35,
        "bad_transaction_ids_total": 36,
        "backlog_queue_total": 37,
        "maximum_rpc_slots": 38,
        "sending_queue_total": 39,
        "pending_queue_total": 40,
    }
    operations = {
        "requests_total": (51, 1),
        "transmissions_total": (52, 1),
        "major_timeouts_total": (53, 0),
        "sent_bytes_total": (54, 1),
        "received_bytes_total": (55, 1),
        "queue_time_seconds_total": (5.6, 9007044786793.922),
        "response_time_seconds_total": (5.7, 1667369.447),
        "request_time_seconds_total": (5.8, 1953587.717),
    }
    assert shown(STATS) == [
        f'node_mountstats_nfs_mountpoint_info{{{labels},mountpoint="/home/shared"}} 1',
        *(f"node_mountstats_nfs_{name}{{{labels}}} {number}" for name, number in numbers.items()),
        *(
            f'node_mountstats_nfs_transport_{name}{{{labels},transport="0"}} {number}'
            for name, number in transport.items()
        ),
        *(
            f'node_mountstats_nfs_operations_{name}{{{labels},operation="{operation}"}} {number}'
            for name, pair in operations.items()
            for operation, number in zip(("READ", "ACCESS"), pair, strict=True)
        ),
    ]


def test_mounts_of_the_same_export_share_their_numbers(shown):
    lines = shown(STATS + EXPORT.replace("/home/shared", "/home/again"))
    export = 'export="nas:/e",protocol="tcp",mountaddr="192.0.2.40"'
    assert [line for line in lines if "mountpoint_info" in line] == [
        f'node_mountstats_nfs_mountpoint_info{{{export},mountpoint="/home/shared"}} 1',
        f'node_mountstats_nfs_mountpoint_info{{{export},mountpoint="/home/again"}} 1',
    ]
    assert sum("age_seconds" in line for line in lines) == 1


def test_each_connection_of_a_mount_is_a_transport(shown):
    second = "\txprt:\ttcp 833 7 1 0 2 3 4 5 6 7 8 9 10\n\tper-op statistics\n"
    lines = shown(STATS.replace("\tper-op statistics\n", second))
    assert [line.rpartition(",")[2] for line in lines if "transport_bind_total" in line] == [
        'transport="0"} 31',
        'transport="1"} 7',
    ]


@pytest.mark.parametrize(
    ("transport", "numbers"),
    [
        ("udp 832 1 2 3 4 5 6 7 8 9", [832, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("udp 832 1 2 3 4 5 6", [832, 1, 0, 0, 0, 2, 3, 4, 5, 6, 0, 0, 0]),
        ("tcp 832 1 2 3 4 5 6 7 8 9", [832, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0]),
        (
            "rdma 832 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27",
            [832, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0],
        ),
    ],
)
def test_transports_count_differently(transport, numbers):
    (mount,) = parse(STATS.replace("tcp 832 31 32 0 33 34 35 36 12154 37 38 39 40", transport).encode())
    assert mount.transports == [(transport.split()[0], numbers)]


def test_a_mount_that_the_table_does_not_have_yet_has_no_address(shown):
    assert any('mountaddr=""' in line for line in shown(STATS, "22 1 253:0 / / rw - ext4 /dev/vda rw\n"))


def test_a_host_without_nfs_mounts_shows_nothing_and_reads_no_table(tree, collector):
    mountstats = collector(
        "mountstats", tree({"proc/self/mountstats": "device proc mounted on /proc with fstype proc\n"})
    )
    assert mountstats.families(mountstats.read()) == ()


def test_is_off_unless_asked_for(collector):
    assert collector("mountstats").default_on is False


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bytes:\t101 ", "bytes:\t"),
        ("events:\t1 ", "events:\t"),
        ("events:\t1 2", "events:\tmany 2"),
        ("age:\t13968", "age:"),
        ("tcp 832 31 32 0 33 34", "tcp 832"),
        ("tcp 832", "sctp 832"),
        ("xprt:\ttcp", "xprt:"),
        ("READ: 51 52", "READ: 51"),
        ("mounted on", "mounted"),
    ],
)
def test_refuses_what_the_kernel_does_not_write(old, new):
    damaged = STATS.replace(old, new).replace("5800 0", "5800").replace("1953587717 0", "1953587717")
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(damaged.encode())

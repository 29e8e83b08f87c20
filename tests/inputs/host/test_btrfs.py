import errno
import fcntl
import struct
from uuid import UUID

import pytest

from novel_agent.inputs.host.btrfs import parse_commits, ratio
from novel_agent.wire.prometheus import render_text

FS_INFO, DEV_INFO, GET_DEV_STATS = 0x8400941F, 0xD000941E, 0xC4089434
IDENTITY = "8d3e2f10-5c4b-4a69-b8d7-1e0f9c8b7a65"
FIRST_DEVICE = "f85af47d-2d95-4482-8470-13c9509aaa1e"
THIRD_DEVICE = "5d2d4c6d-5599-4555-98f2-1b9b2a2ee2be"
MOUNTS = (
    "34 22 0:41 /archive /srv rw - btrfs /dev/sdb rw,subvolid=256\n"
    "35 22 0:41 /old /srv/old ro - btrfs /dev/sdb rw,subvolid=257\n"
)


def sysfs(**changed: str) -> dict[str, str]:
    files = {
        "label": "archive",
        "metadata_uuid": IDENTITY,
        "commit_stats": "commits 40221\nlast_commit_ms 41\nmax_commit_ms 2204\ntotal_commit_ms 1204118",
        "allocation/global_rsv_size": "536870912",
        "allocation/data/bytes_reserved": "65536",
        "allocation/data/flags": "1",
        "allocation/data/raid1/used_bytes": "1000",
        "allocation/data/raid1/total_bytes": "4000",
        "allocation/metadata/bytes_reserved": "7",
        "allocation/metadata/dup/used_bytes": "20",
        "allocation/metadata/dup/total_bytes": "80",
        "allocation/system/bytes_reserved": "0",
        "devices/sdb/size": "7814037168",
        "devices/sdc/size": "2048",
    } | {name.replace("__", "/"): content for name, content in changed.items()}
    return {f"sys/fs/btrfs/{IDENTITY}/{name}": f"{content}\n" for name, content in files.items()}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def devices(blocks) -> list[str]:
    return [line for line in samples(blocks) if "_device_" in line]


class Kernel:
    """Answers the three ioctls for a file system of devices 1 and 3."""

    def __init__(self) -> None:
        self.asked = 0
        self.refused = {2: errno.ENODEV, 0: errno.ENODEV}
        self.found = {1: (FIRST_DEVICE, 600, 1000, b"/dev/sdb"), 3: (THIRD_DEVICE, 0, 2048, b"/dev/mapper/c")}

    def ioctl(self, descriptor: int, request: int, buffer: bytearray) -> int:
        self.asked += 1
        if request == FS_INFO:
            assert len(buffer) == 1024
            struct.pack_into("=QQ16s", buffer, 0, 3, 2, UUID(IDENTITY).bytes)
            return 0
        (number,) = struct.unpack_from("=Q", buffer)
        if number in self.refused:
            raise OSError(self.refused[number], "refused")
        if request == DEV_INFO:
            assert len(buffer) == 4096
            identity, used, size, path = self.found[number]
            struct.pack_into("=Q16sQQ", buffer, 0, number, UUID(identity).bytes, used, size)
            struct.pack_into(f"={len(path)}s", buffer, 3072, path)
        else:
            assert request == GET_DEV_STATS
            assert len(buffer) == 1032
            assert struct.unpack_from("=QQQ", buffer) == (number, 5, 0)
            struct.pack_into("=5Q", buffer, 24, *(number * 10 + error for error in range(5)))
        return 0


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    return kernel


def test_shows_what_sysfs_says(tree, collector):
    btrfs = collector("btrfs", tree(sysfs()))
    uuid = f'uuid="{IDENTITY}"'
    assert samples(btrfs.families(btrfs.read())) == [
        f'node_btrfs_info{{{uuid},label="archive"}} 1',
        f"node_btrfs_global_rsv_size_bytes{{{uuid}}} 536870912",
        f"node_btrfs_commits_total{{{uuid}}} 40221",
        f"node_btrfs_last_commit_seconds{{{uuid}}} 0.041",
        f"node_btrfs_max_commit_seconds{{{uuid}}} 2.204",
        f"node_btrfs_commit_seconds_total{{{uuid}}} 1204.118",
        f'node_btrfs_reserved_bytes{{{uuid},block_group_type="data"}} 65536',
        f'node_btrfs_reserved_bytes{{{uuid},block_group_type="metadata"}} 7',
        f'node_btrfs_reserved_bytes{{{uuid},block_group_type="system"}} 0',
        f'node_btrfs_used_bytes{{{uuid},block_group_type="data",mode="raid1"}} 1000',
        f'node_btrfs_used_bytes{{{uuid},block_group_type="metadata",mode="dup"}} 20',
        f'node_btrfs_size_bytes{{{uuid},block_group_type="data",mode="raid1"}} 4000',
        f'node_btrfs_size_bytes{{{uuid},block_group_type="metadata",mode="dup"}} 80',
        f'node_btrfs_allocation_ratio{{{uuid},block_group_type="data",mode="raid1"}} 2',
        f'node_btrfs_allocation_ratio{{{uuid},block_group_type="metadata",mode="dup"}} 2',
        f'node_btrfs_device_size_bytes{{{uuid},device="sdb"}} 4000787030016',
        f'node_btrfs_device_size_bytes{{{uuid},device="sdc"}} 1048576',
    ]


def test_a_mounted_file_system_says_more_of_its_devices(tree, collector, kernel):
    btrfs = collector("btrfs", tree(sysfs() | {"proc/1/mountinfo": MOUNTS, "root/srv/x": ""}))
    first = f'device="sdb",btrfs_dev_uuid="{FIRST_DEVICE}"'
    third = f'device="c",btrfs_dev_uuid="{THIRD_DEVICE}"'
    uuid = f'uuid="{IDENTITY}"'
    assert devices(btrfs.families(btrfs.read())) == [
        f"node_btrfs_device_size_bytes{{{uuid},{first}}} 1000",
        f"node_btrfs_device_size_bytes{{{uuid},{third}}} 2048",
        f"node_btrfs_device_unused_bytes{{{uuid},{first}}} 400",
        f"node_btrfs_device_unused_bytes{{{uuid},{third}}} 2048",
        *(
            f'node_btrfs_device_errors_total{{{uuid},type="{error_type}",{device}}} {count}'
            for device, start in ((first, 10), (third, 30))
            for count, error_type in enumerate(("write", "read", "flush", "corruption", "generation"), start)
        ),
    ]


def test_a_file_system_is_asked_once_however_often_it_is_mounted(tree, collector, kernel):
    btrfs = collector("btrfs", tree(sysfs() | {"proc/1/mountinfo": MOUNTS, "root/srv/old/x": ""}))
    btrfs.read()
    assert kernel.asked == 1 + 2 + 2 * 2


@pytest.mark.parametrize("refused", [errno.EPERM, errno.ENOTTY])
def test_where_it_may_not_ask_sysfs_is_enough(tree, collector, kernel, refused):
    kernel.refused[1] = refused
    btrfs = collector("btrfs", tree(sysfs() | {"proc/1/mountinfo": MOUNTS, "root/srv/old/x": ""}))
    assert len(devices(btrfs.families(btrfs.read()))) == 2


def test_older_kernels_have_no_identity_and_no_commits(tree, collector):
    root = tree(sysfs())
    (root / f"sys/fs/btrfs/{IDENTITY}/metadata_uuid").unlink()
    (root / f"sys/fs/btrfs/{IDENTITY}/commit_stats").unlink()
    btrfs = collector("btrfs", root)
    lines = samples(btrfs.families(btrfs.read()))
    assert f'node_btrfs_commits_total{{uuid="{IDENTITY}"}} 0' in lines


def test_a_host_without_btrfs_shows_nothing_and_reads_no_mounts(tree, collector):
    btrfs = collector("btrfs", tree({"sys/fs/btrfs/features/skinny_metadata": "1\n"}))
    assert btrfs.families(btrfs.read()) == []


@pytest.mark.parametrize(
    ("mode", "devices", "expected"),
    [
        ("single", 1, 1),
        ("raid0", 4, 1),
        ("raid10", 4, 2),
        ("raid1c3", 3, 3),
        ("raid1c4", 4, 4),
        ("raid5", 3, 1.5),
        ("raid6", 4, 2.0),
        ("raid5", 1, float("inf")),
        ("raid9", 9, 0),
    ],
)
def test_a_byte_takes_more_disk_where_it_is_stored_redundantly(mode, devices, expected):
    assert ratio(mode, devices) == expected


@pytest.mark.parametrize("data", [b"commits\n", b"commits many\n", b"commits 1 2\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_commits(data)

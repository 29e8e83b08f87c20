import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.mdadm import parse
from novel_agent.wire.prometheus import render_text

CLEAN = """\
Personalities : [raid1]
md0 : active raid1 sdb1[1] sda1[0]
      2930135488 blocks super 1.2 [2/2] [UU]
      bitmap: 0/22 pages [0KB], 65536KB chunk

unused devices: <none>
"""
LIST = """\
Personalities : [linear] [raid0] [raid1] [raid6] [raid5] [raid4] [raid10]
md127 : inactive sdb[1](S) sda[0](S)
      6306 blocks super external:imsm

md6 : active raid6 sdd1[3](F) sdc1[2] sdb1[1] sda1[0] sde1[4](S)
      195310144 blocks level 6, 64k chunk, algorithm 2 [4/3] [UUU_]
      [=>...................]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec

md5 : active (read-only) raid5 sdc2[2] sdb2[1] sda2[0]
      4194304 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/3] [UUU]
      \tresync=PENDING

md4 : active raid0 sdb3[1] sda3[0]
      8388608 blocks super 1.2 512k chunks

md3 : active raid1 sdb4[1] sda4[0]
      523968 blocks super 1.2 [2/2] [UU]
      [==>..................]  check = 12.5% (65496/523968) finish=0.1min speed=65496K/sec
      bitmap: 1/1 pages [4KB], 65536KB chunk

md2 : active raid10 sdd5[3] sdc5[2] sdb5[1] sda5[0]
      314159265 blocks 64K chunks 2 near-copies [4/4] [UUUU]
      bitmap: 0/5 pages [0KB], 32768KB chunk
      [=>...................]  resync = 10.0% (31415926/314159265) finish=9.9min speed=5K/sec

md1 : active raid5 sdd6[4] sdc6[2] sdb6[1] sda6[0]
      1048576 blocks super 1.2 level 5, 512k chunk, algorithm 2 [4/4] [UUUU]
      [=====>...............]  reshape = 25.0% (262144/1048576) finish=0.2min speed=10240K/sec

unused devices: <none>
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def md(device: str, **files: str) -> dict[str, str]:
    return {f"sys/block/{device}/md/{name}": f"{content}\n" for name, content in files.items()}


def test_shows_a_clean_array(tree, collector):
    mdadm = collector(
        "mdadm",
        tree({"proc/mdstat": CLEAN} | md("md0", level="raid1", raid_disks="2", degraded="0")),
    )
    assert samples(mdadm.families(mdadm.read())) == [
        'node_md_state{device="md0",state="active"} 1',
        'node_md_state{device="md0",state="inactive"} 0',
        'node_md_state{device="md0",state="recovering"} 0',
        'node_md_state{device="md0",state="resync"} 0',
        'node_md_state{device="md0",state="check"} 0',
        'node_md_disks{device="md0",state="active"} 2',
        'node_md_disks{device="md0",state="failed"} 0',
        'node_md_disks{device="md0",state="spare"} 0',
        'node_md_disks_required{device="md0"} 2',
        'node_md_blocks{device="md0"} 2930135488',
        'node_md_blocks_synced{device="md0"} 2930135488',
        'node_md_raid_disks{device="md0"} 2',
        'node_md_degraded{device="md0"} 0',
    ]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ("md127", ("md127", "inactive", "", 0, 0, 0, 2, 6306, 6306)),
        ("md6", ("md6", "recovering", "raid6", 4, 3, 1, 1, 195310144, 16775552)),
        ("md5", ("md5", "resyncing", "raid5", 3, 3, 0, 0, 4194304, 0)),
        ("md4", ("md4", "active", "raid0", 2, 2, 0, 0, 8388608, 8388608)),
        ("md3", ("md3", "checking", "raid1", 2, 2, 0, 0, 523968, 65496)),
        ("md2", ("md2", "resyncing", "raid10", 4, 4, 0, 0, 314159265, 31415926)),
        ("md1", ("md1", "reshaping", "raid5", 4, 4, 0, 0, 1048576, 262144)),
    ],
)
def test_reads_every_state_of_an_array(array, expected):
    assert {found.name: found for found in parse(LIST.encode())}[array] == expected


def test_sysfs_knows_how_many_disks_are_missing(tree, collector):
    mdadm = collector(
        "mdadm",
        tree(
            {"proc/mdstat": CLEAN, "sys/block/sda/size": "1\n"}
            | md("md0", level="raid1", raid_disks="2", degraded="1")
            | md("md1", level="raid5", raid_disks="11 (10)", degraded="0")
            | md("md4", level="raid0", raid_disks="2")
            | md("md127", level="container", raid_disks="2")
            | md("md126", level="")
        ),
    )
    lines = samples(mdadm.families(mdadm.read()))
    assert [line for line in lines if "raid_disks" in line or "degraded" in line] == [
        'node_md_raid_disks{device="md0"} 2',
        'node_md_raid_disks{device="md1"} 11',
        'node_md_raid_disks{device="md4"} 2',
        'node_md_degraded{device="md0"} 1',
        'node_md_degraded{device="md1"} 0',
        'node_md_degraded{device="md126"} 0',
        'node_md_degraded{device="md127"} 0',
        'node_md_degraded{device="md4"} 0',
    ]


def test_telemetry_says_size_and_status(tree, collector):
    mdadm = collector("mdadm", tree({"proc/mdstat": LIST}))
    lines = samples(mdadm.telemetry(mdadm.read()))
    assert 'hw.logical_disk.limit{hw.id="md6",hw.logical_disk.raid_level="RAID6"} 199997587456' in lines
    assert [line for line in lines if '"md6"' in line or '"md127"' in line or '"md4"' in line][3:] == [
        'hw.status{hw.id="md127",hw.type="logical_disk",hw.state="ok"} 0',
        'hw.status{hw.id="md127",hw.type="logical_disk",hw.state="degraded"} 0',
        'hw.status{hw.id="md127",hw.type="logical_disk",hw.state="failed"} 1',
        'hw.status{hw.id="md6",hw.type="logical_disk",hw.state="ok"} 0',
        'hw.status{hw.id="md6",hw.type="logical_disk",hw.state="degraded"} 1',
        'hw.status{hw.id="md6",hw.type="logical_disk",hw.state="failed"} 0',
        'hw.status{hw.id="md4",hw.type="logical_disk",hw.state="ok"} 1',
        'hw.status{hw.id="md4",hw.type="logical_disk",hw.state="degraded"} 0',
        'hw.status{hw.id="md4",hw.type="logical_disk",hw.state="failed"} 0',
    ]


def test_the_module_without_arrays_shows_nothing(tree, collector):
    mdadm = collector("mdadm", tree({"proc/mdstat": "Personalities : \nunused devices: <none>\n"}))
    assert mdadm.families(mdadm.read()) == []
    assert mdadm.telemetry(mdadm.read()) == ()


def test_without_the_module_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("mdadm").read()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"md0 : active raid1 sdb1[1] sda1[0]\n",
        b"md0 : active raid1 sdb1[1] sda1[0]\n\n\n\n",
        b"md0 : active raid1 sdb1[1] sda1[0]\n  many blocks [2/2] [UU]\n\n\n",
        b"md0 : active raid1 sdb1[1] sda1[0]\n  12 blocks super 1.2\n\n\n",
        b"md0 : active raid1 sda1[0]\n  12 blocks [2/1] [U_]\n  [>...]  recovery = 1.0%\n\n",
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)

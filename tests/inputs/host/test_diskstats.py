import os

import pytest

from novel_agent.inputs.host.diskstats import parse, parse_udev
from novel_agent.wire.prometheus import render_text

SDA = (
    "   8       0 sda 512201 88412 211004120 4120388 1204551 622180 310448122 9120440 1 7211004 13244107 7 3 640 250"
    " 1204 3279\n"
)
SDA1 = (
    "   8       1 sda1 402118 61220 180221004 3120110 804112 412007 210448102 6110220 0 5210330 9230330 0 0 0 0 0 0\n"
)
LOOP0 = "   7       0 loop0 48 0 716 12 0 0 0 0 0 20 12 0 0 0 0 0 0\n"
BEFORE_4_18 = "   8      16 sdb 326552 841 9657779 84412 41822 2895 1972905 5007 0 60730 67070\n"
UDEV = (
    "S:disk/by-path/pci-0000:00:17.0-ata-1\nI:12044812\n"
    "E:ID_ATA=1\nE:ID_MODEL=ST4000NM000A\nE:ID_REVISION=TN02\nE:ID_SERIAL_SHORT=ZC1A2B3C\n"
    "E:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_WRITE_CACHE_ENABLED=0\nE:ID_ATA_ROTATION_RATE_RPM=7200\n"
    "E:ID_WWN=0x5000c500c1a2b3c4\nE:ID_PATH=pci-0000:00:17.0-ata-1\nG:systemd\nV:1\n"
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def every(name: str) -> bool:
    return True


def test_shows_what_a_disk_did_in_bytes_and_seconds(tree, collector):
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA + SDA1 + LOOP0}))
    assert samples(diskstats.families(diskstats.read())) == [
        'node_disk_reads_completed_total{device="sda"} 512201',
        'node_disk_reads_merged_total{device="sda"} 88412',
        'node_disk_read_bytes_total{device="sda"} 108034109440',
        'node_disk_read_time_seconds_total{device="sda"} 4120.388',
        'node_disk_writes_completed_total{device="sda"} 1204551',
        'node_disk_writes_merged_total{device="sda"} 622180',
        'node_disk_written_bytes_total{device="sda"} 158949438464',
        'node_disk_write_time_seconds_total{device="sda"} 9120.44',
        'node_disk_io_now{device="sda"} 1',
        'node_disk_io_time_seconds_total{device="sda"} 7211.004',
        'node_disk_io_time_weighted_seconds_total{device="sda"} 13244.107',
        'node_disk_discards_completed_total{device="sda"} 7',
        'node_disk_discards_merged_total{device="sda"} 3',
        'node_disk_discarded_sectors_total{device="sda"} 640',
        'node_disk_discard_time_seconds_total{device="sda"} 0.25',
        'node_disk_flush_requests_total{device="sda"} 1204',
        'node_disk_flush_requests_time_seconds_total{device="sda"} 3.279',
        'node_disk_info{device="sda",major="8",minor="0",path="",wwn="",model="",serial="",revision="",rotational="0"} 1',
    ]


def test_telemetry_names_directions(tree, collector):
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA}))
    assert samples(diskstats.telemetry(diskstats.read())) == [
        'system.disk.io{system.device="sda",disk.io.direction="read"} 108034109440',
        'system.disk.io{system.device="sda",disk.io.direction="write"} 158949438464',
        'system.disk.operations{system.device="sda",disk.io.direction="read"} 512201',
        'system.disk.operations{system.device="sda",disk.io.direction="write"} 1204551',
        'system.disk.operation_time{system.device="sda",disk.io.direction="read"} 4120.388',
        'system.disk.operation_time{system.device="sda",disk.io.direction="write"} 9120.44',
        'system.disk.merged{system.device="sda",disk.io.direction="read"} 88412',
        'system.disk.merged{system.device="sda",disk.io.direction="write"} 622180',
        'system.disk.io_time{system.device="sda"} 7211.004',
    ]


def test_an_older_kernels_missing_columns_are_missing_series(tree, collector):
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA + BEFORE_4_18}))
    lines = samples(diskstats.families(diskstats.read()))
    assert 'node_disk_io_time_weighted_seconds_total{device="sdb"} 67.07' in lines
    assert sum('device="sdb"' in line for line in lines) == 12
    assert sum('device="sda"' in line for line in lines) == 18


def test_partitions_are_shown_where_they_are_asked_for(tree, collector):
    root = tree({"proc/diskstats": SDA + SDA1 + LOOP0})
    only = collector("diskstats", root, include_devices="^(sda1|loop)").read()
    assert [device.name for device in only.devices] == ["sda1", "loop0"]
    without = collector("diskstats", root, exclude_devices="^sda$").read()
    assert [device.name for device in without.devices] == ["sda1", "loop0"]


def test_udev_and_sysfs_say_who_a_disk_is(tree, collector):
    diskstats = collector(
        "diskstats",
        tree({"proc/diskstats": SDA, "root/run/udev/data/b8:0": UDEV, "sys/block/sda/queue/rotational": "1\n"}),
    )
    assert samples(diskstats.families(diskstats.read()))[17:] == [
        'node_disk_info{device="sda",major="8",minor="0",path="pci-0000:00:17.0-ata-1",wwn="0x5000c500c1a2b3c4",'
        'model="ST4000NM000A",serial="ZC1A2B3C",revision="TN02",rotational="1"} 1',
        'node_disk_ata_write_cache{device="sda"} 1.0',
        'node_disk_ata_write_cache_enabled{device="sda"} 0.0',
        'node_disk_ata_rotation_rate_rpm{device="sda"} 7200.0',
    ]


def test_udev_knows_file_systems_and_logical_volumes(tree, collector):
    udev = (
        "E:DM_NAME=vg0-var\nE:DM_UUID=LVM-p4hT\nE:DM_VG_NAME=vg0\nE:DM_LV_NAME=var\n"
        "E:ID_FS_TYPE=xfs\nE:ID_FS_USAGE=filesystem\nE:ID_FS_UUID=9a8b7c6d\n"
    )
    line = " 253       1 dm-1 1 0 8 1 1 0 8 1 0 1 2 0 0 0 0 0 0\n"
    diskstats = collector("diskstats", tree({"proc/diskstats": line, "root/run/udev/data/b253:1": udev}))
    assert samples(diskstats.families(diskstats.read()))[18:] == [
        'node_disk_filesystem_info{device="dm-1",type="xfs",usage="filesystem",uuid="9a8b7c6d",version=""} 1',
        'node_disk_device_mapper_info{device="dm-1",name="vg0-var",uuid="LVM-p4hT",vg_name="vg0",lv_name="var",lv_layer=""} 1',
    ]


@pytest.mark.parametrize(
    ("properties", "serial"),
    [
        ("E:SCSI_IDENT_SERIAL=A\nE:ID_SERIAL_SHORT=B\nE:ID_SERIAL=C\n", "A"),
        ("E:ID_SERIAL_SHORT=B\nE:ID_SERIAL=C\n", "B"),
        ("E:ID_SERIAL=C\n", "C"),
        ("E:OTHER=D\n", ""),
    ],
)
def test_the_serial_number_is_the_most_exact_one(tree, collector, properties, serial):
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA, "root/run/udev/data/b8:0": properties}))
    assert f'serial="{serial}"' in samples(diskstats.families(diskstats.read()))[17]


def test_udev_is_asked_again_when_it_has_replaced_a_file(tree, collector):
    root = tree({"proc/diskstats": SDA, "root/run/udev/data/b8:0": "E:ID_MODEL=before\n"})
    directory = root / "root/run/udev/data"
    os.utime(directory, ns=(1, 1))
    diskstats = collector("diskstats", root)
    diskstats.read()
    (directory / "b8:0").write_text("E:ID_MODEL=after\n")
    os.utime(directory, ns=(1, 1))
    assert 'model="before"' in samples(diskstats.families(diskstats.read()))[17]
    os.utime(directory, ns=(2, 2))
    assert 'model="after"' in samples(diskstats.families(diskstats.read()))[17]


def test_a_value_of_udev_that_is_no_number_costs_its_own_series_only(tree, collector):
    udev = UDEV.replace("ID_ATA_ROTATION_RATE_RPM=7200", "ID_ATA_ROTATION_RATE_RPM=fast")
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA, "root/run/udev/data/b8:0": udev}))
    lines = samples(diskstats.families(diskstats.read()))
    assert not any("rotation" in line and "node_disk_info" not in line for line in lines)
    assert 'node_disk_ata_write_cache{device="sda"} 1.0' in lines


def test_shapes_are_kept_while_the_devices_stay(tree, collector):
    diskstats = collector("diskstats", tree({"proc/diskstats": SDA}))
    before = diskstats.families(diskstats.read())
    after = diskstats.families(diskstats.read())
    assert [block.shape for block in before] == [block.shape for block in after]


def test_a_container_without_disks_shows_nothing(tree, collector):
    diskstats = collector("diskstats", tree({"proc/diskstats": ""}))
    assert diskstats.families(diskstats.read()) == ()
    assert diskstats.telemetry(diskstats.read()) == ()


def test_lines_of_ancient_partitions_are_passed_over():
    assert parse(b"   3    1 hda1 35486 38030 38030 38030\n", every) == ((), [])


@pytest.mark.parametrize(
    "data",
    [b"garbage\n", b"8 zero sda 1 2 3\n", SDA.replace("88412", "many").encode(), b"\x00\x00\n"],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data, every)


def test_of_udevs_files_only_properties_are_read():
    assert parse_udev(b"S:disk/by-id/x\nE:A=1=2\nE:broken\nI:12\nE:B=\xff\n") == {"A": "1=2", "B": "\ufffd"}


def test_without_the_file_it_fails(collector):
    with pytest.raises(FileNotFoundError):
        collector("diskstats").read()

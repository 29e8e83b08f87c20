import pytest

from novel_agent.errors import NoData
from novel_agent.wire.prometheus import render_text

STATS = {
    "in_flight": "1",
    "io_ns": "9247011087720",
    "other_cnt": "1409",
    "read_byte_cnt": "979383912",
    "read_cnt": "3741",
    "read_ns": "33788355744",
    "resid_cnt": "19",
    "write_byte_cnt": "1496246784000",
    "write_cnt": "53772916",
    "write_ns": "5233597394395",
}


def sysfs(*drives: str) -> dict[str, str]:
    return {
        f"sys/class/scsi_tape/{drive}/stats/{name}": f"{content}\n"
        for drive in drives
        for name, content in STATS.items()
    }


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_what_a_drive_did_in_seconds(tree, collector):
    tapestats = collector("tapestats", tree(sysfs("st0")))
    assert samples(tapestats.families(tapestats.read())) == [
        'node_tape_io_now{device="st0"} 1',
        'node_tape_io_time_seconds_total{device="st0"} 9247.01108772',
        'node_tape_io_others_total{device="st0"} 1409',
        'node_tape_read_bytes_total{device="st0"} 979383912',
        'node_tape_reads_completed_total{device="st0"} 3741',
        'node_tape_read_time_seconds_total{device="st0"} 33.788355744',
        'node_tape_residual_total{device="st0"} 19',
        'node_tape_written_bytes_total{device="st0"} 1496246784000',
        'node_tape_writes_completed_total{device="st0"} 53772916',
        'node_tape_write_time_seconds_total{device="st0"} 5233.597394395',
    ]


def test_the_other_modes_of_a_drive_are_not_shown(tree, collector):
    root = tree(sysfs("st0", "st0a", "nst0", "st12"))
    assert collector("tapestats", root).read().drives == ("st0", "st12")
    assert collector("tapestats", root, exclude_devices="^st0$").read().drives == ("st12",)


def test_a_number_that_cannot_be_read_is_0(tree, collector):
    tapestats = collector("tapestats", tree(sysfs("st0") | {"sys/class/scsi_tape/st0/stats/io_ns": "broken\n"}))
    assert 'node_tape_io_time_seconds_total{device="st0"} 0.0' in samples(tapestats.families(tapestats.read()))


def test_without_drives_nothing_is_shown(tree, collector):
    tapestats = collector("tapestats", tree({"sys/class/scsi_tape/nst0/dev": "9:128\n"}))
    assert tapestats.families(tapestats.read()) == ()


def test_without_the_class_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("tapestats").read()

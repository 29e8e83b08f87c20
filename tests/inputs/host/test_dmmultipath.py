import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.wire.prometheus import render_text

FILES = {
    "dm-0/dm/uuid": "LVM-u2fO4RZ0",
    "dm-2/dm/uuid": "mpath-3600a0980",
    "dm-2/dm/name": "mpatha",
    "dm-2/dm/suspended": "0",
    "dm-2/size": "4294967296",
    "dm-2/slaves/sdd/size": "1",
    "dm-2/slaves/sde/size": "1",
    "dm-2/slaves/nvme1n1/size": "1",
    "sdd/device/state": "running",
    "sde/device/state": "offline",
    "nvme1n1/device/state": "live",
    "sda/size": "1",
}


def sysfs(**changed: str) -> dict[str, str]:
    files = FILES | {name.replace("__", "/").replace("dm/2", "dm-2"): content for name, content in changed.items()}
    return {f"sys/block/{name}": f"{content}\n" for name, content in files.items()}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_a_device_and_the_state_of_its_paths(tree, collector):
    multipath = collector("dmmultipath", tree(sysfs()))
    device = '{device="mpatha",sysfs_name="dm-2"}'
    assert samples(multipath.families(multipath.read())) == [
        'node_dmmultipath_device_info{device="mpatha",sysfs_name="dm-2",uuid="mpath-3600a0980"} 1',
        f"node_dmmultipath_device_active{device} 1",
        f"node_dmmultipath_device_size_bytes{device} 2199023255552",
        f"node_dmmultipath_device_paths{device} 3",
        f"node_dmmultipath_device_paths_active{device} 2",
        f"node_dmmultipath_device_paths_failed{device} 1",
        'node_dmmultipath_path_state{device="mpatha",path="nvme1n1",state="live"} 1',
        'node_dmmultipath_path_state{device="mpatha",path="sdd",state="running"} 1',
        'node_dmmultipath_path_state{device="mpatha",path="sde",state="offline"} 1',
    ]


def test_a_suspended_device_is_not_active(tree, collector):
    multipath = collector("dmmultipath", tree(sysfs() | {"sys/block/dm-2/dm/suspended": "1\n"}))
    assert 'node_dmmultipath_device_active{device="mpatha",sysfs_name="dm-2"} 0' in samples(
        multipath.families(multipath.read())
    )


def test_a_path_whose_state_cannot_be_read_is_an_error(tree, collector):
    root = tree(sysfs())
    (root / "sys/block/sde/device/state").unlink()
    with pytest.raises(InputError):
        collector("dmmultipath", root).read()


def test_a_host_without_multipath_shows_nothing(tree, collector):
    multipath = collector("dmmultipath", tree({"sys/block/sda/size": "1\n"}))
    assert multipath.families(multipath.read()) == []


def test_without_block_devices_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("dmmultipath").read()


def test_refuses_a_size_that_is_no_number(tree, collector):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        collector("dmmultipath", tree(sysfs() | {"sys/block/dm-2/size": "large\n"})).read()

"""Open files and control groups of the whole system."""

import pytest

from novel_agent.inputs.host import cgroups, filefd
from novel_agent.wire.prometheus import render_text


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_open_files_and_their_limit(tree, collector):
    files = collector("filefd", tree({"proc/sys/fs/file-nr": "1024\t0\t1631329\n"}))
    assert samples(files.families(files.read())) == ["node_filefd_allocated 1024", "node_filefd_maximum 1631329"]


def test_control_groups_by_controller(tree, collector):
    groups = collector(
        "cgroups",
        tree({"proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t5\t47\t1\nmemory\t9\t107\t0\n"}),
    )
    assert samples(groups.families(groups.read())) == [
        'node_cgroups_cgroups{subsys_name="cpuset"} 47',
        'node_cgroups_cgroups{subsys_name="memory"} 107',
        'node_cgroups_enabled{subsys_name="cpuset"} 1',
        'node_cgroups_enabled{subsys_name="memory"} 0',
    ]


@pytest.mark.parametrize("data", [b"", b"1024\t0\n", b"a b c\n"])
def test_refuses_open_files_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        filefd.parse(data)


@pytest.mark.parametrize("data", [b"", b"#only a heading\n", b"cpu 1 2\n", b"cpu 1 x 1\n", b"\xff 1 1 1\n"])
def test_refuses_control_groups_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        cgroups.parse(data)

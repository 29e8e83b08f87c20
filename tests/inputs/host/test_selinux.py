import pytest

from novel_agent.inputs.host.selinux import parse_config
from novel_agent.wire.prometheus import render_text


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_is_off_where_there_is_no_selinuxfs(collector):
    selinux = collector("selinux")
    assert samples(selinux.families(selinux.read())) == ["node_selinux_enabled 0"]


@pytest.mark.parametrize(
    ("files", "configured", "current"),
    [
        ({"sys/fs/selinux/enforce": "1", "root/etc/selinux/config": "SELINUX=enforcing\n"}, 1, 1),
        ({"sys/fs/selinux/enforce": "0", "root/etc/selinux/config": "SELINUX=enforcing\n"}, 1, 0),
        ({"sys/fs/selinux/enforce": "0", "root/etc/selinux/config": "SELINUX=permissive\n"}, 0, 0),
        ({"sys/fs/selinux/enforce": "1"}, -1, 1),
        ({"sys/fs/selinux/enforce": "1", "proc/self/attr/current": "system_u:system_r:init_t:s0\0"}, -1, 1),
    ],
)
def test_shows_what_is_configured_and_what_holds(tree, collector, files, configured, current):
    selinux = collector("selinux", tree(files))
    assert samples(selinux.families(selinux.read())) == [
        "node_selinux_enabled 1",
        f"node_selinux_config_mode {configured}",
        f"node_selinux_current_mode {current}",
    ]


def test_is_off_without_a_policy(tree, collector):
    root = tree({"sys/fs/selinux/enforce": "1", "proc/self/attr/current": "kernel\0"})
    assert collector("selinux", root).read() is None


def test_notices_a_change_of_mode_and_of_the_configuration(tree, collector):
    selinux = collector(
        "selinux", tree({"sys/fs/selinux/enforce": "1", "root/etc/selinux/config": "SELINUX=enforcing"})
    )
    assert selinux.read() == (1, 1)
    tree({"sys/fs/selinux/enforce": "0", "root/etc/selinux/config": "SELINUX=permissive"})
    assert selinux.read() == (0, 0)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (b"# SELINUX=enforcing\n; SELINUX=enforcing\n\nSELINUX=permissive\nSELINUX=enforcing\n", 0),
        (b'SELINUX="enforcing"\n', 1),
        (b"SELINUXTYPE=targeted\n", -1),
        (b"SELINUX=disabled\n", -1),
        (b"SELINUX=\xff\n", -1),
        (b"", -1),
    ],
)
def test_reads_the_configured_mode(text, mode):
    assert parse_config(text) == mode

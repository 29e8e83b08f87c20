from pathlib import Path

import pytest

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.mounts import MountTable, parse

ROOT = b"22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw,errors=remount-ro\n"


def line(point: bytes, kind: bytes = b"ext4", source: bytes = b"/dev/sdb1", options: bytes = b"rw") -> bytes:
    return (
        b"40 22 8:17 / " + point + b" rw,relatime shared:9 master:2 - " + kind + b" " + source + b" " + options + b"\n"
    )


def test_reads_a_mount():
    (mount,) = parse(ROOT)
    assert mount == ("/dev/mapper/vg0-root", "/", "ext4", "253", "0", False, b"/", True, "", "")


def test_optional_fields_may_be_missing():
    (mount,) = parse(b"36 35 98:0 / /mnt rw,noatime - ext3 /dev/root rw\n")
    assert (mount.mount_point, mount.fs_type, mount.major, mount.minor) == ("/mnt", "ext3", "98", "0")


@pytest.mark.parametrize(
    ("raw", "shown", "path"),
    [
        (rb"/srv/old\040stories", "/srv/old stories", b"/srv/old stories"),
        (rb"/srv/tab\011bed", "/srv/tab\tbed", b"/srv/tab\tbed"),
        (rb"/srv/back\134slash", r"/srv/back\134slash", b"/srv/back\\slash"),
        (rb"/srv/line\012feed", r"/srv/line\012feed", b"/srv/line\nfeed"),
        (b"/srv/\xff\xfe", "/srv/\ufffd", b"/srv/\xff\xfe"),
        (b"/srv/a\rb", "/srv/a\rb", b"/srv/a\rb"),
    ],
)
def test_labels_are_as_node_exporter_writes_them_and_paths_as_the_kernel_knows_them(raw, shown, path):
    (mount,) = parse(line(raw))
    assert (mount.mount_point, mount.path) == (shown, path)


@pytest.mark.parametrize(
    ("options", "super_options", "read_only"),
    [
        (b"rw,relatime", b"rw,errors=remount-ro", False),
        (b"ro,relatime", b"rw", True),
        (b"rw,relatime", b"ro,attr2", True),
        (b"rw,relatime", b"rw,emergency_ro", True),
        (b"rw,relatime", b"rw,role=worker", False),
    ],
)
def test_read_only_is_said_by_the_mount_or_by_the_file_system(options, super_options, read_only):
    (mount,) = parse(b"40 22 8:17 / /srv " + options + b" - ext4 /dev/sdb1 " + super_options + b"\n")
    assert mount.read_only is read_only


def test_cuts_the_prefix_off_where_the_hosts_root_is_mounted_elsewhere():
    mounts = parse(line(b"/host") + line(b"/host/boot") + line(b"/hostile") + line(b"/"), "/host")
    assert [(mount.mount_point, mount.path) for mount in mounts] == [
        ("/", b"/host/"),
        ("/boot", b"/host/boot"),
        ("/hostile", b"/host/hostile"),
        ("/", b"/host/"),
    ]


@pytest.mark.parametrize(
    ("source", "server"),
    [
        (b"fileserver.example.org:/export/home", "fileserver.example.org"),
        (b"[2001:db8::40]:/export", "[2001:db8::40]"),
        (b"//nas/stories", "nas"),
        (b"//nas/stories/2024", "nas"),
        (b"mon1,mon2:6789:/", "mon1,mon2:6789"),
        (b"/dev/sdb1", ""),
        (b"tmpfs", ""),
    ],
)
def test_knows_the_server_of_a_network_file_system(source, server):
    (mount,) = parse(line(b"/srv", b"nfs4", source, b"rw,vers=4.2,clientaddr=192.0.2.21,addr=192.0.2.40"))
    assert mount.server == server
    assert mount.address == "192.0.2.40"


def test_what_the_kernel_answers_from_memory_is_known_unless_a_disk_or_server_lies_on_the_way():
    mounts = parse(
        ROOT
        + line(b"/run", b"tmpfs", b"tmpfs")
        + line(b"/run/user/1000", b"tmpfs", b"tmpfs")
        + line(b"/home/shared", b"nfs4", b"nas:/home")
        + line(b"/home/shared/tmp", b"tmpfs", b"tmpfs")
        + line(b"/home/sharedtmp", b"tmpfs", b"tmpfs")
    )
    assert {mount.mount_point: mount.in_memory for mount in mounts} == {
        "/": True,
        "/run": True,
        "/run/user/1000": True,
        "/home/shared": False,
        "/home/shared/tmp": False,
        "/home/sharedtmp": True,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"22 1 253:0 / / rw,relatime shared:1 ext4 /dev/sda1 rw\n",
        b"22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/sda1\n",
        b"22 1 253 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
        b"22 1 253:a / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
        b"22 1 253:0 / /a\\000b rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)


def test_an_unchanged_table_is_not_parsed_again(tree):
    root = tree({"proc/1/mountinfo": ROOT})
    kernel = Kernel(str(root / "proc"))
    table = MountTable(kernel)
    before = table.read()
    assert table.read() is before
    (root / "proc/1/mountinfo").write_bytes(ROOT + line(b"/srv"))
    assert [mount.mount_point for mount in table.read()] == ["/", "/srv"]
    kernel.close()


def test_where_pid_1_is_hidden_its_own_mounts_are_read(tree):
    kernel = Kernel(str(tree({"proc/self/mountinfo": ROOT}) / "proc"))
    table = MountTable(kernel)
    assert len(table.read()) == 1
    assert len(table.read()) == 1
    kernel.close()


def test_without_any_table_the_error_is_the_systems(tmp_path: Path):
    table = MountTable(Kernel(str(tmp_path)))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            table.read()

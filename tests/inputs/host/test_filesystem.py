import errno
import os
import threading

import pytest

from novel_agent.inputs.host.filesystem import Filesystem
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.wire.prometheus import render_text

SIZES = os.statvfs_result((4096, 4096, 1000, 400, 300, 5000, 2000, 2000, 0, 255))
ROOT = "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
RUN = "29 22 0:25 / /run rw,nosuid shared:11 - tmpfs tmpfs rw,size=26326468k\n"


def nfs(number: int, server: str = "nas") -> str:
    return (
        f"{50 + number} 22 0:{60 + number} / /home/{number} rw shared:9 - nfs4 {server}:/e{number} rw,addr=192.0.2.40\n"
    )


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def mount_points(reading) -> list[str]:
    return [mount.mount_point for mount in reading.mounts]


def silent(reading) -> dict[str, str]:
    return {mount.mount_point: error for mount, error in reading.silent}


class Host:
    """statvfs on a host where some paths answer with an error, and some not before they are let go."""

    def __init__(self, monkeypatch, root) -> None:
        self.errors: dict[str, int] = {}
        self.hung: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.isolated: list[tuple[list[str], float]] = []
        self._root = str(root)
        self._entered = threading.Event()
        self._threads: list[threading.Thread] = []
        monkeypatch.setattr(os, "statvfs", self._statvfs)

    def hang(self, *paths: str) -> None:
        for path in paths:
            self.hung[path] = threading.Event()

    def let_go(self, *paths: str) -> None:
        for path in paths or tuple(self.hung):
            self.hung.pop(path).set()
        for thread in self._threads:
            if not self.hung:
                thread.join()

    def _statvfs(self, path: bytes) -> os.statvfs_result:
        shown = path.decode().removeprefix(self._root)
        self.asked.append(shown)
        if shown in self.hung:
            hung = self.hung[shown]
            self._entered.set()
            hung.wait()
        if shown in self.errors:
            raise OSError(self.errors[shown], os.strerror(self.errors[shown]))
        return SIZES

    def isolate(self, call, items, deadline_seconds):
        self.isolated.append(([item.mount_point for item in items], deadline_seconds))
        return [self._outcome(call, item) for item in items]

    def _outcome(self, call, item):
        if item.path.decode().removeprefix(self._root) not in self.hung:
            try:
                return call(item)
            except OSError as error:
                return error
        self._entered.clear()
        thread = threading.Thread(target=call, args=(item,), daemon=True)
        thread.start()
        self._threads.append(thread)
        self._entered.wait()
        return None


@pytest.fixture
def host(monkeypatch, tmp_path):
    host = Host(monkeypatch, tmp_path / "root")
    yield host
    host.let_go()


@pytest.fixture
def filesystem(tree, host):
    made = []

    def make(mountinfo: str, **options) -> Filesystem:
        root = tree({"proc/1/mountinfo": mountinfo})
        kernel = Kernel(str(root / "proc"), str(root / "sys"), str(root / "root"), isolate=host.isolate)
        made.append(Filesystem(kernel, Filesystem.Options(**options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_shows_a_mount_as_node_exporter_does(filesystem):
    collector = filesystem(ROOT)
    labels = '{device="/dev/vda",mountpoint="/",fstype="ext4",device_error=""}'
    assert render_text(collector.families(collector.read())).decode() == (
        "# HELP node_filesystem_device_error Whether an error occurred while getting statistics for the given device.\n"
        f"# TYPE node_filesystem_device_error gauge\nnode_filesystem_device_error{labels} 0\n"
        "# HELP node_filesystem_readonly Filesystem read-only status.\n"
        f"# TYPE node_filesystem_readonly gauge\nnode_filesystem_readonly{labels} 0\n"
        "# HELP node_filesystem_size_bytes Filesystem size in bytes.\n"
        f"# TYPE node_filesystem_size_bytes gauge\nnode_filesystem_size_bytes{labels} 4096000\n"
        "# HELP node_filesystem_free_bytes Filesystem free space in bytes.\n"
        f"# TYPE node_filesystem_free_bytes gauge\nnode_filesystem_free_bytes{labels} 1638400\n"
        "# HELP node_filesystem_avail_bytes Filesystem space available to non-root users in bytes.\n"
        f"# TYPE node_filesystem_avail_bytes gauge\nnode_filesystem_avail_bytes{labels} 1228800\n"
        "# HELP node_filesystem_files Filesystem total file nodes.\n"
        f"# TYPE node_filesystem_files gauge\nnode_filesystem_files{labels} 5000\n"
        "# HELP node_filesystem_files_free Filesystem total free file nodes.\n"
        f"# TYPE node_filesystem_files_free gauge\nnode_filesystem_files_free{labels} 2000\n"
        "# HELP node_filesystem_purgeable_bytes "
        "Filesystem space available including purgeable space (MacOS specific).\n"
        f"# TYPE node_filesystem_purgeable_bytes gauge\nnode_filesystem_purgeable_bytes{labels} 0\n"
        "# HELP node_filesystem_mount_info Filesystem mount information.\n"
        "# TYPE node_filesystem_mount_info gauge\n"
        'node_filesystem_mount_info{device="/dev/vda",major="253",minor="0",mountpoint="/"} 1\n'
    )


def test_telemetry_divides_a_file_system_into_used_free_and_reserved(filesystem):
    collector = filesystem(ROOT)
    labels = (
        'system.device="/dev/vda",system.filesystem.mode="rw",'
        'system.filesystem.mountpoint="/",system.filesystem.type="ext4"'
    )
    assert samples(collector.telemetry(collector.read())) == [
        f'system.filesystem.usage{{{labels},system.filesystem.state="used"}} 2457600',
        f'system.filesystem.usage{{{labels},system.filesystem.state="free"}} 1228800',
        f'system.filesystem.usage{{{labels},system.filesystem.state="reserved"}} 409600',
        f'system.filesystem.utilization{{{labels},system.filesystem.state="used"}} 0.6',
        f"system.filesystem.limit{{{labels}}} 4096000",
    ]


def test_a_file_system_without_blocks_is_not_used_at_all(filesystem, monkeypatch):
    empty = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: empty)
    collector = filesystem(ROOT)
    assert [value for block in collector.telemetry(collector.read()) for value in block.values] == [0, 0, 0, 0.0, 0]


def test_by_default_kernel_and_container_mounts_are_left_out(filesystem):
    collector = filesystem(
        ROOT
        + RUN
        + "23 22 0:21 / /proc rw - proc proc rw\n"
        + "28 27 0:24 / /dev/shm rw - tmpfs tmpfs rw\n"
        + "30 29 0:31 / /run/credentials/systemd-journald.service ro - tmpfs none rw\n"
        + "39 33 0:48 / /var/lib/docker/overlay2/x/merged rw - ext4 /dev/vda rw\n"
        + "41 33 0:49 / /merged rw - overlay overlay rw\n"
        + "42 22 8:1 / /devices rw - xfs /dev/sda1 rw\n"
    )
    assert mount_points(collector.read()) == ["/", "/run", "/devices"]


def test_an_include_pattern_takes_the_place_of_the_default_exclusion(filesystem):
    table = ROOT + RUN + "28 27 0:24 / /dev/shm rw - tmpfs tmpfs rw\n"
    assert mount_points(filesystem(table, include_mounts="^/dev").read()) == ["/dev/shm"]
    assert mount_points(filesystem(table, include_types="^tmpfs$").read()) == ["/run"]
    assert mount_points(filesystem(table, include_mounts="^/(dev|run)", exclude_mounts="shm").read()) == ["/run"]


def test_of_mounts_with_the_same_labels_the_covering_one_is_shown(filesystem):
    over = "60 22 253:0 / / ro,relatime shared:1 - ext4 /dev/vda rw\n"
    collector = filesystem(ROOT + over)
    lines = samples(collector.families(collector.read()))
    assert len(lines) == 9
    assert 'node_filesystem_readonly{device="/dev/vda",mountpoint="/",fstype="ext4",device_error=""} 1' in lines


def test_an_error_is_shown_as_go_words_it_and_the_others_go_on(filesystem, host):
    host.errors["/home/1"] = errno.ESTALE
    collector = filesystem(ROOT + nfs(1))
    reading = collector.read()
    assert mount_points(reading) == ["/"]
    lines = [line for line in samples(collector.families(reading)) if "/home/1" in line]
    labels = '{device="nas:/e1",mountpoint="/home/1",fstype="nfs4",device_error="stale file handle"}'
    assert lines == [f"node_filesystem_device_error{labels} 1", f"node_filesystem_readonly{labels} 0"]
    assert not any("/home/1" in line for line in samples(collector.telemetry(reading)))


def test_a_hung_mount_is_skipped_until_its_call_returns(filesystem, host):
    collector = filesystem(ROOT + nfs(1), mount_timeout_seconds=3.0)
    host.hang("/home/1")
    reading = collector.read()
    assert mount_points(reading) == ["/"]
    assert silent(reading) == {"/home/1": "mountpoint timeout"}
    assert host.isolated == [(["/home/1"], 3.0)]
    for _ in range(3):
        assert silent(collector.read()) == {"/home/1": "mountpoint timeout"}
    assert host.asked.count("/home/1") == 1
    assert (
        'node_filesystem_device_error{device="nas:/e1",mountpoint="/home/1",fstype="nfs4",'
        'device_error="mountpoint timeout"} 1'
    ) in samples(collector.families(reading))
    host.let_go("/home/1")
    assert mount_points(collector.read()) == ["/", "/home/1"]


def test_a_new_mount_in_the_place_of_a_hung_one_is_asked(filesystem, host, tree):
    collector = filesystem(ROOT + nfs(1))
    host.hang("/home/1")
    collector.read()
    hung, host.hung = host.hung, {}
    tree({"proc/1/mountinfo": ROOT + nfs(1).replace("0:61", "0:77")})
    assert mount_points(collector.read()) == ["/", "/home/1"]
    host.hung = hung


def test_the_mounts_of_a_silent_server_are_asked_in_haste_and_hold_four_threads_at_most(filesystem, host):
    collector = filesystem(ROOT + "".join(nfs(number) for number in range(6)))
    host.hang(*(f"/home/{number}" for number in range(6)))
    assert len(silent(collector.read())) == 6
    assert host.isolated == [
        (["/home/0"], 5.0),
        (["/home/1"], 0.25),
        (["/home/2"], 0.25),
        (["/home/3"], 0.25),
    ]
    collector.read()
    assert host.isolated[4:] == []


def test_a_mount_that_answers_is_shown_though_another_of_its_server_is_silent(filesystem, host):
    collector = filesystem(nfs(1) + nfs(2) + nfs(3, "other"))
    host.hang("/home/1")
    for _ in range(2):
        reading = collector.read()
        assert sorted(mount_points(reading)) == ["/home/2", "/home/3"]
        assert silent(reading) == {"/home/1": "mountpoint timeout"}


def test_of_a_server_that_answers_all_mounts_have_the_whole_deadline(filesystem, host):
    collector = filesystem(nfs(1) + nfs(2) + nfs(3))
    assert len(collector.read().mounts) == 3
    assert host.isolated == [(["/home/1"], 5.0), (["/home/2", "/home/3"], 5.0)]


def test_a_mount_that_was_never_asked_for_want_of_threads_is_asked_the_next_time(filesystem, host, monkeypatch):
    collector = filesystem(nfs(1))
    answering = host.isolate
    monkeypatch.setattr(collector._asker, "_isolate", lambda call, items, deadline_seconds: [None] * len(items))
    assert silent(collector.read()) == {"/home/1": "mountpoint timeout"}
    monkeypatch.setattr(collector._asker, "_isolate", answering)
    assert mount_points(collector.read()) == ["/home/1"]


def test_what_cannot_hang_is_asked_without_isolation(filesystem, host):
    collector = filesystem(RUN)
    host.errors["/run"] = errno.EACCES
    assert silent(collector.read()) == {"/run": "permission denied"}
    assert host.isolated == []


def test_shapes_are_kept_while_the_same_mounts_answer(filesystem, host):
    collector = filesystem(ROOT + nfs(1))
    (before,) = collector.families(collector.read())
    (after,) = collector.families(collector.read())
    assert after.shape is before.shape
    host.errors["/home/1"] = errno.EIO
    (changed,) = collector.families(collector.read())
    assert changed.shape is not before.shape


def test_a_host_without_mounts_shows_nothing(filesystem):
    collector = filesystem("")
    reading = collector.read()
    assert collector.families(reading) == ()
    assert collector.telemetry(reading) == ()


def test_asks_the_kernel_of_this_machine(collector, tree):
    collector = collector("filesystem", tree({"proc/1/mountinfo": ROOT, "root/etc/hostname": "metal\n"}))
    (sizes,) = collector.read().answers
    assert sizes.f_blocks == os.statvfs(f"{collector.kernel.root}/").f_blocks

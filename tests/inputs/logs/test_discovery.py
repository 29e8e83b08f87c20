"""Which files are found: patterns, exclusions, links, what is no file, what may not be read, and without inotify."""

import errno
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from tail_session import TailSession, append

from novel_agent.inputs.logs import inotify, settings
from novel_agent.inputs.logs.discovery import Discovery


def found(root, *patterns, exclude=()):
    look = Discovery([str(root / pattern) for pattern in patterns], [str(root / pattern) for pattern in exclude]).look
    return sorted(os.path.relpath(path, root) for path in look(lambda directory: None).paths)


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a.log",
        "b.log",
        "b.txt",
        ".hidden.log",
        "x/a.log",
        "x/y/a.log",
        "x/y/z/c.log",
        ".git/d.log",
        "x[1].log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["a.log"], ["a.log"]),
        (["*.log"], ["a.log", "b.log", "x[1].log"]),
        (["?.log", "*.txt"], ["a.log", "b.log", "b.txt"]),
        (["[ab].log"], ["a.log", "b.log"]),
        (["[!a].log"], ["b.log"]),
        ([".*.log"], [".hidden.log"]),
        (["*/a.log"], ["x/a.log"]),
        (["**/a.log"], ["a.log", "x/a.log", "x/y/a.log"]),
        (["x/**"], ["x/a.log", "x/y", "x/y/a.log", "x/y/z", "x/y/z/c.log"]),
        (["**/y/*.log"], ["x/y/a.log"]),
        (["x[[]1].log"], ["x[1].log"]),
        (["missing/*.log"], []),
    ],
)
def test_patterns(tree, patterns, names):
    assert found(tree, *patterns) == names


@pytest.mark.parametrize(
    ("exclude", "names"),
    [
        (["b.log"], ["a.log", "x/a.log", "x/y/a.log", "x/y/z/c.log", "x[1].log"]),
        (["x/**"], ["a.log", "b.log", "x[1].log"]),
        (["**/a.log"], ["b.log", "x/y/z/c.log", "x[1].log"]),
        (["x/*/*.log", "[!a].log"], ["a.log", "x/a.log", "x/y/z/c.log", "x[1].log"]),
    ],
)
def test_exclusions(tree, exclude, names):
    assert found(tree, "**/*.log", exclude=exclude) == names


def test_a_loop_of_links_ends(tree):
    os.symlink(tree, tree / "x" / "loop")
    os.symlink("self", tree / "self.log")
    os.symlink("self.log", tree / "self")
    append(tree / "x" / "y" / "a.log", "one\n")
    session = TailSession(tree / "**/*.log")
    assert session.poll() == ["one"]


@pytest.fixture(params=[True, False], ids=["inotify", "listing"])
def watched(request):
    return request.param


def test_a_symbolic_link_names_the_lines_and_its_target_is_followed(tmp_path, watched):
    (tmp_path / "pods").mkdir()
    (tmp_path / "links").mkdir()
    append(tmp_path / "pods" / "0.log", "one\n")
    os.symlink(tmp_path / "pods" / "0.log", tmp_path / "links" / "app.log")
    session = TailSession(tmp_path / "links" / "*.log", inotify=watched)
    assert session.poll() == ["one"]
    append(tmp_path / "pods" / "0.log", "two\n")
    assert session.poll(1) == ["two"]
    append(tmp_path / "pods" / "0.log", "late\n")
    os.rename(tmp_path / "pods" / "0.log", tmp_path / "pods" / "0.log.20260101")
    append(tmp_path / "pods" / "0.log", "new\n")
    assert sorted(session.wait(11)) == ["late", "new"]
    append(tmp_path / "pods" / "1.log", "restarted\n")
    append(tmp_path / "pods" / "0.log", "very late\n")
    os.unlink(tmp_path / "links" / "app.log")
    os.symlink(tmp_path / "pods" / "1.log", tmp_path / "links" / "app.log")
    assert sorted(session.wait(11)) == ["restarted", "very late"]
    assert {read.file.path for read in session.reads} == {str(tmp_path / "links" / "app.log")}
    session.restart()
    append(tmp_path / "pods" / "0.log", "even later\n")
    assert session.wait(11) == ["even later"]


def test_a_target_rotated_while_down_is_finished(tmp_path):
    (tmp_path / "pods").mkdir()
    append(tmp_path / "pods" / "0.log", "one\n")
    os.symlink(tmp_path / "pods" / "0.log", tmp_path / "app.log")
    session = TailSession(tmp_path / "*.log")
    session.poll()
    saved = session.positions()
    append(tmp_path / "pods" / "0.log", "two\n")
    os.rename(tmp_path / "pods" / "0.log", tmp_path / "pods" / "0.log.20260101")
    append(tmp_path / "pods" / "0.log", "new\n")
    session.restart(saved=saved)
    assert sorted(session.poll()) == ["new", "two"]


def test_directories_that_come_are_looked_into(tmp_path):
    session = TailSession(tmp_path / "later" / "**" / "*.log")
    assert session.poll() == []
    (tmp_path / "later" / "deep").mkdir(parents=True)
    session.poll(0.1)
    append(tmp_path / "later" / "deep" / "a.log", "one\n")
    assert session.poll(0.1) == ["one"]
    append(tmp_path / "later" / "deep" / "a.log", "two\n")
    assert session.poll(0.1) == ["two"]
    os.rename(tmp_path / "later", tmp_path / "earlier")
    assert session.wait(10) == []
    (tmp_path / "later").mkdir()
    append(tmp_path / "later" / "b.log", "three\n")
    assert session.wait(1) == ["three"]


def test_what_is_no_regular_file_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "directory.log").mkdir()
    os.symlink("/dev/zero", tmp_path / "zero.log")
    os.symlink("/proc/self/status", tmp_path / "proc.log")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.log"))
        append(tmp_path / "a.log", "one\n")
        session = TailSession(tmp_path / "*.log")
        assert session.poll() == ["one"]
        os.unlink(tmp_path / "a.log")
        os.mkfifo(tmp_path / "a.log")
        assert session.wait(30) == []
        os.unlink(tmp_path / "a.log")
        append(tmp_path / "a.log", "two\n")
        assert session.wait(1) == ["two"]


@pytest.fixture
def without_root():
    """Permissions count for this user only."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be two users in turn")
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def directory():
    """A directory that every user may get to."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        yield path
        path.chmod(0o755)


def test_permission_that_is_lost_and_comes_back(directory, watched, without_root):
    os.seteuid(0)
    append(directory / "a.log", "one\n")
    append(directory / "b.log", "one\n")
    (directory / "a.log").chmod(0)
    os.seteuid(65534)
    session = TailSession(directory / "*.log", inotify=watched, most_open=0)
    assert session.poll() == ["one"]
    assert session.states() == {"a.log": "no permission", "b.log": "quiet"}
    assert session.events() == ["cannot read a log file"]
    os.seteuid(0)
    (directory / "b.log").chmod(0)
    append(directory / "b.log", "two\n")
    os.seteuid(65534)
    assert session.wait(30) == []
    assert session.events() == ["cannot read a log file"]
    os.seteuid(0)
    (directory / "a.log").chmod(0o644)
    (directory / "b.log").chmod(0o644)
    os.seteuid(65534)
    assert sorted(session.wait(1)) == ["one", "two"]
    assert session.states() == {"a.log": "quiet", "b.log": "quiet"}
    os.seteuid(0)
    directory.chmod(0)
    append(directory / "a.log", "three\n")
    os.seteuid(65534)
    session.wait(60)
    os.seteuid(0)
    directory.chmod(0o755)
    os.seteuid(65534)
    session.wait(11)
    assert session.lines.count("one") == 2
    assert session.lines.count("three") == 1


def test_a_file_named_in_full_needs_no_directory_that_may_be_listed(directory, watched, without_root):
    os.seteuid(0)
    append(directory / "a.log", "one\n")
    directory.chmod(0o711)
    os.seteuid(65534)
    session = TailSession(directory / "a.log", inotify=watched)
    assert session.poll() == ["one"]
    os.seteuid(0)
    append(directory / "a.log", "two\n")
    os.seteuid(65534)
    assert session.wait(1) == ["two"]


def test_a_link_to_itself_hides_nothing(tmp_path, watched):
    os.symlink("self.log", tmp_path / "self.log")
    append(tmp_path / "a.log", "one\n")
    session = TailSession(tmp_path / "*.log", inotify=watched)
    session.poll()
    os.unlink(tmp_path / "a.log")
    session.wait(30)
    assert session.states() == {}


def test_lost_events_are_made_up_for(tmp_path):
    append(tmp_path / "a.log", "one\n")
    session = TailSession(tmp_path / "*.log")
    session.poll()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 10):
        os.link(tmp_path / "a.log", tmp_path / f"x{number}")
        os.unlink(tmp_path / f"x{number}")
    append(tmp_path / "a.log", "two\n")
    append(tmp_path / "b.log", "three\n")
    assert sorted(session.poll(0.1)) == ["three", "two"]
    assert session.events() == ["lost events of log directories, listing them"]


@pytest.mark.parametrize("failing", ["inotify_init1", "inotify_add_watch"])
def test_without_inotify_directories_are_listed_and_that_is_said_once(tmp_path, monkeypatch, failing):
    def refuse(*arguments):
        inotify.ctypes.set_errno(errno.EMFILE)
        return -1

    monkeypatch.setattr(inotify._libc, failing, refuse)
    append(tmp_path / "a.log", "one\n")
    session = TailSession(tmp_path / "*.log")
    assert session.poll() == ["one"]
    append(tmp_path / "a.log", "two\n")
    append(tmp_path / "b.log", "three\n")
    assert sorted(session.poll(1)) == ["three", "two"]
    session.wait(30)
    assert session.events() == ["log directories are listed instead of watched"]


def test_a_network_file_system_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("novel_agent.inputs.logs.watching.file_system_kind", lambda descriptor: "network")
    append(tmp_path / "a.log", "one\n")
    session = TailSession(tmp_path / "*.log")
    session.poll()
    append(tmp_path / "a.log", "two\n")
    assert session.poll(1) == ["two"]


def test_handles_are_bounded_and_files_verified_when_opened_again(tmp_path):
    session = TailSession(tmp_path / "*.log", most_open=10)
    for number in range(100):
        append(tmp_path / f"{number}.log", "one\n")
    assert session.poll() == ["one"] * 100
    assert open_below(tmp_path) <= 10
    for number in range(100):
        append(tmp_path / f"{number}.log", "two\n")
    assert session.poll(1) == ["two"] * 100
    session.wait(400)
    assert open_below(tmp_path) == 0
    (tmp_path / "7.log").write_text("another beginning\n")
    assert session.poll(1) == ["another beginning"]


def open_below(root):
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(f"/proc/self/fd/{name}")
            count += stat.S_ISREG(status.st_mode) and str(root) in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return count


def test_names_that_are_no_utf_8_are_read_and_kept(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.log"
    append(name, "one\n")
    session = TailSession(tmp_path / "*.log")
    assert session.poll() == ["one"]
    assert session.reads[0].file.path == f"{tmp_path}/caf\N{REPLACEMENT CHARACTER}.log"
    session.restart()
    assert session.poll() == []


def test_what_is_gone_is_forgotten_after_a_week(tmp_path):
    append(tmp_path / "a.log", "one\n")
    session = TailSession(tmp_path / "*.log")
    session.poll()
    os.unlink(tmp_path / "a.log")
    session.wait(60)
    assert len(session.positions().files) == 1
    session.unix += 6 * 86_400
    assert len(session.positions().files) == 1
    session.unix += 86_400
    assert session.positions().files == ()


def test_idle_files_cost_a_listing_every_ten_seconds(tmp_path):
    for number in range(50):
        append(tmp_path / f"{number}.log", "one\n")
    session = TailSession(tmp_path / "*.log")
    session.poll()
    session.poll(1)
    assert session.tail.wants(session.now) == pytest.approx(settings.SCAN_SECONDS - 1)

import errno
import fcntl
import logging
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from novel_agent.errors import StateError
from novel_agent.state import directory
from novel_agent.state.directory import StateDirectory, TokenNotKept, holder, write_atomically

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

HOLD = """
import sys
from novel_agent.state.directory import StateDirectory
StateDirectory(sys.argv[1]).open()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def recorded(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("novel_agent"), "propagate", True)
    caplog.set_level("WARNING", "novel_agent.state")
    return lambda: caplog.records


def test_makes_a_private_directory(tmp_path):
    state = StateDirectory(str(tmp_path / "a" / "b"))
    state.open()
    assert stat.S_IMODE(os.stat(tmp_path / "a" / "b").st_mode) == 0o700
    state.close()
    state.close()


def test_a_directory_in_use_names_its_holder_and_is_free_again_after_kill_9(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        state = StateDirectory(str(tmp_path))
        with pytest.raises(StateError, match=f"in use by process {holder.pid}; .*--state-dir"):
            state.open()
        holder.kill()
        holder.wait(10)
    state.open()
    state.close()


def test_a_path_that_cannot_be_made_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"Not a directory; give one this user may write with --state-dir"):
        StateDirectory(str(tmp_path / "file" / "state")).open()


def test_the_token_is_made_once_and_readable_by_the_group(tmp_path):
    state = StateDirectory(str(tmp_path))
    token, made = state.token()
    assert made
    assert len(token) >= 40
    assert state.token() == (token, False)
    assert stat.S_IMODE(os.stat(tmp_path / "api-token").st_mode) == 0o640


def test_an_empty_token_file_is_replaced(tmp_path):
    (tmp_path / "api-token").write_text("\n")
    token, made = StateDirectory(str(tmp_path)).token()
    assert made
    assert token


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(str(path), b"old")
    with pytest.raises(TypeError):
        write_atomically(str(path), None)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_pid_out_of_the_lock_but_not_the_agent_from_holding_it(tmp_path, monkeypatch):
    state = StateDirectory(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", no_space)
        state.open()
    with pytest.raises(StateError, match="in use by process unknown"):
        StateDirectory(str(tmp_path)).open()
    assert holder(str(tmp_path)) == "unknown"
    state.close()


def test_a_file_system_without_locks_is_named_as_the_reason(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StateError, match=r"cannot be locked \(No locks available\); .*--state-dir"):
        StateDirectory(str(tmp_path)).open()
    assert os.listdir("/proc/self/fd") == before


def test_a_token_that_cannot_be_written_is_good_for_this_run_and_kept_once_there_is_room(tmp_path, monkeypatch):
    state = StateDirectory(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(directory.os, "write", no_space)
        with pytest.raises(TokenNotKept, match=r"api-token: the token cannot be written \(No space left") as first:
            state.token()
        with pytest.raises(TokenNotKept) as second:
            state.token()
    assert first.value.exit_code == 2
    assert first.value.token == second.value.token
    assert len(first.value.token) >= 40
    assert os.listdir(tmp_path) == []
    assert state.token() == (first.value.token, True)
    assert state.token() == (first.value.token, False)


def test_the_holder_is_told_without_making_or_writing_anything(tmp_path):
    assert holder(str(tmp_path)) is None
    assert os.listdir(tmp_path) == []
    state = StateDirectory(str(tmp_path))
    state.open()
    assert holder(str(tmp_path)) == str(os.getpid())
    state.close()
    (tmp_path / "lock").write_text("4711\n")
    assert holder(str(tmp_path)) is None
    assert (tmp_path / "lock").read_text() == "4711\n"


def refusal(path):
    state = StateDirectory(str(path))
    with pytest.raises(StateError) as caught:
        state.open()
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707])
def test_a_directory_that_everyone_may_write_to_is_refused_with_what_to_do(tmp_path, mode):
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    assert refusal(path) == (
        f"state directory {path} may be written by everyone, who can change what this agent does;"
        f" run: chmod go-w {path}; or give another with --state-dir"
    )
    assert os.listdir(path) == []


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_directory_that_others_may_only_look_into_is_taken(tmp_path, mode, recorded):
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    state = StateDirectory(str(path))
    state.open()
    state.close()
    assert recorded() == []


@needs_root
def test_a_directory_that_a_group_may_write_to_is_taken_with_a_warning(tmp_path, recorded):
    path = tmp_path / "state"
    path.mkdir()
    os.chown(path, 0, 4711)
    path.chmod(0o2770)
    state = StateDirectory(str(path))
    state.open()
    state.close()
    (record,) = recorded()
    assert record.getMessage() == "others can change what is in the state directory"
    assert record.details["reason"] == "may be written by group 4711"


@pytest.fixture
def nobody():
    """What follows is done by a user who is not root."""
    os.seteuid(65534)
    yield
    os.seteuid(0)


@needs_root
def test_a_directory_of_another_user_is_refused_with_what_to_do(request):
    with tempfile.TemporaryDirectory() as made:
        os.chown(made, 4711, 4711)
        os.chmod(made, 0o755)
        request.getfixturevalue("nobody")
        said = refusal(made)
        os.seteuid(0)
    assert said == (
        f"state directory {made} belongs to user 4711, who can change what this agent does;"
        f" run the agent as user 4711, or chown 65534 {made}; or give another with --state-dir"
    )


@needs_root
def test_root_is_only_warned_that_a_directory_belongs_to_another_user(tmp_path, recorded):
    path = tmp_path / "state"
    path.mkdir()
    os.chown(path, 4711, 4711)
    state = StateDirectory(str(path))
    state.open()
    state.close()
    assert [record.details["reason"] for record in recorded()] == ["belongs to user 4711"]


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o2777, 0), (0o1777, 0), (0o700, 4711)])
def test_a_volume_comes_with_the_mode_and_the_owner_it_has(tmp_path, monkeypatch, recorded, mode, owner):
    path = tmp_path / "state"
    path.mkdir()
    as_mounted = os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, owner, 0, 0, 0, 0, 0))
    state = StateDirectory(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(os.path, "ismount", lambda asked: asked == str(path))
        patched.setattr(os, "stat", lambda asked: as_mounted)
        state.open()
    state.close()
    assert len(recorded()) == 1


def test_a_place_for_everyone_is_refused_though_it_is_a_mount_point(tmp_path, monkeypatch):
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(directory, "_FOR_EVERYONE", {str(path)})
    monkeypatch.setattr(os.path, "ismount", lambda asked: asked == str(path))
    assert "may be written by everyone" in refusal(path)


def test_a_lock_that_is_a_symbolic_link_is_refused_and_what_it_points_to_left_alone(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "state"
    path.mkdir(0o700)
    (path / "lock").symlink_to(victim)
    assert refusal(path) == (f"{path}/lock is a symbolic link, which the agent never makes; remove it: rm {path}/lock")
    assert victim.read_text() == "precious"
    with pytest.raises(OSError, match="symbolic links"):
        holder(str(path))


def test_a_lock_that_is_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "lock")
    assert "lock is not a regular file" in refusal(tmp_path)


@needs_root
def test_what_belongs_to_a_stranger_is_not_taken_for_the_agents_own(tmp_path):
    (tmp_path / "lock").touch()
    os.chown(tmp_path / "lock", 4711, 4711)
    assert "lock belongs to" in refusal(tmp_path)
    (tmp_path / "api-token").write_text("chosen-by-somebody-else\n")
    os.chown(tmp_path / "api-token", 4711, 4711)
    with pytest.raises(StateError, match="api-token belongs to"):
        StateDirectory(str(tmp_path)).token()


def test_a_token_is_not_read_through_a_symbolic_link(tmp_path):
    (tmp_path / "public").write_text("known-to-all\n")
    (tmp_path / "api-token").symlink_to(tmp_path / "public")
    with pytest.raises(StateError, match="api-token is a symbolic link"):
        StateDirectory(str(tmp_path)).token()


def test_writing_atomically_follows_no_link_at_the_temporary_name(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"file.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(str(tmp_path / "file"), b"new")
    assert victim.read_text() == "precious"

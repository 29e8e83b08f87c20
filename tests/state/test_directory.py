import errno
import fcntl
import os
import stat
import subprocess
import sys

import pytest

from novel_agent.errors import StateError
from novel_agent.state import directory
from novel_agent.state.directory import StateDirectory, TokenNotKept, holder, write_atomically

HOLD = """
import sys
from novel_agent.state.directory import StateDirectory
StateDirectory(sys.argv[1]).open()
print("held", flush=True)
sys.stdin.read()
"""


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

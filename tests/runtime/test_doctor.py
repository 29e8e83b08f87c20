import os
import tempfile
from pathlib import Path

import pytest

from novel_agent.config.schema import Agent, Config
from novel_agent.runtime import doctor
from novel_agent.runtime.finding import Finding
from novel_agent.state.directory import StateDirectory

NOBODY = 65534


def state(path: Path) -> Finding:
    return doctor._state(Config(agent=Agent(state_dir=str(path))))


@pytest.fixture
def somebody_elses():
    """A directory that this test may look into and not write to, whoever runs it."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        (directory / "state").mkdir()
        (directory / "state" / "lock").touch(0o600)
        (directory / "state").chmod(0o555)
        directory.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        yield directory
        if root:
            os.seteuid(0)
        directory.chmod(0o755)
        (directory / "state").chmod(0o755)


class TestStateDirectory:
    def test_one_that_is_not_there_is_not_made(self, tmp_path):
        found = state(tmp_path / "a" / "state")
        assert found.verdict == "ok"
        assert "can be made" in found.says
        assert os.listdir(tmp_path) == []

    def test_one_that_cannot_be_made_names_where_and_the_fix(self, somebody_elses):
        path = somebody_elses / "a" / "state"
        found = state(path)
        assert found.verdict == "problem"
        assert f"may make nothing in {somebody_elses}" in found.says
        assert f"mkdir -p {path} && chown {os.geteuid()} {path}" in found.fix

    def test_a_free_one_stays_as_it_was(self, tmp_path):
        lock = tmp_path / "lock"
        lock.write_text("4711\n")
        os.utime(lock, (1, 1))
        assert "is writable" in state(tmp_path).says
        assert lock.read_text() == "4711\n"
        assert lock.stat().st_mtime == 1
        assert os.listdir(tmp_path) == ["lock"]

    def test_one_in_use_names_the_process(self, tmp_path):
        held = StateDirectory(str(tmp_path))
        held.open()
        found = state(tmp_path)
        held.close()
        assert (found.verdict, found.says) == ("note", f"{tmp_path} is in use by process {os.getpid()}")

    def test_one_that_is_not_this_users_is_a_problem(self, somebody_elses):
        found = state(somebody_elses / "state")
        assert found.verdict == "problem"
        assert "is not this user's to write" in found.says

    @pytest.mark.skipif(os.geteuid() != 0, reason="makes files of two users")
    def test_a_lock_of_another_users_is_a_problem_with_its_fix(self, somebody_elses):
        os.seteuid(0)
        os.chown(somebody_elses / "state", NOBODY, NOBODY)
        (somebody_elses / "state").chmod(0o755)
        os.seteuid(NOBODY)
        found = state(somebody_elses / "state")
        lock = somebody_elses / "state" / "lock"
        assert (found.verdict, found.says) == ("problem", f"{lock} is not this user's to write")
        assert f"chown {NOBODY} {lock}" in found.fix

    def test_one_that_everyone_may_write_to_is_a_problem_with_its_fix(self, tmp_path):
        path = tmp_path / "state"
        path.mkdir()
        path.chmod(0o777)
        found = state(path)
        assert (found.verdict, found.says) == ("problem", f"{path} may be written by everyone")
        assert found.fix == f"run: chmod go-w {path}"

    @pytest.mark.parametrize("below", [".", "state", "a/state"])
    def test_a_file_in_its_place_is_a_problem(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        assert state(tmp_path / "file" / below).verdict == "problem"

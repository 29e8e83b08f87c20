import os
import tempfile
from pathlib import Path

import pytest

from novel_agent.config.schema import Config, Export, LogSource
from novel_agent.runtime.doctor_logs import examine_logs

NOBODY = 65534
CENTRAL = Export(name="central", endpoint="http://127.0.0.1:4318")


def findings(*paths: Path, export: tuple[Export, ...] = (CENTRAL,)) -> list[tuple[str, str, str]]:
    config = Config(logs=(LogSource(name="app", paths=tuple(map(str, paths))),), export=export)
    return [(found.verdict, found.says, found.fix) for found in examine_logs(config)]


@pytest.fixture
def logs_of_others():
    """A directory with a log that this test may not read, whoever runs it."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        (directory / "a.log").touch(0o600)
        (directory / "closed").mkdir(0o700)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        else:
            (directory / "a.log").chmod(0)
            (directory / "closed").chmod(0)
        yield directory
        if root:
            os.seteuid(0)
        (directory / "closed").chmod(0o700)


def test_files_that_are_readable_are_counted(tmp_path):
    (tmp_path / "a.log").touch()
    (tmp_path / "b.log").touch()
    assert findings(tmp_path / "*.log") == [("ok", "2 files are readable", "")]


def test_a_pattern_without_a_file_is_no_problem(tmp_path):
    assert findings(tmp_path / "*.log") == [
        ("note", f"no file is called {tmp_path}/*.log yet; those that come are read", "")
    ]


def test_a_file_of_somebody_else_names_owner_mode_and_the_fix(logs_of_others):
    ((verdict, says, fix),) = findings(logs_of_others / "*.log")
    assert verdict == "problem"
    assert says.startswith(f"{logs_of_others}/a.log is not this user's to read (")
    assert fix.startswith("as root: ")
    assert fix.endswith(f":r {logs_of_others}/a.log")


def test_the_group_that_may_read_it_is_the_narrower_way(logs_of_others):
    if os.getuid() != 0:
        pytest.skip("needs root to give a file to another group")
    os.seteuid(0)
    os.chown(logs_of_others / "a.log", 0, 4)
    (logs_of_others / "a.log").chmod(0o640)
    os.seteuid(NOBODY)
    ((_, says, fix),) = findings(logs_of_others / "*.log")
    assert "(root:adm -rw-r-----)" in says
    assert fix == "as root: usermod -aG adm nobody, and restart the agent"


def test_a_directory_that_may_not_be_listed_is_named(logs_of_others):
    ((verdict, says, fix),) = findings(logs_of_others / "closed" / "*.log")
    assert verdict == "problem"
    assert says.startswith(f"{logs_of_others}/closed is not this user's to read")
    assert ":rX " in fix


def test_logs_without_an_export_that_takes_them_are_not_read(tmp_path):
    (tmp_path / "a.log").touch()
    only_traces = Export(name="central", endpoint="http://127.0.0.1:4318", signals=("traces",))
    assert findings(tmp_path / "*.log", export=(only_traces,))[1] == (
        "note",
        "no export takes logs, so none are read",
        "add an item to `export` with logs among its signals",
    )

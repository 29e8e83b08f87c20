import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "live_journal.py"
JOURNALD = "/usr/lib/systemd/systemd-journald"
LINES = 1000


def may_mount():
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def found():
    if not os.path.exists(JOURNALD) or shutil.which("systemd-cat") is None:
        pytest.skip("needs systemd-journald (Debian: systemd)")
    if not may_mount():
        pytest.skip("needs root and a mount namespace")
    command = ["unshare", "--mount", sys.executable, str(SCRIPT), str(LINES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.root
def test_every_entry_comes_once_and_in_order_through_rotation_and_the_death_of_journalctl(found):
    assert found["bodies"] == [f"number {number}" for number in range(3 * LINES)]
    assert found["uids"] == 3 * LINES
    assert (found["problem"], found["restarts"], found["gaps"]) == ("", 1, 0)


@pytest.mark.root
def test_reading_goes_on_from_a_cursor_in_an_archived_file(found):
    assert found["again"] == [f"number {number}" for number in range(LINES + 1, 3 * LINES)]


@pytest.mark.root
def test_an_entry_that_was_vacuumed_is_said(found):
    assert found["vacuumed"] == ["number 0", 1]


@pytest.mark.root
def test_entries_of_a_real_journal_have_their_attributes(found):
    attributes = found["attributes"]
    assert found["severity"] == "info"
    assert (attributes["syslog.appname"], attributes["journal.transport"]) == ("numbers", "stdout")
    assert attributes["process.pid"] > 1
    assert "host.name" not in attributes

import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from novel_agent.config.schema import Journal
from novel_agent.errors import InputError
from novel_agent.inputs.logs.journal import MISSING, NOT_ALLOWED, TOO_OLD, JournalTail, problem_of
from novel_agent.inputs.logs.journal_matches import arguments

FIXTURE = Path(__file__).parents[2] / "fixtures" / "journal" / "entries.export"
REMOTE = "/usr/lib/systemd/systemd-journal-remote"
NOW = 1_764_000_200.0
BOOT = "33333333333333333333333333333333"

with_journalctl = pytest.mark.skipif(
    shutil.which("journalctl") is None or not os.path.exists(REMOTE),
    reason="needs journalctl and systemd-journal-remote (Debian: systemd, systemd-journal-remote)",
)


def write(directory, data, name="system"):
    """A journal file of these entries."""
    subprocess.run(
        [REMOTE, "-o", str(directory / f"{name}.journal"), "-"], input=data, check=True, stderr=subprocess.DEVNULL
    )


def numbered(start, stop, unit="novel-engine.service"):
    """Entries of one boot, one a millisecond."""
    return "".join(
        f"__REALTIME_TIMESTAMP={1_764_000_110_000_000 + number * 1000}\n__MONOTONIC_TIMESTAMP={9_000_000 + number * 1000}\n"
        f"_BOOT_ID={BOOT}\nPRIORITY=6\n_SYSTEMD_UNIT={unit}\nMESSAGE=number {number}\n\n"
        for number in range(start, stop)
    ).encode()


@pytest.fixture
def journal(tmp_path):
    directory = tmp_path / "journal"
    directory.mkdir()
    write(directory, FIXTURE.read_bytes())
    return directory


@pytest.fixture
def opened():
    """Makes tails, and closes them."""
    tails = []

    def open_(directory, cursor=None, start_at="beginning", journalctl=None, **options):
        settings = Journal(directory=directory, **options)
        tails.append(JournalTail(settings, cursor, start_at, journalctl=journalctl))
        return tails[-1]

    yield open_
    for tail in tails:
        tail.close()


def collect(tail, count, now=NOW):
    """The next so many entries, each waited for as long as it takes, up to ten seconds."""
    entries = tail.poll(now, 1 << 20)
    deadline = time.monotonic() + 10
    while len(entries) < count:
        assert time.monotonic() < deadline, f"{len(entries)} of {count} entries; {tail.problem}"
        if tail.descriptor is not None:
            select.select([tail.descriptor], [], [], 1)
        entries += tail.poll(now, 1 << 20)
    return entries


def bodies(entries):
    return [entry.record.body for entry in entries]


def until_it_follows(tail, now=NOW):
    """Everything that is there; what comes later is waited for."""
    entries = tail.poll(now, 1 << 20)
    deadline = time.monotonic() + 10
    while not tail.follows:
        assert time.monotonic() < deadline
        select.select([tail.descriptor], [], [], 1)
        entries += tail.poll(now, 1 << 20)
    return entries


@with_journalctl
def test_entries_of_all_boots_are_read_in_order(journal, opened):
    entries = collect(opened(journal), 6)
    assert bodies(entries) == [
        "Accepted publickey for ann from 203.0.113.7 port 52114 ssh2",
        "MDS CPU bug present and SMT on, data leak possible.",
        "Started novel-engine.service - The Novel Engine.",
        "listening on 127.0.0.1:8000",
        "story failed",
        "Process 902 (python3) of user 998 dumped core.",
    ]
    assert entries[0].record.attributes["host.name"] == "web1"
    assert entries[0].record.observed_unix_nano == 1_764_000_200_000_000_000
    assert len({entry.record.attributes["log.record.uid"] for entry in entries}) == 6


@with_journalctl
def test_reading_goes_on_after_the_cursor_also_into_a_later_boot(journal, opened):
    entries = collect(opened(journal), 6)
    for place in (0, 3):
        again = opened(journal, entries[place].cursor)
        assert bodies(collect(again, 5 - place)) == bodies(entries[place + 1 :])
        assert (again.gaps, again.notices()) == (0, [])


@with_journalctl
def test_after_the_last_entry_only_what_comes_is_read(journal, opened):
    last = collect(opened(journal), 6)[-1]
    tail = opened(journal, last.cursor)
    assert until_it_follows(tail) == []
    write(journal, numbered(0, 3), "later")
    assert bodies(collect(tail, 3)) == ["number 0", "number 1", "number 2"]
    assert (tail.gaps, tail.restarts, tail.problem) == (0, 0, "")


@with_journalctl
def test_from_the_end_only_what_comes_is_read(journal, opened):
    tail = opened(journal, start_at="end")
    assert until_it_follows(tail, now=1_764_000_105.0) == []
    write(journal, numbered(0, 2), "later")
    assert bodies(collect(tail, 2)) == ["number 0", "number 1"]


@with_journalctl
def test_a_unit_is_matched_as_journalctl_does_it(journal, opened):
    entries = collect(opened(journal, units=("novel-engine.service",)), 4)
    assert [body.split()[0] for body in bodies(entries)] == ["Started", "listening", "story", "Process"]


@with_journalctl
def test_the_kernel_can_be_read_beside_units(journal, opened):
    entries = collect(opened(journal, units=("novel-engine",), kernel=True), 5)
    assert [body.split()[0] for body in bodies(entries)] == ["MDS", "Started", "listening", "story", "Process"]


@with_journalctl
def test_criteria_must_all_hold(journal, opened):
    assert bodies(collect(opened(journal, identifiers=("sshd", "kernel"), min_severity="warn"), 1)) == [
        "MDS CPU bug present and SMT on, data leak possible."
    ]
    with_kernel = opened(journal, units=("novel-engine.service",), identifiers=("novel-worker",), kernel=True)
    assert [body.split()[0] for body in bodies(collect(with_kernel, 2))] == ["MDS", "story"]


@with_journalctl
def test_an_entry_that_is_gone_is_said_and_reading_goes_on_with_what_is_there(journal, opened):
    first = collect(opened(journal), 6)[0]
    (journal / "system.journal").unlink()
    write(journal, numbered(0, 2), "later")
    tail = opened(journal, first.cursor)
    assert bodies(collect(tail, 2)) == ["number 0", "number 1"]
    assert tail.gaps == 1
    (notice,) = tail.notices()
    assert notice.startswith("the entry that was read last is not in the journal any more")
    assert tail.notices() == []


@with_journalctl
def test_a_cursor_that_is_none_is_said_and_everything_is_read(journal, opened):
    tail = opened(journal, "nonsense")
    deadline = time.monotonic() + 10
    while tail.descriptor is not None or not tail.restarts:
        assert time.monotonic() < deadline
        assert tail.poll(NOW, 1 << 20) == []
    assert (tail.gaps, tail.due) == (1, NOW + 1)
    assert tail.problem == "journalctl: Failed to seek to cursor: Invalid argument"
    assert len(collect(tail, 6, now=NOW + 1)) == 6
    assert tail.problem == ""


@with_journalctl
def test_journalctl_that_dies_is_started_again_and_nothing_comes_twice(journal, opened):
    tail = opened(journal)
    assert len(collect(tail, 6)) == 6
    until_it_follows(tail)
    os.kill(tail.process_id, 9)
    select.select([tail.descriptor], [], [], 10)
    assert tail.poll(NOW, 1 << 20) == []
    assert (tail.restarts, tail.due) == (1, NOW + 1)
    assert tail.problem == "journalctl has ended with status -9"
    assert tail.poll(NOW + 0.9, 1 << 20) == []
    assert tail.descriptor is None
    write(journal, numbered(0, 1), "later")
    assert bodies(collect(tail, 1, now=NOW + 1)) == ["number 0"]


@with_journalctl
def test_a_message_of_several_lines_and_a_large_one_come_whole(journal, opened):
    text = b'Traceback (most recent call last):\n  File "a.py"\n\nError: ' + b"x" * 200_000
    write(
        journal,
        b"__REALTIME_TIMESTAMP=1764000120000000\n_BOOT_ID=" + BOOT.encode() + b"\nMESSAGE\n"
        + len(text).to_bytes(8, "little") + text + b"\nA=1\n\n",
        "later",
    )  # fmt: skip
    assert collect(opened(journal), 7)[-1].record.body == text.decode()


@with_journalctl
def test_a_poll_reads_about_as_much_as_it_is_asked_to(journal, opened):
    write(journal, numbered(0, 500), "later")
    tail = opened(journal)
    entries = []
    while len(entries) < 506:
        if tail.descriptor is not None:
            select.select([tail.descriptor], [], [], 10)
        some = tail.poll(NOW, 4096)
        assert len(some) < 30
        entries += some
    assert len({entry.cursor for entry in entries}) == 506


@with_journalctl
def test_the_journal_can_be_checked(journal, tmp_path):
    assert problem_of(Journal(directory=journal)) == ""
    nowhere = tmp_path / "nowhere"
    assert problem_of(Journal(directory=nowhere)) == f"journalctl: Failed to open {nowhere}: No such file or directory"


@with_journalctl
def test_closing_ends_journalctl_and_can_be_done_again(journal, opened):
    tail = opened(journal)
    collect(tail, 6)
    process_id = tail.process_id
    tail.close()
    tail.close()
    assert not os.path.exists(f"/proc/{process_id}")
    assert tail.descriptor is None


def script(tmp_path, text):
    """Something else in the place of journalctl."""
    path = tmp_path / "journalctl"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


HINT = (
    "Hint: You are currently not seeing messages from other users and the system.\n"
    "      Users in groups 'adm', 'systemd-journal' can see all messages.\n"
    "      Pass -q to turn off this notice."
)


def test_a_user_who_may_not_read_everything_is_told_so(tmp_path, opened):
    entry = "printf '__CURSOR=s=1;i=1\\nMESSAGE=own\\n\\n'"
    instead = script(tmp_path, f'echo "{HINT}" >&2; case "$*" in *--follow*) exec sleep 60;; *) {entry};; esac')
    tail = opened(tmp_path, journalctl=instead)
    assert bodies(collect(tail, 1)) == ["own"]
    deadline = time.monotonic() + 10
    while not tail.problem:
        assert time.monotonic() < deadline
        tail.poll(NOW, 1 << 20)
    assert tail.problem == NOT_ALLOWED
    assert tail.notices() == [NOT_ALLOWED]
    tail.poll(NOW + 100, 1 << 20)
    assert tail.problem == NOT_ALLOWED
    assert problem_of(Journal(), journalctl=script(tmp_path, f'echo "{HINT}" >&2')) == NOT_ALLOWED


def test_a_journalctl_that_leaves_files_out_is_told(tmp_path, opened):
    said = "Journal file /j/system.journal uses an unsupported feature, ignoring file."
    instead = script(tmp_path, f'echo "{said}" >&2; case "$*" in *--follow*) exec sleep 60;; esac')
    tail = opened(tmp_path, journalctl=instead)
    deadline = time.monotonic() + 10
    while not tail.problem:
        assert time.monotonic() < deadline
        assert tail.poll(NOW, 1 << 20) == []
    assert tail.problem == TOO_OLD
    assert problem_of(Journal(), journalctl=instead) == TOO_OLD


def test_no_permission_at_all_is_told_and_tried_again_ever_more_slowly(tmp_path, opened):
    refused = "No journal files were opened due to insufficient permissions."
    tail = opened(tmp_path, journalctl=script(tmp_path, f"echo '{refused}' >&2; exit 1"))
    now, pauses = NOW, []
    for attempt in range(1, 9):
        while tail.restarts < attempt:
            tail.poll(now, 1 << 20)
        pauses.append(tail.due - now)
        now = tail.due
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert tail.problem == NOT_ALLOWED
    assert tail.notices() == [NOT_ALLOWED]


def test_a_clock_set_back_does_not_make_it_wait(tmp_path, opened):
    tail = opened(tmp_path, journalctl=script(tmp_path, "exit 3"))
    while not tail.restarts:
        tail.poll(NOW, 1 << 20)
    assert tail.problem == "journalctl has ended with status 3"
    while tail.restarts < 2:
        tail.poll(NOW - 3600, 1 << 20)
    assert tail.due == NOW - 3600 + 2


def test_a_torn_entry_of_a_journalctl_that_died_is_not_read(tmp_path, opened):
    once = tmp_path / "once"
    torn, whole = "printf '__CURSOR=s=1;i=1\\nMESSAGE=to'", "printf '__CURSOR=s=1;i=1\\nMESSAGE=whole\\n\\n'"
    tail = opened(
        tmp_path,
        journalctl=script(tmp_path, f"[ -e {once} ] && {{ {whole}; exec sleep 60; }}; touch {once}; {torn}; exit 1"),
    )
    while not tail.restarts:
        assert tail.poll(NOW, 1 << 20) == []
    assert bodies(collect(tail, 1, now=NOW + 1)) == ["whole"]


def test_where_merge_is_refused_it_follows_without_it(tmp_path, opened):
    refused = "echo 'Using --boot or --list-boots with --merge is not supported.' >&2; exit 1"
    entry = "printf '__CURSOR=s=1;i=1\\nMESSAGE=followed\\n\\n'; exec sleep 60"
    cases = f'case "$*" in *--merge*) {refused};; *--follow*) {entry};; *) exit 0;; esac'
    tail = opened(tmp_path, journalctl=script(tmp_path, cases))
    while not tail.restarts:
        assert tail.poll(NOW, 1 << 20) == []
    assert bodies(collect(tail, 1, now=NOW + 1)) == ["followed"]
    assert tail.problem == ""


def test_a_listing_that_ends_with_1_and_says_nothing_had_nothing_to_list(tmp_path, opened):
    instead = script(tmp_path, 'case "$*" in *--follow*) exec sleep 60;; *) exit 1;; esac')
    tail = opened(tmp_path, journalctl=instead)
    assert until_it_follows(tail) == []
    assert (tail.restarts, tail.problem) == (0, "")


def test_without_journalctl_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(InputError, match="install the package systemd"):
        JournalTail(Journal(), None, "end")
    assert problem_of(Journal()) == MISSING


def test_one_that_cannot_be_started_is_tried_again(tmp_path, opened):
    tail = opened(tmp_path, journalctl=str(tmp_path / "nowhere"))
    assert tail.poll(NOW, 1 << 20) == []
    assert tail.problem == "journalctl cannot be started: No such file or directory"
    assert (tail.descriptor, tail.due) == (None, NOW + 1)


@pytest.mark.parametrize(
    ("severity", "priority"),
    [("fatal", 0), ("error", 3), ("warn", 4), ("info", 6), ("debug", 7), ("trace", 7)],
)
def test_a_severity_is_asked_for_as_the_lowest_level_in_its_range(severity, priority):
    assert arguments(Journal(min_severity=severity)) == [f"--priority={priority}"]


def test_units_and_identifiers_are_options_of_journalctl():
    settings = Journal(units=("a.service", "b*"), identifiers=("sshd",), directory=Path("/var/log/journal"))
    assert arguments(settings) == ["--directory=/var/log/journal", "--unit=a.service", "--unit=b*", "--identifier=sshd"]
    assert arguments(Journal(kernel=True)) == []


def test_a_pattern_of_units_beside_the_kernel_is_refused():
    with pytest.raises(InputError, match="a source of its own for the kernel"):
        arguments(Journal(units=("a*",), kernel=True))

"""Growing files: whole lines, once, in order; what is acknowledged is what a restart goes on from."""

import os

import pytest
from tail_session import TailSession, append, joined, numbered

from novel_agent.config.schema import LogSource
from novel_agent.inputs.logs.content import Rules
from novel_agent.inputs.logs.settings import Settings


@pytest.fixture(params=[True, False], ids=["inotify", "listing"])
def session(request, tmp_path):
    session = TailSession(tmp_path / "*.log", inotify=request.param)
    yield session
    session.close()


def test_what_is_in_a_file_is_read_and_then_what_is_added(session, tmp_path):
    append(tmp_path / "a.log", "one\ntwo\n")
    assert session.poll() == ["one", "two"]
    append(tmp_path / "a.log", "three\n")
    assert session.poll(1) == ["three"]
    assert session.poll(20) == []


def test_a_partial_line_waits_for_its_newline_and_is_whole_then(session, tmp_path):
    append(tmp_path / "a.log", "one\ntw")
    assert session.poll() == ["one"]
    append(tmp_path / "a.log", "o")
    assert session.poll(1) == []
    assert session.wait(30) == []
    append(tmp_path / "a.log", "!\nthr")
    assert session.poll(1) == ["two!"]


def test_an_empty_file_gives_nothing_and_its_first_line_comes(session, tmp_path):
    append(tmp_path / "a.log", "")
    assert session.poll() == []
    append(tmp_path / "a.log", "one\n")
    assert session.poll(1) == ["one"]


def test_a_file_that_appears_is_read_from_its_beginning(session, tmp_path):
    assert session.poll() == []
    append(tmp_path / "b.log", "one\n")
    assert session.poll(1) == ["one"]


def test_chunks_say_where_they_stand_and_records_can_be_told_apart(session, tmp_path):
    append(tmp_path / "a.log", "one\ntwo\n")
    session.poll()
    append(tmp_path / "a.log", "three\n")
    session.poll(1)
    first, second = session.reads
    assert (first.chunk.offset, first.chunk.end, second.chunk.offset, second.chunk.end) == (0, 8, 8, 14)
    assert first.file == second.file
    assert first.file.path == str(tmp_path / "a.log")
    assert len(first.file.uid) == 16
    assert int(first.file.uid, 16) >= 0


def test_a_restart_goes_on_where_everything_was_acknowledged(session, tmp_path):
    append(tmp_path / "a.log", "one\ntwo\n")
    session.poll()
    session.restart()
    append(tmp_path / "a.log", "three\n")
    assert session.poll() == ["three"]
    assert session.reads[0].file.uid == session.reads[-1].file.uid


def test_what_is_not_acknowledged_is_read_again_with_the_same_uid_and_offset(session, tmp_path):
    session.acknowledge = False
    append(tmp_path / "a.log", "one\n")
    session.poll()
    session.restart()
    append(tmp_path / "a.log", "two\n")
    assert session.poll() == ["one", "two"]
    assert [(read.file.uid, read.chunk.offset) for read in session.reads] == [(session.reads[0].file.uid, 0)] * 2


def test_an_offset_within_a_chunk_can_be_acknowledged(session, tmp_path):
    session.acknowledge = False
    append(tmp_path / "a.log", joined(numbered(0, 10)))
    session.poll()
    session.tail.done(session.reads[0].position, 41 * 4)
    session.restart()
    assert session.poll() == numbered(4, 10)


def test_acknowledged_within_a_chunk_of_a_file_truncated_meanwhile_commits_the_chunk_before(session, tmp_path):
    session.acknowledge = False
    append(tmp_path / "a.log", "one\n")
    session.poll()
    append(tmp_path / "a.log", "two\nthree\n")
    session.poll(1)
    (tmp_path / "a.log").write_text("new\n")
    session.tail.done(session.reads[0].position, 4)
    session.tail.done(session.reads[0].position, 8)
    (position,) = session.positions().files
    assert position.offset == 4
    session.restart()
    assert session.poll() == ["new"]


def test_a_large_file_does_not_starve_a_small_one(session, tmp_path):
    append(tmp_path / "big.log", joined(numbered(0, 100_000, 99)))
    append(tmp_path / "small.log", "hello\n")
    reads = session.tail.poll(1000.0, 1 << 20)
    assert b"hello\n" in [read.chunk.data for read in reads]
    assert sum(len(read.chunk.data) for read in reads) <= 1 << 20
    assert session.tail.wants(1000.0) == 0
    session.reads += reads
    session.poll()
    assert sorted(session.lines) == sorted([*numbered(0, 100_000, 99), "hello"])


def test_no_more_is_read_at_once_than_asked_for_but_a_line_that_is_longer(session, tmp_path):
    append(tmp_path / "a.log", "x" * 5000 + "\n" + "y" * 20 + "\n")
    lengths = [[len(read.chunk.data) for read in session.tail.poll(1000.0, 100)] for _ in range(4)]
    assert [length for length in lengths if length] == [[5001], [21]]


def test_a_line_larger_than_a_turn_comes_whole(session, tmp_path):
    append(tmp_path / "a.log", "x" * 700_000)
    assert session.poll() == []
    append(tmp_path / "a.log", "y" * 100_000 + "\nnext\n")
    assert session.poll(1) == ["x" * 700_000 + "y" * 100_000, "next"]


def test_two_paths_to_one_file_are_read_once(session, tmp_path):
    append(tmp_path / "a.log", "one\n")
    os.link(tmp_path / "a.log", tmp_path / "hard.log")
    os.symlink(tmp_path / "a.log", tmp_path / "soft.log")
    assert session.poll() == ["one"]
    append(tmp_path / "hard.log", "two\n")
    assert session.poll(1) == ["two"]
    os.unlink(tmp_path / "a.log")
    os.unlink(tmp_path / "soft.log")
    assert session.poll(1) == []
    append(tmp_path / "hard.log", "thr")
    assert session.wait(20) == []
    append(tmp_path / "hard.log", "ee\n")
    assert session.poll(1) == ["three"]


def test_two_files_with_the_same_beginning_are_two_files(session, tmp_path):
    same = joined(numbered(0, 100))
    append(tmp_path / "a.log", same + "a\n")
    append(tmp_path / "b.log", same + "b\n")
    assert sorted(session.poll()) == sorted([*numbered(0, 100) * 2, "a", "b"])
    assert len({read.file.uid for read in session.reads}) == 2


def test_start_at_end_begins_behind_the_last_newline_of_files_that_were_there(tmp_path):
    append(tmp_path / "a.log", "old\nolder\npart")
    session = TailSession(tmp_path / "*.log", start_at_end=True)
    assert session.poll() == []
    append(tmp_path / "a.log", "ial\nnew\n")
    append(tmp_path / "b.log", "appeared\n")
    assert sorted(session.poll(1)) == ["appeared", "new", "partial"]
    session.restart()
    append(tmp_path / "c.log", "while down\n")
    assert session.poll() == ["while down"]


def test_start_at_end_does_not_count_where_the_source_was_seen_before(tmp_path):
    session = TailSession(tmp_path / "*.log", start_at_end=True)
    session.poll()
    session.restart()
    append(tmp_path / "a.log", "one\n")
    assert session.poll() == ["one"]


def test_status_tells_size_offsets_and_lag(session, tmp_path):
    session.acknowledge = False
    append(tmp_path / "a.log", "one\ntwo\npart")
    session.poll()
    session.tail.done(session.reads[0].position, 4)
    status = session.status(tmp_path / "a.log")
    assert (status.size, status.read_offset, status.committed_offset, status.lag_bytes) == (12, 8, 4, 8)
    assert (status.device, status.inode) == (os.stat(tmp_path / "a.log").st_dev, os.stat(tmp_path / "a.log").st_ino)
    assert (status.state, status.error) == ("reading", "")


def test_settings_are_those_of_the_configured_source():
    source = LogSource(
        name="app",
        paths=("/a/*.log",),
        exclude=("/a/b.log",),
        max_line_bytes=2048,
        encoding="utf-16-le",
        start_at="end",
    )
    assert Settings.of(source)[:4] == (("/a/*.log",), ("/a/b.log",), Rules(2048, "utf-16-le"), True)

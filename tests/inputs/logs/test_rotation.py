"""Rotation in all its forms, while the agent runs and while it does not: every line, once, none torn."""

import gzip
import os
import shutil

import pytest
import zstandard
from tail_session import TailSession, append, joined, numbered

from novel_agent.inputs.logs.tail import LogTail


@pytest.fixture(params=[True, False], ids=["inotify", "listing"])
def session(request, tmp_path):
    session = TailSession(tmp_path / "a.log", inotify=request.param)
    yield session
    session.close()


@pytest.fixture(params=["a.log", "a.log*", "*"])
def matched(request, tmp_path):
    session = TailSession(tmp_path / request.param)
    yield session
    session.close()


def compress(path, to):
    if str(to).endswith(".gz"):
        with gzip.open(to, "wb") as file:
            file.write(path.read_bytes())
    else:
        to.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    path.unlink()


def copy_and_truncate(path, to):
    shutil.copyfile(path, to)
    os.truncate(path, 0)


def test_a_renamed_file_is_read_to_its_end_beside_the_new_one(matched, tmp_path):
    append(tmp_path / "a.log", "one\n")
    matched.poll()
    append(tmp_path / "a.log", "two\n")
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", "new\n")
    assert sorted(matched.poll(1)) == ["new", "two"]
    append(tmp_path / "a.log.1", "late\n")
    append(tmp_path / "a.log", "newer\n")
    assert sorted(matched.poll(1)) == ["late", "newer"]
    assert {read.file.path for read in matched.reads} == {str(tmp_path / "a.log")}
    assert matched.wait(30) == []


def test_what_is_added_long_after_the_rename_is_read_too(session, tmp_path):
    append(tmp_path / "a.log", "one\n")
    session.poll()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    session.wait(60)
    append(tmp_path / "a.log.1", "very late\n")
    assert session.wait(20) == ["very late"]


def test_a_chain_of_renames_is_followed(matched, tmp_path):
    append(tmp_path / "a.log", "one\n")
    matched.poll()
    for text in ("two\n", "three\n", "four\n"):
        if (tmp_path / "a.log.1").exists():
            os.rename(tmp_path / "a.log.1", tmp_path / "a.log.2")
        os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
        append(tmp_path / "a.log", text)
        append(tmp_path / "a.log.1", "late " + text)
        matched.poll(1)
    assert sorted(matched.lines) == sorted(["one", "two", "three", "four", "late two", "late three", "late four"])


def test_the_last_line_without_newline_comes_once_when_the_rotated_file_is_quiet(session, tmp_path):
    append(tmp_path / "a.log", "one\nlast")
    session.poll()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    assert session.wait(4) == []
    assert session.wait(10) == ["last"]
    assert session.wait(30) == []
    session.restart()
    assert session.wait(30) == []


def test_a_rotated_line_that_goes_on_in_time_is_not_torn(session, tmp_path):
    append(tmp_path / "a.log", "one\nla")
    session.poll()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    session.wait(3)
    append(tmp_path / "a.log.1", "st")
    assert session.wait(4) == []
    append(tmp_path / "a.log.1", "!\n")
    assert session.wait(10) == ["last!"]


def test_a_removed_file_is_read_to_its_end_and_let_go(session, tmp_path):
    with open(tmp_path / "a.log", "a") as writer:
        print("one", file=writer, flush=True)
        session.poll()
        os.unlink(tmp_path / "a.log")
        print("two\nlast", end="", file=writer, flush=True)
        assert session.wait(3) == ["two"]
    assert session.wait(10) == ["last"]
    assert session.tail.status() == []
    assert not [link for link in open_files() if str(tmp_path) in link and "a.log" in link]


def open_files():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return links


def test_a_file_that_is_made_again_is_another(session, tmp_path):
    append(tmp_path / "a.log", "one\n")
    session.poll()
    os.unlink(tmp_path / "a.log")
    append(tmp_path / "a.log", "one\n")
    assert session.poll(1) == ["one"]
    assert len({read.file.uid for read in session.reads}) == 2


@pytest.mark.parametrize("suffix", [".1", ".2.gz", ".3.zst", "-20260101", "-20260101.gz"])
def test_rotated_while_down_is_finished_from_where_it_was_read(matched, tmp_path, suffix):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    uid = matched.reads[0].file.uid
    saved = matched.positions()
    append(tmp_path / "a.log", joined(numbered(50, 100)))
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    if suffix != ".1":
        rotated = tmp_path / ("a.log" + suffix)
        if suffix.endswith(("gz", "zst")):
            compress(tmp_path / "a.log.1", rotated)
        else:
            os.rename(tmp_path / "a.log.1", rotated)
    append(tmp_path / "a.log", joined(numbered(100, 110)))
    matched.restart(saved=saved)
    matched.reads.clear()
    assert sorted(matched.poll()) == sorted(numbered(50, 110))
    assert uid in {read.file.uid for read in matched.reads}
    assert matched.wait(30) == []
    matched.restart()
    assert matched.wait(30) == []


@pytest.mark.parametrize("suffix", [".1", ".2.gz", ".3.zst"])
def test_rotated_while_down_and_read_before_is_not_read_again(matched, tmp_path, suffix):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    saved = matched.positions()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    if suffix != ".1":
        compress(tmp_path / "a.log.1", tmp_path / ("a.log" + suffix))
    append(tmp_path / "a.log", "new\n")
    matched.restart(saved=saved)
    assert matched.wait(30) == ["new"]
    matched.restart()
    assert matched.wait(30) == []


def test_rotated_under_its_stem_while_down_is_found(tmp_path):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", "one\n")
    session.poll()
    saved = session.positions()
    append(tmp_path / "a.log", "two\n")
    os.rename(tmp_path / "a.log", tmp_path / "a-20260101.log")
    session.restart(saved=saved)
    assert session.wait(10) == ["two"]


def test_compressed_while_running_is_not_read_again(matched, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", "new\n")
    assert matched.poll(1) == ["new"]
    compress(tmp_path / "a.log.1", tmp_path / "a.log.2.gz")
    assert matched.wait(60) == []


def test_a_copy_then_truncation_loses_and_repeats_nothing(matched, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    append(tmp_path / "a.log", joined(numbered(50, 60)))
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", joined(numbered(60, 70)))
    assert sorted(matched.poll(1)) == sorted(numbered(50, 70))
    assert matched.wait(60) == []
    by_line = {line: read for read in matched.reads for line in read.chunk.data.decode().splitlines()}
    assert by_line[numbered(50, 51)[0]].file.uid == by_line[numbered(0, 1)[0]].file.uid
    assert by_line[numbered(60, 61)[0]].file.uid != by_line[numbered(0, 1)[0]].file.uid
    matched.restart()
    assert matched.wait(30) == []


def test_a_copy_that_is_noticed_before_the_truncation_is_held_back(matched, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    content = (tmp_path / "a.log").read_bytes()
    for end in (0, 100, 1500, len(content)):
        (tmp_path / "a.log.1").write_bytes(content[:end])
        assert matched.poll(1) == []
    os.truncate(tmp_path / "a.log", 0)
    append(tmp_path / "a.log", "new\n")
    assert matched.poll(1) == ["new"]
    assert matched.wait(60) == []


def test_a_copy_whose_original_stays_is_a_file_of_its_own(tmp_path):
    session = TailSession(tmp_path / "a.log*")
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    shutil.copyfile(tmp_path / "a.log", tmp_path / "a.log.copy")
    assert session.wait(8) == []
    assert session.states()["a.log.copy"] == "held"
    assert session.wait(8) == numbered(0, 50)


def test_copied_and_truncated_while_down(matched, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    saved = matched.positions()
    append(tmp_path / "a.log", joined(numbered(50, 60)))
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", joined(numbered(60, 70)))
    matched.restart(saved=saved)
    assert sorted(matched.poll()) == sorted(numbered(50, 70))
    assert matched.wait(60) == []


def test_copied_truncated_and_compressed_while_down(session, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    saved = session.positions()
    append(tmp_path / "a.log", joined(numbered(50, 60)))
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    compress(tmp_path / "a.log.1", tmp_path / "a.log.1.gz")
    session.restart(saved=saved)
    assert sorted(session.poll()) == sorted(numbered(50, 60))
    session.restart()
    assert session.wait(60) == []


def test_killed_between_truncation_and_acknowledgement_reads_the_copy_again(session, tmp_path):
    session.acknowledge = False
    append(tmp_path / "a.log", joined(numbered(0, 10)))
    session.poll()
    session.tail.done(session.reads[0].position, 41 * 4)
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", "new\n")
    assert session.poll(1) == ["new"]
    session.restart()
    assert sorted(session.poll()) == sorted([*numbered(4, 10), "new"])


@pytest.mark.parametrize(
    "new", ["new\n", joined(numbered(7, 57)), joined(numbered(7, 99))], ids=["shorter", "same", "longer"]
)
def test_truncated_and_written_again_is_read_from_the_start(session, tmp_path, new):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    (tmp_path / "a.log").write_text(new)
    assert session.poll(1) == new.splitlines()
    assert len({read.file.uid for read in session.reads}) == 2


@pytest.mark.parametrize(
    "new", ["new\n", joined(numbered(7, 57)), joined(numbered(7, 99))], ids=["shorter", "same", "longer"]
)
def test_truncated_and_written_again_while_down_is_read_from_the_start(session, tmp_path, new):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    saved = session.positions()
    (tmp_path / "a.log").write_text(new)
    session.restart(saved=saved)
    assert session.poll() == new.splitlines()
    assert len({read.file.uid for read in session.reads}) == 2
    session.restart(saved=saved)
    session.poll()
    assert len({read.file.uid for read in session.reads}) == 2


def test_nul_bytes_left_by_a_writer_that_kept_its_place_are_skipped(session, tmp_path):
    with open(tmp_path / "a.log", "w") as writer:
        writer.write(joined(numbered(0, 50_000)))
        writer.flush()
        session.poll()
        os.truncate(tmp_path / "a.log", 0)
        writer.write("after\n")
        writer.flush()
    assert session.poll(1) == ["after"]
    assert session.reads[-1].chunk.offset == 50_000 * 41
    session.restart()
    append(tmp_path / "a.log", "more\n")
    assert session.poll() == ["more"]


def test_an_inode_that_is_used_again_is_another_file(session, tmp_path):
    append(tmp_path / "a.log", "one\n" * 30)
    session.poll()
    inode = os.stat(tmp_path / "a.log").st_ino
    saved = session.positions()
    session.tail.close()
    os.unlink(tmp_path / "a.log")
    for number in range(200):
        append(tmp_path / "a.log", "two\n" * 60)
        if os.stat(tmp_path / "a.log").st_ino == inode:
            break
        os.rename(tmp_path / "a.log", tmp_path / f"other{number}")
    else:
        pytest.skip("this file system does not use an inode again soon")
    session.restart(saved=saved)
    session.reads.clear()
    assert session.poll() == ["two"] * 60


def test_truncation_is_noticed_however_long_the_file_was_idle(session, tmp_path):
    for text in ("one\n", "another\n", "third\n"):
        (tmp_path / "a.log").write_text(text)
        assert session.wait(11) == [text.strip()]
        session.wait(200)
        append(tmp_path / "a.log", "added\n")
        assert session.wait(11) == ["added"]
        session.wait(400)


def test_a_copy_whose_original_is_removed_is_not_read_again(tmp_path):
    session = TailSession(tmp_path / "a.log*")
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    shutil.copyfile(tmp_path / "a.log", tmp_path / "a.log.1")
    session.poll(1)
    os.unlink(tmp_path / "a.log")
    assert session.wait(60) == []
    session.restart()
    append(tmp_path / "a.log.1", "more\n")
    assert session.wait(60) == ["more"]


def test_a_compressed_file_that_nothing_continues_is_not_read(tmp_path):
    session = TailSession(tmp_path / "*")
    append(tmp_path / "old", joined(numbered(0, 50)))
    compress(tmp_path / "old", tmp_path / "a.log.1.gz")
    assert session.wait(30) == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_that_is_not_complete_is_tried_again(tmp_path, suffix):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    session.poll()
    saved = session.positions()
    append(tmp_path / "a.log", os.urandom(300_000).hex() + "\nlast\n")
    compress(tmp_path / "a.log", tmp_path / f"a.log.1{suffix}")
    whole = (tmp_path / f"a.log.1{suffix}").read_bytes()
    (tmp_path / f"a.log.1{suffix}").write_bytes(whole[: len(whole) // 2])
    session.restart(saved=saved)
    assert session.wait(5) == []
    (tmp_path / f"a.log.1{suffix}").write_bytes(whole)
    assert session.wait(30)[-1] == "last"
    assert session.wait(60) == []
    assert session.events() == ["cannot read a log file"]


def test_a_long_compressed_file_is_passed_over_in_turns(tmp_path):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", joined(numbered(0, 1_000_000)))
    session.poll()
    saved = session.positions()
    append(tmp_path / "a.log", "last\n")
    compress(tmp_path / "a.log", tmp_path / "a.log.1.zst")
    session.restart(saved=saved)
    assert session.tail.poll(session.now, 1 << 20) == []
    assert session.tail.wants(session.now) == 0
    assert session.poll() == ["last"]


@pytest.mark.parametrize("unread", [0, 5])
def test_a_rotated_file_that_is_overwritten_in_place_by_the_next_copy(matched, tmp_path, unread):
    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", joined(numbered(50, 90 - unread)))
    matched.poll(1)
    append(tmp_path / "a.log", joined(numbered(90 - unread, 90)))
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", joined(numbered(90, 100)))
    matched.wait(60)
    assert sorted(matched.lines) == sorted(numbered(0, 100))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_that_came_and_were_rotated_while_down_are_read(matched, tmp_path, suffix):
    def at(path, seconds):
        os.utime(path, (seconds, seconds))

    append(tmp_path / "a.log", joined(numbered(0, 50)))
    matched.poll()
    saved = matched.positions()
    append(tmp_path / "a.log", joined(numbered(50, 60)))
    at(tmp_path / "a.log", 1000)
    os.rename(tmp_path / "a.log", tmp_path / "a.log.3")
    append(tmp_path / "other", "of old\n")
    compress(tmp_path / "other", tmp_path / "a.log.4.gz")
    at(tmp_path / "a.log.4.gz", 900)
    for number, first in ((2, 60), (1, 70)):
        append(tmp_path / f"a.log.{number}", joined(numbered(first, first + 10)))
        if suffix:
            compress(tmp_path / f"a.log.{number}", tmp_path / f"a.log.{number}{suffix}")
        at(tmp_path / f"a.log.{number}{suffix}", 1100 - number)
    append(tmp_path / "a.log", joined(numbered(80, 90)))
    matched.restart(saved=saved)
    matched.reads.clear()
    assert sorted(matched.poll()) == sorted(numbered(50, 90))
    assert matched.wait(30) == []
    matched.restart()
    assert matched.wait(30) == []


@pytest.mark.parametrize("name", ["a-error.log", "a.log.bak", "a.log.old.1", "a.txt.1"])
def test_files_that_are_only_called_alike_are_not_read(tmp_path, name):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", "one\n")
    session.poll()
    os.utime(tmp_path / "a.log", (1000, 1000))
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / name, "another\n")
    append(tmp_path / "a.log", "two\n")
    session.restart()
    assert session.wait(30) == ["two"]


def test_a_restart_before_the_first_look_changes_nothing(session, tmp_path):
    append(tmp_path / "a.log", "one\n")
    session.poll()
    append(tmp_path / "a.log", "two\n")
    saved = session.positions()
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    session.restart(saved=saved)
    assert session.positions() == saved
    session.restart()
    assert session.wait(10) == ["two"]


def test_a_file_that_was_seen_but_not_read_is_found_after_a_restart(session, tmp_path):
    append(tmp_path / "a.log", joined(numbered(0, 10)))
    append(tmp_path / "b.log", joined(numbered(10, 20)))
    session.tail = LogTail(session.settings._replace(paths=(f"{tmp_path}/*.log",)))
    assert session.tail.poll(session.now, 100)
    saved = session.positions()
    for name in ("a.log", "b.log"):
        compress(tmp_path / name, tmp_path / f"{name}.1.gz")
    session.restart(saved=saved)
    assert sorted(session.wait(10)) == sorted(numbered(0, 20))


def test_what_was_compressed_late_and_read_before_is_not_read_again(tmp_path):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", joined(numbered(0, 10)))
    session.poll()
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", joined(numbered(10, 20)))
    session.wait(10)
    compress(tmp_path / "a.log.1", tmp_path / "a.log.1.gz")
    session.wait(60)
    session.positions()
    os.utime(tmp_path / "a.log", (1000, 1000))
    os.rename(tmp_path / "a.log", tmp_path / "a.log.2")
    append(tmp_path / "a.log", "new\n")
    session.restart()
    assert session.wait(30) == ["new"]


def test_a_file_rewritten_to_the_same_size_and_end_is_read_again(session, tmp_path):
    line = "x" * 70 + "\n"
    append(tmp_path / "a.log", f"one {line}")
    assert session.poll() == [f"one {line.strip()}"]
    copy_and_truncate(tmp_path / "a.log", tmp_path / "a.log.1")
    append(tmp_path / "a.log", f"two {line}")
    assert session.wait(11) == [f"two {line.strip()}"]


def test_a_longer_file_with_the_same_end_before_the_position_is_read_from_its_start(session, tmp_path):
    line = "x" * 70 + "\n"
    append(tmp_path / "a.log", f"one {line}")
    session.poll()
    os.truncate(tmp_path / "a.log", 0)
    append(tmp_path / "a.log", f"two {line}three {line}")
    assert session.wait(11) == [f"two {line.strip()}", f"three {line.strip()}"]

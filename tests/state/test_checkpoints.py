"""The file of positions: whole after every crash, never in the way of a start, never more often than once a second."""

import json
import os
import stat

import pytest

from novel_agent.state import checkpoints, directory
from novel_agent.state.checkpoints import Checkpoints, FilePosition, SourcePositions, newest


def position(path="/var/log/a.log", offset=10, **others):
    return FilePosition(path=path, place=path, device=1, inode=2, offset=offset, **others)


def sources(*positions):
    return SourcePositions(files=positions)


def test_what_is_put_is_loaded_again(tmp_path):
    kept = Checkpoints(str(tmp_path))
    assert kept.load() == ({}, "", "")
    full = position(
        uid="00" * 8, parent="11" * 8, head_bytes=9, head="ab", before="cd", skipping=True, gone_unix_seconds=5.5
    )
    kept.put("app", sources(full, position("/b")))
    kept.put("journal", SourcePositions(cursor="s=1;i=2"))
    assert kept.write(0.0) is None
    loaded = Checkpoints(str(tmp_path)).load()
    assert loaded == ({"app": sources(full, position("/b")), "journal": SourcePositions(cursor="s=1;i=2")}, "", "")
    assert stat.S_IMODE(os.stat(tmp_path / "positions.json").st_mode) == 0o640
    assert os.listdir(tmp_path) == ["positions.json"]


def test_sources_that_are_not_put_are_kept_until_forgotten(tmp_path):
    kept = Checkpoints(str(tmp_path))
    kept.put("a", sources(position()))
    kept.put("b", sources(position()))
    kept.write(0.0)
    again = Checkpoints(str(tmp_path))
    again.load()
    again.put("a", sources(position(offset=20)))
    again.forget(["c"])
    again.write(0.0)
    assert set(Checkpoints(str(tmp_path)).load().sources) == {"a", "b"}
    again.forget(["b"])
    again.write(1.0)
    assert set(Checkpoints(str(tmp_path)).load().sources) == {"a"}


def test_written_at_most_once_a_second_and_only_what_changed(tmp_path):
    kept = Checkpoints(str(tmp_path))
    assert kept.due(0.0) is None
    kept.put("a", sources(position(offset=1)))
    assert kept.due(100.0) == 0
    kept.write(100.0)
    kept.put("a", sources(position(offset=1)))
    assert kept.due(100.1) is None
    kept.put("a", sources(position(offset=2)))
    assert kept.due(100.25) == 0.75
    kept.write(100.25)
    assert offset_in(tmp_path) == 1
    kept.write(101.0)
    assert offset_in(tmp_path) == 2
    kept.put("a", sources(position(offset=3)))
    kept.write(101.1, at_once=True)
    assert offset_in(tmp_path) == 3


def offset_in(root):
    return json.loads((root / "positions.json").read_text())["sources"]["a"]["files"][0]["offset"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b'{"version": 1, "sour', "truncated"),
        (b"\0" * 100, "malformed"),
        (b"[]", "Expected `object`"),
        (b'{"version": 1, "sources": {"a": {"files": [{"path": 7}]}}}', "Expected `str`"),
        (b'{"version": 2, "sources": {}}', "its format is 2, not 1"),
    ],
)
def test_a_damaged_or_later_file_is_moved_aside_and_the_next_one_too(tmp_path, content, problem):
    for number in (1, 2):
        (tmp_path / "positions.json").write_bytes(content)
        kept = Checkpoints(str(tmp_path))
        loaded = kept.load()
        assert loaded.sources == {}
        assert problem in loaded.problem
        assert loaded.moved_to == str(tmp_path / f"positions.json.damaged-{number}")
        assert (tmp_path / f"positions.json.damaged-{number}").read_bytes() == content
        kept.put("a", sources(position()))
        assert kept.write(0.0) is None
        assert Checkpoints(str(tmp_path)).load().sources == {"a": sources(position())}


def test_what_is_no_file_is_moved_aside(tmp_path):
    (tmp_path / "positions.json").mkdir()
    assert Checkpoints(str(tmp_path)).load().moved_to == str(tmp_path / "positions.json.damaged-1")
    os.symlink("/etc/passwd", tmp_path / "positions.json")
    assert Checkpoints(str(tmp_path)).load().moved_to == str(tmp_path / "positions.json.damaged-2")


def test_a_full_disk_leaves_the_old_file_and_is_tried_again(tmp_path, monkeypatch):
    kept = Checkpoints(str(tmp_path))
    kept.put("a", sources(position(offset=1)))
    kept.write(0.0)
    kept.put("a", sources(position(offset=2)))

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(directory.os, "write", full)
        error = kept.write(2.0)
    assert error is not None
    assert error.errno == 28
    assert offset_in(tmp_path) == 1
    assert os.listdir(tmp_path) == ["positions.json"]
    assert kept.due(2.5) == 0.5
    assert kept.write(3.0) is None
    assert offset_in(tmp_path) == 2


def test_file_and_directory_are_synced_in_the_right_order(tmp_path, monkeypatch):
    calls = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(directory.os, name, lambda *a, name=name: (calls.append(name), real[name](*a))[1])
    kept = Checkpoints(str(tmp_path))
    kept.put("a", sources(position()))
    kept.write(0.0)
    assert calls == ["fsync", "replace", "fsync"]


def test_paths_that_are_no_utf_8_come_back_as_they_were(tmp_path):
    path = os.fsdecode(b"/var/log/caf\xe9/\xff.log")
    kept = Checkpoints(str(tmp_path))
    kept.put("a", sources(position(path), position("/grüße.log")))
    kept.write(0.0)
    assert Checkpoints(str(tmp_path)).load().sources == {"a": sources(position(path), position("/grüße.log"))}


def test_of_too_many_files_those_gone_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr(checkpoints, "MOST_FILES", 3)
    here = position("/here")
    gone = [position(f"/gone{day}", gone_unix_seconds=float(day)) for day in range(1, 5)]
    assert newest((*gone, here)) == (here, gone[3], gone[2])

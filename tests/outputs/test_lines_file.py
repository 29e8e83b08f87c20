"""A file of lines: nothing torn, rotated, made anew when it is moved away."""

import errno
import gzip
import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest

from novel_agent.outputs.lines_file import Limits, LinesFile

BEGIN = b'{"resource'
LARGE = Limits(1 << 20, 5, True)


def line(number: int, size: int = 100) -> bytes:
    return (b'{"resourceSpans":[%d' % number).ljust(size - 3, b" ") + b"]}\n"


@pytest.fixture
def lines(tmp_path):
    """Make a file of lines; closed after the test."""
    made = []

    def make(limits=LARGE, path=None) -> LinesFile:
        made.append(LinesFile(str(path or tmp_path / "telemetry.jsonl"), limits, BEGIN))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "telemetry.jsonl"


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_and_its_directory_are_made_for_the_owner_and_the_group(lines, tmp_path):
    path = tmp_path / "a" / "b" / "telemetry.jsonl"
    before = os.umask(0o022)
    try:
        lines(path=path).append([line(1)])
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o640, 0o750)


def test_lines_are_appended_and_what_is_there_stays(lines, path):
    path.write_bytes(b"earlier\n")
    one = lines()
    one.append([line(1), line(2)])
    one.append([line(3)])
    assert path.read_bytes() == b"earlier\n" + line(1) + line(2) + line(3)


@pytest.mark.parametrize("begun", [b"{", BEGIN, line(2)[:-1], line(2, 200_000)[:-1]])
def test_half_a_line_of_ours_is_removed(lines, path, begun):
    path.write_bytes(line(1) + begun)
    lines().append([line(3)])
    assert path.read_bytes() == line(1) + line(3)


def test_a_file_that_is_half_a_line_only_is_emptied(lines, path):
    path.write_bytes(line(2, 200_000)[:150_000])
    lines().append([line(3)])
    assert path.read_bytes() == line(3)


def test_the_last_line_of_somebody_elses_text_is_ended_and_kept(lines, path):
    path.write_bytes(b"one\nmy notes")
    lines().append([line(1)])
    assert path.read_bytes() == b"one\nmy notes\n" + line(1)


def test_a_file_that_would_become_too_large_is_put_aside_first(lines, tmp_path, path):
    one = lines(Limits(250, 2, False))
    for number in range(1, 10):
        one.append([line(number)])
    assert path.read_bytes() == line(9)
    assert (tmp_path / "telemetry.jsonl.1").read_bytes() == line(7) + line(8)
    assert (tmp_path / "telemetry.jsonl.2").read_bytes() == line(5) + line(6)
    assert len(os.listdir(tmp_path)) == 3


def test_what_is_put_aside_is_packed(lines, tmp_path, path):
    one = lines(Limits(250, 2, True))
    for number in range(1, 10):
        one.append([line(number)])
    assert sorted(os.listdir(tmp_path)) == ["telemetry.jsonl", "telemetry.jsonl.1.gz", "telemetry.jsonl.2.gz"]
    assert gzip.decompress((tmp_path / "telemetry.jsonl.1.gz").read_bytes()) == line(7) + line(8)
    assert gzip.decompress((tmp_path / "telemetry.jsonl.2.gz").read_bytes()) == line(5) + line(6)
    assert mode(tmp_path / "telemetry.jsonl.1.gz") == 0o640


def test_a_large_file_is_packed_whole(lines, tmp_path):
    one = lines(Limits(1 << 20, 1, True))
    many = [line(number, 1000) for number in range(1000)]
    one.append(many)
    one.append([line(1, 100_000)])
    assert gzip.decompress((tmp_path / "telemetry.jsonl.1.gz").read_bytes()) == b"".join(many)


def test_packing_may_be_switched_on_or_off_between_and_old_ones_still_go(lines, tmp_path):
    for compress in (True, False, True, False):
        one = lines(Limits(100, 2, compress))
        one.append([line(1)])
        one.append([line(2)])
        one.close()
    assert sorted(os.listdir(tmp_path)) == ["telemetry.jsonl", "telemetry.jsonl.1", "telemetry.jsonl.2"]


def test_nothing_is_kept_where_nothing_is_to_be(lines, tmp_path, path):
    one = lines(Limits(100, 0, True))
    for number in range(3):
        one.append([line(number)])
    assert os.listdir(tmp_path) == ["telemetry.jsonl"]
    assert path.read_bytes() == line(2)


def test_a_line_larger_than_a_file_has_one_of_its_own(lines, tmp_path, path):
    one = lines(Limits(250, 5, False))
    one.append([line(1)])
    one.append([line(2, 1000)])
    one.append([line(3)])
    assert path.read_bytes() == line(3)
    assert (tmp_path / "telemetry.jsonl.1").read_bytes() == line(2, 1000)
    assert (tmp_path / "telemetry.jsonl.2").read_bytes() == line(1)


def test_a_file_that_was_moved_away_is_made_anew(lines, tmp_path, path):
    one = lines()
    one.append([line(1)])
    path.rename(tmp_path / "rotated")
    one.append([line(2)])
    assert (tmp_path / "rotated").read_bytes() == line(1)
    assert path.read_bytes() == line(2)


def test_a_file_that_was_replaced_or_copied_and_truncated_is_followed(lines, tmp_path, path):
    one = lines()
    one.append([line(1)])
    path.rename(tmp_path / "rotated")
    path.write_bytes(b"")
    one.append([line(2)])
    os.truncate(path, 0)
    one.append([line(3)])
    assert path.read_bytes() == line(3)


@pytest.fixture
def room():
    """Let no file of this process become larger: a write ends half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_there_is_no_room_for_all_nothing_is_written_and_later_it_is(lines, path, room):
    one = lines()
    one.append([line(1)])
    room(250)
    with pytest.raises(OSError, match="File too large") as caught:
        one.append([line(2), line(3)])
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == line(1)
    room(10_000)
    one.append([line(2), line(3)])
    assert path.read_bytes() == line(1) + line(2) + line(3)


def test_what_cannot_be_packed_for_want_of_room_stays_as_it_is(lines, tmp_path, room):
    one = lines(Limits(1 << 20, 2, True))
    noise = [b'{"resource' + os.urandom(400).hex().encode() + b"\n" for _ in range(400)]
    one.append(noise)
    one._limits = Limits(100, 2, True)
    room(50_000)
    one.append([line(1)])
    assert sorted(os.listdir(tmp_path)) == ["telemetry.jsonl", "telemetry.jsonl.1"]
    assert (tmp_path / "telemetry.jsonl.1").read_bytes() == b"".join(noise)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_only_a_regular_file_is_written_to(lines, tmp_path, path, kind):
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    one = lines()
    with pytest.raises(OSError, match="not a regular file but"):
        one.check()
    with pytest.raises(OSError):  # noqa: PT011 - the kernel's word differs
        one.append([line(1)])
    assert not (tmp_path / "elsewhere").exists()


def test_looking_makes_nothing(lines, tmp_path):
    lines(path=tmp_path / "a" / "b" / "telemetry.jsonl").check()
    assert os.listdir(tmp_path) == []


def test_looking_finds_what_is_no_directory(lines, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        lines(path=tmp_path / "file" / "telemetry.jsonl").check()


def test_killed_while_writing_the_file_has_whole_lines_only(lines, path):
    program = (
        "from novel_agent.outputs.lines_file import Limits, LinesFile\n"
        f"one = LinesFile({str(path)!r}, Limits(1 << 30, 1, False), {BEGIN!r})\n"
        "line = b'{\"resourceSpans\":[' + b'x' * 3_000_000 + b']}\\n'\n"
        "while True:\n"
        "    one.append([line, line])\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program])
        deadline = time.monotonic() + 30
        grown = path.stat().st_size if path.exists() else 0
        while (path.stat().st_size if path.exists() else 0) < grown + 1_000_000:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        lines().append([line(7)])
        content = path.read_bytes()
        assert content.endswith(b"\n" + line(7)) or content == line(7)
        whole = {b'{"resourceSpans":[' + b"x" * 3_000_000 + b"]}", line(7)[:-1]}
        assert set(content.split(b"\n")[:-1]) <= whole

import os

import pytest
from fake_proc import group

from novel_agent.errors import InputError


@pytest.fixture
def refuse(monkeypatch):
    """Make the kernel refuse these files of /proc/PID; gives the paths that were asked for."""
    asked: list[str] = []
    real_open, real_stat, real_listdir = os.open, os.stat, os.listdir
    refused: set[str] = set()

    def guard(real):
        def call(path, *args, **kwargs):
            if os.path.basename(path) in refused:
                asked.append(path)
                raise PermissionError(13, "Permission denied", path)
            return real(path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "open", guard(real_open))
    monkeypatch.setattr(os, "stat", guard(real_stat))
    monkeypatch.setattr(os, "listdir", guard(real_listdir))

    def these(*files: str) -> list[str]:
        refused.clear()
        refused.update(files)
        return asked

    return these


def test_what_needs_a_capability_is_counted_with_it_and_not_shown(fake, watch, refuse):
    fake.spawn(40, comm="theirs", wchan="0")
    fake.spawn(41, comm="theirs", wchan="0")
    refuse("io", "fd", "smaps_rollup")
    watched = watch(group("theirs", comm="theirs"), group("none", comm="absent"))
    reading = watched.read()["theirs"]
    assert watched.reading.missing == [
        ("fd", "permission", "CAP_DAC_READ_SEARCH", 2),
        ("io", "permission", "CAP_DAC_READ_SEARCH,CAP_SYS_PTRACE", 2),
        ("smaps_rollup", "permission", "CAP_SYS_PTRACE", 2),
        ("wchan", "permission", "CAP_SYS_PTRACE", 2),
    ]
    assert (reading.knows_io, reading.descriptors, reading.worst_descriptor_ratio) == (False, None, None)
    assert (reading.proportional_bytes, reading.wchans) == (None, ())
    assert watched.reading.partial_errors == 2
    assert watched.reading.read_errors == 0


def test_what_is_refused_is_not_asked_for_again_until_the_process_changes(fake, watch, refuse):
    fake.spawn(40)
    asked = refuse("io")
    watched = watch(group("g"))
    for _ in range(3):
        fake.use(40, user=1)
        watched.read()
    assert len(asked) == 1
    refuse()
    fake.change(40, image=(5, 6))
    assert watched.read()["g"].knows_io
    assert watched.missing() == {}
    assert watched.reading.partial_errors == 3


def test_sums_are_over_those_that_tell(fake, watch, refuse):
    fake.spawn(40, uid=0, files=9, comm="theirs")
    refuse("fd", "io", "smaps_rollup")
    watched = watch(group("g"))
    watched.read()
    refuse()
    fake.spawn(41, files=2, pss_kb=10, read=100)
    reading = watched.read()["g"]
    assert (reading.descriptors, reading.proportional_bytes, reading.used[4]) == (2, 10240, 100)
    assert watched.missing()[("fd", "permission")] == 1


@pytest.mark.parametrize("file", ["io", "status", "limits", "smaps_rollup"])
def test_garbage_is_counted_by_figure_and_goes_when_it_goes(fake, watch, file):
    fake.spawn(40)
    content = (fake.proc / "40" / file).read_bytes()
    (fake.proc / "40" / file).write_bytes(b"\xff\x00garbage")
    watched = watch(group("g"))
    assert watched.read()["g"].processes == 1
    assert watched.missing() == {(file, "unparsable"): 1}
    (fake.proc / "40" / file).write_bytes(content)
    fake.change(40, image=(5, 6))
    for _ in range(3):
        watched.read()
    assert file == "limits" or watched.missing() == {}


def test_what_the_kernel_was_not_built_with_is_not_missing(fake, watch):
    fake.spawn(40)
    for file in ("io", "wchan", "smaps_rollup", "limits"):
        (fake.proc / "40" / file).unlink()
    watched = watch(group("g"))
    reading = watched.read()["g"]
    assert (reading.processes, reading.knows_io, reading.worst_descriptor_ratio) == (1, False, None)
    assert watched.missing() == {}


def test_a_process_that_cannot_be_read_at_all_is_counted(fake, watch):
    fake.spawn(40)
    (fake.proc / "41" / "stat").mkdir(parents=True)
    watched = watch(group("g"))
    assert watched.read()["g"].processes == 1
    assert watched.missing() == {("stat", "unreadable"): 1}
    assert watched.reading.read_errors == 1


def test_the_size_of_the_directory_counts_files_where_the_kernel_says_so(fake, watch, monkeypatch):
    fake.spawn(40, files=3)
    (fake.proc / "self" / "fd").mkdir(parents=True)
    real_stat = os.stat

    def sized(path, *args, **kwargs):
        result = real_stat(path, *args, **kwargs)
        return os.stat_result((*result[:6], 77, *result[7:10])) if str(path).endswith("/fd") else result

    monkeypatch.setattr(os, "stat", sized)
    assert watch(group("g")).read()["g"].descriptors == 77


def test_without_a_proc_the_reading_fails_and_is_counted(fake, watch):
    watched = watch(group("g"))
    (fake.proc / "stat").write_text("cpu 1 2 3\n")
    with pytest.raises((InputError, OSError, ValueError), match="btime"):
        watched.read()
    (fake.proc / "stat").write_text("cpu 1\nbtime 17\n")
    watched.read()
    assert watched.reading.scrape_errors == 1


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("limit", [0, 1, 7, 1000])
def test_handles_are_bounded_and_given_back(fake, watch, limit):
    for pid in range(40, 60):
        fake.spawn(pid, schedstat="1 1 1\n")
    before = open_files()
    watched = watch(group("g"), handle_limit=limit)
    for turn in range(4):
        for pid in range(40, 50):
            fake.use(pid, user=1, voluntary=1)
            fake.change(pid, schedstat=f"{turn} 2 2\n")
        reading = watched.read()["g"]
        assert open_files() - before <= limit + 1, "and /proc/stat"
        assert (reading.processes, reading.used[0]) == (20, turn and 10 * turn)
    watched.collector.close()
    watched.collector.close()
    assert open_files() == before
    fake.use(40, user=5)
    fake.change(40, schedstat="9 9 9\n")
    assert watched.read()["g"].used[0] == 35


def test_handles_of_the_dead_are_closed(fake, watch):
    before = open_files()
    watched = watch(group("g"), handle_limit=60)
    for turn in range(3):
        for pid in range(40, 60):
            fake.spawn(pid, start=1000 + turn, schedstat=f"{turn} 1 1\n")
        for _ in range(3):
            watched.read()
        for pid in range(40, 60):
            fake.remove(pid)
        watched.read()
        assert open_files() - before <= 1
    fake.spawn(40, start=2000, schedstat="1 1 1\n")
    for _ in range(3):
        watched.read()
    assert open_files() - before > 1, "what the dead gave back is there for others"

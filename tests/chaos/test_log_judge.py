"""The judge of the runs with log files finds what is lost, torn, sent under another name or too often."""

import gzip
import time
from pathlib import Path

import pytest
from log_judge import Again, Life, LogJudge, is_explained
from log_writers import LogWriter, identified, sealed


@pytest.fixture
def written(tmp_path) -> LogWriter:
    """A writer that has written a hundred records."""
    writer = LogWriter(tmp_path, 0, "text", records_per_second=0, seed=1)
    for _ in range(10):
        writer._write(10)
    return writer


def bodies(*paths: Path) -> list[str]:
    data = b"".join(path.read_bytes() for path in paths)
    return [line.removesuffix(b"\r").decode(errors="replace") for line in data.split(b"\n")[:-1]]


def named(writer: LogWriter) -> list[tuple[str, str]]:
    return [(body, f"file-{number}") for number, body in enumerate(bodies(writer.path))]


def verdict_on(writer: LogWriter, *requests: list[tuple[str, str]], lives: tuple[Life, ...] = ()):
    judge = LogJudge(1)
    for request in requests:
        judge.take(request)
    return judge.verdict([writer], lives)


def test_all_that_was_written_and_came_once_is_well(written):
    found = verdict_on(written, named(written))
    assert found == (100, 100, 0, 0, 0, 0, 0, 0, [], [])


def test_what_did_not_come_is_lost(written):
    records = named(written)
    found = verdict_on(written, records[:40], records[43:99])
    assert (found.arrived, found.lost, found.lost_ones) == (96, 4, [(0, 40), (0, 41), (0, 42), (0, 99)])


@pytest.mark.parametrize(
    "torn",
    [
        lambda body: body[:-1],
        lambda body: body[1:],
        lambda body: body[: len(body) // 2] + body[len(body) // 2 + 1 :],
        lambda body: body + " ",
        lambda body: body + "\nnext",
        lambda body: "",
    ],
)
def test_what_came_otherwise_than_it_was_written_is_torn_and_lost(written, torn):
    records = named(written)
    records[50] = (torn(records[50][0]), records[50][1])
    found = verdict_on(written, records)
    assert (found.torn, found.lost, found.lost_ones) == (1, 1, [(0, 50)])


def test_two_records_in_one_are_torn(written):
    records = named(written)
    records[50:52] = [(records[50][0] + "\n" + records[51][0], records[50][1])]
    found = verdict_on(written, records)
    assert (found.torn, found.lost) == (1, 2)


def test_what_comes_twice_must_have_the_same_name(written):
    records = named(written)
    again = [records[7], (records[8][0], "copy-8")]
    found = verdict_on(written, records, again)
    assert (found.twice, found.with_another_uid) == (2, 1)


def test_a_record_without_a_name_is_counted(written):
    records = named(written)
    records[3] = (records[3][0], "")
    assert verdict_on(written, records).unnamed == 1


def test_what_comes_twice_without_a_kill_is_not_explained(written):
    records = named(written)
    assert verdict_on(written, records, records[:9]).unexplained == 9
    soon = Life(0, time.monotonic() + 60, {"file": 0})
    assert verdict_on(written, records, records[:9], lives=(soon,)).unexplained == 9


@pytest.mark.parametrize(
    ("uid", "first_at", "again_at", "explained"),
    [
        ("a-700", 50, 116, True),  # read, and its position not noted
        ("a-699", 50, 116, False),
        ("b-0", 50, 116, True),  # of a file of which nothing was noted
        ("a-0", 109, 116, True),  # acknowledged, and that not noted
        ("a-0", 110.2, 116, True),
        ("a-0", 107, 116, False),
        ("a-0", 111, 116, False),
        ("a-700", 109.5, 109.9, False),  # came again before anybody was killed
    ],
)
def test_what_comes_twice_is_explained_by_what_was_noted_when_somebody_was_killed(uid, first_at, again_at, explained):
    again = Again(0, 0, uid, first_at, again_at)
    assert is_explained(again, [Life(100, 110, {"a": 700})]) is explained


@pytest.mark.parametrize("kind", ["text", "json", "multiline"])
def test_each_way_to_rotate_keeps_every_record(tmp_path, kind):
    writer = LogWriter(tmp_path, 3, kind, records_per_second=0, seed=2)
    for rotate in (writer._rename, writer._rename_and_compress, writer._copy_and_truncate, writer._rename_and_compress):
        writer._write(25)
        rotate()
    writer._write(25)
    assert sorted(path.name.removeprefix(f"{kind}3.log") for path in tmp_path.iterdir()) == [
        "", ".1.gz", ".2", ".3.gz", ".4",
    ]  # fmt: skip
    whole = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in tmp_path.iterdir()
    )
    assert whole.count(b"\n") >= 125
    assert all(b"w3:%d " % number in whole for number in range(125))


def test_a_sealed_text_is_recognised():
    assert identified(sealed("w2:17 once\n    upon")) == (2, 17)
    assert identified("w2:17 once #00000000") is None

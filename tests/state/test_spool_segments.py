"""The files themselves: what is written where, and what a write or a sync that fails leaves behind."""

import errno
import os

import pytest

from novel_agent.state import segment_writer
from novel_agent.state.cursor import BEGINNING, CursorFile, Position
from novel_agent.state.segment import (
    Damaged,
    Foreign,
    open_segment,
    read_closing,
    records,
    segment_name,
    segment_number,
)
from novel_agent.state.segment_writer import Placed, SegmentWriter

AT = 1_800_000_000_000_000_000


def entries(*payloads):
    return [(payload, 1, AT + number) for number, payload in enumerate(payloads)]


def read(path):
    descriptor = open_segment(path)
    try:
        return [bytes(record.payload) for record in records(descriptor, 8, os.fstat(descriptor).st_size)]
    finally:
        os.close(descriptor)


@pytest.fixture
def failing_sync(monkeypatch):
    """fdatasync as on a disk with a bad block, from the moment the list has something in it."""
    broken = []
    real = os.fdatasync

    def fdatasync(descriptor):
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(segment_writer.os, "fdatasync", fdatasync)
    return broken


def test_the_bytes_of_a_segment(tmp_path):
    writer = SegmentWriter(str(tmp_path), 1000)
    assert writer.append([(b"payload", 3, 0x1122334455667788)], sync=True).placed == [Placed(1, 8, 39)]
    writer.close()
    magic, length, items, arrival = "4e5653504f4f4c01", "07000000", "03000000", "8877665544332211"
    of_header, of_both = "3ec96fe7", "f70ed985"
    written = bytes.fromhex(magic + length + items + arrival + of_header + of_both) + b"payload"
    assert (tmp_path / "0000000000000001.seg").read_bytes() == written


def test_a_full_segment_is_closed_with_its_items(tmp_path):
    writer = SegmentWriter(str(tmp_path), 100)
    placed = writer.append(entries(b"a" * 40, b"b" * 40, b"c"), sync=False).placed
    writer.close()
    assert placed == [Placed(1, 8, 72), Placed(2, 8, 72), Placed(2, 72, 97)]
    descriptor = open_segment(str(tmp_path / segment_name(1)))
    assert read_closing(descriptor) == (72, 1)
    os.close(descriptor)
    assert read(str(tmp_path / segment_name(1))) == [b"a" * 40]


def test_more_records_than_a_system_call_takes(tmp_path):
    writer = SegmentWriter(str(tmp_path), 1 << 20)
    assert len(writer.append(entries(*[b"x"] * 1500), sync=False).placed) == 1500
    writer.close()
    assert read(str(tmp_path / segment_name(1))) == [b"x"] * 1500


@pytest.mark.parametrize("window_bytes", range(24, 200))
def test_records_are_read_whatever_the_window(tmp_path, window_bytes):
    payloads = [b"a", b"b" * 50, b"c" * 120, b"d"]
    writer = SegmentWriter(str(tmp_path), 1 << 20)
    writer.append(entries(*payloads), sync=False)
    writer.close()
    descriptor = open_segment(str(tmp_path / segment_name(1)))
    size = os.fstat(descriptor).st_size
    assert [bytes(record.payload) for record in records(descriptor, 8, size, window_bytes)] == payloads
    with pytest.raises(Damaged):
        list(records(descriptor, 8, size + 10, window_bytes))
    os.close(descriptor)


def test_what_could_not_be_synced_is_taken_back_and_another_segment_begun(tmp_path, failing_sync):
    writer = SegmentWriter(str(tmp_path), 1000)
    assert writer.append(entries(b"a"), sync=True).error is None
    failing_sync.append(True)
    placed, error = writer.append(entries(b"b", b"c"), sync=True)
    assert (placed, error.errno) == ([], errno.EIO)
    failing_sync.clear()
    assert writer.append(entries(b"b", b"c"), sync=True).placed == [Placed(2, 8, 33), Placed(2, 33, 58)]
    writer.close()
    assert read(str(tmp_path / segment_name(1))) == [b"a"]


def test_what_was_synced_before_a_new_segment_failed_stays(tmp_path):
    writer = SegmentWriter(str(tmp_path), 100)
    (tmp_path / segment_name(2)).mkdir()
    assert writer.append(entries(b"a" * 60, b"b" * 60), sync=True).placed == [Placed(1, 8, 92), Placed(3, 8, 92)]
    writer.close()


def test_a_number_that_somebody_took_is_passed_over(tmp_path):
    (tmp_path / segment_name(1)).write_bytes(b"mine")
    writer = SegmentWriter(str(tmp_path), 100)
    assert writer.append(entries(b"a"), sync=False).placed == [Placed(2, 8, 33)]
    writer.close()
    assert (tmp_path / segment_name(1)).read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["1.seg", "000000000000000x.seg", "0000000000000001", "0000000000000001.seg.tmp", ""])
def test_other_names_are_no_segments(name):
    assert segment_number(name) is None


def test_names_of_segments_sort_as_their_numbers():
    assert segment_name(42) == "0000000000000042.seg"
    assert segment_number("0000000000000042.seg") == 42


@pytest.mark.parametrize(("content", "newer"), [(b"NVSPOOL\x02", True), (b"NVSPOOL\x00", False), (b"other", False)])
def test_what_is_not_ours_is_told_from_what_is_newer(tmp_path, content, newer):
    path = tmp_path / "x.seg"
    path.write_bytes(content)
    with pytest.raises(Foreign) as raised:
        open_segment(str(path))
    assert raised.value.newer is newer


class TestCursor:
    def test_the_last_position_counts(self, tmp_path):
        cursor = CursorFile(str(tmp_path / "cursor"))
        for offset in (8, 100, 200):
            cursor.write(Position(1, offset))
        cursor.sync()
        cursor.close()
        assert CursorFile(str(tmp_path / "cursor")).read() == (Position(1, 200), True)

    def test_a_torn_slot_leaves_the_position_before(self, tmp_path):
        path = tmp_path / "cursor"
        cursor = CursorFile(str(path))
        cursor.write(Position(1, 100))
        cursor.write(Position(1, 200))
        cursor.close()
        content = bytearray(path.read_bytes())
        content[5:28] = bytes(23)
        path.write_bytes(content)
        again = CursorFile(str(path))
        assert again.read() == (Position(1, 100), True)
        again.write(Position(1, 300))
        again.close()
        assert CursorFile(str(path)).read() == (Position(1, 300), True)

    def test_no_file_is_the_beginning(self, tmp_path):
        assert CursorFile(str(tmp_path / "cursor")).read() == (BEGINNING, True)

    def test_garbage_is_the_beginning_and_not_sure(self, tmp_path):
        (tmp_path / "cursor").write_bytes(b"garbage" * 200)
        assert CursorFile(str(tmp_path / "cursor")).read() == (BEGINNING, False)


def test_a_sync_that_failed_is_not_believed_when_the_next_one_succeeds(tmp_path, monkeypatch):
    """The kernel tells of what it could not write once, and has forgotten it then."""
    writer = SegmentWriter(str(tmp_path), 1 << 20)
    assert writer.append([(b"before", 1, 1)], sync=True).error is None
    failures = [OSError(errno.EIO, "Input/output error")]
    fdatasync = os.fdatasync

    def failing(descriptor):
        if failures:
            raise failures.pop()
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    appended = writer.append([(b"lost", 1, 2), (b"lost too", 1, 3)], sync=True)
    assert (list(appended.placed), appended.error.errno) == ([], errno.EIO)
    again = writer.append([(b"after", 1, 4)], sync=True)
    assert (again.error, len(again.placed)) == (None, 1)
    assert again.placed[0].segment == 2

"""A spool that is cut, flipped, missing in part or full of other things: it opens, says so, and never gives wrong bytes."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from spool_made import MIB, batch, segments, spool, taken, texts

from novel_agent.model.batch import Batch

PAYLOADS = ["ab", "c", "def"]
RECORD = 24


@pytest.fixture
def tmp_path():
    """In memory where it can be: nearly two thousand spools are made here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
async def made(tmp_path):
    """The directory of a spool with three records in one segment, none acknowledged."""
    async with spool(tmp_path / "made", MIB, *map(batch, PAYLOADS)):
        pass
    return tmp_path / "made"


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "novel_agent.spool"]


async def test_a_spool_cut_at_any_byte_of_its_last_record_keeps_the_others(made, tmp_path):
    content = segments(made)[0].read_bytes()
    last = len(content) - RECORD - len(PAYLOADS[-1])
    for size in range(last, len(content) + 1):
        copy = tmp_path / f"cut at {size}"
        shutil.copytree(made, copy)
        segments(copy)[0].write_bytes(content[:size])
        async with spool(copy, MIB) as queue:
            whole, torn = size == len(content), last < size < len(content)
            assert (queue.damaged_records, queue.damaged_bytes) == ((1, size - last) if torn else (0, 0))
            await queue.put(batch("+new"))
            assert "".join(await texts(queue)) == "abc" + ("def" if whole else "") + "+new"
            assert queue.items == 0


async def test_what_came_after_a_torn_record_is_there_after_the_next_start_too(made):
    with segments(made)[0].open("r+b") as file:
        file.truncate(os.fstat(file.fileno()).st_size - 3)
    async with spool(made, MIB, batch("+new")):
        pass
    async with spool(made, MIB) as queue:
        assert queue.damaged_records == 0
        assert await texts(queue) == ["abc+new"]


async def test_a_torn_record_is_a_warning_and_damage_an_error(made, caplog):
    content = segments(made)[0].read_bytes()
    for changed, level in ((content[:-1], logging.WARNING), (content[:-1] + b"?", logging.ERROR)):
        caplog.clear()
        segments(made)[0].write_bytes(changed)
        async with spool(made, MIB):
            assert said(caplog) == ["spool not readable in part"]
            assert caplog.records[0].levelno == level


@pytest.mark.parametrize("newest", [True, False], ids=["newest segment", "older segment"])
async def test_no_flipped_bit_gives_wrong_bytes(made, tmp_path, newest):
    if not newest:
        (made / "traces" / "0000000000000002.seg").write_bytes(b"NVSPOOL\x01")
    content = segments(made)[0].read_bytes()
    possible = {"".join(PAYLOADS[:count]) for count in range(4)}
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        copy = tmp_path / "flipped"
        shutil.copytree(made, copy)
        segments(copy)[0].write_bytes(flipped)
        async with spool(copy, MIB, durability="os") as queue:
            assert queue.damaged_records == 1
            assert "".join(await texts(queue)) in possible - {"".join(PAYLOADS)}
            await queue.put(batch("+new"))
            assert await texts(queue) == ["+new"]
            assert (queue.size_bytes, queue.items) == (0, 0)
        shutil.rmtree(copy)


async def test_no_flipped_bit_of_the_cursor_loses_anything(made, tmp_path):
    async with spool(made, MIB, request_bytes=1) as queue:
        assert queue.acknowledge(await queue.take())
    content = (made / "traces" / "cursor").read_bytes()
    for bit in [*range(8 * 28), *range(8 * 512, 8 * len(content))]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        copy = tmp_path / "flipped"
        shutil.copytree(made, copy)
        (copy / "traces" / "cursor").write_bytes(flipped)
        async with spool(copy, MIB, durability="os") as queue:
            assert await texts(queue) in (["abcdef"], ["cdef"])
        shutil.rmtree(copy)


async def test_damage_found_while_reading_costs_the_rest_of_that_segment_alone(tmp_path, caplog):
    async with spool(tmp_path, 2 * MIB, *(Batch("logs", letter.encode() * 20_000, 5) for letter in "abcdefg")):
        pass
    first = segments(tmp_path, "logs")[0]
    with first.open("r+b") as file:
        file.seek(8 + 20_024 + 100)
        file.write(b"?")
    async with spool(tmp_path, 2 * MIB, request_bytes=1) as queue:
        assert queue.items == 35
        assert [text[0] for text in await texts(queue)] == list("adefg")
        assert (queue.damaged_records, queue.damaged_bytes) == (1, 2 * 20_024)
        assert dict(queue.dropped) == {("logs", "damaged"): 10}
        assert (queue.size_bytes, queue.items) == (0, 0)
    assert said(caplog) == ["spool not readable in part"]


async def test_damage_of_the_segment_in_use_does_not_hide_what_is_written_later(tmp_path):
    async with spool(tmp_path, MIB, batch("a"), batch("b"), request_bytes=1) as queue:
        lease = await queue.take()
        queue._streams["traces"]._forget_hot()
        with segments(tmp_path)[0].open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"?")
        assert await queue.take() is None
        await queue.put(batch("c"))
        queue.give_back(lease)
    async with spool(tmp_path, MIB, request_bytes=1) as queue:
        assert await texts(queue) == ["a", "c"]


async def test_a_segment_that_is_removed_is_passed_over(tmp_path):
    async with spool(tmp_path, 2 * MIB, *(Batch("traces", letter.encode() * 50_000, 1) for letter in "abc")):
        pass
    async with spool(tmp_path, 2 * MIB, request_bytes=1) as queue:
        segments(tmp_path)[1].unlink()
        assert [text[0] for text in await texts(queue)] == ["a", "c"]
        assert dict(queue.dropped) == {("traces", "damaged"): 1}


async def test_a_directory_that_is_removed_while_in_use_is_made_again(tmp_path):
    async with spool(tmp_path / "s", MIB, batch("a")) as queue:
        await taken(queue)
        shutil.rmtree(tmp_path / "s")
        await queue.put(batch("b"))
        assert not queue.in_memory
        assert await texts(queue) == ["b"]
    async with spool(tmp_path / "s", MIB, batch("c")) as queue:
        assert await texts(queue) == ["c"]


async def test_foreign_files_are_left_alone(made):
    others = {"notes.txt": b"x", "0000000000000001.seg.bak": b"y", "12.seg": b"z", "000000000000000²².seg": b"w"}
    for name, content in others.items():
        (made / "traces" / name).write_bytes(content)
    async with spool(made, MIB) as queue:
        assert await texts(queue) == ["abcdef"]
        assert queue.damaged_records == 0
    assert {name: (made / "traces" / name).read_bytes() for name in others} == others


async def test_what_is_no_segment_is_counted_and_removed(made):
    garbage = made / "traces" / "0000000000000007.seg"
    garbage.write_bytes(b"garbage!" * 10)
    async with spool(made, MIB, batch("+new")) as queue:
        assert (queue.damaged_records, queue.damaged_bytes) == (1, 80)
        assert await texts(queue) == ["abcdef", "+new"]
    assert not garbage.exists()


async def test_a_segment_of_a_later_version_is_put_aside(made):
    later = made / "traces" / "0000000000000007.seg"
    later.write_bytes(b"NVSPOOL\x02 whatever")
    async with spool(made, MIB, batch("+new")) as queue:
        assert await texts(queue) == ["abcdef", "+new"]
    async with spool(made, MIB) as queue:
        assert queue.damaged_records == 0
    assert later.with_name(f"{later.name}.aside").read_bytes() == b"NVSPOOL\x02 whatever"


async def test_a_directory_and_a_link_in_the_place_of_segments_are_passed_over(made, tmp_path):
    (made / "traces" / "0000000000000007.seg").mkdir()
    (tmp_path / "secret").write_bytes(b"NVSPOOL\x01")
    (made / "traces" / "0000000000000008.seg").symlink_to(tmp_path / "secret")
    os.mkfifo(made / "traces" / "0000000000000009.seg")
    async with spool(made, MIB, batch("+new")) as queue:
        assert await texts(queue) == ["abcdef", "+new"]
    assert (tmp_path / "secret").read_bytes() == b"NVSPOOL\x01"


@pytest.mark.parametrize("where", [".", "traces"])
async def test_a_file_where_a_directory_should_be_is_said_and_memory_stands_in(tmp_path, caplog, where):
    place = tmp_path / "s" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    async with spool(tmp_path / "s", MIB, batch("a"), batch("b")) as queue:
        assert queue.in_memory
        assert await texts(queue) == ["ab"]
        assert (queue.size_bytes, queue.items, queue.memory_bytes) == (0, 0, 0)
    assert said(caplog) == ["spool cannot be written, held in memory until it can"]
    assert place.read_text() == "in the way"


async def test_when_the_way_is_free_again_what_was_there_before_comes_first(made, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (made / "traces").rename(tmp_path / "aside")
    (made / "traces").write_text("in the way")
    async with spool(made, MIB, batch("+new"), batch("+newer")) as queue:
        (made / "traces").unlink()
        (tmp_path / "aside").rename(made / "traces")
        queue._streams["traces"]._retry_at = 0.0
        await queue.put(batch("+newest"))
        assert not queue.in_memory
        assert await texts(queue) == ["abcdef+new+newer+newest"]
        assert queue.items == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_directory_without_permission_is_said_and_memory_stands_in(made):
    (made / "traces").chmod(0)
    try:
        async with spool(made, MIB, batch("a")) as queue:
            assert queue.in_memory
            assert await texts(queue) == ["a"]
    finally:
        (made / "traces").chmod(0o700)

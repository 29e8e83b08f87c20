"""A disk that is full, for real where root may mount one, and by a limit on the size of files elsewhere."""

import asyncio
import logging
import os
import subprocess

import pytest
from spool_made import MIB, batch, files_of_at_most, retry_now, segments, spool, texts

from novel_agent.model.batch import Batch
from novel_agent.state.queue import QueueFull

KIB = 1 << 10


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount one")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def said(caplog):
    return [record.getMessage() for record in caplog.records]


async def test_a_full_disk_is_outlived_in_memory_and_in_order(small_disk, caplog):
    caplog.set_level(logging.INFO)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700 * KIB))
    numbers = iter(range(1000))
    put = []

    async def put_next(queue):
        number = next(numbers)
        await queue.put(Batch("traces", b"%04d" % number * 2500, 1))
        put.append(number)

    async with spool(small_disk / "s", 64 * MIB, request_bytes=1, memory_bytes=200 * KIB) as queue:
        while not queue.in_memory:
            await put_next(queue)
        while queue.has_room(10_000):
            await put_next(queue)
        with pytest.raises(QueueFull):
            await put_next(queue)
        assert len(put) >= 40
        before = queue.size_bytes, queue.items
        assert before[1] == len(put)
        await queue.put(Batch("traces", bytes(10_000), 3), wait=False)
        assert (queue.size_bytes, queue.items) == before
        assert dict(queue.dropped) == {("traces", "queue_full"): 3}
        ballast.unlink()
        retry_now(queue)
        await put_next_where_room(queue, put_next)
        assert (queue.in_memory, queue.memory_bytes) == (False, 0)
        await put_next(queue)
        assert [int(text[:4]) for text in await texts(queue)] == put
    assert said(caplog) == ["spool cannot be written, held in memory until it can", "spool is written again"]


async def put_next_where_room(queue, put_next):
    """The memory is full until the disk has been tried again, which a refused put does."""
    try:
        await put_next(queue)
    except QueueFull:
        await queue._streams["traces"].flush()


async def test_what_did_not_fit_leaves_nothing_behind(tmp_path):
    async with spool(tmp_path, 64 * MIB, batch("a"), batch("b")) as queue:
        size = segments(tmp_path)[0].stat().st_size
        with files_of_at_most(size + 1000):
            await queue.put(Batch("traces", b"c" * 5000, 1))
        assert queue.in_memory
        assert segments(tmp_path)[0].stat().st_size == size
    async with spool(tmp_path, 64 * MIB) as queue:
        assert queue.damaged_records == 0
        assert "".join(await texts(queue)) == "ab" + "c" * 5000


async def test_what_fits_of_a_group_is_written_and_the_rest_held(tmp_path):
    async with spool(tmp_path, 64 * MIB) as queue:
        with files_of_at_most(80_000):
            for letter in "abcde":
                await queue.put(Batch("traces", letter.encode() * 20_000, 1))
            assert queue.in_memory
            assert queue.memory_bytes == 2 * 20_024
            assert [text[0] for text in await texts_one_by_one(queue)] == list("abcde")
        assert queue.size_bytes == 0


async def texts_one_by_one(queue):
    queue.resize(64 * MIB, 1)
    return await texts(queue)


async def test_what_is_leased_from_memory_can_be_given_back(tmp_path):
    async with spool(tmp_path, 64 * MIB, request_bytes=1) as queue:
        with files_of_at_most(0):
            for letter in "abc":
                await queue.put(batch(letter))
            lease = await queue.take()
            assert lease.batch.payload == b"a"
        retry_now(queue)
        await queue.put(batch("d"))
        assert not queue.in_memory
        queue.give_back(lease)
        assert await texts(queue) == ["a", "b", "c", "d"]
        assert (queue.size_bytes, queue.items, queue.memory_bytes) == (0, 0, 0)


async def test_at_the_end_what_is_in_memory_is_written_if_it_can_be(tmp_path):
    async with spool(tmp_path, 64 * MIB, request_bytes=1) as queue:
        with files_of_at_most(0):
            for letter in "abc":
                await queue.put(batch(letter))
            await queue.take()
    async with spool(tmp_path, 64 * MIB) as queue:
        assert await texts(queue) == ["abc"]


async def test_at_the_end_what_can_not_be_written_is_counted(tmp_path):
    async with spool(tmp_path, 64 * MIB) as queue:
        with files_of_at_most(0):
            await queue.put(batch("abc", "logs"))
            await queue.close()
        assert dict(queue.dropped) == {("logs", "shutdown"): 3}


async def test_one_that_waits_while_the_disk_fails_is_refused_beyond_the_budget(tmp_path):
    async with spool(tmp_path, 64 * MIB, memory_bytes=1000) as queue:
        with files_of_at_most(0):
            puts = [queue.put(Batch("traces", letter.encode() * 400, 1)) for letter in "abc"]
            answers = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), type(None), QueueFull]
        assert (await texts(queue)) == ["a" * 400 + "b" * 400]
        assert queue.items == 0

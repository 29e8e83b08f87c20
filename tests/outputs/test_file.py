"""OTLP JSON lines in a file."""

import asyncio
import json
import os
import resource
import threading

import pytest

from novel_agent.config.schema import Rotation
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.file import FileOutput
from novel_agent.outputs.output import Delivered


@pytest.fixture
def path(tmp_path):
    return tmp_path / "export" / "telemetry.jsonl"


@pytest.fixture
def file(started, path):
    async def start(**options):
        options.setdefault("path", str(path))
        return await started(FileOutput, type="file", **options)

    return start


async def test_a_batch_is_a_line_of_otlp_json(file, path, batch):
    one = await file()
    delivered = await one.send(batch)
    await one.send(batch)
    first, second = path.read_bytes().splitlines(keepends=True)
    assert first == second
    assert delivered == Delivered(len(first))
    (metric,) = json.loads(first)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert [point["asInt"] for point in metric["sum"]["dataPoints"]] == ["4096", "8192"]


async def test_batches_that_come_together_are_each_written_once(file, path, batch):
    one = await file()
    await asyncio.gather(*(one.send(batch) for _ in range(50)))
    lines = path.read_bytes().splitlines()
    assert len(lines) == 50
    assert len(set(lines)) == 1


async def test_batches_that_come_while_the_disk_is_at_work_are_written_in_one_go(file, batch, monkeypatch):
    one = await file()
    groups, go_on = [], threading.Event()
    append = one._file.append

    def held(lines):
        groups.append(len(lines))
        go_on.wait(10)
        append(lines)

    monkeypatch.setattr(one._file, "append", held)
    sends = [asyncio.create_task(one.send(batch)) for _ in range(10)]
    while not groups:
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*sends)
    assert groups[0] + groups[1] == 10
    assert len(groups) == 2


async def test_a_cancelled_send_spoils_nothing_for_the_others(file, path, batch):
    one = await file()
    sends = [asyncio.create_task(one.send(batch)) for _ in range(10)]
    await asyncio.sleep(0)
    for send in sends[::2]:
        send.cancel()
    done = await asyncio.gather(*sends, return_exceptions=True)
    assert sum(isinstance(each, Delivered) for each in done) == 5
    await one.send(batch)
    assert all(json.loads(line)["resourceMetrics"] for line in path.read_bytes().splitlines())


async def test_it_rotates_as_configured(file, path, batch):
    one = await file(rotate=Rotation(size_bytes=65536, keep=2, compress=True))
    one._file._limits = one._file._limits._replace(size_bytes=1000)
    for _ in range(12):
        await one.send(batch)
    assert sorted(os.listdir(path.parent)) == ["telemetry.jsonl", "telemetry.jsonl.1.gz", "telemetry.jsonl.2.gz"]


async def test_no_room_is_unavailable_until_there_is(file, path, batch):
    one = await file()
    await one.send(batch)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(OutputUnavailable, match=r"telemetry\.jsonl: File too large"):
            await one.send(batch)
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await one.send(batch)
    assert path.read_bytes() == before * 2


async def test_bytes_that_are_not_otlp_are_rejected(file, path):
    one = await file()
    with pytest.raises(OutputRejected) as caught:
        await one.send(Batch("metrics", b"\x0a\x05x", 1))
    assert caught.value.reason == "malformed"
    assert not path.exists()


async def test_an_empty_batch_asks_whether_it_can_be_written_and_makes_nothing(file, path):
    one = await file()
    assert await one.send(Batch("logs", b"", 0)) == Delivered(0)
    assert not path.parent.exists()
    path.parent.write_text("")
    with pytest.raises(OutputUnavailable, match="Not a directory"):
        await one.send(Batch("logs", b"", 0))


async def test_what_cannot_be_written_to_is_said_at_start(file, path):
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"telemetry\.jsonl: export\.central\.path: cannot be written: not a regular"):
        await file()


async def test_before_start_and_after_stop_it_is_unavailable(file, batch):
    one = await file()
    await one.stop()
    with pytest.raises(OutputUnavailable, match="not started"):
        await one.send(batch)


async def test_a_successor_may_start_while_its_predecessor_still_writes(file, path, batch):
    before = await file()
    sends = [asyncio.create_task(before.send(batch)) for _ in range(20)]
    after = await file()
    await asyncio.gather(*sends)
    await before.stop()
    await after.send(batch)
    assert len([json.loads(line) for line in path.read_bytes().splitlines()]) == 21

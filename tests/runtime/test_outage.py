"""An hour in which the destination is down, by a fast clock: what waits is delivered in order, at the destination's pace."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from virtual_time import Inline, VirtualTimeLoop, run

from novel_agent.errors import OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.output import Delivered
from novel_agent.runtime import exporting
from novel_agent.runtime.concurrency import Window
from novel_agent.runtime.exporting import Exporter
from novel_agent.runtime.retry import Backoff
from novel_agent.state.spool import Spool

HOUR_SECONDS = 3600.0
INTERVAL_SECONDS = 15.0
BATCH_BYTES = 4096
REQUEST_SECONDS = 2.0


class Destination:
    """Down for an hour, then it takes two seconds a request."""

    in_order = False

    def __init__(self, loop: VirtualTimeLoop, **answer) -> None:
        self.loop = loop
        self.up_at = loop.time() + HOUR_SECONDS
        self.answer = answer
        self.attempts = 0
        self.requests: list[list[int]] = []
        self.ended_at = 0.0
        self.under_way = self.most_under_way = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def send(self, batch: Batch) -> Delivered:
        if self.loop.time() < self.up_at:
            self.attempts += 1
            raise OutputUnavailable("connection refused", **self.answer)
        self.requests.append([number_of(part) for part in parts(batch.payload)])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(REQUEST_SECONDS)
        self.under_way -= 1
        self.ended_at = self.loop.time()
        return Delivered(len(batch.payload))

    @property
    def arrived(self) -> list[int]:
        return [number for request in self.requests for number in request]


def numbered(number: int) -> Batch:
    return Batch("metrics", number.to_bytes(8, "big") * (BATCH_BYTES // 8), 10)


def parts(payload: bytes) -> list[bytes]:
    return [payload[at : at + BATCH_BYTES] for at in range(0, len(payload), BATCH_BYTES)]


def number_of(part: bytes) -> int:
    assert part == part[:8] * (BATCH_BYTES // 8)
    return int.from_bytes(part[:8], "big")


@pytest.fixture
def in_virtual_time(monkeypatch, tmp_path):
    """Run a test with a loop, its clock being the exporter's, and a maker of exporters with a spool on disk."""

    def start(test):
        async def main(loop):
            monkeypatch.setattr(exporting, "time", SimpleNamespace(monotonic=loop.time, time=loop.time))

            async def make(destination, *, concurrency=1, uniform=lambda low, high: high):
                spool = Spool(str(tmp_path / "spool"), 64 << 20, executor=Inline(), now=lambda: 1e9 + loop.time())
                await spool.open()
                exporter = Exporter(
                    "central",
                    destination,
                    spool,
                    concurrency=concurrency,
                    linger_seconds=exporting.LINGER_SECONDS,
                    backoff=Backoff(uniform=uniform),
                )
                exporter.window = Window(concurrency, now=loop.time)
                return exporter

            await test(loop, make)

        run(main)

    return start


async def feed(loop, exporter, numbers) -> None:
    """A batch every interval."""
    for number in numbers:
        await exporter.put(numbered(number), durable=True)
        await asyncio.sleep(INTERVAL_SECONDS)


async def cut_short(task) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_an_hours_outage_is_drained_in_order_at_the_destinations_pace(in_virtual_time):
    async def test(loop, make):
        destination = Destination(loop)
        exporter = await make(destination)
        running = asyncio.create_task(exporter.run())
        await feed(loop, exporter, range(244))  # four more while it drains
        assert destination.arrived == list(range(244))
        assert [len(request) for request in destination.requests[:2]] == [
            241,
            1,
        ]  # all that waited, as it is less than 1 MiB
        assert destination.most_under_way == 1
        assert destination.attempts == 65  # at 0 s, after 1, 2, 4, 8, 16 and 32 s, and then every 60 s
        assert exporter.statistics.retries == 65
        assert exporter.queue.size_bytes == 0
        assert not exporter.queue.dropped
        assert not exporter.statistics.rejected_items
        await cut_short(running)
        await exporter.queue.close()

    in_virtual_time(test)


@pytest.mark.parametrize("seed", range(5))
def test_with_jitter_attempts_stay_few_and_the_first_that_succeeds_comes_within_a_minute(in_virtual_time, seed):
    async def test(loop, make):
        destination = Destination(loop)
        exporter = await make(destination, uniform=random.Random(seed).uniform)
        running = asyncio.create_task(exporter.run())
        await feed(loop, exporter, range(240))
        await asyncio.sleep(60 + 3 * REQUEST_SECONDS)
        assert destination.arrived == list(range(240))
        assert 65 <= destination.attempts <= 200
        await cut_short(running)
        await exporter.queue.close()

    in_virtual_time(test)


def test_a_destination_that_names_a_time_is_not_asked_before_it(in_virtual_time):
    async def test(loop, make):
        destination = Destination(loop, retry_after_seconds=600)
        exporter = await make(destination)
        running = asyncio.create_task(exporter.run())
        await feed(loop, exporter, range(240))
        await asyncio.sleep(700)
        assert destination.attempts == 6  # at 0 and then every 601 s
        assert destination.arrived == list(range(240))
        await cut_short(running)
        await exporter.queue.close()

    in_virtual_time(test)


def test_with_several_requests_at_a_time_they_begin_in_order_and_grow_one_by_one(in_virtual_time):
    async def test(loop, make):
        destination = Destination(loop)
        exporter = await make(destination, concurrency=8)
        running = asyncio.create_task(exporter.run())
        await feed(loop, exporter, range(240))
        for number in range(240, 4000):
            await exporter.put(numbered(number), durable=number % 100 == 0)
        await asyncio.sleep(120)
        assert destination.arrived == list(range(4000))
        assert 1 < destination.most_under_way <= 8
        await cut_short(running)
        await exporter.queue.close()

    in_virtual_time(test)


def test_a_restart_in_the_middle_of_the_outage_changes_nothing(in_virtual_time):
    async def test(loop, make):
        destination = Destination(loop)
        for numbers in (range(120), range(120, 240)):
            exporter = await make(destination)
            running = asyncio.create_task(exporter.run())
            await feed(loop, exporter, numbers)
            if numbers.start:
                await asyncio.sleep(120)
            await cut_short(running)
            await exporter.queue.close()
        assert destination.arrived == list(range(240))

    in_virtual_time(test)

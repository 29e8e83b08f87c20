import asyncio
import os
import threading
from collections import Counter

import pytest

from novel_agent.model.log import LogRecord
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.log_reading import IN_FLIGHT_BYTES, Parsed, Reading, Tally, Turn, worked_on
from novel_agent.state.queue import QueueFull


class Lines:
    """A `Reader` of lines that stand in a list: a turn reads one, its mark is the number of those read by then."""

    def __init__(self, lines, committed=0):
        self.lines = lines
        self.read = committed
        self.committed = []
        self.saves = 0
        self.before_turn = lambda: None
        self.descriptor = None

    def turn(self, marks, now, most_bytes):
        self.before_turn()
        self.committed += marks
        if not most_bytes or self.read >= len(self.lines):
            return Turn((), 60.0)
        self.read += 1
        return Turn([(self.lines[self.read - 1], self.read)], 0.0)

    def parse(self, piece, now):
        line, mark = piece
        return Parsed(line, 1 if line else 0, [mark])

    def flush(self, now):
        return ()

    def flush_in(self, now):
        return None

    def saved(self):
        self.saves += 1


class Sink:
    """Takes what is published when it is let."""

    def __init__(self):
        self.taken = []
        self.waiting = {}
        self.opens = True
        self.refuses = False

    async def __call__(self, parts, items):
        records = b"".join(parts)
        if self.refuses:
            raise QueueFull("the spool of central is full")
        if not self.opens:
            self.waiting[records] = asyncio.Event()
            await self.waiting[records].wait()
        self.taken.append(records)


@pytest.fixture
async def started():
    tasks, readings = [], []

    def start(reader, sink, **options):
        make = reader if callable(reader) else lambda: reader
        reading = Reading("app", make, sink, left_behind=LeftBehind(), tally=Tally(), rest_seconds=0.0, **options)
        task = asyncio.create_task(reading.run())
        tasks.append(task)
        readings.append(reading)
        return reading

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for reading in readings:
        reading.close()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_what_is_safe_is_committed(started):
    reader, sink = Lines([b"one", b"two"]), Sink()
    started(reader, sink)
    await until(lambda: reader.committed == [1, 2])
    assert sink.taken == [b"one", b"two"]
    assert reader.saves


async def test_nothing_is_committed_before_what_was_read_before_it_is_safe(started):
    reader, sink = Lines([b"one", b"two", b"three"]), Sink()
    sink.opens = False
    started(reader, sink)
    await until(lambda: len(sink.waiting) == 3)
    sink.waiting[b"three"].set()
    sink.waiting[b"two"].set()
    await until(lambda: sink.taken == [b"three", b"two"])
    assert reader.committed == []
    sink.waiting[b"one"].set()
    await until(lambda: reader.committed == [1, 2, 3])


async def test_a_piece_without_records_waits_its_turn_to_be_committed(started):
    reader, sink = Lines([b"one", b""]), Sink()
    sink.opens = False
    started(reader, sink)
    await until(lambda: reader.read == 2 and sink.waiting)
    assert reader.committed == []
    sink.waiting[b"one"].set()
    await until(lambda: reader.committed == [1, 2])


async def test_a_full_spool_holds_up_reading_and_loses_nothing(started):
    line = b"x" * (IN_FLIGHT_BYTES // 2)  # two fit
    reader, sink = Lines([line] * 6), Sink()
    sink.refuses = True
    reading = started(reader, sink)
    await until(lambda: reading.state == "waiting" and reader.read == 3)
    assert reading.reason == "the spool of central is full"
    assert reading.in_flight_bytes == IN_FLIGHT_BYTES
    sink.refuses = False
    await until(lambda: reader.committed == [1, 2, 3, 4, 5, 6])
    assert sink.taken == [line] * 6
    await until(lambda: reading.state == "idle")


async def test_nothing_is_read_while_nobody_takes_records(started):
    wanted = []
    reader, sink = Lines([b"one"]), Sink()
    reading = started(reader, sink, wanted=lambda: bool(wanted))
    await until(lambda: reading.state == "waiting")
    assert (reader.read, reading.reason) == (0, "no export takes logs")
    wanted.append(True)
    reading.wake()
    await until(lambda: reader.committed == [1])


async def test_what_is_written_later_is_read_when_the_kernel_says_so(started):
    reader, sink = Lines([]), Sink()
    readable, writable = os.pipe()
    reader.descriptor = readable
    reader.before_turn = lambda: reader.lines and os.read(readable, 1)
    reading = started(reader, sink)
    await until(lambda: reading.state == "idle")
    reader.lines.append(b"late")
    os.write(writable, b"!")
    await until(lambda: sink.taken == [b"late"])
    os.close(readable)
    os.close(writable)
    reader.descriptor = None
    reading.wake()


async def test_after_a_fault_reading_goes_on_from_what_is_committed(started):
    made = []

    def make():
        made.append(Lines([b"one", b"two"], committed=1 if made else 0))
        if len(made) == 1:
            made[0].parse = lambda piece, now: 1 // 0
        return made[-1]

    sink = Sink()
    reading = Reading("app", make, sink, left_behind=LeftBehind(), tally=Tally(), rest_seconds=0.0)
    with pytest.raises(ZeroDivisionError):
        await reading.run()
    task = asyncio.create_task(reading.run())
    await until(lambda: sink.taken == [b"two"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    reading.close()


async def test_a_read_that_hangs_is_left_alone_and_then_read_again(started, monkeypatch):
    monkeypatch.setattr("novel_agent.runtime.log_reading.TURN_DEADLINE_SECONDS", 0.02)
    released, made = threading.Event(), []

    def make():
        made.append(Lines([b"one"]))
        if len(made) == 1:
            made[0].before_turn = released.wait
        return made[-1]

    sink = Sink()
    reading = started(make, sink)
    await until(lambda: reading.state == "hung")
    assert sink.taken == []
    released.set()
    await until(lambda: sink.taken == [b"one"])
    assert len(made) == 2


async def test_settling_waits_for_what_is_in_flight_and_commits_it():
    reader, sink = Lines([b"one"]), Sink()
    sink.opens = False
    reading = Reading("app", lambda: reader, sink, left_behind=LeftBehind(), tally=Tally(), rest_seconds=0.0)
    task = asyncio.create_task(reading.run())
    await until(lambda: sink.waiting)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.01, sink.waiting[b"one"].set)
    await reading.settle(10.0)
    assert (sink.taken, reader.committed) == ([b"one"], [1])
    reading.close()


async def test_what_does_not_become_safe_in_time_is_not_committed():
    reader, sink = Lines([b"one"]), Sink()
    sink.opens = False
    reading = Reading("app", lambda: reader, sink, left_behind=LeftBehind(), tally=Tally(), rest_seconds=0.0)
    task = asyncio.create_task(reading.run())
    await until(lambda: sink.waiting)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await reading.settle(0.01)
    assert (sink.taken, reader.committed) == ([], [])
    reading.close()


class Stumbling:
    """Steps that have a fault with one record."""

    def __init__(self):
        self.dropped = Counter()

    def take(self, records, now):
        if any(record.body == "bad" for record in records):
            raise ZeroDivisionError
        return records


def test_a_step_with_a_fault_costs_the_record_it_stumbles_over():
    steps = Stumbling()
    records = [LogRecord(body="one"), LogRecord(body="bad"), LogRecord(body="two")]
    assert [each.body for each in worked_on(steps, records, 0.0, "app")] == ["one", "two"]
    assert steps.dropped == {"fault": 1}

import asyncio
import contextlib
import logging
from collections import Counter

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trace_payloads import span

from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.output import Delivered
from novel_agent.runtime.concurrency import Window
from novel_agent.runtime.exporting import Exporter
from novel_agent.runtime.retry import Backoff
from novel_agent.state.queue import MemoryQueue

NOW = 1_700_000_000.0


class Destination:
    """An output whose answers are given beforehand; with none left it takes everything."""

    in_order = False

    def __init__(self, *answers):
        self.answers = list(answers)
        self.tried = []
        self.taken = []
        self.arrived = asyncio.Condition()

    async def start(self):
        pass

    async def stop(self):
        pass

    async def send(self, batch):
        self.tried.append(batch.payload)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = None
        if isinstance(answer, Exception):
            await self._tell()
            raise answer
        self.taken.append(batch)
        await self._tell()
        return answer or Delivered(len(batch.payload))

    async def _tell(self):
        async with self.arrived:
            self.arrived.notify_all()

    async def until(self, requests):
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: len(self.tried) >= requests)


def exporter_to(destination, *, uniform=lambda low, high: 0.0, capacity_bytes=1000, **options):
    queue = MemoryQueue(capacity_bytes, request_bytes=options.pop("request_bytes", 500))
    return Exporter("central", destination, queue, backoff=Backoff(uniform=uniform), now=lambda: NOW, **options)


def batch(text, signal="metrics"):
    return Batch(signal, text.encode(), len(text))


@contextlib.asynccontextmanager
async def running(exporter):
    task = asyncio.create_task(exporter.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_delivers_what_is_put_and_counts_it():
    destination = Destination()
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
        await exporter.put(batch("de", "logs"))
        await destination.until(2)
    statistics = exporter.statistics
    assert destination.tried == [b"abc", b"de"]
    assert statistics.sent_items == {"metrics": 3, "logs": 2}
    assert (statistics.sent_requests, statistics.sent_bytes, statistics.failed_requests) == (2, 5, 0)
    assert (statistics.last_success_at, statistics.last_error) == (NOW, "")
    assert exporter.queue.size_bytes == 0


async def test_signals_that_are_not_sent_here_are_left_out():
    destination = Destination()
    exporter = exporter_to(destination, signals=("traces",))
    await exporter.put(batch("a"))
    await exporter.put(batch("b", "traces"))
    assert exporter.queue.items == 1


async def test_what_is_unavailable_is_tried_again_and_nothing_is_lost():
    destination = Destination(OutputUnavailable("refused"), OutputUnavailable("refused"))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(3)
    assert destination.tried == [b"abc", b"abc", b"abc"]
    statistics = exporter.statistics
    assert (statistics.sent_requests, statistics.failed_requests, statistics.retries) == (1, 2, 2)
    assert (statistics.last_error, statistics.last_error_at) == ("refused", NOW)
    assert not exporter.queue.dropped


async def test_waits_as_long_as_the_destination_names():
    destination = Destination(OutputUnavailable("busy", retry_after_seconds=120))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
        await asyncio.sleep(0)
        assert exporter.state == "waiting to retry"
        assert 119 < exporter.retry_in_seconds <= 120
    assert exporter.retry_in_seconds is None
    assert exporter.queue.items == 3


async def test_while_waiting_the_oldest_gives_way_to_the_newest():
    destination = Destination(OutputUnavailable("down", retry_after_seconds=1000))
    exporter = exporter_to(destination, capacity_bytes=10)
    async with running(exporter):
        await exporter.put(batch("a" * 5))
        await destination.until(1)
        for letter in "bcd":
            await exporter.put(batch(letter * 5))
    assert exporter.queue.dropped == {("metrics", "queue_full"): 10}
    lease = await exporter.queue.take()
    assert lease.batch.payload == b"ccccc"


async def test_what_is_rejected_is_dropped_with_its_reason_and_the_next_goes_on():
    destination = Destination(OutputRejected("central answered 400", reason="http_400"))
    exporter = exporter_to(destination, request_bytes=1)
    async with running(exporter):
        await exporter.put(batch("bad"))
        await exporter.put(batch("good"))
        await destination.until(2)
    assert destination.tried == [b"bad", b"good"]
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 3}
    assert exporter.statistics.sent_items == {"metrics": 4}
    assert exporter.statistics.last_error == "central answered 400"
    assert exporter.queue.size_bytes == 0


async def test_partial_success_is_never_sent_again():
    destination = Destination(Delivered(3, rejected_items=2, message="too old"))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
        await exporter.put(batch("de"))
        await destination.until(2)
    assert destination.tried == [b"abc", b"de"]
    assert exporter.statistics.sent_items == {"metrics": 3}
    assert exporter.statistics.rejected_items == {("metrics", "partial_success"): 2}
    assert exporter.statistics.last_error == "too old"


@pytest.mark.parametrize(("claimed", "counted"), [(99, 3), (-1, 0)])
async def test_a_rejected_count_that_cannot_be_is_bounded(claimed, counted):
    destination = Destination(Delivered(3, rejected_items=claimed))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
    assert exporter.statistics.rejected_items == Counter({("metrics", "partial_success"): counted} if counted else {})


async def test_nothing_rejected_but_a_message_is_a_warning():
    destination = Destination(Delivered(3, 0, "use another encoding"))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
    assert exporter.statistics.warnings == 1
    assert exporter.statistics.sent_items == {"metrics": 3}
    assert exporter.statistics.last_error == ""


async def test_a_fault_in_the_output_drops_one_batch_and_shows_no_details():
    destination = Destination(KeyError("secret"))
    exporter = exporter_to(destination, request_bytes=1)
    async with running(exporter):
        await exporter.put(batch("bad"))
        await exporter.put(batch("good"))
        await destination.until(2)
    assert exporter.statistics.rejected_items == {("metrics", "fault"): 3}
    assert exporter.statistics.last_error == "KeyError"
    assert exporter.statistics.sent_items == {"metrics": 4}


async def test_a_send_that_is_cancelled_loses_nothing():
    destination = Destination(asyncio.Event())
    exporter = exporter_to(destination)
    async with running(exporter) as task:
        await exporter.put(batch("abc"))
        while not destination.tried:
            await asyncio.sleep(0)
        assert exporter.state == "delivering"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert exporter.state == "idle"
    async with running(exporter):
        await destination.until(2)
    assert [each.payload for each in destination.taken] == [b"abc"]


async def test_a_slow_destination_holds_up_no_other():
    stuck, quick = Destination(asyncio.Event()), Destination()
    exporters = [exporter_to(stuck), exporter_to(quick)]
    async with running(exporters[0]), running(exporters[1]):
        for text in ("a", "b", "c"):
            for exporter in exporters:
                await exporter.put(batch(text))
            await quick.until(len(quick.tried) + 1)
    assert b"".join(each.payload for each in quick.taken) == b"abc"
    assert stuck.taken == []


async def test_recovery_starts_the_back_off_anew():
    ceilings = []

    def note(low, high):
        ceilings.append(high)
        return 0.0

    down = OutputUnavailable("down")
    destination = Destination(down, down, down, None, down)
    exporter = exporter_to(destination, uniform=note)
    async with running(exporter):
        await exporter.put(batch("a"))
        await destination.until(4)
        await exporter.put(batch("b"))
        await destination.until(6)
    assert ceilings == [1, 2, 4, 1]


async def test_drain_delivers_what_is_left():
    destination = Destination(OutputUnavailable("once"))
    exporter = exporter_to(destination, request_bytes=1)
    for text in ("a", "b", "c"):
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert [each.payload for each in destination.taken] == [b"a", b"b", b"c"]
    assert exporter.state == "stopped"
    assert not exporter.queue.dropped


async def test_drain_lets_a_request_under_way_finish():
    hold = asyncio.Event()
    destination = Destination(hold)
    exporter = exporter_to(destination)
    async with running(exporter) as task:
        await exporter.put(batch("abc"))
        while not destination.tried:
            await asyncio.sleep(0)
        draining = asyncio.create_task(exporter.drain(5.0))
        await asyncio.sleep(0)
        hold.set()
        await draining
        await task
    assert [each.payload for each in destination.taken] == [b"abc"]
    assert exporter.statistics.sent_items == {"metrics": 3}


async def test_drain_ends_a_wait():
    destination = Destination(OutputUnavailable("down", retry_after_seconds=1000))
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        await destination.until(1)
        await asyncio.sleep(0)
        await exporter.drain(5.0)
    assert destination.tried == [b"abc", b"abc"]


async def test_drain_gives_up_at_once_where_the_wait_is_longer_than_the_deadline():
    destination = Destination(*[OutputUnavailable("down", retry_after_seconds=1000)] * 2)
    exporter = exporter_to(destination)
    await exporter.put(batch("abc"))
    await exporter.put(batch("de", "logs"))
    async with asyncio.timeout(1):
        await exporter.drain(60.0)
    assert len(destination.tried) == 1
    assert exporter.queue.dropped == {("metrics", "shutdown"): 3, ("logs", "shutdown"): 2}


async def test_drain_stops_at_its_deadline_and_counts_what_is_left():
    destination = Destination(asyncio.Event())
    exporter = exporter_to(destination)
    await exporter.put(batch("abc"))
    await exporter.drain(0.01)
    assert exporter.queue.dropped == {("metrics", "shutdown"): 3}
    assert exporter.queue.size_bytes == 0
    await exporter.put(batch("late"))
    assert exporter.queue.dropped == {("metrics", "shutdown"): 7}


async def test_what_drain_counted_as_lost_is_not_counted_as_sent_later():
    hold = asyncio.Event()
    destination = Destination(hold)
    exporter = exporter_to(destination)
    async with running(exporter):
        await exporter.put(batch("abc"))
        while not destination.tried:
            await asyncio.sleep(0)
        await exporter.drain(0.01)
        hold.set()
        await destination.until(1)
        await asyncio.sleep(0)
    assert exporter.queue.dropped == {("metrics", "shutdown"): 3}
    assert exporter.statistics.sent_items == {}


async def test_events_are_logged_at_changes_only(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("novel_agent"), "propagate", True)
    down = OutputUnavailable("down")
    destination = Destination(down, down, down)
    exporter = exporter_to(destination, capacity_bytes=4)
    with caplog.at_level("INFO", "novel_agent.export"):
        for text in ("aaa", "bbb", "ccc"):
            await exporter.put(batch(text))
        async with running(exporter):
            await destination.until(4)
    assert [record.getMessage() for record in caplog.records] == [
        "queue full, data lost",
        "not delivered, retrying",
        "delivered again",
    ]


class Held(Destination):
    """Answers when it is told to, and knows how many requests wait at a time."""

    def __init__(self):
        super().__init__()
        self.waiting = []
        self.most = 0

    async def send(self, batch):
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        self.most = max(self.most, len(self.waiting))
        await self._tell()
        await answer
        self.taken.append(batch)
        return Delivered(len(batch.payload))

    async def until_waiting(self, count):
        async with asyncio.timeout(5), self.arrived:
            await self.arrived.wait_for(lambda: len(self.waiting) >= count)


async def test_more_requests_are_under_way_as_they_are_answered_well(monkeypatch):
    clock = iter(range(1, 10_000))
    monkeypatch.setattr("novel_agent.runtime.exporting.Window", lambda most: Window(most, lambda: float(next(clock))))
    destination = Held()
    exporter = exporter_to(destination, request_bytes=1, concurrency=3)
    async with running(exporter):
        for number in range(12):
            await exporter.put(batch(str(number % 10)))
        for expected in (1, 2, 3, 3):
            await destination.until_waiting(expected)
            assert len(destination.waiting) == exporter.under_way == expected
            destination.waiting.pop().set_result(None)  # the one that began when the window was used up
    assert destination.most == 3


async def test_no_request_is_begun_while_enough_bytes_are_under_way(monkeypatch):
    monkeypatch.setattr("novel_agent.runtime.exporting.UNDER_WAY_BYTES", 6)
    destination = Held()
    exporter = exporter_to(destination, request_bytes=1, concurrency=4)
    exporter.window._limit = 4.0
    async with running(exporter):
        for text in ("abc", "def", "ghi"):
            await exporter.put(batch(text))
        await destination.until_waiting(2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert exporter.under_way == 2
        destination.waiting.pop().set_result(None)
        await destination.until_waiting(2)
        while destination.waiting:
            destination.waiting.pop().set_result(None)
    assert destination.most == 2


async def test_an_output_that_joins_gets_batches_as_they_were_put():
    class JoiningDestination(Destination):
        async def send_joined(self, batches):
            return await self.send(Batch(batches[0].signal, b"|".join(each.payload for each in batches), 1))

    destination = JoiningDestination()
    exporter = exporter_to(destination)
    await exporter.put(batch("abc"))
    await exporter.put(batch("de"))
    async with running(exporter):
        await destination.until(1)
    assert destination.tried == [b"abc|de"]
    assert exporter.statistics.sent_items == {"metrics": 5}


async def test_one_request_finds_out_whether_a_destination_is_back():
    destination = Destination()
    exporter = exporter_to(destination, request_bytes=1, concurrency=4, uniform=lambda low, high: 0.0)
    exporter.window._limit = 4.0
    destination.answers = [OutputUnavailable("down")] * 4
    async with running(exporter):
        for text in "abcdef":
            await exporter.put(batch(text))
        await destination.until(10)
    assert sorted(each.payload for each in destination.taken) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert exporter.statistics.failed_requests == 4
    assert not exporter.queue.dropped


async def test_failures_of_one_moment_grow_the_back_off_once():
    ceilings = []

    def note(low, high):
        ceilings.append(high)
        return 0.0

    gate = asyncio.Event()

    class Falling(Destination):
        async def send(self, batch):
            self.tried.append(batch.payload)
            await self._tell()
            if len(self.tried) <= 4:
                await gate.wait()
                raise OutputUnavailable("down")
            return Delivered(1)

    destination = Falling()
    exporter = exporter_to(destination, request_bytes=1, concurrency=4, uniform=note)
    exporter.window._limit = 4.0
    async with running(exporter):
        for text in "abcd":
            await exporter.put(batch(text))
        await destination.until(4)
        gate.set()
        await destination.until(8)
    assert ceilings == [1]


class Picky(Destination):
    """Refuses every request that holds one of these letters."""

    def __init__(self, bad, reason="http_400"):
        super().__init__()
        self.bad, self.reason = bad, reason

    async def send(self, batch):
        self.tried.append(batch.payload)
        await self._tell()
        if set(self.bad) & set(batch.payload.decode()):
            raise OutputRejected("central answered 400", reason=self.reason)
        self.taken.append(batch)
        return Delivered(len(batch.payload))


async def test_of_a_request_that_is_refused_the_bad_batch_alone_is_dropped():
    destination = Picky("x")
    exporter = exporter_to(destination)
    for text in ("aa", "bb", "x", "cc", "dd"):
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert b"".join(each.payload for each in destination.taken) == b"aabbccdd"
    assert exporter.statistics.sent_items == {"metrics": 8}
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 1}
    assert exporter.queue.size_bytes == 0


async def test_a_refusal_that_is_not_due_to_the_content_is_for_all_of_it():
    destination = Picky("x", reason="http_401")
    exporter = exporter_to(destination)
    for text in ("aa", "x", "cc"):
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert destination.tried == [b"aaxcc"]
    assert exporter.statistics.rejected_items == {("metrics", "http_401"): 5}


async def test_a_destination_that_refuses_every_part_is_not_asked_so_again_until_it_takes_something():
    letters = "abcdefghijklmnopqrstuvwxyzABCDEF"
    destination = Picky(letters)
    exporter = exporter_to(destination, request_bytes=16)
    for text in letters:
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert len(destination.tried) == 31 + 21  # all the parts of sixteen, and then ten cuts
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 32}


async def test_after_a_request_that_was_bad_throughout_a_good_one_is_not_dropped_for_one_bad_batch():
    destination = Picky("xyz")
    exporter = exporter_to(destination, request_bytes=4)
    for text in "xyxyabcz":
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert b"".join(each.payload for each in destination.taken) == b"abc"
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 5}


async def test_a_signal_whose_path_is_broken_does_not_keep_the_others_from_theirs():
    class Half(Destination):
        async def send(self, batch):
            if batch.signal == "logs":
                self.tried.append(batch.payload)
                await self._tell()
                raise OutputUnavailable("no logs")
            return await super().send(batch)

    destination = Half()
    exporter = exporter_to(destination, request_bytes=1)
    await exporter.put(batch("log", "logs"))
    for text in ("a", "b", "c"):
        await exporter.put(batch(text))
    async with running(exporter):
        while len(destination.taken) < 3:
            await destination.until(len(destination.tried) + 1)
    assert [each.payload for each in destination.taken] == [b"a", b"b", b"c"]
    assert exporter.queue.items == 3


async def test_a_part_that_cannot_be_sent_now_is_tried_again_alone():
    class Shaky(Picky):
        async def send(self, batch):
            if batch.payload == b"bb" and self.tried.count(b"bb") == 0:
                self.tried.append(batch.payload)
                raise OutputUnavailable("busy")
            return await super().send(batch)

    destination = Shaky("x")
    exporter = exporter_to(destination)
    for text in ("aa", "bb", "x"):
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert sorted(each.payload for each in destination.taken) == [b"aa", b"bb"]
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 1}


async def test_once_a_part_is_taken_every_bad_batch_is_dropped_alone_however_many_there_are():
    destination = Picky("x")
    exporter = exporter_to(destination, request_bytes=1000)
    for number in range(300):
        await exporter.put(batch("x" if number % 3 == 1 else "a"))
    await exporter.drain(5.0)
    assert exporter.statistics.sent_items == {"metrics": 200}
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 100}
    assert exporter.statistics.failed_requests + exporter.statistics.sent_requests < 2 * 300


async def test_good_batches_behind_a_long_row_of_bad_ones_arrive():
    destination = Picky("x")
    exporter = exporter_to(destination, request_bytes=1000)
    for text in "x" * 200 + "a" * 100 + "x":
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert exporter.statistics.sent_items == {"metrics": 100}
    assert exporter.statistics.rejected_items == {("metrics", "http_400"): 201}


async def test_where_order_matters_a_later_batch_is_never_sent_before_an_earlier_one():
    destination = Picky("x")
    destination.in_order = True
    exporter = exporter_to(destination)
    for text in "xxxabxcxde":
        await exporter.put(batch(text))
    await exporter.drain(5.0)
    assert b"".join(each.payload for each in destination.taken) == b"abcde"


class Parsing(Destination):
    """Refuses every request that protobuf's own parser cannot read, or that has an id of another length than it should."""

    async def send(self, batch):
        self.tried.append(batch.payload)
        await self._tell()
        try:
            groups = ExportTraceServiceRequest.FromString(batch.payload).resource_spans
        except DecodeError:
            raise OutputRejected("central answered 400", reason="http_400") from None
        spans = [span for group in groups for scope in group.scope_spans for span in scope.spans]
        if any(len(span.trace_id) != 16 for span in spans):
            raise OutputRejected("central answered 400", reason="http_400")
        self.taken.append(batch)
        return Delivered(len(batch.payload))


def one_span(number, name="a", trace=1, raw=b""):
    """A batch of one span, which `raw` is appended to."""
    one = span(trace, number, name)
    inner = one.SerializeToString() + raw
    scope = b"\x12" + bytes([len(inner)]) + inner
    group = b"\x12" + bytes([len(scope)]) + scope
    return Batch("traces", b"\x0a" + bytes([len(group)]) + group, 1)


CUT_OFF = b"\x4a\x05ab"
"""An attribute that says it is longer than its span."""

NOT_UTF8 = b"\x2a\x02\xff\xfe"
"""A name, field 5."""

LONG_ID = b"\x0a\x11" + bytes(17)
"""A trace id, field 1."""


async def test_what_cannot_be_read_is_dropped_at_once_and_the_rest_sent_again_as_one():
    destination = Parsing()
    exporter = exporter_to(destination, capacity_bytes=1 << 20, request_bytes=1 << 19, is_otlp=True)
    for number in range(1, 401):
        await exporter.put(one_span(number, raw=CUT_OFF if number % 4 == 0 else b""))
    await exporter.drain(5.0)
    assert len(destination.tried) == 2
    assert exporter.statistics.sent_items == {"traces": 300}
    assert exporter.statistics.rejected_items == {("traces", "malformed"): 100}
    assert exporter.queue.size_bytes == 0


@pytest.mark.parametrize("raw", [NOT_UTF8, LONG_ID])
async def test_what_some_receivers_refuse_is_sent_apart_from_the_rest(raw):
    destination = Parsing()
    exporter = exporter_to(destination, capacity_bytes=1 << 20, request_bytes=1 << 19, is_otlp=True)
    for number in range(1, 201):
        await exporter.put(one_span(number, raw=raw if number % 2 == 0 else b""))
    await exporter.drain(5.0)
    assert len(destination.tried[1]) == sum(len(one_span(number).payload) for number in range(1, 201, 2))
    assert exporter.statistics.sent_items == {"traces": 100}
    assert exporter.statistics.rejected_items == {("traces", "http_400"): 100}


async def test_what_is_taken_is_not_looked_into():
    destination = Destination()
    exporter = exporter_to(destination, is_otlp=True)
    await exporter.put(one_span(1, raw=CUT_OFF))
    await exporter.put(one_span(2, raw=NOT_UTF8))
    await exporter.drain(5.0)
    assert exporter.statistics.sent_items == {"traces": 2}


async def test_a_request_of_nothing_but_what_cannot_be_read_says_nothing_of_the_next():
    destination = Picky("x")
    exporter = exporter_to(destination, request_bytes=300, is_otlp=True)
    for _ in range(2):
        await exporter.put(Batch("traces", b"\x0ax", 1))
    await exporter.drain(5.0)
    assert exporter.statistics.rejected_items == {("traces", "malformed"): 2}
    assert exporter._is_hopeful


async def test_what_is_dropped_of_one_request_alike_is_one_line_in_the_log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("novel_agent"), "propagate", True)
    exporter = exporter_to(Picky("x"))
    for text in "axbxcxdx":
        await exporter.put(batch(text))
    with caplog.at_level("ERROR", "novel_agent.export"):
        await exporter.drain(5.0)
    assert [(record.getMessage(), record.details["items"]) for record in caplog.records] == [("rejected, data lost", 4)]

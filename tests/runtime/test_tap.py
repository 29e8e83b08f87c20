"""What a listener sees of what passes, what it loses, and what it may cost."""

import asyncio

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otlp_client import gauge, log_records
from trace_payloads import pairs, request, span, trace_id

from novel_agent.model.batch import Batch
from novel_agent.runtime import tap
from novel_agent.runtime.tap import Allowance, Tap, TooManyListeners
from novel_agent.runtime.tapped import TappedLog, TappedPoint, TappedSpan, Wanted, severity_name

SOON = 0.05


def logs(*bodies: str, **settings) -> Batch:
    return Batch("logs", log_records(*bodies, **settings), len(bodies))


def one_record(body: str, **attributes) -> Batch:
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add()
    group.resource.attributes.extend(pairs({"service.name": "web", "host.name": "h"}))
    record = group.scope_logs.add().log_records.add(
        time_unix_nano=1_790_000_000_500_000_000,
        severity_number=14,
        severity_text="WARNING",
        trace_id=trace_id(1),
        event_name="late",
    )
    record.body.string_value = body
    record.attributes.extend(pairs(attributes))
    return Batch("logs", message.SerializeToString(), 1)


def spans(*some, **settings) -> Batch:
    return Batch("traces", request(*some, **settings), len(some))


def metric(*arguments, **settings) -> Batch:
    return Batch("metrics", gauge(*arguments, **settings), 1)


async def seen(tapped: Tap, wanted: Wanted, *batches: Batch, source: str = "otlp") -> list:
    with tapped.listen(wanted) as listener:
        for batch in batches:
            tapped.offer(batch, source)
        found = []
        while some := await listener.next(SOON):
            found += some
        assert listener.take_skipped() == 0
        return found


async def bodies(wanted: Wanted, *batches: Batch, source: str = "otlp") -> list:
    return [each.body for each in await seen(Tap(), wanted, *batches, source=source)]


async def test_a_log_record_is_seen_with_who_it_is_from():
    (record,) = await seen(Tap(), Wanted(), one_record("the muse is late", user="jane"))
    assert record == TappedLog(
        time=1790000000.5,
        source="otlp",
        service="web",
        severity="warn",
        severity_number=14,
        severity_text="WARNING",
        body="the muse is late",
        event_name="late",
        trace_id="00000000000000000000000000000001",
        span_id="",
        attributes={"user": "jane"},
        resource={"service.name": "web", "host.name": "h"},
    )


async def test_a_span_is_seen_with_its_duration_and_how_it_ended():
    (tale,) = await seen(
        Tap(), Wanted(), spans(span(1, 2, "tell", parent=1, for_ms=12.5, kind=2, failed="no ink", k=1))
    )
    assert tale == TappedSpan(
        time=1790000000.0,
        source="otlp",
        service="web",
        name="tell",
        kind="SERVER",
        duration_seconds=0.0125,
        status="error",
        status_message="no ink",
        trace_id="00000000000000000000000000000001",
        span_id="0000000000000002",
        parent_span_id="0000000000000001",
        attributes={"k": 1},
        resource={"service.name": "web"},
    )


async def test_each_data_point_is_seen_with_its_value():
    (point,) = await seen(Tap(), Wanted(), metric("pens.ready", 3, "{pen}", colour="blue"), source="host")
    assert isinstance(point, TappedPoint)
    assert (point.source, point.service, point.name, point.unit, point.kind) == (
        "host", "novel-engine", "pens.ready", "{pen}", "gauge",
    )  # fmt: skip
    assert (point.value, point.count, point.sum, point.attributes) == (3.0, None, None, {"colour": "blue"})


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, ""), (1, "trace"), (4, "trace"), (5, "debug"), (9, "info"), (13, "warn"), (20, "error"), (24, "fatal"), (25, ""),
        (-1, ""),
    ],
)  # fmt: skip
def test_a_severity_is_named_by_the_range_of_its_number(number, name):
    assert severity_name(number) == name


async def test_what_passes_while_nobody_listens_is_not_kept():
    tapped = Tap()
    tapped.offer(logs("before"), "otlp")
    with tapped.listen(Wanted()) as listener:
        tapped.offer(logs("during"), "otlp")
        assert [each.body for each in await listener.next(SOON)] == ["during"]
    tapped.offer(logs("after"), "otlp")
    assert await listener.next(SOON) == []
    assert not tapped.wants("logs")


async def test_only_signals_that_are_wanted_are_seen():
    batches = [logs("a"), spans(span(1, 1)), metric("m", 1)]
    for signal, kind in (("logs", TappedLog), ("traces", TappedSpan), ("metrics", TappedPoint)):
        tapped = Tap()
        assert [type(each) for each in await seen(tapped, Wanted(signals=(signal,)), *batches)] == [kind]


async def test_a_source_is_an_input_or_a_service():
    both = Batch("logs", log_records("a", service="web") + log_records("b", service="db"), 2)
    assert await bodies(Wanted(sources=("otlp",)), both) == ["a", "b"]
    assert await bodies(Wanted(sources=("db",)), both) == ["b"]
    assert await bodies(Wanted(sources=("db", "web")), both) == ["a", "b"]
    assert await bodies(Wanted(sources=("files",)), both) == []
    assert await bodies(Wanted(sources=("files",)), both, source="files") == ["a", "b"]


async def test_a_text_in_a_body_is_not_taken_for_a_service():
    assert await bodies(Wanted(sources=("db",)), logs("db is down", service="web")) == []


async def test_a_severity_chooses_log_records_from_it_up():
    batches = [
        logs("info", severity=9),
        logs("none", severity=0),
        logs("warn", severity=13),
        logs("fatal", severity=21),
    ]
    assert await bodies(Wanted(min_severity=13), *batches) == ["warn", "fatal"]


async def test_a_severity_chooses_spans_that_failed_and_no_data_points():
    batches = [spans(span(1, 1, "well"), span(1, 2, "ill", failed="")), metric("m", 1)]
    assert [each.name for each in await seen(Tap(), Wanted(min_severity=17), *batches)] == ["ill"]
    assert await seen(Tap(), Wanted(min_severity=21), *batches) == []
    with (tapped := Tap()).listen(Wanted(min_severity=17)):
        assert tapped.wants("traces")
        assert not tapped.wants("metrics")


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ("muse", True),
        ("Muse", False),
        ("user", True),
        ("jan", True),
        ("late", True),
        ("web", True),
        ("WARNING", True),
        ("host.name", False),
        ("deep", True),
        ("h", True),
        ("jane\x12", False),
    ],
)
async def test_a_text_is_looked_for_in_bodies_names_and_attributes(match, found):
    record = one_record("a muse with a pen", user="jane", more=["deep"])
    assert len(await seen(Tap(), Wanted(match=match), record)) == int(found)


async def test_of_many_items_those_with_the_text_are_seen_in_their_order():
    batch = logs(*(f"line {number}" for number in range(1000)))
    assert await bodies(Wanted(match="line 99"), batch) == ["line 99", *(f"line 99{last}" for last in range(10))]


async def test_the_oldest_are_lost_and_counted_where_a_listener_is_slow(monkeypatch):
    first, second, third = logs("a" * 1000, "b"), logs("c" * 1000), logs("d" * 1000)
    monkeypatch.setattr(tap, "CAPACITY_BYTES", len(second.payload) + len(third.payload))
    with (tapped := Tap()).listen(Wanted()) as listener:
        for batch in (first, second, third):
            tapped.offer(batch, "otlp")
        assert listener.take_skipped() == 2
        assert listener.take_skipped() == 0
        found = [*await listener.next(SOON), *await listener.next(SOON)]
        assert [each.body[0] for each in found] == ["c", "d"]
        tapped.offer(logs("e" * 4000, "f"), "otlp")
        assert listener.take_skipped() == 2
        assert await listener.next(SOON) == []


async def test_what_cannot_be_read_is_counted_and_what_stands_before_it_is_seen():
    well = logs("a", "b")
    with (tapped := Tap()).listen(Wanted()) as listener:
        tapped.offer(Batch("logs", well.payload + b"\x0a\x7f", 5), "otlp")
        tapped.offer(logs("c"), "otlp")
        assert [each.body for each in await listener.next(SOON)] == ["a", "b"]
        assert listener.take_skipped() == 3
        assert [each.body for each in await listener.next(SOON)] == ["c"]


async def test_no_more_than_four_look_on_at_once():
    tapped = Tap()
    listeners = [tapped.listen(Wanted()) for _ in range(4)]
    with pytest.raises(TooManyListeners, match="4 look on already"):
        tapped.listen(Wanted())
    listeners[0].close()
    tapped.listen(Wanted())


async def test_closing_wakes_who_waits():
    listener = Tap().listen(Wanted())
    waiting = asyncio.create_task(listener.next(60))
    await asyncio.sleep(0)
    listener.close()
    assert await waiting == []
    assert listener.is_closed


class Clocks:
    """A clock, and one of the CPU that runs `cost` on whenever it is read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = 0.0
        self.cost = 0.0

    def read_cpu(self) -> float:
        self.cpu += self.cost
        return self.cpu

    def allowance(self) -> Allowance:
        return Allowance(self.read_cpu, lambda: self.now)


def test_a_quarter_second_of_cpu_may_be_spent_at_once_and_then_a_twentieth_of_a_core():
    clocks = Clocks()
    allowance = clocks.allowance()
    clocks.cost = 0.125
    allowance.spend(allowance.begin())
    assert allowance.rest_seconds == 0
    allowance.spend(allowance.begin())
    assert allowance.rest_seconds == 0
    clocks.cost = 0.01
    allowance.spend(allowance.begin())
    assert allowance.rest_seconds == pytest.approx(0.2)
    clocks.now += 0.2
    assert allowance.rest_seconds == 0
    clocks.now += 3600
    clocks.cost = 0.26
    allowance.spend(allowance.begin())
    assert allowance.rest_seconds == pytest.approx(0.2)


async def test_who_has_spent_the_cpu_there_is_decodes_nothing_until_it_is_earned_again():
    clocks = Clocks()
    with (tapped := Tap(clocks.allowance())).listen(Wanted()) as listener:
        tapped.offer(logs(*map(str, range(100))), "otlp")
        clocks.cost = 0.3
        assert len(await listener.next(SOON)) == 64
        assert await listener.next(SOON) == []
        clocks.now += 1.0
        assert len(await listener.next(SOON)) == 36

import asyncio
import threading
from typing import Any

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.model.metric import Block, Family, Shape
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.sampling import HostSampler, Watched
from novel_agent.wire.prometheus import render_text

VALUE = Family("test_value", "A value.")


class Counting:
    """A collector that counts its readings; `fault` is raised by the next ones, `gate` holds them."""

    optional = False

    def __init__(self, name: str = "counting") -> None:
        self.name = name
        self.reads = 0
        self.closed = False
        self.fault: BaseException | None = None
        self.gate: threading.Event | None = None
        self.shape = Shape([VALUE.series()])

    def read(self) -> int:
        self.reads += 1
        if self.gate is not None:
            self.gate.wait(30)
        if self.fault is not None:
            raise self.fault
        return self.reads

    def families(self, reading: Any):
        return [Block(self.shape, (reading,))]

    def telemetry(self, reading: Any):
        return [Block(self.shape, (reading,))]

    def close(self) -> None:
        self.closed = True


class Optional(Counting):
    optional = True


def make(*collectors: Counting, deadline_seconds: float = 5.0) -> HostSampler:
    return HostSampler(
        [Watched(each) for each in collectors], deadline_seconds=deadline_seconds, left_behind=LeftBehind()
    )


def page(sampler: HostSampler, sample) -> str:
    return render_text(sampler.families(sample)).decode()


async def test_concurrent_callers_share_one_reading():
    collector = Counting()
    sampler = make(collector)
    samples = await asyncio.gather(*(sampler.sample() for _ in range(100)))
    assert collector.reads == 1
    assert all(sample is samples[0] for sample in samples)
    await sampler.close()


async def test_a_young_sample_is_handed_out_again_and_an_old_one_is_not():
    collector = Counting()
    sampler = make(collector)
    await sampler.sample()
    await sampler.sample(max_age_seconds=60.0)
    assert collector.reads == 1
    await sampler.sample(max_age_seconds=-1.0)
    assert collector.reads == 2
    await sampler.close()


async def test_a_caller_that_goes_away_does_not_take_the_sampling_with_it():
    collector = Counting()
    collector.gate = threading.Event()
    sampler = make(collector)
    leaving = asyncio.create_task(sampler.sample())
    staying = asyncio.create_task(sampler.sample())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    collector.gate.set()
    assert (await staying).outcomes[0].reading == 1
    await sampler.close()


@pytest.mark.parametrize("fault", [OSError(5, "I/O error"), InputError("bad"), ValueError("garbage"), KeyError("bug")])
async def test_a_failing_collector_says_so_and_the_others_go_on(fault):
    broken, good = Counting("broken"), Counting("good")
    broken.fault = fault
    sampler = make(broken, good)
    text = page(sampler, await sampler.sample())
    assert 'node_scrape_collector_success{collector="broken"} 0' in text
    assert 'node_scrape_collector_success{collector="good"} 1' in text
    assert text.count("\ntest_value ") == 1
    component = sampler.watched[0].component
    assert (component.state, component.failures) == ("failing", 1)
    assert str(fault) in component.reason
    await sampler.close()


async def test_a_host_without_the_subject_is_no_failure():
    absent = Counting()
    absent.fault = NoData("no such hardware")
    sampler = make(absent)
    text = page(sampler, await sampler.sample())
    assert 'node_scrape_collector_success{collector="counting"} 0' in text
    component = sampler.watched[0].component
    assert (component.state, component.failures, component.reason) == ("no data", 0, "no such hardware")
    await sampler.close()


async def test_what_is_not_there_is_looked_for_once_a_minute():
    absent = Counting()
    absent.fault = NoData("no such hardware")
    sampler = make(absent)
    for _ in range(3):
        text = page(sampler, await sampler.sample(max_age_seconds=-1.0))
        assert 'node_scrape_collector_success{collector="counting"} 0' in text
    assert absent.reads == 1
    assert sampler.watched[0].component.state == "no data"
    sampler.watched[0].last_monotonic -= 61.0
    absent.fault = None
    text = page(sampler, await sampler.sample(max_age_seconds=-1.0))
    assert 'node_scrape_collector_success{collector="counting"} 1' in text
    await sampler.close()


async def test_a_hanging_collector_is_skipped_until_it_answers():
    hanging, good = Counting("hanging"), Counting("good")
    hanging.gate = threading.Event()
    sampler = make(hanging, good, deadline_seconds=0.05)
    text = page(sampler, await sampler.sample())
    assert 'node_scrape_collector_success{collector="hanging"} 0' in text
    assert 'node_scrape_collector_success{collector="good"} 1' in text
    assert sampler.watched[0].component.state == "hung"

    await sampler.sample(max_age_seconds=-1.0)
    assert (hanging.reads, good.reads) == (1, 2)

    hanging.gate.set()
    async with asyncio.timeout(5):
        while sampler.watched[0].hung:
            await asyncio.sleep(0)
    sample = await sampler.sample(max_age_seconds=-1.0)
    assert sample.outcomes[0].reading == 2
    assert sampler.watched[0].component.state == "up"
    await sampler.close()


async def test_every_collector_hanging_still_gives_a_page():
    gate = threading.Event()
    hanging = [Counting(f"hanging{number}") for number in range(10)]
    for each in hanging:
        each.gate = gate
    sampler = make(*hanging, deadline_seconds=0.02)
    text = page(sampler, await sampler.sample())
    assert text.count("} 0\n") == 10
    gate.set()
    await sampler.close()
    assert not any(each.closed for each in hanging if sampler.watched[hanging.index(each)].hung)


async def test_a_resting_collector_is_shown_as_last_read():
    optional, always = Optional("optional"), Counting("always")
    sampler = make(optional, always)
    await sampler.sample()
    sampler.resting = True
    sample = await sampler.sample(max_age_seconds=-1.0)
    assert (optional.reads, always.reads) == (1, 2)
    assert [outcome.reading for outcome in sample.outcomes] == [1, 2]
    assert sampler.watched[0].component.state == "resting"
    sampler.resting = False
    await sampler.sample(max_age_seconds=-1.0)
    assert optional.reads == 2
    await sampler.close()


async def test_a_view_that_raises_costs_only_its_own_series():
    wrong, good = Counting("wrong"), Counting("good")
    wrong.families = lambda reading: 1 / 0
    sampler = make(wrong, good)
    text = page(sampler, await sampler.sample())
    assert 'node_scrape_collector_success{collector="wrong"} 0' in text
    assert text.count("\ntest_value ") == 1
    await sampler.close()


async def test_close_closes_every_collector():
    collectors = [Counting("a"), Counting("b")]
    sampler = make(*collectors)
    await sampler.sample()
    await sampler.close()
    assert all(each.closed for each in collectors)


async def test_a_collector_dropped_while_it_hangs_is_closed_when_it_comes_back():
    hanging = Counting("hanging")
    hanging.gate = threading.Event()
    sampler = make(hanging, deadline_seconds=0.05)
    await sampler.sample()
    sampler.reconfigure([], 0.05)
    assert not hanging.closed
    assert sampler.known[0].collector is hanging
    hanging.gate.set()
    async with asyncio.timeout(5):
        while not hanging.closed:
            await asyncio.sleep(0)
    assert sampler.known == []
    await sampler.close()


async def test_a_sampling_under_way_in_a_reload_does_not_show_what_was_dropped():
    dropped = Counting("dropped")
    dropped.gate = threading.Event()
    sampler = make(dropped)
    under_way = asyncio.create_task(sampler.sample())
    await asyncio.sleep(0)
    sampler.reconfigure([], 5.0)
    dropped.gate.set()
    await under_way
    assert dropped.closed
    assert (await sampler.sample(max_age_seconds=60.0)).outcomes == []
    await sampler.close()

from itertools import islice

from novel_agent.runtime.schedule import next_grid_point, ticks


class Clock:
    """A wall clock and a monotonic one that sleeping and working move; a jump moves the wall clock alone."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.monotonic = 50.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.work(seconds)

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds


async def collect(clock: Clock, interval, count: int, between=lambda index: None):
    got = []
    async for tick in ticks(
        lambda: interval, now=lambda: clock.now, monotonic=lambda: clock.monotonic, sleep=clock.sleep
    ):
        got.append(tick)
        between(len(got))
        if len(got) == count:
            return got
    raise AssertionError("ticks end")


async def test_ticks_fall_on_the_grid_of_the_wall_clock():
    clock = Clock(1003.0)
    assert [tick.at for tick in await collect(clock, 15.0, 3)] == [1005.0, 1020.0, 1035.0]
    assert clock.slept == [2.0, 15.0, 15.0]


async def test_work_does_not_shift_later_ticks():
    clock = Clock(1000.0)

    def work(_):
        clock.work(4.0)

    assert [tick.at for tick in await collect(clock, 10.0, 3, work)] == [1010.0, 1020.0, 1030.0]
    assert clock.slept == [10.0, 6.0, 6.0]


async def test_ticks_missed_while_work_ran_are_counted_and_not_made_up_for():
    clock = Clock(1000.0)

    def work(index):
        clock.work(35.0 if index == 1 else 0.0)

    got = await collect(clock, 10.0, 3, work)
    assert [(tick.at, tick.missed) for tick in got] == [(1010.0, 0), (1050.0, 3), (1060.0, 0)]


async def test_a_timer_that_fires_early_does_not_repeat_a_tick():
    clock = Clock(1000.0)

    async def early(seconds):
        clock.now += seconds - 0.001

    got = []
    async for tick in ticks(lambda: 10.0, now=lambda: clock.now, sleep=early):
        got.append(tick.at)
        if len(got) == 3:
            break
    assert got == [1010.0, 1020.0, 1030.0]


async def test_a_clock_set_back_costs_no_more_than_an_interval():
    clock = Clock(10_000.0)

    def jump(index):
        if index == 1:
            clock.now -= 3_600.0

    got = await collect(clock, 10.0, 2, jump)
    assert [tick.at for tick in got] == [10_010.0, 6_420.0]
    assert clock.slept[1] == 10.0


async def test_a_clock_set_forward_or_a_suspend_is_not_thousands_of_missed_ticks():
    clock = Clock(1000.0)

    def jump(index):
        if index == 1:
            clock.now += 86_400.0

    got = await collect(clock, 10.0, 2, jump)
    assert [(tick.at, tick.missed) for tick in got] == [(1010.0, 0), (87_420.0, 0)]


async def test_a_small_step_of_the_clock_is_not_missed_samplings_either():
    clock = Clock(1000.0)

    def jump(index):
        if index == 1:
            clock.now += 300.0

    got = await collect(clock, 15.0, 2, jump)
    assert [tick.missed for tick in got] == [0, 0]


async def test_a_changed_interval_takes_effect_at_the_next_wait():
    clock = Clock(1000.0)
    intervals = iter([15.0, 15.0, 15.0, 60.0, 60.0, 60.0, 60.0])
    got = []
    async for tick in ticks(
        lambda: next(intervals), now=lambda: clock.now, monotonic=lambda: clock.monotonic, sleep=clock.sleep
    ):
        got.append(tick.at)
        if len(got) == 3:
            break
    assert got == [1005.0, 1020.0, 1080.0]


def test_the_grid_is_exact_for_fractions():
    points = []
    now = 5.0
    for _ in islice(range(10), 4):
        point, _missed = next_grid_point(now, 0.5, points[-1] if points else None)
        points.append(point)
        now = point
    assert points == [5.5, 6.0, 6.5, 7.0]

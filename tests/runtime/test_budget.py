import pytest

from novel_agent.config.schema import Budget
from novel_agent.runtime.budget import BudgetWatch
from novel_agent.runtime.selfstats import Cost

MIB = 1 << 20


class Feed:
    """Feeds a watch with one check every 15 s at a CPU share (percent of a core) and a memory size."""

    def __init__(self) -> None:
        self.given_back = 0
        self.watch = BudgetWatch(Budget(cpu_percent=5.0, memory_bytes=96 * MIB), self.give_back)
        self.cpu_seconds = 0.0
        self.now = 0.0
        self.watch.check(Cost(0.0, 40 * MIB, 10), 0.0)

    def give_back(self) -> None:
        self.given_back += 1

    def __call__(self, times: int, *, percent: float = 0.1, memory: int = 40 * MIB) -> int:
        for _ in range(times):
            self.now += 15.0
            self.cpu_seconds += 15.0 * percent / 100
            self.watch.check(Cost(self.cpu_seconds, memory, 10), self.now)
        return self.watch.level


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_stays_at_level_0_within_the_budget(feed):
    assert feed(50, percent=4.9) == 0
    assert feed.watch.last.cpu == pytest.approx(0.98)


def test_climbs_after_three_checks_over_it_and_not_before(feed):
    assert feed(2, percent=6.0) == 0
    assert feed(1, percent=6.0) == 1


def test_a_single_burst_changes_nothing(feed):
    for _ in range(10):
        assert feed(2, percent=50.0) == 0
        assert feed(1, percent=4.0) == 0


def test_measures_come_in_the_stated_order(feed):
    seen = []
    for _ in range(4):
        feed(3, percent=10.0)
        seen.append((feed.watch.level, feed.watch.interval_factor, feed.watch.optional_rest))
    assert seen == [(1, 2, False), (2, 2, True), (3, 4, True), (3, 4, True)]


def test_descends_one_level_after_five_quiet_minutes(feed):
    feed(6, percent=10.0)
    assert feed.watch.level == 2
    assert feed(19, percent=1.0) == 2
    assert feed(1, percent=1.0) == 1


def test_between_70_percent_and_the_budget_it_stays(feed):
    feed(3, percent=10.0)
    assert feed(200, percent=4.0) == 1


def test_memory_over_budget_climbs_and_gives_back(feed):
    assert feed(3, memory=97 * MIB) == 1
    assert feed.given_back == 3


def test_a_clock_that_stands_is_no_reading(feed):
    feed.watch.check(Cost(100.0, 40 * MIB, 10), 0.0)
    assert feed.watch.level == 0

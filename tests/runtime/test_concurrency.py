"""The window of requests to one destination, on a clock that only moves when it is told to."""

from novel_agent.runtime.concurrency import Window


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def answers(window, clock, seconds, count, *, under_way=None):
    for _ in range(count):
        clock.seconds += seconds
        window.answered(seconds, window.limit if under_way is None else under_way)


def test_begins_with_one_request():
    assert Window(8, Clock()).limit == 1


def test_one_more_for_each_round_trip_in_which_all_were_used():
    clock = Clock()
    window = Window(8, clock)
    limits = []
    for _ in range(5):
        answers(window, clock, 0.05, 1)
        limits.append(window.limit)
    assert limits == [2, 3, 4, 5, 6]


def test_never_more_than_configured():
    clock = Clock()
    window = Window(3, clock)
    answers(window, clock, 0.05, 20)
    assert window.limit == 3


def test_does_not_grow_while_it_is_not_used_up():
    clock = Clock()
    window = Window(8, clock)
    answers(window, clock, 0.05, 3)
    answers(window, clock, 0.05, 20, under_way=1)
    assert window.limit == 4


def test_a_destination_that_slows_down_gets_a_tenth_less_an_interval():
    clock = Clock()
    window = Window(20, clock)
    answers(window, clock, 0.05, 9)
    assert window.limit == 10
    answers(window, clock, 0.5, 1)
    assert window.limit == 9
    answers(window, clock, 1.5, 1)
    assert window.limit == 8


def test_what_is_always_slow_is_not_slower_than_usual():
    clock = Clock()
    window = Window(8, clock)
    answers(window, clock, 2.0, 20)
    assert window.limit == 8


def test_a_failure_halves_it_once_an_interval():
    clock = Clock()
    window = Window(16, clock)
    answers(window, clock, 0.05, 15)
    assert window.limit == 16
    for _ in range(5):
        window.failed()
    assert window.limit == 8
    clock.seconds += 1
    window.failed()
    assert window.limit == 4


def test_one_request_is_always_allowed():
    clock = Clock()
    window = Window(4, clock)
    for _ in range(10):
        clock.seconds += 10
        window.failed()
    assert window.limit == 1

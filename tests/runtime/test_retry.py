import pytest

from novel_agent.runtime.retry import Backoff


def longest(low, high):
    return high


def shortest(low, high):
    return low


def test_the_ceiling_doubles_up_to_a_minute():
    backoff = Backoff(uniform=longest)
    assert [backoff.failed() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_jitter_is_full():
    backoff = Backoff(uniform=shortest)
    assert [backoff.failed() for _ in range(5)] == [0, 0, 0, 0, 0]


def test_waits_are_random_in_between():
    waits = [Backoff(initial_seconds=8).failed() for _ in range(200)]
    assert all(0 <= wait <= 8 for wait in waits)
    assert min(waits) < 2 < 6 < max(waits)


def test_success_begins_anew():
    backoff = Backoff(uniform=longest)
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.failed() == 1


@pytest.mark.parametrize(("named", "waits"), [(30, (30, 31)), (0, (0, 1)), (-5, (0, 1)), (86_400, (3600, 3601))])
def test_the_time_a_destination_names_is_waited_and_a_little_more(named, waits):
    assert (Backoff(uniform=shortest).failed(named), Backoff(uniform=longest).failed(named)) == waits


def test_it_never_gives_up_and_never_overflows():
    backoff = Backoff(uniform=longest)
    assert {backoff.failed() for _ in range(5000)} == {1, 2, 4, 8, 16, 32, 60}

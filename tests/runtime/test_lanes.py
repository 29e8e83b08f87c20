import asyncio
import threading
import time

import pytest

from novel_agent.runtime.lanes import AsyncLane, Isolation, LeftBehind


@pytest.fixture
def gate():
    """A call that hangs on the item 'dead' until the test lets go."""
    opened = threading.Event()

    def call(item):
        if item.startswith("dead"):
            opened.wait(30)
        if item == "forbidden":
            raise PermissionError(13, "no")
        return item.upper()

    call.open = opened.set
    yield call
    opened.set()


def test_isolation_gives_one_outcome_an_item(gate):
    isolate = Isolation("t", LeftBehind())
    first, second = isolate(gate, ["a", "forbidden"], 5.0)
    assert first == "A"
    assert isinstance(second, PermissionError)
    isolate.close()


def test_isolation_leaves_a_hanging_call_behind_and_goes_on(gate):
    left = LeftBehind()
    isolate = Isolation("t", left)
    assert isolate(gate, ["a", "dead", "b", "dead2", "c"], 0.05) == ["A", None, "B", None, "C"]
    assert (left.now, left.total) == (2, 2)
    isolate.close()


def test_threads_left_behind_end_when_their_call_returns(gate):
    left = LeftBehind()
    isolate = Isolation("ends-later", left)
    isolate(gate, ["dead"], 0.05)
    stuck = [thread for thread in threading.enumerate() if thread.name == "ends-later"]
    gate.open()
    for thread in stuck:
        thread.join(5)
        assert not thread.is_alive()
    assert left.now == 0
    isolate.close()


def test_no_more_threads_are_risked_than_allowed(gate):
    left = LeftBehind(most=1)
    isolate = Isolation("t", left)
    assert isolate(gate, ["dead", "a", "b"], 0.05) == [None, None, None]
    assert left.total == 1
    isolate.close()


def test_however_many_calls_hang_the_caller_keeps_its_own_deadline(gate):
    isolate = Isolation("t", LeftBehind(), within_seconds=1.0)
    began = time.monotonic()
    assert isolate(gate, [f"dead{number}" for number in range(20)], 5.0) == [None] * 20
    assert time.monotonic() - began < 1.0 + 0.3
    isolate.close()


async def test_the_event_loop_turns_while_a_call_hangs(gate):
    left = LeftBehind()
    lane = AsyncLane("t", left)
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    assert await lane.run(gate, ["dead", "a"], 0.05) == [None, "A"]
    assert turned.is_set()
    lane.close()


async def test_late_is_told_in_the_loop_when_an_abandoned_call_returns(gate):
    lane = AsyncLane("t", LeftBehind())
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    assert await lane.run(gate, ["dead"], 0.05, late.set_result) == [None]
    gate.open()
    assert await asyncio.wait_for(late, 5) == "dead"
    lane.close()


async def test_a_round_without_a_hang_uses_one_thread(gate):
    lane = AsyncLane("one-thread", LeftBehind())
    for _ in range(3):
        assert await lane.run(gate, ["a", "b"], 5.0) == ["A", "B"]
    assert sum(thread.name == "one-thread" for thread in threading.enumerate()) == 1
    lane.close()

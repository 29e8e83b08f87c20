import asyncio

import pytest

from novel_agent.inputs.otlp.admission import Admission, Share
from novel_agent.inputs.otlp.refusal import Refused


class Gate:
    def __init__(self) -> None:
        self.is_held = False
        self.refused = 0

    def hold(self) -> None:
        self.is_held = True

    def let(self) -> None:
        self.is_held = False

    def refuse(self) -> None:
        self.refused += 1


def shares(admission: Admission, count: int) -> list[tuple[Share, Gate]]:
    gates = [Gate() for _ in range(count)]
    return [(admission.share(gate), gate) for gate in gates]


async def test_nothing_is_held_up_below_the_capacity() -> None:
    admission = Admission(100)
    (first, gate), (second, other) = shares(admission, 2)
    first.charge(60)
    second.charge(40)
    await first.room()
    assert (gate.is_held, other.is_held, admission.held_bytes) == (False, False, 100)


async def test_beyond_it_all_are_held_up_but_the_oldest() -> None:
    admission = Admission(100)
    (first, gate), (second, other), (_, idle) = shares(admission, 3)
    second.charge(60)
    first.charge(41)
    assert (gate.is_held, other.is_held, idle.is_held) == (True, False, True)
    second.charge(1000)
    assert not other.is_held
    first.close()
    second.close()


async def test_when_the_oldest_is_done_the_next_goes_on() -> None:
    admission = Admission(100)
    (first, gate), (second, other), (third, another) = shares(admission, 3)
    for share in (first, second, third):
        share.charge(90)
    first.discharge(90)
    assert (other.is_held, another.is_held) == (False, True)
    assert gate.is_held
    second.discharge(90)
    assert admission.held_bytes == 90
    assert not another.is_held
    assert gate.is_held  # a quarter must be free first
    third.discharge(20)
    assert not gate.is_held


async def test_who_comes_while_it_is_full_is_held_up_from_the_start() -> None:
    admission = Admission(100)
    [(first, _)] = shares(admission, 1)
    first.charge(101)
    [(_, late)] = shares(admission, 1)
    assert late.is_held
    first.close()
    assert not late.is_held


async def test_who_needs_room_waits_for_it() -> None:
    admission = Admission(100)
    (first, _), (second, _) = shares(admission, 2)
    first.charge(90)
    second.charge(20)
    waiting = asyncio.create_task(second.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.discharge(90)
    await waiting


async def test_who_is_held_up_for_too_long_is_refused_as_busy() -> None:
    admission = Admission(100, wait_seconds=0.0)
    (first, gate), (second, other) = shares(admission, 2)
    first.charge(90)
    second.charge(20)
    with pytest.raises(Refused) as caught:
        await second.room()
    assert (caught.value.kind.reason, caught.value.retry_after_seconds) == ("busy", 1.0)
    assert (gate.refused, other.refused) == (0, 1)
    first.close()
    second.close()


async def test_a_share_that_is_closed_gives_all_back() -> None:
    admission = Admission(100)
    (first, _), (second, other) = shares(admission, 2)
    first.charge(500)
    second.charge(1)
    first.close()
    assert (admission.held_bytes, other.is_held) == (1, False)
    second.discharge(1000)
    assert admission.held_bytes == 0

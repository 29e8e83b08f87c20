"""Who is told when not every destination can hold a batch."""

from collections import Counter
from types import SimpleNamespace

import pytest

from novel_agent.config.schema import Export, Spool
from novel_agent.model.batch import Batch
from novel_agent.runtime.destinations import Destinations
from novel_agent.state.queue import QueueFull

BATCH = Batch("traces", b"spans", 7)
FULL = QueueFull("the spool is full")


def taker(when_full="drop_oldest"):
    export = Export(name="a", endpoint="http://h", spool=Spool(when_full=when_full))
    return SimpleNamespace(export=export, spool=SimpleNamespace(dropped=Counter()))


def test_one_of_several_that_cannot_hold_it_loses_it_and_counts_that():
    well, full = taker(), taker()
    Destinations._judge(BATCH, [well, full], [None, FULL])
    assert (well.spool.dropped, full.spool.dropped) == ({}, {("traces", "queue_full"): 7})


def test_where_nobody_can_hold_it_the_sender_keeps_it():
    takers = [taker(), taker()]
    with pytest.raises(QueueFull):
        Destinations._judge(BATCH, takers, [FULL, FULL])
    assert [each.spool.dropped for each in takers] == [{}, {}]


def test_one_that_blocks_is_never_left_out():
    takers = [taker(), taker("block")]
    with pytest.raises(QueueFull):
        Destinations._judge(BATCH, takers, [None, FULL])
    assert not takers[1].spool.dropped


def test_a_fault_is_raised():
    with pytest.raises(ZeroDivisionError):
        Destinations._judge(BATCH, [taker(), taker()], [FULL, ZeroDivisionError()])

"""Whatever is born, runs, executes, dies and is waited for: counters never fall and count nothing twice."""

import tempfile
from pathlib import Path

from fake_proc import Clock, FakeProc, Watched, group
from hypothesis import example, given, settings
from hypothesis import strategies as st

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.process import ProcessGroups

PIDS = st.integers(40, 46)
AMOUNTS = st.integers(0, 50)
EVENTS = st.one_of(
    st.tuples(st.just("spawn"), PIDS, PIDS, st.sampled_from("abc")),
    st.tuples(st.just("use"), PIDS, AMOUNTS, AMOUNTS),
    st.tuples(st.just("reap"), PIDS),
    st.tuples(st.just("ignore"), PIDS),
    st.tuples(st.just("exec"), PIDS, st.sampled_from("abc")),
    st.tuples(st.just("read")),
    st.tuples(st.just("wait"), st.sampled_from([1, 400])),
)
RETURNED = [
    ("spawn", 40, 40, "a"),
    ("read",),
    ("reap", 40),
    ("read",),
    ("wait", 400),
    ("read",),
    ("spawn", 40, 40, "a"),
]
"""A group that was empty for more than five minutes and comes back: once it started again at 0, from 1 to 1."""


class World:
    """Processes with ids that are used again, and what they truly used."""

    def __init__(self, fake: FakeProc) -> None:
        self.fake = fake
        self.ticks = 100_000
        self.used = 0
        self.written = 0
        fake.spawn(1, parent=0, comm="init", start=1)

    def apply(self, event: tuple) -> None:
        kind, pid = event[0], event[1]
        alive = pid in self.fake.alive
        if kind == "spawn" and not alive:
            self.ticks += 1
            parent = event[2] if event[2] in self.fake.alive else 1
            self.fake.spawn(pid, parent=parent, comm=event[3], start=self.ticks, image=(self.ticks, 1), files=0)
            self.run(pid, 1, 1)
        elif kind == "use" and alive:
            self.run(pid, event[2], event[3])
        elif kind == "reap" and alive:
            self.fake.reap(pid)
        elif kind == "ignore" and alive:
            self.fake.remove(pid)
            for orphan in [each for each in self.fake.alive.values() if each.parent == pid]:
                self.fake.change(orphan.pid, parent=1)
        elif kind == "exec" and alive:
            self.ticks += 1
            self.fake.change(pid, comm=event[2], image=(self.ticks, 1))

    def pay(self) -> None:
        """Everyone writes more than anyone can owe."""
        for pid in self.fake.alive:
            self.run(pid, 0, 1 + self.written)

    def run(self, pid: int, ticks: int, written: int) -> None:
        self.fake.use(pid, user=ticks, written=written, minor=1 + ticks)
        self.used += ticks
        self.written += written


class Sums:
    """The increase of every series over all readings, as Prometheus would find it."""

    def __init__(self) -> None:
        self.increase = [0] * 8
        self._last: dict[str, tuple[int, ...]] = {}
        self._shown: set[str] = set()

    def add(self, shown: dict[str, tuple[int, ...]]) -> None:
        for name, used in shown.items():
            before = self._last.get(name, (0,) * 8)
            if any(now < then for now, then in zip(used, before, strict=True)):
                assert name not in self._shown, f"{name} fell from {before} to {used}"
                before = (0,) * 8
            self.increase = [so_far + now - then for so_far, now, then in zip(self.increase, used, before, strict=True)]
        self._last |= shown
        self._shown = set(shown)


def live(events: list[tuple], *groups) -> tuple[World, list[int]]:
    """Let it happen; the world, and the sums of all groups' counters.

    Before the last reading all debts are paid: until a debtor's bytes grow by what it owes, there may be as many too many.
    """
    with tempfile.TemporaryDirectory() as directory:
        world, clock, sums = World(FakeProc(Path(directory))), Clock(), Sums()
        watched = Watched(ProcessGroups(Kernel(str(world.fake.proc), now=clock), groups))
        watched.read()
        for event in [*events, ("read",), ("pay",), ("read",)]:
            if event[0] == "wait":
                clock.seconds += event[1]
            elif event[0] == "read":
                sums.add({name: reading.used for name, reading in watched.read().items()})
            elif event[0] == "pay":
                world.pay()
            else:
                world.apply(event)
        watched.collector.close()
    return world, sums.increase


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.sampled_from([None, 1, 2]), st.booleans())
def test_no_counter_falls_and_nothing_counts_twice(events, top, children):
    world, increase = live(events, group("{comm}", smaps=False, top=top, children=children))
    assert increase[0] <= world.used
    assert increase[5] <= world.written


@settings(max_examples=80, deadline=None)
@example([*RETURNED[:1], ("use", 40, 0, 0), *RETURNED[1:]], None)
@example(RETURNED, None)
@given(st.lists(EVENTS.filter(lambda event: event[0] != "ignore"), max_size=40), st.sampled_from([None, 1, 2]))
def test_where_everyone_is_in_a_group_and_waited_for_all_is_counted(events, top):
    world, increase = live(events, group("{comm}", smaps=False, top=top))
    assert (increase[0], increase[5]) == (world.used, world.written)

import pytest
from fake_proc import group


def members(watched) -> dict[str, int]:
    return {name: reading.processes for name, reading in watched.read().items()}


def test_descendants_that_fit_no_group_are_in_their_parents(fake, watch):
    fake.spawn(50, parent=40, comm="grandchild", start=100_003, cmdline="x")
    fake.spawn(45, parent=50, comm="below", start=100_004, cmdline="x")
    fake.spawn(60, parent=40, comm="child", start=100_002, cmdline="x")
    fake.spawn(40, comm="app")
    fake.spawn(70, comm="stranger", cmdline="x")
    fake.spawn(71, parent=40, comm="db", cmdline="x")
    assert members(watch(group("app", comm="app"), group("db", comm="db"))) == {"app": 4, "db": 1}


def test_a_group_may_refuse_children(fake, watch):
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, comm="child")
    assert members(watch(group("app", comm="app", children=False))) == {"app": 1}


@pytest.mark.parametrize("order", ["before", "after"])
def test_children_follow_a_parent_that_comes_to_fit(fake, watch, order):
    fake.spawn(40, comm="sh")
    if order == "before":
        fake.spawn(41, parent=40, comm="child")
    watched = watch(group("app", comm="app"))
    assert members(watched) == {"app": 0}
    fake.change(40, comm="app")
    if order == "after":
        fake.spawn(41, parent=40, comm="child")
    assert members(watched) == {"app": 2}


def test_an_orphan_stays_where_it_was(fake, watch):
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, comm="child")
    watched = watch(group("app", comm="app"))
    assert members(watched) == {"app": 2}
    fake.reap(40)
    fake.change(41, image=(7, 8))
    assert members(watched) == {"app": 1}


def test_a_process_that_executes_something_else_leaves(fake, watch):
    fake.spawn(40, comm="app")
    watched = watch(group("app", comm="app"))
    assert members(watched) == {"app": 1}
    fake.change(40, comm="other")
    assert members(watched) == {"app": 0}


def test_parents_that_are_each_others_children_do_no_harm(fake, watch):
    fake.spawn(40, parent=41, comm="a")
    fake.spawn(41, parent=40, comm="b")
    watched = watch(group("app", comm="app"))
    assert members(watched) == {"app": 0}
    fake.remove(40)
    fake.remove(41)
    assert members(watched) == {"app": 0}

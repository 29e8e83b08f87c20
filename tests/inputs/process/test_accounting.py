"""What counts for a group, with numbers from wait4(2) as the kernel would add them up."""

import os

import pytest
from fake_proc import group


@pytest.fixture
def app(fake, watch):
    """An init in no group, the app's first process (pid 40) in `app`, read once."""
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40, comm="app", user=500, system=100, read=4096, voluntary=9, minor=50)
    watched = watch(group("app", comm="app"))
    watched.read()
    return watched


def used(watched) -> tuple[int, ...]:
    return watched.read()["app"].used


def test_what_was_used_before_the_first_reading_does_not_count(app):
    assert app.reading.groups[0].used == (0, 0, 0, 0, 0, 0, 0, 0)


def test_growth_counts(fake, app):
    fake.use(40, user=3, system=2, minor=10, major=1, read=100, written=200, voluntary=4, involuntary=5)
    assert used(app) == (3, 2, 10, 1, 100, 200, 4, 5)
    assert used(app) == (3, 2, 10, 1, 100, 200, 4, 5)


def test_all_that_a_newborn_used_counts(fake, app):
    fake.spawn(41, parent=40, user=7, system=1, minor=30, written=512, voluntary=2)
    assert used(app) == (7, 1, 30, 0, 0, 512, 2, 0)


def test_counts_of_the_dead_stay(fake, app):
    fake.spawn(41, parent=40, user=7, read=100)
    app.read()
    fake.remove(41)
    assert used(app)[0] == 7
    fake.remove(40)
    assert used(app) == (7, 0, 0, 0, 100, 0, 0, 0)
    assert (app.reading.groups[0].processes, app.reading.groups[0].knows_io) == (0, True)


def test_a_reused_id_is_another_process(fake, app):
    fake.use(40, user=10)
    app.read()
    fake.remove(40)
    fake.spawn(40, comm="app", start=200_000, user=4, read=50)
    assert used(app) == (14, 0, 0, 0, 50, 0, 0, 0)


def test_a_reused_id_is_told_by_its_start_without_a_handle(fake, watch):
    fake.spawn(40, comm="app", user=100)
    watched = watch(group("app", comm="app"), handle_limit=0)
    watched.read()
    fake.change(40, start=200_000, user=900)
    assert used(watched)[0] == 900
    fake.use(40, user=1)
    assert used(watched)[0] == 901


def test_a_process_of_another_group_under_a_reused_id(fake, app):
    fake.remove(40)
    fake.spawn(40, comm="other", start=200_000, user=1000)
    assert used(app)[0] == 0
    assert app.reading.groups[0].processes == 0


def test_children_that_came_and_went_between_two_readings_count(fake, app):
    fake.spawn(41, parent=40, user=20, system=4, minor=300, major=1, read=1000, written=10, voluntary=99)
    fake.reap(41)
    assert used(app) == (20, 4, 300, 1, 1000, 10, 0, 0)


def test_a_child_that_was_seen_and_is_waited_for_counts_once(fake, app):
    fake.spawn(41, parent=40, user=20, minor=300, read=1000)
    app.read()
    fake.use(41, user=5, minor=10, read=24)
    fake.reap(41)
    assert used(app) == (25, 0, 310, 0, 1024, 0, 0, 0)


def test_seen_and_unseen_children_together(fake, app):
    fake.spawn(41, parent=40, user=20, minor=300, read=1000)
    app.read()
    fake.reap(41)
    fake.spawn(42, parent=40, user=3, minor=50, read=7)
    fake.reap(42)
    fake.use(40, user=1, read=2)
    assert used(app) == (24, 0, 350, 0, 1009, 0, 0, 0)


def test_what_a_child_used_before_the_first_reading_is_not_counted_at_its_end(fake, watch):
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, user=9000, minor=500, read=1 << 20)
    watched = watch(group("app", comm="app"))
    watched.read()
    fake.use(41, user=2)
    fake.reap(41)
    assert used(watched) == (2, 0, 0, 0, 0, 0, 0, 0)


def test_a_family_that_ends_together_counts_once(fake, app):
    fake.spawn(41, parent=40, comm="sh", user=1, minor=100)
    fake.spawn(42, parent=41, comm="cc", user=70, minor=900, written=640)
    app.read()
    fake.use(42, user=6)
    fake.reap(42)
    fake.reap(41)
    assert used(app) == (77, 0, 1000, 0, 0, 640, 0, 0)


def test_an_orphan_is_a_debt_of_whoever_waits_for_it(fake, watch):
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, comm="sh", user=1, minor=100)
    fake.spawn(42, parent=41, comm="daemon", user=70, minor=900)
    watched = watch(group("app", comm="app"), group("init", comm="init", children=True))
    watched.read()
    fake.use(42, user=10)
    fake.reap(41)
    fake.reap(42, by=1)
    groups = watched.read()
    assert groups["init"].used[0] == 10
    assert groups["app"].used[0] == 0


def test_an_orphan_comes_after_those_that_nobody_else_can_have_waited_for(fake, watch):
    """Orphan 42 fits into what the figures of 40 grew by, and so does 43, which is nobody else's."""
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40)
    fake.spawn(41, parent=40, user=1, minor=100)
    fake.spawn(42, parent=41, user=2, minor=200)
    fake.spawn(43, parent=40, user=3, minor=300, written=512)
    watched = watch(group("init", comm="init"), group("app"))
    watched.read()
    fake.reap(41)
    fake.reap(42)
    fake.reap(43)
    groups = watched.read()
    assert (groups["app"].used, groups["init"].used) == ((0,) * 8, (0,) * 8)


def test_of_two_orphans_the_larger_is_paid_first(fake, watch):
    """Their parents waited for one and not for the other, and both would fit into what the grandparent's grew by."""
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40)
    fake.spawn(41, parent=40, minor=100)
    fake.spawn(42, parent=40, minor=100)
    fake.spawn(43, parent=41, user=2, minor=200)
    fake.spawn(44, parent=42, user=9, minor=900)
    watched = watch(group("init", comm="init"), group("app"))
    watched.read()
    fake.reap(44)
    fake.reap(42)
    fake.reap(41)
    fake.reap(43)
    groups = watched.read()
    assert (groups["app"].used, groups["init"].used) == ((0,) * 8, (0,) * 8)


def test_an_orphan_whose_times_do_not_fit_was_waited_for_by_another(fake, watch):
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40)
    fake.spawn(41, parent=40, minor=100)
    fake.spawn(42, parent=41, user=70, minor=10)
    watched = watch(group("init", comm="init"), group("app"))
    watched.read()
    fake.use(41, user=1, minor=50)
    fake.reap(41)
    fake.reap(42)
    groups = watched.read()
    assert (groups["app"].used[:3], groups["init"].used[:3]) == ((1, 0, 50), (0, 0, 0))


@pytest.mark.parametrize("ignored_written", [0, 64])
def test_a_parent_that_waits_for_one_and_not_for_another_counts_neither_twice(fake, app, ignored_written):
    """As one does that ignores SIGCHLD but for the time of a system(3). Which of the two it was cannot be told."""
    fake.spawn(41, parent=40, user=2, minor=200, written=ignored_written)
    fake.spawn(42, parent=40, user=3, minor=300, written=512)
    assert used(app)[0] == 5
    fake.remove(41)
    fake.reap(42)
    assert used(app) == (5, 0, 500, 0, 0, 512 + ignored_written, 0, 0)


def test_a_parent_that_does_not_wait_owes_nothing(fake, app):
    fake.spawn(41, parent=40, user=20, minor=300, read=1000)
    app.read()
    fake.remove(41)
    fake.use(40, read=500)
    assert used(app) == (20, 0, 300, 0, 1500, 0, 0, 0)


def test_a_child_nobody_waits_for_is_no_debt_of_its_grandparent(fake, watch):
    fake.spawn(1, parent=0, comm="init", start=1)
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, comm="app", user=20, minor=300)
    watched = watch(group("init", comm="init"), group("app", comm="app"))
    watched.read()
    fake.remove(41)
    fake.spawn(42, parent=1, user=50, minor=400)
    fake.reap(42)
    assert watched.read()["init"].used[0] == 50


def test_bytes_owed_are_paid_when_they_show(fake, app):
    """The child's bytes reached its parent's figures before its end was seen, and a later reading takes them off."""
    fake.spawn(41, parent=40, minor=300, read=1000)
    app.read()
    fake.use(40, read=1000)
    assert used(app)[4] == 2000
    fake.remove(41)
    fake.alive[40].children[2] += 300
    fake.use(40, read=10)
    assert used(app)[4] == 2000
    fake.use(40, read=990)
    assert used(app)[4] == 2000
    fake.use(40, read=5)
    assert used(app)[4] == 2005


def test_bytes_owed_from_before_a_process_joined_are_in_what_does_not_count(fake, watch):
    fake.spawn(40, comm="sh")
    fake.spawn(41, parent=40, comm="worker", minor=300, read=1000)
    watched = watch(group("worker", comm="worker"), group("app", comm="app"))
    watched.read()
    fake.reap(41)
    watched.read()
    fake.change(40, comm="app")
    assert used(watched)[4] == 0
    fake.use(40, read=7)
    assert used(watched)[4] == 7


def test_bytes_owed_at_the_end_of_the_debtor_go_to_its_reaper(fake, app):
    fake.spawn(41, parent=40, comm="sh")
    fake.spawn(42, parent=41, minor=300, read=1000)
    app.read()
    fake.use(41, read=1000)
    assert used(app)[4] == 2000, "the child's bytes reached its parent's figures before its end was seen"
    fake.remove(42)
    fake.change(41, children=[0, 0, 300, 0])
    app.read()
    fake.reap(41)
    fake.use(40, read=1003)
    assert used(app)[4] == 2003


def test_children_do_not_count_where_a_group_takes_none(fake, watch):
    fake.spawn(40, comm="app")
    watched = watch(group("app", comm="app", children=False))
    watched.read()
    fake.spawn(41, parent=40, comm="x", user=20, minor=300)
    watched.read()
    fake.reap(41)
    fake.spawn(42, parent=40, comm="x", user=30, minor=300)
    fake.reap(42)
    assert used(watched)[:4] == (0, 0, 0, 0)


def test_a_reaper_in_no_group_counts_for_none_and_is_debited_in_turn(fake, watch):
    fake.spawn(40, comm="app")
    fake.spawn(41, parent=40, comm="x", user=100, minor=300)
    watched = watch(group("app", comm="app", children=False), group("x", cmdline="never"))
    watched.read()
    fake.spawn(42, parent=41, user=50, minor=60)
    fake.reap(42)
    watched.read()
    fake.reap(41)
    assert used(watched)[0] == 0


def test_what_was_used_before_a_process_joined_does_not_count(fake, watch):
    fake.spawn(40, comm="sh")
    watched = watch(group("app", comm="app"))
    watched.read()
    fake.use(40, user=50, read=999)
    watched.read()
    fake.change(40, comm="app")
    fake.use(40, user=1, read=1)
    assert used(watched) == (1, 0, 0, 0, 0, 0, 0, 0)
    fake.use(40, read=1)
    assert used(watched)[4] == 1


def test_what_was_used_out_of_the_group_does_not_count(fake, watch):
    fake.spawn(40, comm="app", read=10)
    watched = watch(group("app", comm="app"))
    watched.read()
    fake.change(40, comm="sh")
    watched.read()
    fake.use(40, read=1000, voluntary=50)
    watched.read()
    fake.change(40, comm="app")
    assert used(watched) == (0, 0, 0, 0, 0, 0, 0, 0)


def test_growth_between_two_readings_goes_to_the_group_of_the_second(fake, watch):
    fake.spawn(40, comm="a")
    watched = watch(group("{comm}"))
    watched.read()
    fake.change(40, comm="b")
    fake.use(40, user=8, written=16)
    groups = watched.read()
    assert (groups["a"].used[0], groups["b"].used[0], groups["b"].used[5]) == (0, 8, 16)


def test_figures_that_fall_count_nothing_and_are_not_made_up_for(fake, app):
    fake.use(40, user=10, read=100)
    app.read()
    fake.use(40, user=-5, read=-50)
    assert used(app)[0] == 10
    fake.use(40, read=50)
    assert used(app)[4] == 100


def test_a_process_that_goes_between_the_listing_and_its_read_is_no_error(fake, app, monkeypatch):
    fake.spawn(41, parent=40, comm="worker", user=6)
    fake.spawn(42, parent=40, comm="worker", user=1)
    app.read()
    listed = os.listdir(fake.proc)
    fake.reap(41)
    monkeypatch.setattr("novel_agent.inputs.process.table.os.listdir", lambda path: [*listed, "43"])
    groups = app.read()
    assert (groups["app"].processes, groups["app"].used[0]) == (2, 7)
    assert (app.reading.read_errors, app.missing()) == (0, {})
    monkeypatch.undo()
    fake.spawn(44, parent=40, user=5, minor=10)
    fake.reap(44)
    assert used(app)[0] == 12


def test_a_child_waited_for_after_its_parent_was_read_counts_once(fake, app, monkeypatch):
    fake.spawn(41, parent=40, comm="worker", user=6, minor=10, read=30)
    app.read()
    listed = os.listdir(fake.proc)
    child = fake.remove(41)
    monkeypatch.setattr("novel_agent.inputs.process.table.os.listdir", lambda path: listed)
    assert used(app)[0] == 6
    monkeypatch.undo()
    fake.alive[40].children = [child.user + 2, 0, child.minor, 0]
    fake.use(40, read=child.read)
    assert used(app) == (8, 0, 10, 0, 30, 0, 0, 0)


def test_garbage_is_counted_and_the_last_figures_stand(fake, app):
    fake.use(40, user=5)
    app.read()
    for garbage in (b"40 (app", b"\xff" * 50, b"40 (app) S one two\n"):
        (fake.proc / "40" / "stat").write_bytes(garbage)
        groups = app.read()
        assert (groups["app"].processes, groups["app"].used[0]) == (1, 5)
    assert app.reading.read_errors == 3
    assert app.missing() == {("stat", "unparsable"): 1}
    fake.use(40, user=2)
    assert used(app)[0] == 7
    assert app.missing() == {}


def test_a_process_that_could_not_be_read_at_first_is_not_newborn_later(fake, app):
    fake.spawn(41, comm="app", user=9000)
    stat = (fake.proc / "41" / "stat").read_bytes()
    (fake.proc / "41" / "stat").write_bytes(b"garbage")
    app.read()
    (fake.proc / "41" / "stat").write_bytes(stat)
    assert used(app)[0] == 0
    fake.use(41, user=1)
    assert used(app)[0] == 1


def test_a_process_that_did_not_run_is_not_read(fake, watch):
    fake.spawn(40, comm="app", schedstat="1000 5 1\n")
    watched = watch(group("app", comm="app"))
    for _ in range(4):
        watched.read()
    fake.change(40, user=3, read=100)
    assert used(watched)[0] == 0
    fake.change(40, schedstat="2000 5 2\n")
    assert used(watched)[:5] == (3, 0, 0, 0, 100)


def test_memory_taken_from_an_idle_process_is_seen(fake, watch):
    fake.spawn(40, comm="app", schedstat="1000 5 1\n")
    watched = watch(group("app", comm="app"))
    for _ in range(4):
        watched.read()
    fake.change(40, resident=100, swapped_kb=1600)
    reading = watched.read()["app"]
    assert (reading.resident_pages, reading.swapped_bytes) == (100, 1_638_400)


def test_an_idle_orphan_is_read_again_so_its_parent_is_known(fake, watch):
    fake.spawn(1, parent=0, comm="init", start=1, schedstat="1 1 1\n")
    fake.spawn(40, comm="sh", schedstat="1 1 1\n")
    fake.spawn(41, parent=40, comm="x", schedstat="1 1 1\n")
    watched = watch(group("app", comm="app"))
    for _ in range(3):
        watched.read()
    fake.reap(40)
    watched.read()
    fake.spawn(40, comm="app", start=300_000)
    assert watched.read()["app"].processes == 1

from fake_proc import group

from novel_agent.inputs.process import groups as groups_module


def test_what_members_hold_is_summed(fake, watch):
    fake.spawn(40, state="R", start=5_000, threads=1, resident=10, virtual=1000, swapped_kb=2, files=4, limit="8")
    fake.spawn(41, state="S", start=4_000, threads=1, resident=20, virtual=2000, swapped_kb=3, files=1, limit="100")
    fake.spawn(42, state="D", start=6_000, files=0, limit="unlimited")
    fake.spawn(43, state="Z", resident=0)
    fake.spawn(44, state="T")
    reading = watch(group("g")).read()["g"]
    assert (reading.processes, reading.threads, reading.oldest_start) == (5, 5, 4_000)
    assert (reading.resident_pages, reading.virtual_bytes, reading.swapped_bytes) == (1030, 24_003_000, 5120)
    assert reading.states == (1, 1, 1, 1, 1)
    assert (reading.descriptors, reading.worst_descriptor_ratio) == (11, 0.5)


def test_a_group_of_a_plain_name_is_shown_without_a_process(fake, watch):
    reading = watch(group("g", comm="absent")).read()["g"]
    assert (reading.processes, reading.used, reading.descriptors, reading.swapped_bytes) == (0, (0,) * 8, 0, 0)
    assert (reading.oldest_start, reading.worst_descriptor_ratio, reading.proportional_bytes) == (None, None, None)
    assert not reading.knows_io


def test_functions_waited_in_are_counted(fake, watch):
    fake.spawn(40, wchan="do_wait")
    fake.spawn(41, wchan="do_wait")
    fake.spawn(42, wchan="0")
    fake.spawn(43, wchan="do_epoll_wait", state="R")
    assert watch(group("g")).read()["g"].wchans == (("do_wait", 2),)


def test_functions_beyond_a_hundred_are_one(fake, watch):
    for number in range(103):
        fake.spawn(1000 + number, wchan=f"f{number:03}", files=0)
    fake.spawn(2000, wchan="f102", files=0)
    wchans = dict(watch(group("g")).read()["g"].wchans)
    assert (len(wchans), wchans["other"], wchans["f102"], sum(wchans.values())) == (101, 3, 2, 104)


def test_the_open_files_limit_is_read_again_after_a_minute(fake, watch, clock):
    fake.spawn(40, files=8, limit="16")
    watched = watch(group("g"))
    assert watched.read()["g"].worst_descriptor_ratio == 0.5
    fake.change(40, limit="8")
    clock.seconds += 59
    assert watched.read()["g"].worst_descriptor_ratio == 0.5
    clock.seconds += 1
    assert watched.read()["g"].worst_descriptor_ratio == 1.0


def spread(fake) -> None:
    for pid, comm, user, resident in ((40, "a", 9, 1), (41, "b", 5, 90), (42, "c", 7, 2), (43, "d", 3, 5)):
        fake.spawn(pid, comm=comm, user=user, resident=resident)


def test_top_keeps_most_time_and_most_memory_and_folds_the_rest(fake, watch):
    spread(fake)
    watched = watch(group("{comm}", top=1))
    shown = watched.read()
    assert set(shown) == {"a", "b", "other"}, "nobody used time yet: most time behind them"
    fake.use(42, user=5)
    fake.use(40, user=2)
    fake.use(43, user=1)
    shown = watched.read()
    assert {name: reading.used[0] for name, reading in shown.items()} == {"b": 0, "c": 5, "other": 3}
    assert (shown["other"].processes, shown["other"].resident_pages) == (2, 6)


def test_no_series_of_a_fold_ever_falls_and_every_tick_is_in_one(fake, watch):
    spread(fake)
    watched = watch(group("{comm}", top=1))
    watched.read()
    last: dict[str, int] = {}
    total = 0
    for turn in range(20):
        for pid in fake.alive:
            growth = (pid * 7 + turn * turn) % 11
            fake.use(pid, user=growth)
            total += growth
        shown = {name: reading.used[0] for name, reading in watched.read().items()}
        assert all(value >= last.get(name, 0) for name, value in shown.items())
        last |= shown
        assert sum(last.values()) == total
    assert set(last) > {"a", "c", "other"}


def test_a_group_that_comes_back_goes_on_from_where_it_was_shown(fake, watch):
    fake.spawn(40, comm="a", resident=1)
    fake.spawn(41, comm="b", resident=1)
    fake.spawn(42, comm="big", resident=100)
    watched = watch(group("{comm}", top=1))
    watched.read()
    used = []
    for growth in ({40: 10}, {41: 20, 40: 1}, {40: 30}):
        for pid, ticks in growth.items():
            fake.use(pid, user=ticks)
        used.append({name: reading.used[0] for name, reading in watched.read().items() if name != "big"})
    assert used == [{"a": 10, "other": 0}, {"b": 20, "other": 1}, {"a": 40, "other": 1}]


def test_other_is_not_there_where_all_are_shown(fake, watch):
    spread(fake)
    assert set(watch(group("{comm}", top=4)).read()) == {"a", "b", "c", "d"}


def test_a_plain_name_is_never_folded(fake, watch):
    spread(fake)
    fake.use(40, user=100)
    shown = watch(group("d", comm="d"), group("{comm}", top=1)).read()
    assert set(shown) == {"d", "a", "b", "other"}


def test_a_group_named_by_its_processes_is_put_away_after_five_minutes(fake, watch, clock):
    fake.spawn(40, comm="a")
    fake.spawn(41, comm="b")
    watched = watch(group("{comm}"))
    watched.read()
    fake.use(40, user=7)
    watched.read()
    fake.remove(40)
    assert watched.read()["a"].used[0] == 7
    clock.seconds += 299
    assert watched.read()["a"].processes == 0
    clock.seconds += 1
    watched.read()
    assert set(watched.read()) == {"b"}


def pass_five_minutes(watched, clock) -> None:
    watched.read()
    clock.seconds += 300
    watched.read()


def test_a_group_that_comes_back_after_five_minutes_goes_on_counting(fake, watch, clock):
    """Whatever it used by then: a counter that starts again is told by a fall only, and 7 after 7 is none."""
    watched = watch(group("{comm}"))
    watched.read()
    for turn, ticks in enumerate((7, 7, 9, 2)):
        fake.spawn(40, comm="a", start=100_000 + turn, user=ticks, written=ticks)
        used = watched.read()["a"].used
        fake.remove(40)
        pass_five_minutes(watched, clock)
        if turn % 2:
            assert "a" not in watched.read()
    assert (used[0], used[5]) == (25, 25)


def test_other_goes_on_counting_like_the_rest(fake, watch, clock):
    for pid, comm in ((40, "a"), (41, "b")):
        fake.spawn(pid, comm=comm, resident=100 * pid)
    watched = watch(group("{comm}", top=1))
    watched.read()
    fake.use(40, user=4)
    fake.use(41, user=9)
    assert watched.read()["other"].used[0] == 4
    fake.remove(40)
    pass_five_minutes(watched, clock)
    assert set(watched.read()) == {"b"}
    fake.spawn(40, comm="a", user=1, start=100_001)
    fake.use(41, user=2)
    assert watched.read()["other"].used[0] == 5


def test_what_is_kept_of_groups_put_away_is_bounded(fake, watch, clock, monkeypatch):
    monkeypatch.setattr(groups_module, "MOST_PUT_AWAY", 1)
    watched = watch(group("{comm}"))
    watched.read()
    for pid, comm in ((40, "a"), (41, "b")):
        fake.spawn(pid, comm=comm, user=7)
        watched.read()
        fake.remove(pid)
        pass_five_minutes(watched, clock)
    fake.spawn(40, comm="a", user=1, start=100_001)
    fake.spawn(41, comm="b", user=1, start=100_001)
    assert {name: reading.used[0] for name, reading in watched.read().items()} == {"a": 1, "b": 8}


def test_other_is_put_away_like_the_rest(fake, watch, clock):
    spread(fake)
    watched = watch(group("{comm}", top=1))
    assert "other" in watched.read()
    for pid in (42, 43):
        fake.remove(pid)
    for _ in range(3):
        clock.seconds += 200
        watched.read()
    assert set(watched.read()) == {"a", "b"}


def test_groups_beyond_the_cap_are_one_and_counted(fake, watch, monkeypatch):
    monkeypatch.setattr(groups_module, "MOST_GROUPS", 3)
    for pid in range(40, 46):
        fake.spawn(pid, comm=f"c{pid}", start=pid)
    watched = watch(group("{comm}"))
    assert {name: reading.processes for name, reading in watched.read().items()} == {
        "c40": 1,
        "c41": 1,
        "c42": 1,
        "other": 3,
    }
    assert watched.reading.overflowed == 3
    fake.use(44, user=5)
    fake.change(45, comm="renamed")
    shown = watched.read()
    assert (shown["other"].used[0], watched.reading.overflowed) == (5, 3)


def test_two_rules_of_one_name_are_one_group(fake, watch):
    fake.spawn(40, comm="a")
    fake.spawn(41, comm="b")
    watched = watch(group("g", comm="a"), group("g", comm="b"))
    assert {name: reading.processes for name, reading in watched.read().items()} == {"g": 2}


def thread(fake, pid: int, tid: int, **figures) -> None:
    """One thread below a process: the same files, one level down."""
    (fake.proc / str(pid) / "task").mkdir(exist_ok=True)
    owner = type(fake.alive[pid])
    owner(fake.proc / str(pid) / "task" / str(tid), tid, **figures).write()


def test_threads_are_counted_by_name(fake, watch):
    fake.spawn(40, threads=3, voluntary=100)
    thread(fake, 40, 40, comm="main", user=50, start=100_000, voluntary=100)
    thread(fake, 40, 41, comm="pool", user=10, start=100_001, voluntary=5)
    thread(fake, 40, 42, comm="pool", user=20, start=100_001, wchan="futex_wait_queue")
    watched = watch(group("g", threads=True))
    assert [(t.name, t.alive, t.used[0]) for t in watched.read()["g"].named_threads] == [("main", 1, 0), ("pool", 2, 0)]
    fake.use(40, voluntary=1)
    thread(fake, 40, 41, comm="pool", user=14, start=100_001, voluntary=9)
    thread(fake, 40, 43, comm="pool", user=3, start=100_009, read=64)
    reading = watched.read()["g"]
    main, pool = reading.named_threads
    assert (main.used, main.alive) == ((0,) * 8, 1)
    assert (pool.used, pool.alive) == ((7, 0, 0, 0, 64, 0, 4, 0), 3)
    assert reading.used[6] == 5, "switches of the first thread and of the others"


def test_threads_count_as_process_exporter_counts_them(fake, watch):
    """The process once and each of its threads once, also where they are not shown by name."""
    fake.spawn(39, state="S", wchan="do_wait")
    fake.spawn(40, threads=2, state="S", wchan="do_epoll_wait")
    thread(fake, 40, 40, state="S", wchan="do_epoll_wait")
    thread(fake, 40, 41, state="D", wchan="futex_wait_queue", voluntary=3)
    watched = watch(group("g"))
    reading = watched.read()["g"]
    assert (reading.processes, reading.threads, reading.states) == (2, 3, (0, 3, 1, 0, 0))
    assert dict(reading.wchans) == {"do_epoll_wait": 2, "do_wait": 1, "futex_wait_queue": 1}
    assert reading.named_threads == ()
    thread(fake, 40, 41, state="R", wchan="0", voluntary=10)
    fake.use(40, voluntary=2)
    assert watched.read()["g"].used[6] == 9


def test_a_process_that_moves_to_a_rule_with_threads_counts_no_bytes_of_before(fake, watch):
    fake.spawn(40, comm="a", threads=2)
    thread(fake, 40, 40, read=5000)
    thread(fake, 40, 41, read=7000)
    watched = watch(group("a", comm="a"), group("b", comm="b", threads=True))
    watched.read()
    fake.change(40, comm="b")
    watched.read()
    thread(fake, 40, 41, read=7010)
    assert [t.used[4] for t in watched.read()["b"].named_threads] == [10]


def test_counts_of_ended_threads_stay_and_a_reused_id_is_another_thread(fake, watch):
    fake.spawn(40, threads=2)
    thread(fake, 40, 40, comm="main")
    thread(fake, 40, 41, comm="pool", user=10, start=1)
    watched = watch(group("g", threads=True))
    watched.read()
    thread(fake, 40, 41, comm="pool", user=12, start=1)
    watched.read()
    thread(fake, 40, 41, comm="pool", user=5, start=2)
    assert [t.used[0] for t in watched.read()["g"].named_threads] == [0, 7]


def test_a_process_with_one_thread_has_no_thread_series(fake, watch):
    fake.spawn(40)
    thread(fake, 40, 40)
    assert watch(group("g", threads=True)).read()["g"].named_threads == ()


def test_thread_names_are_capped_and_forgotten(fake, watch, clock, monkeypatch):
    monkeypatch.setattr(groups_module, "MOST_NAMES", 2)
    fake.spawn(40, threads=4)
    for tid, name in ((40, "a"), (41, "b"), (42, "c"), (43, "d")):
        thread(fake, 40, tid, comm=name)
    watched = watch(group("g", threads=True))
    alive = {t.name: t.alive for t in watched.read()["g"].named_threads}
    assert (alive["other"], sum(alive.values()), len(alive)) == (2, 4, 3)
    fake.remove(40)
    watched.read()
    clock.seconds += 300
    watched.read()
    assert watched.read()["g"].named_threads == ()


def test_a_thread_that_cannot_be_read_is_not_counted_anew(fake, watch):
    fake.spawn(40, threads=2)
    thread(fake, 40, 40, comm="main")
    thread(fake, 40, 41, comm="pool", user=1000)
    watched = watch(group("g", threads=True))
    watched.read()
    (fake.proc / "40" / "task" / "41" / "status").write_text("garbage")
    watched.read()
    thread(fake, 40, 41, comm="pool", user=1001)
    assert [t.used[0] for t in watched.read()["g"].named_threads] == [0, 1]


def test_threads_that_cannot_be_listed_once_are_not_counted_anew(fake, watch):
    fake.spawn(40, threads=2)
    thread(fake, 40, 40)
    thread(fake, 40, 41, voluntary=5000)
    watched = watch(group("g"))
    watched.read()
    (fake.proc / "40" / "task").rename(fake.proc / "40" / "hidden")
    watched.read()
    (fake.proc / "40" / "hidden").rename(fake.proc / "40" / "task")
    thread(fake, 40, 41, voluntary=5002)
    assert watched.read()["g"].used[6] == 2


def test_an_idle_thread_is_not_read(fake, watch):
    fake.spawn(40, threads=2)
    thread(fake, 40, 40, comm="main", schedstat="1 1 1\n")
    thread(fake, 40, 41, comm="pool", schedstat="1 1 1\n")
    watched = watch(group("g", threads=True))
    watched.read()
    thread(fake, 40, 41, comm="pool", user=9, schedstat="1 1 1\n")
    assert [t.used[0] for t in watched.read()["g"].named_threads] == [0, 0]
    thread(fake, 40, 41, comm="pool", user=9, schedstat="2 1 2\n")
    assert [t.used[0] for t in watched.read()["g"].named_threads] == [0, 9]

import pytest
from fake_proc import group

from novel_agent.inputs.process import proportional


@pytest.fixture
def reads(monkeypatch):
    """Ids of the processes whose smaps_rollup was read, in order."""
    ids: list[int] = []
    real = proportional.ProportionalMemory._read

    def counted(self, process):
        ids.append(process.pid)
        return real(self, process)

    monkeypatch.setattr(proportional.ProportionalMemory, "_read", counted)
    return ids


def test_proportional_memory_is_summed(fake, watch):
    fake.spawn(40, pss_kb=100)
    fake.spawn(41, pss_kb=23)
    fake.kernel_thread(9, "kswapd0")
    reading = watch(group("g")).read()["g"]
    assert (reading.proportional_bytes, reading.proportional_swapped_bytes) == (125_952, 0)


def test_a_small_process_is_measured_at_every_reading(fake, watch, reads):
    fake.spawn(40, resident=100, pss_kb=1)
    watched = watch(group("g"))
    for _ in range(3):
        watched.read()
    fake.change(40, pss_kb=2)
    assert watched.read()["g"].proportional_bytes == 2048
    assert reads == [40] * 4


def test_larger_processes_are_measured_less_often(fake, watch, reads):
    fake.spawn(40, resident=1_000)
    fake.spawn(41, resident=160_000)
    watched = watch(group("g"))
    for _ in range(40):
        watched.read()
    assert (reads.count(40), reads.count(41)) == (40, 4)


def test_a_reading_spends_no_more_than_its_share(fake, watch, reads):
    for pid in range(100, 300):
        fake.spawn(pid, resident=2_000, files=0)
    watched = watch(group("g"))
    per_reading = []
    for _ in range(60):
        before = len(reads)
        watched.read()
        per_reading.append(len(reads) - before)
    cost = 2_000 + proportional.FIXED_PAGES
    assert sum(per_reading[:2]) >= 200
    assert max(per_reading) * cost <= proportional.FIRST_PAGES_A_READING + cost
    assert max(per_reading[2:]) * cost <= proportional.PAGES_A_READING + cost
    assert all(reads.count(pid) >= 3 for pid in range(100, 300)), "everyone has a turn"


def test_a_sum_is_not_shown_before_it_is_whole(fake, watch):
    fake.spawn(40, resident=proportional.FIRST_PAGES_A_READING, pss_kb=4)
    fake.spawn(41, resident=10, pss_kb=5)
    watched = watch(group("g"))
    assert watched.read()["g"].proportional_bytes is None
    assert watched.read()["g"].proportional_bytes == 9216


def test_a_group_may_go_without(fake, watch, reads):
    fake.spawn(40)
    assert watch(group("g", smaps=False)).read()["g"].proportional_bytes is None
    assert reads == []


def test_the_dead_have_no_turn(fake, watch, reads):
    fake.spawn(40)
    watched = watch(group("g"))
    watched.read()
    fake.remove(40)
    for _ in range(3):
        watched.read()
    assert reads == [40]


def test_a_process_that_leaves_and_comes_back_is_measured_once_a_turn(fake, watch, reads):
    fake.spawn(40, comm="app", resident=100)
    watched = watch(group("app", comm="app"))
    watched.read()
    fake.change(40, comm="sh")
    watched.read()
    assert reads == [40]
    fake.change(40, comm="app")
    for _ in range(3):
        watched.read()
    assert reads == [40] * 4


def test_a_process_without_memory_is_not_read(fake, watch, reads):
    fake.spawn(40, state="Z", resident=0)
    assert watch(group("g")).read()["g"].proportional_bytes == 0
    assert reads == []

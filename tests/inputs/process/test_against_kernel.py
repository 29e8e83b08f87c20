"""Real processes, with psutil as the judge."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from fake_proc import Watched, group

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.process import ProcessGroups

WORKER = """
import ctypes, os, sys, threading, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def forked(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid

kept = []
for line in sys.stdin:
    command, _, argument = line.strip().partition(" ")
    if command == "burn":
        burn(float(argument))
    elif command == "threads":
        for number in range(int(argument)):
            kept.append(threading.Thread(target=threading.Event().wait, daemon=True))
            kept[-1].start()
    elif command == "open":
        kept += [open(os.devnull) for _ in range(int(argument))]
    elif command == "memory":
        kept.append(b"x" * int(argument))
    elif command == "write":
        with open(argument, "wb") as file:
            file.write(b"x" * 65536)
            os.fsync(file.fileno())
    elif command == "fork-and-wait":
        os.waitpid(forked(lambda: burn(float(argument))), 0)
    elif command == "churn":
        for number in range(int(argument)):
            os.waitpid(forked(lambda: burn(number % 3 / 100)), 0)
    elif command == "fork":
        kept.append(forked(lambda: (burn(float(argument)), time.sleep(600))))
    elif command == "end-child":
        os.kill(kept[-1], 9)
        os.waitpid(kept.pop(), 0)
    elif command == "exec":
        os.execv(sys.executable, [sys.executable, "-c", argument, "executed-worker"])
    print("done", flush=True)
"""


class Worker:
    """A process that does what it is told, and says when it is done."""

    def __init__(self, mark: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, mark], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def is_done(self, timeout_seconds: float = 0) -> bool:
        return bool(select.select([self.process.stdout], [], [], timeout_seconds)[0])

    def __call__(self, command: str) -> None:
        self.start(command)
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def mark(tmp_path) -> str:
    return f"worker-of-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def worker(mark: str) -> Iterator[Worker]:
    made = Worker(mark)
    made("burn 0")
    descendants = psutil.Process(made.process.pid).children
    try:
        yield made
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in descendants(recursive=True):
                child.kill()
        made.process.kill()
        made.process.communicate()


@pytest.fixture
def kernel_watch() -> Iterator[Any]:
    made: list[ProcessGroups] = []

    def make(*groups, **options) -> Watched:
        made.append(ProcessGroups(Kernel(), groups, **options))
        return Watched(made[-1])

    yield make
    for collector in made:
        collector.close()


def test_agrees_with_psutil(worker, mark, kernel_watch):
    watched = kernel_watch(group("workers", cmdline=mark))
    worker("threads 4")
    worker("open 25")
    worker("memory 3000000")
    oracle = psutil.Process(worker.process.pid)
    reading = watched.read()["workers"]
    memory = oracle.memory_full_info()
    assert (reading.processes, reading.threads, reading.descriptors) == (1, 5, oracle.num_fds())
    assert reading.resident_pages * os.sysconf("SC_PAGE_SIZE") == pytest.approx(memory.rss, rel=0.05)
    assert reading.virtual_bytes == memory.vms
    assert reading.proportional_bytes == pytest.approx(memory.pss, rel=0.2)
    assert watched.reading.boot_seconds + reading.oldest_start / 100 == pytest.approx(oracle.create_time(), abs=1.5)
    assert sum(reading.states) == 1 + 5
    assert reading.worst_descriptor_ratio == oracle.num_fds() / oracle.rlimit(psutil.RLIMIT_NOFILE)[0]


def test_counters_advance_as_psutils(worker, mark, kernel_watch, tmp_path):
    watched = kernel_watch(group("workers", cmdline=mark))
    oracle = psutil.Process(worker.process.pid)
    watched.read()
    times, switches, io = oracle.cpu_times(), oracle.num_ctx_switches(), oracle.io_counters()
    worker("burn 0.2")
    worker(f"write {tmp_path / 'file'}")
    used = watched.read()["workers"].used
    assert used[0] + used[1] == pytest.approx(100 * (sum(oracle.cpu_times()[:2]) - sum(times[:2])), abs=2)
    assert used[0] + used[1] >= 18
    assert used[5] == oracle.io_counters().write_bytes - io.write_bytes
    assert used[6] == pytest.approx(oracle.num_ctx_switches().voluntary - switches.voluntary, abs=5)


def test_children_that_came_and_went_count_once(worker, mark, kernel_watch):
    watched = kernel_watch(group("workers", cmdline=mark))
    watched.read()
    worker("fork-and-wait 0.2")
    unseen = watched.read()["workers"]
    assert unseen.processes == 1
    assert 18 <= unseen.used[0] + unseen.used[1] <= 40
    worker("fork 0.2")
    deadline = time.monotonic() + 20
    while (seen := watched.read()["workers"]).used[0] + seen.used[1] < unseen.used[0] + unseen.used[1] + 18:
        assert time.monotonic() < deadline
    assert seen.processes == 2
    worker("end-child")
    after = watched.read()["workers"]
    assert after.processes == 1
    assert sum(after.used[:2]) - sum(seen.used[:2]) <= 3, "not counted a second time in its parent"


def test_no_tick_is_lost_or_doubled_however_readings_fall(worker, mark, kernel_watch):
    watched = kernel_watch(group("workers", cmdline=mark))
    oracle = psutil.Process(worker.process.pid)
    last = watched.read()["workers"].used
    before = oracle.cpu_times()
    worker.start("churn 60")
    while not worker.is_done(0.007):
        used = watched.read()["workers"].used
        assert all(now >= then for now, then in zip(used, last, strict=True))
        last = used
    used = watched.read()["workers"].used
    assert used[0] + used[1] == pytest.approx(100 * (sum(oracle.cpu_times()[:4]) - sum(before[:4])), abs=4)


def test_an_exec_of_the_same_program_is_noticed(worker, mark, kernel_watch):
    watched = kernel_watch(group("executed", cmdline="executed-worker$"), group("workers", cmdline=mark))
    assert watched.read()["workers"].processes == 1
    worker("exec import sys; print('done', flush=True); sys.stdin.read()")
    shown = watched.read()
    assert (shown["workers"].processes, shown["executed"].processes) == (0, 1)


def test_threads_are_those_of_the_kernel(worker, mark, kernel_watch):
    watched = kernel_watch(group("workers", cmdline=mark, threads=True))
    watched.read()
    worker("threads 6")
    worker("burn 0.1")
    (named,) = watched.read()["workers"].named_threads
    assert named.alive == 7
    assert 0 <= named.used[0] + named.used[1] <= 30


def test_a_process_that_ends_while_it_is_read_is_no_error(worker, mark, kernel_watch, monkeypatch):
    watched = kernel_watch(group("workers", cmdline=mark))
    for _ in range(3):
        before = watched.read()["workers"]
    listed = os.listdir("/proc")
    worker.process.kill()
    worker.process.wait()
    monkeypatch.setattr("novel_agent.inputs.process.table.os.listdir", lambda path: listed)
    for _ in range(2):
        after = watched.read()["workers"]
        assert after.processes == 0
        assert all(now >= then for now, then in zip(after.used, before.used, strict=True))
        monkeypatch.undo()
    assert watched.reading.read_errors == 0


def test_a_sleeping_process_is_not_read_and_a_woken_one_is(worker, mark, kernel_watch):
    watched = kernel_watch(group("workers", cmdline=mark))
    table = watched.collector._table
    process = None
    for _ in range(100):
        watched.read()
        process = table.processes[str(worker.process.pid)]
        if not process.ran:
            break
    assert process is not None
    assert not process.ran
    worker("burn 0")
    watched.read()
    assert process.ran


def test_a_whole_machine_is_read_without_an_error(kernel_watch):
    watched = kernel_watch(group("{comm}", threads=True), handle_limit=50)
    for _ in range(2):
        shown = watched.read()
    counted = sum(reading.processes for reading in shown.values())
    assert abs(counted - len(psutil.pids())) <= 20
    assert watched.reading.read_errors == 0
    assert watched.reading.scrape_errors == 0

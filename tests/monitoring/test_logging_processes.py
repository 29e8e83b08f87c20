"""Several processes that write, rotate, fork and are killed: real files, real processes."""

import collections
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

WRITER = """
import sys, time
from monitoring.structured_logging import LoggingConfig, setup_structured_logging
directory, number, count, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
logger = setup_structured_logging(LoggingConfig(
    log_directory=directory, enable_console=False, max_file_size=30_000, backup_count=100_000, queue_lines=1_000_000,
    queue_bytes=1 << 30))
print("ready", flush=True)
for n in range(count):
    logger.info("written", writer=number, n=n, filler="x" * (n % 300))
    if pause and n % 50 == 0:
        time.sleep(pause)
"""


def start(directory, number, count, pause=0.0):
    command = [sys.executable, "-c", WRITER, str(directory), str(number), str(count), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def ended(process):
    """Its exit status, once it is over."""
    process.communicate(timeout=60)
    return process.returncode


def lines(directory, name="novel-engine.log"):
    """Of every file that was ever called so; each must be valid and whole."""
    found = []
    for path in directory.iterdir():
        if path.name.startswith(name):
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert content == b"" or content.endswith(b"\n"), path
            found += [json.loads(line) for line in content.splitlines()]
    return found


def numbers(directory):
    by_writer = collections.defaultdict(list)
    for line in lines(directory):
        by_writer[line["attributes"]["writer"]].append(line["attributes"]["n"])
    return {writer: sorted(ns) for writer, ns in by_writer.items()}


def test_four_processes_rotate_the_same_file_and_every_line_is_there_once(tmp_path):
    processes = [start(tmp_path, number, 3000, 0.01) for number in range(4)]
    assert [ended(process) for process in processes] == [0, 0, 0, 0]
    assert numbers(tmp_path) == {number: list(range(3000)) for number in range(4)}
    rotated = [path for path in tmp_path.iterdir() if path.name.startswith("novel-engine.log.")]
    assert len(rotated) > 50
    assert any(path.suffix == ".gz" for path in rotated)


@pytest.mark.parametrize("seed", [1, 2])
def test_writers_that_are_killed_leave_no_torn_line_no_gap_and_no_lock(tmp_path, seed):
    draw = random.Random(seed)
    lasting = [start(tmp_path, number, 3000, 0.005) for number in range(2)]
    for number in range(10, 16):
        victim = start(tmp_path, number, 1_000_000)
        victim.stdout.readline()
        time.sleep(draw.uniform(0.02, 0.2))
        victim.send_signal(signal.SIGKILL)
        ended(victim)
    assert [ended(process) for process in lasting] == [0, 0]
    last = start(tmp_path, 99, 1)
    assert ended(last) == 0
    found = numbers(tmp_path)
    assert found.pop(0) == found.pop(1) == list(range(3000))
    assert found.pop(99) == [0]
    for ns in found.values():
        assert ns == list(range(len(ns)))


def test_a_process_that_is_stopped_with_the_lock_stops_nobody_else(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()",
            str(tmp_path / ".novel-engine.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    assert ended(start(tmp_path, 1, 10)) == 0
    holder.communicate(b"")
    assert numbers(tmp_path) == {1: list(range(10))}


FORKING = """
import os, sys
from monitoring.structured_logging import LoggingConfig, setup_structured_logging
logger = setup_structured_logging(LoggingConfig(log_directory=sys.argv[1], enable_console=False))
logger.info("parent before")
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        logger.info("child", number=number)
        sys.exit(0)
    children.append(pid)
logger.info("parent after")
for pid in children:
    os.waitpid(pid, 0)
"""


def test_across_forks_every_line_is_written_once_with_its_own_process(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING, tmp_path], check=True, timeout=30)
    found = lines(tmp_path)
    assert sorted(line["message"] for line in found) == ["child", "child", "child", "parent after", "parent before"]
    assert len({line["process_id"] for line in found}) == 4


def test_what_was_queued_before_a_fork_is_written_even_if_the_parent_ends_at_once(tmp_path):
    program = FORKING.split("children")[0] + "if os.fork():\n    os._exit(0)\nlogger.info('daemon')\n"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path], check=True, timeout=30)
    deadline = time.monotonic() + 20
    while len(found := lines(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(line["message"] for line in found) == ["daemon", "parent before"]


def test_lines_of_exit_handlers_and_of_the_last_moment_are_written(tmp_path):
    program = """
import atexit, sys
from monitoring import structured_logging as s
atexit.register(lambda: s.get_logger("novel-engine").info("registered before"))
logger = s.setup_structured_logging(s.LoggingConfig(log_directory=sys.argv[1], enable_console=False))
atexit.register(lambda: logger.info("registered after"))
logger.info("last")
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=30)
    assert [line["message"] for line in lines(tmp_path)] == ["last", "registered after", "registered before"]


def test_nobody_reads_standard_error_and_the_application_goes_on(tmp_path):
    program = """
import sys
from monitoring.structured_logging import LoggingConfig, setup_structured_logging
logger = setup_structured_logging(LoggingConfig(log_directory=sys.argv[1], enable_console=True))
for n in range(2000):
    logger.info("x" * 200, n=n)
    if n % 500 == 0:
        logger.flush()
"""
    reading, writing = os.pipe()
    try:
        subprocess.run([sys.executable, "-c", program, tmp_path], stderr=writing, check=True, timeout=30)
    finally:
        os.close(reading)
        os.close(writing)
    assert len(lines(tmp_path)) == 2000

"""SIGKILL at a random moment under load, with fsync: nothing that a put has acknowledged is missing afterwards.

NOVEL_AGENT_SPOOL_KILLS says how often; 200 for a thorough run.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from spool_made import MIB, spool

KILLS = int(os.environ.get("NOVEL_AGENT_SPOOL_KILLS", "20"))
SUPPORT = Path(__file__).parents[1] / "support"


def killed_at_a_random_moment(directory, number, chance):
    """What a writer said until it was killed."""
    command = [sys.executable, SUPPORT / "spool_writer.py", directory, str(number * 1_000_000), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said = process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        said += process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return said.decode().splitlines()


async def left_in(directory):
    """What is in the spool, by signal and in order."""
    left = {"traces": [], "logs": []}
    async with spool(directory, 512 * MIB) as queue:
        assert queue.damaged_records <= 2
        while (lease := await queue.take()) is not None:
            left[lease.batch.signal] += [int(part.payload[:12]) for part in lease.parts]
    return left


async def test_nothing_acknowledged_is_lost(tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    acknowledged, sent = set(), set()
    for number in range(1, KILLS + 1):
        for line in killed_at_a_random_moment(tmp_path / "s", number, chance):
            what, *numbers = line.split()
            (acknowledged if what == "P" else sent).update(map(int, numbers))
    left = await left_in(tmp_path / "s")
    assert len(acknowledged) > 10 * KILLS
    assert acknowledged - sent - set(left["traces"]) - set(left["logs"]) == set()
    for numbers in left.values():
        assert numbers == sorted(set(numbers))

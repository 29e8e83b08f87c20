"""The durable queue: put, take and acknowledge batches of 43 KB.

Goal: what durability costs beside the sockets. Limits: payloads are all alike; the destination answers at once, so nearly all
is handed over from memory, except in the cases named `backlog`, which read everything back from disk, as after an outage.

Each case is a process of its own. CPU is that of all threads, user and system, so writing into the page cache is in it, and
writing back to the disk, which the kernel does later, is not. Putters wait for their acknowledgement, as receivers do, 64 at a
time or one. The floor is what the same bytes cost with one `pwritev` each, in one thread, without anything else.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import REPOSITORY, Row

PAYLOAD_BYTES = 43_000
BATCHES = 4000
_BATCHES_ALONE = 400
_CASES = ("fsync 64", "fsync 1", "os 64", "os 1", "backlog 64", "floor 1")


async def cycle(durability: str, clients: int) -> tuple[float, float, float]:
    """Microseconds of CPU a batch, batches a second, and the 99th percentile of a put in milliseconds."""
    from novel_agent.model.batch import Batch
    from novel_agent.state.spool import Spool

    batches = BATCHES if clients > 1 else _BATCHES_ALONE
    backlog = durability == "backlog"
    waits: list[float] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, ThreadPoolExecutor(4) as executor:
        spool = Spool(directory, 1 << 30, executor=executor, now=time.time)
        spool.durability = "fsync" if durability == "fsync" else "os"
        await spool.open()

        batch = Batch("traces", os.urandom(PAYLOAD_BYTES), 100)

        async def put() -> None:
            for _ in range(batches // clients):
                began = time.perf_counter()
                await spool.put(batch)
                waits.append(time.perf_counter() - began)

        async def take() -> None:
            taken = 0
            while taken < 100 * clients * (batches // clients):
                await spool.ready()
                lease = await spool.take()
                if lease is not None:
                    taken += lease.batch.items
                    spool.acknowledge(lease)
                await asyncio.sleep(0)

        if backlog:
            await asyncio.gather(*(put() for _ in range(clients)))
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(take(), *([] if backlog else [put() for _ in range(clients)]))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        await spool.close()
    return 1e6 * cpu / batches, batches / wall, 1000 * sorted(waits)[int(0.99 * len(waits))]


def floor() -> tuple[float, float, float]:
    """The same bytes, written and nothing else."""
    payload = bytes(PAYLOAD_BYTES)
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(BATCHES):
            os.pwritev(file.fileno(), [payload], number * PAYLOAD_BYTES)
        return 1e6 * (time.process_time() - cpu) / BATCHES, BATCHES / (time.perf_counter() - wall), 0.0


def case(name: str) -> tuple[float, float, float]:
    """One case, in this process."""
    import uvloop

    durability, clients = name.split()
    return floor() if durability == "floor" else uvloop.run(cycle(durability, int(clients)))


def main() -> list[tuple[str, float, float, float]]:
    """Name, microseconds of CPU a batch, batches a second, 99th percentile of a put in milliseconds."""
    rows = []
    for name in _CASES:
        command = [sys.executable, "-m", "benchmarks.micro.spool", name]
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
        microseconds, each_second, p99_ms = map(float, said.split())
        rows.append((name, microseconds, each_second, p99_ms))
    return rows


def run() -> list[Row]:
    """Every case against the floor."""
    spent = {name: microseconds for name, microseconds, _, _ in main()}
    floor_microseconds = spent.pop("floor 1")
    return [
        Row(f"spool {name}", "us CPU", microseconds, floor_microseconds, "pwritev", f"spool_{name.replace(' ', '_')}")
        for name, microseconds in spent.items()
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*case(sys.argv[1]))
    else:
        for label, microseconds, each_second, p99_ms in main():
            print(f"{label:12} {microseconds:8.1f} us CPU {each_second:8.0f} /s {p99_ms:8.1f} ms p99 of a put")

"""Puts, leases, acknowledgements, failing disks and restarts in any order: nothing is lost, nothing counted twice."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from spool_made import MIB, files_of_at_most, retry_now, spool

from novel_agent.model.batch import Batch


class Session:
    """A spool and what must be true of it."""

    def __init__(self, queue, chance, unacknowledged, moved):
        self.queue = queue
        self.chance = chance
        self.unacknowledged = unacknowledged
        self.moved = moved
        self.leases = []
        self.settled = set()

    async def put(self, number):
        payload = b"%08d" % number + bytes(self.chance.choice((0, 10, 1000, 40_000)))
        await self.queue.put(Batch(self.chance.choice(("traces", "logs")), payload, 3), wait=self.chance.random() < 0.7)
        self.unacknowledged.add(number)

    async def take(self):
        lease = await self.queue.take()
        if lease is not None:
            numbers = [int(part.payload[:8]) for part in lease.parts]
            in_order = [number for number in numbers if number not in self.moved]
            assert in_order == sorted(in_order)
            assert self.settled.isdisjoint(numbers)
            assert self.held().isdisjoint(numbers)
            self.leases.append((lease, numbers))
        return lease

    def held(self):
        return {number for _, numbers in self.leases for number in numbers}

    def acknowledge(self):
        lease, numbers = self.leases.pop(self.chance.randrange(len(self.leases)))
        assert self.queue.acknowledge(lease)
        self.settled.update(numbers)
        self.unacknowledged.difference_update(numbers)

    def give_back(self):
        lease, _ = self.leases.pop(self.chance.randrange(len(self.leases)))
        self.queue.give_back(lease)

    def end(self):
        """What was leased while the disk failed and is still in memory at the end is written behind everything else."""
        pieces = [piece for stream in self.queue._streams.values() for piece in stream._pieces]
        self.moved.update(int(batch.payload[:8]) for piece in pieces for batch in piece.batches)

    async def step(self, number):
        what = self.chance.random()
        if what < 0.4:
            await self.put(number)
        elif what < 0.65:
            await self.take()
        elif what < 0.67:
            retry_now(self.queue)
        elif what < 0.69:
            self.queue.resize(64 * MIB, self.chance.choice((1, 5000, 100_000)))
        elif self.leases:
            (self.acknowledge if what < 0.85 else self.give_back)()


async def run(directory, chance):
    unacknowledged, moved, number = set(), set(), 0
    for _ in range(4):
        async with spool(directory, 64 * MIB, request_bytes=chance.choice((1, 5000, 100_000))) as queue:
            for stream in queue._streams.values():
                stream.disk.writer.segment_bytes = 100_000
            session = Session(queue, chance, unacknowledged, moved)
            for _ in range(chance.randrange(60)):
                with files_of_at_most(chance.choice((0, 30_000, 90_000, 1 << 30, 1 << 30))):
                    for _ in range(chance.randrange(6)):
                        number += 1
                        await session.step(number)
            assert queue.items >= 3 * len(session.held())
            session.end()
    async with spool(directory, 64 * MIB) as queue:
        last = Session(queue, chance, unacknowledged, moved)
        while await last.take() is not None:
            pass
        missing = unacknowledged - last.held()
        while last.leases:
            last.acknowledge()
        assert (missing, queue.size_bytes, queue.items, queue.memory_bytes) == (set(), 0, 0, 0)
        assert (dict(queue.dropped), queue.damaged_records) == ({}, 0)


@pytest.mark.parametrize("seed", range(int(os.environ.get("NOVEL_AGENT_SPOOL_SEEDS", "40"))))
async def test_nothing_is_lost_whatever_happens_in_whatever_order(seed):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        await run(Path(directory), random.Random(seed))

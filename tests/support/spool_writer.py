"""A process that puts into a spool and takes from it until it is killed: DIRECTORY FIRST_NUMBER SEED.

Writes lines: `P n` when the put of n has returned, `D n n …` when a request with these was sent, before it is acknowledged
or given back.
"""

import asyncio
import itertools
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from novel_agent.model.batch import Batch
from novel_agent.state.queue import QueueFull
from novel_agent.state.spool import Spool

CLIENTS = 8


def say(*words: object) -> None:
    """One line, whole or not at all."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(directory: str, first: int, seed: int) -> None:
    """Put and take for ever."""
    chance = random.Random(seed)
    numbers = itertools.count(first)
    with ThreadPoolExecutor(4) as executor:
        spool = Spool(directory, 64 << 20, executor=executor, now=time.time, when_full="block", request_bytes=100_000)
        await spool.open()

        async def put() -> None:
            while True:
                number = next(numbers)
                payload = b"%012d" % number + bytes(chance.choice((0, 100, 3000, 70_000)))
                try:
                    await spool.put(Batch(chance.choice(("traces", "logs")), payload, 1))
                except QueueFull:
                    await asyncio.sleep(0.01)
                else:
                    say("P", number)

        async def take() -> None:
            while True:
                await spool.ready()
                lease = await spool.take()
                if lease is None:
                    await asyncio.sleep(0)
                    continue
                sent = [int(part.payload[:12]) for part in lease.parts]
                say("D", *sent)
                await asyncio.sleep(chance.choice((0, 0.001, 0.01)))
                if chance.random() < 0.3:
                    spool.give_back(lease)
                    continue
                spool.acknowledge(lease)

        await asyncio.gather(*(put() for _ in range(CLIENTS)), take(), take(), take())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

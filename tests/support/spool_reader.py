"""A process that drains a spool as a destination would: DIRECTORY REQUESTS_AT_A_TIME.

Writes what it found and cost: seconds to open, items, seconds to drain, KiB of resident memory before, and at its highest.
"""

import asyncio
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from novel_agent.state.spool import Spool


def resident_kib(field: str) -> int:
    """VmRSS, or VmHWM."""
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def main(directory: str, requests: int) -> None:
    """Open, drain, tell."""
    with ThreadPoolExecutor(4) as executor:
        spool = Spool(directory, 4 << 30, executor=executor, now=time.time)
        before_kib = resident_kib("VmRSS")
        began = time.perf_counter()
        await spool.open()
        opened = time.perf_counter()
        waiting, items = spool.items, 0
        while True:
            leases = [lease for _ in range(requests) if (lease := await spool.take()) is not None]
            if not leases:
                break
            items += sum(lease.batch.items for lease in leases)
            for lease in leases:
                spool.acknowledge(lease)
        drained = time.perf_counter()
        await spool.close()
    assert waiting == items
    print(opened - began, items, drained - opened, before_kib, resident_kib("VmHWM"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

"""The kernel's random number generator (drivers/char/random.c, /proc/sys/kernel/random)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family


class Entropy(HostCollector[tuple[int, int]]):
    """Bits of entropy: available, and the size of the pool. Since Linux 5.18 both are 256 once it is seeded."""

    name = "entropy"
    summary = "entropy available and size of the pool"
    prometheus = (
        Family("node_entropy_available_bits", "Bits of available entropy."),
        Family("node_entropy_pool_size_bits", "Bits of entropy pool."),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._available = self.kernel.proc_file("sys/kernel/random/entropy_avail", one_read=True)
        self._pool_size = self.kernel.proc_file("sys/kernel/random/poolsize", one_read=True)

    def read(self) -> tuple[int, int]:
        return int(self._available.read()), int(self._pool_size.read())

    def families(self, reading: tuple[int, int]) -> Sequence[Block]:
        return [self.single("prometheus", self.prometheus, reading)]

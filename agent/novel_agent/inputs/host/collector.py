"""What a host collector is.

    class LoadAverage(HostCollector[Reading]):
        name = "loadavg"
        prometheus = (…families…)          what families() may emit: node_exporter's names, labels, types and help
        otel = (…families…)                what telemetry() may emit: OpenTelemetry's system.* conventions
        read()        the kernel's bytes, parsed: the only method that touches files
        families()    the reading as node_exporter shows it; pure
        telemetry()   the same reading as OpenTelemetry names it; pure

One reading serves both, so a scrape and an export that fall together cost one read.

`read` runs in a thread of its own that is left behind when it misses its deadline, so it may block; `families` and
`telemetry` may not. A collector raises `NoData` where the host has none of its subject, `InputError`, `OSError` or
`ValueError` (content that is not as the kernel writes it) where it cannot be read; the others go on either way. It sets up
no logging, times nothing, retries nothing, schedules nothing and knows no path but through its `Kernel`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import msgspec

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.model.metric import Block, Declaration, Family, ShapeMemo

Reading = TypeVar("Reading")


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a collector that has none."""


class HostCollector(ABC, Generic[Reading]):
    """One subject of the host. Not for more than one thread at a time."""

    name: ClassVar[str]
    """As in node_exporter's `--collector.NAME` and in `host.collectors`."""

    summary: ClassVar[str]
    """One line for `plugins`, the reference and the sample configuration."""

    default_on: ClassVar[bool] = True
    optional: ClassVar[bool] = False
    """May be paused when the agent exceeds its budget."""

    Options: ClassVar[type[msgspec.Struct]] = NoOptions

    prometheus: ClassVar[tuple[Declaration, ...]] = ()
    otel: ClassVar[tuple[Declaration, ...]] = ()

    def __init__(self, kernel: Kernel, options: msgspec.Struct) -> None:
        self.kernel = kernel
        self.shapes = ShapeMemo()
        self.setup(options)

    def setup(self, options: msgspec.Struct) -> None:
        """Make the file handles (`self.kernel.proc_file(…)`); touches nothing on disk, so it cannot fail."""

    @abstractmethod
    def read(self) -> Reading:
        """One reading of the kernel, now."""

    @abstractmethod
    def families(self, reading: Reading) -> Sequence[Block]:
        """The reading under node_exporter's names. A family stands in one block only."""

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        """The reading under OpenTelemetry's names; nothing where the conventions have none for it."""
        return ()

    def close(self) -> None:
        """Give back what `read` opened; safe at any time, more than once."""
        self.kernel.close()

    def single(self, slot: str, families: Sequence[Family], values: Sequence[int | float]) -> Block:
        """A block of families that have one series without labels each."""
        return Block(self.shapes.get(slot, None, lambda: [family.series() for family in families]), values)

"""Interrupts, context switches, forks and boot time from /proc/stat (Documentation/filesystems/proc.rst, section 1.7)."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

_VECTORS = ("hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu")
_FIELDS = (b"ctxt", b"processes", b"btime", b"procs_running", b"procs_blocked")

PLAIN = (
    Family("node_intr_total", "Total number of interrupts serviced.", "counter"),
    Family("node_context_switches_total", "Total number of context switches.", "counter"),
    Family("node_forks_total", "Total number of forks.", "counter"),
    Family("node_boot_time_seconds", "Node boot time, in unixtime."),
    Family("node_procs_running", "Number of processes in runnable state."),
    Family("node_procs_blocked", "Number of processes blocked waiting for I/O to complete."),
)
SOFTIRQS = Family("node_softirqs_total", "Number of softirq calls.", "counter", ("vector",))

CREATED = Family(
    "system.process.created",
    "Total number of processes created over uptime of the host",
    "counter",
    unit="{process}",
)
UPTIME = Family("system.uptime", "The time the system has been running", "gauge", unit="s")


class StatOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is shown beside the totals."""

    softirq: Annotated[bool, Meta(description="Also show how often each kind of softirq ran.")] = False


class Totals(NamedTuple):
    """Counts since boot, the boot time in seconds since the epoch, and processes now."""

    interrupts: int
    context_switches: int
    forks: int
    boot_time_seconds: int
    running: int
    blocked: int


class Reading(NamedTuple):
    """`softirqs` in the order of the kernel's vectors, () unless asked for; None for an unknown uptime."""

    totals: Totals
    softirqs: tuple[int, ...]
    uptime_seconds: float | None


def parse(data: bytes) -> Totals:
    """The lines that are not of a CPU. ValueError where one is missing or not a number."""
    start = data.index(b"\nintr ") + 6
    rest = data[data.index(b"\nctxt ", start) :].split()
    fields = dict(zip(rest[:10:2], rest[1:10:2], strict=False))
    try:
        switches, forks, boot_time, running, blocked = [int(fields[field]) for field in _FIELDS]
    except KeyError as missing:
        raise ValueError(f"/proc/stat lacks {missing}") from None
    interrupts = int(data[start : start + 21].split(None, 1)[0])
    return Totals(interrupts, switches, forks, boot_time, running, blocked)


def parse_softirqs(data: bytes) -> tuple[int, ...]:
    """How often each vector ran since boot; the first number of the line is their sum."""
    start = data.index(b"\nsoftirq ") + 9
    counts = tuple(map(int, data[start:].split(b"\n", 1)[0].split()))[1:]
    if len(counts) != len(_VECTORS):
        raise ValueError(f"{len(counts)} softirq vectors in /proc/stat instead of {len(_VECTORS)}")
    return counts


class Stat(HostCollector[Reading]):
    """What the kernel did since boot."""

    name = "stat"
    summary = "interrupts, context switches, forks, boot time, runnable and blocked processes"
    Options = StatOptions
    prometheus = (*PLAIN, SOFTIRQS)
    otel = (CREATED, UPTIME)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, StatOptions)
        self._softirq = options.softirq
        self._stat = self.kernel.proc_file("stat", one_read=True)
        self._uptime = self.kernel.proc_file("uptime", one_read=True)

    def read(self) -> Reading:
        data = self._stat.read()
        try:
            uptime: float | None = float(self._uptime.read().split(None, 1)[0])
        except (OSError, IndexError):
            uptime = None
        return Reading(parse(data), parse_softirqs(data) if self._softirq else (), uptime)

    def families(self, reading: Reading) -> Sequence[Block]:
        blocks = [self.single("prometheus", PLAIN, reading.totals)]
        if reading.softirqs:
            shape = self.shapes.get("softirqs", None, lambda: map(SOFTIRQS.series, _VECTORS))
            blocks.append(Block(shape, reading.softirqs))
        return blocks

    def telemetry(self, reading: Reading) -> Sequence[Block]:
        blocks = [self.single("created", (CREATED,), (reading.totals.forks,))]
        if reading.uptime_seconds is not None:
            blocks.append(self.single("uptime", (UPTIME,), (reading.uptime_seconds,)))
        return blocks

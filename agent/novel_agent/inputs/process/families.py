"""What is emitted: process-exporter's series on /metrics, OpenTelemetry's `process.*` over OTLP.

Names, labels, types and help of `namedprocess_*` are process-exporter's. A figure that no member of a group tells has no
series there; a group without a process has no oldest start.

Over OTLP the processes of a group are one: the conventions make a process a resource with its id, which would
make one set of series for every process that ever lived. `process.group.name` tells the groups apart instead, and the
figures are sums over the members; `process.uptime` is that of the oldest.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from novel_agent.inputs.process.accounting import (
    INVOLUNTARY,
    MAJOR,
    MINOR,
    READ,
    SYSTEM,
    USER,
    VOLUNTARY,
    WRITTEN,
)
from novel_agent.inputs.process.groups import GroupReading, ThreadReading
from novel_agent.model.metric import Block, Family, Number, Series, ShapeMemo

TICKS_PER_SECOND = 100
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_GROUP = ("groupname",)
_THREAD = ("groupname", "threadname")

PROCESSES = Family("namedprocess_namegroup_num_procs", "number of processes in this group", labels=_GROUP)
CPU = Family("namedprocess_namegroup_cpu_seconds_total", "Cpu user usage in seconds", "counter", (*_GROUP, "mode"))
READ_BYTES = Family("namedprocess_namegroup_read_bytes_total", "number of bytes read by this group", "counter", _GROUP)
WRITE_BYTES = Family(
    "namedprocess_namegroup_write_bytes_total", "number of bytes written by this group", "counter", _GROUP
)
MAJOR_FAULTS = Family("namedprocess_namegroup_major_page_faults_total", "Major page faults", "counter", _GROUP)
MINOR_FAULTS = Family("namedprocess_namegroup_minor_page_faults_total", "Minor page faults", "counter", _GROUP)
SWITCHES = Family(
    "namedprocess_namegroup_context_switches_total", "Context switches", "counter", (*_GROUP, "ctxswitchtype")
)
MEMORY = Family("namedprocess_namegroup_memory_bytes", "number of bytes of memory in use", labels=(*_GROUP, "memtype"))
DESCRIPTORS = Family(
    "namedprocess_namegroup_open_filedesc", "number of open file descriptors for this group", labels=_GROUP
)
WORST_RATIO = Family(
    "namedprocess_namegroup_worst_fd_ratio",
    "the worst (closest to 1) ratio between open fds and max fds among all procs in this group",
    labels=_GROUP,
)
OLDEST_START = Family(
    "namedprocess_namegroup_oldest_start_time_seconds",
    "start time in seconds since 1970/01/01 of oldest process in group",
    labels=_GROUP,
)
THREADS = Family("namedprocess_namegroup_num_threads", "Number of threads", labels=_GROUP)
STATES = Family(
    "namedprocess_namegroup_states",
    "Number of processes in states Running, Sleeping, Waiting, Zombie, or Other",
    labels=(*_GROUP, "state"),
)
WCHANS = Family(
    "namedprocess_namegroup_threads_wchan",
    "Number of threads in this group waiting on each wchan",
    labels=(*_GROUP, "wchan"),
)
THREAD_COUNT = Family(
    "namedprocess_namegroup_thread_count", "Number of threads in this group with same threadname", labels=_THREAD
)
THREAD_CPU = Family(
    "namedprocess_namegroup_thread_cpu_seconds_total",
    "Cpu user/system usage in seconds",
    "counter",
    (*_THREAD, "mode"),
)
THREAD_IO = Family(
    "namedprocess_namegroup_thread_io_bytes_total",
    "number of bytes read/written by these threads",
    "counter",
    (*_THREAD, "iomode"),
)
THREAD_MAJOR_FAULTS = Family(
    "namedprocess_namegroup_thread_major_page_faults_total",
    "Major page faults for these threads",
    "counter",
    _THREAD,
)
THREAD_MINOR_FAULTS = Family(
    "namedprocess_namegroup_thread_minor_page_faults_total",
    "Minor page faults for these threads",
    "counter",
    _THREAD,
)
THREAD_SWITCHES = Family(
    "namedprocess_namegroup_thread_context_switches_total",
    "Context switches for these threads",
    "counter",
    (*_THREAD, "ctxswitchtype"),
)
SCRAPE_ERRORS = Family(
    "namedprocess_scrape_errors", "general scrape errors: no proc metrics collected during a cycle", "counter"
)
READ_ERRORS = Family(
    "namedprocess_scrape_procread_errors", "incremented each time a proc's metrics collection fails", "counter"
)
PARTIAL_ERRORS = Family(
    "namedprocess_scrape_partial_errors",
    "incremented each time a tracked proc's metrics collection fails partially, e.g. unreadable I/O stats",
    "counter",
)
MISSING = Family(
    "novel_agent_process_figures_missing",
    "Processes of which a figure could not be read, by figure, reason and the capabilities that would give it.",
    labels=("figure", "reason", "capability"),
)
OVERFLOWED = Family(
    "novel_agent_process_groups_overflowed_total",
    "Processes counted in the group other because there were too many groups.",
    "counter",
)

_OTEL = ("process.group.name",)

OTEL_CPU = Family(
    "process.cpu.time", "Total CPU seconds broken down by different CPU modes", "counter", (*_OTEL, "cpu.mode"), "s"
)
OTEL_MEMORY = Family("process.memory.usage", "The amount of physical memory in use", "updowncounter", _OTEL, unit="By")
OTEL_VIRTUAL = Family(
    "process.memory.virtual", "The amount of committed virtual memory", "updowncounter", _OTEL, unit="By"
)
OTEL_IO = Family("process.disk.io", "Disk bytes transferred", "counter", (*_OTEL, "disk.io.direction"), "By")
OTEL_THREADS = Family("process.thread.count", "Process threads count", "updowncounter", _OTEL, unit="{thread}")
OTEL_DESCRIPTORS = Family(
    "process.unix.file_descriptor.count",
    "Number of UNIX file descriptors in use by the process",
    "updowncounter",
    _OTEL,
    unit="{file_descriptor}",
)
OTEL_SWITCHES = Family(
    "process.context_switches",
    "Number of times the process has been context switched",
    "counter",
    (*_OTEL, "process.context_switch.type"),
    "{context_switch}",
)
OTEL_FAULTS = Family(
    "process.paging.faults",
    "Number of page faults the process has made",
    "counter",
    (*_OTEL, "system.paging.fault.type"),
    "{fault}",
)
OTEL_UPTIME = Family("process.uptime", "The time the process has been running", labels=_OTEL, unit="s")

Value = Number | None


class Missing(NamedTuple):
    """A figure that could not be read: of how many processes, why, and the capabilities that would give it ('': none)."""

    figure: str
    reason: str
    capability: str
    processes: int


class ProcessReading(NamedTuple):
    """One reading of all groups. `boot_seconds` is the time of boot, `now_seconds` that of the reading, since the epoch."""

    groups: Sequence[GroupReading]
    missing: Sequence[Missing]
    boot_seconds: int
    now_seconds: float
    scrape_errors: int
    read_errors: int
    partial_errors: int
    overflowed: int


class _Column(NamedTuple):
    """One value of every group: its family, its labels after the group's name, how to take it from a reading."""

    family: Family
    labels: tuple[str, ...]
    value: Callable[[GroupReading, ProcessReading], Value]


def _seconds(counter: int) -> Callable[[GroupReading, ProcessReading], Value]:
    return lambda group, _: group.used[counter] / TICKS_PER_SECOND


def _count(counter: int) -> Callable[[GroupReading, ProcessReading], Value]:
    return lambda group, _: group.used[counter]


def _bytes(counter: int) -> Callable[[GroupReading, ProcessReading], Value]:
    return lambda group, _: group.used[counter] if group.knows_io else None


def _state(position: int) -> Callable[[GroupReading, ProcessReading], Value]:
    return lambda group, _: group.states[position]


def _resident(group: GroupReading, _: ProcessReading) -> Value:
    return group.resident_pages * PAGE_BYTES


def _oldest_start(group: GroupReading, reading: ProcessReading) -> Value:
    return None if group.oldest_start is None else reading.boot_seconds + group.oldest_start // TICKS_PER_SECOND


def _uptime(group: GroupReading, reading: ProcessReading) -> Value:
    if group.oldest_start is None:
        return None
    return max(0.0, reading.now_seconds - reading.boot_seconds - group.oldest_start / TICKS_PER_SECOND)


_PROMETHEUS_COLUMNS = (
    _Column(PROCESSES, (), lambda group, _: group.processes),
    _Column(CPU, ("user",), _seconds(USER)),
    _Column(CPU, ("system",), _seconds(SYSTEM)),
    _Column(READ_BYTES, (), _bytes(READ)),
    _Column(WRITE_BYTES, (), _bytes(WRITTEN)),
    _Column(MAJOR_FAULTS, (), _count(MAJOR)),
    _Column(MINOR_FAULTS, (), _count(MINOR)),
    _Column(SWITCHES, ("voluntary",), _count(VOLUNTARY)),
    _Column(SWITCHES, ("nonvoluntary",), _count(INVOLUNTARY)),
    _Column(MEMORY, ("resident",), _resident),
    _Column(MEMORY, ("virtual",), lambda group, _: group.virtual_bytes),
    _Column(MEMORY, ("swapped",), lambda group, _: group.swapped_bytes),
    _Column(MEMORY, ("proportionalResident",), lambda group, _: group.proportional_bytes),
    _Column(MEMORY, ("proportionalSwapped",), lambda group, _: group.proportional_swapped_bytes),
    _Column(DESCRIPTORS, (), lambda group, _: group.descriptors),
    _Column(WORST_RATIO, (), lambda group, _: group.worst_descriptor_ratio),
    _Column(OLDEST_START, (), _oldest_start),
    _Column(THREADS, (), lambda group, _: group.threads),
    *(
        _Column(STATES, (state,), _state(position))
        for position, state in enumerate(("Running", "Sleeping", "Waiting", "Zombie", "Other"))
    ),
)

_OTEL_COLUMNS = (
    _Column(OTEL_CPU, ("user",), _seconds(USER)),
    _Column(OTEL_CPU, ("system",), _seconds(SYSTEM)),
    _Column(OTEL_MEMORY, (), _resident),
    _Column(OTEL_VIRTUAL, (), lambda group, _: group.virtual_bytes),
    _Column(OTEL_IO, ("read",), _bytes(READ)),
    _Column(OTEL_IO, ("write",), _bytes(WRITTEN)),
    _Column(OTEL_THREADS, (), lambda group, _: group.threads),
    _Column(OTEL_DESCRIPTORS, (), lambda group, _: group.descriptors),
    _Column(OTEL_SWITCHES, ("voluntary",), _count(VOLUNTARY)),
    _Column(OTEL_SWITCHES, ("involuntary",), _count(INVOLUNTARY)),
    _Column(OTEL_FAULTS, ("major",), _count(MAJOR)),
    _Column(OTEL_FAULTS, ("minor",), _count(MINOR)),
    _Column(OTEL_UPTIME, (), _uptime),
)


class _ThreadColumn(NamedTuple):
    family: Family
    labels: tuple[str, ...]
    value: Callable[[GroupReading, ThreadReading], Value]


_THREAD_COLUMNS = (
    _ThreadColumn(THREAD_COUNT, (), lambda _, thread: thread.alive),
    _ThreadColumn(THREAD_CPU, ("user",), lambda _, thread: thread.used[USER] / TICKS_PER_SECOND),
    _ThreadColumn(THREAD_CPU, ("system",), lambda _, thread: thread.used[SYSTEM] / TICKS_PER_SECOND),
    _ThreadColumn(THREAD_IO, ("read",), lambda group, thread: thread.used[READ] if group.knows_io else None),
    _ThreadColumn(THREAD_IO, ("write",), lambda group, thread: thread.used[WRITTEN] if group.knows_io else None),
    _ThreadColumn(THREAD_MAJOR_FAULTS, (), lambda _, thread: thread.used[MAJOR]),
    _ThreadColumn(THREAD_MINOR_FAULTS, (), lambda _, thread: thread.used[MINOR]),
    _ThreadColumn(THREAD_SWITCHES, ("voluntary",), lambda _, thread: thread.used[VOLUNTARY]),
    _ThreadColumn(THREAD_SWITCHES, ("nonvoluntary",), lambda _, thread: thread.used[INVOLUNTARY]),
)

PROMETHEUS = (
    *dict.fromkeys(column.family for column in _PROMETHEUS_COLUMNS),
    WCHANS,
    *dict.fromkeys(column.family for column in _THREAD_COLUMNS),
    SCRAPE_ERRORS,
    READ_ERRORS,
    PARTIAL_ERRORS,
    OVERFLOWED,
    MISSING,
)
OTEL = tuple(dict.fromkeys(column.family for column in _OTEL_COLUMNS))


def prometheus_blocks(reading: ProcessReading, shapes: ShapeMemo) -> list[Block]:
    """The reading under process-exporter's names."""
    return [
        _columns("prometheus", _PROMETHEUS_COLUMNS, reading, shapes),
        _wchans(reading, shapes),
        _threads(reading, shapes),
        _scrape(reading, shapes),
    ]


def otel_blocks(reading: ProcessReading, shapes: ShapeMemo) -> list[Block]:
    """The reading under OpenTelemetry's names."""
    return [_columns("otel", _OTEL_COLUMNS, reading, shapes)]


def _columns(slot: str, columns: Sequence[_Column], reading: ProcessReading, shapes: ShapeMemo) -> Block:
    names = tuple([group.name for group in reading.groups])
    cells = [column.value(group, reading) for column in columns for group in reading.groups]
    unknown = tuple([position for position, value in enumerate(cells) if value is None])

    def build() -> list[Series]:
        series = [column.family.series(name, *column.labels) for column in columns for name in names]
        return [each for position, each in enumerate(series) if position not in unknown]

    shape = shapes.get(slot, (names, unknown), build)
    return Block(shape, [value for value in cells if value is not None])


def _wchans(reading: ProcessReading, shapes: ShapeMemo) -> Block:
    waits = [(group.name, wchan, count) for group in reading.groups for wchan, count in group.wchans]
    key = tuple([wait[:2] for wait in waits])
    return Block(
        shapes.get("wchans", key, lambda: [WCHANS.series(*labels) for labels in key]), [wait[2] for wait in waits]
    )


def _threads(reading: ProcessReading, shapes: ShapeMemo) -> Block:
    threads = [(group, thread) for group in reading.groups for thread in group.named_threads]
    cells = [column.value(group, thread) for column in _THREAD_COLUMNS for group, thread in threads]
    key = tuple([(group.name, thread.name, group.knows_io) for group, thread in threads])

    def build() -> list[Series]:
        return [
            column.family.series(group.name, thread.name, *column.labels)
            for column in _THREAD_COLUMNS
            for group, thread in threads
            if column.value(group, thread) is not None
        ]

    return Block(shapes.get("threads", key, build), [value for value in cells if value is not None])


def _scrape(reading: ProcessReading, shapes: ShapeMemo) -> Block:
    missing = tuple([entry[:3] for entry in reading.missing])
    shape = shapes.get(
        "scrape",
        missing,
        lambda: [
            *(family.series() for family in (SCRAPE_ERRORS, READ_ERRORS, PARTIAL_ERRORS, OVERFLOWED)),
            *(MISSING.series(*labels) for labels in missing),
        ],
    )
    return Block(
        shape,
        [
            reading.scrape_errors,
            reading.read_errors,
            reading.partial_errors,
            reading.overflowed,
            *[entry.processes for entry in reading.missing],
        ],
    )

"""Threads of members: their context switches, states and waits, and for groups that ask for it what each name of them used.

Costs one file for every thread of every member with more than one, and three or four more for a thread that ran.
"""

import os
from typing import NamedTuple

from novel_agent.inputs.process import parse
from novel_agent.inputs.process.accounting import COUNTERS, INVOLUNTARY, VOLUNTARY, Used
from novel_agent.inputs.process.parse import Stat, Status
from novel_agent.inputs.process.table import VANISHED, Process, ProcessTable

Counts = tuple[int, ...]
_NOTHING: Counts = (0,) * COUNTERS


class Thread(NamedTuple):
    """One thread when last read; `counts` are the eight counters of `accounting`. Id and start time are its identity."""

    start: int
    name: str
    state: str
    counts: Counts
    wchan: str
    schedstat: bytes


def read_threads(process: Process, table: ProcessTable, used: Used, *, io: bool) -> list[tuple[str, Counts]]:
    """Read the threads of a process; each one's name and what it used since the reading before, its bytes only with `io`.

    A process with one thread has none to tell apart, as process-exporter sees it, and nothing is read. Of a thread that
    came since the reading before, all it used counts; of one that may be older than the first reading, nothing yet.
    The switches of all threads but the first, which status has told already, are added to those of the process.
    """
    before = process.threads
    if process.stat.threads < 2:
        process.threads = {}
        return []
    try:
        names = os.listdir(table.path(process, "task"))
    except OSError:
        return []
    process.threads = threads = {}
    result = []
    for name in names:
        known = before.get(name) if before is not None else None
        thread = _read(process, name, table, known, io=io and process.io is not None)
        if thread is None:
            continue
        threads[name] = thread
        if known is not None and known.start == thread.start:
            counts = tuple([max(0, now - then) for now, then in zip(thread.counts, known.counts, strict=True)])
        elif process.newborn or (before is not None and name != process.name):
            counts = thread.counts
        else:
            counts = _NOTHING
        result.append((thread.name, counts))
        if name != process.name:
            used.own[VOLUNTARY] += counts[VOLUNTARY]
            used.own[INVOLUNTARY] += counts[INVOLUNTARY]
    return result


def _read(process: Process, name: str, table: ProcessTable, known: Thread | None, *, io: bool) -> Thread | None:
    """The thread now; as known if it has not run or cannot be read this time; None once it is gone."""
    base = f"task/{name}/"
    try:
        schedstat = _if_any(process, f"{base}schedstat", table)
        if known is not None and schedstat and schedstat == known.schedstat:
            return known
        stat = parse.stat(table.content(process, f"{base}stat", keep=False))
        status = parse.status(table.content(process, f"{base}status", keep=False))
        moved = parse.io(table.content(process, f"{base}io", keep=False)) if io else (0, 0)
        wchan = parse.wchan(_if_any(process, f"{base}wchan", table))
    except VANISHED:
        return None
    except (OSError, ValueError):
        return known
    name = stat.comm.decode("utf-8", "replace")
    return Thread(stat.start, name, stat.state, _counts(stat, status, moved), wchan, schedstat)


def _if_any(process: Process, file: str, table: ProcessTable) -> bytes:
    """A file that not every kernel has; b'' where it has not, or where the thread is gone."""
    try:
        return table.content(process, file, keep=False)
    except VANISHED:
        return b""


def _counts(stat: Stat, status: Status, io: tuple[int, int]) -> Counts:
    return (
        stat.user,
        stat.system,
        stat.minor_faults,
        stat.major_faults,
        *io,
        status.voluntary_switches,
        status.involuntary_switches,
    )

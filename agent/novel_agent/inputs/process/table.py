"""Which processes there are, and what /proc/PID/stat says of each: identity, births, deaths, handles.

A process is its id and its start time. An open file of /proc never follows an id to the next process that gets it: it
answers ESRCH once its own is gone. Where none is open, the start time tells.

The table keeps processes in the order of their birth and reads them so, parents before children: what a child used is
never in its parent's figures before the child's own read has told it. `accounting` builds on that.

Cost: an idle process takes two short preads and two comparisons, one of each if it is in no group. An open file takes about
5 KiB of kernel memory for its buffer, so an idle process 10 KiB, one that runs all the time 30 KiB, all 40 MiB at most.
"""

import os
import resource
from typing import TYPE_CHECKING, NamedTuple

from novel_agent.inputs.process import parse
from novel_agent.inputs.process.parse import Stat, Status

if TYPE_CHECKING:
    from novel_agent.inputs.process.groups import Group
    from novel_agent.inputs.process.selection import Rule
    from novel_agent.inputs.process.threads import Thread

VANISHED = (FileNotFoundError, ProcessLookupError)
"""How the kernel says that a process is gone: ENOENT at open, ESRCH at read."""

PERMISSION = "permission"
UNPARSABLE = "unparsable"
UNREADABLE = "unreadable"

_MOST_HANDLES = 8192
_STAT_BYTES = 2048
_ALWAYS_READ = ("schedstat", "statm", "stat")
_PIECE_BYTES = 4096
_LARGEST_BYTES = 64 << 10


def why_missing(error: OSError | ValueError) -> str:
    """The reason that stands beside a missing figure."""
    if isinstance(error, ValueError):
        return UNPARSABLE
    return PERMISSION if isinstance(error, PermissionError) else UNREADABLE


class Process:
    """One process, from the first reading that saw it to the last. Compared by identity.

    Filled by the table: `order` grows from birth to birth; `newborn` holds during the first reading of a process that was
    not there at the reading before, so that all it used belongs to the time between them; `vanished`, once it went away
    while it was read; `ran`, unless it is sure not to have run since the reading before; `busy`, if it ran before that
    too. The rest belongs to the modules that fill it and starts as unknown.
    """

    __slots__ = (
        "busy",
        "descriptor_limit",
        "descriptor_limit_until",
        "descriptors",
        "group",
        "handles",
        "inherited",
        "io",
        "missing",
        "name",
        "newborn",
        "order",
        "owed_io",
        "pid",
        "proportional_bytes",
        "ran",
        "reselect",
        "rule",
        "schedstat",
        "settled",
        "stat",
        "stat_bytes",
        "statm",
        "status",
        "threads",
        "vanished",
        "wchan",
    )

    def __init__(self, name: str, stat_bytes: bytes, stat: Stat, newborn: bool) -> None:
        self.name = name
        self.pid = int(name)
        self.order = 0
        self.handles: dict[str, int] = {}
        self.stat_bytes = stat_bytes
        self.stat = stat
        self.schedstat = b""
        self.statm = b""
        self.newborn = newborn
        self.ran = True
        self.busy = False
        self.vanished = False
        self.settled = False
        self.group: Group | None = None
        self.rule: Rule | None = None
        self.inherited = False
        self.reselect = True
        self.missing: dict[str, str] = {}
        self.forget_figures()

    def forget_figures(self) -> None:
        """Make what is read of members only unknown again."""
        self.status: Status | None = None
        self.io: tuple[int, int] | None = None
        self.owed_io = (0, 0)
        self.descriptors: int | None = None
        self.descriptor_limit: int | None = None
        self.descriptor_limit_until = 0.0
        self.proportional_bytes: tuple[int, int] | None = None
        self.wchan = ""
        self.threads: dict[str, Thread] | None = None


class Changes(NamedTuple):
    """What one reading of the table found.

    `ran` holds every process that may have run since the reading before, in a group or not, with its stat of then. For a
    newborn one that is None, nothing used so far; for the first sight of an older one its stat of now.
    """

    gone: list[Process]
    vanished: list[Process]
    ran: dict[Process, Stat | None]


class ProcessTable:
    """The processes below one /proc. Not for more than one thread at a time."""

    def __init__(self, proc: str, handle_limit: int | None = None) -> None:
        self.processes: dict[str, Process] = {}
        self.failures = 0
        """Times that a process was there and its stat could not be read or understood."""

        self._proc = proc
        self._limit = _handle_limit() if handle_limit is None else handle_limit
        self._open = 0
        self._births = 0
        self._complete = False
        self.unreadable: dict[str, str] = {}
        """Those that the last reading listed and could not read, by their ids, with the reason."""

        self._unreadable_before: dict[str, str] = {}
        self._graves: set[int] = set()

    def update(self) -> Changes:
        """Read every process once. OSError where /proc itself cannot be listed."""
        present = {name for name in os.listdir(self._proc) if name.isdigit()}
        changes = Changes([], [], {})
        self._unreadable_before, self.unreadable = self.unreadable, {}
        self._graves.clear()
        successors: list[Process] = []
        for process in list(self.processes.values()):
            if process.vanished or process.name not in present:
                self._retire(process, changes)
            else:
                self._look(process, changes, successors)
        unknown = present - self.processes.keys() - {process.name for process in successors}
        self._enter([*successors, *filter(None, map(self._meet, unknown))], changes)
        self._complete = True
        return changes

    def _look(self, process: Process, changes: Changes, successors: list[Process]) -> None:
        process.newborn = False
        process.busy = process.ran
        process.ran = False
        if process.stat.threads == 1 and process.stat.parent not in self._graves and self._is_idle(process):
            return
        try:
            data = self.content(process, "stat", keep=process.busy)
        except VANISHED:
            data = b""
        except OSError as error:
            self._fail(process.name, error)
            return
        if not data:
            self._lost(process, changes, successors)
        elif data == process.stat_bytes:
            process.ran = True
            changes.ran[process] = process.stat
        else:
            self._changed(process, data, changes, successors)

    def _is_idle(self, process: Process) -> bool:
        """Whether the only thread is sure not to have run, nor memory to have been taken from it, since the last look.

        schedstat holds how long it ran and waited, in nanoseconds, and how often (Documentation/scheduler/sched-stats.rst).
        What can change of a process that does not run is its memory, which statm tells, and its parent. False too where
        the kernel does not say, as without CONFIG_SCHED_INFO.
        """
        handles = process.handles
        try:
            descriptor = handles.get("schedstat", -1)
            data = os.pread(descriptor, 128, 0) if descriptor >= 0 else self.content(process, "schedstat")
            if not data or data != process.schedstat:
                process.schedstat = data
                return False
            if process.group is None:
                return True
            descriptor = handles.get("statm", -1)
            data = os.pread(descriptor, 128, 0) if descriptor >= 0 else self.content(process, "statm")
        except OSError:
            return False
        if data != process.statm:
            process.statm = data
            return False
        return True

    def _changed(self, process: Process, data: bytes, changes: Changes, successors: list[Process]) -> None:
        try:
            stat = parse.stat(data)
        except ValueError as error:
            self._fail(process.name, error)
            return
        before = process.stat
        if stat.start != before.start:
            self._retire(process, changes)
            successors.append(Process(process.name, data, stat, newborn=True))
            return
        process.stat_bytes, process.stat, process.ran = data, stat, True
        if stat.executed != before.executed:
            process.reselect = True
        changes.ran[process] = before

    def _lost(self, process: Process, changes: Changes, successors: list[Process]) -> None:
        """Its id is listed and its handle is dead: the id has a new holder, or it went away just now."""
        self._close(process)
        successor = self._meet(process.name)
        if successor is None:
            process.vanished = True
            changes.vanished.append(process)
        else:
            self._retire(process, changes)
            successors.append(successor)

    def _meet(self, name: str) -> Process | None:
        path = f"{self._proc}/{name}/stat"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except VANISHED:
            return None
        except OSError as error:
            self._fail(name, error)
            return None
        try:
            data = os.pread(descriptor, _STAT_BYTES, 0)
            newborn = self._complete and name not in self._unreadable_before
            return Process(name, data, parse.stat(data), newborn) if data else None
        except VANISHED:
            return None
        except (OSError, ValueError) as error:
            self._fail(name, error)
            return None
        finally:
            os.close(descriptor)

    def _enter(self, newcomers: list[Process], changes: Changes) -> None:
        newcomers.sort(key=lambda process: (process.stat.start, process.pid))
        for process in newcomers:
            self._births += 1
            process.order = self._births
            self.processes[process.name] = process
            changes.ran[process] = None if process.newborn else process.stat

    def _retire(self, process: Process, changes: Changes) -> None:
        self._close(process)
        del self.processes[process.name]
        self._graves.add(process.pid)
        changes.gone.append(process)

    def _fail(self, name: str, error: OSError | ValueError) -> None:
        self.failures += 1
        self.unreadable[name] = why_missing(error)

    def content(self, process: Process, file: str, *, keep: bool = True) -> bytes:
        """A file of /proc/PID, 64 KiB of it at most; OSError as the kernel gives it.

        `keep` leaves it open for the next reading while there are handles left; a quarter of them is for stat, statm and
        schedstat only.
        """
        descriptor = process.handles.get(file)
        if descriptor is not None:
            return _whole(descriptor)
        descriptor = os.open(f"{self._proc}/{process.name}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        limit = self._limit if file in _ALWAYS_READ else self._limit * 3 // 4
        kept = keep and self._keep(process, file, descriptor, limit)
        try:
            return _whole(descriptor)
        finally:
            if not kept:
                os.close(descriptor)

    def path(self, process: Process, file: str) -> str:
        """Where a file of /proc/PID is."""
        return f"{self._proc}/{process.name}/{file}"

    def _keep(self, process: Process, file: str, descriptor: int, limit: int) -> bool:
        if self._open >= limit:
            return False
        process.handles[file] = descriptor
        self._open += 1
        return True

    def _close(self, process: Process) -> None:
        for descriptor in process.handles.values():
            os.close(descriptor)
        self._open -= len(process.handles)
        process.handles.clear()

    def close(self) -> None:
        """Give every handle back; the next reading opens what it needs."""
        for process in self.processes.values():
            self._close(process)


def _handle_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_HANDLES if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST_HANDLES)


def _whole(descriptor: int) -> bytes:
    data = os.pread(descriptor, _PIECE_BYTES, 0)
    if len(data) < _PIECE_BYTES:
        return data
    parts = [data]
    total = len(data)
    while total < _LARGEST_BYTES and (data := os.pread(descriptor, _PIECE_BYTES, total)):
        parts.append(data)
        total += len(data)
    return b"".join(parts)

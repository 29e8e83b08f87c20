"""The files that cost more than stat: read only of members, and only when a member may have run.

What the kernel refuses is noted in `process.missing` and asked for again once the process executes or changes its user;
what it garbles is asked for again the next time. Neither is ever shown as 0.

Context switches in /proc/PID/status are those of the first thread; `threads` adds those of the others.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from novel_agent.inputs.process import parse
from novel_agent.inputs.process.accounting import INVOLUNTARY, READ, VOLUNTARY, WRITTEN, Used
from novel_agent.inputs.process.parse import Status
from novel_agent.inputs.process.table import PERMISSION, VANISHED, Process, ProcessTable, why_missing

Figure = TypeVar("Figure")

CAPABILITIES = {
    "exe": "CAP_SYS_PTRACE",
    "fd": "CAP_DAC_READ_SEARCH",
    "io": "CAP_DAC_READ_SEARCH,CAP_SYS_PTRACE",
    "smaps_rollup": "CAP_SYS_PTRACE",
    "stat": "CAP_SYS_PTRACE",
    "wchan": "CAP_SYS_PTRACE",
}
"""What gives a figure of other users' processes: fs/proc/base.c, fs/proc/fd.c, capabilities(7).

`stat`, and with it all else, is refused only where /proc is mounted with hidepid. Since Linux 6.2 the number of open files
(`fd`) needs no capability.
"""

LIMIT_KEPT_SECONDS = 60.0


class Meter:
    """Reads of one process after the other what its stat does not tell."""

    def __init__(self, table: ProcessTable, proc: str) -> None:
        self._table = table
        self._proc = proc
        self._directory_has_size: bool | None = None

    def measure(self, process: Process, used: Used, now_seconds: float) -> None:
        """Fill in the process's figures, and in `used` its bytes and switches since the reading before.

        A process may go away at any point of this; what was read until then stands.
        """
        status = self.told(process, "status", self._status)
        if status is not None:
            _switches(process, status, used)
        io = self.told(process, "io", self._io)
        if io is not None:
            _bytes(process, io, used)
        process.descriptors = self.told(process, "fd", self._descriptors)
        if not process.descriptor_limit_until - LIMIT_KEPT_SECONDS <= now_seconds < process.descriptor_limit_until:
            process.descriptor_limit = self.told(process, "limits", self._descriptor_limit)
            process.descriptor_limit_until = now_seconds + LIMIT_KEPT_SECONDS
        process.wchan = "" if process.stat.state == "R" else self.told(process, "wchan", self._wchan) or ""

    @staticmethod
    def told(process: Process, figure: str, read: Callable[[Process], Figure]) -> Figure | None:
        """What `read` gives; None where the kernel refuses or garbles it, or has no such file or no such process."""
        missing = process.missing
        if missing and missing.get(figure) == PERMISSION:
            return None
        try:
            value = read(process)
        except VANISHED:
            return None
        except (OSError, ValueError) as error:
            missing[figure] = why_missing(error)
            return None
        if missing:
            missing.pop(figure, None)
        return value

    def _status(self, process: Process) -> Status:
        return parse.status(self._table.content(process, "status", keep=process.busy))

    def _io(self, process: Process) -> tuple[int, int]:
        return parse.io(self._table.content(process, "io", keep=process.busy))

    def _descriptors(self, process: Process) -> int:
        path = self._table.path(process, "fd")
        if self._directory_has_size is None:
            self._directory_has_size = _has_size(f"{self._proc}/self/fd")
        return os.stat(path).st_size if self._directory_has_size else len(os.listdir(path))

    def _descriptor_limit(self, process: Process) -> int | None:
        return parse.descriptor_limit(self._table.content(process, "limits", keep=False))

    def _wchan(self, process: Process) -> str:
        name = parse.wchan(self._table.content(process, "wchan", keep=process.busy))
        # The kernel shows 0 for a thread that runs and to those who may not know; whoever may not read io may not know.
        if not name and process.stat.state in "SD" and process.missing.get("io") == PERMISSION:
            raise PermissionError
        return name


def _has_size(path: str) -> bool:
    """Whether the size of an fd directory is the number of files, as since Linux 6.2."""
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _switches(process: Process, status: Status, used: Used) -> None:
    before = process.status
    process.status = status
    if before is not None and status.uid != before.uid:
        process.reselect = True
    if process.newborn:
        voluntary, involuntary = 0, 0
    elif before is not None:
        voluntary, involuntary = before.voluntary_switches, before.involuntary_switches
    else:
        return
    used.own[VOLUNTARY] = max(0, status.voluntary_switches - voluntary)
    used.own[INVOLUNTARY] = max(0, status.involuntary_switches - involuntary)


def _bytes(process: Process, io: tuple[int, int], used: Used) -> None:
    """Growth less what the process owes for children whose bytes were counted while they lived."""
    if process.io is None and not process.newborn:
        process.io, process.owed_io = io, (0, 0)  # what it owes is in what it had before
        return
    before = process.io or (0, 0)
    if io == before:
        process.io = io
        return
    grown = [max(0, now - then) for now, then in zip(io, before, strict=True)]
    paid = [min(growth, owed) for growth, owed in zip(grown, process.owed_io, strict=True)]
    used.own[READ], used.own[WRITTEN] = grown[0] - paid[0], grown[1] - paid[1]
    process.owed_io = (process.owed_io[0] - paid[0], process.owed_io[1] - paid[1])
    process.io = (max(io[0], before[0]), max(io[1], before[1]))

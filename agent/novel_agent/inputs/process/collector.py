"""Process groups as a collector: one reading after the other, under two sets of names."""

from collections import Counter
from collections.abc import Sequence

from novel_agent.config.schema import ProcessGroup
from novel_agent.inputs.host.collector import HostCollector, NoOptions
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.process import families
from novel_agent.inputs.process.accounting import Used, settle
from novel_agent.inputs.process.families import Missing, ProcessReading
from novel_agent.inputs.process.groups import Groups
from novel_agent.inputs.process.measuring import CAPABILITIES, Meter
from novel_agent.inputs.process.proportional import ProportionalMemory
from novel_agent.inputs.process.selection import Rule, Selector
from novel_agent.inputs.process.table import PERMISSION, Changes, Process, ProcessTable
from novel_agent.inputs.process.threads import read_threads
from novel_agent.model.metric import Block

YOUNG_SECONDS = 60.0
BOOT_TIME_KEPT_SECONDS = 300.0


class ProcessGroups(HostCollector[ProcessReading]):
    """Configured groups of processes.

    `handle_limit` bounds the files of /proc that stay open; by default half of what the agent may open, 8,192 at most.
    """

    name = "process"
    summary = "groups of processes: time, memory, bytes, files, threads, states"
    prometheus = families.PROMETHEUS
    otel = families.OTEL

    def __init__(self, kernel: Kernel, groups: Sequence[ProcessGroup], *, handle_limit: int | None = None) -> None:
        super().__init__(kernel, NoOptions())
        self._table = ProcessTable(kernel.proc, handle_limit)
        self._selector = Selector(groups, self._table, kernel.root)
        self._groups = Groups(self._selector.rules)
        self._meter = Meter(self._table, kernel.proc)
        self._proportional = ProportionalMemory(self._table, self._meter)
        self._boot_file = kernel.proc_file("stat", one_read=True)
        self._boot_seconds = 0
        self._boot_until = 0.0
        self._scrape_errors = 0
        self._partial_errors = 0

    def read(self) -> ProcessReading:
        now_seconds = self.kernel.now()
        try:
            self._read_boot_time(now_seconds)
            changes = self._table.update()
        except (OSError, ValueError):
            self._scrape_errors += 1
            raise
        for process in (*changes.gone, *changes.vanished):
            self._leave_group(process)
        joined = self._select(changes, now_seconds)
        used = {process: Used(before, process.stat) for process, before in changes.ran.items()}
        settle((*changes.gone, *changes.vanished), used, self._table.processes)
        for process in joined:
            used.setdefault(process, Used(process.stat, process.stat))
        for process, since in used.items():
            self._measure(process, since, now_seconds)
        self._proportional.measure()
        return self._reading(now_seconds)

    def _read_boot_time(self, now_seconds: float) -> None:
        if self._boot_until - BOOT_TIME_KEPT_SECONDS <= now_seconds < self._boot_until:
            return
        _, found, rest = self._boot_file.read().partition(b"\nbtime ")
        if not found:
            raise ValueError("no btime in /proc/stat")
        self._boot_seconds = int(rest.split(None, 1)[0])
        self._boot_until = now_seconds + BOOT_TIME_KEPT_SECONDS

    def _select(self, changes: Changes, now_seconds: float) -> list[Process]:
        """Find the groups of new and changed processes; those that are in one now and were not before."""
        for process in self._selector.refresh(now_seconds):
            process.reselect = True
        for process in changes.ran:
            if self._is_young(process, now_seconds):
                process.reselect = True
        processes = self._table.processes
        joined = []
        for process in processes.values():
            if process.reselect and not process.vanished:
                process.reselect = False
                joined += self._place(process)
        if joined:
            for process in processes.values():
                if process.group is None and not process.vanished:
                    joined += self._inherit(process)
        return joined

    def _is_young(self, process: Process, now_seconds: float) -> bool:
        age_seconds = now_seconds - self._boot_seconds - process.stat.start / families.TICKS_PER_SECOND
        return 0 <= age_seconds < YOUNG_SECONDS

    def _place(self, process: Process) -> list[Process]:
        found = self._selector.select(process)
        if found is not None:
            process.inherited = False
            return self._join(process, *found)
        if process.group is None or not process.inherited:
            if process.group is not None:
                self._leave_group(process)
                process.forget_figures()
            return self._inherit(process)
        return []

    def _inherit(self, process: Process) -> list[Process]:
        """A process that fits no rule goes where its parent is, and stays when its parent dies or goes elsewhere."""
        parent = self._table.processes.get(str(process.stat.parent))
        if parent is None or parent.group is None or parent.rule is None or not parent.rule.children:
            return []
        process.inherited = True
        return self._join(process, parent.rule, parent.group.name)

    def _join(self, process: Process, rule: Rule, name: str) -> list[Process]:
        before = process.rule
        if not self._groups.join(process, rule, name):
            return []
        if before is not rule:
            process.threads = None  # another rule may read more of them
        if rule.smaps:
            self._proportional.add(process)
        else:
            self._proportional.remove(process)
        return [process]

    def _leave_group(self, process: Process) -> None:
        self._groups.leave(process)
        self._proportional.remove(process)

    def _measure(self, process: Process, used: Used, now_seconds: float) -> None:
        if process.group is None or process.rule is None:
            return
        self._meter.measure(process, used, now_seconds)
        threads = read_threads(process, self._table, used, io=process.rule.threads)
        if process.rule.threads:
            process.group.collect_threads(threads)
        self._groups.collect(process, used)

    def _reading(self, now_seconds: float) -> ProcessReading:
        processes = self._table.processes.values()
        self._partial_errors += sum([1 for process in processes if process.missing and process.group is not None])
        return ProcessReading(
            self._groups.read(now_seconds),
            self._missing(),
            self._boot_seconds,
            now_seconds,
            self._scrape_errors,
            self._table.failures,
            self._partial_errors,
            self._groups.overflowed,
        )

    def _missing(self) -> list[Missing]:
        counts: Counter[tuple[str, str]] = Counter()
        for process in [process for process in self._table.processes.values() if process.missing]:
            counts.update(process.missing.items())
        counts.update([("stat", reason) for reason in self._table.unreadable.values()])
        counts.update([("pid_file", reason) for reason in self._selector.missing_pid_files.values()])
        return [
            Missing(figure, reason, CAPABILITIES.get(figure, "") if reason == PERMISSION else "", number)
            for (figure, reason), number in sorted(counts.items())
        ]

    def families(self, reading: ProcessReading) -> Sequence[Block]:
        return families.prometheus_blocks(reading, self.shapes)

    def telemetry(self, reading: ProcessReading) -> Sequence[Block]:
        return families.otel_blocks(reading, self.shapes)

    def close(self) -> None:
        self._table.close()
        super().close()

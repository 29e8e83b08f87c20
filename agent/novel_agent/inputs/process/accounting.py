"""What processes used between two readings, and what of it was counted before.

Counted for a group is what its members used while they were watched:

- of a process that is there at the first reading, or first readable later: what it used from then on;
- of one that came between two readings: all it used since its birth;
- what was used between two readings goes to the group the process is in at the second;
- of a process that exits: what it had used when last read. What it used after that is in the kernel's figures of its
  reaper's children (cutime, cstime, cminflt, cmajflt in stat) and is counted with those;
- children's figures count for the reaper's group, if that takes children. So processes that came and went between two
  readings are counted, though no reading saw them.

Not counted: what a process used after its last reading when its parent ignores SIGCHLD (the kernel then adds it to
nobody), or when its reaper is in no group or in one that takes no children; of children that a parent waited for between
two readings, as much as was known of another that it ignored then; the context switches of processes that no reading saw
(the kernel has no such figure).

Nothing is counted twice. When a watched process has been waited for, its reaper's children's figures grow by all that it
and its own children ever used, and so do the reaper's bytes in /proc/PID/io, where the kernel keeps both in one sum. What
was known of the dead is therefore a debt of its reaper, taken off what the reaper's figures grew by. Who waited is told
by evidence: a reaper whose children's page faults grew by fewer than the dead had made did not wait for it. The debt is
then dropped or, where the parent went away too and the dead may have been an orphan, goes to the next living ancestor.
Where the evidence fits several of the dead, what is taken off is right in sum, if maybe in the wrong ancestor's group;
bytes are right in sum once the debtor has read and written what it owes.

One figure is as the kernel has it: with `children: false`, the bytes a waited-for child read and wrote are in its
parent's figures, and so in the parent's group.
"""

from collections.abc import Iterable, Mapping
from operator import le
from typing import NamedTuple

from novel_agent.inputs.process.parse import Stat
from novel_agent.inputs.process.table import Process

USER, SYSTEM, MINOR, MAJOR, READ, WRITTEN, VOLUNTARY, INVOLUNTARY = range(8)
COUNTERS = 8


class Used:
    """What one process used since the reading before: `own` has the eight counters, `children` the first four."""

    __slots__ = ("children", "own")

    def __init__(self, before: Stat | None, now: Stat) -> None:
        if before is now:
            self.own = [0] * COUNTERS
            self.children = [0, 0, 0, 0]
            return
        if before is None:
            self.own = [now.user, now.system, now.minor_faults, now.major_faults, 0, 0, 0, 0]
            self.children = [
                now.children_user,
                now.children_system,
                now.children_minor_faults,
                now.children_major_faults,
            ]
            return
        self.own = [
            _growth(before.user, now.user),
            _growth(before.system, now.system),
            _growth(before.minor_faults, now.minor_faults),
            _growth(before.major_faults, now.major_faults),
            0,
            0,
            0,
            0,
        ]
        self.children = [
            _growth(before.children_user, now.children_user),
            _growth(before.children_system, now.children_system),
            _growth(before.children_minor_faults, now.children_minor_faults),
            _growth(before.children_major_faults, now.children_major_faults),
        ]


def _growth(before: int, now: int) -> int:
    return now - before if now > before else 0


class Estate(NamedTuple):
    """What was known of a process when it was last read, its own and its children's together.

    `orphan`: its parent is gone as well, so an ancestor further up may have waited for it. `gone`: for certain, so that
    somebody has waited for it unless its parent ignores SIGCHLD. `contested`: whose figures grew by enough to hold it, had
    that not been taken for others.
    """

    process: Process
    orphan: bool
    gone: bool
    times_and_faults: tuple[int, int, int, int]
    io: tuple[int, int]
    contested: list[tuple[Process, Used]]


def settle(gone: Iterable[Process], used: Mapping[Process, Used], processes: Mapping[str, Process]) -> None:
    """Take what is known of the processes that are gone off what their reapers' figures grew by.

    A process that went while it was read is given twice, then and at the next reading: whether its reaper's figures held
    it already then is told by the same evidence. `used` is changed in place. What a reaper owes of its bytes stays with it
    (`owed_io`) until its bytes are read.
    """
    debts: dict[Process, list[Estate]] = {}
    graves = {process.name: process for process in gone}
    for process in graves.values():
        heir = None if process.settled else _living_ancestor(process, graves, processes)
        if heir is not None:
            debts.setdefault(heir, []).append(_estate(process, graves, processes))
    while debts:
        reaper = max(debts, key=lambda process: process.order)
        unpaid = _pay(reaper, debts.pop(reaper), used.get(reaper))
        parent = processes.get(str(reaper.stat.parent))
        for estate in unpaid:
            if estate.orphan and parent is not None and parent.order < reaper.order:
                debts.setdefault(parent, []).append(estate)
            elif estate.gone:
                _contest(estate)


def _living_ancestor(
    process: Process, graves: Mapping[str, Process], processes: Mapping[str, Process]
) -> Process | None:
    name = str(process.stat.parent)
    for _ in graves:
        if name not in graves:
            break
        name = str(graves[name].stat.parent)
    return None if name in graves else processes.get(name)


def _estate(process: Process, graves: Mapping[str, Process], processes: Mapping[str, Process]) -> Estate:
    stat = process.stat
    read, written = process.io or (0, 0)
    return Estate(
        process,
        str(stat.parent) in graves,
        processes.get(process.name) is not process,
        (
            stat.user + stat.children_user,
            stat.system + stat.children_system,
            stat.minor_faults + stat.children_minor_faults,
            stat.major_faults + stat.children_major_faults,
        ),
        (read + process.owed_io[0], written + process.owed_io[1]),
        [],
    )


def _pay(reaper: Process, debts: list[Estate], used: Used | None) -> list[Estate]:
    """Pay what the evidence covers; the rest.

    First come those that nobody else can have waited for. Of the others the larger come first, as the smaller fit
    elsewhere, and their times are evidence too.
    """
    if used is None:
        return debts
    unpaid = []
    grown = used.children[MINOR]
    for estate in sorted(debts, key=_certain_and_large_first):
        known = estate.times_and_faults
        if known[MINOR] <= used.children[MINOR] and (_is_certain(estate) or all(map(le, known, used.children))):
            _take_off(known, used)
            _owe(estate, reaper)
            continue
        unpaid.append(estate)
        if known[MINOR] <= grown:
            estate.contested.append((reaper, used))
    return unpaid


def _is_certain(estate: Estate) -> bool:
    return estate.gone and not estate.orphan


def _certain_and_large_first(estate: Estate) -> tuple[bool, int]:
    return not _is_certain(estate), -estate.times_and_faults[MINOR]


def _contest(estate: Estate) -> None:
    """Take one that nobody paid off what is left of growth that may have been its own and was taken for another's.

    So it is with a parent that ignores SIGCHLD at one time and waits at another. Rather too little counts than twice.
    """
    rest = estate.times_and_faults
    for _, used in estate.contested:
        rest = _take_off(rest, used)
    if estate.contested:
        _owe(estate, estate.contested[0][0])


def _take_off(known: tuple[int, int, int, int], used: Used) -> tuple[int, int, int, int]:
    """Take it off the children's figures, as far as they go; the rest."""
    taken = [min(pair) for pair in zip(known, used.children, strict=True)]
    used.children = [grown - each for grown, each in zip(used.children, taken, strict=True)]
    return known[0] - taken[0], known[1] - taken[1], known[2] - taken[2], known[3] - taken[3]


def _owe(estate: Estate, reaper: Process) -> None:
    reaper.owed_io = (reaper.owed_io[0] + estate.io[0], reaper.owed_io[1] + estate.io[1])
    estate.process.settled = True

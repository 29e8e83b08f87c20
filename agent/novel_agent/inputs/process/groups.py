"""Groups: who is in them, what they used, which of them are shown.

Every group collects what its members used since the reading before. Then it is decided which groups are shown, and what
was collected is credited: to the group itself if it is shown, to `other` if not. So every tick is in exactly one series,
the sum over all series is right at every moment, and no series ever falls, however often a group goes into `other`
and comes back. A group that comes back goes on from where it was when it was last shown.

Shown are the groups of a plain name always, also without a process; of a rule with `top: N`, the N groups that used most
processor time since the reading before and the N with most resident memory (among equals those with more time behind
them, then by name); of any other rule, every group. At most 1,000 groups are kept; a process whose group would be one
more is in `other`, and counted as overflowed.

A group named by its processes is put away five minutes after the last one went, as Prometheus lets go of a series. Should
it come back, its counters go on from where they were: Prometheus and OTLP know only by a fall that a counter started again
at 0, and there is none if it has come as far by the first reading. So it is for the 1,000 groups put away last; older
ones start again at 0, as the series of threads do.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import add
from typing import NamedTuple

from novel_agent.inputs.process.accounting import COUNTERS, SYSTEM, USER, Used
from novel_agent.inputs.process.selection import Rule
from novel_agent.inputs.process.table import Process

MOST_GROUPS = 1000
MOST_NAMES = 100
"""Of threads, or of kernel functions waited in, that one group shows; the rest are one, named `other`."""

MOST_PUT_AWAY = 1000
OTHER = "other"
KEPT_EMPTY_SECONDS = 300.0


class ThreadReading(NamedTuple):
    """Threads of one name: how many there are, and the eight counters of `accounting`."""

    name: str
    alive: int
    used: tuple[int, ...]


class GroupReading(NamedTuple):
    """One shown group. None is what the kernel did not tell of any member, or not yet of each.

    `used` are the eight counters of `accounting`, of which bytes mean something only if `knows_io`. `states` are running,
    sleeping, waiting, zombie and other; `oldest_start` is in ticks since boot; sums are over those members that tell.

    `states` and `wchans` count what process-exporter counts, so that both show the same: every process once, and every
    thread of those with more than one, the first included.
    """

    name: str
    used: tuple[int, ...]
    knows_io: bool
    processes: int
    threads: int
    resident_pages: int
    virtual_bytes: int
    swapped_bytes: int | None
    proportional_bytes: int | None
    proportional_swapped_bytes: int | None
    descriptors: int | None
    worst_descriptor_ratio: float | None
    states: tuple[int, int, int, int, int]
    oldest_start: int | None
    wchans: tuple[tuple[str, int], ...]
    named_threads: tuple[ThreadReading, ...]


class _Tally:
    """Counters in two steps: what was collected since the last reading, and what is credited for good."""

    __slots__ = ("credited", "since")

    def __init__(self) -> None:
        self.credited = [0] * COUNTERS
        self.since = [0] * COUNTERS

    def collect(self, counts: Iterable[int]) -> None:
        self.since = list(map(add, self.since, counts))

    def credit_to(self, shown: "_Tally") -> None:
        if any(self.since):
            shown.credited = list(map(add, shown.credited, self.since))
            self.since = [0] * COUNTERS


class Group:
    """Processes counted as one. `top` is the rule that decides whether it is shown; None if it always is."""

    __slots__ = (
        "empty_since",
        "fixed",
        "knows_io",
        "members",
        "name",
        "tally",
        "threads",
        "threads_empty_since",
        "top",
    )

    def __init__(self, name: str, top: Rule | None, *, fixed: bool, tally: _Tally | None = None) -> None:
        self.name = name
        self.top = top
        self.fixed = fixed
        self.members: dict[Process, None] = {}
        self.tally = tally or _Tally()
        self.knows_io = False
        self.empty_since: float | None = None
        self.threads: dict[str, _Tally] = {}
        self.threads_empty_since: dict[str, float] = {}

    def thread_name(self, name: str) -> str:
        """The name that threads of this name are counted under: their own while there are not too many."""
        if name not in self.threads:
            name = name if len(self.threads) < MOST_NAMES else OTHER
            self.threads.setdefault(name, _Tally())
        return name

    def collect_threads(self, used: Iterable[tuple[str, Iterable[int]]]) -> None:
        """Note what threads used, by their names."""
        for name, counts in used:
            self.threads[self.thread_name(name)].collect(counts)

    @property
    def ticks_since(self) -> int:
        return self.tally.since[USER] + self.tally.since[SYSTEM]


class Groups:
    """All groups there are."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._groups = {rule.name: Group(rule.name, None, fixed=True) for rule in rules if not rule.has_places}
        self._put_away: dict[str, _Tally] = {}
        self.overflowed = 0
        """Processes that went into `other` because there were too many groups already."""

    def join(self, process: Process, rule: Rule, name: str) -> bool:
        """Put a process into this group, out of any other; whether it is where it was not before."""
        group = self._group(rule, name)
        if group is process.group and rule is process.rule:
            return False
        if group.name != name:
            self.overflowed += 1
        self.leave(process)
        group.members[process] = None
        process.group, process.rule = group, rule
        return True

    def leave(self, process: Process) -> None:
        """Take a process out of its group, if it is in one."""
        if process.group is not None:
            del process.group.members[process]
        process.group = process.rule = None

    def _group(self, rule: Rule, name: str) -> Group:
        group = self._groups.get(name)
        if group is None and (len(self._groups) < MOST_GROUPS or name == OTHER):
            group = self._open(name, rule if rule.top else None)
        elif group is not None and not rule.top:
            group.top = None
        return group or self._other()

    def _other(self) -> Group:
        return self._groups.get(OTHER) or self._open(OTHER, None)

    def _open(self, name: str, top: Rule | None) -> Group:
        """A new group, or one that was put away and goes on counting."""
        group = self._groups[name] = Group(name, top, fixed=False, tally=self._put_away.pop(name, None))
        return group

    def collect(self, process: Process, used: Used) -> None:
        """Note what a member used, with its dead children's share where its rule takes children."""
        if process.group is None or process.rule is None:
            return
        process.group.tally.collect(used.own)
        if process.rule.children and any(used.children):
            process.group.tally.collect((*used.children, 0, 0, 0, 0))

    def read(self, now_seconds: float) -> list[GroupReading]:
        """Credit what was collected and give the groups that are shown, `other` among them where it is needed."""
        hidden = self._hidden()
        other = self._other() if hidden else self._groups.get(OTHER)
        groups = list(self._groups.values())
        for group in groups:
            _credit(group, other if other is not None and group in hidden else group)
        readings = []
        for group in groups:
            if group in hidden:
                members = []
            elif group is other:
                members = [process for each in (group, *hidden) for process in each.members]
            else:
                members = list(group.members)
            if group not in hidden:
                readings.append(_reading(group, members, now_seconds))
            self._put_away_if_empty(group, bool(group.members or members), now_seconds)
        return readings

    def _hidden(self) -> dict[Group, None]:
        contests: dict[Rule, list[Group]] = {}
        for group in self._groups.values():
            if group.top is not None and group.name != OTHER:
                contests.setdefault(group.top, []).append(group)
        hidden: dict[Group, None] = {}
        for rule, groups in contests.items():
            if rule.top is not None and len(groups) > rule.top:
                shown = _leaders(groups, rule.top)
                hidden.update((group, None) for group in groups if group not in shown)
        return hidden

    def _put_away_if_empty(self, group: Group, in_use: bool, now_seconds: float) -> None:
        if in_use or group.fixed:
            group.empty_since = None
        elif group.empty_since is None or group.empty_since > now_seconds:
            group.empty_since = now_seconds
        elif now_seconds - group.empty_since >= KEPT_EMPTY_SECONDS:
            del self._groups[group.name]
            self._put_away[group.name] = group.tally
            if len(self._put_away) > MOST_PUT_AWAY:
                del self._put_away[next(iter(self._put_away))]


def _leaders(groups: Sequence[Group], number: int) -> set[Group]:
    ticks = {group: sum([p.stat.user + p.stat.system for p in group.members]) for group in groups}
    pages = {group: sum([p.stat.resident_pages for p in group.members]) for group in groups}
    by_time = sorted(groups, key=lambda group: (-group.ticks_since, -ticks[group], group.name))
    by_memory = sorted(groups, key=lambda group: (-pages[group], -ticks[group], group.name))
    return {*by_time[:number], *by_memory[:number]}


def _credit(group: Group, shown: Group) -> None:
    group.tally.credit_to(shown.tally)
    shown.knows_io = shown.knows_io or any(process.io is not None for process in group.members)
    for name, tally in list(group.threads.items()):
        if any(tally.since):
            tally.credit_to(shown.threads[shown.thread_name(name)])


def _reading(group: Group, members: list[Process], now_seconds: float) -> GroupReading:
    stats = [process.stat for process in members]
    states = Counter([stat.state for stat in stats])
    states.update([thread.state for process in members if process.threads for thread in process.threads.values()])
    known_states = [states.pop(state, 0) for state in "RSDZ"]
    proportional = [process.proportional_bytes for process in members if "smaps_rollup" not in process.missing]
    measured = [pair for pair in proportional if pair is not None]
    complete = bool(measured) and len(measured) == len(proportional)
    descriptors = [process.descriptors for process in members if process.descriptors is not None]
    swapped = [process.status.swapped_bytes for process in members if process.status is not None]
    return GroupReading(
        group.name,
        tuple(group.tally.credited),
        group.knows_io,
        len(members),
        sum([stat.threads for stat in stats]),
        sum([stat.resident_pages for stat in stats]),
        sum([stat.virtual_bytes for stat in stats]),
        sum(swapped) if swapped or not members else None,
        sum([pair[0] for pair in measured]) if complete else None,
        sum([pair[1] for pair in measured]) if complete else None,
        sum(descriptors) if descriptors or not members else None,
        max([ratio for ratio in map(_descriptor_ratio, members) if ratio is not None], default=None),
        (known_states[0], known_states[1], known_states[2], known_states[3], sum(states.values())),
        min([stat.start for stat in stats], default=None),
        _wchans(members),
        _named_threads(group, members, now_seconds),
    )


def _descriptor_ratio(process: Process) -> float | None:
    if process.descriptors is None or not process.descriptor_limit:
        return None
    return process.descriptors / process.descriptor_limit


def _wchans(members: list[Process]) -> tuple[tuple[str, int], ...]:
    counts = Counter([process.wchan for process in members])
    counts.update([thread.wchan for process in members if process.threads for thread in process.threads.values()])
    del counts[""]
    if len(counts) > MOST_NAMES:
        kept = Counter(dict(counts.most_common(MOST_NAMES)))
        kept[OTHER] += counts.total() - kept.total()
        counts = kept
    return tuple(sorted(counts.items()))


def _named_threads(group: Group, members: list[Process], now_seconds: float) -> tuple[ThreadReading, ...]:
    named = [process.threads for process in members if process.threads and process.rule and process.rule.threads]
    alive = Counter([group.thread_name(thread.name) for threads in named for thread in threads.values()])
    for name in list(group.threads):
        if alive[name]:
            group.threads_empty_since.pop(name, None)
        elif now_seconds - group.threads_empty_since.setdefault(name, now_seconds) >= KEPT_EMPTY_SECONDS:
            del group.threads[name], group.threads_empty_since[name]
    return tuple(
        ThreadReading(name, alive[name], tuple(tally.credited)) for name, tally in sorted(group.threads.items())
    )

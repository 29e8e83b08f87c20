"""Which group a process belongs to.

A rule is one configured group. Of a process, only the facts that some rule asks for are read, once, when it is first
seen; again after an exec, after a change of user, and whenever it has run in its first minute, in which services rename
themselves, drop privileges and are moved into their unit's control group. A fact that the kernel does not tell is not
guessed: a criterion on it does not hold.
"""

import os
import pwd
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from novel_agent.config.schema import ProcessGroup
from novel_agent.inputs.process import parse
from novel_agent.inputs.process.table import VANISHED, Process, ProcessTable, why_missing

Fact = TypeVar("Fact")

NONE = "none"
"""In a name: the process has none, as a kernel thread has no executable."""

UNKNOWN = "unknown"
"""In a name: the kernel does not tell this agent."""

USERS_KEPT_SECONDS = 300.0

_PLACE = re.compile(r"\{(comm|exe|user|unit)\}")


class Users:
    """User names by number, asked of the system once in five minutes each: that may mean a network directory.

    Where the host's root is mounted elsewhere, its /etc/passwd is read instead. A number without a name is its own name.
    """

    def __init__(self, root: str) -> None:
        self._passwd = f"{root}/etc/passwd" if root else ""
        self._names: dict[int, str] = {}
        self._kept_until = 0.0

    def refresh(self, now_seconds: float) -> None:
        """Forget what is older than five minutes; a clock that was set back counts as that."""
        if not self._kept_until - USERS_KEPT_SECONDS <= now_seconds < self._kept_until:
            self._names.clear()
            self._kept_until = now_seconds + USERS_KEPT_SECONDS

    def name(self, uid: int) -> str:
        """The user's name, or the number."""
        if uid not in self._names:
            self._names[uid] = self._look_up(uid)
        return self._names[uid]

    def _look_up(self, uid: int) -> str:
        try:
            if not self._passwd:
                return pwd.getpwuid(uid).pw_name
            with open(self._passwd, encoding="utf-8", errors="replace") as lines:
                entries = (line.split(":") for line in lines)
                return next((entry[0] for entry in entries if len(entry) > 2 and entry[2] == str(uid)), str(uid))
        except (KeyError, OSError):
            return str(uid)


class Facts:
    """What rules ask of one process, each read when first asked for.

    None is what the kernel does not tell; `process.missing` then says why. '' is what the process does not have.
    """

    def __init__(self, process: Process, table: ProcessTable, users: Users) -> None:
        self.process = process
        self._table = table
        self._users = users

    @cached_property
    def comm(self) -> str:
        """The kernel's name; of a kernel thread up to the slash, for `kworker/3:1-events` is one of many `kworker`."""
        name = self.process.stat.comm.decode("utf-8", "replace")
        return name.partition("/")[0] if self.process.stat.is_kernel_thread else name

    @cached_property
    def cmdline(self) -> str | None:
        """The words joined by blanks; '' of kernel threads."""
        return self._told("cmdline", lambda: parse.command_line(self._content("cmdline")), "")

    @cached_property
    def exe(self) -> str | None:
        """Path of the executable, without the kernel's mark of a file that was replaced; '' of kernel threads."""
        path = self._told("exe", lambda: os.readlink(self._table.path(self.process, "exe")), "")
        return None if path is None else path.removesuffix(" (deleted)")

    @cached_property
    def uid(self) -> int | None:
        """The effective user."""
        return self._told("user", lambda: parse.status(self._content("status")).uid, None)

    @cached_property
    def user(self) -> str | None:
        """The effective user's name, or number where it has no name."""
        return None if self.uid is None else self._users.name(self.uid)

    @cached_property
    def control_groups(self) -> tuple[str, ...]:
        """Paths of its control groups, the unified hierarchy's first."""
        return self._told("cgroup", lambda: parse.control_groups(self._content("cgroup")), ()) or ()

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The systemd units it runs in, outermost first."""
        return next(filter(None, map(parse.units, self.control_groups)), ())

    def _content(self, file: str) -> bytes:
        return self._table.content(self.process, file, keep=False)

    def _told(self, figure: str, read: Callable[[], Fact], absent: Fact) -> Fact | None:
        try:
            return read()
        except VANISHED:
            return absent
        except (OSError, ValueError) as error:
            self.process.missing[figure] = why_missing(error)
            return None


class Rule:
    """One configured group, compiled."""

    def __init__(self, group: ProcessGroup) -> None:
        self.name = group.name
        self.has_places = _PLACE.search(group.name) is not None
        self.children = group.children
        self.top = group.top if self.has_places else None
        self.smaps = group.smaps
        self.threads = group.threads
        self._match = group.match
        self._cmdline = _compiled(group.match.cmdline)
        self._exe = _compiled(group.match.exe)
        self._cgroup = _compiled(group.match.cgroup)
        self.asks_user = group.match.user is not None or "{user}" in group.name

    def fits(self, facts: Facts, pid_files: Mapping[str, int | None]) -> bool:
        """Whether every criterion holds; what is cheap to know is asked first."""
        match = self._match
        return (
            (match.pid_file is None or pid_files.get(match.pid_file) == facts.process.pid)
            and (match.comm is None or facts.comm == match.comm)
            and (self._cmdline is None or _holds(self._cmdline.search, facts.cmdline))
            and (self._exe is None or _holds(self._exe.fullmatch, facts.exe))
            and (match.user is None or (facts.uid is not None and match.user in (facts.user, str(facts.uid))))
            and (match.unit is None or match.unit in facts.units)
            and (self._cgroup is None or any(map(self._cgroup.search, facts.control_groups)))
        )

    def name_for(self, facts: Facts) -> str:
        """The group's name with this process's facts in it; of the executable, the last part of its path."""
        return _PLACE.sub(lambda place: _shown(facts, place[1]), self.name) if self.has_places else self.name


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


def _holds(matcher: Callable[[str], re.Match[str] | None], fact: str | None) -> bool:
    return fact is not None and matcher(fact) is not None


def _shown(facts: Facts, place: str) -> str:
    value: str | None
    if place == "comm":
        value = facts.comm
    elif place == "exe":
        value = facts.exe and os.path.basename(facts.exe)
    elif place == "user":
        value = facts.user
    else:
        value = next(iter(facts.units), "")
        if "cgroup" in facts.process.missing:
            value = None
    return UNKNOWN if value is None else value or NONE


class Selector:
    """All rules, in the order of the configuration."""

    def __init__(self, groups: Sequence[ProcessGroup], table: ProcessTable, root: str) -> None:
        self.rules = tuple(map(Rule, groups))
        self.asks_user = any(rule.asks_user for rule in self.rules)
        self._table = table
        self._root = root
        self._users = Users(root)
        self._pid_files: dict[str, int | None] = {
            group.match.pid_file: None for group in groups if group.match.pid_file is not None
        }
        self.missing_pid_files: dict[str, str] = {}
        """Pid files that are there and do not tell a process id, with the reason."""

    def refresh(self, now_seconds: float) -> list[Process]:
        """Read the pid files; the processes that one of them names since now, or names no longer."""
        self._users.refresh(now_seconds)
        affected: list[int] = []
        for path, before in self._pid_files.items():
            pid = self._pid_files[path] = self._pid_in(path)
            if pid != before:
                affected += [number for number in (before, pid) if number is not None]
        processes = self._table.processes
        return [processes[name] for name in map(str, affected) if name in processes]

    def _pid_in(self, path: str) -> int | None:
        self.missing_pid_files.pop(path, None)
        try:
            with open(f"{self._root}{path}", "rb") as file:
                return int(file.read(64))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.missing_pid_files[path] = why_missing(error)
            return None

    def select(self, process: Process) -> tuple[Rule, str] | None:
        """The first rule that the process fits and the name of its group; None where it fits none."""
        process.missing.clear()
        facts = Facts(process, self._table, self._users)
        for rule in self.rules:
            if rule.fits(facts, self._pid_files):
                return rule, rule.name_for(facts)
        return None

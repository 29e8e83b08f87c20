"""Examining the sources of logs: what is there, and what this user may read of it."""

import glob
import grp
import itertools
import os
import pwd
import shlex
import stat
from collections.abc import Iterator

from novel_agent.config.schema import Config, LogSource
from novel_agent.runtime.finding import Finding

_MOST_FILES = 1_000
_MOST_FINDINGS = 5


def examine_logs(config: Config) -> Iterator[Finding]:
    """A finding for each source, and one for each of its files that cannot be read. Looks at names and modes only."""
    takers = [
        export.name for export in config.export if "logs" in export.signals and export.type != "prometheus_remote_write"
    ]
    for source in config.logs:
        if source.journal is None:
            yield from _files(source)
        else:
            yield _journal(source)
    if config.logs and not takers:
        yield Finding(
            "logs",
            "note",
            "no export takes logs, so none are read",
            "add an item to `export` with logs among its signals",
        )


def _files(source: LogSource) -> Iterator[Finding]:
    what = f"logs {source.name}"
    paths = sorted(set(itertools.islice(_matches(source), _MOST_FILES)))
    barred = [directory for pattern in source.paths if (directory := _barred_directory(pattern))]
    unreadable = [path for path in paths if os.path.isfile(path) and not os.access(path, os.R_OK, effective_ids=True)]
    for path in dict.fromkeys([*barred, *unreadable][:_MOST_FINDINGS]):
        yield Finding(what, "problem", f"{path} is not this user's to read ({_mode(path)})", _fix(path))
    if len(barred) + len(unreadable) > _MOST_FINDINGS:
        yield Finding(what, "problem", f"{len(barred) + len(unreadable) - _MOST_FINDINGS} more cannot be read either")
    if not paths and not barred:
        yield Finding(what, "note", f"no file is called {' or '.join(source.paths)} yet; those that come are read")
    elif not unreadable and not barred:
        files = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
        yield Finding(what, "ok", f"{files} readable")


def _matches(source: LogSource) -> Iterator[str]:
    for pattern in source.paths:
        yield from glob.iglob(pattern, recursive=True)


def _barred_directory(pattern: str) -> str:
    """The directory before the first wildcard, or the one above it, that this user may not list; empty where there is none."""
    fixed = os.path.dirname(pattern.partition("*")[0].partition("?")[0].partition("[")[0])
    parts = fixed.split("/")
    for depth in range(2, len(parts) + 1):
        directory = "/".join(parts[:depth])
        needed = os.X_OK if depth < len(parts) or not glob.has_magic(pattern) else os.R_OK | os.X_OK
        if os.path.isdir(directory) and not os.access(directory, needed, effective_ids=True):
            return directory
    return ""


def _mode(path: str) -> str:
    status = os.stat(path)
    return f"{_owner(status)}:{_group(status)} {stat.filemode(status.st_mode)}"


def _owner(status: os.stat_result) -> str:
    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return str(status.st_uid)


def _group(status: os.stat_result) -> str:
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _fix(path: str) -> str:
    """As narrow as possible: the group that may read it already, unless that is root's."""
    status = os.stat(path)
    if status.st_mode & stat.S_IRGRP and status.st_gid != 0:
        return f"as root: usermod -aG {_group(status)} {_user()}, and restart the agent"
    rights = "rX" if os.path.isdir(path) else "r"
    return f"as root: setfacl -m u:{_user()}:{rights} {shlex.quote(path)}"


def _journal(source: LogSource) -> Finding:
    what = f"logs {source.name}"
    assert source.journal is not None
    directories = [source.journal.directory] if source.journal.directory else ["/var/log/journal", "/run/log/journal"]
    there = [path for path in directories if os.path.isdir(path)]
    if not there:
        return Finding(what, "note", f"no journal at {' or '.join(directories)}", "journal.directory where it is")
    barred = next((path for path in _journal_files(there) if not os.access(path, os.R_OK, effective_ids=True)), None)
    if barred is not None:
        fix = f"as root: usermod -aG systemd-journal {_user()}, and restart the agent"
        return Finding(what, "problem", f"{barred} is not this user's to read: only its own messages are", fix)
    return Finding(what, "ok", f"{', '.join(there)} is readable")


def _journal_files(directories: list[str]) -> Iterator[str]:
    for directory in directories:
        yield from sorted(glob.iglob(f"{glob.escape(directory)}/*/system.journal"))
        yield from sorted(glob.iglob(f"{glob.escape(directory)}/system.journal"))

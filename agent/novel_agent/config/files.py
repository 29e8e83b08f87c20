"""Which files a configuration is read from, and whether they may be trusted.

A file or directory is refused where somebody else could change it: where others may write, or where a group may that is
neither root's nor the owner's private one (the group named as the owner with no other member: what umask 002 leaves behind
in a checkout is fine). So is a file whose directory is such, also at the end of a symbolic link, since it can be replaced
there. A directory with the sticky bit may be written by others as far as the files already in it are concerned. On a file
system mounted read-only, as Kubernetes mounts its volumes, nobody can write, whatever the mode says.
"""

import os
import stat
from typing import NamedTuple

from novel_agent.config.model import DEFAULT_CONF_DIR, DEFAULT_CONFIG, Sources
from novel_agent.config.yaml_reader import MOST_BYTES
from novel_agent.errors import ConfigError

_SECRET_MOST_BYTES = 64 << 10


class SourceFile(NamedTuple):
    """One file's content. `is_main` tells --config from the drop-ins."""

    path: str
    data: bytes
    is_main: bool


def read_sources(sources: Sources, errors: list[ConfigError], notices: list[str]) -> list[SourceFile]:
    """Every file there is to read, in the order in which later ones win."""
    paths = _main_paths(sources) + _drop_in_paths(sources, errors, notices)
    files = []
    for path, is_main in paths:
        data = _read_trusted(path, is_main, errors, notices)
        if data is not None:
            files.append(SourceFile(path, data, is_main))
    return files


def _main_paths(sources: Sources) -> list[tuple[str, bool]]:
    if sources.config is None:
        return [(DEFAULT_CONFIG, True)] if os.path.lexists(DEFAULT_CONFIG) else []
    return [(sources.config, True)] if sources.config else []


def _drop_in_paths(sources: Sources, errors: list[ConfigError], notices: list[str]) -> list[tuple[str, bool]]:
    directory = sources.conf_dir
    if directory is None:
        directory = DEFAULT_CONF_DIR if os.path.lexists(DEFAULT_CONF_DIR) else ""
    if not directory:
        return []
    try:
        names = sorted(os.listdir(directory))
        problem = _trust_problem(directory, os.stat(directory)) or _parent_problem(directory)
    except OSError as error:
        errors.append(ConfigError(directory, 0, "", f"cannot be read: {reason(error)}"))
        return []
    if problem:
        errors.append(ConfigError(directory, 0, "", problem))
    paths = [os.path.join(directory, name) for name in names if not name.startswith(".") and _is_text(name)]
    notices.extend(notice for path in paths if (notice := _ignored(path)))
    return [(path, False) for path in paths if path.endswith(".yaml") and not os.path.isdir(path)]


def _is_text(name: str) -> bool:
    """Whether the name can be shown; what is not UTF-8 arrives as surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _ignored(path: str) -> str | None:
    if path.endswith(".yaml"):
        return f"{path} is a directory and is not read" if os.path.isdir(path) else None
    if path.endswith((".yml", ".json")):
        return f"{path} is not read: only files named *.yaml are"
    return None


def _read_trusted(path: str, is_main: bool, errors: list[ConfigError], notices: list[str]) -> bytes | None:
    try:
        data, status = _read(path, MOST_BYTES)
        problem = _trust_problem(path, status) or _parent_problem(path, is_checked=not is_main)
    except OSError as error:
        errors.append(ConfigError(path, 0, "", f"cannot be read: {reason(error)}"))
        return None
    if problem:
        errors.append(ConfigError(path, 0, "", problem))
    elif status.st_uid not in (0, os.geteuid()):
        notices.append(f"{path} belongs to {user_name(status.st_uid)}, who can change what this agent does")
    return data


def read_secret(path: str) -> str:
    """The content of a secret's file without its trailing newline; OSError or ValueError where there is none to use."""
    data, status = _read(path, _SECRET_MOST_BYTES)
    problem = _trust_problem(path, status) or _parent_problem(path)
    if problem:
        raise ValueError(problem)
    if len(data) > _SECRET_MOST_BYTES:
        raise ValueError(f"is larger than {_SECRET_MOST_BYTES >> 10}KiB")
    text = data.decode()
    return text.removesuffix("\n").removesuffix("\r")


def file_problem(path: str) -> str | None:
    """Why a file that will be read later cannot be or must not be; None where it can."""
    try:
        _, status = _read(path, 0)
        return _trust_problem(path, status) or _parent_problem(path)
    except OSError as error:
        return f"cannot be read: {reason(error)}"


def _read(path: str, most_bytes: int) -> tuple[bytes, os.stat_result]:
    """At most one byte more than asked. Without O_NONBLOCK, opening a FIFO would wait for a writer for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is not a regular file")
        parts = []
        left = most_bytes + 1
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), status
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """Why a file could not be read, in plain words."""
    known = {FileNotFoundError: "it does not exist", PermissionError: "this user may not read it"}
    return known.get(type(error)) or error.strerror or type(error).__name__


def _parent_problem(path: str, *, is_checked: bool = False) -> str | None:
    """Who could put another file in this one's place; `is_checked` where the path's own directory was looked at already."""
    near, far = os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))
    for parent in dict.fromkeys((near, far)):
        if is_checked and os.path.samefile(parent, near):
            continue
        problem = _trust_problem(parent, os.stat(parent), sticky_suffices=True)
        if problem:
            return f"stands in {parent}, which {problem}"
    return None


def _trust_problem(path: str, status: os.stat_result, *, sticky_suffices: bool = False) -> str | None:
    mode = status.st_mode
    writers = mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not writers or (sticky_suffices and mode & stat.S_ISVTX):
        return None
    problem = None
    if mode & stat.S_IWOTH:
        problem = f"may be written by everyone; run: chmod go-w {path}"
    elif not is_private_group(status.st_gid, status.st_uid):
        problem = f"may be written by group {group_name(status.st_gid)}; run: chmod g-w {path}"
    return None if problem is None or os.statvfs(path).f_flag & os.ST_RDONLY else problem


def is_private_group(group_id: int, user_id: int) -> bool:
    """Whether nobody but this user, or root, is in the group."""
    if group_id == 0:
        return True
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(user_id), grp.getgrgid(group_id)
    except KeyError:
        return group_id == user_id
    return user.pw_gid == group_id and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def user_name(user_id: int) -> str:
    """For people: `user NAME`."""
    import pwd

    try:
        return f"user {pwd.getpwuid(user_id).pw_name}"
    except KeyError:
        return f"user {user_id}"


def group_name(group_id: int) -> str:
    """For people."""
    import grp

    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)

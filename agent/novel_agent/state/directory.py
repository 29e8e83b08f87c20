"""The state directory: made, locked and kept private.

One agent owns it at a time: it holds an exclusive flock on the file `lock`, which the kernel gives back however the agent
ends. The file holds the owner's pid, so that whoever is refused can be told who has it.

Whoever may write to the directory can choose the API token, read what waits, and have the agent write where it should not.
So it must belong to this user or to root, and not everyone may write to it. It is taken with a warning

- where a group may write to it, which somebody chose (`fsGroup` of a pod);
- for root, where it belongs to another user, as files of the configuration may: root tries out what runs as a service, or is
  the user of a container whose image has another;
- where it is a mount point, /tmp and its like excepted: a volume has the owner and the mode that its driver gives it
  (`emptyDir`: root, 0777; tmpfs: root, 1777), which the agent can often not change, and who else sees it is decided by who
  mounts it.

For those cases nothing in it is followed where it is a symbolic link, and no stranger's file is taken for the agent's own.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import NamedTuple

from novel_agent.config.files import group_name, is_private_group, user_name
from novel_agent.errors import StateError
from novel_agent.logs import get_logger

log = get_logger("state")

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a FIFO would wait for its other end."""

_FOR_EVERYONE = frozenset({"/tmp", "/var/tmp", "/dev/shm"})  # noqa: S108 - named to be refused


class Distrust(NamedTuple):
    """Why others can change what is in a state directory, what to do about it, and whether that must be done."""

    says: str
    fix: str
    is_refused: bool


def distrust(path: str, status: os.stat_result, user_id: int) -> Distrust | None:
    """What is wrong with owner and mode of the state directory of an agent that runs as this user; None where nothing is."""
    mode = status.st_mode
    place = os.path.realpath(path)
    is_volume = os.path.ismount(place) and place not in _FOR_EVERYONE
    if status.st_uid not in (0, user_id):
        owner = user_name(status.st_uid)
        is_refused = user_id != 0 and not is_volume
        return Distrust(f"belongs to {owner}", f"run the agent as {owner}, or chown {user_id} {path}", is_refused)
    if mode & stat.S_IWOTH:
        return Distrust("may be written by everyone", f"run: chmod go-w {path}", not is_volume)
    if mode & stat.S_IWGRP and not is_private_group(status.st_gid, status.st_uid):
        return Distrust(f"may be written by group {group_name(status.st_gid)}", f"run: chmod g-w {path}", False)
    return None


class TokenNotKept(StateError):  # noqa: N818 - named by what it means for the token
    """A token was made that could not be written, as on a full disk; `token` is good for this run."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


class StateDirectory:
    """An open, locked state directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1
        self._token: str | None = None

    def open(self) -> None:
        """Make the directory (0700) if need be and lock it; StateError says what is in the way."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            status = os.stat(self.path)
        except OSError as error:
            raise self._unusable(error) from None
        self._check(status)
        try:
            self._lock = _opened_own(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT, status.st_uid)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _pid_in(self._lock)
            self.close()
            raise StateError(
                f"state directory {self.path} is in use by process {holder}; stop that agent, or give this one its own"
                " with --state-dir"
            ) from None
        except OSError as error:
            self.close()
            raise StateError(
                f"state directory {self.path} cannot be locked ({error.strerror}); give one on a file system with locks"
                " with --state-dir"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _unusable(self, error: OSError) -> StateError:
        return StateError(
            f"state directory {self.path}: {error.strerror}; give one this user may write with --state-dir"
        )

    def _check(self, status: os.stat_result) -> None:
        found = distrust(self.path, status, os.geteuid())
        if found is None:
            return
        if found.is_refused:
            raise StateError(
                f"state directory {self.path} {found.says}, who can change what this agent does; {found.fix}; or give another"
                " with --state-dir"
            )
        log.warning(
            "others can change what is in the state directory", path=self.path, reason=found.says, fix=found.fix
        )

    def close(self) -> None:
        """Unlock; safe more than once."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    def token(self) -> tuple[str, bool]:
        """The API token kept in `api-token` (0640), and whether it was made just now; TokenNotKept has one for this run."""
        path = os.path.join(self.path, "api-token")
        try:
            descriptor = _opened_own(path, os.O_RDONLY, os.stat(self.path).st_uid)
            with open(descriptor, encoding="ascii") as file:
                kept = file.read().strip()
            if kept:
                return kept, False
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(f"{path}: cannot be read ({error}); remove it to have a new one made") from None
        made = self._token = self._token or secrets.token_urlsafe(32)
        try:
            write_atomically(path, made.encode() + b"\n", mode=0o640)
        except OSError as error:
            raise TokenNotKept(
                f"{path}: the token cannot be written ({error.strerror}); make room, or give another state directory with"
                " --state-dir",
                made,
            ) from None
        return made, True


def _opened_own(path: str, flags: int, owner: int) -> int:
    """Open a file of the state directory, whose owner this is; StateError where somebody else may have put it there."""
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateError(f"{path} is a symbolic link, which the agent never makes; remove it: rm {path}") from None
        raise
    status = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file"
    elif status.st_uid not in (0, os.geteuid(), owner):
        problem = f"belongs to {user_name(status.st_uid)}"
    if problem:
        os.close(descriptor)
        raise StateError(f"{path} {problem}; see who put it there, and remove it: rm {path}")
    return descriptor


def holder(path: str) -> str | None:
    """The process that has a state directory in use, None where none has; makes and writes nothing.

    OSError where the lock is there and cannot be examined.
    """
    try:
        lock = os.open(os.path.join(path, "lock"), os.O_RDONLY | _SAFELY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(lock)
    finally:
        os.close(lock)
    return None


def _pid_in(lock: int) -> str:
    return os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"


def write_atomically(path: str, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file so that after a crash it is the old one or the new one, whole: write, fsync, rename, fsync directory."""
    directory = os.path.dirname(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        _write_synced(temporary, content, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _write_synced(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

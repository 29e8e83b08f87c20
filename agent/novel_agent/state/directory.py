"""The state directory: made, locked and kept private.

One agent owns it at a time: it holds an exclusive flock on the file `lock`, which the kernel gives back however the agent
ends. The file holds the owner's pid, so that whoever is refused can be told who has it.
"""

import contextlib
import fcntl
import os
import secrets

from novel_agent.errors import StateError


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
            self._lock = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"state directory {self.path}: {error.strerror}; give one this user may write with --state-dir"
            ) from None
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

    def close(self) -> None:
        """Unlock; safe more than once."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    def token(self) -> tuple[str, bool]:
        """The API token kept in `api-token` (0640), and whether it was made just now; TokenNotKept has one for this run."""
        path = os.path.join(self.path, "api-token")
        try:
            with open(path, encoding="ascii") as file:
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


def holder(path: str) -> str | None:
    """The process that has a state directory in use, None where none has; makes and writes nothing.

    OSError where the lock is there and cannot be examined.
    """
    try:
        lock = os.open(os.path.join(path, "lock"), os.O_RDONLY | os.O_CLOEXEC)
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

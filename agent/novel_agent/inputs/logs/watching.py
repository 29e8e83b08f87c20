"""Which directories are watched, and what changed in them. Where inotify is not to be had, that is said and nothing breaks."""

import os
from typing import NamedTuple

from novel_agent.inputs.logs import inotify
from novel_agent.inputs.logs.inotify import Inotify, file_system_kind


class Changes(NamedTuple):
    """Paths that grew or changed their mode, in this order; paths that are another file's now, or nobody's; and the rest.

    `directories`: some came or went. `lost`: the kernel could not keep all events.
    """

    grown: dict[str, None]
    moved: set[str]
    directories: bool
    lost: bool


NOTHING = Changes({}, set(), directories=False, lost=False)


class Watching:
    """The watched directories of one source."""

    def __init__(self, wanted: bool) -> None:
        self._inotify: Inotify | None = None
        self._numbers: dict[str, int] = {}
        self._directories: dict[int, list[str]] = {}
        self._unwatched: set[str] = set()
        self._names_only: set[str] = set()
        self._entered: set[str] = set()
        self._failures: list[str] = []
        if wanted:
            try:
                self._inotify = Inotify()
            except OSError as error:
                self._failures.append(f"no inotify instance: {error.strerror}")

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when something changed; None without inotify."""
        return self._inotify.descriptor if self._inotify is not None and self._inotify.descriptor >= 0 else None

    @property
    def complete(self) -> bool:
        """Whether every directory is watched."""
        return self.descriptor is not None and not self._unwatched

    def enter(self, directory: str) -> None:
        """Watch a directory from before it is listed."""
        self._entered.add(directory)
        if self._inotify is None or self._inotify.descriptor < 0:
            return
        if directory in self._numbers and directory not in self._names_only:
            return
        try:
            if _is_network(directory):
                raise OSError(0, "a network file system")
            number = self._inotify.add(directory)
        except (FileNotFoundError, NotADirectoryError):
            self._await(os.path.dirname(directory))
            return
        except OSError as error:
            if directory not in self._unwatched:
                self._unwatched.add(directory)
                self._failures.append(f"{directory}: {error.strerror}")
            return
        self._unwatched.discard(directory)
        self._names_only.discard(directory)
        self._note(directory, number)

    def keep_only_entered(self) -> None:
        """Watch no more what was not entered since the last call."""
        entered, self._entered = self._entered, set()
        self._unwatched &= entered
        for directory in self._numbers.keys() - entered:
            self._forget(directory)

    def changes(self) -> Changes:
        """What happened since the last call."""
        if self._inotify is None or self._inotify.descriptor < 0:
            return NOTHING
        events = self._inotify.read()
        if not events:
            return NOTHING
        grown: dict[str, None] = {}
        moved: set[str] = set()
        directories = lost = False
        for number, mask, name in events:
            if mask & inotify.Q_OVERFLOW:
                lost = True
            elif mask & inotify.SELF_GONE and not name:
                directories = True
                self._end(number, ended=bool(mask & inotify.IGNORED))
            elif mask & inotify.ISDIR:
                directories |= bool(mask & inotify.MOVED)
            else:
                paths = [os.path.join(directory, name) for directory in self._directories.get(number, ())]
                if mask & inotify.MOVED:
                    moved.update(paths)
                else:
                    grown.update(dict.fromkeys(paths))
        return Changes(grown, moved, directories, lost)

    def failures(self) -> list[str]:
        """Why something is not watched, once each."""
        failures, self._failures = self._failures, []
        return failures

    def close(self) -> None:
        """Watch nothing more; safe more than once."""
        if self._inotify is not None:
            self._inotify.close()

    def _await(self, directory: str) -> None:
        """Watch the nearest directory that is there for names that appear."""
        self._entered.add(directory)
        if self._inotify is None or directory in self._numbers or directory in ("", "/"):
            return
        try:
            number = self._inotify.add(directory, names_only=True)
        except (FileNotFoundError, NotADirectoryError):
            self._await(os.path.dirname(directory))
        except OSError:
            return
        else:
            self._names_only.add(directory)
            self._note(directory, number)

    def _note(self, directory: str, number: int) -> None:
        self._numbers[directory] = number
        directories = self._directories.setdefault(number, [])
        if directory not in directories:
            directories.append(directory)

    def _end(self, number: int, *, ended: bool) -> None:
        """The directory was moved or removed: its name may be another's now."""
        directories = self._directories.pop(number, [])
        for directory in directories:
            self._numbers.pop(directory, None)
            self._names_only.discard(directory)
        if not ended and directories and self._inotify is not None:
            self._inotify.remove(number)

    def _forget(self, directory: str) -> None:
        number = self._numbers.pop(directory)
        self._names_only.discard(directory)
        left = self._directories.get(number, [])
        if directory in left:
            left.remove(directory)
        if not left and self._inotify is not None and self._inotify.descriptor >= 0:
            self._directories.pop(number, None)
            self._inotify.remove(number)


def _is_network(directory: str) -> bool:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return file_system_kind(descriptor) == "network"
    finally:
        os.close(descriptor)

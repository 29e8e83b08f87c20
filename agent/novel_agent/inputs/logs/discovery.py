"""Which files there are: patterns with `*`, `?`, `[a-z]` and `**`, looked up with one listing a directory.

As in a shell, `*` does not match a leading dot, and `**` does not enter directories that begin with one. Symbolic links are
followed, each directory is entered once.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

_MOST_DIRECTORIES = 10_000
_MAGIC = re.compile(r"[*?\[]")


_Part = Callable[[str], object] | None


class Listing(NamedTuple):
    """What was found; `failed` are directories that could not be listed, whose files are where they were, for all we know."""

    paths: list[str]
    failed: dict[str, OSError]


class _Names(NamedTuple):
    all: list[str]
    matching: list[str]


class Discovery:
    """The files that one source's patterns match now."""

    def __init__(self, patterns: Iterable[str], exclude: Iterable[str] = ()) -> None:
        self._patterns = [_parts(pattern) for pattern in patterns]
        self._last = [_name_regex("*" if parts[-1] == "**" else parts[-1]) for parts in self._patterns]
        self._names: dict[tuple[str, str], _Names] = {}
        self._exclude = [_compiled(pattern) for pattern in exclude]

    def look(self, entering: Callable[[str], None]) -> Listing:
        """List every directory in which there may be a match; `entering` is told of each before it is listed."""
        walk = _Walk(entering, self._names, self._excludes)
        paths: dict[str, None] = {}
        for parts in self._patterns:
            for found in walk.matches("/" if parts[0] == "/" else ".", parts[1:] if parts[0] == "/" else parts):
                paths.update(dict.fromkeys(found))
        self._names = walk.names
        return Listing(list(paths), walk.failed)

    def may_match(self, path: str) -> bool:
        """Whether the last part of a pattern matches a name, which is enough for a look."""
        name = os.path.basename(path)
        return any(matching(name) for matching in self._last)

    def _excludes(self, path: str) -> bool:
        return any(_matches_path(pattern, _parts(path)) for pattern in self._exclude)


class _Walk:
    """One look; what names a directory had and which of them matched is known from the last one."""

    def __init__(
        self,
        entering: Callable[[str], None],
        known: dict[tuple[str, str], _Names],
        excludes: Callable[[str], bool],
    ) -> None:
        self.failed: dict[str, OSError] = {}
        self.names: dict[tuple[str, str], _Names] = {}
        self._entering = entering
        self._known = known
        self._excludes = excludes
        self._listed: dict[str, list[str]] = {}
        self._looked_into: set[str] = set()

    def matches(self, directory: str, parts: list[str]) -> Iterator[list[str]]:
        """The paths that match, directory by directory."""
        first, rest = parts[0], parts[1:]
        if first == "**":
            yield from self._any_depth(directory, rest or ["*"], set())
        elif not rest:
            yield self._matching(directory, first)
        elif _MAGIC.search(first):
            for path in self._matching(directory, first):
                if os.path.isdir(path):
                    yield from self.matches(path, rest)
        else:
            yield from self.matches(os.path.join(directory, first), rest)

    def _matching(self, directory: str, pattern: str) -> list[str]:
        """Paths of the names that match, shorter ones first: a.log before what it was rotated to."""
        if not _MAGIC.search(pattern):
            return self._named(os.path.join(directory, pattern))
        names = self._list(directory)
        known = self._known.get((directory, pattern))
        if known is None or known.all != names:
            matching = _name_regex(pattern)
            paths = [os.path.join(directory, name) for name in names if matching(name)]
            paths = [path for path in paths if not self._excludes(path)]
            known = _Names(names, sorted(paths, key=_length_and_name))
        self.names[directory, pattern] = known
        return known.matching

    def _named(self, path: str) -> list[str]:
        """A path without anything to match, whose directory need not be one that may be listed."""
        directory = os.path.dirname(path)
        if directory not in self._listed and directory not in self._looked_into:
            self._looked_into.add(directory)
            self._entering(directory)
        return [path] if os.path.lexists(path) and not self._excludes(path) else []

    def _any_depth(self, directory: str, rest: list[str], entered: set[tuple[int, int]]) -> Iterator[list[str]]:
        try:
            status = os.stat(directory)
        except OSError:
            self._list(directory)
            return
        identity = (status.st_dev, status.st_ino)
        if identity in entered or len(entered) >= _MOST_DIRECTORIES:
            return
        entered.add(identity)
        yield from self.matches(directory, rest)
        for path in self._directories(directory):
            yield from self._any_depth(path, rest, entered)

    def _directories(self, directory: str) -> list[str]:
        try:
            with os.scandir(directory) as entries:
                return sorted(
                    entry.path for entry in entries if not entry.name.startswith(".") and _is_directory(entry)
                )
        except OSError as error:
            self._fail(directory, error)
            return []

    def _list(self, directory: str) -> list[str]:
        listed = self._listed.get(directory)
        if listed is None:
            self._entering(directory)
            try:
                listed = os.listdir(directory)
            except OSError as error:
                self._fail(directory, error)
                listed = []
            self._listed[directory] = listed
        return listed

    def _fail(self, directory: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.failed[directory] = error


def _length_and_name(path: str) -> tuple[int, str]:
    return len(path), path


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _parts(pattern: str) -> list[str]:
    parts = [part for part in os.path.normpath(pattern).split("/") if part]
    return ["/", *parts] if pattern.startswith("/") else parts


def _name_regex(pattern: str) -> Callable[[str], object]:
    if not _MAGIC.search(pattern):
        return pattern.__eq__
    hidden = "" if pattern.startswith(".") else r"(?!\.)"
    return re.compile(hidden + fnmatch.translate(pattern)).match


def _matches_path(parts: Sequence[_Part], names: Sequence[str]) -> bool:
    """Whether a path as its names matches a pattern as its parts; None stands for any directories, none too."""
    if not parts:
        return not names
    if parts[0] is None:
        return any(_matches_path(parts[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and bool(parts[0](names[0])) and _matches_path(parts[1:], names[1:])


def _compiled(pattern: str) -> list[_Part]:
    parts = _parts(pattern)
    if parts[-1] == "**":
        parts.append("*")
    return [None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts]

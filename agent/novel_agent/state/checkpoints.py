"""How far the sources of logs are read, in one file: `positions.json` of the state directory.

Replaced atomically, at most once a second. A file that is damaged or from a later version is moved aside, never in the way.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from novel_agent.state.directory import write_atomically

VERSION = 1
FORGET_SECONDS = 7 * 86_400
MOST_FILES = 10_000
_WRITE_SECONDS = 1.0
_MOST_BYTES = 64 << 20


class FilePosition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file and the offset up to which everything in it is acknowledged.

    `path` is where it was found first, `place` where it was last. `head` is a hash of its first `head_bytes` bytes, `before`
    of the at most 64 bytes before `offset`, both in hexadecimal; of a compressed file all are about what is in it. Where
    `skipping`, `offset` is within a line that was cut, whose rest is not wanted. `gone_unix_seconds` is since when the file
    is not there any more, 0 where it is. `uid` may be empty: nothing has been read of a content that follows `parent`.
    """

    path: str
    place: str
    device: int
    inode: int
    offset: int
    uid: str = ""
    parent: str = ""
    head_bytes: int = 0
    head: str = ""
    before: str = ""
    skipping: bool = False
    gone_unix_seconds: float = 0


class SourcePositions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a source: positions of files, or the cursor of a journal."""

    files: tuple[FilePosition, ...] = ()
    cursor: str = ""


class _Written(msgspec.Struct, frozen=True):
    version: int
    sources: dict[str, SourcePositions]


class _Version(msgspec.Struct):
    version: int


class Loaded(NamedTuple):
    """What was in the file, and, where it could not be used, why and where it was moved."""

    sources: dict[str, SourcePositions]
    problem: str = ""
    moved_to: str = ""


class Checkpoints:
    """The file of positions. Not for more than one thread at a time; `load` and `write` may block on the disk."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "positions.json")
        self._sources: dict[str, SourcePositions] = {}
        self._changed = False
        self._not_before = float("-inf")

    def load(self) -> Loaded:
        """What is in the file; never fails. Sources that are not put again are kept as they are."""
        try:
            content = self._content()
            if content is None:
                return Loaded({})
            sources = _read(content)
        except (OSError, ValueError) as error:
            return Loaded({}, str(error), self._move_aside())
        self._sources = sources
        return Loaded(dict(sources))

    def put(self, source: str, positions: SourcePositions) -> None:
        """Set what the next write will hold of a source."""
        if self._sources.get(source) != positions:
            self._sources[source] = positions
            self._changed = True

    def forget(self, sources: Iterable[str]) -> None:
        """Leave out sources that are not configured any more."""
        for source in sources:
            self._changed |= self._sources.pop(source, None) is not None

    def write(self, now: float, *, at_once: bool = False) -> OSError | None:
        """Write what changed, unless it was tried within the last second of `now`, a clock in seconds that never goes back.

        An error leaves the old file; the change is written by a later call.
        """
        if not self._changed or (now < self._not_before and not at_once):
            return None
        self._not_before = now + _WRITE_SECONDS
        try:
            write_atomically(self._path, _text(self._sources), mode=0o640)
        except OSError as error:
            return error
        self._changed = False
        return None

    def due(self, now: float) -> float | None:
        """Seconds until `write` has something to do; None where nothing changed."""
        return max(0.0, self._not_before - now) if self._changed else None

    def _content(self) -> bytes | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._path)
        return content

    def _move_aside(self) -> str:
        number = 1
        while os.path.lexists(aside := f"{self._path}.damaged-{number}"):
            number += 1
        try:
            os.rename(self._path, aside)
        except OSError:
            return ""
        return aside


def _read(content: bytes) -> dict[str, SourcePositions]:
    version = msgspec.json.decode(content, type=_Version).version
    if version != VERSION:
        raise ValueError(f"written by another version of the agent: its format is {version}, not {VERSION}")
    written = msgspec.json.decode(content, type=_Written)
    return {
        name: msgspec.structs.replace(source, files=tuple(_with_paths(_as_bytes, file) for file in source.files))
        for name, source in written.sources.items()
    }


def _text(sources: dict[str, SourcePositions]) -> bytes:
    bounded = {
        name: msgspec.structs.replace(source, files=tuple(_with_paths(_as_text, file) for file in newest(source.files)))
        for name, source in sources.items()
    }
    return msgspec.json.format(msgspec.json.encode(_Written(VERSION, bounded)), indent=1) + b"\n"


def newest(files: tuple[FilePosition, ...]) -> tuple[FilePosition, ...]:
    """At most 10,000 of them: those that are there, then those gone last."""
    if len(files) <= MOST_FILES:
        return files
    return tuple(sorted(files, key=lambda file: (file.gone_unix_seconds > 0, -file.gone_unix_seconds))[:MOST_FILES])


def _with_paths(form: Callable[[str], str], file: FilePosition) -> FilePosition:
    path, place = form(file.path), form(file.place)
    if path is file.path and place is file.place:
        return file
    return msgspec.structs.replace(file, path=path, place=place)


def _as_text(path: str) -> str:
    """A path that JSON can hold: a byte that is no UTF-8 is written as NUL, which no path has, and two digits."""
    if path.isascii() or not _UNDECODABLE.search(path):
        return path
    return _UNDECODABLE.sub(lambda found: f"\0{ord(found[0]) - 0xDC00:02x}", path)


def _as_bytes(text: str) -> str:
    return _WRITTEN_BYTE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if "\0" in text else text


_UNDECODABLE = re.compile("[\udc80-\udcff]")
_WRITTEN_BYTE = re.compile("\0([89a-f][0-9a-f])")

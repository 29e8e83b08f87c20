"""What there is to know and to say of files that are followed."""

from typing import Any, NamedTuple

import msgspec

from novel_agent.inputs.logs.content import Content, State
from novel_agent.inputs.logs.identity import printable


class Notice(NamedTuple):
    """Something to say once: a constant event and its key-values."""

    event: str
    values: dict[str, Any]


class FileStatus(msgspec.Struct, frozen=True):
    """A file as it is followed; sizes and offsets in bytes.

    `path` is where it was found first, `place` where it is. `lag_bytes` is what is in it and not acknowledged.
    """

    path: str
    place: str
    uid: str
    device: int
    inode: int
    size: int
    read_offset: int
    committed_offset: int
    lag_bytes: int
    state: State
    error: str
    errors: int
    lines_cut: int
    bytes_skipped: int


def file_status(content: Content) -> FileStatus:
    """The status of one file."""
    return FileStatus(
        path=content.file.path,
        place=printable(content.path),
        uid=content.file.uid,
        device=content.identity[0],
        inode=content.identity[1],
        size=content.size,
        read_offset=content.offset,
        committed_offset=content.committed,
        lag_bytes=max(0, content.size - content.committed),
        state=content.state,
        error=content.error,
        errors=content.errors,
        lines_cut=content.lines_cut,
        bytes_skipped=content.bytes_skipped,
    )


class Notices:
    """What is to be said, each thing once."""

    def __init__(self) -> None:
        self._waiting: list[Notice] = []
        self._said: set[tuple[str, str]] = set()

    def say(self, event: str, *, about: str = "", **values: Any) -> None:
        """Say it unless it was said about the same thing."""
        if (event, about) not in self._said:
            self._said.add((event, about))
            self._waiting.append(Notice(event, values))

    def say_again(self, event: str, **values: Any) -> None:
        """Say it whatever was said before."""
        self._waiting.append(Notice(event, values))

    def take(self) -> list[Notice]:
        """What was not taken yet."""
        taken, self._waiting = self._waiting, []
        return taken

"""Files that rotation leaves beside a log: the same file under another name, its copy, its compressed copy."""

import os
import stat
from collections.abc import Iterator

from novel_agent.inputs.logs.content import Content, Identity
from novel_agent.inputs.logs.identity import (
    BEFORE_BYTES,
    HEAD_BYTES,
    digest,
    is_compressed,
    is_surely_rotated,
    may_be_rotated,
)
from novel_agent.inputs.logs.sources import Bytes, open_regular, opened, stated_length


class Copies:
    """The names beside logs, listed once a scan."""

    def __init__(self) -> None:
        self._listed: dict[str, list[os.DirEntry[str]]] = {}

    def forget(self) -> None:
        """List again when asked again."""
        self._listed.clear()

    def with_identity(self, original: str, identity: Identity) -> str | None:
        """The name that a rotation gave to a file."""
        for entry in self._names(original):
            if entry.inode() == identity[1]:
                try:
                    status = entry.stat()
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) == identity:
                    return entry.path
        return None

    def beside(self, original: str) -> Iterator[tuple[str, os.stat_result]]:
        """Regular files that may be copies of one: plain ones first, then the newest first. Listed anew."""
        self._listed.pop(os.path.dirname(original), None)
        candidates = []
        for entry in self._names(original):
            try:
                status = entry.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                candidates.append((is_compressed(entry.name), -status.st_mtime_ns, entry.path, status))
        for _, _, path, status in sorted(candidates, key=lambda candidate: candidate[:3]):
            yield path, status

    def rotated_later(self, original: str, place: str) -> Iterator[tuple[str, Identity]]:
        """Files beside one that a rotation put there after the one at `place`, the oldest first."""
        try:
            since = os.stat(place).st_mtime_ns
        except OSError:
            return
        found = [(status.st_mtime_ns, path, (status.st_dev, status.st_ino)) for path, status in self.beside(original)]
        paths = {path for _, path, _ in found}
        for changed, path, identity in sorted(found):
            if changed <= since or path == place or not is_surely_rotated(*map(os.path.basename, (path, original))):
                continue
            if is_compressed(path) and os.path.splitext(path)[0] in paths:
                continue
            yield path, identity

    def same_so_far(self, copy: Content, original: Content) -> bool:
        """Whether two open files have the same bytes as far as the shorter one goes, by their beginnings and ends."""
        if copy.source is None or original.source is None:
            return False
        first, second = copy.source.fileno(), original.source.fileno()
        length = min(os.fstat(first).st_size, os.fstat(second).st_size)
        for place, count in ((0, min(length, HEAD_BYTES)), (max(0, length - BEFORE_BYTES), min(length, BEFORE_BYTES))):
            if os.pread(first, count, place) != os.pread(second, count, place):
                return False
        return length > 0

    def _names(self, original: str) -> Iterator[os.DirEntry[str]]:
        directory, name = os.path.split(original)
        if directory not in self._listed:
            try:
                with os.scandir(directory) as entries:
                    self._listed[directory] = list(entries)
            except OSError:
                self._listed[directory] = []
        for entry in self._listed[directory]:
            if may_be_rotated(entry.name, name):
                yield entry


def continues(content: Content, path: str) -> bool:
    """Whether a file, or what a compressed file holds, begins like a content and goes on where it was read.

    Of a compressed file only the beginning is looked at here; the rest is verified when reading gets there.
    """
    try:
        with opened(path) as source:
            beginning = _read(source, content.head_bytes, 0)
            if len(beginning) < content.head_bytes or digest(beginning) != content.head:
                return False
            if is_compressed(path):
                return True
            length = min(BEFORE_BYTES, content.offset)
            before = _read(source, length, content.offset - length)
    except (OSError, ValueError):
        return False
    if len(before) < length:
        return False
    if content.before is None:
        return not content.expected_before or digest(before) == content.expected_before
    return before.endswith(content.before)


def fully_read(content: Content, path: str) -> bool:
    """Whether a compressed file says that it holds no more than what was read."""
    if not is_compressed(path):
        return False
    try:
        descriptor = open_regular(path)
    except (OSError, ValueError):
        return False
    try:
        return stated_length(descriptor, path) == content.offset % (1 << 32)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _read(source: Bytes, length: int, offset: int) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: source.read_into(memoryview(buffer), offset)])

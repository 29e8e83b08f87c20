"""The log files of one source, followed through growth, rotation, truncation and restarts.

docs/explanation/log-files.md states the rules. Synchronous, for one thread; clocks are arguments in seconds that never go
back. Nothing is waited for but the disk.
"""

import contextlib
import errno
import os
import stat
from typing import NamedTuple

import msgspec

from novel_agent.inputs.logs.content import (
    BUFFER_BYTES,
    Content,
    Elsewhere,
    Identity,
    Replaced,
    Turn,
)
from novel_agent.inputs.logs.copies import Copies, continues, fully_read
from novel_agent.inputs.logs.discovery import Discovery, Listing
from novel_agent.inputs.logs.files import Files
from novel_agent.inputs.logs.identity import is_compressed, may_be_rotated, stem_of
from novel_agent.inputs.logs.report import FileStatus, Notice, Notices, file_status
from novel_agent.inputs.logs.settings import (
    CHECK_SECONDS,
    HELD_SECONDS,
    HOT_SECONDS,
    IDLE_HANDLE_SECONDS,
    LOST_SECONDS,
    MOST_ATTEMPTS,
    RESCANNED_PER_SECOND,
    SCAN_SECONDS,
    SCAN_UNWATCHED_SECONDS,
    SCANNED_PER_SECOND,
    SCANNED_PER_SECOND_UNWATCHED,
    Settings,
)
from novel_agent.inputs.logs.watching import Changes, Watching
from novel_agent.model.lines import Chunk, LogFile
from novel_agent.state.checkpoints import FORGET_SECONDS, FilePosition, SourcePositions


class Read(NamedTuple):
    """A chunk that was read, and what to hand to `done` when it is acknowledged."""

    file: LogFile
    chunk: Chunk
    position: Content


class LogTail:
    """The files of one source. Every method is for one thread at a time.

    `saved` is what the checkpoint holds of the source, None where it holds nothing: only then `start_at_end` counts.
    """

    def __init__(self, settings: Settings, saved: SourcePositions | None = None) -> None:
        self._settings = settings
        self._discovery = Discovery(settings.paths, settings.exclude)
        self._watching = Watching(settings.inotify)
        self._buffer = bytearray(BUFFER_BYTES)
        self._files = Files(settings.most_open)
        self._at: dict[str, Content] = {}
        self._by_stem: dict[str, list[Content]] = {}
        self._listed: list[str] = []
        self._known_paths: list[tuple[str, Content | None]] = []
        self._homes: list[str] = []
        self._matched: dict[str, Identity] = {}
        self._lost: dict[Content, float] = {}
        self._retired: dict[Content, None] = {}
        self._past: dict[Identity, list[FilePosition]] = {}
        for position in saved.files if saved is not None else ():
            self._past.setdefault((position.device, position.inode), []).append(position)
        self._to_find = [position for position in (saved.files if saved else ()) if not position.gone_unix_seconds]
        self._known_before: list[Content] = []
        self._copies = Copies()
        self._at_end = settings.start_at_end and saved is None
        self._first = True
        self._rescan = True
        self._scan_at = float("-inf")
        self._rescan_not_before = float("-inf")
        self._check_at = float("-inf")
        self._notices = Notices()
        self.changed = True

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when there may be something to read; None where inotify is not to be had."""
        return self._watching.descriptor

    def wants(self, now: float) -> float:
        """Seconds until `poll` has something to do even if the descriptor does not become readable; 0 for at once."""
        if self._files.ready:
            return 0.0
        at = max(self._rescan_not_before, now) if self._rescan else self._scan_at
        if (
            self._files.closing
            or self._files.held
            or self._lost
            or (self._files.contents and not self._watching.complete)
        ):
            at = min(at, self._check_at)
        return max(0.0, at - now)

    def poll(self, now: float, most_bytes: int) -> list[Read]:
        """Notice what changed and read at most so many bytes of whole lines, in turns of all files that have some.

        More only where a single line is longer, and then it is the only thing returned.
        """
        self._take_changes(self._watching.changes())
        if now >= self._scan_at or (self._rescan and now >= self._rescan_not_before):
            self._scan(now)
        if now >= self._check_at:
            self._check(now)
        reads: list[Read] = []
        room = most_bytes
        while self._files.ready and room > 0:
            taken = self._turn(self._files.next(), now, room, reads)
            if taken < 0:
                break
            room -= taken
        return reads

    def done(self, position: Content, end: int, before: bytes | None = None) -> None:
        """Everything of this file before this offset is acknowledged; in order for each file.

        `before` is the at most 64 bytes before it, where they are known: a file that is truncated has them no more.
        """
        if end > position.committed:
            position.done(end, before)
            self.changed = True

    def may_go_on(self, position: Content) -> bool:
        """Whether more of this content may be read soon without anybody writing it: it has its turn yet, or is looked for."""
        closing = self._files.closing
        return position.queued or position.blocked or position in closing or position in self._lost

    def positions(self, unix_seconds: float) -> SourcePositions:
        """What the checkpoint is to hold now. Clears `changed`."""
        self.changed = False
        if self._first:
            return SourcePositions(files=tuple(position for past in self._past.values() for position in past))
        files = [position for content in self._files.contents if (position := content.position()) is not None]
        for content in (*self._lost, *self._retired):
            position = content.position()
            if position is None:
                self._retired.pop(content, None)
            elif content in self._retired and content.acknowledged:
                del self._retired[content]
                self._past.setdefault(content.identity, []).append(_gone(position, unix_seconds))
            else:
                files.append(position)
        for identity, past in list(self._past.items()):
            past[:] = [
                _gone(position, unix_seconds)
                for position in past
                if not position.gone_unix_seconds or unix_seconds - position.gone_unix_seconds < FORGET_SECONDS
            ]
            files += past
            if not past:
                del self._past[identity]
        return SourcePositions(files=tuple(files))

    def status(self) -> list[FileStatus]:
        """Every file that is followed, in the order of discovery."""
        return [file_status(content) for content in self._files.contents]

    def notices(self) -> list[Notice]:
        """What there is to say since the last call."""
        return self._notices.take()

    def close(self) -> None:
        """Let go of every handle; safe more than once. Positions can still be asked for."""
        for content in (*self._files.contents, *self._lost, *self._retired):
            self._files.shut(content)
        self._watching.close()

    # what changed

    def _take_changes(self, changes: Changes) -> None:
        if changes.lost:
            self._rescan = True
            self._notices.say("lost events of log directories, listing them")
            for content in self._files.contents:
                content.signature = (-1, -1)
        for path in changes.grown:
            if path in self._at:
                self._files.queue(self._at[path])
        for path in changes.moved:
            if path in self._at or self._discovery.may_match(path):
                self._rescan = True
        self._rescan |= changes.directories

    def _scan(self, now: float) -> None:
        """List the directories: what appeared, moved, vanished, and what changed without being noticed."""
        self._rescan = False
        listing = self._discovery.look(self._enter)
        for directory, error in listing.failed.items():
            self._notices.say(
                "cannot list a log directory", about=directory, directory=directory, reason=error.strerror
            )
        if not self._unmoved(listing):
            self._sort_out(listing, now)
        for directory in self._homes:
            self._enter(directory)
        for content in list(self._lost):
            self._search(content, now)
        self._files.shut_idle(now - IDLE_HANDLE_SECONDS)
        self._watching.keep_only_entered()
        self._plan(now)

    def _unmoved(self, listing: Listing) -> bool:
        """Whether every path is the file that it was at the last scan; those that changed are queued."""
        if self._files.unsorted or listing.failed or listing.paths != self._listed:
            return False
        for path, content in self._known_paths:
            try:
                status = os.stat(path)
            except OSError:
                return False
            if content is None:
                if stat.S_ISREG(status.st_mode):
                    return False
            elif status.st_ino != content.identity[1] or status.st_dev != content.identity[0]:
                return False
            elif (
                status.st_mtime_ns != content.signature[1] or status.st_size != content.signature[0] or content.blocked
            ):
                content.signature = (status.st_size, status.st_mtime_ns)
                self._files.queue(content)
        return True

    def _sort_out(self, listing: Listing, now: float) -> None:
        """Find out which file has which path now."""
        found = self._identities(listing)
        self._copies.forget()
        self._relocate(found, listing.failed, now)
        self._matched = {path: _identity(status) for path, status in found.items()}
        for path, status in found.items():
            self._arrive(path, status)
        if self._first:
            self._find_saved(now)
        self._first = self._at_end = self._files.unsorted = False
        self._listed = listing.paths
        self._index()

    def _plan(self, now: float) -> None:
        names = len(self._matched) + len(self._files.contents)
        if self._watching.complete:
            self._scan_at = now + max(SCAN_SECONDS, names / SCANNED_PER_SECOND)
        else:
            self._scan_at = now + max(SCAN_UNWATCHED_SECONDS, names / SCANNED_PER_SECOND_UNWATCHED)
        self._rescan_not_before = now + names / RESCANNED_PER_SECOND
        for failure in self._watching.failures():
            self._notices.say("log directories are listed instead of watched", reason=failure)

    def _enter(self, directory: str) -> None:
        self._watching.enter(directory)

    def _identities(self, listing: Listing) -> dict[str, os.stat_result]:
        """The regular files among the names found."""
        regular = {}
        for path in listing.paths:
            try:
                status = os.stat(path)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue
                listing.failed.setdefault(os.path.dirname(path), error)
                continue
            if stat.S_ISREG(status.st_mode):
                regular[path] = status
        return regular

    def _relocate(self, found: dict[str, os.stat_result], failed: dict[str, OSError], now: float) -> None:
        """Find out where the files that are followed are now."""
        paths: dict[Identity, list[str]] = {}
        for path, status in found.items():
            paths.setdefault(_identity(status), []).append(path)
        for content in list(self._files.contents):
            here = paths.get(content.identity, [])
            if content.gone and not here:
                continue
            content.gone = False
            if content.path not in here:
                place = here[0] if here else self._place(content)
                if place is None and os.path.dirname(content.path) in failed:
                    continue
                if place is None:
                    self._vanish(content, now)
                    continue
                self._move(content, place)
            home = found.get(content.origin)
            at_home = home is not None and _identity(home) == content.identity
            if not at_home and os.path.dirname(content.origin) not in failed:
                self._rotate(content, here, now)
            elif at_home and content.rotated:
                content.rotated = False
                self._files.closing.pop(content, None)

    def _rotate(self, content: Content, here: list[str], now: float) -> None:
        """The file is not where it was found: another name of it counts if it is not one that a rotation gives."""
        other = [path for path in here if path in self._matched and not _rotated_name(path, content.origin)]
        if other and self._matched.get(other[0]) == content.identity:
            content.origin = other[0]
        elif not content.rotated:
            content.rotated = True
            content.changed_at = max(content.changed_at, now)
            self._files.close_when_quiet(content)

    def _place(self, content: Content) -> str | None:
        """Where a file is that no pattern finds: where it was, or under a name that a rotation gives."""
        for path in (content.path, content.real):
            with contextlib.suppress(OSError):
                if _identity(os.stat(path)) == content.identity:
                    return path
        return self._copies.with_identity(content.real, content.identity)

    def _move(self, content: Content, place: str) -> None:
        content.path = place
        content.moved()
        self._files.queue(content)
        self.changed = True

    def _vanish(self, content: Content, now: float) -> None:
        """No name is left of a file: what is open is read to its end, what is not is looked for among copies."""
        content.gone = True
        content.changed_at = max(content.changed_at, now)
        if content.source is not None:
            self._files.close_when_quiet(content)
        else:
            self._files.drop(content)
            self._lose(content, now)

    def _arrive(self, path: str, status: os.stat_result) -> None:
        identity = _identity(status)
        content = self._files.by_identity.get(identity)
        if content is None and not is_compressed(path):
            content = self._resume(path, identity) or self._begin(path, identity, status)
        if content is None or content.path != path:
            return
        signature = (status.st_size, status.st_mtime_ns)
        if signature != content.signature or content.blocked:
            content.signature = signature
            self._files.queue(content)

    def _resume(self, path: str, identity: Identity) -> Content | None:
        """A content that the checkpoint knows, if it is still what is in the file."""
        for content in [retired for retired in self._retired if retired.identity == identity]:
            if self._revive(content, path):
                return content
        for position in sorted(self._past.get(identity, ()), key=lambda position: -position.offset):
            resumed = self._resumed(position)
            resumed.path = path
            try:
                resumed.verify()
            except (Replaced, Elsewhere, ValueError):
                resumed.close()
                self._known_before = [content for content in self._known_before if content is not resumed]
                continue
            except OSError as error:
                self._fail(resumed, error)
            self._past[identity].remove(position)
            resumed.rotated = position.path != path
            self._files.add(resumed)
            if resumed.rotated:
                self._files.closing[resumed] = None
            return resumed
        return None

    def _revive(self, content: Content, path: str) -> bool:
        """A file that was given up is there again, unless another has its inode."""
        before, content.path, content.detached = content.path, path, False
        try:
            content.verify()
        except (OSError, Replaced, Elsewhere, ValueError):
            content.close()
            content.path, content.detached = before, True
            return False
        del self._retired[content]
        content.gone = False
        content.moved()
        self._files.add(content)
        return True

    def _begin(self, path: str, identity: Identity, status: os.stat_result) -> Content:
        content = Content(self._settings.rules, path, identity)
        content.parent = self._earlier(identity)
        if self._at_end:
            content.from_end_of = status.st_size
        else:
            content.proven = False
        self._files.add(content)
        return content

    def _earlier(self, identity: Identity) -> str:
        """The uid of what was in an inode before."""
        retired = [content.file.uid or content.parent for content in self._retired if content.identity == identity]
        past = [position.uid or position.parent for position in self._past.get(identity, ())]
        return next(reversed([*past, *retired]), "")

    def _find_saved(self, now: float) -> None:
        """Files of the checkpoint that no pattern found: renamed, copied or compressed while nobody looked."""
        lost = [content for position in self._to_find if (content := self._unfound(position)) is not None]
        for content in lost:
            self._lose(content, now)
        self._to_find = []
        latest: dict[str, list[Content]] = {}
        for content in self._known_before:
            latest.setdefault(content.real, []).append(content)
        for contents in latest.values():
            if all(content.rotated or content not in self._files for content in contents):
                self._follow_later(max(contents, key=_last_change))
        self._known_before = []

    def _resumed(self, position: FilePosition) -> Content:
        content = Content.resumed(self._settings.rules, position)
        if self._first and not position.gone_unix_seconds:
            self._known_before.append(content)
        return content

    def _follow_later(self, earlier: Content) -> None:
        """Files that came and were rotated after one that was followed, all while nobody looked."""
        past = [position for its in self._past.values() for position in its if position.path == earlier.origin]
        for path, identity in self._copies.rotated_later(earlier.real, earlier.path):
            if identity in self._files.by_identity:
                continue
            known = [content for content in self._files.contents if content.real == earlier.real]
            known += [Content.resumed(self._settings.rules, position) for position in past]
            if any(content.head_bytes and continues(content, path) for content in known):
                continue
            content = Content(self._settings.rules, path, identity)
            content.origin, content.file = earlier.origin, earlier.file._replace(uid="")
            content.real = earlier.real
            content.rotated = True
            self._files.add(content)
            self._files.close_when_quiet(content)

    def _unfound(self, position: FilePosition) -> Content | None:
        """Go on with a file that still has its inode; else the content to look for elsewhere, None where it was found."""
        identity = (position.device, position.inode)
        past = self._past.get(identity, [])
        if position not in past:
            return None
        past.remove(position)
        content = self._resumed(position)
        place = self._place(content) if identity not in self._files.by_identity else None
        if place is None:
            return content
        content.path = place
        try:
            content.open()
        except (Replaced, Elsewhere, ValueError):
            content.path = position.place
            return content
        except OSError as error:
            self._fail(content, error)
        content.rotated = True
        self._files.add(content)
        self._files.close_when_quiet(content)
        return None

    def _index(self) -> None:
        """Note by which paths events and listings name the files."""
        self._at = {
            path: self._files.by_identity[key] for path, key in self._matched.items() if key in self._files.by_identity
        }
        self._known_paths = [(path, self._at.get(path)) for path in self._listed]
        self._by_stem = {}
        homes = set()
        for content in self._files.contents:
            self._by_stem.setdefault(stem_of(content.real), []).append(content)
            if content.gone:
                continue
            real = content.path if content.path != content.origin else content.real
            self._at.setdefault(content.path, content)
            self._at.setdefault(real, content)
            homes.add(os.path.dirname(real))
            if content.path not in self._matched:
                self._known_paths.append((content.path, content))
                self._look_at(content)
            elif real != content.path:
                self._known_paths.append((real, content))
        self._homes = sorted(homes)

    def _look_at(self, content: Content) -> None:
        with contextlib.suppress(OSError):
            status = os.stat(content.path)
            signature = (status.st_size, status.st_mtime_ns)
            if signature != content.signature:
                content.signature = signature
                self._files.queue(content)

    def _check(self, now: float) -> None:
        """What is due every second: rotated files that may be finished, copies held back, files nobody watches."""
        self._check_at = now + CHECK_SECONDS
        for content in (*self._files.closing, *self._files.held):
            self._files.queue(content)
        if not self._watching.complete:
            for content in self._files.contents:
                if now - content.changed_at < HOT_SECONDS and not content.gone:
                    self._look_at(content)
        for content, deadline in list(self._lost.items()):
            if now >= deadline:
                del self._lost[content]
                self._retire(content)

    # reading

    def _turn(self, content: Content, now: float, room: int, reads: list[Read]) -> int:
        """One turn of a file; how many bytes it took, -1 where there are too few left for it."""
        if content not in self._files:
            return 0
        size = content.size
        try:
            if not self._ready_to_read(content, now):
                return 0
            got, count = content.read(self._buffer, room, forced=not reads)
            if got is Turn.END and content in self._files.closing and self._finished(content, size, now):
                got = self._finish(content, now) or got
        except Replaced:
            self._truncate(content, now)
            return 0
        except (Elsewhere, FileNotFoundError):
            self._rescan = True
            return 0
        except (OSError, ValueError) as error:
            self._fail(content, error)
            if content.compressed:
                self._give_up_on_copy(content, now)
            return 0
        content.blocked, content.error = False, ""
        self._files.used(content)
        if content.size != size:
            content.changed_at = now
            if content.rotated:
                self._files.closing[content] = None
        if isinstance(got, Chunk):
            self.changed = True
            reads.append(Read(content.file, got, content))
            self._files.queue(content)
            return len(got.data)
        if got is Turn.ROOM:
            self._files.first_again(content)
            return -1
        if got is Turn.AGAIN:
            self._files.queue(content)
        else:
            self._files.spare_handles()
        return count if got is Turn.AGAIN else 0

    def _ready_to_read(self, content: Content, now: float) -> bool:
        """Whether a file may be read: where to begin is known, and it is not a copy of one that is followed."""
        if content.from_end_of >= 0:
            content.begin_at_end(content.from_end_of)
            content.from_end_of = -1
            self.changed = True
        if content.proven or content.offset > 0:
            return True
        if content.source is None:
            content.open()
        assert content.source is not None
        size = os.fstat(content.source.fileno()).st_size
        if size != content.size:
            content.size, content.changed_at = size, now
        if size == 0:
            return content in self._files.closing
        if self._copy_of_another(content, now):
            if content in self._files:
                self._files.held[content] = None
            return False
        self._files.held.pop(content, None)
        content.proven = True
        return True

    def _copy_of_another(self, content: Content, now: float) -> bool:
        """Whether a file that was found later is the same as one that is followed, as far as both go."""
        assert content.source is not None
        for lost in list(self._lost):
            if _rotated_name(content.real, lost.real):
                self._search(lost, now)
                if content not in self._files:
                    return True
        for other in self._originals(content):
            try:
                other.verify()
            except Replaced:
                self._truncate(other, now)
                if content not in self._files:
                    return True
                continue
            except (OSError, ValueError, Elsewhere):
                continue
            if now - content.changed_at < HELD_SECONDS and self._copies.same_so_far(content, other):
                return True
        return False

    def _originals(self, content: Content) -> list[Content]:
        """Files of which another may be a rotated copy, to judge by its name."""
        path = content.real
        shortest = path.rfind("/") + 2
        return [
            other
            for end in range(shortest, len(path) + 1)
            for other in self._by_stem.get(path[:end], ())
            if other is not content and other.head_bytes and other in self._files
            if _rotated_name(path, other.real)
        ]

    def _finished(self, content: Content, size: int, now: float) -> bool:
        return content.size == size and now - content.changed_at >= self._settings.quiet_seconds

    def _finish(self, content: Content, now: float) -> Chunk | None:
        """The end of a rotated or removed file that is quiet: its last line as it is, or that was all."""
        rest = content.rest()
        if rest is not None:
            return rest
        del self._files.closing[content]
        self._files.shut(content)
        if content.compressed:
            self._files.drop(content)
            self._retire(content)
        elif content.gone:
            self._files.drop(content)
            self._lose(content, now)
        return None

    def _give_up_on_copy(self, content: Content, now: float) -> None:
        """A compressed file that cannot be read may be complete later."""
        self._files.drop(content)
        if content.errors < MOST_ATTEMPTS:
            content.error = ""
            self._lost[content] = now + LOST_SECONDS
        else:
            self._retire(content)

    def _truncate(self, content: Content, now: float) -> None:
        """The content is gone from its file: its copy is read on, and what is in the file now from its start."""
        path, identity = content.path, content.identity
        self._files.drop(content)
        if not content.compressed and self._matched.get(path) == identity:
            successor = Content(self._settings.rules, path, identity)
            successor.parent = content.file.uid or content.parent
            successor.proven = False
            self._files.add(successor)
            self._at[path] = self._at[successor.real] = successor
            self._files.queue(successor)
        self._lose(content, now)
        self.changed = True

    def _lose(self, content: Content, now: float) -> None:
        content.close()
        content.detached = True
        self._lost[content] = now + LOST_SECONDS
        self._search(content, now)

    def _search(self, content: Content, now: float) -> None:
        """Look for a copy of a lost content, plain or compressed, that goes on where it was read."""
        if content.head_bytes == 0:
            del self._lost[content]
            self._retire(content)
            return
        for path, status in self._copies.beside(content.real):
            holder = self._files.by_identity.get(_identity(status))
            if holder is not None and holder.offset > 0:
                continue
            if not continues(content, path):
                continue
            del self._lost[content]
            if fully_read(content, path):
                content.path = path
                self._retire(content)
                return
            if holder is not None:
                self._files.drop(holder)
            self._continue(content, path, _identity(status), now)
            return

    def _continue(self, content: Content, path: str, identity: Identity, now: float) -> None:
        content.close()
        content.path, content.identity = path, identity
        content.moved()
        content.gone, content.rotated, content.detached = False, True, False
        content.size = content.offset
        content.changed_at = now
        self._files.add(content)
        self._at[path] = content
        self._files.close_when_quiet(content)
        self.changed = True

    def _retire(self, content: Content) -> None:
        content.close()
        content.detached = True
        self._retired[content] = None
        self.changed = True

    def _fail(self, content: Content, error: Exception) -> None:
        self._files.shut(content)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        content.blocked = True
        if reason != content.error:
            content.errors += 1
            self._notices.say_again("cannot read a log file", path=content.file.path, reason=reason)
        content.error = reason


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _rotated_name(path: str, original: str) -> bool:
    directory, name = os.path.split(path)
    original_directory, original_name = os.path.split(original)
    return directory == original_directory and may_be_rotated(name, original_name)


def _gone(position: FilePosition, unix_seconds: float) -> FilePosition:
    if position.gone_unix_seconds:
        return position
    return msgspec.structs.replace(position, gone_unix_seconds=unix_seconds)


def _last_change(content: Content) -> int:
    try:
        return os.stat(content.path).st_mtime_ns
    except OSError:
        return -1

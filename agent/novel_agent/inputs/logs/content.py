"""One content of a log file: how far it is read and acknowledged, and the next chunk of whole lines."""

import os
from collections import deque
from enum import Enum
from typing import Literal, NamedTuple

from novel_agent.inputs.logs.identity import BEFORE_BYTES, HEAD_BYTES, digest, is_compressed, printable, uid_of
from novel_agent.inputs.logs.lines import (
    after_first_newline,
    after_last_newline,
    cut_bytes,
    mark_bytes,
    marked,
    too_long_at,
    unit_bytes,
)
from novel_agent.inputs.logs.sources import Bytes, CompressedFile, PlainFile, data_from, open_regular
from novel_agent.model.lines import Chunk, LogFile, TextEncoding
from novel_agent.state.checkpoints import FilePosition

TURN_BYTES = 64 << 10
BUFFER_BYTES = TURN_BYTES + BEFORE_BYTES
_APPROACH_BYTES = 4 << 20

Identity = tuple[int, int]
"""Device and inode."""
State = Literal["reading", "quiet", "rotated", "gone", "no permission", "held"]


class Replaced(Exception):  # noqa: N818 - what happened to the file, not a mistake
    """What was read is not there any more: the file was truncated, or another content is in its place."""


class Elsewhere(Exception):  # noqa: N818
    """Another file has the path now."""


class Turn(Enum):
    """How a turn of reading ended that gave no chunk."""

    END = "nothing more for now"
    AGAIN = "it goes on"
    ROOM = "the line needs more room than there is"


class _Boundary(NamedTuple):
    end: int
    before: bytes
    skipping: bool


class Rules(NamedTuple):
    """How a source's files are read."""

    max_line_bytes: int
    encoding: Literal["auto", "utf-8", "utf-16-le", "utf-16-be"]


class Content:
    """One content of a file, wherever the file is: it ends when the file is truncated, replaced or gone for good."""

    def __init__(self, rules: Rules, path: str, identity: Identity) -> None:
        self.rules = rules
        self.origin = path
        self.path = path
        self.real = os.path.realpath(path)
        self.identity = identity
        self.file = LogFile(printable(path), "")
        self.parent = ""
        self.source: Bytes | None = None
        self.offset = 0
        self.before: bytes | None = b""
        self.expected_before = ""
        self.committed = 0
        self.head_bytes = 0
        self.head = ""
        self.encoding: TextEncoding = "utf-8" if rules.encoding == "auto" else rules.encoding
        self.started = False
        self.skipping = False
        self.searched = 0
        self.size = 0
        self.changed_at = float("-inf")
        self.signature = (-1, -1)
        self.queued = False
        self.rotated = False
        self.gone = False
        self.blocked = False
        self.detached = False
        self.proven = True
        self.from_end_of = -1
        self.error = ""
        self.errors = 0
        self.lines_cut = 0
        self.bytes_skipped = 0
        self._committed_before: bytes | None = b""
        self._committed_skipping = False
        self._outstanding: deque[_Boundary] = deque()
        self._kept = _Boundary(0, b"", False)
        self._saved: FilePosition | None = None

    @classmethod
    def resumed(cls, rules: Rules, position: FilePosition) -> "Content":
        """A content as a checkpoint knows it; it is verified when it is read."""
        content = cls(rules, position.path, (position.device, position.inode))
        content.path = position.place
        content.file = LogFile(printable(position.path), position.uid)
        content.parent = position.parent
        content.offset = content.committed = content.searched = content.size = position.offset
        content.before = b"" if position.offset == 0 else None
        content._committed_before = content.before
        content.expected_before = position.before
        content.head_bytes, content.head = position.head_bytes, position.head
        content.skipping = content._committed_skipping = position.skipping
        content.started = position.offset > 0
        return content

    @property
    def compressed(self) -> bool:
        """Whether what is read is what a compressed file holds."""
        return is_compressed(self.path)

    @property
    def state(self) -> State:
        """In one word, for people."""
        if self.blocked:
            return "no permission"
        if self.gone:
            return "gone"
        if not self.proven and self.size:
            return "held"
        if self.rotated:
            return "rotated"
        return "reading" if self.queued or self.offset < self.size else "quiet"

    @property
    def acknowledged(self) -> bool:
        """Whether nothing that was read is still on its way."""
        return not self._outstanding

    def open(self) -> None:
        """Open the file at its path and verify its beginning. OSError, ValueError, Elsewhere, Replaced."""
        descriptor = open_regular(self.path)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self.identity:
            os.close(descriptor)
            raise Elsewhere
        try:
            self.source = CompressedFile(descriptor, self.path) if self.compressed else PlainFile(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if self.offset == 0 and not self.head_bytes and not self.compressed:
            return
        try:
            if not self.head_bytes:
                self._name(_read(self.source, HEAD_BYTES, 0))
            beginning = _read(self.source, max(self.head_bytes, 4), 0)
            if len(beginning) < self.head_bytes or digest(beginning[: self.head_bytes]) != self.head:
                raise Replaced
        except BaseException:
            self.close()
            raise
        if self.rules.encoding == "auto":
            self.encoding = marked(beginning)

    def close(self) -> None:
        """Let go of the file; safe more than once."""
        if self.source is not None:
            source, self.source = self.source, None
            source.close()

    def verify(self) -> None:
        """Whether what was read last is still there. OSError, Replaced."""
        source = self._open_source()
        self._check_head(source)
        if self.offset == 0:
            return
        length = min(BEFORE_BYTES, self.offset)
        read = _read(source, length, self.offset - length)
        if self.before is None:
            if len(read) < length or (self.expected_before and digest(read) != self.expected_before):
                raise Replaced
            self.before = self._committed_before = read
            self._kept = _Boundary(self.offset, read, self.skipping)
        elif read[length - len(self.before) :] != self.before:
            raise Replaced

    def begin_at_end(self, size: int) -> None:
        """Go behind the last newline of the first `size` bytes, or to their end and skip the rest of the line."""
        source = self._open_source()
        beginning = _read(source, HEAD_BYTES, 0)
        self._note_head(beginning)
        if self.rules.encoding == "auto":
            self.encoding = marked(beginning)
        buffer, end = bytearray(BUFFER_BYTES), size - size % unit_bytes(self.encoding)
        lowest = max(0, end - 2 * self.rules.max_line_bytes)
        place = end
        while place > lowest:
            start = max(lowest - lowest % 2, place - TURN_BYTES)
            count = source.read_into(memoryview(buffer)[: place - start], start)
            after = after_last_newline(buffer, 0, count, self.encoding)
            if after >= 0:
                self._move(start + after)
                return
            place = start
        if lowest > 0:
            self._move(end)
            self.skipping = True

    def read(self, buffer: bytearray, room: int, *, forced: bool) -> tuple[Chunk | Turn, int]:
        """One turn: at most `room` bytes, or one line that needs more where it is `forced`; and how many bytes were read.

        The buffer (BUFFER_BYTES) is used for the call only. OSError, EOFError and ValueError (damaged compression), Replaced.
        """
        source = self._open_source()
        left = source.approach(self.offset - min(BEFORE_BYTES, self.offset), _APPROACH_BYTES)
        if left:
            return Turn.AGAIN, _APPROACH_BYTES
        if self.before is None:
            self.verify()
        if self.searched > self.offset and not self.skipping and not self.compressed:
            return self._search_on(source, buffer, room, forced=forced)
        want = min(TURN_BYTES, max(room, unit_bytes(self.encoding)))
        if self.compressed and self.searched > self.offset:
            want = max(want, self.rules.max_line_bytes + TURN_BYTES)
            buffer = bytearray(want + BEFORE_BYTES)
        start, count, ended = self._fill(source, buffer, want)
        if count == 0:
            return Turn.END, 0
        if self.skipping:
            return self._skip(buffer, start, count, ended=ended), count
        if not self.started and (passed := self._start(source, buffer, start, count, ended=ended)) is not None:
            return passed, count
        return self._lines(source, buffer, start, count, ended=ended, forced=forced, want=want), count

    def rest(self) -> Chunk | None:
        """What stands behind the last newline, of a file that gets no more; None where nothing does. OSError, Replaced."""
        if self.skipping or self.size <= self.offset:
            return None
        source = self._open_source()
        buffer = bytearray(min(self.size - self.offset, self.rules.max_line_bytes) + BEFORE_BYTES)
        start, count, _ = self._fill(source, buffer, len(buffer) - BEFORE_BYTES)
        count -= count % unit_bytes(self.encoding)
        if not count:
            return None
        self._recognise(source)
        return self._emit(bytes(buffer[start : start + count]), self.offset + count)

    def done(self, end: int, before: bytes | None = None) -> None:
        """Everything before this offset is acknowledged; `before` is the at most 64 bytes before it, where they are known.

        What may be committed is where a record ends, not where a read ended: a record goes on over several reads.
        """
        if end <= self.committed:
            return
        self.committed, self._committed_before, self._saved = end, None, None
        passed = None
        while self._outstanding and self._outstanding[0].end <= end:
            passed = self._outstanding.popleft()
        if passed is not None and passed.end == end:
            self._kept = passed
        elif before is not None and len(before) == min(BEFORE_BYTES, end):
            self._kept = _Boundary(end, before, False)
        if self._kept.end == end:
            self._committed_before, self._committed_skipping = self._kept.before, self._kept.skipping
        self._settle()

    def position(self) -> FilePosition | None:
        """What a checkpoint holds of it now; None where nothing of it is known yet."""
        if self._saved is not None:
            return self._saved
        if not self.head_bytes and self.queued:
            self._look_ahead()
        if not self.head_bytes and not self.parent:
            return None
        if self._committed_before is None and self.before is not None:
            self._find_before()
        self._saved = FilePosition(
            path=self.origin,
            place=self.real if self.path == self.origin else self.path,
            device=self.identity[0],
            inode=self.identity[1],
            offset=self.committed,
            uid=self.file.uid,
            parent=self.parent,
            head_bytes=self.head_bytes,
            head=self.head,
            before=digest(self._committed_before) if self._committed_before else self._unverified_before(),
            skipping=self._committed_skipping,
        )
        return self._saved

    def moved(self) -> None:
        """Where the file is has changed."""
        self._saved = None

    def _open_source(self) -> Bytes:
        if self.source is None:
            self.open()
        assert self.source is not None
        return self.source

    def _check_head(self, source: Bytes) -> None:
        """Whether it still begins as it did: lines often end alike, so what stands before the position may be alike too."""
        if self.compressed or not self.head_bytes:
            return
        if digest(_read(source, self.head_bytes, 0)) != self.head:
            raise Replaced

    def _look_ahead(self) -> None:
        """Note what a file begins with whose turn has not come, so that it can be found wherever it is after a restart."""
        try:
            self._note_head(_read(self._open_source(), HEAD_BYTES, 0))
        except (OSError, ValueError, Replaced, Elsewhere):
            return

    def _unverified_before(self) -> str:
        return self.expected_before if self.before is None else ""

    def _find_before(self) -> None:
        """Read what stands before a committed offset within a chunk; if it is gone, an earlier record's end is committed."""
        length = min(BEFORE_BYTES, self.committed)
        try:
            if self.compressed or self.detached:
                raise Elsewhere
            self.verify()
            read = _read(self._open_source(), length, self.committed - length)
            if len(read) == length:
                self._committed_before, self._committed_skipping = read, False
                return
        except (OSError, ValueError, Replaced, Elsewhere):
            pass
        self.committed, self._committed_before, self._committed_skipping = self._kept

    def _fill(self, source: Bytes, buffer: bytearray, want: int) -> tuple[int, int, bool]:
        """Read on into the buffer: where the new bytes begin in it, how many they are, and whether the file ends there."""
        before = self.before or b""
        length = len(before)
        read = source.read_into(memoryview(buffer)[: length + want], self.offset - length)
        if read < length or not buffer.startswith(before):
            raise Replaced
        if self.offset:
            self._check_head(source)
        count = read - length
        if self.offset == 0 and self.head_bytes and not self.compressed:
            self._verify_head(buffer, count, ended=count < want)
        self.size = max(self.offset + count, self.size if count == want else 0)
        return length, count, count < want

    def _verify_head(self, buffer: bytearray, count: int, *, ended: bool) -> None:
        """Of a file of which no line has been read, what was seen of the first one."""
        if count < self.head_bytes:
            if ended:
                raise Replaced
        elif digest(bytes(buffer[: self.head_bytes])) != self.head:
            raise Replaced

    def _start(self, source: Bytes, buffer: bytearray, start: int, count: int, *, ended: bool) -> Turn | None:
        """Pass NUL bytes and the byte order mark at the beginning; None where there are none."""
        beginning = bytes(buffer[start : start + min(count, 4)])
        if beginning[0] == 0 and beginning[:2] in (b"\0", b"\0\0"):
            filled = buffer[start : start + count]
            nuls = count - len(filled.lstrip(b"\0"))
            place = self.offset + nuls
            if nuls == count and not ended and not self.compressed:
                place = max(place, data_from(source.fileno(), place))
            place -= place % unit_bytes(self.encoding)
            if place == self.offset:
                if not ended:
                    self.started = True
                return Turn.END if ended else Turn.AGAIN
            self.bytes_skipped += place - self.offset
            self._pass_to(source, place)
            return Turn.AGAIN
        if ended and self.rules.encoding == "auto" and beginning in (b"\xff", b"\xfe", b"\xef", b"\xef\xbb"):
            return Turn.END
        if self.rules.encoding == "auto":
            self.encoding = marked(beginning)
        mark = mark_bytes(beginning, self.encoding)
        self.started = True
        if not mark:
            return None
        self._pass_to(source, self.offset + mark)
        return Turn.AGAIN

    def _lines(
        self, source: Bytes, buffer: bytearray, start: int, count: int, *, ended: bool, forced: bool, want: int
    ) -> Chunk | Turn:
        count -= count % unit_bytes(self.encoding)
        if not count:
            return Turn.END
        most = self.rules.max_line_bytes
        after = after_last_newline(buffer, start, start + count, self.encoding)
        if after < 0:
            if count > most:
                return self._cut(buffer[start : start + count], self.offset + count, whole=False)
            if not ended and want < TURN_BYTES and not forced:
                return Turn.ROOM
            self.searched = self.offset + count
            if self.offset == 0:
                self._note_head(bytes(buffer[:count][:HEAD_BYTES]))
            return Turn.END if ended else Turn.AGAIN
        if after - start > most:
            long = too_long_at(buffer, start, after, most, self.encoding)
            if long == start:
                after = after_first_newline(buffer, start, after, self.encoding)
                return self._cut(buffer[start:after], self.offset + after - start, whole=True)
            after = long
        self._recognise(source)
        return self._emit(bytes(memoryview(buffer)[start:after]), self.offset + after - start)

    def _search_on(self, source: Bytes, buffer: bytearray, room: int, *, forced: bool) -> tuple[Chunk | Turn, int]:
        """Look for the newline of a line that was looked at up to `searched`, without reading it again."""
        self.verify()
        most = self.rules.max_line_bytes
        count = source.read_into(memoryview(buffer)[:TURN_BYTES], self.searched)
        if count == 0 and os.fstat(source.fileno()).st_size < self.searched:
            self.size = self.searched = self.offset
            return Turn.AGAIN, 0
        self.size = max(self.searched + count, self.size if count == TURN_BYTES else 0)
        units = count - count % unit_bytes(self.encoding)
        after = after_first_newline(buffer, 0, units, self.encoding)
        end = self.searched + (after if after >= 0 else units)
        if after < 0 and end - self.offset <= most:
            self.searched = end
            return Turn.END if count < TURN_BYTES else Turn.AGAIN, count
        kept = min(end - self.offset, most + unit_bytes(self.encoding) + 4)
        if kept > room and not forced:
            return Turn.ROOM, count
        line = _read(source, kept, self.offset)
        if len(line) < kept:
            raise Replaced
        if end - self.offset > most + (unit_bytes(self.encoding) if after >= 0 else 0):
            return self._cut(line, end, whole=after >= 0), count + kept
        self._recognise(source)
        return self._emit(line, end), count + kept

    def _cut(self, line: bytes | bytearray, end: int, *, whole: bool) -> Chunk:
        """Emit the beginning of a line; what is read of it ends at `end`, with its newline if it is `whole`."""
        kept = cut_bytes(line, self.rules.max_line_bytes, self.encoding)
        source = self._open_source()
        self._recognise(source)
        self.lines_cut += 1
        self.bytes_skipped += end - self.offset - kept
        self.skipping = not whole
        tail = line[-BEFORE_BYTES:] if len(line) == end - self.offset else self._tail(source, end)
        return self._emit(bytes(line[:kept]), end, truncated=True, before=bytes(tail))

    def _skip(self, buffer: bytearray, start: int, count: int, *, ended: bool) -> Turn:
        """Pass the rest of a line that was cut."""
        units = count - count % unit_bytes(self.encoding)
        after = after_first_newline(buffer, start, start + units, self.encoding)
        passed = after - start if after >= 0 else units
        if not passed:
            return Turn.END
        self.bytes_skipped += passed
        self.skipping = after < 0
        self._advance(self.offset + passed, bytes(buffer[max(0, start + passed - BEFORE_BYTES) : start + passed]))
        return Turn.END if ended and self.skipping else Turn.AGAIN

    def _tail(self, source: Bytes, end: int) -> bytes:
        length = min(BEFORE_BYTES, end)
        tail = _read(source, length, end - length)
        if len(tail) < length:
            raise Replaced
        return tail

    def _recognise(self, source: Bytes) -> None:
        """Note what the file begins with, more of it as it grows, before a line of it is emitted."""
        if (self.head_bytes == HEAD_BYTES and self.file.uid) or self.compressed:
            return
        beginning = _read(source, HEAD_BYTES, 0)
        self._name(beginning)

    def _name(self, beginning: bytes) -> None:
        self._note_head(beginning)
        if not self.file.uid:
            first = beginning.lstrip(b"\0") or beginning
            self.file = self.file._replace(uid=uid_of(*self.identity, self.parent, first))

    def _note_head(self, beginning: bytes) -> None:
        if len(beginning) > self.head_bytes:
            self.head_bytes, self.head, self._saved = len(beginning), digest(beginning), None

    def _emit(self, data: bytes, end: int, *, truncated: bool = False, before: bytes | None = None) -> Chunk:
        chunk = Chunk(data, self.offset, end, self.encoding, truncated)
        if before is None:
            before = (
                data[-BEFORE_BYTES:] if len(data) >= BEFORE_BYTES else ((self.before or b"") + data)[-BEFORE_BYTES:]
            )
        self.offset = self.searched = end
        self.before = before
        self._outstanding.append(_Boundary(end, before, self.skipping))
        return chunk

    def _pass_to(self, source: Bytes, offset: int) -> None:
        self._advance(offset, self._tail(source, offset) if not self.compressed else None)

    def _move(self, offset: int) -> None:
        self._advance(offset, self._tail(self._open_source(), offset))
        self.started = offset > 0

    def _advance(self, offset: int, before: bytes | None) -> None:
        """Go on to an offset without a chunk: nobody has to acknowledge what is passed."""
        self.offset = self.searched = offset
        self.size = max(self.size, offset)
        self.before = before if before is not None else b""
        self._settle()

    def _settle(self) -> None:
        if not self._outstanding and self.committed <= self.offset and self.before is not None:
            self.committed, self._committed_before, self._committed_skipping = self.offset, self.before, self.skipping
            self._kept, self._saved = _Boundary(self.offset, self.before, self.skipping), None


def _read(source: Bytes, length: int, offset: int) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: source.read_into(memoryview(buffer), offset)])

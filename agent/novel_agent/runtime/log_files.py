"""The files of one source of logs, as a `Reader`: followed, parsed, worked on, and committed."""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from novel_agent.config.schema import LogSource
from novel_agent.inputs.logs.content import Content
from novel_agent.inputs.logs.report import FileStatus
from novel_agent.inputs.logs.settings import Settings
from novel_agent.inputs.logs.tail import LogTail, Read
from novel_agent.logs import get_logger
from novel_agent.model.lines import Chunk, LogFile
from novel_agent.processors.parse.encoder import Counts, JsonWays, Line, LineEncoder, lines_of
from novel_agent.processors.parse.formats import Joiner, make_joiner, make_parser
from novel_agent.processors.parse.record_bytes import RecordWriter
from novel_agent.processors.parse.timestamps import make_read_time
from novel_agent.runtime.log_reading import About, Parsed, Tally, Turn, worked_on
from novel_agent.runtime.status import LogFileStatus
from novel_agent.state.checkpoints import SourcePositions

log = get_logger("logs")

POSITIONS_SECONDS = 1.0
BEHIND_BYTES = 16 << 20
_NANOS = 1_000_000_000
_FORGET_EVERY = 256
_BEFORE_BYTES = 64

Mark = tuple[Content, int, bytes | None]
"""Up to where in what; with the bytes before, where that is within what was read."""
_Key = tuple[int, int, str]
"""Device, inode and uid: one content of one file."""


class _File:
    """What belongs to one content of a file."""

    __slots__ = (
        "_known",
        "_start",
        "counts",
        "encoder",
        "errors",
        "file",
        "joiner",
        "last_end",
        "position",
        "tally",
        "turn",
    )

    def __init__(
        self, position: Content, file: LogFile, encoder: LineEncoder, counts: Counts, joiner: Joiner | None
    ) -> None:
        self.position = position
        self.file = file
        self.encoder = encoder
        self.counts = counts
        self.joiner = joiner
        self.last_end = 0
        self.turn = 0
        self._start, self._known = 0, b""
        self.errors = 0
        self.tally = Tally()

    def remember(self, chunk: Chunk) -> None:
        """Where lines are joined: keep what stands before the places that may be committed."""
        if self.joiner is not None:
            if chunk.offset != self.last_end:
                self._known = b""
            self._start = chunk.offset - len(self._known)
            self._known += chunk.data
        self.last_end = chunk.end

    def before(self, end: int) -> bytes | None:
        """The at most 64 bytes before a place, None where they are not known; what stands before them is forgotten."""
        if self.joiner is None:
            return None
        place = end - self._start
        if not 0 < place <= len(self._known):
            return None
        self._known = self._known[max(0, place - _BEFORE_BYTES) :]
        self._start = end - min(place, _BEFORE_BYTES)
        return self._known[: min(place, _BEFORE_BYTES)]

    @property
    def key(self) -> "_Key":
        device, inode = self.position.identity
        return device, inode, self.file.uid


class FileReader:
    """Reads a source from where `saved` says. `save` is given the positions whenever they changed, at most once a second."""

    def __init__(
        self,
        source: LogSource,
        saved: SourcePositions | None,
        steps: Any,
        tally: Tally,
        save: Callable[[SourcePositions], object],
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._steps = steps
        self._tally = tally
        self._save = save
        self._steady = steady
        self._tail = LogTail(Settings.of(source), saved)
        self._parser = make_parser(source, time.time)
        self._write = RecordWriter()
        self._json = self._ways() if source.format == "json" and steps is None and source.multiline is None else None
        self._files: dict[Content, _File] = {}
        self._turns = 0
        self._turn_began = float("-inf")
        self._positions: SourcePositions | None = None
        self._positions_at = float("-inf")
        self._behind_since: dict[_Key, float] = {}

    def _ways(self) -> JsonWays:
        source = self._source
        read_time = make_read_time(source.timezone, source.time_format)
        return JsonWays(source.keys, read_time, envelope=source.attributes == "envelope")

    # in the lane

    @property
    def descriptor(self) -> int | None:
        return self._tail.descriptor

    def turn(self, marks: Sequence[Mark], now: float, most_bytes: int) -> Turn[Read]:
        for position, end, before in marks:
            self._tail.done(position, end, before)
        steady = self._steady()
        self._turns, self._turn_began = self._turns + 1, steady
        reads = self._tail.poll(steady, most_bytes) if most_bytes else []
        for notice in self._tail.notices():
            log.info(notice.event, source=self._source.name, **notice.values)
        wait_seconds = self._tail.wants(steady) if most_bytes else 0.0
        if self._tail.changed:
            due = self._positions_at + POSITIONS_SECONDS - steady
            if due <= 0 or not most_bytes:
                self._positions = self._tail.positions(now)
                self._positions_at = steady
            else:
                wait_seconds = min(wait_seconds, due)
        return Turn(reads, wait_seconds, is_behind=sum(len(read.chunk.data) for read in reads) >= most_bytes > 0)

    # in the loop

    def parse(self, piece: Read, now: float) -> Parsed[Mark]:
        here = self._of(piece.position, piece.file)
        chunk = piece.chunk
        self._tally.read_bytes += len(chunk.data)
        here.remember(chunk)
        here.turn = self._turns
        observed = int(now * _NANOS)
        if self._steps is None and here.joiner is None:
            encoded = here.encoder.encode(chunk, observed)
            return self._parsed(here, encoded.records, encoded.items, encoded.end)
        joiner = here.joiner
        lines: Iterable[Line] = lines_of(chunk, here.counts, with_blank=joiner is not None)
        if joiner is not None:
            lines = self._joined(joiner, lines)
        return self._worked_on(here, lines, observed, now)

    def _joined(self, joiner: Joiner, lines: Iterable[Line]) -> list[Line]:
        """Records' lines. One that was cut stands by itself, after what was held back before it."""
        steady = self._steady()
        done: list[Line] = []
        for is_cut, some in groupby(lines, attrgetter("truncated")):
            if is_cut:
                done += [Line(*each) for each in joiner.flush(steady, force=True)]
                done += some
            else:
                done += [Line(*each) for each in joiner.feed(some, steady)]
        return done

    def _worked_on(self, here: _File, lines: Iterable[Line], observed: int, now: float) -> Parsed[Mark]:
        records = here.encoder.records(lines, observed)
        if self._steps is not None:
            records = worked_on(self._steps, records, now, self._source.name)
        held = None if here.joiner is None else here.joiner.held_from
        return self._parsed(here, self._write(records), len(records), here.last_end if held is None else held)

    def _parsed(self, here: _File, records: bytes, items: int, end: int) -> Parsed[Mark]:
        here.tally.records += items
        counts = here.counts
        if counts.errors or counts.replaced_characters or counts.truncated:
            here.errors += sum(counts.errors.values())
            self._tally.errors += counts.errors
            self._tally.replaced_characters += counts.replaced_characters
            self._tally.truncated += counts.truncated
            counts.clear()
        return Parsed(records, items, [(here.position, end, here.before(end))])

    def flush(self, now: float) -> Iterable[Parsed[Mark]]:
        """However long parsing, sending or finding a rotated file took: what goes on in it is read before it is given up."""
        for here in list(self._files.values()):
            joiner = here.joiner
            if joiner is None or here.turn == self._turns or not joiner.due(self._turn_began):
                continue
            if not self._tail.may_go_on(here.position):
                lines = [Line(*each) for each in joiner.flush(self._turn_began)]
                yield self._worked_on(here, lines, int(now * _NANOS), now)

    def flush_in(self, now: float) -> float | None:
        joiners = (here.joiner for here in self._files.values() if here.joiner is not None)
        deadlines = [each.deadline for each in joiners if each.deadline is not None]
        return max(0.0, min(deadlines) - self._steady()) if deadlines else None

    def saved(self) -> None:
        positions, self._positions = self._positions, None
        if positions is not None:
            self._save(positions)

    def _of(self, position: Content, file: LogFile) -> _File:
        here = self._files.get(position)
        if here is None:
            self._forget()
            counts = Counts()
            encoder = LineEncoder(file, self._parser, counts, self._write, self._json)
            here = self._files[position] = _File(position, file, encoder, counts, make_joiner(self._source))
        return here

    def _forget(self) -> None:
        """What belongs to contents that are not followed any more and hold nothing back."""
        if len(self._files) % _FORGET_EVERY != _FORGET_EVERY - 1:
            return
        followed = {(each.device, each.inode, each.uid) for each in self._tail.status()}
        for position, here in list(self._files.items()):
            if here.key not in followed and (here.joiner is None or here.joiner.held_from is None):
                del self._files[position]

    def about(self, steady: float) -> About:
        statuses = self._tail.status()
        read = {here.key: here for here in list(self._files.values())}
        keys = [(each.device, each.inode, each.uid) for each in statuses]
        behind = {
            key: self._behind_since.get(key, steady) for key, each in zip(keys, statuses, strict=True) if each.lag_bytes
        }
        self._behind_since = behind
        return About(
            [
                _status(each, read.get(key), steady - behind.get(key, steady), steady)
                for key, each in zip(keys, statuses, strict=True)
            ]
        )

    def close(self) -> None:
        self._tail.close()


def _status(each: FileStatus, here: _File | None, lag_seconds: float, steady: float) -> LogFileStatus:
    return LogFileStatus(
        path=each.place,
        identity=f"{each.device:x}:{each.inode} {each.uid}",
        state="unreadable" if each.error else each.state,
        size_bytes=each.size,
        read_offset=each.read_offset,
        committed_offset=each.committed_offset,
        lag_bytes=each.lag_bytes,
        lag_seconds=round(lag_seconds, 3),
        records=here.tally.records if here else 0,
        records_per_second=round(here.tally.a_second(steady), 2) if here else 0.0,
        errors=here.errors if here else 0,
        reason=each.error,
    )

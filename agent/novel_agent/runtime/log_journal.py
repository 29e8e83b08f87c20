"""The systemd journal as a `Reader`: entries to records, worked on, committed by cursor."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from novel_agent.config.schema import LogSource
from novel_agent.errors import InputError
from novel_agent.inputs.logs.journal import JournalTail
from novel_agent.inputs.logs.journal_entry import JournalEntry
from novel_agent.logs import get_logger
from novel_agent.processors.parse.record_bytes import RecordWriter
from novel_agent.runtime.log_reading import About, Parsed, Tally, Turn, worked_on
from novel_agent.state.checkpoints import SourcePositions

log = get_logger("logs")

POSITIONS_SECONDS = 1.0
_ENTRIES_A_PIECE = 200
_WAIT_SECONDS = 30.0


class JournalReader:
    """Reads the journal from the saved cursor on. `save` is given the cursor whenever it moved, at most once a second."""

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
        assert source.journal is not None
        self._name = source.name
        self._steps = steps
        self._tally = tally
        self._save = save
        self._steady = steady
        self._write = RecordWriter()
        self._cursor = saved.cursor if saved is not None else ""
        self._saved_cursor = self._cursor
        self._saved_at = float("-inf")
        self._problem = ""
        self._tail: JournalTail | None = None
        try:
            self._tail = JournalTail(source.journal, self._cursor or None, source.start_at)
        except InputError as error:
            self._problem = str(error)
            log.error("the journal cannot be read", source=source.name, reason=error)

    @property
    def descriptor(self) -> int | None:
        return None if self._tail is None else self._tail.descriptor

    def turn(self, marks: Sequence[str], now: float, most_bytes: int) -> Turn[Sequence[JournalEntry]]:
        if marks:
            self._cursor = marks[-1]
        if self._tail is None:
            return Turn((), _WAIT_SECONDS)
        entries = self._tail.poll(now, most_bytes) if most_bytes else []
        for notice in self._tail.notices():
            log.warning("journal", source=self._name, notice=notice)
        pieces = [entries[at : at + _ENTRIES_A_PIECE] for at in range(0, len(entries), _ENTRIES_A_PIECE)]
        wait_seconds = _WAIT_SECONDS if self._tail.due is None else max(0.1, self._tail.due - now)
        if self._cursor != self._saved_cursor:
            wait_seconds = min(wait_seconds, POSITIONS_SECONDS)
        return Turn(pieces, wait_seconds, is_behind=not self._tail.follows and bool(entries))

    def parse(self, piece: Sequence[JournalEntry], now: float) -> Parsed[str]:
        records = [entry.record for entry in piece]
        cursors = [entry.cursor for entry in piece if entry.cursor]
        if self._steps is not None:
            records = worked_on(self._steps, records, now, self._name)
        encoded = self._write(records)
        self._tally.read_bytes += len(encoded)
        return Parsed(encoded, len(records), cursors[-1:])

    def flush(self, now: float) -> Iterable[Parsed[str]]:
        return ()

    def flush_in(self, now: float) -> float | None:
        return None

    def saved(self) -> None:
        steady = self._steady()
        if self._cursor != self._saved_cursor and steady - self._saved_at >= POSITIONS_SECONDS:
            self._saved_cursor, self._saved_at = self._cursor, steady
            self._save(SourcePositions(cursor=self._cursor))

    def about(self, steady: float) -> About:
        problem = self._problem if self._tail is None else self._tail.problem
        return About([], problem, self._cursor)

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()

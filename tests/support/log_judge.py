"""Whether every record that was written arrived, whole, and not more often than kills explain."""

import threading
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from log_writers import LogWriter, identified

UNNOTED_SECONDS = 2.0
"""What was acknowledged is noted with the next request; a position within a second, and a note takes its time."""
UNDER_WAY_SECONDS = 0.3
"""So long after a kill an answer to the killed may still be counted."""
SHOWN = 5


class Life(NamedTuple):
    """From start to kill, on the monotonic clock; and up to where each file was noted as read then, by the file's uid."""

    began: float
    killed: float
    noted: Mapping[str, int] = {}


class Verdict(NamedTuple):
    """Counted in records. Of those twice, `unexplained` were neither read nor sent shortly before a kill."""

    written: int
    arrived: int
    lost: int
    torn: int
    twice: int
    with_another_uid: int
    unexplained: int
    unnamed: int
    lost_ones: Sequence[tuple[int, int]] = ()
    torn_ones: Sequence[str] = ()


class Again(NamedTuple):
    """A record that came once more, and when, on the monotonic clock."""

    writer: int
    number: int
    uid: str
    first_at: float
    again_at: float


class LogJudge:
    """Takes what arrives, from any thread."""

    def __init__(self, writers: int) -> None:
        self._uids = [array("q") for _ in range(writers)]
        self._first_at = [array("d") for _ in range(writers)]
        self._twice: list[Again] = []
        self._torn: list[str] = []
        self._other_uid = 0
        self._unnamed = 0
        self._changed = threading.Condition()
        self.arrived = 0

    def take(self, records: Iterable[tuple[str, str]]) -> None:
        """The bodies of one request's records, each with its log.record.uid, which may be empty."""
        with self._changed:
            for body, uid in records:
                self._one(body, uid)
            self._changed.notify_all()

    def _one(self, body: str, uid: str) -> None:
        key = identified(body)
        if key is None or key[0] >= len(self._uids):
            self._torn.append(body)
            return
        writer, number = key
        seen = self._uids[writer]
        if number >= len(seen):
            more = bytes(8 * (number + 1 - len(seen)))
            seen.frombytes(more)
            self._first_at[writer].frombytes(more)
        self._unnamed += not uid
        name = hash(uid) or 1
        if not seen[number]:
            seen[number] = name
            self._first_at[writer][number] = time.monotonic()
            self.arrived += 1
            return
        self._twice.append(Again(writer, number, uid, self._first_at[writer][number], time.monotonic()))
        self._other_uid += seen[number] != name

    def wait(self, records: int, quiet_seconds: float) -> bool:
        """Until so many different records are there; False where none has come for so long."""
        with self._changed:
            last, last_at = self.arrived, time.monotonic()
            while self.arrived < records:
                self._changed.wait(1)
                if self.arrived > last:
                    last, last_at = self.arrived, time.monotonic()
                elif time.monotonic() > last_at + quiet_seconds:
                    return False
            return True

    def verdict(self, writers: Sequence[LogWriter], lives: Sequence[Life]) -> Verdict:
        """On all that has come."""
        written = sum(writer.count for writer in writers)
        lost = [
            (writer.index, number)
            for writer in writers
            for number in range(writer.count)
            if number >= len(self._uids[writer.index]) or not self._uids[writer.index][number]
        ]
        unexplained = sum(not is_explained(each, lives) for each in self._twice)
        return Verdict(
            written, self.arrived, len(lost), len(self._torn), len(self._twice), self._other_uid, unexplained,
            self._unnamed, lost[:SHOWN], [body[:200] for body in self._torn[:SHOWN]],
        )  # fmt: skip


def is_explained(again: Again, lives: Sequence[Life]) -> bool:
    """Whether a kill before it came again found it read and not noted, or acknowledged and not noted."""
    file, _, offset = again.uid.rpartition("-")
    return any(
        int(offset or 0) >= life.noted.get(file, 0)
        or life.killed - UNNOTED_SECONDS <= again.first_at <= life.killed + UNDER_WAY_SECONDS
        for life in lives
        if life.killed <= again.again_at
    )

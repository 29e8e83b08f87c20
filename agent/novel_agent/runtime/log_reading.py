"""One source of logs being read: turns in a thread, parsing in the loop, delivery, and what may be committed.

A *turn* is one call into the source's lane: it applies what was acknowledged since the last turn, reads what there is up to a
bound, and says how long the next turn may wait. Between turns nothing happens until the kernel says that something was written
(`descriptor`), the wait is over, or an acknowledgement came; then there is a short rest, so that lines written one by one are
read together.

What a turn read is parsed in the loop, in pieces small enough to hold up nobody, and joined into *flights*: a batch and the
marks (place, offset) that may be committed once it is safe. Flights are made safe side by side, and their marks are applied in
the order they were read: an offset is committed only when everything before it is safe. So many bytes may be in flight and no
more; where a destination refuses because its spool is full, the flight waits and nothing further is read.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from novel_agent.logs import get_logger
from novel_agent.model.log import LogRecord
from novel_agent.runtime.lanes import AsyncLane, LeftBehind
from novel_agent.runtime.status import LogFileStatus
from novel_agent.state.queue import QueueFull

log = get_logger("logs")

TURN_BYTES = 512 << 10
FLIGHT_BYTES = 256 << 10
IN_FLIGHT_BYTES = 1 << 20
REST_SECONDS = 0.2
TURN_DEADLINE_SECONDS = 30.0
_REFUSED_SECONDS = (0.1, 2.0)
NOBODY = "no export takes logs"
"""Why a source waits, and is well: `status` shows it."""
_FAULT = "fault"
_LONGEST_WAIT_SECONDS = 60.0
_SETTLE_SECONDS = 5.0

Piece = TypeVar("Piece")
Mark = TypeVar("Mark")


class Turn(NamedTuple, Generic[Piece]):
    """What one turn gave. `wait_seconds` is 0 where there is more to read; `is_behind` where it will take many turns."""

    pieces: Sequence[Piece]
    wait_seconds: float
    is_behind: bool = False


class Parsed(NamedTuple, Generic[Mark]):
    """Records of one piece, ready to be sent, and what may be committed when they are safe.

    `records` are whole `log_records` fields of a ScopeLogs message. Where there are none the mark still has to wait for what
    was read before.
    """

    records: bytes
    items: int
    marks: Sequence[Mark]


class About(NamedTuple):
    """Each file; why nothing, or not everything, can be read; of a journal, its cursor."""

    files: list[LogFileStatus]
    reason: str = ""
    position: str = ""


class Steps(Protocol):
    """What is done to the records of a source."""

    dropped: Counter[str]

    def take(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on."""


def worked_on(steps: Steps, records: list[LogRecord], now: float, source: str) -> list[LogRecord]:
    """What the steps let through. A record that a step has a fault with goes nowhere, and is counted: it may be a secret."""
    try:
        return steps.take(list(records), now)
    except Exception:
        log.exception("fault in a step, each record is tried alone", source=source)
    kept: list[LogRecord] = []
    for record in records:
        try:
            kept += steps.take([record], now)
        except Exception:
            steps.dropped[_FAULT] += 1
    return kept


class Reader(Protocol[Piece, Mark]):
    """What is read and how it is understood. `turn` runs in a thread, one at a time; all else in the loop."""

    @property
    def descriptor(self) -> int | None:
        """Readable where there may be something to read; None before the first turn and where there is none to watch."""

    def turn(self, marks: Sequence[Mark], now: float, most_bytes: int) -> Turn[Piece]:
        """Commit the marks, read. Raises OSError where nothing can be read at all."""

    def parse(self, piece: Piece, now: float) -> Parsed[Mark]:
        """The records of a piece; never raises for what is in it."""

    def flush(self, now: float) -> Iterable[Parsed[Mark]]:
        """What was held back, was due before the last turn began, and was not gone on with in it; nothing is left to read."""

    def flush_in(self, now: float) -> float | None:
        """Seconds until something held back is due; None where nothing is."""

    def saved(self) -> None:
        """Called in the loop after a turn: positions that changed are to be saved."""

    def about(self, steady: float) -> "About":
        """What `status` shows, at a monotonic time."""

    def close(self) -> None:
        """Let go of what is open; not while a turn is under way."""


class Flight(Generic[Mark]):
    """Records on their way to safety."""

    __slots__ = ("is_safe", "items", "marks", "parts", "size_bytes")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.marks: list[Mark] = []
        self.items = 0
        self.size_bytes = 0
        self.is_safe = False

    def add(self, parsed: Parsed[Mark]) -> None:
        """One more piece."""
        self.marks += parsed.marks
        if parsed.records:
            self.parts.append(parsed.records)
            self.items += parsed.items
            self.size_bytes += len(parsed.records)


class Tally:
    """What is counted of a source since the agent's start, whichever reader counts."""

    _WINDOW_SECONDS = 30.0

    def __init__(self) -> None:
        self.read_bytes = 0
        self.records = 0
        """Safe in every spool that takes them."""
        self.errors: Counter[str] = Counter()
        """Lines that are not valid in the configured format, by reason."""
        self.replaced_characters = 0
        self.truncated = 0
        self._rate = 0.0
        self._at = 0.0
        self._seen = 0

    def a_second(self, steady: float) -> float:
        """Records a second at a monotonic time, over the last half minute or so."""
        passed = steady - self._at
        if self._at and passed > 0:
            weight = min(1.0, passed / self._WINDOW_SECONDS)
            self._rate += ((self.records - self._seen) / passed - self._rate) * weight
        if passed > 0:
            self._at, self._seen = steady, self.records
        return self._rate


class Reading(Generic[Piece, Mark]):
    """Reads one source for as long as `run` runs. `settle` then waits for what is in flight.

    `make_reader` makes one that begins where everything before is committed: where `run` ended by a fault, what was read and
    not committed is read again.

    `publish` returns when records, in parts, are safe and raises QueueFull while it cannot be taken. `wanted` says whether
    anybody takes records; where nobody does nothing is read, until `wake`. `pause_factor` is how long to pause after a turn
    that is far behind, as a multiple of what the turn took: the agent's budget.
    """

    def __init__(
        self,
        name: str,
        make_reader: Callable[[], Reader[Piece, Mark]],
        publish: Callable[[Sequence[bytes], int], Awaitable[None]],
        *,
        left_behind: LeftBehind,
        tally: Tally,
        wanted: Callable[[], bool] = lambda: True,
        pause_factor: Callable[[], float] = lambda: 0.0,
        now: Callable[[], float] = time.time,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self.name = name
        self.reader: Reader[Piece, Mark] | None = None
        self.state = "idle"
        self.reason = ""
        self.tally = tally
        self._make_reader = make_reader
        self._publish = publish
        self._wanted = wanted
        self._pause_factor = pause_factor
        self._now = now
        self._rest_seconds = rest_seconds
        self._lane = AsyncLane(f"logs {name}", left_behind)
        self._woken = asyncio.Event()
        self._flights: deque[Flight[Mark]] = deque()
        self._in_flight_bytes = 0
        self._landed = asyncio.Event()
        self._safe: list[Mark] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._returned = asyncio.Event()
        self._returned.set()
        self._refused = 0

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    @property
    def in_flight_bytes(self) -> int:
        """Records that are read and not safe yet."""
        return self._in_flight_bytes

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self.settle(_SETTLE_SECONDS)
            self.reader = self._make_reader()
            await self._read(self.reader)

    async def _read(self, reader: Reader[Piece, Mark]) -> None:
        """Until a turn hung: what it read when it came back after all nobody has, so it is read again by another reader."""
        while True:
            if not self._wanted():
                self._be("waiting", NOBODY)
                await self._until_woken(None)
                continue
            began = time.monotonic()
            turn = await self._turn(reader, TURN_BYTES)
            if turn is None:
                return
            if isinstance(turn, OSError):
                self._be("waiting", turn.strerror or str(turn))
                await self._until_woken(_LONGEST_WAIT_SECONDS)
                continue
            await self._take(reader, turn)
            self._be("reading" if turn.pieces else "idle", "")
            if turn.is_behind:
                await asyncio.sleep(self._pause_factor() * (time.monotonic() - began))
            await self._rest(reader, turn)

    def _be(self, state: str, reason: str) -> None:
        if not self._refused:
            self.state, self.reason = state, reason

    async def _turn(self, reader: Reader[Piece, Mark], most_bytes: int) -> Turn[Piece] | OSError | None:
        """One turn in the lane; an OSError where nothing was read or committed, None after one that hung."""
        marks, self._safe = self._safe, []
        (turn,) = await self._lane.run(
            lambda given: reader.turn(given, self._now(), most_bytes),
            (marks,),
            TURN_DEADLINE_SECONDS,
            late=lambda _: self._returned.set(),
        )
        if turn is None:
            self._returned.clear()
            self._be("hung", "a read has not come back")
            log.warning("a log source hangs, it is left alone until its read comes back", source=self.name)
            await self._returned.wait()
        elif isinstance(turn, OSError):
            self._safe[:0] = marks
        else:
            reader.saved()
        return turn

    async def _take(self, reader: Reader[Piece, Mark], turn: Turn[Piece]) -> None:
        flight: Flight[Mark] = Flight()
        for piece in turn.pieces:
            flight.add(reader.parse(piece, self._now()))
            flight = await self._full(flight)
            await asyncio.sleep(0)
        if turn.wait_seconds > 0:
            for parsed in reader.flush(self._now()):
                flight.add(parsed)
        if flight.marks or flight.items:
            await self._send(flight)

    async def _full(self, flight: Flight[Mark]) -> Flight[Mark]:
        if flight.size_bytes < FLIGHT_BYTES:
            return flight
        await self._send(flight)
        return Flight()

    async def _send(self, flight: Flight[Mark]) -> None:
        """Begin to make it safe; waits while too much is under way."""
        while self._in_flight_bytes and self._in_flight_bytes + flight.size_bytes > IN_FLIGHT_BYTES:
            self._landed.clear()
            await self._landed.wait()
        self._flights.append(flight)
        if not flight.items:
            self._land(flight)
            return
        self._in_flight_bytes += flight.size_bytes
        task = asyncio.create_task(self._make_safe(flight), name=f"logs {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_safe(self, flight: Flight[Mark]) -> None:
        wait_seconds = _REFUSED_SECONDS[0]
        refused = False
        try:
            while True:
                try:
                    await self._publish(flight.parts, flight.items)
                    break
                except QueueFull as full:
                    if not refused:
                        refused = True
                        self._refused += 1
                    self.state, self.reason = "waiting", str(full)
                    await asyncio.sleep(wait_seconds)
                    wait_seconds = min(wait_seconds * 2, _REFUSED_SECONDS[1])
        finally:
            self._refused -= refused
        flight.parts.clear()
        self._in_flight_bytes -= flight.size_bytes
        self.tally.records += flight.items
        self._land(flight)

    def _land(self, flight: Flight[Mark]) -> None:
        flight.is_safe = True
        while self._flights and self._flights[0].is_safe:
            self._safe += self._flights.popleft().marks
        self._landed.set()
        if self._safe:
            self._woken.set()

    async def _rest(self, reader: Reader[Piece, Mark], turn: Turn[Piece]) -> None:
        """Until the next turn is worth it."""
        if turn.wait_seconds <= 0:
            await asyncio.sleep(0)
            return
        due = reader.flush_in(self._now())
        wait_seconds = min(turn.wait_seconds, _LONGEST_WAIT_SECONDS, *(() if due is None else (due,)))
        if await self._until_woken(max(0.0, wait_seconds)):
            await asyncio.sleep(self._rest_seconds)

    async def _until_woken(self, seconds: float | None) -> bool:
        """Whether something happened within the time."""
        descriptor = None if self.reader is None else self.reader.descriptor
        loop = asyncio.get_running_loop()
        if descriptor is not None:
            loop.add_reader(descriptor, self._woken.set)
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                return True
        except TimeoutError:
            return False
        finally:
            self._woken.clear()
            if descriptor is not None:
                loop.remove_reader(descriptor)

    async def settle(self, deadline_seconds: float) -> None:
        """After `run` ended: wait for what is in flight, within the deadline, and commit what became safe.

        What is held back is not sent: it is read again from the place that is committed.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.reader is not None and self._returned.is_set():
            await self._turn(self.reader, 0)
        self._flights.clear()
        self._safe.clear()
        self._in_flight_bytes = 0

    def close(self) -> None:
        """Let the thread end."""
        self._lane.close()

"""What the log files of containers have in common: a line of the container stands in a wrapping, and may stand in several."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from novel_agent.config.schema import Multiline
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.multiline import AnyLine, Joined, LineJoiner
from novel_agent.processors.parse.record import PARSE_ERROR, LineError, LineParser

_PARTIAL_TIMEOUT_SECONDS = 5.0
"""How long the rest of a line is waited for. A runtime writes the parts at once, so it was killed in between."""
_STREAMS = ("stdout", "stderr")


class Part(NamedTuple):
    """What is in one line of a file; `is_last` where the container's line ends with it."""

    stream: str
    content: bytes
    is_last: bool


class Wrapping(Protocol):
    """One way to wrap lines of containers."""

    def split(self, line: bytes) -> Part | None:
        """What is in it, None where the line is not wrapped so."""

    def wrap(self, first: bytes, content: bytes) -> bytes:
        """A line like `first`, with this content, and its last part."""


class ContainerJoiner:
    """Puts lines of containers together again, and these, where asked for, to records; for each stream by itself.

    What it hands on is wrapped as the first of its lines was, so it is parsed like any other. A line in a single part is
    handed on as it is, one that is not wrapped as it should be, too. What the lines of one stream become is in the order of
    the file, but a record of the other may have begun before it and be handed on after it.

    Blank lines of the container are dropped. A line may have `max_line_bytes`; beyond that it is handed on, marked, and goes
    on in a next one.
    """

    def __init__(self, wrapping: Wrapping, max_line_bytes: int, multiline: Multiline | None) -> None:
        self._wrapping = wrapping
        self._streams = {name: _Stream(wrapping, max_line_bytes, multiline) for name in (*_STREAMS, "")}

    def feed(self, lines: Iterable[AnyLine], now: float) -> list[Joined]:
        """Take lines in the order of the file; the records that they have completed."""
        done: list[Joined] = []
        for text, offset, end, *truncated in lines:
            part = self._wrapping.split(text)
            if part is None:
                done.append(Joined(text, offset, end, any(truncated)))
            else:
                stream = self._streams.get(part.stream) or self._streams[""]
                stream.take(part, Joined(text, offset, end, any(truncated)), now, done)
        return done

    @property
    def held_from(self) -> int | None:
        """The offset of the first byte that is in no record yet, None if nothing waits."""
        return min((place for each in self._streams.values() if (place := each.held_from) is not None), default=None)

    @property
    def deadline(self) -> float | None:
        """When `due` becomes true unless another line comes, None if nothing waits."""
        return min(
            (each_ends for each in self._streams.values() if (each_ends := each.deadline) is not None), default=None
        )

    def due(self, now: float) -> bool:
        """Whether something has waited for long enough and `flush` would hand it on."""
        deadline = self.deadline
        return deadline is not None and now >= deadline

    def flush(self, now: float, *, force: bool = False) -> list[Joined]:
        """What has waited long enough or, with `force`, all that waits: nothing will follow."""
        done: list[Joined] = []
        for stream in self._streams.values():
            stream.flush(now, done, force=force)
        return done


class _Stream:
    """What a container writes to one of its streams."""

    def __init__(self, wrapping: Wrapping, max_line_bytes: int, multiline: Multiline | None) -> None:
        self._wrapping = wrapping
        self._max_line_bytes = max_line_bytes
        self._joiner = LineJoiner(multiline) if multiline is not None else None
        self._record_first = b""
        self._first: Joined | None = None
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._end = 0
        self._parts_deadline = 0.0

    def take(self, part: Part, line: Joined, now: float, done: list[Joined]) -> None:
        if self._first is not None and self._size_bytes + len(part.content) > self._max_line_bytes:
            self._complete_line(now, done, truncated=True)
        if self._first is None:
            if part.is_last:
                self._take_line(line, part.content, now, done)
                return
            self._first = line
        self._parts.append(part.content)
        self._size_bytes += len(part.content)
        self._end = line.end
        self._parts_deadline = now + _PARTIAL_TIMEOUT_SECONDS
        if part.is_last:
            self._complete_line(now, done)

    @property
    def held_from(self) -> int | None:
        held = self._joiner.held_from if self._joiner is not None else None
        return self._first.offset if held is None and self._first is not None else held

    @property
    def deadline(self) -> float | None:
        if self._first is not None:
            return self._parts_deadline
        return self._joiner.deadline if self._joiner is not None else None

    def flush(self, now: float, done: list[Joined], *, force: bool) -> None:
        if self._first is not None:
            if not force and now < self._parts_deadline:
                return
            self._complete_line(now, done)
        if self._joiner is not None:
            self._wrap(self._joiner.flush(now, force=force), done)

    def _complete_line(self, now: float, done: list[Joined], *, truncated: bool = False) -> None:
        first = self._first
        if first is None:
            return
        content = b"".join(self._parts)
        self._first = None
        self._parts.clear()
        self._size_bytes = 0
        wrapped = Joined(self._wrapping.wrap(first.text, content), first.offset, self._end, truncated)
        self._take_line(wrapped, content, now, done)

    def _take_line(self, line: Joined, content: bytes, now: float, done: list[Joined]) -> None:
        joiner = self._joiner
        if joiner is None:
            if content and not content.isspace():
                done.append(line)
            return
        if line.truncated:
            self._wrap(joiner.flush(now, force=True), done)
            done.append(line)
            return
        self._wrap(joiner.feed(((content, line.offset, line.end),), now), done)
        if joiner.held_from == line.offset:
            self._record_first = line.text

    def _wrap(self, records: list[Joined], done: list[Joined]) -> None:
        done += [each._replace(text=self._wrapping.wrap(self._record_first, each.text)) for each in records]


def parse_content(inner: LineParser, content: bytes, stream: str, read_nanoseconds: int) -> LogRecord:
    """The record of a container's line: as `inner` reads it, of the time when the runtime read it unless it has its own.

    What `inner` refuses is the body as it is, with the reason: the wrapping is right, and its time and stream are known.
    """
    try:
        record = inner.parse(content)
    except LineError as error:
        record = LogRecord(body=content.decode("utf-8", "replace"), attributes={PARSE_ERROR: error.reason})
    if not record.time_unix_nano:
        record.time_unix_nano = read_nanoseconds
    if stream:
        record.attributes["log.iostream"] = stream
    return record

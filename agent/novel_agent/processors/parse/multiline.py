"""Lines that belong together, joined into records before they are parsed.

Nothing is joined that is not whole, so nothing is torn: what waits are lines. What is too much for one record is handed on,
marked, and what follows of it goes to a next one.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from novel_agent.config.schema import Multiline

if TYPE_CHECKING:
    from novel_agent.processors.parse.tracebacks import Grammar


class Line(NamedTuple):
    """A line without its end, its place in the file, and where the next one begins."""

    text: bytes
    offset: int
    end: int
    truncated: bool = False
    """Whether it is the beginning of a longer one."""


AnyLine = tuple[bytes, int, int] | tuple[bytes, int, int, bool]
"""A `Line`, or a tuple like one."""


class Joined(NamedTuple):
    """A record's lines with newlines between them; from `offset` to `end` in the file.

    `truncated` where the record goes on, beyond what is allowed for one, or one of its lines did.
    """

    text: bytes
    offset: int
    end: int
    truncated: bool = False


class Start:
    """The grammar of a pattern (RE2): what begins with it is a first line, every other line follows one."""

    def __init__(self, pattern: str) -> None:
        import re2

        self._match = re2.compile(pattern.encode()).match

    def begin(self, line: bytes) -> None:
        """Nothing is kept of it."""

    def continues(self, line: bytes, *, after_blank: bool) -> bool:
        """Whether the pattern is not found at the beginning of the line."""
        return self._match(line) is None


class LineJoiner:
    """The records of one file, or of one stream in it.

    Times are seconds of any clock that does not go back. What is held is at most `max_lines` lines and `max_bytes` bytes, or
    one line where that is longer. Blank lines within a record stay in it, those around it are dropped.
    """

    def __init__(self, settings: Multiline) -> None:
        self._grammar = _grammar(settings)
        self._max_lines = settings.max_lines
        self._max_bytes = settings.max_bytes
        self._timeout_seconds = settings.timeout_seconds
        self._lines: list[bytes] = []
        self._blank: list[bytes] = []
        self._size_bytes = 0
        self._offset = 0
        self._end = 0
        self._deadline = 0.0
        self._truncated = False

    def feed(self, lines: Iterable[AnyLine], now: float) -> list[Joined]:
        """Take lines, blank ones included, in the order of the file; the records that they have completed."""
        done: list[Joined] = []
        self._deadline = now + self._timeout_seconds
        for text, offset, end, *truncated in lines:
            if not text or text.isspace():
                self._take_blank(text)
            elif self._lines and self._grammar.continues(text, after_blank=bool(self._blank)):
                if self._is_full(text):
                    self._complete(done, truncated=True)
                    self._hold(text, offset, end)
                else:
                    self._add(text, end)
                self._truncated |= any(truncated)
            else:
                if self._lines:
                    self._complete(done)
                self._grammar.begin(text)
                self._hold(text, offset, end)
                self._truncated = any(truncated)
        return done

    @property
    def held_from(self) -> int | None:
        """The offset of the first byte that is in no record yet, None if nothing waits."""
        return self._offset if self._lines else None

    def due(self, now: float) -> bool:
        """Whether something has waited for longer than `timeout` and `flush` would hand it on."""
        return bool(self._lines) and now >= self._deadline

    @property
    def deadline(self) -> float | None:
        """When `due` becomes true unless another line comes, None if nothing waits."""
        return self._deadline if self._lines else None

    def flush(self, now: float, *, force: bool = False) -> list[Joined]:
        """The record that waits, if it has waited long enough or, with `force`, in any case: nothing will follow."""
        done: list[Joined] = []
        if self._lines and (force or now >= self._deadline):
            self._complete(done)
        return done

    def _take_blank(self, text: bytes) -> None:
        """Keep a blank line until it is known whether the record goes on; as if empty, and no more than a record may have."""
        if self._lines and len(self._lines) + len(self._blank) < self._max_lines:
            self._blank.append(b"")

    def _is_full(self, text: bytes) -> bool:
        more = len(self._blank) + 1
        return len(self._lines) + more > self._max_lines or self._size_bytes + more + len(text) > self._max_bytes

    def _hold(self, text: bytes, offset: int, end: int) -> None:
        self._lines.append(text)
        self._size_bytes = len(text)
        self._offset = offset
        self._end = end

    def _add(self, text: bytes, end: int) -> None:
        self._lines += self._blank
        self._lines.append(text)
        self._size_bytes += len(self._blank) + 1 + len(text)
        self._blank.clear()
        self._end = end

    def _complete(self, done: list[Joined], *, truncated: bool = False) -> None:
        done.append(Joined(b"\n".join(self._lines), self._offset, self._end, truncated or self._truncated))
        self._truncated = False
        self._lines.clear()
        self._blank.clear()


def _grammar(settings: Multiline) -> "Grammar":
    if settings.preset is None:
        return Start(settings.start or "")
    from novel_agent.processors.parse.tracebacks import GRAMMARS

    return GRAMMARS[settings.preset]()

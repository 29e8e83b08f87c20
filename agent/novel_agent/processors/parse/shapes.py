"""The shapes of one source: which are kept, when one is learned, and how a block of mixed lines is taken apart.

A block is tried whole with the shape that fitted last. Where it does not fit, each line is decoded by the shape that a key of
its own suggests, or else by the first that can, and each shape writes all of its lines at once; lines that fit none go the
general way and, if learning is affordable, a shape is learned from a few of them: keys much like a shape's widen that shape,
others make a new one. Learning costs some milliseconds, so it has to be earned by lines: a file whose every line has other
keys is left to the general way.
"""

import contextlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import Room
from novel_agent.processors.parse.json_record import read_object
from novel_agent.processors.parse.kinds import Kind, learn
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.shape import ENOUGH_EXAMPLES, Shape, can_be_shape
from novel_agent.processors.parse.timestamps import ReadTime

MOST_SHAPES = 8
LESSONS = 12
LINES_A_LESSON = 5_000
_EXAMPLES = 40
_ALIKE = 0.6
_TOO_MANY_MISFITS = 0.05
_FEW = 3
_NOTED_LINES = 2_000
_decode_written = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OPENING, _CLOSING = set(b"{"), set(b"}")
_first_byte, _last_byte = itemgetter(0), itemgetter(-2)
_UNDECODABLE = (msgspec.DecodeError, RecursionError, ValueError)


class Block(NamedTuple):
    """Lines in a row of a file with their newlines, all valid UTF-8, whose offsets have the same number of digits.

    `prefix` is what comes before the offset in a record, at its end; its characters are bytes. `is_ascii` where no text in the
    lines has another character, escaped or not.
    """

    data: bytes
    lines: Sequence[bytes]
    places: Sequence[str]
    prefix: str
    is_ascii: bool

    def line(self, number: int) -> bytes:
        """A line without its newline."""
        return self.lines[number].removesuffix(b"\n")

    def ending(self, number: int) -> bytes:
        """What ends the record of a line."""
        return (self.prefix + self.places[number]).encode("latin-1")


Otherwise = Callable[[int], bytes]
"""Makes the whole field of the record of a line that fits no shape."""


class Shapes:
    """Learns, and encodes with what was learned. In `envelope` only what `keys` names is looked at, the body excepted."""

    def __init__(self, keys: LogKeys, read_time: ReadTime, room: Room, *, envelope: bool = False) -> None:
        self._keys = keys
        self._read_time = read_time
        self._room = room
        self._envelope = frozenset((*keys.time, *keys.severity, *keys.trace_id, *keys.span_id)) if envelope else None
        self._shapes: list[Shape] = []
        self._hints: list[tuple[bytes, Shape]] = []
        self._lessons = float(LESSONS)
        self._noted = self._strange_lines = self._drift = 0
        self._strange: list[bytes] = []

    def encode(self, block: Block, otherwise: Otherwise, out: list[bytes]) -> tuple[int, int]:
        """All lines of a block; how many were blank, and how many were taken by a shape."""
        lines = block.lines
        self._lessons = min(LESSONS, self._lessons + len(lines) / LINES_A_LESSON)
        if not self._shapes:
            self._learn(lines)
        if self._shapes:
            shape = self._shapes[0]
            if shape.examples < ENOUGH_EXAMPLES <= len(lines):
                self._learn(lines, afresh=shape)
                shape = self._shapes[0]
            rows: Sequence[Any] = ()
            if _one_value_a_line(lines):
                with contextlib.suppress(*_UNDECODABLE):
                    rows = shape.decode_lines(block.data)
            if rows and len(rows) == len(lines):
                return 0, len(lines) - self._encode_rows(shape, rows, block, otherwise, out)
        return self._encode_each(block, otherwise, out)

    def _encode_rows(
        self, shape: Shape, rows: Sequence[Any], block: Block, otherwise: Otherwise, out: list[bytes]
    ) -> int:
        missed: list[int] = []
        lines = block.lines
        plain = [line.removesuffix(b"\n") for line in lines] if shape.uses_line else ()
        shape.encode(rows, plain, block.places, block.prefix, otherwise, out, missed, is_ascii=block.is_ascii)
        self._note([lines[number] for number in missed[:_EXAMPLES]], len(missed), len(lines))
        self._drift += shape.take_drift()
        if self._drift > self._noted * _TOO_MANY_MISFITS and self._drift >= _FEW:
            self._drift = 0
            self._learn(lines[:: max(1, len(lines) // _EXAMPLES)])
        return len(missed)

    def _note(self, strange: Sequence[bytes], count: int, lines: int) -> None:
        """Learn when too many of the lines of late were strange."""
        if self._noted > _NOTED_LINES:
            self._noted = self._strange_lines = self._drift = 0
            self._strange.clear()
        self._noted += lines
        self._strange_lines += count
        self._strange += strange
        if self._strange_lines >= _FEW and self._strange_lines > self._noted * _TOO_MANY_MISFITS:
            examples = self._strange[-_EXAMPLES:]
            self._noted = self._strange_lines = 0
            self._strange = []
            self._learn(examples)
        else:
            del self._strange[:-_EXAMPLES]

    def _encode_each(self, block: Block, otherwise: Otherwise, out: list[bytes]) -> tuple[int, int]:
        blank = 0
        strange: list[int] = []
        numbers: dict[Shape, list[int]] = {}
        rows: dict[Shape, list[Any]] = {}
        records: list[Sequence[bytes]] = [()] * len(block.lines)
        for number, line in enumerate(block.lines):
            found = self._decode(line)
            if found is not None:
                shape, row = found
                if shape in rows:
                    rows[shape].append(row)
                    numbers[shape].append(number)
                else:
                    rows[shape], numbers[shape] = [row], [number]
            elif not line or line.isspace():
                blank += 1
            else:
                strange.append(number)
                records[number] = (otherwise(number),)
        taken = len(block.lines) - blank - len(strange)
        for shape, here in numbers.items():
            missed = self._encode_some(shape, rows[shape], here, block, otherwise, records)
            taken -= len(missed)
            strange += missed
        for record in records:
            out += record
        self._shapes.sort(key=lambda shape: len(numbers.get(shape, ())), reverse=True)
        self._note([block.lines[number] for number in strange[:_EXAMPLES]], len(strange), len(block.lines) - blank)
        return blank, taken

    def _encode_some(
        self,
        shape: Shape,
        rows: Sequence[Any],
        numbers: Sequence[int],
        block: Block,
        otherwise: Otherwise,
        records: list[Sequence[bytes]],
    ) -> list[int]:
        """The records of some lines, each to its place; the numbers of those that did not fit."""
        out: list[bytes] = []
        missed: list[int] = []
        places = block.places
        shape.encode(
            rows,
            [block.line(number) for number in numbers] if shape.uses_line else (),
            [places[number] for number in numbers],
            block.prefix,
            lambda place: otherwise(numbers[place]),
            out,
            missed,
            is_ascii=block.is_ascii,
        )
        misfits = {numbers[place] for place in missed}
        width = (len(out) - len(missed)) // max(1, len(numbers) - len(missed))
        start = 0
        for number in numbers:
            stop = start + (1 if number in misfits else width)
            records[number] = out[start:stop]
            start = stop
        return sorted(misfits)

    def _decode(self, line: bytes) -> tuple[Shape, Any] | None:
        hinted: Shape | None = None
        for key, shape in self._hints:
            if key in line:
                hinted = shape
                with contextlib.suppress(*_UNDECODABLE):
                    return shape, shape.decode(line)
                break
        for shape in self._shapes:
            if shape is not hinted:
                try:
                    return shape, shape.decode(line)
                except _UNDECODABLE:
                    continue
        return None

    def _learn(self, lines: Sequence[bytes], afresh: Shape | None = None) -> None:
        """Shapes that these lines would have fitted, as far as that is affordable; `afresh` is one to forget then."""
        if self._lessons < 1:
            return
        learned: list[_Lesson] = []
        for line in lines[:_EXAMPLES]:
            try:
                found = read_object(line)
                written = _decode_written(line)
            except (LineError, *_UNDECODABLE):
                continue
            if self._envelope is not None:
                found = {key: value for key, value in found.items() if key in self._envelope}
            if self._envelope is not None or can_be_shape(found):
                for key, kind in self._place(found, learned, afresh).items():
                    if key in written:
                        kind.see_written(bytes(written[key]))
        needed = _FEW if len(lines) >= ENOUGH_EXAMPLES else 1
        worthy = [each for each in learned if each.examples >= needed]
        if not worthy:
            self._lessons -= 1
        for lesson in sorted(worthy, key=lambda each: each.before is None):
            if self._lessons >= 1:
                self._make(lesson, afresh)
        self._hints = _hints(self._shapes) if self._envelope is None else []

    def _make(self, lesson: "_Lesson", afresh: Shape | None) -> None:
        kinds, before = lesson.kinds, lesson.before
        if self._envelope is None and not can_be_shape(kinds):
            return
        self._lessons -= 1
        examples = lesson.examples + (before.examples if before is not None else 0)
        try:
            shape = Shape(kinds, examples, self._keys, self._read_time, self._room, envelope=self._envelope)
        except (TypeError, ValueError):
            return
        self._shapes = [each for each in self._shapes if each is not before and each is not afresh]
        self._shapes.insert(0, shape)
        del self._shapes[MOST_SHAPES:]

    def _place(self, found: dict[str, Any], learned: "list[_Lesson]", afresh: Shape | None) -> dict[str, Kind]:
        """With the kinds most like it, else with a shape, else by itself."""
        for lesson in learned:
            if self._is_alike(found, lesson.kinds):
                lesson.kinds = learn(found, lesson.kinds)
                lesson.examples += 1
                return lesson.kinds
        for shape in self._shapes:
            if shape is not afresh and self._is_alike(found, shape.kinds):
                learned.append(_Lesson(learn(found, shape.kinds), shape))
                return learned[-1].kinds
        learned.append(_Lesson(learn(found), None))
        return learned[-1].kinds

    def _is_alike(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        if self._envelope is not None:
            return True
        shared = len(one.keys() & other.keys())
        return shared >= _ALIKE * (len(one) + len(other) - shared)


class _Lesson:
    """What some examples have taught, and the shape that it replaces."""

    def __init__(self, kinds: dict[str, Kind], before: Shape | None) -> None:
        self.kinds = kinds
        self.before = before
        self.examples = 1


def _one_value_a_line(lines: Sequence[bytes]) -> bool:
    """Whether each line begins and ends like an object.

    Then no value goes from one line into the next, so as many values as lines are one each; the decoder alone would take two
    values in a line, and one in two lines.
    """
    if not lines[-1].endswith(b"\n"):
        lines = [*lines[:-1], lines[-1] + b"\n"]
    try:
        return set(map(_first_byte, lines)) == _OPENING and set(map(_last_byte, lines)) == _CLOSING
    except IndexError:
        return False


def _hints(shapes: Sequence[Shape]) -> list[tuple[bytes, Shape]]:
    """A key of each shape that no other has, as it stands in lines; those that have none are left out."""
    hints = []
    for shape in shapes:
        others = {key for other in shapes if other is not shape for key in other.kinds}
        own = next((key for key, kind in shape.kinds.items() if key not in others and not kind.is_optional), None)
        if own is not None:
            hints.append((b'"' + own.encode() + b'"', shape))
    return hints

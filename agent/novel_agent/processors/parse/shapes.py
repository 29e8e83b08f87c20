"""The shapes of one source: which are kept, when one is learned, and how a buffer of mixed lines is taken apart.

A buffer is tried whole with the shape that fitted last. Where it does not fit, each line is tried with the shapes in the order
of their use; lines that fit none go the general way and, if learning is affordable, a shape is learned from a few of them:
keys much like a shape's widen that shape, others make a new one. Learning costs about a millisecond, so it has to be earned by
lines: a file whose every line has other keys is left to the general way.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import BEFORE_RECORD, Room
from novel_agent.processors.parse.json_record import read_object
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.shape import Kind, Shape, can_be_shape, learn
from novel_agent.processors.parse.timestamps import ReadTime

MOST_SHAPES = 8
LESSONS = 12
LINES_A_LESSON = 2_000
_EXAMPLES = 40
_ALIKE = 0.6
_TOO_MANY_MISFITS = 0.05
_UNDECODABLE = (msgspec.DecodeError, RecursionError, ValueError)


class Shapes:
    """Learns, and encodes with what was learned."""

    def __init__(self, keys: LogKeys, read_time: ReadTime, room: Room) -> None:
        self._keys = keys
        self._read_time = read_time
        self._room = room
        self._shapes: list[Shape] = []
        self._lessons = float(LESSONS)

    def encode(
        self,
        data: bytes,
        lines: Sequence[bytes],
        endings: Sequence[bytes],
        otherwise: Callable[[int], bytes],
        add: Callable[[bytes], object],
    ) -> tuple[int, int]:
        """All lines of a chunk; how many were blank, and how many were taken by a shape."""
        self._lessons = min(LESSONS, self._lessons + len(lines) / LINES_A_LESSON)
        if not self._shapes:
            self._learn(lines)
        if self._shapes:
            shape = self._shapes[0]
            rows: Sequence[Any] = ()
            with contextlib.suppress(*_UNDECODABLE):
                rows = shape.decode_lines(data)
            if rows and len(rows) == len(lines):
                missed = self._encode(shape, rows, lines, endings, otherwise, add)
                return 0, len(lines) - missed
        return self._encode_each(lines, endings, otherwise, add)

    def _encode(
        self,
        shape: Shape,
        rows: Sequence[Any],
        lines: Sequence[bytes],
        endings: Sequence[bytes],
        otherwise: Callable[[int], bytes],
        add: Callable[[bytes], object],
    ) -> int:
        misfits: list[int] = []

        def noted(number: int) -> bytes:
            misfits.append(number)
            return otherwise(number)

        missed = shape.encode(rows, endings, noted, add)
        if len(misfits) > len(lines) * _TOO_MANY_MISFITS:
            self._learn([lines[number] for number in misfits[:_EXAMPLES]])
        return missed

    def _encode_each(
        self,
        lines: Sequence[bytes],
        endings: Sequence[bytes],
        otherwise: Callable[[int], bytes],
        add: Callable[[bytes], object],
    ) -> tuple[int, int]:
        blank = fast = 0
        strange: list[bytes] = []
        for number, line in enumerate(lines):
            for place, shape in enumerate(self._shapes):
                try:
                    row = shape.decode(line)
                except _UNDECODABLE:
                    continue
                if place:
                    self._shapes.insert(0, self._shapes.pop(place))
                missed = shape.encode((row,), (endings[number],), partial(_instead, otherwise, number), add)
                fast += 1 - missed
                if missed and len(strange) < _EXAMPLES:
                    strange.append(line)
                break
            else:
                if not line or line.isspace():
                    blank += 1
                    continue
                if len(strange) < _EXAMPLES:
                    strange.append(line)
                record = otherwise(number)
                add(BEFORE_RECORD[len(record)])
                add(record)
        if len(strange) > max(2, len(lines) * _TOO_MANY_MISFITS):
            self._learn(strange)
        return blank, fast

    def _learn(self, lines: Sequence[bytes]) -> None:
        """Shapes that these lines would have fitted, as far as that is affordable."""
        learned: list[tuple[dict[str, Kind], Shape | None]] = []
        for line in lines[:_EXAMPLES]:
            try:
                found = read_object(line)
            except LineError:
                continue
            if can_be_shape(found):
                self._place(found, learned)
        for kinds, before in sorted(learned, key=lambda each: each[1] is None):
            if self._lessons < 1:
                return
            if not can_be_shape(kinds):
                continue
            self._lessons -= 1
            try:
                shape = Shape(kinds, self._keys, self._read_time, self._room)
            except (TypeError, ValueError):
                continue
            if before in self._shapes:
                self._shapes.remove(before)
            self._shapes.insert(0, shape)
            del self._shapes[MOST_SHAPES:]

    def _place(self, found: dict[str, Any], learned: list[tuple[dict[str, Kind], Shape | None]]) -> None:
        """With the kinds most like it, else with a shape, else by itself."""
        for number, (kinds, before) in enumerate(learned):
            if _alike(found, kinds):
                learned[number] = (learn(found, kinds), before)
                return
        for shape in self._shapes:
            if _alike(found, shape.kinds):
                learned.append((learn(found, shape.kinds), shape))
                return
        learned.append((learn(found), None))


def _instead(otherwise: Callable[[int], bytes], number: int, _: int) -> bytes:
    return otherwise(number)


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    shared = len(one.keys() & other.keys())
    return shared >= _ALIKE * (len(one) + len(other) - shared)

"""Counting and checking the protobuf of an export request where it lies, without building anything.

What the three signals have in common: a request holds ResourceX messages (its field 1), each holds a resource (1), ScopeX
messages (2) and a schema URL (3), each of those a scope (1), items (2) and a schema URL (3). An item is a span, a log record
or a metric; of a metric the data points are counted, and those are field 1 of whichever of its data fields is there.

The inner loop reads a tag and a length of two bytes with one `unpack_from` (about 0.15 µs an item; indexing byte by byte
takes 0.2); what does not look like that takes the general path and loses nothing.
"""

import struct
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeAlias

from novel_agent.model.batch import Signal
from novel_agent.wire.otlp_schema import DEEPEST, MESSAGES, REQUESTS, Scalar
from novel_agent.wire.protobuf import FIXED32, FIXED64, LARGEST_FIELD, LENGTH_DELIMITED, VARINT, WireError

Bytes: TypeAlias = bytes | bytearray

MOST_PARTS = 50_000
"""Of what is worked on at once, which is about 1 MiB: an item, metric or scope is one, a resource `RESOURCE_PARTS`.

Real ones have more than 20 bytes. An empty one has two, and costs whoever decodes it as much memory and time as any.
"""
RESOURCE_PARTS = 10
"""A resource gets attributes added, and is decoded with all it has."""

FIRST, SECOND, THIRD = (number << 3 | LENGTH_DELIMITED for number in (1, 2, 3))
"""The tags of a message's first three fields where they are messages or strings."""

_METRIC_DATA = frozenset(
    number << 3 | LENGTH_DELIMITED for number, field in MESSAGES["Metric"].items() if field.choice == "data"
)
_BOOL_VALUE, _INT_VALUE, _DOUBLE_VALUE = 2 << 3 | VARINT, 3 << 3 | VARINT, 4 << 3 | FIXED64
_LARGEST_TAG = LARGEST_FIELD << 3 | 7
_UINT64_LIMIT = 1 << 64
_AROUND_SHIFT = 32
_ITEMS_MASK = (1 << _AROUND_SHIFT) - 1
_PART = 1 << _AROUND_SHIFT
_RESOURCE = RESOURCE_PARTS * _PART
_TOO_MANY = (MOST_PARTS + 1) * _PART
_STRETCH_BYTES = 128 << 10
"""So often it is asked whether there are too many already: at least two bytes a part, so never much later than they are."""

three_bytes = struct.Struct("<BBB").unpack_from
"""A tag and a length of two bytes; struct.error within two bytes of the data's end."""

LONG = [(high << 7) - 128 + 3 for high in range(0x80)]
"""By the second of two length bytes: what to add to the first to get behind the field; IndexError if there is a third."""


class Misformed(WireError):  # noqa: N818 - named by what the bytes are
    """What is wrong, and at which byte."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(position, problem)
        self.position = position
        self.problem = problem

    def __str__(self) -> str:
        return f"byte {self.position}: {self.problem}"


class CutOff(Misformed):
    """Data that ends within the field at `position`."""

    def __init__(self, position: int) -> None:
        super().__init__(position, "cut off within a field")


class TooMany(WireError):  # noqa: N818 - named by what the bytes are
    """Sound, but more of it than is taken."""


def too_many_parts(most: int) -> TooMany:
    """More parts than are taken."""
    return TooMany(f"more than {most} items, metrics, scopes and resources (one of these counts as {RESOURCE_PARTS})")


class Scanned(NamedTuple):
    """`items` counts spans, log records or data points; `payload` is what a Batch of them holds."""

    items: int
    payload: bytes


def scan(signal: Signal, body: bytes, *, deep: bool = False) -> Scanned:
    """A whole request's items and payload; WireError, which says at which byte, where its lengths do not add up.

    TooMany where there are more than `MOST_PARTS`.
    `payload` is `body` itself unless there are top-level fields other than the first, which are left out. Shallow, it looks
    no deeper than it must to count: 100 spans in 40 KB take about 20 µs. Deep, it reads every field to the bottom by the schema
    (about 1 ms): unknown fields and those of a foreign wire type are passed over, text need not be UTF-8.
    """
    count = ITEMS[signal]
    kept: bytearray | None = None
    counted = position = 0
    size = len(body)
    while position < size:
        start = position
        key, content, position = field_at(body, position)
        if position > size:
            raise _overlong(REQUESTS[signal], size)
        if key == FIRST:
            counted += _resource_items(body, content, position, count)
            if counted >= _TOO_MANY:
                break
            if kept is not None:
                kept += body[start:position]
        elif kept is None:
            kept = bytearray(body[:start])
    items = counted & _ITEMS_MASK
    if items + (counted >> _AROUND_SHIFT) > MOST_PARTS:
        raise too_many_parts(MOST_PARTS)
    if deep:
        check(REQUESTS[signal], body, 0, size)
    return Scanned(items, body if kept is None else bytes(kept))


def field_at(data: Bytes, position: int) -> tuple[int, int, int]:
    """Of the field at `position`: its tag, where its content begins and where it ends, which may be behind `data`'s end."""
    start = position
    try:
        key = data[position]
        position += 1
        if key > 0x7F:
            key, position = varint_at(data, start)
        if not 8 <= key <= _LARGEST_TAG:
            raise Misformed(start, f"field number {key >> 3}")
        wire_type = key & 7
        if wire_type == LENGTH_DELIMITED:
            size = data[position]
            position += 1
            if size > 0x7F:
                high = data[position]
                if high > 0x7F:
                    size, position = varint_at(data, position - 1)
                else:
                    size += (high << 7) - 0x80
                    position += 1
            return key, position, position + size
        if wire_type == VARINT:
            return key, position, varint_at(data, position)[1]
    except IndexError:
        raise CutOff(start) from None
    if wire_type == FIXED64:
        return key, position, position + 8
    if wire_type == FIXED32:
        return key, position, position + 4
    raise Misformed(start, f"wire type {wire_type}")


def varint_at(data: Bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and where it ends; IndexError where the data ends within it."""
    start = position
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Misformed(start, "a varint longer than ten bytes")
    if number >= _UINT64_LIMIT:
        raise Misformed(start, "a varint beyond 64 bits")
    return number, position


def _overlong(name: str, end: int) -> Misformed:
    return Misformed(end, f"the {name} ends within a field")


def _resource_items(data: Bytes, position: int, end: int, count: Callable[[Bytes, int, int], int]) -> int:
    """Items of the ResourceX whose content this is, and, shifted, the parts around them: counted in one number."""
    items = _RESOURCE
    while position < end:
        key, content, position = field_at(data, position)
        if position > end:
            raise _overlong("resource's message", end)
        if key == SECOND:
            items += count(data, content, position) + _PART
            if items >= _TOO_MANY:
                break
    return items


def _spans_or_records(data: Bytes, position: int, end: int) -> int:
    return count_fields(data, position, end, SECOND, "scope's message")


def _points_of_scope(data: Bytes, position: int, end: int) -> int:
    items = 0
    while position < end and items < _TOO_MANY:
        stretch = min(end, position + _STRETCH_BYTES)
        while position < stretch:
            key, content, position = field_at(data, position)
            if position > end:
                raise _overlong("scope's message", end)
            if key == SECOND:
                items += points_of_metric(data, content, position) + _PART
    return items


def points_of_metric(data: Bytes, position: int, end: int) -> int:
    """Data points of the Metric whose content this is."""
    items = 0
    while position < end:
        key, content, position = field_at(data, position)
        if position > end:
            raise _overlong("Metric", end)
        if key in _METRIC_DATA:
            items += count_fields(data, content, position, FIRST, "metric's data")
    return items


ITEMS: dict[Signal, Callable[[Bytes, int, int], int]] = {
    "metrics": _points_of_scope,
    "logs": _spans_or_records,
    "traces": _spans_or_records,
}
"""What counts the items of a ScopeX; metrics are parts, beside the points."""


def count_fields(data: Bytes, position: int, end: int, key: int, name: str) -> int:
    """How many fields with this one-byte tag a message's content from `position` to `end` holds; TooMany as `scan`."""
    unpack = three_bytes
    long = LONG
    found = 0
    stretch = end if end - position <= _STRETCH_BYTES else position + _STRETCH_BYTES
    while position < end:
        try:
            while position < stretch:
                first, low, high = unpack(data, position)
                if first != key:
                    break
                position += low + 2 if low < 0x80 else low + long[high]
                found += 1
        except (IndexError, struct.error):  # a length of three bytes or more; the data's last two bytes
            pass
        if position < stretch:
            other, _, position = field_at(data, position)
            found += other == key
        elif position < end:
            stretch = min(end, position + _STRETCH_BYTES)
            if found > MOST_PARTS:
                raise too_many_parts(MOST_PARTS)
    if position > end:
        raise _overlong(name, end)
    return found


class _Message(NamedTuple):
    """A message of the schema, compiled for checking: by tag, what a length-delimited field holds if that is no mere text."""

    name: str
    inner: dict[int, "_Message"]
    packed: dict[int, int]
    attribute: "_Message | None"


@cache
def _compiled(name: str) -> _Message:
    """The message with all those in it, which may hold it in turn; filled after it is known."""
    return _compile(name, {})


def _compile(name: str, known: dict[str, _Message]) -> _Message:
    if name in known:
        return known[name]
    message = known[name] = _Message(name, {}, {}, None if name == "KeyValue" else _compile("KeyValue", known))
    for number, field in MESSAGES[name].items():
        key = number << 3 | LENGTH_DELIMITED
        if not isinstance(field.type, Scalar):
            message.inner[key] = _compile(field.type, known)
        elif field.repeated and field.type.wire_type != LENGTH_DELIMITED:
            message.packed[key] = field.type.wire_type
    return message


def check(name: str, data: Bytes, start: int, end: int, depth: int = 1) -> None:
    """Read the content of a message of the schema to the bottom; WireError, which says where, if it is not well formed."""
    try:
        _check(data, start, end, _compiled(name), depth)
    except IndexError:
        raise CutOff(end) from None


def _check(data: Bytes, position: int, end: int, message: _Message, depth: int) -> None:
    name, inner, packed, attribute = message
    if depth > DEEPEST - 2:
        attribute = None
        if depth > DEEPEST:
            raise Misformed(position, f"messages nested more than {DEEPEST} deep")
    while position < end:
        start = position
        key = data[position]
        position += 1
        if key > 0x7F:
            key, position = varint_at(data, start)
        wire_type = key & 7
        if wire_type == LENGTH_DELIMITED:
            size = data[position]
            position += 1
            if size > 0x7F:
                size, position = varint_at(data, position - 1)
            content = position
            position += size
            if position > end:
                break
            if key in inner:
                if (below := inner[key]) is not attribute or not _is_plain_attribute(data, content, position):
                    _check(data, content, position, below, depth + 1)
            elif key in packed:
                _check_packed(data, content, position, packed[key])
        elif wire_type == VARINT:
            if data[position] > 0x7F:
                position = varint_at(data, position)[1]
            else:
                position += 1
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        else:
            raise Misformed(start, f"wire type {wire_type}")
        if not 8 <= key <= _LARGEST_TAG:
            raise Misformed(start, f"field number {key >> 3}")
    if position > end:
        raise _overlong(name, end)


def _is_plain_attribute(data: Bytes, position: int, end: int) -> bool:
    """Whether this is the content of a sound KeyValue as nearly all are: a key and then a text or a number, all of them short.

    False says nothing. Half the time of a deep scan is saved so.
    """
    if end - position < 6 or data[position] != FIRST or (key_size := data[position + 1]) > 0x7F:
        return False
    value = position + 2 + key_size
    if value + 4 > end or data[value] != SECOND or value + 2 + (size := data[value + 1]) != end or size > 0x7F:
        return False
    kind, first = data[value + 2], data[value + 3]
    if kind == FIRST:
        return first == size - 2
    if kind in (_BOOL_VALUE, _INT_VALUE):
        return first < 0x80 if size == 2 else size == 3 and first > 0x7F and data[value + 4] < 0x80
    return kind == _DOUBLE_VALUE and size == 9


def _check_packed(data: Bytes, position: int, end: int, wire_type: int) -> None:
    start = position
    if wire_type != VARINT:
        if (end - position) % (8 if wire_type == FIXED64 else 4):
            raise Misformed(start, "a packed field that ends within a number")
        return
    while position < end:
        position = varint_at(data, position)[1]
    if position > end:
        raise Misformed(start, "a packed field that ends within a number")

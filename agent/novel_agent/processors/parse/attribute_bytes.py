"""Attributes of log records in OTLP protobuf bytes, with what repeats looked up: keys, lengths, small numbers, nested values.

Values are those that JSON has. The bytes are what `wire.otlp_write.record_message` gives for the same attributes. What is
remembered lies in a `Room`, which is emptied when it is full.
"""

import struct
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import msgspec

from novel_agent.model.value import Value
from novel_agent.wire.otlp_write import value_message
from novel_agent.wire.protobuf import length_delimited, tag, text, varint

ROOM_BYTES = 2 << 20
_ENTRY_BYTES = 200
_TABLE_BYTES = 300
_LONGEST_REMEMBERED = 512

_ATTRIBUTE, _BODY = tag(6, 2), tag(5, 2)
_ENTRY = tag(1, 2)
_STRING, _OBJECT = b"\x0a", b"\x32"
_INT64 = 1 << 63
_MOST_LENGTHS = 2048
_MOST_NUMBERS = 256
_MOST_ONCE = 512
_ONE_BYTE_LENGTHS = 128 - 6
"""A key and a text shorter than this together: each length that is written is below 128."""
_DEEPEST_LOOKED_UP = 4

pack_double = struct.Struct("<d").pack
pack_fixed64 = struct.Struct("<Q").pack

decode_json = msgspec.json.Decoder().decode
encode_json = msgspec.json.Encoder().encode

DEEPEST = 20
"""Protobuf's readers go 100 messages deep; a level of JSON takes up to three of them."""


class Room:
    """A bound on what several tables remember together, about `capacity_bytes`; at the bound all are emptied.

    It holds tables weakly: those of a shape or a key that is forgotten go with it.
    """

    def __init__(self, capacity_bytes: int = ROOM_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._tables: WeakSet[Table] = WeakSet()

    def watch(self, table: "Table") -> None:
        """Count this table in, with what it costs by being there."""
        self._tables.add(table)
        self.spend(_TABLE_BYTES)

    def spend(self, size_bytes: int) -> None:
        """So much more is remembered."""
        self._used_bytes += size_bytes
        if self._used_bytes > self._capacity_bytes:
            self._used_bytes = 0
            for each in list(self._tables):
                each.clear()


class Table(dict[Any, Any]):
    """What a `Room` bounds; found by identity, so that a room can hold it weakly."""

    __slots__ = ("__weakref__", "_room")
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room
        room.watch(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def put(self, key: Any, value: Any, size_bytes: int) -> None:
        """Remember."""
        self[key] = value
        self._room.spend(_ENTRY_BYTES + size_bytes)


class ByLength(dict[int, bytes]):
    """Bytes that depend on a length, made when one is first asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[int], bytes]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, length: int) -> bytes:
        made = self._make(length)
        if length < _MOST_LENGTHS:
            self[length] = made
        return made


BEFORE_BODY = ByLength(lambda length: _BODY + varint(1 + len(varint(length)) + length) + _STRING + varint(length))
"""What stands before a body that is text of so many bytes."""

BEFORE_RECORD = ByLength(lambda length: b"\x12" + varint(length))
"""What stands before a LogRecord of so many bytes in a ScopeLogs."""


class Before(Table):
    """What stands before a text, or the entries of an object, of so many bytes: all of the attribute up to there."""

    __slots__ = ("_key", "_start", "_tag")

    def __init__(self, key: bytes, start: bytes, value_tag: bytes, room: Room) -> None:
        self._key = key
        self._start = start
        self._tag = value_tag
        super().__init__(room)

    def __missing__(self, length: int) -> bytes:
        value = self._tag + varint(length)
        pair = self._key + b"\x12" + varint(len(value) + length) + value
        made = self._start + varint(len(pair) + length) + pair
        if length < _MOST_LENGTHS:
            self.put(length, made, len(made))
        return made


class AttributeWriter:
    """Writes the attribute of one key, or at a `depth` above 0 the entry of an object.

    `before_text` and `before_object` are what stands before a text and before the entries of an object.
    """

    __slots__ = (
        "_before_integer", "_depth", "_entries", "_flags", "_key", "_nested", "_numbers", "_room", "_start",
        "before_double", "before_object", "before_text",
    )  # fmt: skip

    def __init__(self, key: str, room: Room, depth: int = 0) -> None:
        self._depth = depth
        self._key = text(1, key)
        self._start = _ENTRY if depth else _ATTRIBUTE
        self.before_text = Before(self._key, self._start, _STRING, room)
        self.before_object = Before(self._key, self._start, _OBJECT, room)
        self.before_double = self._start + varint(len(self._key) + 11) + self._key + b"\x12\x09\x21"
        self._numbers = Table(room)
        self._nested = Table(room)
        self._room = room
        self._entries: Writers | None = None
        self._before_integer = [
            self._start + varint(len(self._key) + 3 + size) + self._key + b"\x12" + varint(1 + size) + b"\x18"
            for size in range(11)
        ]
        self._flags = (self.value(False), self.value(True))

    def any(self, value: Any) -> bytes:
        """Of any value of JSON; nothing for null. An integer beyond 64 bits becomes a double."""
        kind = type(value)
        if kind is str:
            content = value.encode()
            return self.before_text[len(content)] + content  # type: ignore[no-any-return]
        if value is None:
            return b""
        if kind is float:
            return self.before_double + pack_double(value)
        if kind is int:
            found = self._numbers.get(value)
            if found is None:
                found = self._integer(value)
                if len(self._numbers) < _MOST_NUMBERS:
                    self._numbers.put(value, found, len(found))
            return found
        if kind is bool:
            return self._flags[value]
        if kind is dict and self._depth < _DEEPEST_LOOKED_UP:
            entries = self._entries
            if entries is None:
                entries = self._entries = Writers(self._room, self._depth + 1)
            content = b"".join([entries[key].any(each) for key, each in value.items()])
            return self.before_object[len(content)] + content  # type: ignore[no-any-return]
        return self.value(value)

    def _integer(self, value: int) -> bytes:
        if not -_INT64 <= value < _INT64:
            return self.value(value)
        content = varint(value)
        return self._before_integer[len(content)] + content

    def raw(self, raw: Any) -> bytes:
        """Of JSON text; ValueError or RecursionError where it cannot be read."""
        if raw is None:
            return b""
        content = bytes(raw)
        found = self._nested.get(content)
        if found is None:
            found = self.value(decode_json(content))
            if len(content) <= _LONGEST_REMEMBERED:
                self._nested.put(content, found, len(content) + len(found))
        return found

    def value(self, value: Any) -> bytes:
        """Of any value of JSON, written without remembering."""
        if value is None:
            return b""
        pair = self._key + length_delimited(2, value_message(fitting(value, self._depth)))
        return self._start + varint(len(pair)) + pair


def fitting(value: Any, depth: int = 0) -> Value:
    """The value as OTLP can hold it, found so many levels down in a line.

    Null is left out of objects, integers beyond 64 bits are doubles or, beyond these, text, and what is nested deeper than
    `DEEPEST` is JSON text: readers of protobuf refuse messages that are nested too deep.
    """
    kind = type(value)
    if kind is int:
        return value if -_INT64 <= value < _INT64 else _wide(value)
    if kind is dict or kind is list:
        if depth >= DEEPEST:
            return encode_json(value).decode()
        if kind is list:
            return [fitting(each, depth + 1) for each in value]
        return {key: fitting(each, depth + 1) for key, each in value.items() if each is not None}
    return value  # type: ignore[no-any-return]


def _wide(value: int) -> float | str:
    try:
        return float(value)
    except OverflowError:
        return "an integer beyond any double"


class _OnceWriter:
    """Writes the attribute of a key that has not been seen before, and may never be again."""

    __slots__ = ("_depth", "_key")

    def __init__(self, key: str, depth: int) -> None:
        self._key = key
        self._depth = depth

    def any(self, value: Any) -> bytes:
        """As `AttributeWriter.any`."""
        if value is None:
            return b""
        start = _ENTRY if self._depth else _ATTRIBUTE
        if type(value) is str:
            key, content = self._key.encode(), value.encode()
            size, key_size = len(content), len(key)
            if key_size and key_size + size < _ONE_BYTE_LENGTHS:
                before = bytes((start[0], key_size + size + 6, 0x0A, key_size))
                return before + key + bytes((0x12, size + 2, 0x0A, size)) + content
            content = _STRING + varint(size) + content
        else:
            content = value_message(fitting(value, self._depth))
        pair = text(1, self._key) + b"\x12" + varint(len(content)) + content
        return start + varint(len(pair)) + pair


class Writers(Table):
    """The writer of each key, of attributes or, so many levels down, of entries.

    What it takes to write a key fast is made when the key is seen for the second time: in a file of ever new keys it would
    cost more than it saves.
    """

    __slots__ = ("_depth", "_once")

    def __init__(self, room: Room, depth: int = 0) -> None:
        super().__init__(room)
        self._depth = depth
        self._once: set[str] = set()

    def __missing__(self, key: str) -> "AttributeWriter | _OnceWriter":
        if len(key) > _LONGEST_REMEMBERED:
            return _OnceWriter(key, self._depth)
        if key not in self._once:
            if len(self._once) >= _MOST_ONCE:
                self._once.clear()
            self._once.add(key)
            return _OnceWriter(key, self._depth)
        writer = AttributeWriter(key, self._room, self._depth)
        self.put(key, writer, len(key))
        return writer

    def clear(self) -> None:
        """Forget everything."""
        self._once.clear()
        super().clear()

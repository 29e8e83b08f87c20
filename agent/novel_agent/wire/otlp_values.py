"""The fields of one protobuf message, and OTLP's attribute values out of them (opentelemetry-proto 1.11, common/v1).

Made for speed, because what decodes pays by the attribute. A KeyValue that was seen lately is looked up by its bytes (one
slice and one lookup instead of a dozen steps), so a method, a route or a status costs 0.2 µs and a value never seen before
1 µs. Messages are `bytes` of their own: a slice is quicker than a view, and what is cut off cannot be read past.
"""

import struct
from collections.abc import Iterator
from typing import Any

from novel_agent.model.value import Attributes, Value
from novel_agent.wire.protobuf import WireError, signed

MOST_FIELDS = 1 << 16
"""Of one message within a span, a record or a data point: two bytes of input may not become hundreds for ever."""

_DEEPEST = 100
_DEPTH_OF_ATTRIBUTE = 4
LARGEST_TAG = (1 << 32) - 1
_UINT64_LIMIT = 1 << 64

_STRING, _BOOL, _INT, _DOUBLE, _ARRAY, _KEY_VALUES, _BYTES = 0x0A, 0x10, 0x18, 0x21, 0x2A, 0x32, 0x3A
_VALUES = frozenset({_STRING, _BOOL, _INT, _DOUBLE, _ARRAY, _KEY_VALUES, _BYTES})
_FIRST = 0x0A
_SECOND = 0x12

double = struct.Struct("<d").unpack
"""The number in eight bytes, in a tuple."""


def scan(message: bytes, most: int = MOST_FIELDS) -> Iterator[tuple[int, Any]]:
    """Tag and value of each field: an int for a varint, bytes for the other wire types; `WireError` at the first fault."""
    position, end = 0, len(message)
    try:
        for _ in range(most):
            if position >= end:
                break
            tag = message[position]
            position += 1
            if tag > 0x7F:
                tag, position = varint_at(message, position - 1)
            if not 7 < tag <= LARGEST_TAG:
                raise fault(tag)
            kind = tag & 7
            if kind == 2:
                size = message[position]
                position += 1
                if size > 0x7F:
                    size, position = varint_at(message, position - 1)
            elif kind == 0:
                value, position = varint_at(message, position)
                yield tag, value
                continue
            else:
                size = 8 if kind == 1 else 4
            if size > end - position or kind not in WIRE_TYPES:
                raise fault(tag)
            yield tag, message[position : position + size]
            position += size
        else:
            if position < end:
                raise WireError(f"more than {most} fields in one message")
    except IndexError:
        raise WireError("cut off within a varint") from None


WIRE_TYPES = frozenset({0, 1, 2, 5})


def field_at(message: bytes, position: int) -> tuple[int, Any, int]:
    """Tag and value of the field at `position`, as `scan` has them, and the position behind it; IndexError likewise."""
    tag, position = varint_at(message, position)
    kind = tag & 7
    value: Any
    if kind == 0:
        value, stop = varint_at(message, position)
    else:
        if kind == 2:
            size, position = varint_at(message, position)
        else:
            size = 8 if kind == 1 else 4
        stop = position + size
        value = message[position:stop]
    if stop > len(message) or not 7 < tag <= LARGEST_TAG or kind not in WIRE_TYPES:
        raise fault(tag)
    return tag, value, stop


def fault(tag: int) -> WireError:
    """What is wrong with a field of this tag that could not be read."""
    if not 7 < tag <= LARGEST_TAG:
        return WireError(f"field number {tag >> 3}")
    if tag & 7 not in WIRE_TYPES:
        return WireError(f"wire type {tag & 7}")
    return WireError("a field longer than its message")


def varint_at(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it; IndexError where the message ends within it."""
    number = message[position]
    position += 1
    if number < 0x80:
        return number, position
    number &= 0x7F
    shift = 7
    while True:
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise WireError("a varint longer than ten bytes")
    if number >= _UINT64_LIMIT:
        raise WireError("a varint beyond 64 bits")
    return number, position


def text(content: bytes) -> str:
    """A string field; what is not UTF-8 becomes replacement characters."""
    return str(content, "utf-8", "replace")


def int32(number: int) -> int:
    """A walked varint as the int32 or the enum it stands for."""
    low = number & 0xFFFF_FFFF
    return low - (1 << 32) if low >= 1 << 31 else low


class _Keys(dict[bytes, str]):
    """Attribute keys by their bytes."""

    def __missing__(self, content: bytes) -> str:
        if len(self) >= 2048:
            self.clear()
        key = text(content)
        if len(content) <= 128:
            self[content] = key
        return key


class _Pairs(dict[bytes, tuple[str, Value]]):
    """Key and value of KeyValue messages by their bytes: at most 2,048 of 128 bytes each, about 1 MiB.

    Lists and dicts are made anew each time, since whoever gets one may edit it.
    """

    def __missing__(self, content: bytes) -> tuple[str, Value]:
        pair = _key_value(content, _DEPTH_OF_ATTRIBUTE)
        if len(content) <= 128 and type(pair[1]) not in _EDITABLE:
            if len(self) >= 2048:
                self.clear()
            self[content] = pair
        return pair


_EDITABLE = frozenset({list, dict})
_keys = _Keys()
pairs = _Pairs()
"""Give key and value of a KeyValue's content when subscripted by it; `WireError` where it is malformed."""


def _key_value(content: bytes, depth: int) -> tuple[str, Value]:
    try:
        if content[0] == _FIRST:
            key_end = 2 + content[1]
            size = content[key_end + 1]
            start = key_end + 2
            if content[key_end] == _SECOND and key_end < 130 and start + size == len(content) and size < 0x80:
                key = _keys[content[2:key_end]]
                if size > 1 and content[start] == _STRING and content[start + 1] == size - 2:
                    return key, str(content[start + 2 :], "utf-8", "replace")
                return key, any_value(content[start:], depth + 1)
    except IndexError:
        pass
    return _general_key_value(content, depth)


def _general_key_value(content: bytes, depth: int) -> tuple[str, Value]:
    key = value = b""
    for tag, piece in scan(content):
        if tag == _FIRST:
            key = piece
        elif tag == _SECOND:
            value += piece
    return _keys[key], any_value(value, depth + 1)


def any_value(content: bytes, depth: int = _DEPTH_OF_ATTRIBUTE) -> Value:
    """What the content of an AnyValue says; the last of several, lists and maps that follow their like are joined."""
    if len(content) > 1 and content[0] == _STRING and content[1] == len(content) - 2 < 0x80:
        return str(content[2:], "utf-8", "replace")
    if depth > _DEEPEST:
        raise WireError(f"values nested deeper than {_DEEPEST} messages")
    found: int = 0
    value: Any = None
    for tag, piece in scan(content):
        if tag in _VALUES:
            value = value + piece if tag == found and tag in (_ARRAY, _KEY_VALUES) else piece
            found = tag
    return _typed(found, value, depth)


def _typed(tag: int, value: Any, depth: int) -> Value:
    if tag == _STRING:
        return text(value)
    if tag == _INT:
        return signed(value)
    if tag == _BOOL:
        return bool(value)
    if tag == _DOUBLE:
        number: float = double(value)[0]
        return number
    if tag == _ARRAY:
        return [any_value(each, depth + 2) for field, each in scan(value) if field == _FIRST]
    if tag == _KEY_VALUES:
        return dict(_key_value(each, depth + 2) for field, each in scan(value) if field == _FIRST)
    return value  # type: ignore[no-any-return]


def attributes(contents: list[bytes]) -> Attributes:
    """The attributes out of the contents of their KeyValue messages; of a key that stands twice the last."""
    return dict([pairs[content] for content in contents])

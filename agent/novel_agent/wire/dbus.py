"""D-Bus messages to and from bytes: what a client that only calls methods needs.

Source: the D-Bus specification (dbus.freedesktop.org/doc/dbus-specification.html), sections "Type System", "Marshaling
(Wire Format)" and "Message Protocol". Calls take string arguments only, which is all that is asked of the bus here;
replies may hold any type but file descriptors.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4

FIXED_HEADER_BYTES = 16
LARGEST_MESSAGE_BYTES = 64 << 20
"""Half of what the specification allows."""

_DEEPEST_NESTING = 32
_PROTOCOL_VERSION = 1
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ORDERS = {ord("l"): "<", ord("B"): ">"}
_MALFORMED = (ValueError, struct.error, IndexError, TypeError, RecursionError)

Value = Any
Parser = Callable[[bytes, int, str], tuple[Value, int]]
"""Of message, position and byte order: the value there, and the position after it."""


class Call(NamedTuple):
    """One method call."""

    destination: str
    path: str
    interface: str
    member: str
    arguments: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True):
    """One message received. `error_name` is '' unless it is an error, `body` holds the values by `signature`."""

    kind: int
    reply_serial: int
    error_name: str
    signature: str
    body: tuple[Value, ...]


def encode_call(call: Call, serial: int) -> bytes:
    """The call as a little-endian message; `serial` is from 1 to 2³²-1 and names it in the reply."""
    body = bytearray()
    for argument in call.arguments:
        _put_string(body, argument)
    message = bytearray(struct.pack("<BBBBIII", ord("l"), METHOD_CALL, 0, _PROTOCOL_VERSION, len(body), serial, 0))
    _put_field(message, _PATH, "o", call.path)
    _put_field(message, _DESTINATION, "s", call.destination)
    _put_field(message, _INTERFACE, "s", call.interface)
    _put_field(message, _MEMBER, "s", call.member)
    if call.arguments:
        _put_field(message, _SIGNATURE, "g", "s" * len(call.arguments))
    struct.pack_into("<I", message, 12, len(message) - FIXED_HEADER_BYTES)
    _align(message, 8)
    return bytes(message + body)


def _align(buffer: bytearray, boundary: int) -> None:
    buffer += bytes(-len(buffer) % boundary)


def _put_string(buffer: bytearray, text: str) -> None:
    data = text.encode()
    _align(buffer, 4)
    buffer += struct.pack("<I", len(data)) + data + b"\0"


def _put_signature(buffer: bytearray, text: str) -> None:
    data = text.encode()
    buffer += bytes((len(data),)) + data + b"\0"


def _put_field(buffer: bytearray, code: int, kind: str, text: str) -> None:
    _align(buffer, 8)
    buffer.append(code)
    _put_signature(buffer, kind)
    (_put_signature if kind == "g" else _put_string)(buffer, text)


def message_size(header: bytes) -> int:
    """The size of a message in bytes, from its first 16. ValueError where no message begins so."""
    order = _order(header)
    if header[3] != _PROTOCOL_VERSION:
        raise ValueError(f"D-Bus protocol version {header[3]}")
    body, _, fields = struct.unpack_from(order + "III", header, 4)
    size: int = FIXED_HEADER_BYTES + fields + -fields % 8 + body
    if size > LARGEST_MESSAGE_BYTES:
        raise ValueError(f"a D-Bus message of {size} bytes")
    return size


def _order(header: bytes) -> str:
    try:
        return _ORDERS[header[0]]
    except (IndexError, KeyError):
        raise ValueError(f"not a D-Bus message: {header[:16]!r}") from None


def decode(message: bytes) -> Message:
    """One whole message. ValueError where it is malformed."""
    order = _order(message)
    try:
        entries, position = _HEADER_FIELDS(message, 12, order)
        fields = dict(entries)
        signature = fields.get(_SIGNATURE, "")
        body = _values(message[position + -position % 8 :], signature, order)
        return Message(message[1], fields.get(_REPLY_SERIAL, 0), fields.get(_ERROR_NAME, ""), signature, body)
    except _MALFORMED as error:
        raise ValueError(f"malformed D-Bus message: {error}") from None


def decode_body(body: bytes, signature: str, order: str = "<") -> tuple[Value, ...]:
    """The values of a body; structs are tuples, arrays lists, dictionaries dicts, variants their value.

    ValueError where it is malformed.
    """
    try:
        return _values(body, signature, order)
    except _MALFORMED as error:
        raise ValueError(f"malformed D-Bus body: {error}") from None


def _values(body: bytes, signature: str, order: str) -> tuple[Value, ...]:
    values = []
    position = 0
    for parser in _parsers(signature):
        value, position = parser(body, position, order)
        values.append(value)
    if position != len(body):
        raise ValueError(f"{len(body) - position} bytes follow the values {signature!r}")
    return tuple(values)


@lru_cache(maxsize=128)
def _parsers(signature: str) -> tuple[Parser, ...]:
    parsers = []
    position = 0
    while position < len(signature):
        parser, _, position = _compile(signature, position, 0)
        parsers.append(parser)
    return tuple(parsers)


def _compile(signature: str, at: int, depth: int) -> tuple[Parser, int, int]:
    """The parser of the complete type at a position, its alignment, and where the next type begins."""
    code = signature[at : at + 1]
    if depth > _DEEPEST_NESTING:
        raise ValueError("a D-Bus signature of too many levels")
    if code in _BASIC:
        return (*_BASIC[code], at + 1)
    if code == "a" and signature[at + 1 : at + 2] == "{":
        members, after = _members(signature, at + 2, "}", depth + 1)
        if len(members) != 2:
            raise ValueError(f"malformed D-Bus signature {signature!r}")
        return _dictionary(_array(_struct(members), 8)), 4, after
    if code == "a":
        element, boundary, after = _compile(signature, at + 1, depth + 1)
        return _array(element, boundary), 4, after
    if code == "(":
        members, after = _members(signature, at + 1, ")", depth + 1)
        return _struct(members), 8, after
    raise ValueError(f"malformed D-Bus signature {signature!r}")


def _members(signature: str, at: int, end: str, depth: int) -> tuple[list[Parser], int]:
    members: list[Parser] = []
    while signature[at : at + 1] != end:
        member, _, at = _compile(signature, at, depth)
        members.append(member)
    if not members:
        raise ValueError(f"malformed D-Bus signature {signature!r}")
    return members, at + 1


def _fixed(code: str, convert: Callable[[Value], Value] | None = None) -> Parser:
    size = struct.calcsize("=" + code)
    unpack = {order: struct.Struct(order + code).unpack_from for order in "<>"}

    def parse(data: bytes, at: int, order: str) -> tuple[Value, int]:
        at += -at % size
        (value,) = unpack[order](data, at)
        return convert(value) if convert else value, at + size

    return parse


_uint32 = _fixed("I")


def _string(data: bytes, at: int, order: str) -> tuple[Value, int]:
    size, at = _uint32(data, at, order)
    return _text(data, at, at + size)


def _signature(data: bytes, at: int, order: str) -> tuple[Value, int]:
    return _text(data, at + 1, at + 1 + data[at])


def _text(data: bytes, start: int, end: int) -> tuple[str, int]:
    if data[end] != 0:
        raise ValueError("a D-Bus string without its NUL")
    return data[start:end].decode(), end + 1


def _variant(data: bytes, at: int, order: str) -> tuple[Value, int]:
    signature, at = _signature(data, at, order)
    (parser,) = _parsers(signature) or (None,)
    if parser is None:
        raise ValueError("a D-Bus variant of no type")
    return parser(data, at, order)


def _array(element: Parser, boundary: int) -> Parser:
    def parse(data: bytes, at: int, order: str) -> tuple[Value, int]:
        size, at = _uint32(data, at, order)
        at += -at % boundary
        end = at + size
        if end > len(data):
            raise ValueError("a D-Bus array longer than its message")
        values = []
        while at < end:
            value, at = element(data, at, order)
            values.append(value)
        if at != end:
            raise ValueError("a D-Bus array that ends within an element")
        return values, at

    return parse


def _struct(members: Sequence[Parser]) -> Parser:
    def parse(data: bytes, at: int, order: str) -> tuple[Value, int]:
        at += -at % 8
        values = []
        for member in members:
            value, at = member(data, at, order)
            values.append(value)
        return tuple(values), at

    return parse


def _dictionary(entries: Parser) -> Parser:
    def parse(data: bytes, at: int, order: str) -> tuple[Value, int]:
        pairs, at = entries(data, at, order)
        return dict(pairs), at

    return parse


_BASIC: dict[str, tuple[Parser, int]] = {
    "y": (_fixed("B"), 1),
    "b": (_fixed("I", bool), 4),
    "n": (_fixed("h"), 2),
    "q": (_fixed("H"), 2),
    "i": (_fixed("i"), 4),
    "u": (_uint32, 4),
    "h": (_uint32, 4),
    "x": (_fixed("q"), 8),
    "t": (_fixed("Q"), 8),
    "d": (_fixed("d"), 8),
    "s": (_string, 4),
    "o": (_string, 4),
    "g": (_signature, 1),
    "v": (_variant, 1),
}

(_HEADER_FIELDS,) = _parsers("a(yv)")

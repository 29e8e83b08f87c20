"""OTLP protobuf bytes to OTLP JSON (opentelemetry-proto 1.11, docs/specification.md "JSON Protobuf Encoding").

Driven by the tables of `otlp_schema`. The mapping is proto3's JSON mapping (protobuf.dev/programming-guides/json) with
OTLP's exceptions: trace and span ids are hex, enums are integers. 64-bit integers are strings, NaN and the infinities are
named, other bytes are base64; unknown fields are left out, and so are fields whose wire type is not theirs. A field that is
written is shown, also where it holds its default.
"""

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from novel_agent.model.batch import Signal
from novel_agent.wire.otlp_scan import CutOff, Misformed, varint_at
from novel_agent.wire.otlp_schema import DEEPEST, MESSAGES, REQUESTS, Field, Scalar
from novel_agent.wire.protobuf import FIXED32, FIXED64, LARGEST_FIELD, LENGTH_DELIMITED, VARINT, signed, zigzag

_Show: TypeAlias = Callable[[bytes, int, int], Any]
"""From the content of a field, which stands in the data from here to there, to what is shown of it."""

_LARGEST_TAG = LARGEST_FIELD << 3 | 7
_fixed32 = struct.Struct("<I").unpack_from
_fixed64 = struct.Struct("<Q").unpack_from
_sfixed64 = struct.Struct("<q").unpack_from
_double_at = struct.Struct("<d").unpack_from


def request_to_json(signal: Signal, payload: bytes) -> bytes:
    """An export request's protobuf bytes as JSON; WireError where they are not protobuf or nest too deeply."""
    try:
        shown = _message(payload, 0, len(payload), _REQUESTS[signal], 1)
    except IndexError:
        raise CutOff(len(payload)) from None
    return msgspec.json.encode(shown)


class _Message(NamedTuple):
    """A message of the schema, compiled: what its fields are by the tags that they may have."""

    name: str
    fields: dict[int, "_Shown"]


class _Shown(NamedTuple):
    """A field: a message or something to `show`. Packed, it is several; with it in a choice, `others` are no longer there."""

    name: str
    repeated: bool
    message: _Message | None
    show: _Show
    packed: bool
    others: tuple[str, ...]


def _message(data: bytes, position: int, end: int, message: _Message, depth: int) -> dict[str, Any]:
    """What is shown of a message whose content this is."""
    if depth > DEEPEST:
        raise Misformed(position, f"messages nested more than {DEEPEST} deep")
    fields = message.fields
    shown: dict[str, Any] = {}
    pieces: dict[str, tuple[_Message, list[tuple[int, int]]]] = {}
    while position < end:
        start = position
        key = data[position]
        position += 1
        if key > 0x7F:
            key, position = varint_at(data, start)
        wire_type = key & 7
        content = position
        if wire_type == LENGTH_DELIMITED:
            size = data[position]
            content += 1
            if size > 0x7F:
                size, content = varint_at(data, position)
            position = content + size
        elif wire_type == VARINT:
            position = content + 1 if data[content] < 0x80 else varint_at(data, content)[1]
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        else:
            raise Misformed(start, f"wire type {wire_type}")
        if position > end:
            break
        field = fields.get(key)
        if field is None:
            if not 8 <= key <= _LARGEST_TAG:
                raise Misformed(start, f"field number {key >> 3}")
            continue
        name, repeated, inner, show, packed, others = field
        if others and shown:
            for other in others:
                shown.pop(other, None)
                pieces.pop(other, None)
        if not repeated:
            if inner is None:
                shown[name] = show(data, content, position)
            else:
                shown[name] = None
                pieces.setdefault(name, (inner, []))[1].append((content, position))
        elif packed:
            if position > content:
                shown.setdefault(name, []).extend(show(data, content, position))
        else:
            item = (
                show(data, content, position) if inner is None else _message(data, content, position, inner, depth + 1)
            )
            if name in shown:
                shown[name].append(item)
            else:
                shown[name] = [item]
    if position > end:
        raise Misformed(end, f"the {message.name} ends within a field")
    for name, (inner, parts) in pieces.items():
        if len(parts) == 1:
            (begin, stop) = parts[0]
            shown[name] = _message(data, begin, stop, inner, depth + 1)
        else:  # a message field written twice is one message: the two merged
            merged = b"".join([data[begin:stop] for begin, stop in parts])
            shown[name] = _message(merged, 0, len(merged), inner, depth + 1)
    return shown


def _string(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")


def _base64(data: bytes, start: int, end: int) -> str:
    return b64encode(data[start:end]).decode()


def _hex(data: bytes, start: int, end: int) -> str:
    return data[start:end].hex()


def _double(data: bytes, start: int, end: int) -> float | str:
    number: float = _double_at(data, start)[0]
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _int32(number: int) -> int:
    low = number & 0xFFFF_FFFF
    return low - (1 << 32) if low >= 1 << 31 else low


def _varint(show: Callable[[int], Any]) -> _Show:
    return lambda data, start, end: show(data[start] if end - start == 1 else varint_at(data, start)[0])


_SHOW: dict[str, _Show] = {
    "string": _string,
    "bytes": _base64,
    "id": _hex,
    "bool": _varint(bool),
    "enum": _varint(_int32),
    "uint32": _varint(lambda number: number & 0xFFFF_FFFF),
    "sint32": _varint(lambda number: zigzag(number & 0xFFFF_FFFF)),
    "int64": _varint(lambda number: str(signed(number))),
    "uint64": _varint(str),
    "fixed32": lambda data, start, end: _fixed32(data, start)[0],
    "fixed64": lambda data, start, end: str(_fixed64(data, start)[0]),
    "sfixed64": lambda data, start, end: str(_sfixed64(data, start)[0]),
    "double": _double,
}
"""By the name of a scalar."""


def _unpacked(kind: Scalar) -> _Show:
    """All the numbers of a packed field."""
    show = _SHOW[kind.name]

    def items(data: bytes, start: int, end: int) -> list[Any]:
        return [show(data, begin, stop) for begin, stop in _packed(data, start, end, kind.wire_type)]

    return items


def _packed(data: bytes, start: int, end: int, wire_type: int) -> Iterator[tuple[int, int]]:
    """Where each number of a packed field begins and ends."""
    position = start
    while position < end:
        begin = position
        position = varint_at(data, begin)[1] if wire_type == VARINT else begin + (8 if wire_type == FIXED64 else 4)
        if position > end:
            raise Misformed(start, "a packed field that ends within a number")
        yield begin, position


def _compile(name: str, known: dict[str, _Message]) -> _Message:
    """A message with all those in it, which may hold it in turn: it is known before it is filled."""
    if name in known:
        return known[name]
    message = known[name] = _Message(name, {})
    table = MESSAGES[name]
    for number, field in table.items():
        others = tuple(
            other.name for other in table.values() if field.choice and other.choice == field.choice and other != field
        )
        if isinstance(field.type, Scalar):
            _add_scalar(message, number, field, field.type, others)
        else:
            inner = _compile(field.type, known)
            message.fields[number << 3 | LENGTH_DELIMITED] = _Shown(
                field.name, field.repeated, inner, _string, packed=False, others=others
            )
    return message


def _add_scalar(message: _Message, number: int, field: Field, kind: Scalar, others: tuple[str, ...]) -> None:
    single = _Shown(field.name, field.repeated, None, _SHOW[kind.name], packed=False, others=others)
    message.fields[number << 3 | kind.wire_type] = single
    if field.repeated and kind.wire_type != LENGTH_DELIMITED:
        message.fields[number << 3 | LENGTH_DELIMITED] = single._replace(show=_unpacked(kind), packed=True)


_known: dict[str, _Message] = {}
_REQUESTS = {signal: _compile(name, _known) for signal, name in REQUESTS.items()}

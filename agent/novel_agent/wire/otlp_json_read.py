"""OTLP JSON to OTLP protobuf bytes (opentelemetry-proto 1.11, docs/specification.md "JSON Protobuf Encoding").

The reverse of `otlp_json`, and more lenient than it, as receivers should be: trace and span ids are hex in either case, enums
are integers or names, 64-bit integers are strings or numbers, doubles numbers, numbers in strings or `NaN`, `Infinity`,
`-Infinity`; bytes are base64 in either alphabet, padded or not; null is absent, unknown keys are ignored, of a key that is
there twice the last counts. Keys are lowerCamelCase only.

The tables of `otlp_schema` are compiled once, a message to a list of key and writer, so that nothing is looked up per value
but its key. Fields are written in the order of the tables; one that holds its default is not, where that says the same.
"""

import re
import struct
from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import msgspec

from novel_agent.model.batch import Signal
from novel_agent.wire.otlp_scan import scan
from novel_agent.wire.otlp_schema import DEEPEST, MESSAGES, REQUESTS, Field, Scalar
from novel_agent.wire.protobuf import LENGTH_DELIMITED, WireError, tag, varint

_Writer: TypeAlias = Callable[[Any, int], bytes]
"""From a value that is not null, and the depth of the message that holds it, to its field; empty where none is needed."""

_NAMED_DOUBLES = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_DECIMAL = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_LONGEST_INTEGER = len(str(-(1 << 63)))
_DEFAULTS = frozenset({b"", b"\x00", bytes(4), bytes(8)})
_STANDARD_ALPHABET = str.maketrans("-_", "+/")

_size = lru_cache(2048)(varint)


class _Fault(Exception):  # noqa: N818 - it leaves as a WireError
    """What is wrong, and where, from the innermost step outwards."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []

    def __str__(self) -> str:
        path = "".join(reversed(self.steps)).removeprefix(".")
        return f"{path}: {self.problem}" if path else self.problem


def request_from_json(signal: Signal, body: bytes) -> tuple[bytes, int]:
    """An export request's JSON as a Batch's payload and its number of items.

    WireError, which names the field (`resourceSpans[0].resource.attributes[3].value.intValue: out of range`), where the JSON is
    not sound or a value does not fit its field. About ten times `body` is held while it is read.
    """
    try:
        request = msgspec.json.decode(body)
    except RecursionError:
        raise WireError("JSON nested too deeply") from None
    except ValueError as error:
        raise WireError(f"not JSON: {error}") from None
    try:
        payload = _content(_REQUESTS[signal], request, 1)
    except _Fault as fault:
        raise WireError(str(fault)) from None
    return payload, scan(signal, payload).items


class _Message(NamedTuple):
    """A message compiled: its keys in the order of the table, and the same by key; `choices` has the keys of each choice."""

    writers: list[tuple[str, _Writer]]
    by_key: dict[str, _Writer]
    choices: list[list[str]]


def _content(message: _Message, value: Any, depth: int) -> bytes:
    """The content of a message."""
    if type(value) is not dict:
        raise _Fault("not an object")
    if depth > DEEPEST:
        raise _Fault(f"messages nested more than {DEEPEST} deep")
    if len(value) == 1:  # as most attribute values are
        for key, item in value.items():
            write = message.by_key.get(key)
            if write is None or item is None:
                return b""
            try:
                return write(item, depth)
            except _Fault as fault:
                fault.steps.append(f".{key}")
                raise
    get = value.get
    parts: list[bytes] = []
    key = ""
    try:
        for key, write in message.writers:
            item = get(key)
            if item is not None:
                parts.append(write(item, depth))
    except _Fault as fault:
        fault.steps.append(f".{key}")
        raise
    for choice in message.choices:
        if len(given := [key for key in choice if get(key) is not None]) > 1:
            raise _Fault(f"{' and '.join(given)}: only one of them may be there")
    return b"".join(parts)


def _message_writer(number: int, message: _Message) -> _Writer:
    prefix = tag(number, LENGTH_DELIMITED)

    def write(value: Any, depth: int) -> bytes:
        content = _content(message, value, depth + 1)
        return prefix + _size(len(content)) + content

    return write


def _messages_writer(number: int, message: _Message) -> _Writer:
    prefix = tag(number, LENGTH_DELIMITED)

    def write(values: Any, depth: int) -> bytes:
        if type(values) is not list:
            raise _Fault("not an array")
        depth += 1
        parts: list[bytes] = []
        try:
            for value in values:
                content = _content(message, value, depth)
                parts += (prefix, _size(len(content)), content)
        except _Fault as fault:
            fault.steps.append(f"[{len(parts) // 3}]")
            raise
        return b"".join(parts)

    return write


def _scalar_writer(number: int, field: Field, kind: Scalar) -> _Writer:
    prefix = tag(number, kind.wire_type)
    encode = _encoder(kind)
    omitted = frozenset[bytes]() if field.choice or field.optional else _DEFAULTS

    if kind.wire_type == LENGTH_DELIMITED:

        def write(value: Any, depth: int) -> bytes:
            content = encode(value)
            return prefix + _size(len(content)) + content if content or not omitted else b""

    else:

        def write(value: Any, depth: int) -> bytes:
            content = encode(value)
            return b"" if content in omitted else prefix + content

    return write


def _scalars_writer(number: int, kind: Scalar) -> _Writer:
    """Numbers are packed."""
    is_packed = kind.wire_type != LENGTH_DELIMITED
    prefix = tag(number, LENGTH_DELIMITED)
    encode = _encoder(kind)

    def write(values: Any, depth: int) -> bytes:
        if type(values) is not list:
            raise _Fault("not an array")
        contents: list[bytes] = []
        try:
            for value in values:
                contents.append(encode(value))
        except _Fault as fault:
            fault.steps.append(f"[{len(contents)}]")
            raise
        if is_packed:
            contents = [b"".join(contents)] if contents else []
        return b"".join([prefix + _size(len(content)) + content for content in contents])

    return write


def _string(value: Any) -> bytes:
    if type(value) is not str:
        raise _Fault("not a string")
    return value.encode("utf-8", "replace")


def _hex(value: Any) -> bytes:
    try:
        content = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise _Fault("not hex") from None
    if 2 * len(content) != len(value):
        raise _Fault("not hex")
    return content


def _base64(value: Any) -> bytes:
    if type(value) is not str:
        raise _Fault("not base64")
    digits = value.translate(_STANDARD_ALPHABET).rstrip("=")
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        raise _Fault("not base64") from None


def _bool(value: Any) -> bytes:
    if type(value) is not bool:
        raise _Fault("neither true nor false")
    return b"\x01" if value else b"\x00"


def _double(value: Any) -> float:
    kind = type(value)
    if kind is float or kind is int:
        return value  # type: ignore[no-any-return]
    if kind is str:
        if value in _NAMED_DOUBLES:
            return _NAMED_DOUBLES[value]
        if _DECIMAL.fullmatch(value):
            return float(value)
    raise _Fault("not a number")


def _integer(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return value  # type: ignore[no-any-return]
    if kind is str:
        if len(value) <= _LONGEST_INTEGER and value.isascii() and value.removeprefix("-").isdigit():
            return int(value)
    elif kind is float and value.is_integer():
        return int(value)
    raise _Fault("not an integer")


def _fixed(layout: str, read: Callable[[Any], float]) -> Callable[[Any], bytes]:
    pack = struct.Struct(layout).pack

    def encode(value: Any) -> bytes:
        try:
            return pack(read(value))
        except (struct.error, OverflowError):
            raise _Fault("out of range") from None

    return encode


def _ranged(lowest: int, limit: int) -> Callable[[Any], bytes]:
    def encode(value: Any) -> bytes:
        number = _integer(value)
        if not lowest <= number < limit:
            raise _Fault("out of range")
        return varint(number)

    return encode


def _sint32(value: Any) -> bytes:
    number = _integer(value)
    if not -(1 << 31) <= number < 1 << 31:
        raise _Fault("out of range")
    return varint(number << 1 ^ number >> 31)


def _enum(names: tuple[str, ...]) -> Callable[[Any], bytes]:
    written = {name: varint(number) for number, name in enumerate(names)}
    by_number = _ranged(-(1 << 31), 1 << 31)

    def encode(value: Any) -> bytes:
        known = written.get(value) if type(value) is str else None
        return by_number(value) if known is None else known

    return encode


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "string": _string,
    "bytes": _base64,
    "id": _hex,
    "bool": _bool,
    "uint32": _ranged(0, 1 << 32),
    "sint32": _sint32,
    "int64": _ranged(-(1 << 63), 1 << 63),
    "uint64": _ranged(0, 1 << 64),
    "fixed32": _fixed("<I", _integer),
    "fixed64": _fixed("<Q", _integer),
    "sfixed64": _fixed("<q", _integer),
    "double": _fixed("<d", _double),
}
"""By the name of a scalar: from a JSON value to what stands behind the tag, without the length of text and bytes."""


def _encoder(kind: Scalar) -> Callable[[Any], bytes]:
    return _enum(kind.names) if kind.names else _ENCODERS[kind.name]


def _compile(name: str, known: dict[str, _Message]) -> _Message:
    """A message with all those in it, which may hold it in turn: it is known before it is filled."""
    if name in known:
        return known[name]
    message = known[name] = _Message([], {}, [])
    choices: dict[str, list[str]] = {}
    for number, field in MESSAGES[name].items():
        message.writers.append((field.name, _writer(number, field, known)))
        if field.choice:
            choices.setdefault(field.choice, []).append(field.name)
    message.by_key.update(message.writers)
    message.choices.extend(choices.values())
    return message


def _writer(number: int, field: Field, known: dict[str, _Message]) -> _Writer:
    if isinstance(field.type, Scalar):
        return _scalars_writer(number, field.type) if field.repeated else _scalar_writer(number, field, field.type)
    message = _compile(field.type, known)
    return _messages_writer(number, message) if field.repeated else _message_writer(number, message)


_known: dict[str, _Message] = {}
_REQUESTS = {signal: _compile(name, _known) for signal, name in REQUESTS.items()}

"""Trace payloads taken apart and put together as bytes: what is not looked at is copied as it stands.

A payload is whole occurrences of `resource_spans` (opentelemetry-proto, trace/v1). Nothing here decodes a span; faults of the
wire format are `WireError`.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import NamedTuple

from novel_agent.wire.protobuf import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, WireError, varint

RESOURCE_SPANS = 1 << 3 | LENGTH_DELIMITED
_SCOPE_SPANS = _SPANS = 2 << 3 | LENGTH_DELIMITED
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}


class Scope(NamedTuple):
    """One ScopeSpans: the bytes of its other fields, and the content of each span."""

    rest: bytes
    spans: list[bytes]


class Resource(NamedTuple):
    """One ResourceSpans: the bytes of its other fields, and its scopes."""

    rest: bytes
    scopes: list[Scope]


class Edited(NamedTuple):
    """A payload after an edit, the same object where nothing was changed, and how many values were."""

    payload: bytes
    changes: int


Editing = Generator[None, None, Edited]
"""An edit in slices: it yields after each."""

SLICE_BYTES = 96 << 10
SPAN_BYTES = 100
"""What a span costs beside its bytes, in bytes."""


def finished(editing: Editing) -> Edited:
    """The edit, made at once."""
    while True:
        try:
            next(editing)
        except StopIteration as end:
            result: Edited = end.value
            return result


def split(payload: bytes) -> list[Resource]:
    """The payload by resource, scope and span."""
    _, groups = occurrences(payload, RESOURCE_SPANS)
    return [_resource(group) for group in groups]


def _resource(group: bytes) -> Resource:
    rest, scopes = occurrences(group, _SCOPE_SPANS)
    return Resource(rest, [Scope(*occurrences(scope, _SPANS)) for scope in scopes])


def join(resources: Iterable[Resource]) -> bytes:
    """A payload again; scopes without spans, and resources without scopes, are left out."""
    parts: list[bytes] = []
    for rest, scopes in resources:
        inner = [rest, *(field(_SCOPE_SPANS, _scope(scope)) for scope in scopes if scope.spans)]
        if len(inner) > 1:
            parts.append(field(RESOURCE_SPANS, b"".join(inner)))
    return b"".join(parts)


def _scope(scope: Scope) -> bytes:
    parts = [scope.rest]
    for span in scope.spans:
        parts += (b"\x12", varint(len(span)), span)
    return b"".join(parts)


def count(payload: bytes) -> int:
    """How many spans there are."""
    return sum(len(scope.spans) for resource in split(payload) for scope in resource.scopes)


def edited(message: bytes, edits: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """The message with the content of each field as the edit for its tag gives it; the same object where nothing differs.

    The tags, below 128, are of length-delimited fields. An edit gives back its argument where it changes nothing.
    """
    parts: list[bytes] = []
    done = 0
    for tag, start, inner, stop in walk(message):
        edit = edits.get(tag)
        if edit is None:
            continue
        before = message[inner:stop]
        after = edit(before)
        if after is not before:
            parts += (message[done:start], field(tag, after))
            done = stop
    return b"".join((*parts, message[done:])) if parts else message


def field(tag: int, inner: bytes) -> bytes:
    """A length-delimited field whose tag, below 128, is given."""
    return b"%c%b%b" % (tag, varint(len(inner)), inner)


def occurrences(message: bytes, wanted: int) -> tuple[bytes, list[bytes]]:
    """All other fields as they stand, and the contents of the length-delimited field whose tag, below 128, is `wanted`."""
    rest: list[bytes] = []
    found: list[bytes] = []
    position, end = 0, len(message)
    try:
        while position < end:
            if message[position] != wanted:
                tag, start, stop = _end_of_field(message, position)
                if tag == wanted:  # in more bytes than it needs, which protobuf's readers take
                    found.append(message[start:stop])
                else:
                    rest.append(message[position:stop])
                position = stop
                continue
            start, size = position + 2, message[position + 1]
            if size > 0x7F:
                start, size = start + 1, size + (message[start] << 7) - 0x80
                if size > 0x3FFF:  # a length of three bytes or more
                    size, start = read_varint(message, position + 1)
            position = start + size
            if position > end:
                raise WireError("a field longer than its message")
            found.append(message[start:position])
    except IndexError:
        raise WireError("cut off before a length") from None
    return b"".join(rest), found


def walk(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each field its tag, and the offsets at which the field starts, its content starts and both end."""
    position, end = 0, len(message)
    while position < end:
        tag = message[position]
        kind = tag & 0x87 if tag > 7 else 0x80
        if kind == LENGTH_DELIMITED:
            start, stop = content(message, position + 1)
        elif kind == FIXED64 and position + 9 <= end:
            start, stop = position + 1, position + 9
        else:
            tag, start, stop = _end_of_field(message, position)
        yield tag, position, start, stop
        position = stop


def content(message: bytes, position: int) -> tuple[int, int]:
    """Where the content starts whose length stands at `position`, and where it ends."""
    try:
        size = message[position]
    except IndexError:
        raise WireError("cut off before a length") from None
    start = position + 1
    if size > 0x7F:
        size, start = read_varint(message, position)
    stop = start + size
    if stop > len(message):
        raise WireError("a field longer than its message")
    return start, stop


def _end_of_field(message: bytes, position: int) -> tuple[int, int, int]:
    tag, start = read_varint(message, position)
    kind = tag & 7
    if tag < 8:
        raise WireError("field number 0")
    if kind == VARINT:
        return tag, start, read_varint(message, start)[1]
    if kind == LENGTH_DELIMITED:
        return tag, *content(message, start)
    if kind not in _FIXED_BYTES:
        raise WireError(f"wire type {kind}")
    stop = start + _FIXED_BYTES[kind]
    if stop > len(message):
        raise WireError("a field longer than its message")
    return tag, start, stop


def read_varint(message: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it."""
    number = shift = 0
    try:
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, position
            shift += 7
            if shift > 63:
                raise WireError("a varint longer than ten bytes")
    except IndexError:
        raise WireError("cut off within a varint") from None

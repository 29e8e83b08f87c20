"""The protobuf wire format: writing fields, and walking them without a schema.

Source: protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) are refused: OTLP has none.
"""

from collections.abc import Iterator

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

_UINT64_LIMIT = 1 << 64
_INT64_LIMIT = 1 << 63
LARGEST_FIELD = (1 << 29) - 1
_ONE_BYTE = [bytes([number]) for number in range(0x80)]

WireValue = int | memoryview
"""An integer for a varint; the bytes themselves for the other wire types."""


class WireError(ValueError):
    """Bytes that are not protobuf."""


def varint(number: int) -> bytes:
    """An unsigned or signed 64-bit integer; a negative one takes ten bytes, as int64 and int32 do."""
    if 0 <= number < 0x80:
        return _ONE_BYTE[number]
    number %= _UINT64_LIMIT
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint(field << 3 | wire_type)


def length_delimited(field: int, *parts: bytes) -> bytes:
    """A string, bytes or message field whose content is the parts joined."""
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    return varint(field << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """A string field; nothing for the empty string, which is the default."""
    return length_delimited(field, content.encode("utf-8", "replace")) if content else b""


def integer(field: int, number: int) -> bytes:
    """An int32, int64, uint32, uint64, bool or enum field, also where it is 0."""
    return tag(field, VARINT) + varint(number)


def signed(number: int) -> int:
    """A walked varint as the int64 it stands for."""
    return number - _UINT64_LIMIT if number >= _INT64_LIMIT else number


def zigzag(number: int) -> int:
    """A walked varint as the sint32 or sint64 it stands for."""
    return number >> 1 ^ -(number & 1)


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it."""
    number = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise WireError("a varint longer than ten bytes")
    except IndexError:
        raise WireError("cut off within a varint") from None
    if number >= _UINT64_LIMIT:
        raise WireError("a varint beyond 64 bits")
    return number, position


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, WireValue]]:
    """Number, wire type and value of each field of one message, in order; `WireError` at the first fault.

    Nothing is copied: values are views into `data`. Only this message is looked at; what a length-delimited field holds
    is the caller's to walk, and so is the depth.
    """
    view = memoryview(data)
    end = len(view)
    position = 0
    while position < end:
        key, position = read_varint(view, position)
        number, wire_type = key >> 3, key & 7
        if not 0 < number <= LARGEST_FIELD:
            raise WireError(f"field number {number}")
        if wire_type == VARINT:
            value, position = read_varint(view, position)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH_DELIMITED:
            size, position = read_varint(view, position)
        elif wire_type == FIXED64:
            size = 8
        elif wire_type == FIXED32:
            size = 4
        else:
            raise WireError(f"wire type {wire_type}")
        if size > end - position:
            raise WireError("a field longer than its message")
        yield number, wire_type, view[position : position + size]
        position += size

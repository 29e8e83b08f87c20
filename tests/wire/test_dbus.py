"""Bytes are typed by hand after the tables of the D-Bus specification; one line a field."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.wire.dbus import (
    ERROR,
    METHOD_RETURN,
    Call,
    Message,
    decode,
    decode_body,
    encode_call,
    message_size,
)

HELLO = (
    b"l\x01\x00\x01"  # little-endian, method call, no flags, version 1
    b"\x00\x00\x00\x00"  # bytes of body
    b"\x01\x00\x00\x00"  # serial
    b"\x6e\x00\x00\x00"  # bytes of header fields, less the last one's padding
    b"\x01\x01o\x00\x15\x00\x00\x00/org/freedesktop/DBus\x00\x00\x00"
    b"\x06\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
    b"\x02\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
    b"\x03\x01s\x00\x05\x00\x00\x00Hello\x00\x00\x00"
)
WELCOME = (
    b"l\x02\x01\x01"  # little-endian, method return, no reply expected, version 1
    b"\x0a\x00\x00\x00"
    b"\x01\x00\x00\x00"
    b"\x3f\x00\x00\x00"
    b"\x05\x01u\x00\x01\x00\x00\x00"  # reply to serial 1
    b"\x07\x01s\x00\x14\x00\x00\x00org.freedesktop.DBus\x00\x00\x00\x00"
    b"\x06\x01s\x00\x05\x00\x00\x00:1.42\x00\x00\x00"
    b"\x08\x01g\x00\x01s\x00\x00"
    b"\x05\x00\x00\x00:1.42\x00"
)
FAILURE = (
    b"B\x03\x01\x01"  # big-endian, error
    b"\x00\x00\x00\x07"
    b"\x00\x00\x00\x05"
    b"\x00\x00\x00\x1f"
    b"\x05\x01u\x00\x00\x00\x01\x02"  # reply to serial 258
    b"\x04\x01s\x00\x00\x00\x00\x07a.b.Cde\x00"
    b"\x08\x01g\x00\x01s\x00\x00"
    b"\x00\x00\x00\x02no\x00"
)


def test_a_call_without_arguments_is_as_the_specification_has_it():
    call = Call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
    assert encode_call(call, 1) == HELLO


def test_arguments_follow_with_their_signature():
    message = encode_call(Call("a.b", "/c", "d.e", "F", ("one", "three")), 513)
    assert message == (
        b"l\x01\x00\x01"
        b"\x12\x00\x00\x00"  # 18 bytes of body
        b"\x01\x02\x00\x00"
        b"\x48\x00\x00\x00"
        b"\x01\x01o\x00\x02\x00\x00\x00/c\x00\x00\x00\x00\x00\x00"
        b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00"
        b"\x02\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00"
        b"\x03\x01s\x00\x01\x00\x00\x00F\x00\x00\x00\x00\x00\x00\x00"
        b"\x08\x01g\x00\x02ss\x00"
        b"\x03\x00\x00\x00one\x00"
        b"\x05\x00\x00\x00three\x00"
    )


def test_the_size_of_a_message_stands_in_its_first_bytes():
    assert message_size(WELCOME[:16]) == len(WELCOME) == 90
    assert message_size(HELLO[:16]) == len(HELLO)


def test_reads_a_reply():
    assert decode(WELCOME) == Message(METHOD_RETURN, 1, "", "s", (":1.42",))


def test_reads_an_error_of_a_big_endian_peer():
    assert message_size(FAILURE[:16]) == len(FAILURE) == 55
    assert decode(FAILURE) == Message(ERROR, 258, "a.b.Cde", "s", ("no",))


@pytest.mark.parametrize(
    ("signature", "body", "values"),
    [
        ("", b"", ()),
        ("y", b"\xff", (255,)),
        ("b", b"\x01\x00\x00\x00", (True,)),
        ("n", b"\xfe\xff", (-2,)),
        ("q", b"\xfe\xff", (65534,)),
        ("i", b"\xff\xff\xff\xff", (-1,)),
        ("u", b"\xff\xff\xff\xff", (4294967295,)),
        ("x", b"\xff" * 8, (-1,)),
        ("t", b"\xff" * 8, (18446744073709551615,)),
        ("d", b"\x00\x00\x00\x00\x00\x00\xf8\x3f", (1.5,)),
        ("s", b"\x03\x00\x00\x00\xc3\xa9!\x00", ("é!",)),
        ("o", b"\x02\x00\x00\x00/a\x00", ("/a",)),
        ("g", b"\x02as\x00", ("as",)),
        ("yu", b"\x01\x00\x00\x00\x02\x00\x00\x00", (1, 2)),
        ("yt", b"\x01" + b"\x00" * 7 + b"\x02" + b"\x00" * 7, (1, 2)),
        ("v", b"\x01s\x00\x00\x02\x00\x00\x00ab\x00", ("ab",)),
        ("v", b"\x01t\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00", (5,)),
        ("as", b"\x00\x00\x00\x00", ([],)),
        ("as", b"\x0d\x00\x00\x00\x01\x00\x00\x00a\x00\x00\x00\x00\x00\x00\x00\x00", (["a", ""],)),
        ("at", b"\x08\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00", ([9],)),
        ("at", b"\x00\x00\x00\x00\x00\x00\x00\x00", ([],)),
        (
            "a(sy)",
            b"\x0f\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00a\x00\x07\x00\x01\x00\x00\x00b\x00\x08",
            ([("a", 7), ("b", 8)],),
        ),
        (
            "a{sv}",
            b"\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00k\x00\x01u\x00\x00\x00\x00\x2a\x00\x00\x00",
            ({"k": 42},),
        ),
        ("(s(y))", b"\x01\x00\x00\x00a\x00\x00\x00\x05", (("a", (5,)),)),
    ],
)
def test_reads_values_of_every_type(signature, body, values):
    assert decode_body(body, signature) == values


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("u", b"\x00\x00"),
        ("u", b"\x00\x00\x00\x00\x00"),
        ("s", b"\x05\x00\x00\x00abc\x00"),
        ("s", b"\x02\x00\x00\x00abc\x00"),
        ("s", b"\x01\x00\x00\x00\xff\x00"),
        ("as", b"\xff\x00\x00\x00"),
        ("ay", b"\x02\x00\x00\x00\x01"),
        ("au", b"\x02\x00\x00\x00\x01\x00\x00\x00"),
        ("v", b"\x00\x00"),
        ("v", b"\x02ss\x00"),
        ("v", b"\x05a"),
        ("a", b""),
        ("()", b""),
        ("(s", b""),
        ("a{s}", b""),
        ("a{sss}", b""),
        ("z", b""),
        ("a" * 40 + "s", b""),
        ("(" * 40 + "s" + ")" * 40, b""),
    ],
)
def test_refuses_malformed_values(signature, body):
    with pytest.raises(ValueError, match="malformed"):
        decode_body(body, signature)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"HTTP/1.1 400 Bad",
        b"l\x01\x00\x02" + bytes(12),
        b"l\x01\x00\x01\xff\xff\xff\x7f" + bytes(8),
    ],
)
def test_refuses_what_is_no_message(header):
    with pytest.raises(ValueError):  # noqa: PT011
        message_size(header)


@pytest.mark.parametrize("at", range(0, 90, 7))
def test_a_torn_message_is_a_value_error(at):
    with pytest.raises(ValueError):  # noqa: PT011
        decode(WELCOME[:at] + b"\xff" + WELCOME[at + 1 : -3])


def test_variants_within_variants_without_end_are_a_value_error():
    deep = b"\x01v\x00" * 100_000
    message = b"l\x02\x01\x01" + struct.pack("<III", len(deep), 1, 15)
    message += b"\x05\x01u\x00\x01\x00\x00\x00\x08\x01g\x00\x01v\x00\x00" + deep
    with pytest.raises(ValueError, match="malformed"):
        decode(message)


@given(st.integers(0, 89), st.integers(0, 255))
def test_a_damaged_message_raises_nothing_else(at, byte):
    with suppress(ValueError):
        decode(WELCOME[:at] + bytes((byte,)) + WELCOME[at + 1 :])


@given(st.text("aybnqiuxtdsogv(){}", max_size=12), st.binary(max_size=64))
def test_arbitrary_variants_raise_nothing_else(signature, rest):
    body = bytes((len(signature),)) + signature.encode() + b"\x00" + rest
    fields = b"\x05\x01u\x00\x01\x00\x00\x00\x08\x01g\x00\x01v\x00\x00"
    with suppress(ValueError):
        decode(b"l\x02\x01\x01" + struct.pack("<III", len(body), 1, 15) + fields + body)

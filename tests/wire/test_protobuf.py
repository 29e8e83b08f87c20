import pytest
from google.protobuf.internal.decoder import _DecodeVarint
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.wire.protobuf import (
    FIXED32,
    FIXED64,
    LENGTH_DELIMITED,
    VARINT,
    WireError,
    fields,
    integer,
    length_delimited,
    read_varint,
    signed,
    tag,
    text,
    varint,
    zigzag,
)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (2**64 - 1, "ff" * 9 + "01"),
        (-1, "ff" * 9 + "01"),
    ],
)
def test_varints_are_written_as_the_encoding_guide_shows(number, written):
    assert varint(number).hex() == written


@given(st.integers(0, 2**64 - 1))
def test_varints_agree_with_googles(number):
    assert varint(number) == _VarintBytes(number)
    assert read_varint(memoryview(varint(number)), 0) == (number, _DecodeVarint(varint(number), 0)[1])


def test_the_encoding_guides_examples():
    assert integer(1, 150).hex() == "089601"
    assert text(2, "testing").hex() == "120774657374696e67"
    assert length_delimited(3, integer(1, 150)).hex() == "1a03089601"


def test_an_empty_text_is_the_default_and_not_written():
    assert text(4, "") == b""


def test_walks_every_wire_type():
    data = integer(1, 7) + tag(2, FIXED64) + b"12345678" + length_delimited(3, b"abc") + tag(4, FIXED32) + b"1234"
    assert [
        (number, kind, value if isinstance(value, int) else bytes(value)) for number, kind, value in fields(data)
    ] == [
        (1, VARINT, 7),
        (2, FIXED64, b"12345678"),
        (3, LENGTH_DELIMITED, b"abc"),
        (4, FIXED32, b"1234"),
    ]


def test_negative_numbers_come_back():
    ((_, _, value),) = fields(integer(1, -5))
    assert signed(value) == -5
    assert [zigzag(number) for number in (0, 1, 2, 3, 4294967294, 4294967295)] == [
        0,
        -1,
        1,
        -2,
        2147483647,
        -2147483648,
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("08", "cut off within a varint"),
        ("0880", "cut off within a varint"),
        ("08" + "80" * 10 + "01", "a varint longer than ten bytes"),
        ("08" + "ff" * 9 + "02", "a varint beyond 64 bits"),
        ("0a05616263", "a field longer than its message"),
        ("0affffffffffffffffff01", "a field longer than its message"),
        ("0900000000", "a field longer than its message"),
        ("0d0000", "a field longer than its message"),
        ("0001", "field number 0"),
        ("80808080a00100", "field number 536870912"),
        ("0b0c", "wire type 3"),
        ("0c", "wire type 4"),
        ("0e", "wire type 6"),
        ("0f", "wire type 7"),
    ],
)
def test_refuses_what_is_not_protobuf(data, fault):
    with pytest.raises(WireError, match=fault):
        list(fields(bytes.fromhex(data)))


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(data):
    try:
        for _, _, value in fields(data):
            assert isinstance(value, int) or len(value) <= len(data)
    except WireError:
        pass

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
import zstandard

from novel_agent.inputs.otlp.body import DECODERS, PIECE_BYTES
from novel_agent.inputs.otlp.refusal import Refused

generator = random.Random(7)
CONTENTS = {
    "nothing": b"",
    "a byte": b"x",
    "noise": generator.randbytes(300_000),
    "zeros": bytes(3_000_000),
    "repeated noise": generator.randbytes(1000) * 900,
    "a piece": bytes(PIECE_BYTES),
    "a piece and a byte": bytes(PIECE_BYTES + 1),
    "sixteen pieces and a byte": bytes(16 * PIECE_BYTES + 1),
}


def zstd_stream(content: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return stream.compress(content) + stream.flush()


ENCODERS: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("gzip", "gzip", gzip.compress),
    ("gzip, stored", "gzip", lambda content: gzip.compress(content, 0)),
    ("deflate", "deflate", zlib.compress),
    ("zstd", "zstd", zstandard.ZstdCompressor().compress),
    ("zstd with a checksum", "zstd", zstandard.ZstdCompressor(write_checksum=True).compress),
    ("zstd without a size", "zstd", zstandard.ZstdCompressor(write_content_size=False).compress),
    ("zstd as a stream", "zstd", zstd_stream),
]


def decoded(encoding: str, body: bytes, step: int) -> bytes:
    make = DECODERS[encoding]
    assert make is not None
    decoder = make()
    pieces = []
    for start in range(0, len(body), step):
        pieces += decoder.feed(body[start : start + step])
    decoder.finish()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize(("encoding", "encode"), [row[1:] for row in ENCODERS], ids=[row[0] for row in ENCODERS])
def test_what_was_encoded_comes_out_however_it_arrives(
    encoding: str, encode: Callable[[bytes], bytes], content: bytes
) -> None:
    body = encode(content)
    for step in (997, len(body) - 1 or 1, len(body)):
        assert decoded(encoding, body, step) == content
        assert decoded(encoding, body + body, step) == content + content


@pytest.mark.parametrize(("encoding", "encode"), [row[1:] for row in ENCODERS], ids=[row[0] for row in ENCODERS])
def test_a_body_cut_off_anywhere_is_malformed(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    body = encode(CONTENTS["repeated noise"][:5000])
    assert decoded(encoding, body, 1) == CONTENTS["repeated noise"][:5000]
    for end in range(len(body)):
        with pytest.raises(Refused, match="compression"):
            decoded(encoding, body[:end], len(body))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_something_else_is_malformed(encoding: str) -> None:
    with pytest.raises(Refused):
        decoded(encoding, b"something else altogether", 1000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_follows_the_end_is_malformed(encoding: str) -> None:
    encode = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[encoding]
    with pytest.raises(Refused):
        decoded(encoding, encode(b"sound") + b"and more", 1000)


def test_zeros_may_follow_gzip() -> None:
    assert decoded("gzip", gzip.compress(b"sound") + bytes(100), 7) == b"sound"


def test_a_skippable_zstd_frame_is_skipped() -> None:
    skippable = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"abcde"
    frame = zstandard.ZstdCompressor().compress(b"sound")
    for step in (1, 3, 1000):
        assert decoded("zstd", skippable + frame + skippable, step) == b"sound"
    with pytest.raises(Refused, match="ends before"):
        decoded("zstd", frame + skippable[:-1], 1000)


def test_a_zstd_block_larger_than_can_be_is_malformed() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"sound")
    with pytest.raises(Refused, match="a block that cannot be"):
        decoded("zstd", frame[:6] + b"\xff\xff\xff" + frame[9:], 1000)

"""Long lines, encodings, marks, NUL bytes: where lines end and characters are not torn."""

import os

import pytest
from tail_session import TailSession, append

from novel_agent.inputs.logs.lines import after_first_newline, after_last_newline, cut_bytes


def chunks(session):
    return [(read.chunk.data, read.chunk.offset, read.chunk.end, read.chunk.truncated) for read in session.reads]


def test_a_line_longer_than_allowed_is_cut_and_the_rest_skipped(tmp_path):
    session = TailSession(tmp_path / "a.log", max_line_bytes=1024)
    append(tmp_path / "a.log", "before\n" + "x" * 5000 + "\nafter\n")
    session.poll()
    assert chunks(session) == [
        (b"before\n", 0, 7, False),
        (b"x" * 1024, 7, 5008, True),
        (b"after\n", 5008, 5014, False),
    ]
    status = session.status(tmp_path / "a.log")
    assert (status.lines_cut, status.bytes_skipped) == (1, 3977)


def test_a_line_as_long_as_allowed_is_not_cut(tmp_path):
    session = TailSession(tmp_path / "a.log", max_line_bytes=1024)
    append(tmp_path / "a.log", "x" * 1024 + "\n" + "y" * 1025 + "\n" + "z" * 1024 + "\n")
    session.poll()
    assert [(data, truncated) for data, _, _, truncated in chunks(session)] == [
        (b"x" * 1024 + b"\n", False),
        (b"y" * 1024, True),
        (b"z" * 1024 + b"\n", False),
    ]


@pytest.mark.parametrize("step", [700, 300_000])
@pytest.mark.parametrize("most", [1 << 10, 1 << 20])
def test_a_long_line_that_comes_in_pieces_is_cut_once(tmp_path, most, step):
    session = TailSession(tmp_path / "a.log", max_line_bytes=most)
    total = 3 * most
    for written in range(0, total, step):
        append(tmp_path / "a.log", "x" * min(step, total - written))
        session.poll(1)
    append(tmp_path / "a.log", "\nafter\n")
    session.poll(1)
    assert [(len(data), truncated) for data, _, _, truncated in chunks(session)] == [(most, True), (6, False)]
    assert chunks(session)[-1][1:3] == (total + 1, total + 7)


def test_a_restart_within_a_line_that_is_skipped_goes_on_skipping(tmp_path):
    session = TailSession(tmp_path / "a.log", max_line_bytes=1024)
    append(tmp_path / "a.log", "x" * 5000)
    assert session.poll() == ["x" * 1024]
    session.restart()
    append(tmp_path / "a.log", "x" * 5000 + "\nafter\n")
    assert session.poll() == ["after"]
    session.restart()
    assert session.poll() == []


def test_a_line_without_end_is_not_held_in_memory(tmp_path):
    import tracemalloc

    session = TailSession(tmp_path / "a.log", acknowledge=True)
    with open(tmp_path / "a.log", "wb") as file:
        for _ in range(256):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        session.poll()
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    assert [len(data) for data, *_ in chunks(session)] == [1 << 20]
    append(tmp_path / "a.log", "\nafter\n")
    assert session.poll(1) == ["after"]


def test_a_cut_is_between_characters(tmp_path):
    session = TailSession(tmp_path / "a.log", max_line_bytes=1024)
    append(tmp_path / "a.log", "x" + "é" * 2000 + "\n" + "€" * 1000 + "\n" + "😀" * 400 + "x\n")
    session.poll()
    assert session.lines == ["x" + "é" * 511, "€" * 341, "😀" * 256]


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-8", b"\xef\xbb\xbf")]
)
def test_the_byte_order_mark_tells_the_encoding_and_is_no_part_of_a_line(tmp_path, encoding, mark):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", mark[:1])
    assert session.poll() == []
    append(tmp_path / "a.log", mark[1:] + "grüße\r\n".encode(encoding))
    assert session.poll(1) == ["grüße"]
    assert (session.reads[0].chunk.offset, session.reads[0].chunk.encoding) == (len(mark), encoding)
    session.restart()
    append(tmp_path / "a.log", "zwei\n".encode(encoding))
    assert session.poll() == ["zwei"]
    assert session.reads[-1].chunk.encoding == encoding


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_an_option_and_newlines_are_whole_units(tmp_path, encoding):
    session = TailSession(tmp_path / "a.log", encoding=encoding)
    text = "\u0a0a\u000a\u0a00x\u0100\u0a05\u0a0a\u000a".encode(encoding)
    for place in range(len(text)):
        append(tmp_path / "a.log", text[place : place + 1])
        session.poll(1)
    assert b"".join(read.chunk.data for read in session.reads) == text
    assert [read.chunk.end for read in session.reads] == [4, 16]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_cut_between_surrogate_pairs(tmp_path, encoding):
    session = TailSession(tmp_path / "a.log", encoding=encoding, max_line_bytes=1024)
    append(tmp_path / "a.log", ("x" + "😀" * 400 + "\nafter\n").encode(encoding))
    assert session.poll() == ["x" + "😀" * 255, "after"]


def test_an_odd_last_byte_of_utf_16_is_left(tmp_path):
    session = TailSession(tmp_path / "a.log", encoding="utf-16-le")
    append(tmp_path / "a.log", "one\n".encode("utf-16-le") + "la".encode("utf-16-le") + b"s")
    assert session.poll() == ["one"]
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    assert session.wait(10) == ["la"]


def test_nul_bytes_at_the_beginning_are_skipped_but_not_those_within(tmp_path):
    session = TailSession(tmp_path / "a.log")
    append(tmp_path / "a.log", b"\0" * 300_001)
    assert session.poll() == []
    append(tmp_path / "a.log", b"\0\0one\0\ntwo\n")
    assert session.poll(1) == ["one\0", "two"]
    assert session.reads[0].chunk.offset == 300_003


def test_positions_beyond_four_gibibytes_and_holes_without_reading_them(tmp_path):
    path = tmp_path / "a.log"
    with open(path, "wb") as file:
        file.truncate(10 << 30)
    append(path, "one\n")
    session = TailSession(path)
    assert session.poll() == ["one"]
    chunk = session.reads[0].chunk
    assert (chunk.offset, chunk.end) == (10 << 30, (10 << 30) + 4)
    session.restart()
    append(path, "two\n")
    assert session.poll() == ["two"]


def test_start_at_end_of_ten_gibibytes_without_a_newline_skips_the_line(tmp_path):
    path = tmp_path / "a.log"
    with open(path, "wb") as file:
        file.write(b"x")
        file.truncate(10 << 30)
    session = TailSession(path, start_at_end=True)
    assert session.poll() == []
    append(path, "end of it\nnew\n")
    assert session.poll(1) == ["new"]


@pytest.mark.parametrize(
    ("line", "most", "kept"),
    [(b"abcdef", 4, 4), ("aé€".encode(), 2, 1), ("aé€".encode(), 3, 3), (b"\x80" * 9, 6, 6), ("€€".encode(), 4, 3)],
)
def test_how_much_of_a_line_is_kept(line, most, kept):
    assert cut_bytes(line, most, "utf-8") == kept


def test_newlines_at_odd_places_of_utf_16_are_none():
    buffer = bytearray("\u0a00\u000a".encode("utf-16-be")) + b"\0\x0a\0"
    assert after_first_newline(buffer, 0, 6, "utf-16-be") == 4
    assert after_last_newline(bytearray(b"\x0a\0\x41\x0a\0\0"), 0, 6, "utf-16-le") == 2
    assert after_last_newline(bytearray(b"\x41\x0a\0\x41"), 0, 4, "utf-16-le") == -1

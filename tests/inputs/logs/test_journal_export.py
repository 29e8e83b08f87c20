from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.inputs.logs.journal_export import ExportReader


def binary(name, value):
    return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


def read(data, **options):
    return ExportReader(**options).feed(data)


def test_an_entry_of_text_is_its_fields():
    (entry,) = read(b"A=1\nMESSAGE=x=y z\nEMPTY=\n\n")
    assert entry.values == {"A": "1", "MESSAGE": "x=y z", "EMPTY": ""}
    assert (entry.truncated, entry.data) == (False, {})


def test_a_value_with_newlines_stands_with_its_length():
    (entry,) = read(b"A=1\n" + binary(b"MESSAGE", b"one\n\ntwo=2\n") + b"B=2\n\n")
    assert entry.values == {"A": "1", "MESSAGE": "one\n\ntwo=2\n", "B": "2"}


def test_a_length_whose_bytes_are_newlines_is_a_length():
    value = b"v" * 10
    first, second = read(binary(b"M", value) + b"\n" + b"A=1\n\n")
    assert first.values == {"M": "vvvvvvvvvv"}
    assert second.values == {"A": "1"}


def test_bytes_that_are_no_text_are_kept_beside_the_text_with_replacements():
    (entry,) = read(binary(b"RAW", b"a\xff\x00") + b"\n")
    assert entry.values == {"RAW": "a\ufffd\x00"}
    assert entry.data == {"RAW": b"a\xff\x00"}


def test_a_name_that_stands_more_than_once_has_all_values():
    (entry,) = read(b"TAG=a\nTAG=b\n" + binary(b"TAG", b"c\n") + b"X=1\n\n")
    assert entry.values == {"TAG": ["a", "b", "c\n"], "X": "1"}


def test_several_entries_follow_each_other_and_the_last_waits_for_its_end():
    reader = ExportReader()
    assert [entry.values for entry in reader.feed(b"A=1\n\nA=2\n\nA=3\n")] == [{"A": "1"}, {"A": "2"}]
    assert reader.held_bytes == 4
    assert [entry.values for entry in reader.feed(b"\n")] == [{"A": "3"}]
    assert reader.held_bytes == 0


def test_notices_of_journalctl_are_passed_over():
    data = b"-- Journal begins at Mon 2025-11-24 16:00:00 UTC. --\nA=1\n\n-- No entries --\n\nA=2\n\n"
    assert [entry.values for entry in read(data)] == [{"A": "1"}, {"A": "2"}]


ENTRIES = b"A=1\nTAG=a\nTAG=b\n\n" + binary(b"MESSAGE", b"x\n\ny") + b"B=2\n\nC=3\n\n" + binary(b"D", b"") + b"\n"


@given(st.lists(st.integers(0, len(ENTRIES)), max_size=8))
def test_pieces_of_any_size_give_the_same(cuts):
    reader = ExportReader()
    places = [0, *sorted(cuts), len(ENTRIES)]
    found = [entry for start, end in pairwise(places) for entry in reader.feed(ENTRIES[start:end])]
    assert [entry.values for entry in found] == [
        {"A": "1", "TAG": ["a", "b"]}, {"MESSAGE": "x\n\ny", "B": "2"}, {"C": "3"}, {"D": ""},
    ]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_value_beyond_the_bound_is_cut_without_being_held(piece, as_text):
    long = b"v" * 5000
    data = b"A=1\n" + (b"MESSAGE=" + long + b"\n" if as_text else binary(b"MESSAGE", long)) + b"B=2\n\nA=2\n\n"
    reader = ExportReader(most_bytes=1000)
    found = []
    for start in range(0, len(data), piece):
        found += reader.feed(data[start : start + piece])
        assert reader.held_bytes <= 2200
    cut, after = found
    assert cut.values == {"A": "1", "MESSAGE": "v" * 991}
    assert cut.truncated
    assert (after.values, after.truncated) == ({"A": "2"}, False)


def test_a_character_is_not_torn_where_a_value_is_cut():
    (entry,) = read(binary(b"M", "äöü".encode() * 100) + b"\n", most_bytes=100)
    assert entry.values == {"M": ("äöü" * 100)[:49]}


def test_a_value_that_fits_exactly_is_whole():
    (entry,) = read(binary(b"M", b"v" * 98 + b"\n") + b"\n", most_bytes=100)
    assert (entry.values, entry.truncated) == ({"M": "v" * 98 + "\n"}, False)


def test_a_length_that_cannot_be_true_holds_nothing():
    reader = ExportReader(most_bytes=1000)
    reader.feed(b"M\n" + b"\xff" * 8)
    for _ in range(100):
        assert reader.feed(b"x" * 1000) == []
    assert reader.held_bytes <= 1001


@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_comes_is_read_without_failing_and_bounded(data, piece):
    reader = ExportReader(most_bytes=100)
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        assert reader.held_bytes <= 300

import time

import pytest

from novel_agent.model.log import LogRecord
from novel_agent.processors.log_attributes import AddAttributes, DropAttributes, Wildcards


def without(attributes, *patterns):
    (record,) = DropAttributes(patterns)([LogRecord(attributes=attributes)], 0)
    return record.attributes


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("thread_*", "thread_id", True),
        ("thread_*", "thread_", True),
        ("thread_*", "my_thread_id", False),
        ("*", "", True),
        ("*_id", "thread_id", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a.b.b.c", True),
        ("a*b*c", "ac", False),
        ("a**b", "ab", True),
        ("a.b", "a_b", False),
        ("[ab]?", "[ab]?", True),
        ("[ab]?*", "a1", False),
    ],
)
def test_only_a_star_stands_for_other_text(pattern, name, fits):
    assert (name in Wildcards([pattern])) is fits


def test_many_stars_take_linear_time():
    before = time.process_time()
    assert "a" * 200_000 not in Wildcards(["a*" * 50 + "b"])
    assert time.process_time() - before < 1.0


def test_names_beyond_what_is_remembered_are_still_told():
    wildcards = Wildcards(["k*"])
    assert all(f"k{number}" in wildcards and f"x{number}" not in wildcards for number in range(5000))


def test_named_attributes_are_left_out():
    assert without({"thread_id": 1, "thread_name": "x", "user": "y"}, "thread_*") == {"user": "y"}
    assert without({"a": 1, "b": 2}, "a", "absent") == {"b": 2}


def test_attributes_within_others_are_named_with_a_dot():
    nested = {"process": {"id": 1, "thread": {"id": 2, "name": "x"}}, "process.id": 3}
    assert without(nested, "process.thread.*") == {"process": {"id": 1}, "process.id": 3}
    assert without(nested, "process.id") == {"process": {"thread": {"id": 2, "name": "x"}}}
    assert without(nested, "*.id") == {"process": {"thread": {"name": "x"}}}
    assert without(nested, "id") == nested


def test_what_was_empty_before_stays():
    assert without({"empty": {}, "a": {"b": 1}}, "a.b") == {"empty": {}}


def test_where_nothing_is_left_out_the_attributes_are_the_same_object():
    attributes = {"a": {"b": 1}, "c": 2}
    assert without(attributes, "x.*", "*_y") is attributes


def test_attributes_are_added_over_what_is_there_and_shared_ones_are_not_edited():
    shared = {"team": "none", "user": "x"}
    records = [LogRecord(attributes=shared), LogRecord()]
    AddAttributes({"team": "stories"})(records, 0)
    assert [record.attributes for record in records] == [{"team": "stories", "user": "x"}, {"team": "stories"}]
    assert shared == {"team": "none", "user": "x"}

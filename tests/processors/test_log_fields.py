import pytest

from novel_agent.processors.log_fields import find, highest, lowest, severity_name


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"a.b.c": 1, "a.b": {"c": 2}, "a": {"b.c": 3}}, 1),
        ({"a.b": {"c": 2}, "a": {"b.c": 3, "b": {"c": 4}}}, 2),
        ({"a": {"b.c": 3, "b": {"c": 4}}}, 3),
        ({"a": {"b": {"c": 4}}}, 4),
        ({"a.b": {"other": 1}, "a": {"b": {"c": 5}}}, 5),
        ({"a.b.c": None, "a": {"b": {"c": 6}}}, 6),
        ({"a.b": 1, "c": 2, "a": [{"b.c": 3}]}, None),
        ({}, None),
    ],
)
def test_an_attribute_is_found_by_its_whole_name_or_else_within_the_longest_beginning(attributes, found):
    assert find(attributes, "a.b.c") == found


@pytest.mark.parametrize("name", ["", ".", ".a", "a.", "a..b"])
def test_odd_names_are_just_names(name):
    assert find({"a": {"b": 1}}, name) is None
    assert find({name: 7}, name) == 7


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, None), (1, "trace"), (4, "trace"), (5, "debug"), (8, "debug"), (9, "info"), (12, "info"), (13, "warn"),
     (16, "warn"), (17, "error"), (20, "error"), (21, "fatal"), (24, "fatal"), (25, None), (-1, None)],
)  # fmt: skip
def test_each_severity_is_four_numbers(number, name):
    assert severity_name(number) == name


def test_the_ends_of_a_severity():
    assert (lowest("trace"), highest("trace")) == (1, 4)
    assert (lowest("warn"), highest("warn")) == (13, 16)
    assert (lowest("fatal"), highest("fatal")) == (21, 24)

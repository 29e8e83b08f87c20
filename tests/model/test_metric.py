import pytest

from novel_agent.model.metric import Family, Shape, ShapeMemo


def test_a_series_needs_a_value_for_every_label():
    family = Family("x", "X.", labels=("a", "b"))
    assert family.series("1", "2").labels == (("a", "1"), ("b", "2"))
    with pytest.raises(ValueError, match="zip"):
        family.series("1")


def test_families_are_told_apart_by_identity():
    assert Family("x", "X.") != Family("x", "X.")


def test_a_memo_keeps_a_shape_until_its_key_changes():
    memo, family = ShapeMemo(), Family("x", "X.", labels=("a",))
    first = memo.get("slot", ("1",), lambda: [family.series("1")])
    assert memo.get("slot", ("1",), lambda: pytest.fail("built again")) is first
    second = memo.get("slot", ("1", "2"), lambda: [family.series("1"), family.series("2")])
    assert len(second) == 2
    assert memo.get("other slot", ("1",), list) is not first


def test_a_shape_has_the_length_of_its_series():
    assert len(Shape([])) == 0

import pytest

from novel_agent.inputs.host.name_filter import NameFilter


@pytest.mark.parametrize(
    ("exclude", "include", "shown"),
    [
        ("", None, ["sda", "sda1", "loop0"]),
        ("^loop", None, ["sda", "sda1"]),
        ("", "^sd", ["sda", "sda1"]),
        ("1$", "^sd", ["sda"]),
        ("^default$", "loop", ["loop0"]),
    ],
)
def test_excludes_and_includes_what_is_found_anywhere(exclude, include, shown):
    names = NameFilter(exclude, include)
    assert [name for name in ("sda", "sda1", "loop0") if names(name)] == shown


def test_an_include_pattern_takes_the_place_of_the_default_exclusion():
    default = "^(loop|ram)"
    assert NameFilter(default, None, default)("loop0") is False
    assert NameFilter(default, "^loop", default)("loop0") is True
    assert NameFilter("^loop1", "^loop", default)("loop1") is False

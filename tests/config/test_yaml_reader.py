import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.tree import Branch, Items, Scalar
from novel_agent.config.yaml_reader import MOST_BYTES, read_yaml


def read(text):
    errors = []
    node = read_yaml(text if isinstance(text, bytes) else text.encode(), "a.yaml", errors)
    assert errors == []
    return node


def errors_in(text):
    errors = []
    read_yaml(text if isinstance(text, bytes) else text.encode(), "a.yaml", errors)
    return [str(error) for error in errors]


def plain(node):
    if isinstance(node, Branch):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(each) for each in node.nodes]
    return node.text


def test_keeps_the_line_of_every_key_and_value():
    node = read("a: 1\nb:\n  c: x\n  d:\n    - y\n    - |\n      long\n")
    b = node.entries["b"]
    assert (b.origin.line, b.node.origin.line) == (2, 3)
    assert b.node.entries["d"].node.nodes[1].origin == ("a.yaml", 6)


def test_leaves_values_as_they_were_written():
    node = read("[010, 1:30, 0x1F, off, ~, 1e5, 2024-01-01, 1_000]")
    assert plain(node) == ["010", "1:30", "0x1F", "off", "~", "1e5", "2024-01-01", "1_000"]


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("5", "plain"),
        ("'5'", "quoted"),
        ('"5"', "quoted"),
        ("!!str 5", "quoted"),
        ("!!int '5'", "plain"),
        ("! 5", "quoted"),
        ("|\n  5", "quoted"),
    ],
)
def test_knows_what_was_quoted(text, style):
    assert read(f"[{text}]" if "\n" not in text else f"- {text}").nodes[0].style == style


def test_a_file_without_a_value_is_none():
    assert read("") is None
    assert read("# only a comment\n") is None


def test_aliases_repeat_and_merge_keys_fill_in():
    node = read(
        "base: &base {a: 1, b: 2}\n"
        "one: {<<: *base, b: 3}\n"
        "two: {<<: [{a: 9}, *base]}\n"
        "three: *base\n"
        "text: &t hello\n"
        "again: *t\n"
    )
    assert plain(node) == {
        "base": {"a": "1", "b": "2"},
        "one": {"b": "3", "a": "1"},
        "two": {"a": "9", "b": "2"},
        "three": {"a": "1", "b": "2"},
        "text": "hello",
        "again": "hello",
    }


def test_a_quoted_merge_key_is_a_key():
    assert plain(read('"<<": {a: 1}')) == {"<<": {"a": "1"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a: stands twice in this mapping, first in line 1"),
        ("x:\n  y:\n    a: 1\n    a: 2\n", "a.yaml:4: x.y.a: stands twice in this mapping, first in line 3"),
        ("a: *b\n", "a.yaml:1: a: *b names an anchor that no line above has"),
        ("a: &b [1, *b]\n", "a.yaml:1: a: *b stands inside what it names"),
        ("<<: 5\n", "a.yaml:1: <<: takes a mapping or a list of mappings"),
        ("<<: [{a: 1}, 5]\n", "a.yaml:1: <<: takes a mapping or a list of mappings"),
        ("? [a, b]\n: 1\n", "a.yaml:1: a key is one plain text"),
        ("a: &x b\n*x : 1\n", "a.yaml:2: a key is one plain text"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: begins a second document; a file holds one"),
        (
            "a: !!python/object:os.system x\n",
            "a.yaml:1: a: the tag !!python/object:os.system is not supported; write the value without it",
        ),
        ("a: !!set {x}\n", "a.yaml:1: a: the tag !!set is not supported; write the value without it"),
        ("a: !secret x\n", "a.yaml:1: a: the tag !secret is not supported; write the value without it"),
        (b"a: 1\nb: \xff\n", "a.yaml:2: is not UTF-8: byte 0xff"),
        ("a: é\nb: 1\nc: \x01\n", "a.yaml:3: holds the control character U+0001"),
        ("[" * 65 + "]" * 65, "a.yaml:1: is nested deeper than 64 levels"),
    ],
)
def test_says_where_and_what(text, expected):
    assert errors_in(text) == [expected]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a:\n\t- b\n", 2, "indent with blanks, not tabs"),
        ("a: b: c\n", 1, 'put a value that holds ": " in quotes'),
        ("a: {b: ${X}}\n", 1, "put ${…} in quotes where it stands between braces or brackets"),
        ("a: 'x\nb: 1\n", 3, "which began in line 1"),
        ("a: [1, 2\nb: 1\n", 2, "is not valid YAML"),
        ("- a\nb: 1\n", 2, "is not valid YAML"),
        ('a: "\\q"\n', 1, "found unknown escape character"),
    ],
)
def test_a_syntax_error_has_its_line_and_a_hint(text, line, words):
    (error,) = errors_in(text)
    assert error.startswith(f"a.yaml:{line}: is not valid YAML: ")
    assert words in error


def test_reports_every_repeated_key_of_a_file():
    assert len(errors_in("a: 1\na: 2\nb: 1\nb: 2\nb: 3\n")) == 3


def test_a_billion_laughs_end_at_the_bound():
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    assert errors_in(text) == ["a.yaml:5: e: holds more than 100000 values once aliases are followed"]


def test_a_file_beyond_the_bound_is_refused():
    assert errors_in(b"#" * (MOST_BYTES + 1)) == ["a.yaml: is larger than 1MiB"]


def test_a_thousand_open_brackets_do_not_exhaust_the_stack():
    assert errors_in("[" * 500_000) == ["a.yaml:1: is nested deeper than 64 levels"]


JSON = st.recursive(
    st.text(st.characters(exclude_characters="\x7f", exclude_categories=("Cs",)), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab/"\\é😀', max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON, max_size=4), st.sampled_from((None, 2, "\t")))
def test_json_reads_as_the_same_values(value, indent):
    assert plain(read(json.dumps(value, indent=indent))) == value


def test_scalars_know_null_and_booleans_only_unquoted():
    node = read("[~, '~', yes, 'yes', Off, maybe]")
    assert [each.is_null for each in node.nodes] == [True, False, False, False, False, False]
    assert [each.boolean for each in node.nodes] == [None, None, True, None, False, None]
    assert isinstance(node.nodes[0], Scalar)

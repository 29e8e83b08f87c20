from contextlib import suppress
from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from novel_agent.model.metric import Block, Family, Series, Shape
from novel_agent.wire.prometheus import render_text
from novel_agent.wire.prometheus_text import (
    Distribution,
    Sample,
    TextFormatError,
    canonical_bound,
    distributions,
    format_bound,
    parse_number,
    parse_text,
)


def parsed(text: str) -> list[tuple]:
    return [(family.name, family.kind, family.help, family.samples) for family in parse_text(text.encode())]


def test_reads_the_example_of_the_specification():
    text = r"""
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
"""
    post = ("method", "post")
    assert parsed(text) == [
        (
            "http_requests_total",
            "counter",
            "The total number of HTTP requests.",
            [
                Sample("", (post, ("code", "200")), 1027.0, 1395066363000),
                Sample("", (post, ("code", "400")), 3.0, 1395066363000),
            ],
        ),
        (
            "msdos_file_access_time_seconds",
            "untyped",
            None,
            [Sample("", (("path", "C:\\DIR\\FILE.TXT"), ("error", 'Cannot find file:\n"FILE.TXT"')), 1458255915.0)],
        ),
        ("metric_without_timestamp_and_labels", "untyped", None, [Sample("", (), 12.47)]),
        ("something_weird", "untyped", None, [Sample("", (("problem", "division by zero"),), inf, -3982045)]),
    ]


def test_samples_of_histograms_and_summaries_belong_to_them():
    text = """\
# TYPE size histogram
size_bucket{le="0.5"} 2
size_bucket{le="+Inf"} 3
size_sum 1.5
size_count 3
# TYPE wait summary
wait{quantile="0.9"} 0.25
wait_sum 8
wait_count 32
size_total 7
wait_bucket 1
"""
    assert [(name, kind, [sample.suffix for sample in samples]) for name, kind, _, samples in parsed(text)] == [
        ("size", "histogram", ["_bucket", "_bucket", "_sum", "_count"]),
        ("wait", "summary", ["", "_sum", "_count"]),
        ("size_total", "untyped", [""]),
        ("wait_bucket", "untyped", [""]),
    ]


def test_a_suffix_alone_makes_no_histogram():
    assert [family[:2] for family in parsed("size_sum 1\nsize_count 2\n")] == [
        ("size_sum", "untyped"),
        ("size_count", "untyped"),
    ]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a{} 1\n", ()),
        ("a{ } 1\n", ()),
        ('a{b="c",} 1\n', (("b", "c"),)),
        ('a { b = "c" , d = "e" } 1\n', (("b", "c"), ("d", "e"))),
        ('a{b="x} 1",c="{"} 1\n', (("b", "x} 1"), ("c", "{"))),
        ('\t a{b="é"}\t1 \n', (("b", "é"),)),
        ('a{b=""} 1\n', (("b", ""),)),
        ('a{b="\\\\n"} 1\n', (("b", "\\n"),)),
    ],
)
def test_is_tolerant_in_blanks_and_commas(text, labels):
    ((_, _, _, (sample,)),) = parsed(text)
    assert sample == Sample("", labels, 1.0)


def test_types_are_read_in_any_case_and_comments_ignored():
    text = "#\n# \n#TYPE a Counter\n# HELPX a b\n# TYPE\n# HELP b\n# HELP a  two\\nlines \\\\ \n\na 1\n"
    assert parsed(text) == [("a", "counter", "two\nlines \\ ", [Sample("", (), 1.0)])]


def test_families_without_samples_are_left_out():
    assert parsed("# HELP a Nothing of it.\n# TYPE a gauge\n") == []
    assert parsed("") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a 1", 1),
        ("a 1\nb 2", 2),
        ("ok 1\n1a 2\n", 2),
        ("ok 1\n\n# comment\na\n", 4),
        ("a1\n", 1),
        ("a 1 2 3\n", 1),
        ("a 1 2.5\n", 1),
        ("a 0x10\n", 1),
        ("a 1_000\n", 1),
        ("a 1e999\n", 1),
        ("a ١\n", 1),
        ("a one\n", 1),
        ("a{b} 1\n", 1),
        ("a{b=c} 1\n", 1),
        ('a{b="c} 1\n', 1),
        ('a{b="c" d="e"} 1\n', 1),
        ('a{b="c",,} 1\n', 1),
        ("a{,} 1\n", 1),
        ('a{1b="c"} 1\n', 1),
        ('a{b="\\x"} 1\n', 1),
        ('a{b="c",b="d"} 1\n', 1),
        ('a{__name__="c"} 1\n', 1),
        ('a{b="c"}\n', 1),
        ('a{b="c"} 1 # {trace_id="x"} 1\n', 1),
        ("# HELP a b\n# HELP a c\n", 2),
        ("# TYPE a gauge\n# TYPE a gauge\n", 2),
        ("a 1\n# TYPE a gauge\n", 2),
        ("# TYPE a stateset\n", 1),
        ("# TYPE 1a gauge\n", 1),
        ("# HELP a \\t\n", 1),
        ("# TYPE a histogram\na 1\n", 2),
        ("# TYPE a histogram\na_bucket 1\n", 2),
        ('# TYPE a histogram\na_bucket{le="x"} 1\n', 2),
        ('# TYPE a histogram\na_bucket{le="1"} -1\n', 2),
        ("# TYPE a summary\na 1\n", 2),
        ("# TYPE a summary\na_count -1\n", 2),
    ],
)
def test_names_the_line_of_the_first_mistake(text, line):
    with pytest.raises(TextFormatError, match=f"^line {line}: ") as caught:
        parse_text(text.encode())
    assert caught.value.line == line


def test_text_that_is_not_utf8_is_refused_with_its_line():
    with pytest.raises(TextFormatError, match=r"^line 2: not UTF-8"):
        parse_text(b'a 1\nb{c="\xff"} 2\n')


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("-2.5e-3", -0.0025), (".5", 0.5), ("+Inf", inf), ("-inf", -inf), ("Infinity", inf), ("1e308", 1e308)],
)
def test_reads_numbers_in_every_form(text, number):
    assert parse_number(text) == number


def test_reads_not_a_number():
    assert isnan(parse_number("NaN"))


def test_groups_a_histogram_by_its_labels_in_ascending_order():
    (family,) = parse_text(b"""\
# TYPE a histogram
a_bucket{le="+Inf",x="1"} 5
a_bucket{x="1",le="1e1"} 4
a_bucket{le="2",x="1"} 3
a_sum{x="1"} 17
a_count{x="1"} 5
a_bucket{le="2",x="2"} 6
a_count{x="2"} 8
""")
    assert distributions(family) == [
        Distribution((("x", "1"),), [(2.0, 3.0), (10.0, 4.0), (inf, 5.0)], 17.0, 5.0),
        Distribution((("x", "2"),), [(2.0, 6.0), (inf, 8.0)], 0.0, 8.0),
    ]


def test_groups_a_summary_by_its_labels():
    (family,) = parse_text(b"""\
# TYPE a summary
a{quantile="0.9"} 3
a{quantile="0.5"} 2
a_sum 17
a_count 5
""")
    assert distributions(family) == [Distribution((), [(0.5, 2.0), (0.9, 3.0)], 17.0, 5.0)]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.005, "0.005"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (123456.75, "123456.75"),
        (100000.0, "100000"),
        (999999.0, "999999"),
        (1000000.0, "1e+06"),
        (1638400.0, "1.6384e+06"),
        (-1234567.25, "-1.23456725e+06"),
        (5.960464477539063e-08, "5.960464477539063e-08"),
        (2.5e100, "2.5e+100"),
        (inf, "+Inf"),
        (-inf, "-Inf"),
        (nan, "NaN"),
    ],
)
def test_writes_bounds_as_go_does(number, text):
    assert format_bound(number) == text


@given(st.floats(allow_nan=False))
def test_bounds_lose_no_precision(number):
    assert parse_number(format_bound(number)) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1.0"), (-2.0, "-2.0"), (0, "0.0"), (0.5, "0.5"), (1e6, "1e+06"), (2.5e-05, "2.5e-05"), (inf, "+Inf")],
)
def test_openmetrics_bounds_have_a_fraction(number, text):
    assert canonical_bound(number) == text


_NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith(("_sum", "_count", "_bucket", "_total", "_created", "_info", "_gsum", "_gcount"))
)
_LABELS = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "__name__"),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    max_size=4,
)


@given(_NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), _LABELS, st.floats(allow_nan=False))
def test_reads_what_the_encoder_writes(name, help_text, labels, value):
    family = Family(name, help_text, "gauge", tuple(labels))
    text = render_text([Block(Shape([Series(family, tuple(labels.items()))]), [value])])
    (read,) = parse_text(text)
    assert (read.name, read.kind, read.samples) == (name, "gauge", [Sample("", tuple(labels.items()), value)])
    assert (read.help or "").strip(" \t") == help_text.strip(" \t")


@given(st.text(st.sampled_from('ab{}="\\ \n1,#_\tHELPTY'), max_size=60))
def test_takes_nothing_that_prometheus_client_refuses(text):
    try:
        families = parse_text(text.encode())
    except TextFormatError:
        return
    theirs = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    ours = {
        (family.name + sample.suffix, tuple(sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }
    assert ours == theirs


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_else(data):
    with suppress(TextFormatError):
        parse_text(data)

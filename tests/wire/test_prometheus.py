import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from novel_agent.model.metric import Block, BlockWithExemplars, Exemplar, Family, Series, Shape
from novel_agent.wire.prometheus import render_openmetrics, render_text

BYTES = Family("disk_bytes_total", "Bytes.", "counter", ("device", "direction"))
FREE = Family("memory_free_bytes", "Free memory.")
NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats())


def block(*pairs: tuple[Series, int | float]) -> Block:
    return Block(Shape([series for series, _ in pairs]), [value for _, value in pairs])


def test_text_has_help_type_and_samples_by_family():
    page = render_text(
        [block((BYTES.series("sda", "read"), 10), (BYTES.series("sda", "write"), 2.5), (FREE.series(), 7))]
    )
    assert page == (
        b"# HELP disk_bytes_total Bytes.\n# TYPE disk_bytes_total counter\n"
        b'disk_bytes_total{device="sda",direction="read"} 10\n'
        b'disk_bytes_total{device="sda",direction="write"} 2.5\n'
        b"# HELP memory_free_bytes Free memory.\n# TYPE memory_free_bytes gauge\nmemory_free_bytes 7\n"
    )


def test_openmetrics_names_counters_without_total_and_ends_with_eof():
    page = render_openmetrics([block((BYTES.series("sda", "read"), 10), (FREE.series(), 7))])
    assert page == (
        b"# TYPE disk_bytes counter\n# HELP disk_bytes Bytes.\n"
        b'disk_bytes_total{device="sda",direction="read"} 10\n'
        b"# TYPE memory_free_bytes gauge\n# HELP memory_free_bytes Free memory.\nmemory_free_bytes 7\n# EOF\n"
    )


def test_openmetrics_calls_a_counter_without_total_unknown():
    odd = Family("requests", "Requests.", "counter")
    assert b"# TYPE requests unknown\n" in render_openmetrics([block((odd.series(), 1))])


def test_openmetrics_calls_untyped_unknown():
    odd = Family("odd", "Odd.", "untyped")
    assert b"# TYPE odd unknown\n" in render_openmetrics([block((odd.series(), 1))])


def test_an_updowncounter_is_a_gauge():
    family = Family("things", "Things.", "updowncounter")
    assert b"# TYPE things gauge\n" in render_text([block((family.series(), 1))])


def test_no_help_no_line():
    assert render_text([block((Family("bare", "").series(), 1))]) == b"# TYPE bare gauge\nbare 1\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, b"NaN"),
        (math.inf, b"+Inf"),
        (-math.inf, b"-Inf"),
        (10**400, b"1" + b"0" * 400),
        (1e21, b"1e+21"),
        (-0.0, b"-0.0"),
    ],
)
def test_numbers_no_float_can_hide(value, written):
    assert render_text([block((FREE.series(), value))]).endswith(b"memory_free_bytes " + written + b"\n")


def test_labels_and_help_are_escaped():
    family = Family("odd", 'a\\b\n"c" 100%', labels=("path",))
    page = render_text([block((family.series('C:\\x\n"y" 50%s'), 1))]).decode()
    assert page == ('# HELP odd a\\\\b\\n"c" 100%\n# TYPE odd gauge\nodd{path="C:\\\\x\\n\\"y\\" 50%s"} 1\n')


def test_a_number_too_long_to_be_written_does_not_cost_the_page():
    page = render_text([block((FREE.series(), 10**5000)), block((BYTES.series("a", "b"), -(10**5000)))])
    assert b"memory_free_bytes +Inf\n" in page
    assert b'direction="b"} -Inf\n' in page


@pytest.mark.parametrize("render", [render_text, render_openmetrics])
def test_a_name_that_is_not_utf8_does_not_cost_the_page(render):
    named = Family("group_up", "Of \udcff.", "gauge", ("path",))
    page = render([block((named.series("/a\udcff\udcfe/%"), 1), (named.series("/b"), 2))])
    assert 'group_up{path="/a\ufffd/%"} 1\n'.encode() in page
    assert b'group_up{path="/b"} 2\n' in page


def test_a_histogram_keeps_its_suffixes():
    family = Family("latency_seconds", "Latency.", "histogram", ("le",))
    page = render_text(
        [
            block(
                (family.series("0.1", suffix="_bucket"), 1),
                (family.series("+Inf", suffix="_bucket"), 2),
                (Series(family, (), "_sum"), 0.3),
                (Series(family, (), "_count"), 2),
            )
        ]
    )
    (parsed,) = parse_text(page.decode())
    assert [sample.name for sample in parsed.samples] == [
        "latency_seconds_bucket", "latency_seconds_bucket", "latency_seconds_sum", "latency_seconds_count",
    ]  # fmt: skip
    (parsed,) = parse_openmetrics(
        render_openmetrics(
            [
                block(
                    (family.series("+Inf", suffix="_bucket"), 2),
                    (Series(family, (), "_sum"), 0.3),
                    (Series(family, (), "_count"), 2),
                )
            ]
        ).decode()
    )
    assert parsed.type == "histogram"


LATENCY = Family("latency_seconds", "Latency.", "histogram", ("le",))
SPAN = (("trace_id", "0af7651916cd43dd8448eb211c80319c"), ("span_id", "b7ad6b7169203331"))


def latency(exemplars):
    series = [LATENCY.series(bound, suffix="_bucket") for bound in ("0.1", "1", "+Inf")]
    shape = Shape([*series, Series(LATENCY, (), "_sum"), Series(LATENCY, (), "_count")])
    return BlockWithExemplars.of(shape, [1, 2, 3, 4.5, 3], exemplars)


def test_openmetrics_shows_exemplars_of_buckets_and_counters():
    page = render_openmetrics([latency({1: Exemplar(SPAN, 0.5, 1700000000.123), 2: Exemplar((), 2)})]).decode()
    assert (
        'latency_seconds_bucket{le="1.0"} 2 # {trace_id="0af7651916cd43dd8448eb211c80319c",'
        'span_id="b7ad6b7169203331"} 0.5 1700000000.123\n' in page
    )
    assert 'latency_seconds_bucket{le="+Inf"} 3 # {} 2\n' in page
    (family,) = parse_openmetrics(page)
    assert [sample.exemplar and sample.exemplar.value for sample in family.samples] == [None, 0.5, 2, None, None]
    counter = BlockWithExemplars.of(Shape([BYTES.series("sda", "read")]), [math.inf], {0: Exemplar(SPAN, 7)})
    assert b'direction="read"} +Inf # {trace_id=' in render_openmetrics([counter])


def test_the_text_format_shows_no_exemplars():
    assert render_text([latency({1: Exemplar(SPAN, 0.5)})]) == render_text([latency({})])


def test_series_that_may_not_have_an_exemplar_show_none():
    odd = Family("odd", "A counter without _total.", "counter")
    shape = Shape([FREE.series(), odd.series(), Series(LATENCY, (), "_count")])
    page = render_openmetrics([BlockWithExemplars.of(shape, [1, 2, 3], dict.fromkeys(range(3), Exemplar(SPAN, 1)))])
    assert b"# {" not in page


def test_labels_of_exemplars_are_escaped():
    tricky = 'a"b"\\c\nd%s\udcff'  # two quotes: client_python cannot read an odd number of them in an exemplar
    page = render_openmetrics([latency({0: Exemplar((("k", tricky),), 0.05)})]).decode()
    (family,) = parse_openmetrics(page)
    assert family.samples[0].exemplar.labels == {"k": tricky.replace("\udcff", "\ufffd")}


def test_a_block_with_exemplars_is_a_block():
    shape, values = latency({0: Exemplar((), 1)})
    assert len(shape) == len(values) == 5
    assert type(latency({})) is Block


def test_openmetrics_shows_a_count_only_beside_a_sum():
    shape = Shape([LATENCY.series("+Inf", suffix="_bucket"), Series(LATENCY, (), "_count")])
    assert render_text([Block(shape, [3, 3])]).endswith(
        b'latency_seconds_bucket{le="+Inf"} 3\nlatency_seconds_count 3\n'
    )
    page = render_openmetrics([Block(shape, [3, 3])])
    assert page.endswith(b'latency_seconds_bucket{le="+Inf"} 3\n# EOF\n')


def test_openmetrics_writes_bounds_and_quantiles_as_floats():
    wait = Family("wait_seconds", "Wait.", "summary", ("quantile",))
    quantiles = block((wait.series("1"), 2), (Series(wait, (), "_sum"), 2), (Series(wait, (), "_count"), 1))
    assert b'wait_seconds{quantile="1.0"} 2' in render_openmetrics([quantiles])
    assert b'wait_seconds{quantile="1"} 2' in render_text([quantiles])
    parse = [*parse_openmetrics(render_openmetrics([quantiles, latency({})]).decode())]
    assert [family.type for family in parse] == ["summary", "histogram"]


def test_the_same_shape_with_other_numbers_is_compiled_once():
    shape = Shape([FREE.series()])
    render_text([Block(shape, [1])])
    compiled = dict(shape.compiled)
    assert render_text([Block(shape, [math.nan])]).endswith(b" NaN\n")
    assert render_text([Block(shape, [2])]).endswith(b" 2\n")
    assert shape.compiled == compiled


@given(
    st.dictionaries(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))),
        NUMBERS,
        min_size=1,
        max_size=6,
    )
)
def test_whatever_stands_in_labels_and_values_both_parsers_read_it_back(wanted):
    page = [Block(Shape([BYTES.series(*labels) for labels in wanted]), list(wanted.values()))]
    for parse, rendered in ((parse_text, render_text(page)), (parse_openmetrics, render_openmetrics(page))):
        if parse is parse_openmetrics and any(value != value or value < 0 for value in wanted.values()):
            continue  # that parser refuses counters below zero, as OpenMetrics does
        (family,) = parse(rendered.decode())
        got = {(sample.labels["device"], sample.labels["direction"]): sample.value for sample in family.samples}
        assert got.keys() == wanted.keys()
        for labels, value in wanted.items():
            assert float(got[labels]) == float(value) or value != value

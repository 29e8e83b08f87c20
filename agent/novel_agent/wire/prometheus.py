"""Blocks to the Prometheus text format 0.0.4 and to OpenMetrics 1.0.

A shape is compiled once into a %-format that holds the HELP and TYPE lines, the escaped labels and one `%s` a series;
rendering is then one formatting operation a block. Integers are written as such, floats in Python's shortest form; both
formats read them alike. Exemplars are OpenMetrics' alone: there a value that has one is filled in together with it.
Sources: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0 sections 3 and 4.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from math import isfinite, isinf

from novel_agent.model.metric import Block, BlockWithExemplars, Exemplar, Family, Label, Number, Series, Shape
from novel_agent.wire.prometheus_text import canonical_bound

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_LONGEST_INTEGER_BITS = 4096
"""Python refuses to write integers of more than 4,300 digits; from 1,024 bits on readers take any for an infinity."""
_SURROGATES = re.compile("[\ud800-\udfff]+")


def render_text(blocks: Iterable[Block]) -> bytes:
    """The text format. A family must not stand in two of the blocks."""
    return "".join([_fill(block, "prometheus.text", _compile_text) for block in blocks]).encode()


def render_openmetrics(blocks: Iterable[Block]) -> bytes:
    """OpenMetrics, with its end mark. Counters whose name lacks `_total` are of type unknown, as OpenMetrics demands."""
    parts = [
        _fill_with_exemplars(block)
        if isinstance(block, BlockWithExemplars)
        else _fill(block, "prometheus.openmetrics", _compile_openmetrics)
        for block in blocks
    ]
    parts.append("# EOF\n")
    return "".join(parts).encode()


def _template(shape: Shape, key: str, compile_shape: Callable[[Shape], str]) -> str:
    template: str | None = shape.compiled.get(key)
    if template is None:
        template = shape.compiled[key] = compile_shape(shape)
    return template


def _fill(block: Block, key: str, compile_shape: Callable[[Shape], str]) -> str:
    shape, values = block
    template = _template(shape, key, compile_shape)
    try:
        plain = isfinite(sum(values))
    except OverflowError:  # an integer beyond a float's range
        plain = False
    return template % (tuple(values) if plain else tuple(map(_number, values)))


def _fill_with_exemplars(block: BlockWithExemplars) -> str:
    values: list[Number | str] = list(block.values)
    for index, exemplar in block.exemplars.items():
        if _takes_exemplar(block.shape.series[index]):
            values[index] = _number(block.values[index]) + _exemplar(exemplar)
    filled = [value if isinstance(value, str) else _number(value) for value in values]
    return _template(block.shape, "prometheus.openmetrics", _compile_openmetrics) % tuple(filled)


def _takes_exemplar(series: Series) -> bool:
    return series.suffix == "_bucket" or (series.family.kind == "counter" and series.family.name.endswith("_total"))


def _exemplar(exemplar: Exemplar) -> str:
    inner = ",".join([f'{label}="{_escape_label(value)}"' for label, value in exemplar.labels])
    time = f" {exemplar.time_seconds:.3f}" if exemplar.time_seconds else ""
    return _SURROGATES.sub("\ufffd", f" # {{{inner}}} {_number(exemplar.value)}{time}")


def _number(value: Number) -> str:
    if value != value:
        return "NaN"
    if isinf(value) if isinstance(value, float) else value.bit_length() > _LONGEST_INTEGER_BITS:
        return "+Inf" if value > 0 else "-Inf"
    return str(value)


def _compile_text(shape: Shape) -> str:
    lines = []
    for family, members in groupby(shape.series, key=_family):
        kind = "gauge" if family.kind == "updowncounter" else family.kind
        if family.help:
            lines.append(_literal(f"# HELP {family.name} {_escape_help(family.help)}\n"))
        lines.append(f"# TYPE {family.name} {kind}\n")
        lines.extend(_sample(family.name + series.suffix, series.labels) for series in members)
    return "".join(lines)


def _compile_openmetrics(shape: Shape) -> str:
    lines = []
    for family, members in groupby(shape.series, key=_family):
        name, kind, suffix = family.name, family.kind, ""
        if kind == "counter":
            if name.endswith("_total"):
                name, suffix = name.removesuffix("_total"), "_total"
            else:
                kind = "untyped"
        openmetrics_kind = {"untyped": "unknown", "updowncounter": "gauge"}.get(kind, kind)
        lines.append(f"# TYPE {name} {openmetrics_kind}\n")
        if family.help:
            lines.append(_literal(f"# HELP {name} {_escape_label(family.help)}\n"))
        if kind == "histogram":
            lines.extend(_histogram_samples(name, list(members)))
        else:
            canonical = _canonical_summary if kind == "summary" else tuple
            lines.extend(_sample(name + (series.suffix or suffix), canonical(series.labels)) for series in members)
    return "".join(lines)


def _histogram_samples(name: str, members: Sequence[Series]) -> Iterator[str]:
    """A count stands only where a sum does (OpenMetrics 1.0, section 5.3.4); the one that does not is formatted to nothing."""
    summed = {series.labels for series in members if series.suffix == "_sum"}
    for series in members:
        if series.suffix == "_count" and series.labels not in summed:
            yield "%.0s"
        else:
            yield _sample(name + series.suffix, _canonical_histogram(series.labels))


def _canonical(point: str, labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """Bounds and quantiles as OpenMetrics demands them; other labels as they are."""
    return tuple((label, canonical_bound(float(value)) if label == point else value) for label, value in labels)


_canonical_histogram = partial(_canonical, "le")
_canonical_summary = partial(_canonical, "quantile")


def _family(series: Series) -> Family:
    return series.family


def _sample(name: str, labels: tuple[Label, ...]) -> str:
    if not labels:
        return f"{name} %s\n"
    inner = ",".join([f'{label}="{_escape_label(value)}"' for label, value in labels])
    return _literal(f"{name}{{{inner}}} ") + "%s\n"


def _literal(text: str) -> str:
    # Names of files that are not UTF-8 arrive with surrogates; one of them must not cost the whole page.
    return _SURROGATES.sub("\ufffd", text).replace("%", "%%")


def _escape_label(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")

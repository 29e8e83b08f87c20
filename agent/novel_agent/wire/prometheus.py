"""Blocks to the Prometheus text format 0.0.4 and to OpenMetrics 1.0.

A shape is compiled once into a %-format that holds the HELP and TYPE lines, the escaped labels and one `%s` a series;
rendering is then one formatting operation a block. Integers are written as such, floats in Python's shortest form; both
formats read them alike. Sources: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0 sections 3 and 4.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from math import isfinite, isinf

from novel_agent.model.metric import Block, Family, Label, Number, Series, Shape

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
    parts = [_fill(block, "prometheus.openmetrics", _compile_openmetrics) for block in blocks]
    parts.append("# EOF\n")
    return "".join(parts).encode()


def _fill(block: Block, key: str, compile_shape: "type[str] | object") -> str:
    shape, values = block
    template: str | None = shape.compiled.get(key)
    if template is None:
        template = shape.compiled[key] = compile_shape(shape)  # type: ignore[operator]
    try:
        plain = isfinite(sum(values))
    except OverflowError:  # an integer beyond a float's range
        plain = False
    return template % (tuple(values) if plain else tuple(map(_number, values)))


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
        lines.extend(_sample(name + (series.suffix or suffix), series.labels) for series in members)
    return "".join(lines)


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

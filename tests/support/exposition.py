"""Comparing two Prometheus pages: families, series and values."""

import math
import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Page(NamedTuple):
    """A page by family: (type, help), and by series: value."""

    families: dict[str, tuple[str, str]]
    series: dict[tuple[str, Labels], float]


def parse(text: str) -> Page:
    families: dict[str, tuple[str, str]] = {}
    series: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        # The parser takes `_total` off counters whose samples have it; the page's own lines tell the name.
        families[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series, f"{key} twice"
            series[key] = sample.value
    return Page(families, series)


def fetch(url: str, accept: str = "text/plain;version=0.0.4") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def near(left: float, right: float, relative: float = 1e-9) -> bool:
    return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=relative, abs_tol=1e-9)

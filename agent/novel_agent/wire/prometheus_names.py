"""What Prometheus calls OpenTelemetry's metrics and attributes.

Sources: the OpenTelemetry specification, compatibility/prometheus_and_openmetrics.md, section "OTLP Metric points to
Prometheus"; where it leaves a choice, the names are those that Prometheus 3 gives to what it receives over OTLP with its
default strategy, UnderscoreEscapingWithSuffixes (github.com/prometheus/otlptranslator).
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from novel_agent.model.metric import Label
from novel_agent.model.point import PointKind

_UNITS = {
    "1": "",
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
}
"""`tibibytes` is Prometheus' own spelling."""

_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}

_NOT_IN_METRIC_NAMES = re.compile("[^a-zA-Z0-9:]+")
_NOT_IN_LABEL_NAMES = re.compile("[^a-zA-Z0-9]+")


def metric_name(name: str, unit: str, kind: PointKind, *, monotonic: bool = False) -> str:
    """The family of a metric, with the suffixes of its unit and type; empty where nothing of the name can be kept.

    `monotonic` is said of a sum: such are counters and end in `_total`, like the families that `model.metric` declares.
    """
    words = [word for word in _NOT_IN_METRIC_NAMES.split(name) if word]
    if not words:
        return ""
    words += [suffix for suffix in _unit_suffixes(unit) if suffix and suffix not in words]
    if kind == "sum" and monotonic:
        words = [*(word for word in words if word != "total"), "total"]
    elif kind == "gauge" and unit == "1":
        words = [*(word for word in words if word != "ratio"), "ratio"]
    joined = "_".join(words)
    return f"_{joined}" if joined[0].isdigit() else joined


def _unit_suffixes(unit: str) -> Iterator[str]:
    """`bytes` and `per_second` of `By/s`; of what stands in braces nothing."""
    over, _, under = unit.partition("/")
    yield _unit(over, _UNITS)
    per = _unit(under, _PER_UNITS)
    yield per and f"per_{per}"


def _unit(unit: str, spelled: dict[str, str]) -> str:
    unit = unit.strip()
    if "{" in unit or "}" in unit:
        return ""
    return _NOT_IN_METRIC_NAMES.sub("_", spelled.get(unit, unit)).strip("_")


@lru_cache(maxsize=2048)
def label_name(attribute: str) -> str:
    """The label of an attribute; one that would begin with a digit or an underscore begins with `key_`."""
    name = _NOT_IN_LABEL_NAMES.sub("_", attribute)
    if name[:1].isdigit():
        return f"key_{name}"
    return f"key{name}" if name[:1] in {"_", ""} else name


def labels(attributes: Iterable[Label]) -> dict[str, str]:
    """The labels of attributes whose values are text already, by name; values whose names fall together are joined by `;`."""
    found: dict[str, str] = {}
    for key, value in sorted(attributes):
        name = label_name(key)
        found[name] = f"{found[name]};{value}" if name in found else value
    return found

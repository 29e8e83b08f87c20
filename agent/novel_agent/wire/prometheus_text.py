"""The Prometheus text format 0.0.4 to families and samples.

As strict as Prometheus and its client libraries: names, quotes, escapes, numbers, one HELP and one TYPE before the
samples, a newline at the end; as tolerant in blanks, comments, a comma after the last label, HELP or TYPE left out.
Beyond them, a sample that means nothing (a histogram's without `le`) is an error instead of being lost.
Source: prometheus.io/docs/instrumenting/exposition_formats, section "Text format details".
"""

import re
from collections.abc import Sequence
from math import inf, isinf
from typing import NamedTuple

import msgspec

from novel_agent.model.metric import Kind, Label

_KINDS: dict[str, Kind] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "untyped": "untyped",
}
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
"""What the names of a distribution's samples have beyond its own name."""

_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?:[ \t]*\{(.*)\}[ \t]*|[ \t]+)"
    r"([^ \t{}]+)"
    r"(?:[ \t]+([+-]?[0-9]+))?[ \t]*"
)
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,[ \t]*|\Z)')
_COMMENT = re.compile(r"#[ \t]*(HELP|TYPE)[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]+(.*))?")
_DIRECTIVE = re.compile(r"#[ \t]*(?:HELP|TYPE)[ \t]+[^ \t]")
_ESCAPE = re.compile(r"\\(.?)")
_ESCAPES = {"\\": "\\", "n": "\n", '"': '"'}


class TextFormatError(ValueError):
    """The first mistake in a text; `line` is 1-based."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


class Sample(NamedTuple):
    """One number. `suffix` is what the sample's name has beyond its family's."""

    suffix: str
    labels: tuple[Label, ...]
    value: float
    timestamp_milliseconds: int | None = None


class TextFamily(msgspec.Struct):
    """One family in the order of the text; `help` is None where the text has none."""

    name: str
    kind: Kind
    help: str | None
    samples: list[Sample]


class Distribution(msgspec.Struct, frozen=True):
    """One histogram or summary: cumulative counts by upper bound, or values by quantile, ascending."""

    labels: tuple[Label, ...]
    points: list[tuple[float, float]]
    sum: float
    count: float


def parse_text(data: bytes) -> list[TextFamily]:
    """The families that have samples. `TextFormatError` at the first mistake; duplicate series are not looked for."""
    return _Parser().parse(_decoded(data))


def _decoded(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TextFormatError(data.count(b"\n", 0, error.start) + 1, "not UTF-8") from None
    if text and not text.endswith("\n"):
        raise TextFormatError(text.count("\n") + 1, "the text ends without a newline")
    return text


class _Parser:
    """The families so far, and which family each sample name belongs to."""

    def __init__(self) -> None:
        self._families: dict[str, TextFamily] = {}
        self._typed: set[str] = set()
        self._owners: dict[str, tuple[TextFamily, str]] = {}

    def parse(self, text: str) -> list[TextFamily]:
        for number, line in enumerate(text.split("\n"), 1):
            line = line.lstrip(" \t")
            if not line:
                continue
            try:
                if line[0] == "#":
                    self._comment(line)
                else:
                    self._sample(line)
            except ValueError as problem:
                raise TextFormatError(number, str(problem)) from None
        return [family for family in self._families.values() if family.samples]

    def _comment(self, line: str) -> None:
        comment = _COMMENT.fullmatch(line)
        if comment is None:
            if _DIRECTIVE.match(line):
                raise ValueError(f"invalid metric name in {line[:80]!r}")
            return
        keyword, name, rest = comment.groups()
        if not rest:
            return
        family, _ = self._owner(name)
        if keyword == "HELP":
            if family.help is not None:
                raise ValueError(f"second HELP for {family.name}")
            family.help = _unescaped(rest)
        else:
            self._set_kind(family, rest.strip(" \t"))

    def _set_kind(self, family: TextFamily, kind: str) -> None:
        if family.name in self._typed:
            raise ValueError(f"second TYPE for {family.name}, or TYPE after its samples")
        if kind.lower() not in _KINDS:
            raise ValueError(f"unknown type {kind!r} of {family.name}")
        family.kind = _KINDS[kind.lower()]
        self._typed.add(family.name)
        self._owners.clear()

    def _owner(self, name: str) -> tuple[TextFamily, str]:
        """The family that a name belongs to, made if there is none, and the suffix it has there."""
        found = self._families.get(name)
        if found is not None:
            return found, ""
        for suffix in ("_bucket", "_sum", "_count"):
            base = self._families.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if base is not None and suffix in SUFFIXES.get(base.kind, ()):
                return base, suffix
        family = self._families[name] = TextFamily(name, "untyped", None, [])
        return family, ""

    def _sample(self, line: str) -> None:
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a sample: {line[:80]!r}")
        name, labels_text, value_text, timestamp = match.groups()
        owner = self._owners.get(name)
        if owner is None:
            owner = self._owners[name] = self._owner(name)
            self._typed.add(owner[0].name)
        family, suffix = owner
        labels = _labels(labels_text) if labels_text else ()
        value = parse_number(value_text)
        if family.kind in SUFFIXES:
            _refuse_meaningless(family, suffix, labels, value)
        milliseconds = int(timestamp) if timestamp else None
        family.samples.append(Sample(suffix, labels, value, milliseconds))


def _labels(text: str) -> tuple[Label, ...]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None:
            if not text.strip(" \t"):
                break
            raise ValueError(f"not a label: {text[position : position + 80]!r}")
        name, value, _ = match.groups()
        if name in labels or name == "__name__":
            raise ValueError(f"label {name} {'is reserved' if name == '__name__' else 'stands there twice'}")
        labels[name] = _unescaped(value) if "\\" in value else value
        position = match.end()
    return tuple(labels.items())


def _unescaped(text: str) -> str:
    def character(match: "re.Match[str]") -> str:
        try:
            return _ESCAPES[match[1]]
        except KeyError:
            raise ValueError(f"invalid escape {match[0]!r}") from None

    return _ESCAPE.sub(character, text)


def parse_number(text: str) -> float:
    """A number as the format writes it: decimal, `NaN`, `Inf` with or without sign, in any case."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"not a number: {text[:80]!r}") from None
    if "_" in text or not text.isascii() or (isinf(number) and "n" not in text.lower()):
        raise ValueError(f"not a number: {text[:80]!r}")
    return number


def _refuse_meaningless(family: TextFamily, suffix: str, labels: Sequence[Label], value: float) -> None:
    if suffix in ("_bucket", "_count") and value < 0:
        raise ValueError(f"negative count in {family.name}")
    if suffix == "_bucket" or not suffix:
        point = _POINT_LABELS[family.kind]
        if family.kind == "histogram" and not suffix:
            raise ValueError(f"{family.name} is a histogram, which has _bucket, _sum and _count only")
        bound = dict(labels).get(point)
        if bound is None:
            raise ValueError(f"{family.name}{suffix} lacks the label {point}")
        parse_number(bound)


_POINT_LABELS: dict[Kind, str] = {"histogram": "le", "summary": "quantile"}


def distributions(family: TextFamily) -> list[Distribution]:
    """The histograms or summaries of a family, by their labels, whatever the order of their samples.

    A missing sum or count is 0, a missing bucket for +Inf is the count, as client libraries have it.
    """
    point = _POINT_LABELS[family.kind]
    points: dict[tuple[Label, ...], dict[float, float]] = {}
    totals: dict[tuple[Label, ...], dict[str, float]] = {}
    for sample in family.samples:
        label = dict(sample.labels)
        bound = label.pop(point, "") if sample.suffix in ("", "_bucket") else ""
        key = tuple(sorted(label.items()))
        of_key = points.setdefault(key, {})
        if bound:
            of_key[float(bound)] = sample.value
        else:
            totals.setdefault(key, {})[sample.suffix] = sample.value
    found = []
    for key, of_key in points.items():
        total = totals.get(key, {})
        count = total.get("_count", 0.0)
        if family.kind == "histogram":
            of_key.setdefault(inf, count)
        found.append(Distribution(key, sorted(of_key.items()), total.get("_sum", 0.0), count))
    return found


def format_bound(number: float) -> str:
    """A bound or quantile as Go's client library writes it into a label: `0.5`, `100000`, `1.6384e+06`, `+Inf`."""
    if number != number:
        return "NaN"
    if isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    text = repr(number).removesuffix(".0")
    if abs(number) < 1e6 or "e" in text:
        return text
    whole, _, fraction = text.lstrip("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}".rstrip(".")
    return f"{'-' if number < 0 else ''}{mantissa}e+{len(whole) - 1:02d}"


def canonical_bound(number: float) -> str:
    """A bound or quantile as OpenMetrics wants it (section 4.3.1, canonical numbers): with `.0` where it is a whole number."""
    text = format_bound(number)
    return f"{text}.0" if text.lstrip("-").isdecimal() else text

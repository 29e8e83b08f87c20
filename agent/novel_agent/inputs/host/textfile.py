"""Metrics that other programs leave in files: every `*.prom` of the configured directories, in the text format 0.0.4.

The files are parsed again only when one of them was replaced, came or went.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.replaced_file import Signature, content, signature
from novel_agent.model.metric import Block, Family, FamilyPattern, Label, Series
from novel_agent.wire.prometheus_text import SUFFIXES, TextFamily, distributions, format_bound, parse_text

_NANOSECONDS = 1_000_000_000

MTIME = Family("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.", "gauge", ("file",))
SCRAPE_ERROR = Family("node_textfile_scrape_error", "1 if there was an error opening or reading a file, 0 otherwise")


class TextFileOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the files are."""

    directories: Annotated[
        tuple[str, ...], Meta(description="Directories with *.prom files; may hold * and ? for several.")
    ] = ()


class Point(NamedTuple):
    """One series of a family and its value."""

    suffix: str
    labels: tuple[Label, ...]
    value: float


class Reading(msgspec.Struct, frozen=True, eq=False):
    """What the files hold, for as long as they stay as they are; compared by identity."""

    series: tuple[Series, ...]
    values: tuple[float, ...]
    modified_seconds: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]


class TextFile(HostCollector[Reading]):
    """What scripts and batch jobs measured."""

    name = "textfile"
    summary = "metrics that other programs write to *.prom files"
    Options = TextFileOptions
    prometheus = (
        MTIME,
        SCRAPE_ERROR,
        FamilyPattern("[a-zA-Z_:][a-zA-Z0-9_:]*", "A metric read from a file, with that file's help and labels."),
    )

    reserved: ClassVar[frozenset[str]] = frozenset()
    """Family names that other collectors declare; set before the first reading. A file that uses one is refused it."""

    reserved_patterns: ClassVar[frozenset[str]] = frozenset()
    """The same as regular expressions, of families whose names the kernel chooses."""

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, TextFileOptions)
        self._directories = options.directories
        self._seen: tuple[object, ...] = ()
        self._reading: Reading | None = None

    def read(self) -> Reading:
        found, problems = _find(self._directories)
        seen = (tuple(found.items()), tuple(problems))
        if self._reading is None or seen != self._seen:
            self._reading = self._load(found, problems)
            self._seen = seen
        return self._reading

    def _load(self, found: dict[str, Signature], problems: list[str]) -> Reading:
        gathered = _Gathered(self.reserved | {MTIME.name, SCRAPE_ERROR.name}, self.reserved_patterns)
        modified = []
        problems = problems.copy()
        for path, (_, _, _, nanoseconds) in found.items():
            try:
                families = parse_text(content(path))
                _refuse_timestamps(families)
            except (OSError, ValueError, InputError) as error:
                problems.append(f"{path}: {error}")
                continue
            modified.append((path, nanoseconds // _NANOSECONDS))
            for family in families:
                try:
                    gathered.add(family, path)
                except ValueError as error:
                    problems.append(f"{path}: {family.name}: {error}")
        return gathered.reading(tuple(sorted(modified)), tuple(problems))

    def families(self, reading: Reading) -> Sequence[Block]:
        paths = tuple(path for path, _ in reading.modified_seconds)
        own = self.shapes.get("own", paths, lambda: [*map(MTIME.series, paths), SCRAPE_ERROR.series()])
        return [
            Block(self.shapes.get("files", reading, lambda: reading.series), reading.values),
            Block(own, [*(seconds for _, seconds in reading.modified_seconds), int(bool(reading.problems))]),
        ]


def _find(directories: Sequence[str]) -> tuple[dict[str, Signature], list[str]]:
    """The files, in the order they are read, and what cannot be looked at."""
    found: dict[str, Signature] = {}
    problems = []
    for directory in dict.fromkeys(_expanded(directories)):
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            problems.append(str(error))
            continue
        for path in (os.path.join(directory, name) for name in names if name.endswith(".prom")):
            try:
                found[path] = signature(path)
            except (OSError, InputError) as error:
                problems.append(str(error))
    return found, problems


def _expanded(directories: Sequence[str]) -> Iterator[str]:
    for directory in directories:
        if any(character in directory for character in "*?["):
            from glob import glob

            yield from sorted(glob(directory)) or [directory]
        else:
            yield directory


def _refuse_timestamps(families: Sequence[TextFamily]) -> None:
    for family in families:
        if any(sample.timestamp_milliseconds is not None for sample in family.samples):
            raise ValueError(f"{family.name} has a timestamp, which a file cannot vouch for")


class _Merged:
    """One family out of all files: the first type and help text win."""

    __slots__ = ("family", "paths", "points")

    def __init__(self, family: TextFamily) -> None:
        self.family = family
        self.paths: list[str] = []
        self.points: dict[tuple[str, tuple[Label, ...]], float] = {}

    def series(self) -> list[Series]:
        help_text = self.family.help or f"Metric read from {', '.join(self.paths)}"
        family = Family(self.family.name, help_text, self.family.kind)
        return [Series(family, labels, suffix) for suffix, labels in self.points]


class _Gathered:
    """The families of all files, in the order they were found."""

    def __init__(self, reserved: frozenset[str], patterns: frozenset[str]) -> None:
        self._reserved = reserved
        self._pattern = re.compile("|".join(sorted(patterns))) if patterns else None
        self._merged: dict[str, _Merged] = {}
        self._owners: dict[str, str] = {}

    def add(self, family: TextFamily, path: str) -> None:
        """ValueError says what of it was refused; the rest of it is in."""
        self._claim(family)
        merged = self._merged.setdefault(family.name, _Merged(family))
        known = merged.family
        if known.kind != family.kind:
            raise ValueError(f"is a {family.kind}, but a {known.kind} in {merged.paths[0]}")
        if None not in (known.help, family.help) and known.help != family.help:
            raise ValueError(f"its help text differs from that in {merged.paths[0]}")
        known.help = known.help or family.help
        merged.paths.append(path)
        twice = 0
        for point in _points(family):
            key = (point.suffix, point.labels)
            twice += key in merged.points
            merged.points.setdefault(key, point.value)
        if twice:
            raise ValueError(f"{twice} series stand there twice")

    def _claim(self, family: TextFamily) -> None:
        names = [family.name, *(family.name + suffix for suffix in SUFFIXES.get(family.kind, ()))]
        for name in names:
            if name in self._reserved or (self._pattern and self._pattern.fullmatch(name)):
                raise ValueError("the name is another collector's")
            if self._owners.get(name, family.name) != family.name:
                raise ValueError(f"{name} is a series of {self._owners[name]}")
        self._owners.update(dict.fromkeys(names, family.name))

    def reading(self, modified: tuple[tuple[str, int], ...], problems: tuple[str, ...]) -> Reading:
        everything = self._merged.values()
        return Reading(
            tuple(series for merged in everything for series in merged.series()),
            tuple(value for merged in everything for value in merged.points.values()),
            modified,
            problems,
        )


def _points(family: TextFamily) -> Iterator[Point]:
    """Every series with all label names of the family, as Go's client library has it; histograms in order."""
    if family.kind in SUFFIXES:
        label, suffix = ("le", "_bucket") if family.kind == "histogram" else ("quantile", "")
        everything = distributions(family)
        names = sorted({name for found in everything for name, _ in found.labels})
        for found in everything:
            labels = _filled(names, found.labels)
            for bound, value in found.points:
                yield Point(suffix, (*labels, (label, format_bound(bound))), value)
            yield Point("_sum", labels, found.sum)
            yield Point("_count", labels, found.count)
    else:
        names = sorted({name for sample in family.samples for name, _ in sample.labels})
        for sample in family.samples:
            yield Point("", _filled(names, sample.labels), sample.value)


def _filled(names: Sequence[str], labels: Sequence[Label]) -> tuple[Label, ...]:
    value = dict(labels)
    return tuple((name, value.get(name, "")) for name in names)

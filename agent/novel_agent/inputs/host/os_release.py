"""Name, version and end of life of the operating system, from os-release(5)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.replaced_file import ReplacedFile
from novel_agent.model.metric import Block, Family, Series

_SECONDS_PER_DAY = 86400
_EPOCH_ORDINAL = 719163  # date(1970, 1, 1).toordinal()

_LABELS = (
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
)
INFO = Family("node_os_info", f"A metric with a constant '1' value labeled by {', '.join(_LABELS)}.", "gauge", _LABELS)
VERSION = Family(
    "node_os_version",
    "Metric containing the major.minor part of the OS version.",
    "gauge",
    ("id", "id_like", "name"),
)
SUPPORT_END = Family(
    "node_os_support_end_timestamp_seconds", "Metric containing the end-of-life date timestamp of the OS."
)

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\#]+|(?<=\S)#)|(\s+(?=[^\s#]))""")
_ESCAPE = re.compile(r"\\(.)")
_MAJOR_MINOR = re.compile(r"[0-9]+\.?[0-9]*")


class OsInfo(NamedTuple):
    """`labels` in the order of node_os_info; 0 for an unknown version, None for an unknown end."""

    labels: tuple[str, ...]
    version: float
    support_end_seconds: int | None


def parse_variables(data: bytes) -> dict[str, str]:
    """Shell-like assignments, unquoted. ValueError, with the line number, for a line that is none."""
    variables: dict[str, str] = {}
    for number, line in enumerate(data.decode().splitlines(), 1):
        line = line.strip()
        if line and line[0] != "#":
            assignment = _ASSIGNMENT.fullmatch(line)
            if assignment is None:
                raise ValueError(f"line {number} is not an assignment: {line[:80]!r}")
            variables[assignment[1]] = _unquoted(assignment[2], number)
    return variables


def _unquoted(text: str, number: int) -> str:
    parts: list[str] = []
    position = 0
    while piece := _PIECE.match(text, position):
        single, double, escaped, plain, blanks = piece.groups()
        parts.append(_ESCAPE.sub(r"\1", double) if double else single or escaped or plain or blanks or "")
        position = piece.end()
    rest = text[position:].lstrip()
    if rest and rest[0] != "#":
        raise ValueError(f"line {number} has an open quote: {text[:80]!r}")
    return "".join(parts)


def parse(data: bytes) -> OsInfo:
    """The content of an os-release file."""
    variables = parse_variables(data)
    version = _MAJOR_MINOR.match(variables.get("VERSION_ID", ""))
    return OsInfo(
        tuple(variables.get(label.upper(), "") for label in _LABELS),
        float(version[0]) if version else 0.0,
        _midnight(variables.get("SUPPORT_END", "")),
    )


def _midnight(day: str) -> int | None:
    if not day:
        return None
    from datetime import date

    return (date.fromisoformat(day).toordinal() - _EPOCH_ORDINAL) * _SECONDS_PER_DAY


class OsRelease(HostCollector[OsInfo]):
    """Which operating system is installed."""

    name = "os"
    summary = "name, version and end of support of the operating system"
    prometheus = (INFO, VERSION, SUPPORT_END)

    def setup(self, options: msgspec.Struct) -> None:
        self._files = [ReplacedFile(self.kernel.root + path) for path in ("/etc/os-release", "/usr/lib/os-release")]
        self._parsed: tuple[bytes, OsInfo] | None = None

    def read(self) -> OsInfo:
        data = self._content()
        if self._parsed is None or self._parsed[0] is not data:
            self._parsed = data, parse(data)
        return self._parsed[1]

    def _content(self) -> bytes:
        for file in self._files:
            try:
                return file.read()
            except FileNotFoundError:
                continue
        raise NoData("there is no os-release file")

    def families(self, reading: OsInfo) -> Sequence[Block]:
        values: list[float] = [1]
        if reading.version > 0:
            values.append(reading.version)
        if reading.support_end_seconds is not None:
            values.append(reading.support_end_seconds)
        return [Block(self.shapes.get("prometheus", reading, lambda: _series(reading)), values)]


def _series(info: OsInfo) -> list[Series]:
    label = dict(zip(_LABELS, info.labels, strict=True))
    series = [INFO.series(*info.labels)]
    if info.version > 0:
        series.append(VERSION.series(label["id"], label["id_like"], label["name"]))
    if info.support_end_seconds is not None:
        series.append(SUPPORT_END.series())
    return series

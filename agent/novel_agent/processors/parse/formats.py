"""Which parser and which joiner a source of logs needs. Each format is loaded when a source has it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from novel_agent.config.schema import LogSource
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.multiline import AnyLine, Joined, LineJoiner
from novel_agent.processors.parse.record import LineParser
from novel_agent.processors.parse.severity import severity_number
from novel_agent.processors.parse.timestamps import make_read_time

if TYPE_CHECKING:
    from novel_agent.processors.parse.containers import Wrapping

_WITH_FIELDS = ("logfmt", "regex", "combined", "syslog")
"""Formats whose lines stay the body under `attributes: envelope`. Of json its own parser sees to that."""


class EnvelopeParser:
    """Another parser's records with the line as their body and without attributes."""

    def __init__(self, parser: LineParser) -> None:
        self._parser = parser

    def parse(self, line: bytes) -> LogRecord:
        """As the other's."""
        record = self._parser.parse(line)
        record.body = line.decode("utf-8", "replace")
        record.attributes = {}
        return record


class Joiner(Protocol):
    """What makes records' lines of a file's lines: `LineJoiner`, or `ContainerJoiner` for what is wrapped."""

    @property
    def held_from(self) -> int | None:
        """The offset of the first byte that is in no record yet, None if nothing waits."""

    @property
    def deadline(self) -> float | None:
        """When `due` becomes true unless another line comes, None if nothing waits."""

    def feed(self, lines: Iterable[AnyLine], now: float) -> list[Joined]:
        """Take lines, their offsets and ends; the records that they have completed."""

    def due(self, now: float) -> bool:
        """Whether something has waited for long enough and `flush` would hand it on."""

    def flush(self, now: float, *, force: bool = False) -> list[Joined]:
        """What has waited long enough or, with `force`, all that waits: nothing will follow."""


def make_joiner(source: LogSource) -> Joiner | None:
    """A joiner for one file of the source; None where every line is a record."""
    if source.format in ("cri", "docker"):
        from novel_agent.processors.parse.containers import ContainerJoiner

        return ContainerJoiner(_wrapping(source.format), source.max_line_bytes, source.multiline)
    return LineJoiner(source.multiline) if source.multiline is not None else None


def make_parser(source: LogSource, now: Callable[[], float]) -> LineParser:
    """The parser of the source's format, for all of its files. `now` is in seconds since the epoch: of times without a year."""
    parser = _make_parser(source, now)
    return EnvelopeParser(parser) if source.attributes == "envelope" and source.format in _WITH_FIELDS else parser


def _make_parser(source: LogSource, now: Callable[[], float]) -> LineParser:
    match source.format:
        case "text":
            return _text()
        case "json":
            from novel_agent.processors.parse.json_record import JsonRecordParser

            read_time = make_read_time(source.timezone, source.time_format)
            return JsonRecordParser(source.keys, read_time, envelope=source.attributes == "envelope")
        case "logfmt":
            from novel_agent.processors.parse.logfmt import LogfmtParser

            return LogfmtParser(_reader(source))
        case "regex":
            from novel_agent.processors.parse.regex import RegexParser

            return RegexParser(source.pattern or "", _reader(source))
        case "combined":
            from novel_agent.processors.parse.combined import CombinedParser

            return CombinedParser(make_read_time(source.timezone, source.time_format))
        case "syslog":
            from novel_agent.processors.parse.syslog import SyslogParser

            return SyslogParser(make_read_time(source.timezone), now)
        case "cri":
            from novel_agent.processors.parse.cri import CriParser

            return CriParser(make_read_time(), _text())
        case "docker":
            from novel_agent.processors.parse.docker import DockerParser

            return DockerParser(make_read_time(), _text())


def _text() -> LineParser:
    from novel_agent.processors.parse.text import TextParser

    return TextParser()


def _reader(source: LogSource) -> FieldReader:
    return FieldReader(source.keys, make_read_time(source.timezone, source.time_format), severity_number)


def _wrapping(log_format: Literal["cri", "docker"]) -> "Wrapping":
    if log_format == "cri":
        from novel_agent.processors.parse.cri import CriWrapping

        return CriWrapping()
    from novel_agent.processors.parse.docker import DockerWrapping

    return DockerWrapping()

r"""Lines of Docker's json-file driver: `{"log":"text\n","stream":"stdout","time":"RFC 3339","attrs":{…}}`.

A container's line ends with the newline in `log`; the driver cuts lines at 16 KiB, and what has no newline goes on in the next
line of the same stream. `attrs` are the labels, variables and the tag that the container was told to log; they become
attributes under their own names.
"""

import msgspec

from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.containers import Part, parse_content
from novel_agent.processors.parse.record import LineError, LineParser
from novel_agent.processors.parse.timestamps import ReadTime

NOT_DOCKER = "not a line of Docker's json-file driver"
NO_TIME = "no valid time"


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    log: str
    stream: str = ""
    time: str = ""
    attrs: dict[str, str] = msgspec.field(default_factory=dict)


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class DockerWrapping:
    """How parts of a line are put together."""

    def split(self, line: bytes) -> Part | None:
        """What is in it, without its newline; None where the line is not of this format."""
        found = _read(line)
        if found is None:
            return None
        content = found.log.encode("utf-8", "replace")
        return Part(found.stream, _without_end(content), content.endswith(b"\n"))

    def wrap(self, first: bytes, content: bytes) -> bytes:
        """A full line with everything that `first` has beside its text."""
        found = _read(first)
        if found is None:
            return content
        found.log = content.decode("utf-8", "replace") + "\n"
        return _encode(found)


class DockerParser:
    """Lines of the format, whole or put together; `inner` reads what the container wrote."""

    def __init__(self, read_time: ReadTime, inner: LineParser) -> None:
        self._read_time = read_time
        self._inner = inner

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line is not of this format, or its time is none."""
        found = _read(line)
        if found is None:
            raise LineError(NOT_DOCKER)
        try:
            nanoseconds = self._read_time(found.time) if found.time else 0
        except ValueError:
            raise LineError(NO_TIME) from None
        record = parse_content(
            self._inner, _without_end(found.log.encode("utf-8", "replace")), found.stream, nanoseconds
        )
        for name, value in found.attrs.items():
            record.attributes.setdefault(name, value)
        return record


def _read(line: bytes) -> _Line | None:
    try:
        return _decode(line)
    except UnicodeDecodeError:
        return _read_mended(line)
    except msgspec.DecodeError:
        return None if line.isascii() else _read_mended(line)


def _read_mended(line: bytes) -> _Line | None:
    try:
        return _decode(line.decode("utf-8", "replace"))
    except msgspec.DecodeError:
        return None


def _without_end(content: bytes) -> bytes:
    return content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content

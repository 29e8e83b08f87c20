"""Lines of containerd and CRI-O, as Kubernetes has them: `TIME STREAM TAGS CONTENT` (kubernetes/cri-api, CRI logging format).

The first tag is `F` where the container's line ends here, `P` where it goes on in the next line of the same stream. Time is
when the runtime read the line, with nanoseconds. An unfinished line that no other followed is a record as it stands.
"""

import re

from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.containers import Part, parse_content
from novel_agent.processors.parse.record import LineError, LineParser
from novel_agent.processors.parse.timestamps import ReadTime

_LINE = re.compile(rb"(\d{4}-\S{6,40}) (stdout|stderr) (\S++)(?: (.*))?$", re.DOTALL)

NOT_CRI = "not a line of a container runtime"
NO_TIME = "no valid time"


class CriWrapping:
    """How parts of a line are put together."""

    def split(self, line: bytes) -> Part | None:
        """What is in it, None where the line is not of this format."""
        found = _LINE.match(line)
        if found is None:
            return None
        return Part(found[2].decode(), found[4] or b"", not _is_partial(found[3]))

    def wrap(self, first: bytes, content: bytes) -> bytes:
        """A full line with the time and the stream of `first`."""
        found = _LINE.match(first)
        return b"%b %b F %b" % (found[1], found[2], content) if found is not None else content


class CriParser:
    """Lines of the format, whole or put together; `inner` reads what the container wrote."""

    def __init__(self, read_time: ReadTime, inner: LineParser) -> None:
        self._read_time = read_time
        self._inner = inner

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line is not of this format, or its time is none."""
        found = _LINE.match(line)
        if found is None:
            raise LineError(NOT_CRI)
        time, stream, _, content = found.groups()
        try:
            nanoseconds = self._read_time(time.decode("ascii", "replace"))
        except ValueError:
            raise LineError(NO_TIME) from None
        return parse_content(self._inner, content or b"", stream.decode(), nanoseconds)


def _is_partial(tags: bytes) -> bool:
    return tags == b"P" or tags.startswith(b"P:")

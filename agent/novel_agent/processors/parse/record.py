"""What every format's parser is: one line to one record."""

from typing import Protocol

from novel_agent.model.log import LogRecord

PARSE_ERROR = "log.parse_error"
TRUNCATED = "log.truncated"

OWN_ATTRIBUTES = frozenset({"log.file.path", "log.file.name", "log.record.uid", "log.parse_error", "log.truncated"})
"""What the agent says of a record; a line that says it, too, is overruled."""


class LineError(Exception):
    """A line that is not of the format. `reason` is short and constant, fit for a label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LineParser(Protocol):
    """Understands the lines of one format, of any number of files."""

    def parse(self, line: bytes) -> LogRecord:
        """The record of a line, which is without its newline and not blank; LineError where it is not of the format.

        Sets neither the time of reading nor which file it is from.
        """

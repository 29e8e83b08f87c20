"""Whole lines of a log file, on their way from the input to the parser."""

from typing import Literal, NamedTuple

TextEncoding = Literal["utf-8", "utf-16-le", "utf-16-be"]


class LogFile(NamedTuple):
    """The file that lines are from, as its records name it.

    `path` is where it was found first, also after it was renamed. `uid` is 16 hexadecimal digits that stay the same for this
    content of this file through renames, growth and restarts of the agent, and differ after the file was truncated or
    replaced: with the offset of a line it tells a record that is read twice.
    """

    path: str
    uid: str


class Chunk(NamedTuple):
    """Lines that follow each other in a file.

    `data` is as it stands in the file: whole lines with their newlines, the last one excepted where it has none and nothing
    will follow (`end` then is the end of the file). `offset` is the place of its first byte. Where `truncated`, `data` is the
    beginning of one line that is longer than allowed, cut between characters, and what is skipped ends at `end`; else `end` is
    `offset + len(data)`. UTF-16 is not converted: its newlines are two bytes, and `data` is a whole number of units.
    """

    data: bytes
    offset: int
    end: int
    encoding: TextEncoding = "utf-8"
    truncated: bool = False


class Encoded(NamedTuple):
    """Records in OTLP wire format.

    `records` holds whole `log_records` fields of a ScopeLogs message (field 2, tags included), so two of them are joined by
    concatenation. `end` is the offset up to which everything that was read stands in these or earlier records or was dropped
    on purpose: what is still held back, such as the lines of a traceback that may go on, begins there.
    """

    records: bytes
    items: int
    end: int

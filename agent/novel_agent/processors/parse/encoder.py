"""Lines of a file to log records in OTLP bytes.

There are three ways, and they give the same records. Lines of JSON are decoded a whole buffer at a time by the shape that was
learned from lines before (`shape`); a line that fits none is looked up key by key (`json_bytes`); and what is of another
format, joined from several lines, or to be worked on is parsed to a record first.

Every record says when it was read, which file it is from (`log.file.path`, `log.file.name`) and, by file and offset, which
record it is (`log.record.uid`). A line that is not of the format is a record with the line as its body and the reason in
`log.parse_error`. A line of nothing but white space is none.
"""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import accumulate
from typing import NamedTuple

from novel_agent.config.schema import LogKeys
from novel_agent.model.lines import Chunk, Encoded, LogFile
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.attribute_bytes import BEFORE_RECORD, Room, Writers, pack_fixed64
from novel_agent.processors.parse.envelope import EnvelopeLines
from novel_agent.processors.parse.json_bytes import JsonBytes, body_bytes
from novel_agent.processors.parse.record import PARSE_ERROR, TRUNCATED, LineError, LineParser
from novel_agent.processors.parse.record_bytes import RecordWriter
from novel_agent.processors.parse.shapes import Block, Shapes
from novel_agent.processors.parse.timestamps import Formatted, ReadTime, Remembered
from novel_agent.wire.otlp_write import value_message
from novel_agent.wire.protobuf import length_delimited, text

_FAULT = "fault"
_BLOCK_BYTES = 64 << 10
_UID = "log.record.uid"


class Line(NamedTuple):
    """A line without its end, as UTF-8 if it is valid, and its place in the file."""

    content: bytes
    offset: int
    end: int
    truncated: bool = False


class Counts:
    """What was met in the lines of a file since it was cleared; `errors` by reason."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.lines = 0
        self.errors: Counter[str] = Counter()
        self.replaced_characters = 0
        self.truncated = 0
        self.fast_lines = 0
        """Lines that a shape took."""


class JsonWays:
    """What the files of one source of JSON share: shapes, keys and what is remembered of them."""

    def __init__(self, keys: LogKeys, read_time: ReadTime, *, envelope: bool) -> None:
        room = Room()
        self.general = JsonBytes(
            keys, read_time if isinstance(read_time, Formatted) else Remembered(read_time), Writers(room)
        )
        self.fast = Shapes(keys, read_time, room, envelope=envelope)
        self.one: Callable[[bytes], bytes] = EnvelopeLines(keys, read_time).one if envelope else self.general


class LineEncoder:
    """Encodes the lines of one file. `parser`, `write` and `json` are the source's; `json` is None for other formats."""

    def __init__(
        self, file: LogFile, parser: LineParser, counts: Counts, write: RecordWriter, json: JsonWays | None = None
    ) -> None:
        self._write = write
        self._path, self._name = file.path, os.path.basename(file.path)
        self._parser = parser
        self._counts = counts
        self._json = json
        self._origin = _attribute("log.file.path", file.path) + _attribute("log.file.name", self._name)
        self._uid = file.uid

    def encode(self, chunk: Chunk, observed_nanos: int) -> Encoded:
        """Every line of the chunk; never raises for what is in them."""
        is_ascii = chunk.data.isascii()
        if self._json is not None and _is_plain(chunk, is_ascii=is_ascii):
            return self._encode_json(self._json, chunk, observed_nanos, is_ascii=is_ascii)
        records, items = self._encode_each(lines_of(chunk, self._counts), observed_nanos)
        return Encoded(records, items, chunk.end)

    def records(self, lines: Iterable[Line], observed_nanos: int) -> list[LogRecord]:
        """The same records, not written yet, for steps that look inside; `RecordWriter` writes them."""
        return [self._record(line, observed_nanos) for line in lines]

    def _encode_each(self, lines: Iterable[Line], observed_nanos: int) -> tuple[bytes, int]:
        records = self.records(lines, observed_nanos)
        return self._write(records), len(records)

    def _record(self, line: Line, observed_nanos: int) -> LogRecord:
        counts = self._counts
        counts.lines += 1
        try:
            record = self._parser.parse(line.content)
        except LineError as error:
            record = self._unparsed(line, error.reason)
        except Exception:  # noqa: BLE001 - a fault of a parser costs no line
            record = self._unparsed(line, _FAULT)
        record.observed_unix_nano = observed_nanos
        if line.truncated:
            counts.truncated += 1
            record.attributes[TRUNCATED] = True
        record.attributes["log.file.path"] = self._path
        record.attributes["log.file.name"] = self._name
        record.attributes[_UID] = f"{self._uid}-{line.offset}"
        return record

    def _unparsed(self, line: Line, reason: str) -> LogRecord:
        self._counts.errors[reason] += 1
        return LogRecord(body=line.content.decode("utf-8", "replace"), attributes={PARSE_ERROR: reason})

    def _encode_json(self, ways: JsonWays, chunk: Chunk, observed_nanos: int, *, is_ascii: bool) -> Encoded:
        out: list[bytes] = []
        start = (b"\x59" + pack_fixed64(observed_nanos) + self._origin).decode("latin-1")
        before = self._counts.lines
        for data, offset in _blocks(chunk.data, chunk.offset):
            self._encode_block(ways, data, offset, start, out, is_ascii=is_ascii and b"\\" not in data)
        return Encoded(b"".join(out), self._counts.lines - before, chunk.end)

    def _encode_block(
        self, ways: JsonWays, data: bytes, offset: int, start: str, out: list[bytes], *, is_ascii: bool
    ) -> None:
        lines = BytesIO(data).readlines()  # several times as fast as bytes.split, which looks at each byte
        places = list(accumulate(map(len, lines[:-1]), initial=offset))
        digits = len(str(offset))
        if places[-1] >= 10**digits:
            cut = places[bisect_left(places, 10**digits)] - offset
            self._encode_block(ways, data[:cut], offset, start, out, is_ascii=is_ascii)
            self._encode_block(ways, data[cut:], offset + cut, start, out, is_ascii=is_ascii)
            return
        block = Block(data, lines, list(map(str, places)), start + self._uid_prefix(digits), is_ascii)
        counts = self._counts
        blank, fast = ways.fast.encode(block, lambda number: self._one(ways, block, number), out)
        counts.lines += len(lines) - blank
        counts.fast_lines += fast

    def _one(self, ways: JsonWays, block: Block, number: int) -> bytes:
        """A record whose line fits nothing that was learned."""
        line, ending = block.line(number), block.ending(number)
        try:
            record = ways.one(line) + ending
        except LineError as error:
            record = self._unparsed_bytes(line, error.reason) + ending
        except Exception:  # noqa: BLE001 - a fault costs no line
            record = self._unparsed_bytes(line, _FAULT) + ending
        return BEFORE_RECORD[len(record)] + record

    def _unparsed_bytes(self, line: bytes, reason: str) -> bytes:
        self._counts.errors[reason] += 1
        return body_bytes(None, line) + _attribute(PARSE_ERROR, reason)

    def _uid_prefix(self, digits: int) -> str:
        """What stands before the digits of the offset."""
        return _attribute(_UID, f"{self._uid}-{'0' * digits}")[:-digits].decode("latin-1")


def _blocks(data: bytes, offset: int) -> Iterator[tuple[bytes, int]]:
    """Pieces of whole lines, much alike in size, and so small that what is made of them stays in the processor's cache."""
    size_bytes = len(data) // (len(data) // _BLOCK_BYTES + 1) + 1
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start + size_bytes - 1) + 1 or len(data)
        yield data[start:stop], offset + start
        start = stop


def _is_plain(chunk: Chunk, *, is_ascii: bool) -> bool:
    """Whether the lines are what they are, apart from newlines."""
    data = chunk.data
    if chunk.encoding != "utf-8" or chunk.truncated or b"\r" in data:
        return False
    return is_ascii or _is_utf_8(data)


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def lines_of(chunk: Chunk, counts: Counts, *, with_blank: bool = False) -> Iterator[Line]:
    """The lines of a chunk as UTF-8, those that are not blank or, for who joins lines, all."""
    newline = {"utf-8": b"\n", "utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}[chunk.encoding]
    offset = chunk.offset
    for content, size in _split(chunk.data, newline):
        line = content if chunk.encoding == "utf-8" else _from_utf_16(content, chunk.encoding, counts)
        if chunk.encoding == "utf-8" and not content.isascii():
            line = mend(content, counts)
        line = line.removesuffix(b"\r")
        if with_blank or (line and not line.isspace()):
            yield Line(line, offset, chunk.end if chunk.truncated else offset + size, chunk.truncated)
        offset += size


def _split(data: bytes, newline: bytes) -> Iterator[tuple[bytes, int]]:
    """Lines and how many bytes each takes with its newline, which stands at a whole number of units."""
    width = len(newline)
    start = 0
    while start < len(data):
        stop = data.find(newline, start)
        while stop >= 0 and stop % width:
            stop = data.find(newline, stop + 1)
        if stop < 0:
            yield data[start:], len(data) - start
            return
        yield data[start:stop], stop + width - start
        start = stop + width


def _from_utf_16(content: bytes, encoding: str, counts: Counts) -> bytes:
    found = content.decode(encoding, "replace")
    counts.replaced_characters += found.count("\ufffd")
    return found.encode()


def mend(line: bytes, counts: Counts) -> bytes:
    """The line with U+FFFD for what is not UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        found = line.decode("utf-8", "replace")
        counts.replaced_characters += found.count("\ufffd")
        return found.encode()
    return line


def _attribute(key: str, value: str) -> bytes:
    return length_delimited(6, text(1, key), length_delimited(2, value_message(value)))

r"""Lines of `key=value`, as Go's loggers and Heroku's router write them (github.com/kr/logfmt).

A value stands bare, or in double quotes with the escapes of JSON. Every value stays text, `42` and `true` included, as with
Loki and Vector: what is written `007` is not a number, and nothing tells which are. A key alone is true, as with Vector, where
Loki drops it; `key=` is empty. Of a key that stands twice the last counts. A bare value may hold `=` and quotes, which stricter
readers refuse.

Not logfmt is a line without a single `key=value`, with a quoted value that does not end or goes on behind its quote, or
with a `=` or a quote where a key has to begin.
"""

import re

import msgspec

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.record import LineError

_BLANK = r"\t-\r\x1c-\x20"
_PAIR = re.compile(
    rf'([^{_BLANK}="]++)(?:(=)(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?![^{_BLANK}])|([^{_BLANK}"][^{_BLANK}]*+|(?![^{_BLANK}]))))?+'
    rf"(?![^{_BLANK}])|([^{_BLANK}]++)",
    re.DOTALL,
)
"""Key, equals sign, quoted value, bare value; or what is none of it. Each takes time that grows with its length alone."""
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", '"': '"', "\\": "\\", "/": "/"}
_decode_text = msgspec.json.Decoder(str).decode

NOT_LOGFMT = "not logfmt"


class LogfmtParser:
    """Lines of logfmt; `reader` knows which keys are the parts of a record."""

    def __init__(self, reader: FieldReader) -> None:
        self._reader = reader

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line is not logfmt."""
        text = line.decode("utf-8", "replace")
        fields = _read_simple(text)
        return self._reader.record(_read(text) if fields is None else fields, text)


def _read_simple(text: str) -> Attributes | None:
    """As `_read`, for lines of ASCII whose quoted values hold no escapes, in a third of the time; None where it takes that."""
    if not text.isascii() or "\\" in text:
        return None
    fields: Attributes = {}
    pieces = text.split('"')
    if not len(pieces) & 1:
        return None
    name = ""
    for number, piece in enumerate(pieces):
        if number & 1:
            fields[name] = piece
            continue
        if number and piece and not piece[0].isspace():
            return None
        words = piece.split()
        if number < len(pieces) - 1:
            name = words.pop()[:-1] if piece[-1:] == "=" else ""
            if not name or "=" in name:
                return None
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                return None
            fields[key] = value
    return fields or None


def _read(text: str) -> Attributes:
    fields: Attributes = {}
    pairs = 0
    for key, equals, quoted, bare, rest in _PAIR.findall(text):
        if rest:
            raise LineError(NOT_LOGFMT)
        if not equals:
            fields[key] = True
            continue
        pairs += 1
        fields[key] = (_unescape(quoted) if "\\" in quoted else quoted) if quoted else bare
    if not pairs:
        raise LineError(NOT_LOGFMT)
    return fields


def _unescape(text: str) -> str:
    """As JSON has it, else as Go writes what JSON has not; a backslash before anything else stays."""
    try:
        return _decode_text(f'"{text}"')
    except (msgspec.DecodeError, UnicodeEncodeError):
        return _ESCAPE.sub(_unescape_one, text)


def _unescape_one(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    if code is None:
        return _ESCAPED.get(found[3], found[0])
    character = chr(int(code, 16))
    return character if character.isascii() or not "\ud800" <= character <= "\udfff" else "�"

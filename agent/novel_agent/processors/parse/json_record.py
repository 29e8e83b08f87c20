"""Lines of JSON: what becomes of the keys of an object, stated plainly. The faster ways (`json_bytes`, `shape`) give the same.

Of each part of a record (time, severity, body, ids) the first of its keys counts that holds something it can be: time and
severity a text or a number, an id a text, which may be empty for none, the body anything but null. What then cannot be read,
such as a time that is none or a trace id of 31 digits, stays an attribute, so nothing is lost. Every other key is an attribute
with its JSON type: objects and lists as they are nested, an integer beyond 64 bits as a double, null left out. Of a key that
stands twice the last counts. Without a body the line itself is it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.attribute_bytes import decode_json
from novel_agent.processors.parse.record import OWN_ATTRIBUTES, LineError
from novel_agent.processors.parse.severity import severity_number, severity_of_number
from novel_agent.processors.parse.timestamps import ReadTime, unix_nanoseconds

NOT_JSON, NOT_AN_OBJECT, TOO_DEEP = "not JSON", "not a JSON object", "nested too deep"
_NO_ID = {32: bytes(16), 16: bytes(8)}


class JsonRecordParser:
    """A `LineParser` of JSON objects. With `envelope` the line stays the body, and what is not read is hardly validated."""

    def __init__(self, keys: LogKeys, read_time: ReadTime, *, envelope: bool = False) -> None:
        self._keys = keys
        self._read_time = read_time
        self._envelope = envelope
        self._read = _reader_of_parts(keys) if envelope else read_object

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line is no JSON object."""
        text = line.decode("utf-8", "replace")
        found = self._read(text.encode() if "\ufffd" in text else line)
        record = LogRecord(body=text)
        take_parts(record, found, self._keys, self._read_time)
        if self._envelope:
            record.body = text
        else:
            record.attributes = {
                key: value for key, value in found.items() if value is not None and key not in OWN_ATTRIBUTES
            }
        return record


def read_object(line: bytes) -> dict[str, Any]:
    """The object of a line, which is valid UTF-8; LineError."""
    found = _decoded(decode_json, line)
    if type(found) is not dict:
        raise LineError(NOT_AN_OBJECT)
    return found


def _decoded(decode: Callable[[bytes], Any], line: bytes) -> Any:
    try:
        return decode(line)
    except RecursionError:
        raise LineError(TOO_DEEP) from None
    except msgspec.ValidationError:
        raise LineError(NOT_AN_OBJECT) from None
    except (msgspec.DecodeError, ValueError):
        raise LineError(NOT_JSON) from None


def _reader_of_parts(keys: LogKeys) -> Callable[[bytes], dict[str, Any]]:
    names = list(dict.fromkeys([*keys.time, *keys.severity, *keys.trace_id, *keys.span_id]))
    fields = [(f"f{number}", Any, msgspec.field(default=None, name=name)) for number, name in enumerate(names)]
    decode = msgspec.json.Decoder(msgspec.defstruct("Parts", fields, gc=False)).decode

    def read(line: bytes) -> dict[str, Any]:
        found = msgspec.structs.astuple(_decoded(decode, line))
        return {name: value for name, value in zip(names, found, strict=True) if value is not None}

    return read


def take_parts(record: LogRecord, found: dict[str, Any], keys: LogKeys, read_time: ReadTime) -> None:
    """Take the parts of a record out of the object."""
    for name in keys.time:
        value = found.get(name)
        if type(value) in _TEXT_OR_NUMBER:
            if nanoseconds := time_of(value, read_time):
                record.time_unix_nano = nanoseconds
                del found[name]
            break
    for name in keys.severity:
        value = found.get(name)
        if type(value) in _TEXT_OR_NUMBER:
            if type(value) is str:
                record.severity_text, record.severity_number = value, severity_number(value)
                del found[name]
            elif number := severity_of_number(value or 0):
                record.severity_text, record.severity_number = str(value), number
                del found[name]
            break
    for name in keys.body:
        value = found.get(name)
        if value is not None:
            record.body = value
            del found[name]
            break
    record.trace_id = _take_id(found, keys.trace_id, 32)
    record.span_id = _take_id(found, keys.span_id, 16)


_TEXT_OR_NUMBER = frozenset({str, int, float})


def time_of(value: Any, read_time: ReadTime) -> int:
    """Nanoseconds since the epoch; 0 where it is none."""
    try:
        return read_time(value) if type(value) is str else unix_nanoseconds(value)
    except (ValueError, OverflowError):
        return 0


def id_of(value: str, digits: int) -> bytes:
    """The bytes of an id; empty where it is none, or all zeros, which stands for none."""
    if len(value) != digits:
        return b""
    try:
        read = bytes.fromhex(value)
    except ValueError:
        return b""
    return read if len(read) * 2 == digits and read != _NO_ID[digits] else b""


def _take_id(found: dict[str, Any], names: tuple[str, ...], digits: int) -> bytes:
    for name in names:
        value = found.get(name)
        if type(value) is str:
            read = id_of(value, digits)
            if read or not value:
                del found[name]
            return read
    return b""

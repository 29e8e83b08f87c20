"""Any JSON object to the bytes of a record, by looking up what stands before each key's value. For lines that fit no shape."""

from functools import lru_cache
from typing import Any

from novel_agent.config.schema import LogKeys
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.attribute_bytes import BEFORE_BODY, Writers, fitting, pack_fixed64
from novel_agent.processors.parse.json_record import read_object, take_parts
from novel_agent.processors.parse.record import OWN_ATTRIBUTES
from novel_agent.processors.parse.timestamps import ReadTime
from novel_agent.wire.otlp_write import value_message
from novel_agent.wire.protobuf import integer, length_delimited, text

_LONGEST_REMEMBERED = 32


class JsonBytes:
    """Turns lines into records without those attributes that say where the line is from."""

    def __init__(self, keys: LogKeys, read_time: ReadTime, writers: Writers) -> None:
        self._keys = keys
        self._read_time = read_time
        self._writers = writers
        self._scratch = LogRecord()

    def __call__(self, line: bytes) -> bytes:
        """Time, severity, body, attributes and ids of a line that is valid UTF-8; LineError where it is no JSON object."""
        return self.of(read_object(line), line)

    def of(self, found: dict[str, Any], line: bytes) -> bytes:
        """The same of an object that was read."""
        record = self._scratch
        record.time_unix_nano = record.severity_number = 0
        record.severity_text, record.body = "", None
        take_parts(record, found, self._keys, self._read_time)
        writers = self._writers
        parts = [head_bytes(record), body_bytes(record.body, line)]
        parts += [
            writers[key].any(value) for key, value in found.items() if value is not None and key not in OWN_ATTRIBUTES
        ]
        parts.append(ids_bytes(record.trace_id, record.span_id))
        return b"".join(parts)


def head_bytes(record: LogRecord) -> bytes:
    """Time and severity."""
    time = b"\x09" + pack_fixed64(record.time_unix_nano) if record.time_unix_nano else b""
    return time + severity_bytes(record.severity_number, record.severity_text)


@lru_cache(maxsize=256)
def _usual_severity(number: int, written: str) -> bytes:
    return _severity(number, written)


def severity_bytes(number: int, written: str) -> bytes:
    """Severity number and text; each left out where there is none."""
    return _usual_severity(number, written) if len(written) <= _LONGEST_REMEMBERED else _severity(number, written)


def _severity(number: int, written: str) -> bytes:
    return (integer(2, number) if number else b"") + text(3, written)


def body_bytes(body: Any, line: bytes) -> bytes:
    """The body, or where it is None the line."""
    if type(body) is str:
        line = body.encode("utf-8", "replace")
    elif body is not None:
        return length_delimited(5, value_message(fitting(body)))
    return BEFORE_BODY[len(line)] + line


def ids_bytes(trace_id: bytes, span_id: bytes) -> bytes:
    """Trace and span id; each left out where there is none."""
    return (b"\x4a\x10" + trace_id if trace_id else b"") + (b"\x52\x08" + span_id if span_id else b"")

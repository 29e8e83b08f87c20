"""From the named texts of a line to a record."""

import re
from collections.abc import Callable

from novel_agent.config.schema import LogKeys
from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes
from novel_agent.processors.parse.timestamps import ReadTime


class FieldReader:
    """Finds the parts of a record among a line's fields: of each the first of its keys that is there.

    A part that cannot be read, such as a time that is none or a trace id of 31 digits, stays an attribute, so nothing is lost.
    Without any of the keys of the body, the body is the whole line. All other fields are attributes.
    """

    def __init__(self, keys: LogKeys, read_time: ReadTime, severity_number: Callable[[str], int]) -> None:
        self._keys = keys
        self._read_time = read_time
        self._severity_number = severity_number
        self._last_time = ""
        self._last_nanoseconds = 0

    def record(self, fields: Attributes, line: str) -> LogRecord:
        """The record; `fields` become its attributes, and belong to it."""
        keys = self._keys
        record = LogRecord(body=line, attributes=fields)
        if name := _first(fields, keys.time):
            self._take_time(record, name)
        if name := _first(fields, keys.severity):
            text = fields.pop(name)
            record.severity_text = text if isinstance(text, str) else ""
            record.severity_number = self._severity_number(record.severity_text)
        if name := _first(fields, keys.body):
            record.body = fields.pop(name)
        if name := _first(fields, keys.trace_id):
            record.trace_id = _take_id(fields, name, _TRACE_ID_DIGITS)
        if name := _first(fields, keys.span_id):
            record.span_id = _take_id(fields, name, _SPAN_ID_DIGITS)
        return record

    def _take_time(self, record: LogRecord, name: str) -> None:
        """Lines of one instant are frequent where times are whole seconds, so the last one is kept."""
        text = record.attributes[name]
        if not isinstance(text, str):
            return
        if text != self._last_time:
            try:
                self._last_nanoseconds = self._read_time(text)
            except ValueError:
                return
            self._last_time = text
        record.time_unix_nano = self._last_nanoseconds
        del record.attributes[name]


_TRACE_ID_DIGITS = 32
_SPAN_ID_DIGITS = 16
_ID = re.compile("[0-9A-Fa-f]*[1-9A-Fa-f][0-9A-Fa-f]*")


def _first(fields: Attributes, names: tuple[str, ...]) -> str:
    """The first name that a text stands under; empty if there is none."""
    for name in names:
        if name in fields and isinstance(fields[name], str):
            return name
    return ""


def _take_id(fields: Attributes, name: str, digits: int) -> bytes:
    """Its bytes; empty, and the field stays, where it is none or all zeros, which stands for none."""
    text = fields[name]
    if not isinstance(text, str) or len(text) != digits or not _ID.fullmatch(text):
        return b""
    del fields[name]
    return bytes.fromhex(text)

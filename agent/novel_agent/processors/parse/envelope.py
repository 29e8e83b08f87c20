"""Lines of JSON that stay the body of their records: only time, severity and ids are read."""

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import BEFORE_BODY
from novel_agent.processors.parse.json_bytes import head_bytes, ids_bytes
from novel_agent.processors.parse.json_record import JsonRecordParser
from novel_agent.processors.parse.timestamps import ReadTime


class EnvelopeLines:
    """The lines of a source that fit no shape."""

    def __init__(self, keys: LogKeys, read_time: ReadTime) -> None:
        self._plain = JsonRecordParser(keys, read_time, envelope=True)

    def one(self, line: bytes) -> bytes:
        """A line by the plain way, without what ends it; LineError."""
        record = self._plain.parse(line)
        return head_bytes(record) + BEFORE_BODY[len(line)] + line + ids_bytes(record.trace_id, record.span_id)

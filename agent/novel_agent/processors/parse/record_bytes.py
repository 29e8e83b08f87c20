"""Decoded records to their bytes, with what stands before each key's value looked up."""

from collections.abc import Sequence

from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.attribute_bytes import BEFORE_RECORD, Room, Writers, pack_fixed64
from novel_agent.processors.parse.json_bytes import body_bytes, head_bytes, ids_bytes
from novel_agent.wire.protobuf import integer, tag, text

_FLAGS = tag(8, 5)


class RecordWriter:
    """Writes the records of one source as whole `log_records` fields of a ScopeLogs.

    The same messages as `wire.otlp_write.record_message` gives, but for what OTLP or its readers cannot take: see `fitting`.
    """

    def __init__(self) -> None:
        self._writers = Writers(Room())

    def __call__(self, records: Sequence[LogRecord]) -> bytes:
        out: list[bytes] = []
        for record in records:
            content = self._content(record)
            out += (BEFORE_RECORD[len(content)], content)
        return b"".join(out)

    def _content(self, record: LogRecord) -> bytes:
        writers = self._writers
        parts = [head_bytes(record)]
        if record.body is not None:
            parts.append(body_bytes(record.body, b""))
        parts += [writers[key].any(value) for key, value in record.attributes.items()]
        parts.append(ids_bytes(record.trace_id, record.span_id))
        if record.observed_unix_nano:
            parts.append(b"\x59" + pack_fixed64(record.observed_unix_nano))
        if record.flags or record.event_name or record.dropped_attributes:
            parts.append(_rare(record))
        return b"".join(parts)


def _rare(record: LogRecord) -> bytes:
    flags = _FLAGS + record.flags.to_bytes(4, "little") if record.flags else b""
    dropped = integer(7, record.dropped_attributes) if record.dropped_attributes else b""
    return dropped + flags + text(12, record.event_name)

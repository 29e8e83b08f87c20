"""Lines of JSON that stay the body of their records: only time, severity and ids are read."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import BEFORE_BODY, BEFORE_RECORD
from novel_agent.processors.parse.json_bytes import head_bytes, ids_bytes
from novel_agent.processors.parse.json_record import JsonRecordParser
from novel_agent.processors.parse.shape import MISFITS, Severity, Time, read_id
from novel_agent.processors.parse.timestamps import ReadTime

_Scalar = str | int | float | bool | None


class EnvelopeLines:
    """The lines of a source. What has its parts under other keys than the first that was met goes the plain way."""

    def __init__(self, keys: LogKeys, read_time: ReadTime) -> None:
        self._plain = JsonRecordParser(keys, read_time, envelope=True)
        names = list(dict.fromkeys([*keys.time, *keys.severity, *keys.trace_id, *keys.span_id]))
        fields = {name: f"f{number}" for number, name in enumerate(names)}
        row = msgspec.defstruct(
            "Row",
            [(field, _Scalar, msgspec.field(default=None, name=name)) for name, field in fields.items()],
            gc=False,
        )
        self._decode_lines = msgspec.json.Decoder(row).decode_lines
        self._decode = msgspec.json.Decoder(row).decode
        self._encode = _function(
            Time(read_time),
            Severity(),
            [[fields[name] for name in part] for part in (keys.time, keys.severity, keys.trace_id, keys.span_id)],
        )

    def encode(
        self,
        data: bytes,
        lines: Sequence[bytes],
        endings: Sequence[bytes],
        otherwise: Callable[[int], bytes],
        add: Callable[[bytes], object],
    ) -> tuple[int, int]:
        """All lines of a chunk; how many were blank, and how many were taken the fast way."""
        rows: Sequence[Any] = ()
        with contextlib.suppress(msgspec.DecodeError, RecursionError, ValueError):
            rows = self._decode_lines(data)
        if len(rows) == len(lines):
            return 0, len(lines) - self._encode(rows, lines, endings, otherwise, add)
        return self._encode_each(lines, endings, otherwise, add)

    def _encode_each(
        self,
        lines: Sequence[bytes],
        endings: Sequence[bytes],
        otherwise: Callable[[int], bytes],
        add: Callable[[bytes], object],
    ) -> tuple[int, int]:
        blank = fast = 0
        for number, line in enumerate(lines):
            try:
                row = (self._decode(line),)
            except (msgspec.DecodeError, RecursionError, ValueError):
                if not line or line.isspace():
                    blank += 1
                    continue
                record = otherwise(number)
                add(BEFORE_RECORD[len(record)])
                add(record)
                continue
            instead = partial(_instead, otherwise, number)
            fast += 1 - self._encode(row, (line,), (endings[number],), instead, add)
        return blank, fast

    def one(self, line: bytes) -> bytes:
        """A line by the plain way, without what ends it; LineError."""
        record = self._plain.parse(line)
        return head_bytes(record) + BEFORE_BODY[len(line)] + line + ids_bytes(record.trace_id, record.span_id)


def _function(time: Time, severity: Severity, parts: Sequence[Sequence[str]]) -> Callable[..., int]:
    """Rows to records. A part may stand under several keys: the first that is not null is tried, as in the plain way."""
    times, severities, traces, spans = (["r." + field for field in part] for part in parts)

    source = [
        "def encode(rows, lines, endings, otherwise, add):",
        " missed = number = 0",
        " for r, line, ending in zip(rows, lines, endings):",
        "  try:",
        f"   record = b''.join((time({_first_of(times)}), severity({_first_of(severities)}), before_body[len(line)], line,",
        f"     trace({_first_of(traces)}), span({_first_of(spans)}), ending))",
        "  except misfits:",
        "   missed += 1",
        "   record = otherwise(number)",
        "  add(before_record[len(record)])",
        "  add(record)",
        "  number += 1",
        " return missed",
    ]
    space: dict[str, Any] = {
        "time": time, "severity": severity.any, "trace": lambda text: read_id(b"\x4a\x10", 32, text),
        "span": lambda text: read_id(b"\x52\x08", 16, text), "before_body": BEFORE_BODY,
        "before_record": BEFORE_RECORD, "misfits": MISFITS,
    }  # fmt: skip
    exec("\n".join(source), space)  # noqa: S102 - made of numbers only
    return space["encode"]  # type: ignore[no-any-return]


def _instead(otherwise: Callable[[int], bytes], number: int, _: int) -> bytes:
    return otherwise(number)


def _first_of(fields: Sequence[str]) -> str:
    *others, last = fields
    return "".join(f"{field} if {field} is not None else " for field in others) + last

"""Lines of JSON that stay the body of their records: only time, severity and ids are read."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import BEFORE_BODY, BEFORE_RECORD, pack_fixed64
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
    """Rows to records. A part may stand under several keys: the first that is not null is tried, as in the plain way.

    What is usual, under the first of its keys, is written in place; anything else by a call.
    """
    times, severities, traces, spans = (["r." + field for field in part] for part in parts)
    space: dict[str, Any] = {
        "time": time, "levels": severity, "trace": partial(read_id, b"\x4a\x10", 32),
        "span": partial(read_id, b"\x52\x08", 16), "no_trace": bytes(16), "no_span": bytes(8), "fromhex": bytes.fromhex,
        "fixed64": pack_fixed64, "before_body": BEFORE_BODY, "before_record": BEFORE_RECORD, "misfits": MISFITS,
    }  # fmt: skip
    names = ", ".join(f"{name}={name}" for name in space)
    source = [
        f"def encode(rows, lines, endings, otherwise, add, *, {names}):",
        " missed = number = 0",
        " length, start, zone, second = time.known",
        " for r, line, ending in zip(rows, lines, endings):",
        "  try:",
        f"   at = {times[0]}",
        "   if at.__class__ is str and len(at) == length and at[:20] == start and at[26:] == zone and at.isascii() \\",
        "     and at[20:26].isdigit():",
        "    at = b'\\x09' + fixed64(second + int(at[20:26]) * 1000)",
        "   else:",
        f"    at = time({_first_of(times)})",
        "    length, start, zone, second = time.known",
        f"   level = {severities[0]}",
        f"   level = levels[level] if level.__class__ is str else levels.any({_first_of(severities)})",
        *_id("trace", "b'\\x4a\\x10'", 32, traces),
        *_id("span", "b'\\x52\\x08'", 16, spans),
        "   record = b''.join((at, level, before_body[len(line)], line, trace_id, span_id, ending))",
        "  except misfits:",
        "   missed += 1",
        "   record = otherwise(number)",
        "  add(before_record[len(record)])",
        "  add(record)",
        "  number += 1",
        " return missed",
    ]
    exec("\n".join(source), space)  # noqa: S102 - made of numbers only
    return space["encode"]  # type: ignore[no-any-return]


def _id(name: str, before: str, digits: int, fields: Sequence[str]) -> list[str]:
    return [
        f"   {name}_id = {fields[0]}",
        f"   if {name}_id.__class__ is str and len({name}_id) == {digits}:",
        f"    {name}_id = fromhex({name}_id)",
        f"    if len({name}_id) != {digits // 2} or {name}_id == no_{name}: raise ValueError",
        f"    {name}_id = {before} + {name}_id",
        "   else:",
        f"    {name}_id = {name}({_first_of(fields)})",
    ]


def _instead(otherwise: Callable[[int], bytes], number: int, _: int) -> bytes:
    return otherwise(number)


def _first_of(fields: Sequence[str]) -> str:
    *others, last = fields
    return "".join(f"{field} if {field} is not None else " for field in others) + last

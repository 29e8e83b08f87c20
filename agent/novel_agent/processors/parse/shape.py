"""Lines of one application have the same keys again and again: a shape is those keys, compiled.

It holds a decoder that is typed by key, what stands before each key's value by the value's length, and one function that
turns decoded rows into records. A row that is not as the function was made for (a text where there was a number, a time written
otherwise) raises in it, and the caller takes the line another way: so the function need not know what it cannot do.

No text of a line ever becomes part of the function's source: keys are named by number.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import (
    BEFORE_BODY,
    BEFORE_RECORD,
    AttributeWriter,
    Room,
    pack_double,
    pack_fixed64,
)
from novel_agent.processors.parse.json_bytes import severity_bytes
from novel_agent.processors.parse.json_record import id_of, time_of
from novel_agent.processors.parse.record import OWN_ATTRIBUTES
from novel_agent.processors.parse.severity import severity_number, severity_of_number
from novel_agent.processors.parse.timestamps import Formatted, ReadTime

MOST_KEYS = 64
_MOST_ENTRIES = 24
_DEEPEST = 3
_LONGEST_KEY = 256
_MOST_SEVERITIES = 64
_LONGEST_SEVERITY = 64
_Scalar = str | int | float | bool | None

MISFITS = (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError, msgspec.DecodeError)
"""What the function of a shape raises for a row that it was not made for."""

Encode = Callable[[Sequence[Any], Sequence[bytes], Callable[[int], bytes], Callable[[bytes], object]], int]
"""Rows, what ends each record, how to take a line otherwise, and where the records go; how many rows did not fit."""


class Kind:
    """What a key has held so far."""

    __slots__ = ("_is_scalar", "entries", "is_raw", "is_text", "usual")

    def __init__(self, *, is_text: bool) -> None:
        self._is_scalar = False
        self.is_text = is_text
        """Always there, and always a text that is not empty."""
        self.usual: type = type(None)
        """The type it had last."""
        self.entries: dict[str, Kind] | None = None
        """Of what is an object, or null, with keys that can be a shape."""
        self.is_raw = False
        """A list at least once, or an object whose keys cannot be a shape, or an object once and something else once."""

    def see(self, value: Any, depth: int) -> None:
        """One more value."""
        is_object = type(value) is dict
        self.usual = type(value)
        if type(value) is not str or not value:
            self.is_text = False
        if value is None or self.is_raw:
            return
        self._is_scalar |= type(value) not in (dict, list)
        if not is_object:
            if type(value) is list or self.entries is not None:
                self._be_raw()
            return
        entries = learn(value, self.entries, depth + 1)
        if self._is_scalar or depth >= _DEEPEST or len(entries) > _MOST_ENTRIES or not are_names(entries):
            self._be_raw()
        else:
            self.entries = entries

    def _be_raw(self) -> None:
        self.is_raw, self.entries = True, None


class Shape:
    """The keys of some lines, and how they become records. TypeError or ValueError where no decoder can be made."""

    def __init__(self, kinds: dict[str, Kind], keys: LogKeys, read_time: ReadTime, room: Room) -> None:
        self.kinds = kinds
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_row(kinds))
        self.decode = decoder.decode
        self.decode_lines = decoder.decode_lines
        self.encode: Encode = _Source(kinds, keys, read_time, room).function()


def learn(found: dict[str, Any], before: dict[str, Kind] | None = None, depth: int = 0) -> dict[str, Kind]:
    """The kinds that fit this object as well as those before."""
    kinds = dict(before or {})
    for key, kind in kinds.items():
        if key not in found:
            kind.is_text = False
    for key, value in found.items():
        if key not in kinds:
            kinds[key] = Kind(is_text=before is None)
        kinds[key].see(value, depth)
    return kinds


def can_be_shape(keys: Collection[str]) -> bool:
    """Whether the lines with these keys may have a shape."""
    return 0 < len(keys) <= MOST_KEYS and are_names(keys) and OWN_ATTRIBUTES.isdisjoint(keys)


def are_names(keys: Iterable[str]) -> bool:
    """Whether a decoder can have these keys."""
    return not any(len(key) > _LONGEST_KEY or '"' in key or "\\" in key or not key.isprintable() for key in keys)


def _row(kinds: dict[str, Kind]) -> type:
    """The type of a decoded line, or of an object in it. What is null is as if it were not there."""
    fields = []
    for number, (key, kind) in enumerate(kinds.items()):
        kept: Any = Raw if kind.is_raw else _Scalar if kind.entries is None else _row(kind.entries) | None
        fields.append((f"f{number}", kept, msgspec.field(default=None, name=key)))
    return msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=True)


class _Source:
    """Writes the function of a shape. No text of a line gets into it."""

    def __init__(self, kinds: dict[str, Kind], keys: LogKeys, read_time: ReadTime, room: Room) -> None:
        self._kinds = kinds
        self._keys = keys
        self._room = room
        self._names = 0
        self._space: dict[str, Any] = {
            "before_body": BEFORE_BODY, "before_record": BEFORE_RECORD, "misfits": MISFITS, "time": Time(read_time),
            "severity": Severity(), "trace": partial(read_id, b"\x4a\x10", 32),
            "span": partial(read_id, b"\x52\x08", 16), "must_be_text": _must_be_text, "fromhex": bytes.fromhex,
            "fixed64": pack_fixed64, "double": pack_double,
        }  # fmt: skip
        self._steps: list[str] = []
        self._taken: set[str] = set()

    def function(self) -> Encode:
        """The function, compiled."""
        parts = []
        keys = self._keys
        if time := self._part(keys.time):
            parts += self._time(time)
        if severity := self._part(keys.severity):
            value = self._value(severity)
            parts.append(f"severity[{value}]" if self._kinds[severity].is_text else f"severity.any({value})")
        body = self._part(keys.body)
        if body is None:
            return _without_body
        self._steps.append(f"body = {self._value(body)}.encode()")
        parts += ["before_body[len(body)]", "body"]
        if trace := self._part(keys.trace_id):
            parts += self._id(trace, "trace", 32)
        if span := self._part(keys.span_id):
            parts += self._id(span, "span", 16)
        parts += self._entries(self._kinds, "r", "", 0)
        names = ", ".join(f"{name}={name}" for name in self._space)
        source = [
            f"def encode(rows, endings, otherwise, add, *, {names}):",
            " missed = number = 0",
            " length, start, zone, second = time.known",
            " for r, ending in zip(rows, endings):",
            "  try:",
            *(f"   {step}" for step in self._steps),
            f"   record = b''.join(({', '.join(parts)}, ending))",
            "  except misfits:",
            "   missed += 1",
            "   record = otherwise(number)",
            "  add(before_record[len(record)])",
            "  add(record)",
            "  number += 1",
            " return missed",
        ]
        exec("\n".join(source), self._space)  # noqa: S102 - made of numbers only
        return self._space["encode"]  # type: ignore[no-any-return]

    def _time(self, key: str) -> list[str]:
        """A text to nanoseconds, in place where only its microseconds are others than those of the one before."""
        if not self._kinds[key].is_text:
            return [f"time({self._value(key)})"]
        self._steps += [
            f"at = {self._value(key)}",
            "if len(at) == length and at[:20] == start and at[26:] == zone and at.isascii() and at[20:26].isdigit():",
            " at = second + int(at[20:26]) * 1000",
            "else:",
            " at = time.read(at)",
            " length, start, zone, second = time.known",
        ]
        return ["b'\\x09'", "fixed64(at)"]

    def _id(self, key: str, name: str, digits: int) -> list[str]:
        value = self._value(key)
        if not self._kinds[key].is_text:
            return [f"{name}({value})"]
        self._space[f"no_{name}"] = bytes(digits // 2)
        before = "b'\\x4a\\x10'" if name == "trace" else "b'\\x52\\x08'"
        self._steps += [
            f"{name}_id = fromhex({value})",
            f"if len({value}) != {digits} or len({name}_id) != {digits // 2} or {name}_id == no_{name}: raise ValueError",
        ]
        return [before, f"{name}_id"]

    def _value(self, key: str) -> str:
        return f"r.f{list(self._kinds).index(key)}"

    def _part(self, candidates: tuple[str, ...]) -> str | None:
        """The key of a part of the record. Of several that may be it only the first is understood here."""
        there = [name for name in candidates if name in self._kinds and name not in self._taken]
        if not there:
            return None
        self._taken.add(there[0])
        kind = self._kinds[there[0]]
        if len(there) > 1 or kind.is_raw or kind.entries is not None:
            self._steps.append(f"must_be_text({self._value(there[0])})")
        return there[0]

    def _entries(self, kinds: dict[str, Kind], row: str, indent: str, depth: int) -> list[str]:
        """What writes the values of an object, or the attributes; adds the steps that are needed before."""
        parts: list[str] = []
        for number, (key, kind) in enumerate(kinds.items()):
            if not depth and key in self._taken:
                continue
            writer = AttributeWriter(key, self._room, depth)
            value, name = f"{row}.f{number}", f"n{self._names}"
            self._names += 1
            if kind.is_raw:
                self._space[f"w{name}"] = writer.raw
                parts.append(f"w{name}({value})")
            elif kind.entries is not None:
                self._space[f"w{name}"] = writer.before_object
                self._object(kind.entries, value, name, indent, depth)
                parts.append(name)
            elif kind.is_text:
                self._space[f"w{name}"] = writer.before_text
                self._steps.append(f"{indent}{name} = {value}.encode()")
                parts += [f"w{name}[len({name})]", name]
            else:
                parts.append(self._scalar(kind, writer, value, name, indent))
        return parts

    def _scalar(self, kind: Kind, writer: AttributeWriter, value: str, name: str, indent: str) -> str:
        """Whatever it is; what it usually is without a call."""
        self._space[f"w{name}"] = writer.any
        usual = {
            float: ("float", f"d{name} + double({name})"),
            int: ("int", f"i{name}[{name}]"),
        }.get(kind.usual)
        self._steps.append(f"{indent}{name} = {value}")
        if usual is None:
            self._steps.append(f"{indent}{name} = b'' if {name} is None else w{name}({name})")
            return name
        if kind.usual is float:
            self._space[f"d{name}"] = writer.before_double
        else:
            self._space[f"i{name}"] = writer.integers
        of, written = usual
        self._steps.append(f"{indent}{name} = {written} if {name}.__class__ is {of} else w{name}({name})")
        return name

    def _object(self, entries: dict[str, Kind], value: str, name: str, indent: str, depth: int) -> None:
        self._steps += [f"{indent}o{name} = {value}", f"{indent}if o{name} is None:", f"{indent} {name} = b''"]
        self._steps.append(f"{indent}else:")
        parts = self._entries(entries, f"o{name}", f"{indent} ", depth + 1)
        joined = f"b''.join(({', '.join(parts)},))" if parts else "b''"
        self._steps += [f"{indent} {name} = {joined}", f"{indent} {name} = w{name}[len({name})] + {name}"]


def _without_body(
    rows: Sequence[Any], endings: Sequence[bytes], otherwise: Callable[[int], bytes], add: Callable[[bytes], object]
) -> int:
    """Lines that have no body are their own, which the rows do not hold."""
    for number in range(len(rows)):
        record = otherwise(number)
        add(BEFORE_RECORD[len(record)])
        add(record)
    return 0


def _must_be_text(value: Any) -> None:
    if type(value) is not str:
        raise ValueError


class Time:
    """A text or a number to the `time_unix_nano` field; the second of the last text is remembered."""

    def __init__(self, read_time: ReadTime) -> None:
        self._read_time = read_time
        self._remembers = not isinstance(read_time, Formatted)
        self.known = (-1, "", "", 0)
        """Of the last text with microseconds: its length, what stands before and behind them, and the second's nanoseconds."""

    def __call__(self, value: Any) -> bytes:
        return b"" if value is None else b"\x09" + pack_fixed64(self.read(value))

    def read(self, value: Any) -> int:
        """Nanoseconds since the epoch. ValueError where it is none: it stays an attribute."""
        if type(value) is not str:
            nanoseconds = time_of(value, self._read_time)
        else:
            length, start, zone, second = self.known
            micros = value[20:26]
            is_micro = len(micros) == 6 and value.isascii() and micros.isdigit()
            if is_micro and len(value) == length and value[:20] == start and value[26:] == zone:
                return second + int(micros) * 1000
            nanoseconds = time_of(value, self._read_time)
            is_iso = self._remembers and value[19:20] == "." and value[10:11] in ("T", "t", " ")
            if nanoseconds and is_micro and is_iso and not value[26:27].isdigit():
                self.known = (len(value), value[:20], value[26:], nanoseconds - int(micros) * 1000)
        if not nanoseconds:
            raise ValueError
        return nanoseconds


class Severity(dict[str, bytes]):
    """A text to the severity fields."""

    def __missing__(self, text: Any) -> bytes:
        if type(text) is not str:
            raise KeyError
        made = severity_bytes(severity_number(text), text)
        if len(self) < _MOST_SEVERITIES and len(text) <= _LONGEST_SEVERITY:
            self[text] = made
        return made

    def any(self, value: Any) -> bytes:
        """Also a number, or nothing."""
        if type(value) is str:
            return self[value]
        if value is None:
            return b""
        number = severity_of_number(value) if type(value) in (int, float) else 0
        if not number:
            raise ValueError  # it stays an attribute
        return severity_bytes(number, str(value))


def read_id(before: bytes, digits: int, text: Any) -> bytes:
    """A text of so many hexadecimal digits to the field of an id; ValueError or TypeError where it is none."""
    if text is None or text == "":
        return b""
    read = id_of(text, digits)
    if not read:
        raise ValueError  # it stays an attribute
    return before + read

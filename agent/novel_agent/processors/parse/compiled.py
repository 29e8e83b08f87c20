"""The function of a shape: rows, decoded, to records in OTLP bytes.

Most of a record is text, so it is joined as text whose characters are the bytes (Latin-1) and turned into bytes once; a text
of ASCII then need not be encoded at all. What is binary (time, ids, doubles) stands behind it, as protobuf allows fields in any
order. What has been the same in every example is written in one piece if it is the same again, which costs a comparison a key.

A row that is not as the function was made for raises in it, and `otherwise` takes its line: the function need not know what it
cannot do. Keys are named by number in its source, so no text of a line becomes part of it.
"""

import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import (
    BEFORE_BODY,
    BEFORE_RECORD,
    AttributeWriter,
    Room,
    Table,
    decode_json,
)
from novel_agent.processors.parse.json_bytes import severity_bytes
from novel_agent.processors.parse.json_record import id_of, time_of
from novel_agent.processors.parse.kinds import VARIES, Kind
from novel_agent.processors.parse.severity import severity_number, severity_of_number
from novel_agent.processors.parse.timestamps import Formatted, ReadTime

MISFITS = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
    msgspec.DecodeError,
    struct.error,
)
"""What the function of a shape raises for a row that it was not made for."""

_MOST_SEVERITIES = 64
_LONGEST_SEVERITY = 64
_MOST_LENGTHS = 2048
_LONGEST_REMEMBERED = 512
_FEW_TEXTS = 3
_MOST_NUMBERS = 256
_NO_TRACE_ID, _NO_SPAN_ID = "0" * 32, "0" * 16
_TIME_BEFORE_FRACTION = len("2026-11-23T03:00:00.")
_LARGEST_SECOND = (1 << 64) - 1_000_000_000

_by_digits = [{f"{number:03}": number * factor for number in range(1000)} for factor in (1_000_000, 1_000, 1)]
"""Of three digits of a fraction: milliseconds, microseconds, nanoseconds; in nanoseconds."""

_pack_fixed64 = struct.Struct("<Q").pack

Encode = Callable[
    [Sequence[Any], Sequence[bytes], Sequence[str], str, Callable[[int], bytes], list[bytes], list[int]], None
]
"""Rows, their lines, the offset of each and what stands before it in its record; how to take a line otherwise, and where
records and the numbers of the rows that did not fit go."""


def latin(text: str) -> str:
    """The UTF-8 bytes of a text as characters."""
    return text.encode().decode("latin-1")


class _LatinBefore(Table):
    """As `Before`, as text."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[int], bytes], room: Room) -> None:
        self._make = make
        super().__init__(room)

    def __missing__(self, length: int) -> str:
        made = self._make(length).decode("latin-1")
        if length < _MOST_LENGTHS:
            self.put(length, made, len(made))
        return made


class _Writer:
    """Writes the attribute of one key, or the entry of an object, as text."""

    def __init__(self, key: str, room: Room, depth: int) -> None:
        self._bytes = AttributeWriter(key, room, depth)
        self.before_text = _LatinBefore(self._bytes.before_text.__missing__, room)
        self.before_object = _LatinBefore(self._bytes.before_object.__missing__, room)
        self.before_double = self._bytes.before_double
        self._numbers = Table(room)
        self._nested = Table(room)
        self._flags = [self._bytes.value(flag).decode("latin-1") for flag in (False, True)]

    def any(self, value: Any) -> str:
        kind = value.__class__
        if kind is str:
            if not value.isascii():
                value = latin(value)
            return self.before_text[len(value)] + value  # type: ignore[no-any-return]
        if value is None:
            return ""
        if kind is int:
            found: str | None = self._numbers.get(value)
            if found is None:
                found = self._bytes.any(value).decode("latin-1")
                if len(self._numbers) < _MOST_NUMBERS:
                    self._numbers.put(value, found, len(found))
            return found
        if kind is bool:
            return self._flags[1 if value else 0]
        return self._bytes.any(value).decode("latin-1")

    def raw(self, raw: Any) -> str:
        if raw is None:
            return ""
        content = bytes(raw)
        found: str | None = self._nested.get(content)
        if found is None:
            found = self._bytes.value(decode_json(content)).decode("latin-1")
            if len(content) <= _LONGEST_REMEMBERED:
                self._nested.put(content, found, len(content) + len(found))
        return found


class CompiledShape:
    """Compiles; `encode(is_ascii)` gives the function. `drift` counts rows in which something was not as in every example."""

    def __init__(
        self, kinds: dict[str, Kind], keys: LogKeys, read_time: ReadTime, room: Room, *, is_envelope: bool = False
    ) -> None:
        self.drift = 0
        self._is_envelope = is_envelope
        self._kinds = kinds
        self._keys = keys
        self._room = room
        self._names = 0
        self._taken: set[str] = set()
        self._steps: list[str] = []
        self._texts: list[str] = []
        self._parts: list[str] = []
        self._last_part = ""
        self._tail: list[str] = []
        self._tail_size = 0
        self._packed: list[tuple[str, str]] = []
        self._constant: list[str] = []
        self._guards: list[str] = []
        self._varied: list[tuple[Callable[[Any], str], str]] = []
        self._space: dict[str, Any] = {
            "before_body": _LatinBefore(BEFORE_BODY.__missing__, room), "before_record": BEFORE_RECORD, "misfits": MISFITS,
            "time": _TimeText(read_time), "severity": _SeverityText(), "trace": _IdText("\x4a\x10", 32),
            "span": _IdText("\x52\x08", 16), "must_be_text": _must_be_text, "latin": latin, "fromhex": bytes.fromhex,
            "no_trace": _NO_TRACE_ID, "no_span": _NO_SPAN_ID, "milli": _by_digits[0], "micro": _by_digits[1],
            "nano": _by_digits[2], "join": "".join,
        }  # fmt: skip
        self._read_time = read_time
        self.uses_line = is_envelope
        """Whether the function needs the lines."""
        self._write()
        self._functions: dict[bool, Encode] = {}

    def encode(self, *, is_ascii: bool) -> Encode:
        """The function; one is for rows with nothing but ASCII in them."""
        found = self._functions.get(is_ascii)
        if found is None:
            space = dict(self._space)
            exec(self._source(is_ascii=is_ascii), space)  # noqa: S102 - made of numbers only
            found = self._functions[is_ascii] = space["encode"]
        return found

    def _write(self) -> None:
        self._time()
        self._severity()
        if not self._is_envelope:
            self._body()
        self._ids()
        if not self._is_envelope:
            self._parts += self._entries(self._kinds, "r", "", 0)
        if self._constant:
            self._space["constant"] = "".join(self._constant)
            self._space["varied"] = self._drifted
            self._steps.append(f"c = constant if {' and '.join(self._guards)} else varied(r)")
            self._parts.append("c")
        self._pack()

    def _source(self, *, is_ascii: bool) -> str:
        steps = []
        for step in self._steps:
            steps.append(step)
            name = step.lstrip().partition(" = ")[0]
            if not is_ascii and name in self._texts:
                indent = step[: len(step) - len(step.lstrip())]
                steps.append(f"{indent}if not {name}.isascii(): {name} = latin({name})")
        parts = [*self._parts, "prefix", "place"] + ([self._last_part] if self._last_part else [])
        tail = "".join(f", {each}" for each in self._tail)
        size = f"len(x) + {self._tail_size}" if self._tail_size else "len(x)"
        if self._is_envelope:
            parts = [*self._parts, "prefix", "place", "before_body[len(line)]"]
            tail = "".join(f", {each}" for each in ("line", *self._tail))
            size += " + len(line)"
        width = 2 + len(self._tail) + self._is_envelope
        return "\n".join(
            (
                "def encode(rows, lines, places, prefix, otherwise, out, missed):",
                " second = zone = ''",
                " before = len(out)",
                " for r, line, place in zip(rows, lines, places):"
                if self.uses_line
                else " for r, place in zip(rows, places):",
                "  try:",
                *(f"   {step}" for step in steps),
                f"   x = join(({', '.join(parts)})).encode('latin-1')",
                f"   out += (before_record[{size}], x{tail})",
                "  except misfits:",
                f"   number = (len(out) - before - len(missed)) // {width} + len(missed)",
                "   missed.append(number)",
                "   out.append(otherwise(number))",
            )
        )

    def _name(self) -> str:
        self._names += 1
        return f"n{self._names}"

    def _value(self, key: str) -> str:
        return f"r.f{list(self._kinds).index(key)}"

    def _part(self, candidates: tuple[str, ...]) -> tuple[str, bool]:
        """The key of a part of the record, and whether it is the only one: of several only the first is understood here."""
        there = [name for name in candidates if name in self._kinds and name not in self._taken]
        if not there:
            return "", False
        self._taken.add(there[0])
        kind = self._kinds[there[0]]
        if len(there) > 1 or kind.is_raw or kind.entries is not None:
            self._steps.append(f"must_be_text({self._value(there[0])})")
        return there[0], len(there) == 1

    def _time(self) -> None:
        key, _ = self._part(self._keys.time)
        if not key:
            return
        kind = self._kinds[key]
        form = _usual(_form, kind) if kind.is_text and not isinstance(self._read_time, Formatted) else None
        if form is None:
            self._parts.append(f"time({self._value(key)})")
            return
        digits = form
        end = _TIME_BEFORE_FRACTION + digits if digits else _TIME_BEFORE_FRACTION - 1
        self._space["second_of"] = _SecondOf(self._read_time, digits)
        head = _TIME_BEFORE_FRACTION if digits else _TIME_BEFORE_FRACTION - 1
        fraction = [
            f"{name}[t[{head + 3 * n}:{head + 3 * n + 3}]]"
            for n, name in enumerate(("milli", "micro", "nano")[: digits // 3])
        ]
        self._steps += [
            f"t = {self._value(key)}",
            f"if t[:{head}] != second or t[{end}:] != zone:",
            f" base = second_of(t); second = t[:{head}]; zone = t[{end}:]",
        ]
        self._packed.append(("", " + ".join(["base", *fraction])))

    def _severity(self) -> None:
        key, _ = self._part(self._keys.severity)
        if key:
            value = self._value(key)
            self._parts.append(f"severity[{value}]" if self._kinds[key].is_text else f"severity.any({value})")

    def _body(self) -> None:
        key, _ = self._part(self._keys.body)
        if key:
            self._steps.append(f"m = {self._value(key)}")
            self._texts.append("m")
        else:
            self.uses_line = True
            self._steps.append("m = line.decode('latin-1')")
        self._parts += ["before_body[len(m)]", "m"]

    def _ids(self) -> None:
        trace, _ = self._part(self._keys.trace_id)
        span, _ = self._part(self._keys.span_id)
        written, size = "", 0
        for key, name, field, digits in ((trace, "trace", "4a10", 32), (span, "span", "5208", 16)):
            if not key:
                continue
            kind, value = self._kinds[key], self._value(key)
            if kind.is_text and _usual(len, kind) == digits:
                self._steps.append(f"i{name} = {value}")
                self._steps.append(f"if len(i{name}) != {digits} or i{name} == no_{name}: raise ValueError")
                written += f"{field}{{i{name}}}"
                size += 2 + digits // 2
            else:
                self._parts.append(f"{name}({value})")
        if written:
            self._steps.append(f"ids = fromhex(f'{written}')")
            self._steps.append(f"if len(ids) != {size}: raise ValueError")
            self._tail.append("ids")
            self._tail_size += size

    def _entries(self, kinds: dict[str, Kind], row: str, indent: str, depth: int) -> list[str]:
        """What writes the values of an object, or the attributes; adds the steps that are needed before."""
        parts: list[str] = []
        for number, (key, kind) in enumerate(kinds.items()):
            if not depth and key in self._taken:
                continue
            value = f"{row}.f{number}"
            writer = _Writer(key, self._room, depth)
            if not depth and kind.constant is not VARIES and (kind.entries is None or kind.is_one_object):
                self._one_piece(kind, value, writer)
            elif kind.is_raw:
                parts.append(self._call(writer.raw, value))
            elif kind.entries is not None:
                parts.append(self._object(kind, value, indent, depth, writer))
            elif kind.is_text:
                name = self._name()
                self._space[f"w{name}"] = writer.before_text
                self._steps.append(f"{indent}{name} = {value}")
                self._texts.append(name)
                parts += [f"w{name}[len({name})]", name]
            elif kind.is_float and not depth:
                self._packed.append((writer.before_double.decode("latin-1"), value))
                self._steps.append(f"if {value}.__class__ is not float: raise ValueError")
            else:
                parts.append(self._call(writer.any, value))
        return parts

    def _call(self, write: Callable[[Any], str], value: str) -> str:
        name = f"w{self._name()}"
        self._space[name] = write
        return f"{name}({value})"

    def _object(self, kind: Kind, value: str, indent: str, depth: int, writer: _Writer) -> str:
        name = self._name()
        self._space[f"w{name}"] = writer.before_object
        inner_kinds = list((kind.entries or {}).items())
        if not kind.is_optional and 0 < len(inner_kinds) <= _FEW_TEXTS and all(each.is_text for _, each in inner_kinds):
            return self._texts_of(inner_kinds, value, indent, depth, name)
        self._steps.append(f"{indent}o{name} = {value}")
        inner = indent
        if kind.is_optional:
            self._steps += [f"{indent}if o{name} is None: {name} = ''", f"{indent}else:"]
            inner = indent + " "
        parts = self._entries(kind.entries or {}, f"o{name}", inner, depth + 1)
        joined = f"join(({', '.join(parts)},))" if parts else f"'' if o{name} is not None else None"
        self._steps += [f"{inner}{name} = {joined}", f"{inner}{name} = w{name}[len({name})] + {name}"]
        return name

    def _texts_of(self, kinds: list[tuple[str, Kind]], value: str, indent: str, depth: int, name: str) -> str:
        """An object of a few texts, which need not be joined first."""
        pieces, sizes = [], []
        for number, (key, _) in enumerate(kinds):
            inner = self._name()
            self._space[f"w{inner}"] = _Writer(key, self._room, depth + 1).before_text
            self._steps.append(f"{indent}{inner} = {value}.f{number}")
            self._texts.append(inner)
            self._steps.append(f"{indent}p{inner} = w{inner}[len({inner})]")
            pieces += [f"p{inner}", inner]
            sizes += [f"len(p{inner})", f"len({inner})"]
        return f"w{name}[{' + '.join(sizes)}], {', '.join(pieces)}"

    def _one_piece(self, kind: Kind, value: str, writer: _Writer) -> None:
        """A value that has always been the same."""
        written = "" if kind.constant is None else writer.any(kind.constant)
        name = self._name()
        self._space[f"c{name}"] = kind.constant
        self._constant.append(written)
        self._guard(kind, kind.constant, value, f"c{name}")
        self._varied.append((writer.any if kind.entries is None else writer.raw, value[2:]))

    def _guard(self, kind: Kind, constant: Any, value: str, name: str) -> None:
        if constant is None:
            self._guards.append(f"{value} is None")
        elif kind.entries is not None:
            self._space[name] = msgspec.Raw(kind.written)
            self._guards.append(f"{value} == {name}")
        elif constant.__class__ is str:
            self._guards.append(f"{value} == {name}")
        else:
            self._guards.append(f"(v := {value}) == {name} and v.__class__ is {constant.__class__.__name__}")

    def _drifted(self, row: Any) -> str:
        """What is otherwise in one piece, piece by piece."""
        self.drift += 1
        return "".join([write(getattr(row, field) if field else row) for write, field in self._varied])

    def _pack(self) -> None:
        """Doubles and the time: the first double's beginning is the last of the text, all others stand between."""
        doubles = [each for each in self._packed if each[0]]
        times = [value for before, value in self._packed if not before]
        values: list[str] = []
        layout = "<"
        for number, (before, value) in enumerate(doubles):
            name = f"d{number}"
            if number:
                self._space[name] = before.encode("latin-1")
                layout += f"{len(before)}s"
                values.append(name)
            else:
                self._space["d"] = before
                self._last_part = "d"
            layout += "d"
            values.append(value)
        if times:
            if doubles or self._is_envelope:
                layout += "B"
                values.append("9")
            else:
                self._last_part = "'\\t'"
            layout += "Q"
            values.append(times[0])
        if values:
            packer = struct.Struct(layout)
            self._space["pack"] = packer.pack
            self._tail.insert(0, f"pack({', '.join(values)})")
            self._tail_size += packer.size


_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,](\d{3}|\d{6}|\d{9}))?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


def _usual(measure: Callable[[str], Any], kind: Kind) -> Any:
    """What most of its texts have in common."""
    return Counter(map(measure, kind.texts)).most_common(1)[0][0]


def _form(text: str) -> int | None:
    """The digits of the fraction of a time, 0, 3, 6 or 9; None where it is written in some other way."""
    found = _FORM.fullmatch(text)
    return None if found is None else len(found[1] or "")


class _SecondOf:
    """From a time of that form to its second, in nanoseconds; ValueError where it is of another."""

    def __init__(self, read_time: ReadTime, digits: int) -> None:
        self._read_time = read_time
        self._digits = digits

    def __call__(self, text: str) -> int:
        if _form(text) != self._digits:
            raise ValueError
        start = _TIME_BEFORE_FRACTION
        fraction = int(text[start : start + self._digits].ljust(9, "0")) if self._digits else 0
        second = self._read_time(text) - fraction
        if not 0 < second < _LARGEST_SECOND:
            raise ValueError
        return second


class _TimeText:
    """A text or a number to the `time_unix_nano` field."""

    def __init__(self, read_time: ReadTime) -> None:
        self._read_time = read_time

    def __call__(self, value: Any) -> str:
        if value is None:
            return ""
        nanoseconds = time_of(value, self._read_time) if value.__class__ in (str, int, float) else 0
        if not nanoseconds:
            raise ValueError  # it stays an attribute
        return "\t" + _pack_fixed64(nanoseconds).decode("latin-1")


class _SeverityText(dict[str, str]):
    """A text to the severity fields."""

    def __missing__(self, text: Any) -> str:
        if type(text) is not str:
            raise KeyError
        made = severity_bytes(severity_number(text), text).decode("latin-1")
        if len(self) < _MOST_SEVERITIES and len(text) <= _LONGEST_SEVERITY:
            self[text] = made
        return made

    def any(self, value: Any) -> str:
        """Also a number, or nothing."""
        if type(value) is str:
            return self[value]
        if value is None:
            return ""
        number = severity_of_number(value) if type(value) in (int, float) else 0
        if not number:
            raise ValueError  # it stays an attribute
        return severity_bytes(number, str(value)).decode("latin-1")


class _IdText:
    """A text of so many hexadecimal digits to the field of an id, nothing to nothing; ValueError or TypeError for others."""

    def __init__(self, before: str, digits: int) -> None:
        self._before = before
        self._digits = digits

    def __call__(self, text: Any) -> str:
        if text is None or text == "":
            return ""
        read = id_of(text, self._digits)
        if not read:
            raise ValueError  # it stays an attribute
        return self._before + read.decode("latin-1")


def _must_be_text(value: Any) -> None:
    if type(value) is not str:
        raise ValueError

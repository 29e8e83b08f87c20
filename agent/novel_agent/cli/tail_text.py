"""How `tail` shows a line: pieces of text with their colours, none of which can steer a terminal."""

import re
from datetime import date, datetime
from unicodedata import category, east_asian_width

from novel_agent.cli import screen
from novel_agent.model.value import as_text
from novel_agent.runtime.tapped import TailLine, TailSkipped, TappedLog, TappedPoint, TappedSpan

_STEERS_TERMINALS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, C1 among them, and what turns the direction of text: nobody's data may steer a terminal."""

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOURS = {"trace": "dim", "debug": "dim", "info": "green", "warn": "yellow", "error": "red", "fatal": "red"}

Piece = tuple[str, str]
"""A text and its colour, '' for none."""


def harmless(text: str) -> str:
    """The text with what could steer a terminal written as escapes."""
    return _STEERS_TERMINALS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def harmless_json(text: str) -> str:
    """JSON with such characters as its own escapes; they can only be within strings."""
    return _STEERS_TERMINALS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def describe(line: TailLine, today: date, *, attributes: bool = True) -> list[Piece]:
    """One line: nothing in it steers a terminal."""
    if isinstance(line, TailSkipped):
        return [(f"… {line.items} record{'s' * (line.items != 1)} skipped", "dim")]
    if isinstance(line, TappedLog):
        pieces = [*_log(line), *(_attributes(line) if attributes else ())]
    elif isinstance(line, TappedSpan):
        pieces = [*_span(line), *(_attributes(line) if attributes else ())]
    elif isinstance(line, TappedPoint):
        pieces = _point(line, attributes=attributes)
    else:
        return []
    head = [(f"{_when(line.time, today)} ", "dim")]
    return [*head, *((harmless(text), colour) for text, colour in pieces)]


def _log(log: TappedLog) -> list[Piece]:
    severity = log.severity or log.severity_text or "-"
    says = as_text(log.body) or log.event_name
    return [(f"{severity:6} ", _COLOURS.get(severity, "")), (_where(log), "bold"), (says, "")]


def _span(span: TappedSpan) -> list[Piece]:
    failed = span.status == "error"
    status = f"{span.status} {span.status_message}".strip()
    return [
        ("span   ", "red" if failed else ""),
        (_where(span), "bold"),
        (f"{span.name} {_duration(span.duration_seconds)} ", ""),
        (status, "red" if failed else "dim"),
        (f" trace {span.trace_id}", "dim"),
    ]


def _point(point: TappedPoint, *, attributes: bool) -> list[Piece]:
    labels = ",".join(f'{key}="{as_text(value)}"' for key, value in point.attributes.items()) if attributes else ""
    unit = f" {point.unit}" if point.unit not in ("", "1") else ""
    if point.count is None:
        shown = f"{_number(point.value)}{unit}"
    else:
        shown = f"count {point.count}" + (f" sum {_number(point.sum)}{unit}" if point.sum is not None else "")
    return [
        ("metric ", ""),
        (_where(point), "bold"),
        (point.name, ""),
        (f"{{{labels}}}" if labels else "", "dim"),
        (f" {shown}", ""),
    ]


def _attributes(line: TappedLog | TappedSpan) -> list[Piece]:
    """Those of the record; of a log record also the trace it belongs to."""
    trace = f"  trace={line.trace_id}" if isinstance(line, TappedLog) and line.trace_id else ""
    pairs = " ".join(f"{key}={as_text(value)}" for key, value in line.attributes.items())
    return [(f"{trace}{'  ' * bool(pairs)}{pairs}", "dim")]


def _where(line: TappedLog | TappedSpan | TappedPoint) -> str:
    service = f"/{line.service}" if line.service not in ("", line.source) else ""
    return f"{line.source}{service}: "


def _when(seconds: float | None, today: date) -> str:
    """The local time, with the date where that is not today's."""
    try:
        moment = datetime.fromtimestamp(seconds) if seconds is not None else None
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None:
        return "--:--:--.---"
    time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    return time if moment.date() == today else f"{moment:%Y-%m-%d} {time}"


def _duration(seconds: float) -> str:
    for unit, factor in (("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        if seconds * factor < 1000 and (seconds * factor >= 1 or unit == "s"):
            return f"{seconds * factor:.3g} {unit}" if seconds else "0 s"
    return screen.span(seconds)


def _number(number: float | None) -> str:
    return "-" if number is None else str(number) if isinstance(number, int) else f"{number:.6g}"


def fitting(pieces: list[Piece], width: int | None) -> list[Piece]:
    """As much as fits into so many columns, with … where something is left out; everything where `width` is None."""
    if width is None or sum(_columns(text) for text, _ in pieces) <= width:
        return pieces
    left = width - 1
    shown: list[Piece] = []
    for text, colour in pieces:
        fits = _beginning(text, left)
        left -= _columns(fits)
        shown.append((fits, colour))
        if len(fits) < len(text):
            break
    return [*shown, ("…", "dim")]


def _beginning(text: str, columns: int) -> str:
    if text.isascii():
        return text[: max(0, columns)]
    for index, character in enumerate(text):
        columns -= _columns(character)
        if columns < 0:
            return text[:index]
    return text


def _columns(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(_of_character(character) for character in text)


def _of_character(character: str) -> int:
    if category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1

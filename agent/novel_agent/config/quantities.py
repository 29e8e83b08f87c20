"""Durations and sizes as people write them: `15s`, `1h30m`, `64KiB`, `10MB`.

Durations follow Prometheus: whole numbers, the largest unit first, a day is 24 hours, a year 365 days; the smallest step is
one millisecond. Sizes are decimal (`kB MB GB TB`) or binary (`KiB MiB GiB TiB`) multiples of bytes. Reading is exact: what
has no exact value is refused with what to write instead.
"""

import re

_DURATION_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_WRITTEN_DURATION_UNITS = ("d", "h", "m", "s", "ms")
_LONGEST_MS = 292 * 365 * 86_400_000
"""What a signed 64-bit count of nanoseconds holds, as in Prometheus."""

_SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_WRITTEN_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")
_LARGEST_BYTES = (1 << 63) - 1

DURATION_PATTERN = "0|(?=[0-9])" + "".join(f"(?:[0-9]+{unit})?" for unit in _DURATION_UNITS_MS)
SIZE_PATTERN = "0|" + rf"[0-9]+(?:\.[0-9]+)? ?(?:{'|'.join(_SIZE_UNITS)})"

_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in _DURATION_UNITS_MS))
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))? ?([A-Za-z]+)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MOST_DIGITS = 40

_DURATION_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("week", "weeks"), "w"),
    **dict.fromkeys(("msec", "msecs", "millisecond", "milliseconds"), "ms"),
}
_SIZE_WORDS = {
    **dict.fromkeys(("b", "byte", "bytes"), "B"),
    **{unit.lower(): unit for unit in ("kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")},
    **{prefix: f"{prefix.upper()}iB" for prefix in ("k", "m", "g", "t")},
    **{f"{prefix}i": f"{prefix.upper()}iB" for prefix in ("k", "m", "g", "t")},
}


def parse_duration(text: str) -> float:
    """Seconds, exact to the millisecond. ValueError says what is wrong and what would be right."""
    match = _DURATION.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    if text == "0":
        return 0.0
    if not match or not text:
        raise ValueError(_duration_problem(text))
    milliseconds = sum(
        int(count) * unit for count, unit in zip(match.groups(), _DURATION_UNITS_MS.values(), strict=True) if count
    )
    if milliseconds > _LONGEST_MS:
        raise ValueError("is longer than 292 years")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """The shortest exact text in days and smaller units; ValueError for what milliseconds cannot express."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 0 or milliseconds / 1000 != seconds:
        raise ValueError(f"{seconds!r} s is not a whole number of milliseconds")
    return _written_duration(milliseconds)


def _written_duration(milliseconds: int) -> str:
    parts = []
    for unit in _WRITTEN_DURATION_UNITS:
        count, milliseconds = divmod(milliseconds, _DURATION_UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _duration_problem(text: str) -> str:
    if not text:
        return "is empty; write a duration such as 15s"
    if text.startswith("-"):
        return "is negative; write a duration such as 15s"
    if len(text) > _MOST_DIGITS:
        return "is too long for a duration; write one such as 15s or 1h30m"
    if _NUMBER.fullmatch(text):
        return f"has no unit; write {text}s if seconds are meant" if "." not in text else _no_fraction(text, "s")
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        return "is not a duration; write one such as 500ms, 15s, 5m, 1h30m or 7d"
    for count, unit in parts:
        right = unit if unit in _DURATION_UNITS_MS else _DURATION_WORDS.get(unit.lower(), unit.lower())
        if right not in _DURATION_UNITS_MS:
            return f"has the unknown unit {unit}; known are {', '.join(reversed(_DURATION_UNITS_MS))}"
        if "." in count:
            return _no_fraction(count, right)
    return _rewritten(parts)


def _rewritten(parts: list[tuple[str, str]]) -> str:
    total: dict[str, int] = {}
    for count, unit in parts:
        right = unit if unit in _DURATION_UNITS_MS else _DURATION_WORDS.get(unit.lower(), unit.lower())
        total[right] = total.get(right, 0) + int(count)
    written = "".join(f"{total[unit]}{unit}" for unit in _DURATION_UNITS_MS if unit in total)
    return f"is not written as a duration is; write {written}"


def _no_fraction(count: str, unit: str) -> str:
    whole, _, fraction = count.partition(".")
    scaled = int(whole + fraction) * _DURATION_UNITS_MS[unit]
    milliseconds, rest = divmod(scaled, 10 ** len(fraction))
    right = "whole numbers such as 1h30m" if rest else _written_duration(milliseconds)
    return f"has a fraction; write {right}"


def parse_size(text: str) -> int:
    """Bytes. A fraction is fine where it makes whole bytes (`1.5GiB`). ValueError says what would be right."""
    if text == "0":  # which needs no unit
        return 0
    match = _SIZE.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    if not match or match[3] not in _SIZE_UNITS:
        raise ValueError(_size_problem(text, match))
    whole, fraction, unit = match[1], match[2] or "", match[3]
    size_bytes: int
    size_bytes, rest = divmod(int(whole + fraction) * _SIZE_UNITS[unit], 10 ** len(fraction))
    if rest:
        raise ValueError("is not a whole number of bytes")
    if size_bytes > _LARGEST_BYTES:
        raise ValueError("is larger than 8388607TiB")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact text, binary units first where both are as short."""
    if size_bytes < 0:
        raise ValueError(f"{size_bytes} is negative")
    if not size_bytes:
        return "0B"
    candidates = [
        f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
        for unit in reversed(_WRITTEN_SIZE_UNITS)
        if size_bytes % _SIZE_UNITS[unit] == 0
    ]
    return min(candidates, key=lambda text: len(text.rstrip("BKMGTik")))


def _size_problem(text: str, match: "re.Match[str] | None") -> str:
    if not text:
        return "is empty; write a size such as 64MiB"
    if text.startswith("-"):
        return "is negative; write a size such as 64MiB"
    if len(text) <= _MOST_DIGITS and _NUMBER.fullmatch(text):
        return f"has no unit; write {text}B if bytes are meant, or a size such as 64MiB"
    if not match:
        return "is not a size; write one such as 64KiB, 10MB or 512MiB"
    right = _SIZE_WORDS.get(match[3].lower())
    if right:
        return f"has the unknown unit {match[3]}; write {text[: match.start(3)].rstrip()}{right}"
    return f"has the unknown unit {match[3]}; known are {', '.join(_WRITTEN_SIZE_UNITS)}"

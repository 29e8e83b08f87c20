"""Times as programs write them, to nanoseconds since the epoch.

Read are RFC 3339 and ISO 8601 (a blank, `T` or `t` between date and time, a point or a comma before the fraction, seconds and
zone optional), Unix times in seconds, milliseconds, microseconds or nanoseconds, told apart by their size, and a format of
`strptime` where one is given. A fraction keeps nine digits. A time without a zone is of the configured one; where its
clock was set back the first of the two is meant.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

ReadTime = Callable[[str], int]
"""From a time as it is written to nanoseconds since the epoch; ValueError where it is none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 1_000_000_000
_UINT64_LIMIT = 1 << 64
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,20}))?)? ?([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_NUMBER = re.compile(r"(\d{9,19})(?:[.,](\d{1,20}))?", re.ASCII)
_REMEMBERED = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d[.,])(\d{3}|\d{6}|\d{9})([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_FACTORS = {3: 1_000_000, 6: 1_000, 9: 1}
_FRACTION = re.compile(r"[.,](\d+)")


def make_read_time(zone_name: str = "UTC", time_format: str | None = None) -> ReadTime:
    """How the times of a source are read. KeyError (ZoneInfoNotFoundError) where the machine does not know the zone."""
    zone = _zone(zone_name)
    if time_format is not None:
        return Formatted(time_format, zone)
    return _Known(zone)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def nanoseconds_of(moment: datetime) -> int:
    """Of a time with a zone, to the microsecond; ValueError before the epoch or after the year 2554."""
    passed = moment - _EPOCH
    return checked(((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1_000)


def unix_nanoseconds(number: float) -> int:
    """A Unix time whose unit its size tells, from 2001 on to the year 5138; ValueError for what can be none."""
    if number != number or not 1e8 <= number < 1e20:
        raise ValueError("no Unix time")
    if number < 1e11:
        factor = _NANOS
    elif number < 1e14:
        factor = 1_000_000
    elif number < 1e17:
        factor = 1_000
    else:
        factor = 1
    if isinstance(number, int):
        return checked(number * factor)
    return checked(int(number) * factor + round((number % 1) * factor))


def checked(nanoseconds: int) -> int:
    """The same, where OTLP can hold it; else ValueError."""
    if not 0 <= nanoseconds < _UINT64_LIMIT:
        raise ValueError("before the epoch, or too late")
    return nanoseconds


class _Known:
    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def __call__(self, text: str) -> int:
        found = _ISO.fullmatch(text)
        if found is None:
            return _unix(text)
        date, minutes, seconds, fraction, zone = found.groups()
        leap = seconds == "60"
        moment = datetime.fromisoformat(f"{date} {minutes}:{'59' if leap else seconds or '00'}")
        moment = moment.replace(tzinfo=_offset(zone) if zone else self._zone)
        whole = nanoseconds_of(moment) + (_NANOS if leap else 0)
        return checked(whole + (int(fraction[:9].ljust(9, "0")) if fraction else 0))


def _unix(text: str) -> int:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError("no time")
    whole, fraction = found.groups()
    nanoseconds = unix_nanoseconds(int(whole))
    if not fraction:
        return nanoseconds
    factor = nanoseconds // int(whole)
    digits = len(str(factor)) - 1
    return nanoseconds + int(fraction[:digits].ljust(digits, "0") or "0")


@lru_cache(maxsize=128)
def _offset(zone: str) -> tzinfo:
    if zone in ("Z", "z", "UTC", "GMT"):
        return UTC
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return datetime.strptime(f"{zone[0]}{digits}", "%z").tzinfo or UTC


class Formatted:
    """By `strptime`; a fraction that it cannot hold, of more than six digits, is cut out first and added again."""

    def __init__(self, time_format: str, zone: tzinfo) -> None:
        self._format = time_format
        self._zone = zone
        self._has_fraction = "%f" in time_format

    def __call__(self, text: str) -> int:
        further = 0
        if self._has_fraction and (found := _FRACTION.search(text)) and len(found[1]) > 6:
            further = int(found[1][6:9].ljust(3, "0"))
            text = text[: found.start(1) + 6] + text[found.end() :]
        moment = datetime.strptime(text, self._format)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone)
        return nanoseconds_of(moment) + further


class Remembered:
    """The same times, read faster where they are of the second of the time before, to the microsecond or millisecond."""

    def __init__(self, read_time: ReadTime) -> None:
        self._read_time = read_time
        self._second = self._rest = ""
        self._digits = 0
        self._factor = 1
        self._nanoseconds = 0

    def __call__(self, text: str) -> int:
        """Nanoseconds since the epoch; ValueError."""
        end = 20 + self._digits
        if text[:20] == self._second and text[end:] == self._rest:
            fraction = text[20:end]
            if len(fraction) == self._digits and fraction.isascii() and fraction.isdigit():
                return self._nanoseconds + int(fraction) * self._factor
        return self._read(text)

    def _read(self, text: str) -> int:
        nanoseconds = self._read_time(text)
        found = _REMEMBERED.fullmatch(text)
        if found is not None:
            self._second, fraction, self._rest = found.groups()
            self._digits = len(fraction)
            self._factor = _FACTORS[self._digits]
            self._nanoseconds = nanoseconds - int(fraction) * self._factor
        return nanoseconds

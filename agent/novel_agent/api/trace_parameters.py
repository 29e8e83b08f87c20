"""The query parameters of the two groups of trace paths; `BadParameter` says which is wrong and what would be right."""

import math
import re
from collections.abc import Collection
from datetime import datetime

import msgspec

from novel_agent.serving.aiohttp_web import web

_DURATION_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?)(ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]{1,18}")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,12})?")
_HEX = re.compile(r"[0-9a-fA-F]{1,32}")
_MOST_CHARACTERS_SHOWN = 100


class BadParameter(ValueError):  # noqa: N818 - it is what the client sent
    """A parameter that cannot be used."""

    def __init__(self, name: str, sent: str, right: str) -> None:
        super().__init__(f"{name}={sent[:_MOST_CHARACTERS_SHOWN]}: {right}")


class Parameters:
    """The query of one request. An empty parameter is none."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query

    def check_names(self, known: Collection[str]) -> None:
        """Refuse a parameter nobody reads, so that a slip of the pen is not taken for "everything"."""
        for name, sent in self._query.items():
            if name not in known:
                raise BadParameter(name[:_MOST_CHARACTERS_SHOWN], sent, f"not known here; there are {', '.join(known)}")

    def text(self, name: str) -> str | None:
        """As it is."""
        return self._query.get(name) or None

    def every(self, name: str) -> list[str]:
        """Each of a parameter that may stand several times."""
        return [text for text in self._query.getall(name, []) if text]

    def flag(self, name: str) -> bool:
        """`true` or `false`, which is the default."""
        sent = self.text(name)
        if sent not in (None, "true", "false"):
            raise BadParameter(name, sent or "", "write true or false")
        return sent == "true"

    def whole(self, name: str, default: int) -> int:
        """A number without sign."""
        sent = self.text(name)
        if sent is None:
            return default
        if not _NUMBER.fullmatch(sent):
            raise BadParameter(name, sent, "write a whole number")
        return int(sent)

    def limit(self, default: int, most: int) -> int:
        """How many traces are asked for."""
        number = self.whole("limit", default)
        if not 1 <= number <= most:
            raise BadParameter("limit", str(number), f"write a number from 1 to {most}")
        return number

    def duration(self, name: str) -> int | None:
        """Nanoseconds, written as Go writes durations: `1.5s`, `250ms`, `1m30s`."""
        sent = self.text(name)
        if sent is None or sent == "0":
            return None if sent is None else 0
        if _DURATION_PART.sub("", sent):
            raise BadParameter(name, sent, "write a duration such as 250ms, 1.5s or 1m30s")
        return round(sum(float(count) * _DURATION_UNITS[unit] for count, unit in _DURATION_PART.findall(sent)))

    def durations(self, shortest: str, longest: str) -> tuple[int, int | None]:
        """Both bounds in nanoseconds."""
        least, most = self.duration(shortest), self.duration(longest)
        if least is not None and most is not None and most < least:
            raise BadParameter(longest, self.text(longest) or "", f"write no less than {shortest}")
        return least or 0, most

    def time(self, name: str) -> int | None:
        """Nanoseconds since the epoch, written as seconds since the epoch or as RFC 3339."""
        sent = self.text(name)
        if sent is None:
            return None
        if _SECONDS.fullmatch(sent):
            whole, _, fraction = sent.partition(".")
            return int(whole) * 1_000_000_000 + int(f"{fraction:0<9}"[:9])
        try:
            moment = datetime.fromisoformat(sent.replace(" ", "+"))
            if moment.tzinfo is not None:
                return math.floor(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
        except (ValueError, OverflowError):
            pass
        raise BadParameter(name, sent, "write seconds since the epoch, or a time such as 2026-11-28T10:00:00Z")

    def tags(self, single: str, joined: str = "") -> dict[str, str]:
        """Attributes wanted: `single=key:value`, several times, and `joined={"key":"value",…}`."""
        tags = {}
        for sent in self.every(single):
            key, colon, value = sent.partition(":")
            if not key or not colon:
                raise BadParameter(single, sent, "write key:value")
            tags[key] = value
        for sent in self.every(joined) if joined else ():
            try:
                tags |= msgspec.json.decode(sent, type=dict[str, str])
            except msgspec.DecodeError:
                raise BadParameter(joined, sent, 'write a JSON object of texts, such as {"http.route":"/x"}') from None
        return tags


def trace_id(sent: str, name: str = "trace id") -> bytes:
    """An id as people write it: up to 32 hex digits, shorter ones with zeros before them."""
    if not _HEX.fullmatch(sent):
        raise BadParameter(name, sent, "write up to 32 hexadecimal digits")
    return bytes.fromhex(sent.zfill(32))

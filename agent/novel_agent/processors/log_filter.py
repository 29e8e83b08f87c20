"""Which records go on, by severity, body and attributes."""

import re
from collections.abc import Callable

from novel_agent.config.schema import LogFilter, LogMatch
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_fields import find, highest, lowest, text_of
from novel_agent.processors.patterns import Compile

_LITERAL = re.compile(r"[\w\s/:;,=<>@%&#~'\"!-]*")
"""What stands for itself in a regular expression."""


class Matcher:
    """Tells whether a record meets every criterion that is given; without any, every record does.

    A record without a severity is in no range of severities. A body that is not text is looked at as JSON.
    """

    def __init__(self, match: LogMatch, compile_regex: Compile) -> None:
        self._lowest = lowest(match.min_severity) if match.min_severity else None
        self._highest = highest(match.max_severity) if match.max_severity else None
        self._body = _found(match.body, compile_regex) if match.body is not None else None
        self._attributes = [(name, _whole(pattern, compile_regex)) for name, pattern in match.attributes.items()]

    def __call__(self, record: LogRecord) -> bool:
        """The cheap criteria are asked first."""
        severity = record.severity_number
        if self._lowest is not None and severity < self._lowest:
            return False
        if self._highest is not None and not 0 < severity <= self._highest:
            return False
        for name, is_right in self._attributes:
            value = find(record.attributes, name)
            if value is None or not is_right(text_of(value)):
                return False
        return self._body is None or self._body(text_of(record.body))


def _found(pattern: str, compile_regex: Compile) -> Callable[[str], bool]:
    """Tells whether it is found in a text; one that is just a text needs no engine."""
    if _LITERAL.fullmatch(pattern):
        return lambda text: pattern in text
    search = compile_regex(pattern).search
    return lambda text: search(text) is not None


def _whole(pattern: str, compile_regex: Compile) -> Callable[[str], bool]:
    """Tells whether it matches the whole of a text."""
    if _LITERAL.fullmatch(pattern):
        return pattern.__eq__
    fullmatch = compile_regex(pattern).fullmatch
    return lambda text: fullmatch(text) is not None


class Filter:
    """Keeps what matches `keep`, or all but what matches `drop`."""

    reason = "filter"

    def __init__(self, config: LogFilter, compile_regex: Compile) -> None:
        self._keeps = config.keep is not None
        self._matches = Matcher(config.keep or config.drop or LogMatch(), compile_regex)

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """Those that go on."""
        keeps, matches = self._keeps, self._matches
        return [record for record in records if matches(record) is keeps]

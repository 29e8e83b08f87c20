"""Leaves attributes out, and adds some."""

from collections.abc import Iterable, Mapping

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes, Value

_DEEPEST = 50
_MOST_NAMES = 2048
_LONGEST_NAME = 256


class Wildcards:
    """Names, or patterns of names in which `*` stands for any text, dots included. Whether a name matches takes linear time."""

    def __init__(self, patterns: Iterable[str]) -> None:
        listed = list(patterns)
        self._exact = frozenset(pattern for pattern in listed if "*" not in pattern)
        self._parts = [pattern.split("*") for pattern in listed if "*" in pattern]
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        if name in self._exact:
            return True
        if not self._parts:
            return False
        known = self._known.get(name)
        if known is None:
            known = any(_fits(name, parts) for parts in self._parts)
            if len(name) <= _LONGEST_NAME:
                if len(self._known) >= _MOST_NAMES:
                    self._known.clear()
                self._known[name] = known
        return known


def _fits(name: str, parts: list[str]) -> bool:
    """Whether the text is the parts in order, with anything in between; each is taken where it comes first."""
    first, *middle, last = parts
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


class DropAttributes:
    """Leaves out what is named; within an attribute that holds others by both names with a dot between.

    What then holds nothing any more is left out as well.
    """

    reason = ""

    def __init__(self, patterns: Iterable[str]) -> None:
        listed = list(patterns)
        self._dropped = Wildcards(listed)
        self._looks_within = any("." in pattern or "*" in pattern for pattern in listed)

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """The same records, edited in place."""
        for record in records:
            record.attributes = self._left(record.attributes, "", 0)
        return records

    def _left(self, attributes: Attributes, within: str, depth: int) -> Attributes:
        """The same object where nothing is left out."""
        dropped, looks_within = self._dropped, self._looks_within and depth < _DEEPEST
        left: Attributes = {}
        changed = False
        for key, value in attributes.items():
            name = within + key
            if name in dropped:
                changed = True
                continue
            if looks_within and isinstance(value, dict) and value:
                inner: Value = self._left(value, f"{name}.", depth + 1)
                changed = changed or inner is not value
                if not inner:
                    continue
                value = inner
            left[key] = value
        return left if changed else attributes


class AddAttributes:
    """Adds attributes, over what is there under the same key."""

    reason = ""

    def __init__(self, added: Mapping[str, str]) -> None:
        self._added: Attributes = dict(added)

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """The same records, edited in place."""
        for record in records:
            record.attributes = record.attributes | self._added
        return records

"""Takes secrets and personal data out of records: body, attributes with lists and maps within, and names given to events."""

import re

from novel_agent.config.schema import Redaction
from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes, Value
from novel_agent.processors.log_fields import UID
from novel_agent.processors.patterns import Compile
from novel_agent.processors.redact_text import REDACTED, TextRedactor

_DEEPEST = 50
_OWN_UID = re.compile(r"[0-9a-f]{16,32}-[0-9a-f]+")
_MOST_REMEMBERED = 2048
_LONGEST_REMEMBERED = 256


class LogRedactor:
    """Replaces what is configured by `[redacted]`; of a text the part that matches, of a named attribute the whole value.

    An attribute is named by its own key, wherever it stands. The `log.record.uid` that the agent gave is left alone: digits of
    it might look like the number of a card. What is nested deeper than 50 is replaced whole.
    """

    reason = ""

    def __init__(self, config: Redaction, compile_regex: Compile) -> None:
        self._names = [compile_regex(pattern) for pattern in config.attributes]
        self._text = TextRedactor(config.patterns, config.values, compile_regex).of_text
        self._hides: dict[str, bool] = {}
        self._remembered: dict[str, str] = {}
        self.edited = 0
        """Values that were changed; of a body or an attribute that holds others, it alone is counted."""

    def __call__(self, records: list[LogRecord], now: float) -> list[LogRecord]:
        """The same records, edited in place."""
        for record in records:
            self._record(record)
        return records

    def _record(self, record: LogRecord) -> None:
        body = self._value(record.body, 0)
        if body is not record.body:
            record.body = body
            self.edited += 1
        for field in ("severity_text", "event_name"):
            before = getattr(record, field)
            if before and (after := self._looked_at(field, before)) != before:
                setattr(record, field, after)
                self.edited += 1
        changed = self._changed(record.attributes, 0)
        if changed:
            record.attributes = record.attributes | changed
            self.edited += len(changed)

    def _changed(self, attributes: Attributes, depth: int) -> Attributes:
        """Those that must be written anew."""
        changed: Attributes = {}
        remembered, names = self._remembered, self._names
        for name, value in attributes.items():
            if names and self._is_hidden(name):
                after: Value = REDACTED
            elif isinstance(value, str):
                after = remembered[value] if value in remembered else self._looked_at(name, value)
            elif isinstance(value, (bytes, dict, list)):
                after = self._value(value, depth)
            else:
                continue
            if after is not value and after != value:
                changed[name] = after
        return changed

    def _looked_at(self, name: str, text: str) -> str:
        """The text of an attribute; what is short is remembered."""
        after = self._remembered.get(text)
        if after is not None or (name == UID and _OWN_UID.fullmatch(text)):
            return text if after is None else after
        after = self._text(text)
        if len(text) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = after
        return after

    def _value(self, value: Value, depth: int) -> Value:
        """The same object where nothing is changed in it."""
        if isinstance(value, str):
            after = self._text(value)
            return value if after == value else after
        if isinstance(value, bytes):
            return self._bytes(value)
        if isinstance(value, (dict, list)):
            return self._nested(value, depth + 1)
        return value

    def _bytes(self, value: bytes) -> Value:
        """Bytes that are a text with something to take out become that text without it."""
        before = value.decode("utf-8", "replace")
        after = self._text(before)
        return value if after == before else after

    def _nested(self, value: "dict[str, Value] | list[Value]", depth: int) -> Value:
        if depth > _DEEPEST:
            return REDACTED
        if isinstance(value, dict):
            changed = self._changed(value, depth)
            return value | changed if changed else value
        after = [self._value(each, depth) for each in value]
        same = all(one is other for one, other in zip(value, after, strict=True))
        return value if same else after

    def _is_hidden(self, name: str) -> bool:
        """Whether a pattern of names matches it whole; short names are remembered."""
        hidden = self._hides.get(name)
        if hidden is None:
            hidden = any(pattern.fullmatch(name) is not None for pattern in self._names)
            if len(name) <= _LONGEST_REMEMBERED:
                if len(self._hides) >= _MOST_REMEMBERED:
                    self._hides.clear()
                self._hides[name] = hidden
        return hidden

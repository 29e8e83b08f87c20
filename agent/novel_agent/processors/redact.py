"""Takes secrets and personal data out of spans, on bytes: only what matches is written anew.

Every text of a span is looked at: its name, status message and `tracestate`, attributes, those of its events and links, lists
and maps within them, byte strings, numbers that may be those of cards, keys (with the built-in patterns), and the attributes,
names, versions and schema URLs of resource and scope. What a built-in pattern cannot match for want of a byte that it needs is
not even taken apart. The patterns themselves are in `processors.redact_text`.
"""

import re
from collections.abc import Callable, Mapping
from struct import unpack

from novel_agent.config.schema import Redaction
from novel_agent.processors.patterns import Compile, compile_re
from novel_agent.processors.redact_text import REDACTED, TextRedactor, is_card_number
from novel_agent.processors.span_bytes import (
    SLICE_BYTES,
    SPAN_BYTES,
    Edited,
    Editing,
    Scope,
    edited,
    field,
    finished,
    join,
    read_varint,
    split,
    walk,
)
from novel_agent.wire.protobuf import WireError

_REDACTED_VALUE = field(0x0A, REDACTED.encode())
_DEEPEST = 50
"""As deep as the receiver lets values be, which bounds messages within messages to 100."""
_MOST_REMEMBERED = 2048
_LONGEST_REMEMBERED = 256

_KEY, _VALUE = 0x0A, 0x12
_STRING, _INT, _DOUBLE, _ARRAY, _KEY_VALUES, _BYTES = 0x0A, 0x18, 0x21, 0x2A, 0x32, 0x3A
_LARGE_NUMBER = re.compile(rb"(?s:\x18[\x80-\xff]{5,9}[\x00-\x7f]|\x21.{7}[\x42\x43])")
"""What an AnyValue with a number from 10**12 to 10**16 looks like."""
_OF_SAMPLING = re.compile(rb"[ \t]*ot=(?:th|rv):[0-9a-fA-F]{1,14}(?:;(?:th|rv):[0-9a-fA-F]{1,14})?[ \t]*")


class Redactor:
    """Replaces what is configured by `[redacted]`; of a text the part that matches, of a named attribute the whole value."""

    def __init__(self, config: Redaction, compile_regex: Compile = compile_re) -> None:
        self._names = [compile_regex(pattern) for pattern in config.attributes]
        self._texts = TextRedactor(config.patterns, config.values, compile_regex)
        self._always = bool(self._names or self._texts.values)
        self._possible = self._texts.built_in
        self._cards = "card" in config.patterns
        self._numbers = self._cards
        self._remembered: dict[bytes, bytes | None] = {}
        self._changes = 0
        self._span_edits = {
            0x1A: self._trace_state,
            0x2A: self._text,
            0x4A: self._attribute,
            0x5A: self._inner({0x12: self._text, 0x1A: self._attribute}),
            0x6A: self._inner({0x1A: self._trace_state, 0x22: self._attribute}),
            0x7A: self._inner({0x12: self._text}),
        }
        self._resource_edits = {0x0A: self._inner({0x0A: self._attribute}), 0x1A: self._text}
        of_scope = {0x0A: self._text, 0x12: self._text, 0x1A: self._attribute}
        self._scope_edits = {0x0A: self._inner(of_scope), 0x1A: self._text}

    def __call__(self, payload: bytes) -> Edited:
        """The traces payload without what is to be taken out, and how many values were changed."""
        return finished(self.editing(payload))

    def editing(self, payload: bytes) -> Editing:
        """The same in slices of some 10 ms; others may be edited meanwhile."""
        changes = 0
        self._possible = [each for each in self._texts.built_in if each.hint(payload)]
        self._numbers = self._cards and _LARGE_NUMBER.search(payload) is not None
        if not self._possible and not self._always and not self._numbers:
            return Edited(payload, 0)
        sought = self._possible, self._numbers
        resources = split(payload)
        done_bytes = 0
        for number, resource in enumerate(resources):
            for index, scope in enumerate(resource.scopes):
                self._changes = 0
                spans = []
                for span in scope.spans:
                    if done_bytes > SLICE_BYTES:
                        done_bytes, changes = 0, changes + self._changes
                        yield
                        self._changes = 0
                        self._possible, self._numbers = sought
                    spans.append(self._part(span, self._span_edits))
                    done_bytes += SPAN_BYTES + len(span)
                resource.scopes[index] = Scope(self._part(scope.rest, self._scope_edits), spans)
                changes += self._changes
            self._changes = 0
            resources[number] = resource._replace(rest=self._part(resource.rest, self._resource_edits))
            changes += self._changes
        return Edited(join(resources), changes) if changes else Edited(payload, 0)

    def _part(self, message: bytes, edits: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
        if (
            self._always
            or any(each.hint(message) for each in self._possible)
            or (self._numbers and _LARGE_NUMBER.search(message))
        ):
            return edited(message, edits)
        return message

    def _inner(self, edits: Mapping[int, Callable[[bytes], bytes]]) -> Callable[[bytes], bytes]:
        return lambda message: edited(message, edits)

    def _attribute(self, content: bytes) -> bytes:
        """A KeyValue; what was seen lately is looked up."""
        try:
            after = self._remembered[content]
        except KeyError:
            redacted = self._key_value(content, 0)
            after = None if redacted is content else redacted
            if len(content) <= _LONGEST_REMEMBERED:
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[content] = after
        if after is None:
            return content
        self._changes += 1
        return after

    def _text(self, content: bytes) -> bytes:
        """A text of its own."""
        after = self._texts.of_bytes(content)
        if after is not content:
            self._changes += 1
        return after

    def _trace_state(self, content: bytes) -> bytes:
        """What sampling says stays: its digits mean nothing else."""
        if b"ot=" not in content:
            return self._text(content)
        members = content.split(b",")
        after = [each if _OF_SAMPLING.fullmatch(each) else self._texts.of_bytes(each) for each in members]
        if after == members:
            return content
        self._changes += 1
        return b",".join(after)

    def _key_value(self, content: bytes, depth: int) -> bytes:
        if self._names:
            key = b""
            for tag, _, start, stop in walk(content):
                if tag == _KEY:
                    key = content[start:stop]
            name = key.decode("utf-8", "replace")
            if any(pattern.fullmatch(name) for pattern in self._names):
                return edited(content, {_KEY: self._texts.of_name, _VALUE: _hidden})
        return edited(content, {_KEY: self._texts.of_name, _VALUE: lambda value: self._value(value, depth + 1)})

    def _value(self, content: bytes, depth: int) -> bytes:
        """An AnyValue."""
        if depth > _DEEPEST:
            raise WireError(f"values nested deeper than {_DEEPEST}")
        if self._cards and _LARGE_NUMBER.search(content) and _has_card_number(content):
            return _REDACTED_VALUE
        return edited(
            content,
            {
                _STRING: self._texts.of_bytes,
                _BYTES: self._texts.of_bytes,
                _ARRAY: lambda values: edited(values, {0x0A: lambda value: self._value(value, depth + 1)}),
                _KEY_VALUES: lambda pairs: edited(pairs, {0x0A: lambda pair: self._key_value(pair, depth + 1)}),
            },
        )


def _has_card_number(content: bytes) -> bool:
    """Of an AnyValue."""
    for tag, _, start, stop in walk(content):
        if tag == _INT and is_card_number(read_varint(content, start)[0]):
            return True
        if tag == _DOUBLE and is_card_number(unpack("<d", content[start:stop])[0]):
            return True
    return False


def _hidden(value: bytes) -> bytes:
    return value if value == _REDACTED_VALUE else _REDACTED_VALUE

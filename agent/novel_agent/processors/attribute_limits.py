"""Cuts what a span carries to what it may carry, on bytes: only a span that is beyond a limit is written anew.

The limits are those of the OpenTelemetry SDK (specification: common/README.md, trace/sdk.md, "Span Limits"): what comes first
is kept, what is dropped is added to the span's own `dropped_*_count`, and a text that is cut counts as kept. Resources have
no limits there, and none here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from novel_agent.config.schema import AttributeLimits
from novel_agent.processors.span_bytes import (
    SLICE_BYTES,
    SPAN_BYTES,
    Edited,
    Editing,
    edited,
    finished,
    join,
    read_varint,
    split,
    walk,
)
from novel_agent.wire.protobuf import WireError, integer

_DEEPEST = 50
"""As deep as the receiver lets values be, which bounds messages within messages to 100."""
_UINT32_MAX = (1 << 32) - 1
_ATTRIBUTE, _EVENT, _LINK = 0x4A, 0x5A, 0x6A
_EVENT_ATTRIBUTE, _LINK_ATTRIBUTE = 0x1A, 0x22
_STRING, _ARRAY, _KEY_VALUES, _BYTES = 0x0A, 0x2A, 0x32, 0x3A


class _Bound(NamedTuple):
    """Of a repeated field: most of it, and the tag of the field that counts what was dropped."""

    most: int
    dropped: int


class AttributeLimiter:
    """Holds spans to the limits of a configuration."""

    def __init__(self, limits: AttributeLimits) -> None:
        self._length = limits.value_length
        self._span_bounds = {
            _ATTRIBUTE: _Bound(limits.count, 0x50),
            _EVENT: _Bound(limits.events, 0x60),
            _LINK: _Bound(limits.links, 0x70),
        }
        self._event_bounds = {_EVENT_ATTRIBUTE: _Bound(limits.count, 0x20)}
        self._link_bounds = {_LINK_ATTRIBUTE: _Bound(limits.count, 0x28)}
        # A field has its tag among the bytes of the span, or, written longer than it need be, the tag and a set top bit.
        self._tags = [
            (bytes([tag]), bytes([tag | 0x80]), bound.most)
            for bounds in (self._span_bounds, self._event_bounds, self._link_bounds)
            for tag, bound in bounds.items()
        ]
        self._span_edits = {
            _ATTRIBUTE: self._attribute,
            _EVENT: lambda event: edited(self._fewer(event, self._event_bounds), {_EVENT_ATTRIBUTE: self._attribute}),
            _LINK: lambda link: edited(self._fewer(link, self._link_bounds), {_LINK_ATTRIBUTE: self._attribute}),
        }
        self._changes = 0

    def __call__(self, payload: bytes) -> Edited:
        """The traces payload within the limits, and how many values were dropped or cut."""
        return finished(self.editing(payload))

    def editing(self, payload: bytes) -> Editing:
        """The same in slices of some 10 ms; others may be edited meanwhile."""
        changes = done_bytes = 0
        resources = split(payload)
        for resource in resources:
            for scope in resource.scopes:
                for index, span in enumerate(scope.spans):
                    done_bytes += SPAN_BYTES + len(span)
                    if done_bytes > SLICE_BYTES:
                        done_bytes = 0
                        yield
                    if not self._within(span):
                        self._changes = 0
                        scope.spans[index] = self._limited(span)
                        changes += self._changes
        return Edited(join(resources), changes) if changes else Edited(payload, 0)

    def _limited(self, span: bytes) -> bytes:
        fewer = self._fewer(span, self._span_bounds)
        return fewer if self._within(fewer) else edited(fewer, self._span_edits)

    def _within(self, span: bytes) -> bool:
        """Whether the span cannot be beyond any limit, by its bytes alone."""
        if len(span) > self._length:
            return False
        for tag, longer, most in self._tags:  # noqa: SIM110 - all() takes twice the time
            if span.count(tag) + span.count(longer) > most:
                return False
        return True

    def _fewer(self, message: bytes, bounds: Mapping[int, _Bound]) -> bytes:
        """The message without the fields that are beyond their bounds, and with its counts raised."""
        seen = dict.fromkeys(bounds, 0)
        fields = list(walk(message))
        for tag, _, _, _ in fields:
            if tag in seen:
                seen[tag] += 1
        dropped = {bound.dropped: seen[tag] - bound.most for tag, bound in bounds.items() if seen[tag] > bound.most}
        if not dropped:
            return message
        self._changes += sum(dropped.values())
        parts: list[bytes] = []
        left = {tag: bound.most for tag, bound in bounds.items()}
        for tag, start, content, stop in fields:
            if tag in dropped:
                dropped[tag] += read_varint(message, content)[0]
                continue
            if tag in left:
                left[tag] -= 1
                if left[tag] < 0:
                    continue
            parts.append(message[start:stop])
        parts += (integer(tag >> 3, min(number, _UINT32_MAX)) for tag, number in dropped.items())
        return b"".join(parts)

    def _attribute(self, content: bytes) -> bytes:
        after = self._key_value(content, 0)
        if after is not content:
            self._changes += 1
        return after

    def _key_value(self, content: bytes, depth: int) -> bytes:
        if len(content) <= self._length:
            return content
        return edited(content, {0x12: lambda value: self._value(value, depth + 1)})

    def _value(self, content: bytes, depth: int) -> bytes:
        """An AnyValue."""
        if depth > _DEEPEST:
            raise WireError(f"values nested deeper than {_DEEPEST}")
        if len(content) <= self._length:
            return content
        return edited(
            content,
            {
                _STRING: self._cut_text,
                _BYTES: lambda raw: raw if len(raw) <= self._length else raw[: self._length],
                _ARRAY: lambda values: edited(values, {0x0A: lambda value: self._value(value, depth + 1)}),
                _KEY_VALUES: lambda pairs: edited(pairs, {0x0A: lambda pair: self._key_value(pair, depth + 1)}),
            },
        )

    def _cut_text(self, content: bytes) -> bytes:
        if len(content) <= self._length:
            return content
        text = content.decode("utf-8", "surrogateescape")
        return content if len(text) <= self._length else text[: self._length].encode("utf-8", "surrogateescape")

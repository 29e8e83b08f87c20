"""Cutting a large export request into pieces while it arrives, so that it never stands in memory as a whole.

A piece is a valid payload. A ResourceX or ScopeX that is larger than a piece is cut between its items; each part has its
resource, scope and schema URLs, as far as they are known by then: encoders write a schema URL last, so of a message that is
cut usually only the last part has it. A resource or scope that comes when part of its items has left is an error, because
those left under a wrong name; nobody is known to write that.
"""

import struct
from collections.abc import Callable

from novel_agent.model.batch import Signal
from novel_agent.wire.otlp_scan import (
    FIRST,
    LONG,
    RESOURCE_PARTS,
    SECOND,
    THIRD,
    Bytes,
    CutOff,
    Misformed,
    check,
    field_at,
    points_of_metric,
    three_bytes,
    too_many_parts,
)
from novel_agent.wire.otlp_scan import MOST_PARTS as MOST_PARTS_AT_ONCE
from novel_agent.wire.protobuf import LENGTH_DELIMITED, tag, varint

_ITEM: dict[Signal, str] = {"metrics": "Metric", "logs": "LogRecord", "traces": "Span"}
_ITEM_DEPTH = 4
_LARGEST_IN_RUN_BYTES = (1 << 14) + 2
MOST_PARTS = 500_000
"""Of a whole request, as `otlp_scan.MOST_PARTS` counts them: 64 MiB of usual spans are 300,000."""
PIECE_PARTS = 10_000


class _Open:
    """A ResourceX or ScopeX that is being read: where it ends, and of what stands in it the part that has not left."""

    __slots__ = ("body", "end", "head", "left", "schema_url")

    def __init__(self, end: int) -> None:
        self.end = end
        self.head = bytearray()
        self.schema_url = b""
        self.body = bytearray()
        self.left = False

    def parts(self, number: int, *inner: Bytes) -> list[Bytes]:
        """As field `number` of what holds it, with `inner` at its end."""
        parts: list[Bytes] = [self.head, self.schema_url, self.body, *inner]
        return [tag(number, LENGTH_DELIMITED), varint(sum(map(len, parts))), *parts]


class RequestSplitter:
    """Takes the body of an export request in chunks of any size and calls `emit(payload, items)` in order.

    A payload is at most about `piece_bytes`, and more only for a single item that is larger, or by the resource and scope that
    every piece of a message repeats (a piece then holds about as many bytes of items as of these). What has no items, such as
    an empty ResourceSpans, is left out where it would be a piece of its own; fields beside the request's first are left out.
    A piece has at most about `piece_parts`, the request `most_parts` (TooMany), see `otlp_scan.MOST_PARTS`.
    Deep, every item is checked to the bottom. WireError as from `scan`, and where a span, log record, metric, resource or
    scope exceeds `largest_item_bytes`; after one the splitter is of no more use, and what was emitted has been emitted.
    Memory: a few times the larger of a piece and the largest item.
    """

    def __init__(
        self,
        signal: Signal,
        emit: Callable[[bytes, int], None],
        *,
        piece_bytes: int = 1 << 20,
        largest_item_bytes: int = 16 << 20,
        piece_parts: int = PIECE_PARTS,
        most_parts: int = MOST_PARTS,
        deep: bool = False,
    ) -> None:
        self._emit = emit
        self._piece_bytes = piece_bytes
        self._largest_item_bytes = largest_item_bytes
        self._piece_parts = piece_parts
        self._most_parts = most_parts
        self._parts = 0
        self._parts_before = 0
        self._deep = deep
        self._runs = signal != "metrics" and not deep and largest_item_bytes >= _LARGEST_IN_RUN_BYTES
        self._item = _ITEM[signal]
        self._counts_points = signal == "metrics"
        self._buffer = bytearray()
        self._offset = 0
        self._skip = 0
        self._resource: _Open | None = None
        self._scope: _Open | None = None
        self._done = bytearray()
        self._items = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        self._buffer += chunk
        try:
            position = self._advance(self._buffer)
        except Misformed as error:
            raise Misformed(self._offset + error.position, error.problem) from None
        del self._buffer[:position]
        self._offset += position

    def finish(self) -> None:
        """The body is complete: the last piece is emitted."""
        if self._buffer or self._skip or self._resource is not None:
            raise CutOff(self._offset)
        self._cut()

    def _advance(self, data: bytearray) -> int:
        """Read on as far as fields are whole; gives where the first that is not begins."""
        size = len(data)
        position = 0
        while True:
            if self._skip:
                skipped = min(self._skip, size - position)
                self._skip -= skipped
                position += skipped
            if self._close(self._offset + position):
                continue
            if position == size:
                return position
            if self._scope is not None and self._runs:
                before, position = position, self._take_run(data, position, self._scope)
                if position > before:
                    continue
            try:
                key, content, end = field_at(data, position)
            except CutOff:
                return position
            after = self._take(data, position, key, content, end)
            if after == position:
                return position
            position = after

    def _close(self, position: int) -> bool:
        """Whether the innermost message ends here; it is then put into the one around it."""
        if self._scope is not None:
            assert self._resource is not None
            if position == self._scope.end:
                self._resource.body += b"".join(self._scope.parts(2)) if self._is_worth(self._scope) else b""
                self._scope = None
                return True
        elif self._resource is not None and position == self._resource.end:
            self._done += b"".join(self._resource.parts(1)) if self._is_worth(self._resource) else b""
            self._resource = None
            return True
        return False

    def _is_worth(self, message: _Open) -> bool:
        """A part that is not the first is there for what is left to say under it."""
        return bool(message.body) or not message.left

    def _take_run(self, data: bytearray, start: int, scope: _Open) -> int:
        """The whole items from `start` on that fit the piece and are written as nearly all are; see `otlp_scan`."""
        position = start
        end = min(len(data), scope.end - self._offset, start + self._room())
        unpack = three_bytes
        long = LONG
        found = 0
        most = self._parts_left()
        try:
            while position < end and found < most:
                first, low, high = unpack(data, position)
                after = position + (low + 2 if low < 0x80 else low + long[high])
                if first != SECOND or after > end:
                    break
                position = after
                found += 1
        except (IndexError, struct.error):
            pass
        scope.body += data[start:position]
        self._items += found
        self._count(found)
        return position

    def _take(self, data: bytearray, position: int, key: int, content: int, end: int) -> int:
        """Take a field or go into its message; gives where to read on, which is `position` where it is not yet whole."""
        within = self._scope or self._resource
        if within is None:
            if key == FIRST:
                self._resource = self._opened(end)
                self._count(RESOURCE_PARTS)
            else:
                self._skip = end - content
            return content
        if end > within.end - self._offset:
            raise Misformed(position, "a field longer than its message")
        if self._scope is None and key == SECOND:
            self._scope = self._opened(end)
            self._count(1)
            return content
        if end > len(data):
            self._check_size("field", position, end - position)
            return position
        self._take_whole(data, position, content, end, key, within)
        return end

    def _opened(self, end: int) -> _Open:
        if self._room() <= 0:
            self._cut()
        return _Open(self._offset + end)

    def _take_whole(self, data: bytearray, start: int, content: int, end: int, key: int, within: _Open) -> None:
        """A field that is not opened: an item, or what is said of the items around it, or unknown."""
        if key == THIRD:
            within.schema_url = bytes(data[start:end])
            self._check_size("schema URL", start, end - start)
        elif key == FIRST:
            if within.left:
                raise Misformed(start, f"a resource or scope behind more than {self._piece_bytes} bytes of its items")
            within.head += data[start:end]
            self._check_size("resource or scope", start, len(within.head))
            if self._deep:
                name = "Resource" if within is self._resource else "InstrumentationScope"
                check(name, data, content, end, _ITEM_DEPTH - 1)
        else:
            self._check_size(self._item if key == SECOND else "field", start, end - start)
            if end - start > self._room():
                self._cut()
            within.body += data[start:end]
            if key == SECOND:
                if self._deep:
                    check(self._item, data, content, end, _ITEM_DEPTH)
                items = points_of_metric(data, content, end) if self._counts_points else 1
                if items > MOST_PARTS_AT_ONCE:
                    raise too_many_parts(MOST_PARTS_AT_ONCE)
                self._items += items
                self._count(items + self._counts_points)

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > self._most_parts:
            raise too_many_parts(self._most_parts)

    def _parts_left(self) -> int:
        """How many more the piece may have."""
        return self._piece_parts - (self._parts - self._parts_before)

    def _check_size(self, what: str, position: int, size: int) -> None:
        if size > self._largest_item_bytes:
            raise Misformed(position, f"a {what} of more than {self._largest_item_bytes} bytes")

    def _room(self) -> int:
        """How many bytes more the piece may hold."""
        if self._parts_left() <= 0:
            return 0
        held = len(self._done)
        repeated = 0
        for message in (self._resource, self._scope):
            if message is not None:
                held += len(message.body)
                repeated += len(message.head) + len(message.schema_url)
        return max(self._piece_bytes, 2 * repeated) - repeated - held

    def _cut(self) -> None:
        """Emit what there is; what is open goes on under the same resource and scope."""
        parts: list[Bytes] = [self._done]
        if self._resource is not None:
            inner: list[Bytes] = []
            if self._scope is not None and self._scope.body:
                inner = self._scope.parts(2)
                self._scope.left = True
            if self._resource.body or inner:
                parts += self._resource.parts(1, *inner)
                self._resource.left = True
        if self._items:
            self._emit(b"".join(parts), self._items)
        self._items = 0
        self._parts_before = self._parts
        self._done = bytearray()
        for message in (self._resource, self._scope):
            if message is not None:
                message.body = bytearray()

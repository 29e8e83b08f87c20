"""Adding attributes to the resources of a payload by editing its bytes.

An application sends the same resource every time, so what becomes of one is remembered by its bytes: then a payload costs a
lookup and one joining of slices, a few microseconds beyond copying it.
"""

from collections.abc import Iterator, Sequence

from novel_agent.wire.otlp_scan import FIRST, CutOff, Misformed, TooMany, field_at
from novel_agent.wire.protobuf import length_delimited, varint

_FIRST_TAG = bytes([FIRST])
_MOST_REMEMBERED = 32
_LARGEST_REMEMBERED_BYTES = 16 << 10
_MOST_ADDED_BYTES = 4 << 20
"""To a payload, which has about 1 MiB: 4,000 resources that lack 1 KiB each."""
_MOST_PARTS = 1_000
"""A slice takes far more memory than a resource of few bytes; so many are joined at a time."""


class Enricher:
    """Gives every ResourceSpans, ResourceMetrics and ResourceLogs of a payload those of `attributes` that it has not.

    An attribute is its key and the content of its KeyValue (`otlp.attribute`); of a key that is there twice the first counts.
    What the sender says is never overridden, also where its value is empty. Called with a Batch's payload it returns the
    enriched one, or the same object where nothing is missing; WireError where a resource is not well formed, as far as it
    must be read for its keys, TooMany where more than 4 MiB would be added. Holds at most 1 MiB.
    """

    def __init__(self, attributes: Sequence[tuple[str, bytes]]) -> None:
        fields: dict[bytes, bytes] = {}
        for key, content in attributes:
            fields.setdefault(key.encode("utf-8", "replace"), length_delimited(1, content))
        self._fields = fields
        self._remembered: dict[bytes, bytes] = {}

    def __call__(self, payload: bytes) -> bytes:
        if not self._fields:
            return payload
        view = memoryview(payload)
        blocks: list[bytes] = []
        parts: list[bytes | memoryview] = []
        copied = position = added = 0
        size = len(payload)
        while position < size:
            tag, content, end = field_at(payload, position)
            if end > size:
                raise CutOff(position)
            if tag == FIRST:
                start, stop, resource = self._edit(payload, content, end)
                if resource:
                    grown = end - content - (stop - start) + len(resource)
                    added += len(resource) - (stop - start)
                    if added > _MOST_ADDED_BYTES:
                        raise TooMany(
                            f"so many resources that more than {_MOST_ADDED_BYTES} bytes of attributes would be added"
                        )
                    parts += (view[copied:position], _FIRST_TAG, varint(grown), view[content:start], resource)
                    copied = stop
                    if len(parts) > _MOST_PARTS:
                        blocks.append(b"".join(parts))
                        parts.clear()
            position = end
        if not copied:
            return payload
        return b"".join([*blocks, *parts, view[copied:]])

    def _edit(self, payload: bytes, begin: int, end: int) -> tuple[int, int, bytes]:
        """From where to where the content of a ResourceX is to be replaced, and by what; by nothing: leave it as it is."""
        found = 0
        position = start = content = stop = begin
        while position < end:
            tag, inner, after = field_at(payload, position)
            if tag == FIRST:
                found += 1
                start, content, stop = position, inner, after
            position = after
        if position > end:
            raise Misformed(end, "the resource's message ends within a field")
        if not found:
            return start, start, length_delimited(1, *self._fields.values())
        if found > 1:
            return start, stop, self._enriched(payload[content:stop], _merged(payload, begin, end))
        resource = payload[content:stop]
        known = self._remembered.pop(resource, None)
        if known is None:
            known = self._enriched(resource, resource)
        if len(resource) <= _LARGEST_REMEMBERED_BYTES:
            self._remembered[resource] = known
            if len(self._remembered) > _MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return start, stop, known

    def _enriched(self, resource: bytes, has: bytes) -> bytes:
        """The resource field with what is missing; empty where nothing is. `has` holds the attributes that count."""
        keys = set(_keys(has))
        missing = [field for key, field in self._fields.items() if key not in keys]
        return length_delimited(1, resource, *missing) if missing else b""


def _merged(payload: bytes, position: int, end: int) -> bytes:
    """The content of all resources of a ResourceX, which protobuf reads as one."""
    contents: list[bytes] = []
    while position < end:
        tag, content, position = field_at(payload, position)
        if tag == FIRST:
            contents.append(payload[content:position])
    return b"".join(contents)


def _keys(resource: bytes) -> Iterator[bytes]:
    """The keys of the attributes of a Resource."""
    size = len(resource)
    position = 0
    while position < size:
        tag, content, position = field_at(resource, position)
        if position > size:
            raise Misformed(size, "the Resource ends within a field")
        if tag == FIRST:
            yield _key(resource, content, position)


def _key(resource: bytes, position: int, end: int) -> bytes:
    """The key of the KeyValue whose content this is: the last, should it be there twice."""
    key = b""
    while position < end:
        tag, content, position = field_at(resource, position)
        if position > end:
            raise Misformed(end, "the KeyValue ends within a field")
        if tag == FIRST:
            key = resource[content:position]
    return key

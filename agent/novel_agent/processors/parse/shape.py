"""Lines of one application have the same keys again and again: a shape is those keys, compiled."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from novel_agent.config.schema import LogKeys
from novel_agent.processors.parse.attribute_bytes import Room
from novel_agent.processors.parse.compiled import CompiledShape
from novel_agent.processors.parse.kinds import Kind, are_names
from novel_agent.processors.parse.record import OWN_ATTRIBUTES
from novel_agent.processors.parse.timestamps import ReadTime

MOST_KEYS = 64
ENOUGH_EXAMPLES = 8
_Scalar = str | int | float | bool | None


class Shape:
    """The keys of some lines, and how they become records. TypeError or ValueError where no decoder can be made."""

    def __init__(
        self,
        kinds: dict[str, Kind],
        examples: int,
        keys: LogKeys,
        read_time: ReadTime,
        room: Room,
        *,
        envelope: frozenset[str] | None = None,
    ) -> None:
        self.kinds = kinds
        self.examples = examples
        if examples < ENOUGH_EXAMPLES:
            for kind in kinds.values():
                kind.vary()
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_row(kinds, envelope))
        self.decode = decoder.decode
        self.decode_lines = decoder.decode_lines
        self._compiled = CompiledShape(kinds, keys, read_time, room, is_envelope=envelope is not None)

    def encode(
        self,
        rows: Sequence[Any],
        lines: Sequence[bytes],
        places: Sequence[str],
        prefix: str,
        otherwise: Callable[[int], bytes],
        out: list[bytes],
        missed: list[int],
        *,
        is_ascii: bool,
    ) -> None:
        """See `compiled.Encode`; `is_ascii` where no text in the rows has another character."""
        function = self._compiled.encode(is_ascii=is_ascii)
        function(rows, lines, places, prefix, otherwise, out, missed)

    @property
    def uses_line(self) -> bool:
        """Whether `encode` needs the lines, without their newlines."""
        return self._compiled.uses_line

    def take_drift(self) -> int:
        """In how many rows, since it was last asked, something was not as in every example."""
        drift, self._compiled.drift = self._compiled.drift, 0
        return drift


def can_be_shape(keys: Collection[str]) -> bool:
    """Whether the lines with these keys may have a shape."""
    return 0 < len(keys) <= MOST_KEYS and are_names(keys) and OWN_ATTRIBUTES.isdisjoint(keys)


def _row(kinds: dict[str, Kind], envelope: frozenset[str] | None = None) -> type:
    """The type of a decoded line, or of an object in it. What is null is as if it were not there.

    Without an envelope no other key may be there; with one, none of the others that it names.
    """
    fields = []
    for number, (key, kind) in enumerate(kinds.items()):
        kept: Any = (
            Raw if kind.is_raw or kind.is_one_object else _Scalar if kind.entries is None else _row(kind.entries) | None
        )
        fields.append((f"f{number}", kept, msgspec.field(default=None, name=key)))
    for number, key in enumerate(sorted((envelope or frozenset()) - kinds.keys())):
        fields.append((f"g{number}", None, msgspec.field(default=None, name=key)))
    return msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=envelope is None)

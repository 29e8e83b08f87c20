"""What the keys of some lines have held: learned from examples, one after the other."""

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

_MOST_ENTRIES = 24
_DEEPEST = 3
_LONGEST_KEY = 256
_LONGEST_CONSTANT = 256
_TEXTS = 40
_SHORT_TEXT = 40
_INT64 = 1 << 63


class _Varies:
    """Says that a key has held different values, or one that is not worth a comparison."""


VARIES: Final = _Varies()


class Kind:
    """What a key has held so far; `was_there` where it was in every example before."""

    __slots__ = (
        "_is_scalar",
        "constant",
        "entries",
        "is_float",
        "is_optional",
        "is_raw",
        "is_text",
        "texts",
        "written",
    )

    def __init__(self, *, was_there: bool) -> None:
        self._is_scalar = False
        self.is_text = was_there
        """Always there, and always a text."""
        self.is_float = was_there
        """Always there, and always a number with a point or an exponent."""
        self.is_optional = not was_there
        """Null, or not there, at least once."""
        self.constant: Any = None
        """The only value there has been, None for null or not there; else VARIES."""
        self.texts: deque[str] = deque(maxlen=_TEXTS)
        """Some short texts that it was lately."""
        self.entries: dict[str, Kind] | None = None
        """Of what is an object, or null, with keys that can be a shape."""
        self.written = b""
        """As JSON, of what has always been the same object, written in the same way."""
        self.is_raw = False
        """A list at least once, or an object whose keys cannot be a shape, or an object once and something else once."""

    def see(self, value: Any, depth: int, *, is_first: bool) -> None:
        """One more value."""
        self._see_constant(value, is_first=is_first)
        kind = type(value)
        self.is_text &= kind is str
        self.is_float &= kind is float
        if kind is str:
            self.texts.append(value if len(value) <= _SHORT_TEXT else "")
        if value is None:
            self.is_optional = True
            return
        if self.is_raw:
            return
        self._is_scalar |= kind not in (dict, list)
        if kind is not dict:
            if kind is list or self.entries is not None:
                self._be_raw()
            return
        entries = learn(value, self.entries, depth + 1)
        if self._is_scalar or depth >= _DEEPEST or len(entries) > _MOST_ENTRIES or not are_names(entries):
            self._be_raw()
        else:
            self.entries = entries

    def miss(self) -> None:
        """It was not there."""
        self.is_text = self.is_float = False
        self.is_optional = True
        if self.constant is not None:
            self.constant = VARIES

    def vary(self) -> None:
        """Forget that the value was always the same."""
        self.constant = VARIES

    def _see_constant(self, value: Any, *, is_first: bool) -> None:
        if is_first and _can_be_constant(value):
            self.constant = value
        elif is_first or not _same(self.constant, value):
            self.constant = VARIES

    @property
    def is_one_object(self) -> bool:
        """Always the same object; it is compared as it is written."""
        return self.entries is not None and self.constant is not VARIES and bool(self.written)

    def see_written(self, written: bytes) -> None:
        """How the value that was seen last was written."""
        if self.entries is None:
            return
        if self.written not in (b"", written):
            self.constant = VARIES
        self.written = written

    def _be_raw(self) -> None:
        self.is_raw, self.entries = True, None
        self.constant = VARIES


def _can_be_constant(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(map(_can_be_constant, value.values()))
    if kind is str:
        return len(value) <= _LONGEST_CONSTANT
    if kind is int:
        return -_INT64 <= value < _INT64  # type: ignore[no-any-return]
    return kind is bool or value is None


def _same(one: Any, other: Any) -> bool:
    """Whether both are of one type and equal, all the way down; null in an object is as if it were not there."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return all(_same(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    return bool(one == other)


def learn(found: dict[str, Any], before: dict[str, Kind] | None = None, depth: int = 0) -> dict[str, Kind]:
    """The kinds that fit this object as well as those before."""
    kinds = dict(before or {})
    for key, kind in kinds.items():
        if key not in found:
            kind.miss()
    for key, value in found.items():
        known = kinds.get(key)
        if known is None:
            kinds[key] = known = Kind(was_there=before is None)
            known.see(value, depth, is_first=before is None)
        else:
            known.see(value, depth, is_first=False)
    return kinds


def are_names(keys: Iterable[str]) -> bool:
    """Whether a decoder can have these keys."""
    return not any(len(key) > _LONGEST_KEY or '"' in key or "\\" in key or not key.isprintable() for key in keys)

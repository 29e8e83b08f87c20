"""Which devices, mounts or interfaces a collector shows, as its options say."""

import re


class NameFilter:
    """Regular expressions found anywhere in a name: what `exclude` finds is left out, and so is what `include` does not find.

    Given an `include`, an `exclude` that is still `default_exclude` counts for nothing: who names what is wanted means it.
    """

    __slots__ = ("_exclude", "_include")

    def __init__(self, exclude: str, include: str | None, default_exclude: str = "") -> None:
        if include and exclude == default_exclude:
            exclude = ""
        self._exclude = re.compile(exclude).search if exclude else None
        self._include = re.compile(include).search if include else None

    def __call__(self, name: str) -> bool:
        """Whether the name is shown."""
        if self._exclude is not None and self._exclude(name):
            return False
        return self._include is None or self._include(name) is not None

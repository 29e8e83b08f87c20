"""What this room needs of an engine for regular expressions, so that one of linear time can be put in.

`re` backtracks: what somebody else wrote may take exponential time with it. RE2 (`re2.compile` of google-re2) fits
`Compile` as well.
"""

import re
from collections.abc import Callable
from typing import Protocol


class Pattern(Protocol):
    """A compiled regular expression on text."""

    def fullmatch(self, string: str, /) -> object | None:
        """Something where the whole text matches."""

    def search(self, string: str, /) -> object | None:
        """Something where it is found anywhere in the text."""

    def subn(self, repl: str, string: str, /) -> tuple[str, int]:
        """The text with every match replaced, and how many there were."""


Compile = Callable[[str], Pattern]


def compile_re(pattern: str) -> Pattern:
    """With Python's own engine."""
    return re.compile(pattern)

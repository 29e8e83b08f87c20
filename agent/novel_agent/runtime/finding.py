"""What an examination of the host finds."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct):
    """One thing looked at. `fix` is what to type or change; '' where nothing needs to."""

    what: str
    verdict: Literal["ok", "note", "problem"]
    says: str
    fix: str = ""

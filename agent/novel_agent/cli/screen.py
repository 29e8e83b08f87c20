"""Text for a terminal: tables, colours only where they can be seen, and numbers as people say them."""

import os
import sys
from collections.abc import Iterable, Sequence

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "dim": 2, "bold": 1}
_OF_STATE = {
    "healthy": "green", "up": "green", "idle": "dim", "delivering": "green", "no data": "dim", "resting": "yellow",
    "degraded": "yellow", "unhealthy": "red", "failing": "red", "hung": "red", "restarting": "red",
    "waiting to retry": "yellow", "stopped": "dim",
}  # fmt: skip


def colour(text: str, name: str) -> str:
    """The text in a colour, where standard output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def state(text: str, width: int = 0) -> str:
    """A state in its colour, padded."""
    return colour(f"{text:{width}}", _OF_STATE.get(text, "bold"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, states: int | None = None) -> str:
    """Columns under a head; numbers to the right. Column `states` is coloured."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(head[i]), *(len(row[i]) for row in cells)) if cells else len(head[i]) for i in range(len(head))]
    right = [bool(cells) and all(_numeric(row[i]) for row in cells) for i in range(len(head))]

    def line(row: Sequence[str], *, coloured: bool = False) -> str:
        shown = []
        for i, cell in enumerate(row):
            padded = cell.rjust(widths[i]) if right[i] else cell.ljust(widths[i])
            shown.append(state(cell, widths[i]) if coloured and i == states else padded)
        return ("  " + "  ".join(shown)).rstrip()

    return "\n".join([colour(line(head), "dim"), *(line(row, coloured=True) for row in cells)])


def _numeric(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()


def size(size_bytes: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def span(seconds: float | None) -> str:
    """A length of time, in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        whole, seconds = divmod(seconds, length)
        if whole:
            parts.append(f"{whole:.0f} {unit}")
    return " ".join(parts[:2])


def ago(moment: float | None, now: float) -> str:
    """How long ago a moment was, both in seconds since the epoch."""
    if moment is None:
        return "never"
    return f"{span(max(0.0, now - moment))} ago" if now - moment >= 1 else "now"

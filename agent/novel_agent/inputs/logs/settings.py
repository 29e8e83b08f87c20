"""What of a source's configuration is about its files, and what is not configured."""

from typing import NamedTuple

from novel_agent.config.schema import LogSource
from novel_agent.inputs.logs.content import Rules

SCAN_SECONDS = 10.0
SCAN_UNWATCHED_SECONDS = 1.0
SCANNED_PER_SECOND = 1_000
"""Paths and files together, of a listing while inotify watches too: a larger number of them is listed less often."""
SCANNED_PER_SECOND_UNWATCHED = 300
RESCANNED_PER_SECOND = 4_000
"""The same, of a listing because names changed."""
CHECK_SECONDS = 1.0
QUIET_SECONDS = 5.0
HELD_SECONDS = 10.0
LOST_SECONDS = 30.0
MOST_ATTEMPTS = 3
HOT_SECONDS = 60.0
IDLE_HANDLE_SECONDS = 300.0
MOST_OPEN = 256


class Settings(NamedTuple):
    """How the files of one source are found and read."""

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    rules: Rules = Rules(1 << 20, "auto")
    start_at_end: bool = False
    inotify: bool = True
    quiet_seconds: float = QUIET_SECONDS
    most_open: int = MOST_OPEN

    @classmethod
    def of(cls, source: LogSource) -> "Settings":
        """As a source is configured."""
        return cls(
            paths=source.paths,
            exclude=source.exclude,
            rules=Rules(source.max_line_bytes, source.encoding),
            start_at_end=source.start_at == "end",
        )

"""What the agent says about itself: a constant event and key-values, one line each, to standard error.

    2026-11-23T10:15:00.123Z INFO export: delivered again destination=central after_seconds=32

Under systemd (JOURNAL_STREAM) the line starts with `<N>`, the syslog priority, and has no time of its own. An event that
repeats with the same logger and text within a minute is held back; the next one that passes carries `repeated=N`.
WARN: nothing is lost yet. ERROR: something was lost, or someone must act.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

_QUIET_SECONDS = 60.0
_MOST_EVENTS = 1_000
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_ROOT = "novel_agent"


class _Repeats(logging.Filter):
    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.getMessage() + str(sorted(getattr(record, "details", {}).items()))[:80])
        last, held_back = self._seen.get(key, (-_QUIET_SECONDS, 0))
        if self._now() - last < _QUIET_SECONDS:
            self._seen[key] = (last, held_back + 1)
            return False
        if len(self._seen) >= _MOST_EVENTS:
            self._seen.clear()
        self._seen[key] = (self._now(), 0)
        if held_back:
            record.details = {**getattr(record, "details", {}), "repeated": held_back}
        return True


class _Formatter(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix(f"{_ROOT}.")
        details = "".join(f" {key}={_quote(value)}" for key, value in getattr(record, "details", {}).items())
        line = f"{name}: {record.getMessage()}{details}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if self._journal:
            priority = _PRIORITY.get(record.levelno, 6)
            return "\n".join(f"<{priority}>{part}" for part in line.split("\n"))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = "WARN" if record.levelno == logging.WARNING else record.levelname
        return f"{stamp}.{int(record.msecs):03}Z {level} {line}"


def _quote(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text and not any(character in text for character in ' "=\n\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


def set_up(level: str, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
    """Send the agent's events to `stream` (standard error) from `level` up; called again, it replaces the earlier set-up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(journal=stream is None and "JOURNAL_STREAM" in os.environ))
    handler.addFilter(_Repeats(now))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
    outside = logging.getLogger()
    outside.handlers[:] = [handler]
    outside.setLevel(logging.WARNING)

"""The two places on this machine that log lines go to: the files of a directory, and the console."""

import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import msgspec

from monitoring._log_files import LogFiles
from monitoring._log_writer import Line

MAIN_FILE = "novel-engine.log"
FILES: Mapping[str, str] = {"security": "security.log", "performance": "performance.log", "audit": "audit.log"}
"""By category; what is not here goes to the main file."""

_PIPE_BYTES = select.PIPE_BUF
_KNOWN = ("timestamp", "level", "category", "component", "message", "exception", "hostname", "process_id", "thread_id")


class FileSink:
    """Each line to the one file of its category; as JSON, or as text."""

    def __init__(self, files: LogFiles, *, is_json: bool, tell: Callable[[str], None]) -> None:
        self._files = files
        self._is_json = is_json
        self._tell = tell
        self._is_failing = False
        self.lost_lines = 0

    def write(self, batch: Sequence[tuple[Line, bytes]]) -> None:
        """Appends; lines that cannot be written are counted, and said to be lost once they can be again."""
        by_name: dict[str, list[bytes]] = {}
        for entry, line in batch:
            text = line if self._is_json else as_text(line)
            by_name.setdefault(FILES.get(entry.category, MAIN_FILE), []).append(text)
        for name, lines in by_name.items():
            try:
                self._files.write(name, b"".join(lines))
            except OSError as error:
                self.lost_lines += len(lines)
                if not self._is_failing:
                    self._is_failing = True
                    self._tell(f"log files cannot be written, lines are lost: {error}")
            else:
                if self._is_failing:
                    self._is_failing = False
                    self._tell(f"log files are written again; lost so far: {self.lost_lines}")

    def flush(self, timeout_seconds: float) -> None:
        """Nothing is kept."""

    def reset_in_child(self) -> None:
        """Own files, own locks."""
        self._files.reset_in_child()

    def close(self) -> None:
        """They are opened again if a line comes later."""
        self._files.close()


class ConsoleSink:
    """Standard error: text on a terminal, else as the files. Where nobody reads it, lines are left out and counted."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self.lost_lines = 0

    def write(self, batch: Sequence[tuple[Line, bytes]]) -> None:
        """Writes without waiting, as far as a pipe has room."""
        stream = sys.stderr
        descriptor = _descriptor(stream)
        is_json = self._is_json and not (descriptor is not None and os.isatty(descriptor))
        for entry, line in batch:
            if not entry.is_on_console:
                continue
            text = line if is_json else as_text(line)
            if descriptor is None:
                _write_text(stream, text)
            elif not _write(descriptor, text):
                self.lost_lines += 1

    def flush(self, timeout_seconds: float) -> None:
        """Nothing is kept."""

    def reset_in_child(self) -> None:
        """Nothing is of the parent's."""

    def close(self) -> None:
        """It is not ours to close."""


def _descriptor(stream: TextIO | None) -> int | None:
    """None where standard error is replaced by something without a file, as in notebooks and tests."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write_text(stream: TextIO | None, text: bytes) -> None:
    if stream is not None:
        stream.write(text.decode())


def _write(descriptor: int, text: bytes) -> bool:
    """Whether all of it was written. A pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7))."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    for begin in range(0, len(text), _PIPE_BYTES):
        if not any(event & select.POLLOUT for _, event in poll.poll(0)):
            return False
        os.write(descriptor, text[begin : begin + _PIPE_BYTES])
    return True


def as_text(line: bytes) -> bytes:
    """A JSON line for people: time, level, component, message, then what else is known."""
    fields: dict[str, Any] = msgspec.json.decode(line)
    category = "" if fields["category"] == "application" else f"[{fields['category']}] "
    known = {key: value for key, value in fields.items() if key not in _KNOWN and key != "attributes"}
    details = "".join(
        f" {key}={value if isinstance(value, str) and value and ' ' not in value else msgspec.json.encode(value).decode()}"
        for key, value in (fields.get("attributes", {}) | known).items()
    )
    head = f"{fields['timestamp']} {fields['level'].upper():<8} {category}{fields['component']}: {fields['message']}{details}\n"
    trace: str = fields.get("exception", {}).get("stacktrace", "")
    return (head + trace + ("\n" if trace and not trace.endswith("\n") else "")).encode()

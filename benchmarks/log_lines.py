"""Files of log lines to read: an application's, and such as no two have the same keys. The same in every run."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

MARK = "completed for session"
"""Stands once in every line, wherever a reader puts the message: what the sink counts."""
LINE_BYTES = 608
"""Of an application's line on average, its newline included."""
_FIRST = datetime(2026, 11, 23, 3, tzinfo=UTC)
_STEP_MICROSECONDS = 137
_LEVELS = ("info", "info", "info", "warning", "error")


def write(path: Path, lines: Iterator[str]) -> None:
    """Into a file, with newlines."""
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in lines)


def application(count: int) -> Iterator[str]:
    """JSON with 18 keys, as the application's logger writes it."""
    draw = random.Random(1)
    for number in range(count):
        yield json.dumps(_fields(draw, number, f"Story generation step {number} {MARK}"))


def shapeless(count: int) -> Iterator[str]:
    """The same values; but for time, severity, message and ids each under a key that hardly another line has."""
    draw = random.Random(2)
    kept = {"timestamp", "level", "message", "trace_id", "span_id"}
    for number in range(count):
        fields = _fields(draw, number, f"Story generation step {number} {MARK}")
        yield json.dumps({name if name in kept else _renamed(draw, name): value for name, value in fields.items()})


def timed(draw: random.Random, number: int, now_unix_nano: int) -> str:
    """An application's line that says when it was written, in 19 digits after the mark."""
    return json.dumps(_fields(draw, number, f"Story generation step {number} {MARK} at {now_unix_nano:019d}"))


def _renamed(draw: random.Random, name: str) -> str:
    return f"{name[:-4] or name}{draw.randrange(10**4):04d}"


def _fields(draw: random.Random, number: int, message: str) -> dict[str, object]:
    return {
        "timestamp": (_FIRST + timedelta(microseconds=number * _STEP_MICROSECONDS)).isoformat(),
        "level": draw.choice(_LEVELS),
        "category": "application",
        "component": "novel-engine",
        "message": message,
        "trace_id": f"{draw.getrandbits(128):032x}",
        "span_id": f"{draw.getrandbits(64):016x}",
        "user_id": str(draw.randrange(10_000)),
        "session_id": f"sess-{draw.randrange(1000):06d}",
        "request_id": f"req-{number}",
        "exception": None,
        "duration_ms": draw.random() * 1000,
        "business_context": {"story_id": f"story_{number}"},
        "security_context": {},
        "attributes": {"story_type": "adventure", "characters": 3, "model": "gpt-x"},
        "hostname": "host-1",
        "process_id": 1234,
        "thread_id": 140000,
    }

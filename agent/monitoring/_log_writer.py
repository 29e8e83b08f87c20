"""The one thread of a process that writes log lines, and the bounded queue before it.

A thread that logs appends to the queue and returns: it takes no lock and waits for nothing, also in a signal handler. The
writer sleeps while there is nothing, and after each batch for 10 ms, so that a busy process wakes it a hundred times a
second at most. What does not fit is counted by category and reported in a line of its own as soon as there is room. Before a
fork, when the application stops and at exit the queue is written by the thread that asks; after the end, at once.
"""

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from monitoring import _context
from monitoring._log_lines import Entry, LineMaker, finish

_LINGER_SECONDS = 0.01
_BATCH_LINES = 500
_BATCH_BYTES = 1 << 20
_FORK_SECONDS = 1.0
_STOP_SECONDS = 1.5


class Line(Protocol):
    """What a sink may ask of an entry; see `_log_lines.Entry`."""

    @property
    def category(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def unix_microseconds(self) -> int: ...
    @property
    def is_on_console(self) -> bool: ...


class Sink(Protocol):
    """Where lines go. Called in one thread at a time."""

    def write(self, batch: Sequence[tuple[Line, bytes]]) -> None:
        """Takes finished lines; what it cannot take it counts itself, or raises OSError when it took none."""

    def flush(self, timeout_seconds: float) -> None:
        """Delivers what it keeps."""

    def reset_in_child(self) -> None:
        """After a fork: what is kept is the parent's."""

    def close(self) -> None:
        """Is not used any more."""


class LogWriter:
    """Takes entries from any thread and writes them in its own."""

    def __init__(
        self,
        lines: LineMaker,
        sinks: Sequence[Sink],
        redact: Callable[[bytes], bytes],
        *,
        most_lines: int,
        most_bytes: int,
    ) -> None:
        self._lines = lines
        self._sinks = sinks
        self._redact = redact
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._is_closed = False
        self.dropped_lines = 0
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        self._queue: deque[Entry] = deque()
        self._queued_bytes = 0
        self._dropped: dict[str, int] = {}
        self._is_idle = True
        self._wake = threading.Event()
        self._draining = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()

    def put(self, entry: Entry) -> None:
        """Queues an entry, or counts it where it does not fit. Microseconds; never blocks, never raises."""
        size = entry.size_bytes
        if len(self._queue) >= self._most_lines or self._queued_bytes + size > self._most_bytes:
            self._dropped[entry.category] = self._dropped.get(entry.category, 0) + 1
            self.dropped_lines += 1
            return
        self._queued_bytes += size
        self._queue.append(entry)
        if self._is_idle:
            self._awake()

    def flush(self, timeout_seconds: float = _STOP_SECONDS) -> bool:
        """Writes what is queued, in this thread; whether that came to an end in time. Sinks that send are waited for too."""
        deadline = time.monotonic() + timeout_seconds
        is_written = self._drain(timeout_seconds)
        for sink in self._sinks:
            with suppress(Exception):  # one sink's fault keeps neither the others nor the application from ending
                sink.flush(max(0.0, deadline - time.monotonic()))
        return is_written

    def close(self) -> None:
        """Writes what is queued; what comes later is written at once."""
        self._is_closed = True
        self.flush()
        self._wake.set()
        for sink in self._sinks:
            with suppress(Exception):  # as above
                sink.close()

    def reset_in_child(self) -> None:
        """After a fork: what is queued is the parent's, and so is the thread."""
        self._begin()
        self._lines.reset_in_child()
        for sink in self._sinks:
            with suppress(Exception):  # a fork must not raise in the application
                sink.reset_in_child()

    def _awake(self) -> None:
        if self._is_closed:
            self._drain(_FORK_SECONDS)
            return
        self._is_idle = False
        if self._thread is None and not self._start():
            self._is_idle = True
            self._drain(_FORK_SECONDS)
            return
        self._wake.set()

    def _start(self) -> bool:
        """Whether there is a thread now; there can be none any more when the interpreter ends."""
        if not self._starting.acquire(blocking=False):
            return True
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="monitoring-log-writer", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError:
            return False
        finally:
            self._starting.release()
        return True

    def _run(self) -> None:
        wake = self._wake
        while not self._is_closed:
            wake.wait()
            wake.clear()
            while self._queue or self._dropped:
                try:
                    self._drain(_STOP_SECONDS)
                except Exception as error:  # noqa: BLE001 - without this thread nothing is written any more
                    self._say_once(f"monitoring: log lines could not be written: {error!r}")
                time.sleep(_LINGER_SECONDS)
            self._is_idle = True
            if self._queue:
                self._is_idle = False
                wake.set()

    def _drain(self, timeout_seconds: float) -> bool:
        """Writes what is queued, and what comes meanwhile up to a batch; False where another thread is at it for too long."""
        if not self._draining.acquire(timeout=timeout_seconds):
            return False
        try:
            batches = 1 + len(self._queue) // _BATCH_LINES
            deadline = time.monotonic() + timeout_seconds
            while (self._queue or self._dropped) and time.monotonic() <= deadline:
                self._write(self._batch())
                batches -= 1
                if batches < 0:
                    break
        finally:
            self._draining.release()
        return not self._queue

    def _batch(self) -> list[tuple[Line, bytes]]:
        batch: list[tuple[Line, bytes]] = []
        size = 0
        while self._queue and len(batch) < _BATCH_LINES and size < _BATCH_BYTES:
            entry = self._queue.popleft()
            try:
                line = finish(entry, self._redact)
            except Exception as error:  # noqa: BLE001 - a line that cannot be made must not stop those after it
                entry = self._lines.own_entry("a log line could not be made", {"reason": type(error).__name__})
                line = finish(entry, self._redact)
            batch.append((entry, line))
            size += len(line)
            self._queued_bytes -= entry.size_bytes
        if not self._queue:
            self._queued_bytes = 0
        if self._dropped:
            dropped, self._dropped = self._dropped, {}
            entry = self._lines.own_entry(
                "log lines dropped", {"dropped": sum(dropped.values()), "by_category": dropped, "reason": "queue full"}
            )
            batch.append((entry, finish(entry, self._redact)))
        return batch

    def _write(self, batch: Sequence[tuple[Line, bytes]]) -> None:
        for sink in self._sinks:
            try:
                sink.write(batch)
            except Exception as error:  # noqa: BLE001 - a place that fails must not take the others with it
                self._say_once(f"monitoring: log lines cannot be written: {error}")

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < 20:
            self._said.add(text)
            with suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)


_writers: "weakref.WeakSet[LogWriter]" = weakref.WeakSet()


def flush_all(timeout_seconds: float = _STOP_SECONDS) -> None:
    """Writes what is queued anywhere in this process."""
    for writer in tuple(_writers):
        writer.flush(timeout_seconds)


def _before_fork() -> None:
    for writer in tuple(_writers):
        writer._drain(_FORK_SECONDS)  # noqa: SLF001 - of this module


def _in_child() -> None:
    for writer in tuple(_writers):
        writer.reset_in_child()


def _at_exit() -> None:
    for writer in tuple(_writers):
        writer.close()


_context.at_stop(flush_all)
atexit.register(_at_exit)
os.register_at_fork(before=_before_fork, after_in_child=_in_child)

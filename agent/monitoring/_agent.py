"""The way to the agent: one daemon thread, started when there is something to do, that delivers documents and runs what is due.

A document is what a path of the agent's API is to hold; a newer one for the same path replaces an older one that was
not delivered, so what is kept is bounded by the number of paths. An agent that does not answer costs the application
nothing: the thread tries again after 1, 2, 4 … 60 seconds and says once that it has to. An answer that a repetition
would not change (no such path in this version of the agent, not allowed, not valid) is said once and the document let
go.

$OBSERVABILITY_ENDPOINT is where the agent is (default http://127.0.0.1:9090); $OBSERVABILITY_TOKEN or the file named in
$OBSERVABILITY_TOKEN_FILE is its token. Both are read when they are needed. Proxies of the environment are not used.
"""

import http.client
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from monitoring._said import forget, say_once

DEFAULT_ENDPOINT = "http://127.0.0.1:9090"
DEFAULT_OWNER = "novel-engine"

_TIMEOUT_SECONDS = 2.0
_RETRY_SECONDS_MAX = 60.0
_DOCUMENTS_MAX = 1000
_NOT_FOR_NOW = frozenset({408, 425, 429})
_NO_ANSWER = "the agent does not answer, what it is to know is kept"


def owner() -> str:
    """Under which name this application declares things: its service name in OpenTelemetry's variables."""
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip()
    if name:
        return name
    for attribute in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = attribute.partition("=")
        if key.strip() == "service.name" and value.strip():
            return value.strip()
    return DEFAULT_OWNER


def path_of(*parts: str) -> str:
    """A path of the agent's API from its parts, each of them quoted."""
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)


class Agent:
    """Delivers and runs. Everything but `deliver`, `at` and `withdraw` happens in its own thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._documents: dict[str, bytes] = {}
        self._try_at = 0.0
        self._pause_seconds = 0.0
        self._is_closed = False

    def deliver(self, path: str, document: Any) -> None:
        """PUT this there as soon as the agent takes it. Encoded at once, as JSON; raises what msgspec raises then."""
        encoded = msgspec.json.encode(document)
        with self._changed:
            if path not in self._documents and len(self._documents) >= _DOCUMENTS_MAX:
                say_once(logging.ERROR, "too much is kept for the agent, the rest is dropped")
                return
            self._documents[path] = encoded
            self._wake()

    def withdraw(self, path: str) -> None:
        """Deliver nothing there any more."""
        with self._changed:
            self._documents.pop(path, None)

    def at(self, delay_seconds: float, due: Callable[[], None]) -> None:
        """Run `due` in the thread after that time. It must be quick: deliveries and others wait for it."""
        with self._changed:
            heappush(self._due, (self._now() + delay_seconds, next(self._order), due))
            self._wake()

    def close(self) -> None:
        """End the thread when it is done with what it is at; nothing is delivered or run any more."""
        with self._changed:
            self._is_closed = True
            self._documents.clear()
            self._due.clear()
            self._changed.notify_all()

    def begin_as_child(self) -> None:
        """After a fork: the thread is the parent's, and so is what it had to do."""
        self.__init__(self._now)  # type: ignore[misc]

    def _wake(self) -> None:
        if self._is_closed:
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="monitoring-agent", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while not self._is_closed:
            with self._changed:
                due, document = self._next()
            if due is not None:
                _run_due(due)
            elif document is not None:
                self._put(*document)

    def _next(self) -> tuple[Callable[[], None] | None, tuple[str, bytes] | None]:
        """What to do now; waits, without a wake-up in between, until there is something."""
        while not self._is_closed:
            now = self._now()
            if self._due and self._due[0][0] <= now:
                return heappop(self._due)[2], None
            if self._documents and self._try_at <= now:
                path = next(iter(self._documents))
                return None, (path, self._documents[path])
            waits = [self._due[0][0]] if self._due else []
            if self._documents:
                waits.append(self._try_at)
            self._changed.wait(max(0.0, min(waits) - now) if waits else None)
        return None, None

    def _put(self, path: str, document: bytes) -> None:
        endpoint = os.environ.get("OBSERVABILITY_ENDPOINT") or DEFAULT_ENDPOINT
        try:
            status = _put(endpoint, path, document)
        except (OSError, http.client.HTTPException, ValueError):
            say_once(logging.WARNING, _NO_ANSWER, endpoint)
            self._pause()
            return
        if status >= 500 or status in _NOT_FOR_NOW:
            say_once(logging.WARNING, _NO_ANSWER, endpoint)
            self._pause()
            return
        forget(_NO_ANSWER, endpoint)
        self._pause_seconds = 0.0
        if status >= 300:
            _say_refused(endpoint, path, status)
        with self._changed:
            if self._documents.get(path) is document:
                del self._documents[path]

    def _pause(self) -> None:
        with self._changed:
            self._pause_seconds = min(_RETRY_SECONDS_MAX, max(1.0, 2 * self._pause_seconds))
            self._try_at = self._now() + self._pause_seconds


def _run_due(due: Callable[[], None]) -> None:
    try:
        due()
    except Exception as error:  # noqa: BLE001 - the thread serves others too
        say_once(logging.ERROR, "a part of monitoring failed in the background", repr(error))


def _put(endpoint: str, path: str, document: bytes) -> int:
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"OBSERVABILITY_ENDPOINT is not an http or https address: {endpoint!r}")
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(
            "PUT", url.path.rstrip("/") + path, document, {"Content-Type": "application/json"} | _authorization()
        )
        answer = connection.getresponse()
        answer.read(65536)
        return answer.status
    finally:
        connection.close()


def _authorization() -> dict[str, str]:
    token = os.environ.get("OBSERVABILITY_TOKEN", "")
    file = os.environ.get("OBSERVABILITY_TOKEN_FILE", "")
    if not token and file:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            say_once(logging.ERROR, "OBSERVABILITY_TOKEN_FILE cannot be read", str(error))
    return {"Authorization": f"Bearer {token}"} if token else {}


def _say_refused(endpoint: str, path: str, status: int) -> None:
    resource = "/".join(path.split("/")[:4])
    if status in (401, 403):
        say_once(
            logging.WARNING, "the agent wants its token in OBSERVABILITY_TOKEN or OBSERVABILITY_TOKEN_FILE", endpoint
        )
    elif status in (404, 405):
        say_once(logging.INFO, "the agent of this version does not take this yet", resource)
    else:
        say_once(logging.ERROR, f"the agent refused, status {status}", path)


agent = Agent()
os.register_at_fork(after_in_child=agent.begin_as_child)

"""Log lines to Loki (its push API, `POST /loki/api/v1/push`), unless the agent beside this application takes them there.

The agent does when it follows this directory's files: then lines reach it by the disk, survive a restart of either side and
are not sent twice. It is asked at `OBSERVABILITY_ENDPOINT` before a delivery, at most every 30 s: where its status lists one
of these files as followed, nothing is pushed; where it cannot be reached or does not list any, lines are pushed from here.
An agent that answers but has not seen the files yet gets 5 s for it.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from monitoring._courier import Answer, Bounds, Courier, Outcome
from monitoring._http_post import Target, post, request
from monitoring._log_writer import Line

_BOUNDS = Bounds(most_items=100_000, most_bytes=8 << 20, batch_items=2_000, linger_seconds=1.0)
_TIMEOUT_SECONDS = 5.0
_AGENT_TIMEOUT_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 30.0
_SETTLE_SECONDS = 5.0
_PUSH_PATH = "/loki/api/v1/push"

_Item = tuple[str, str, int, bytes]


class AgentReads:
    """Whether the agent beside this application follows one of these files."""

    def __init__(
        self, paths: Iterable[str], url: str, headers: dict[str, str], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = {os.path.realpath(path) for path in paths}
        self._target = Target(f"{url.rstrip('/')}/api/v1/status", headers, _AGENT_TIMEOUT_SECONDS)
        self._now = now
        self._begin = now()
        self._answer: bool | None = None
        self._until = float("-inf")

    def ask(self) -> bool | None:
        """None where it should be asked again in a moment. Blocks for a second at most."""
        if self._now() >= self._until:
            self._answer = self._look()
            self._until = self._now() + (_ASK_AGAIN_SECONDS if self._answer is not None else 0)
        return self._answer

    def _look(self) -> bool | None:
        import http.client

        try:
            status, _, text = request("GET", self._target)
        except (OSError, http.client.HTTPException):
            return False
        if status != 200:
            return False
        followed = _followed(text)
        if not self._paths.isdisjoint(followed):
            return True
        return None if self._now() < self._begin + _SETTLE_SECONDS else False


def _followed(text: bytes) -> set[str]:
    import msgspec

    class File(msgspec.Struct):
        path: str

    class Source(msgspec.Struct):
        files: list[File] = []

    class Status(msgspec.Struct):
        logs: list[Source] = []

    try:
        status = msgspec.json.decode(text, type=Status)
    except msgspec.DecodeError:
        return set()
    return {os.path.realpath(file.path) for source in status.logs for file in source.files}


class LokiSink:
    """Takes finished lines; streams are told apart by service, host, category and level, so they are few."""

    def __init__(self, endpoint: str, service: str, reads: AgentReads | None, tell: Callable[[str], None]) -> None:
        url = endpoint if "/loki/" in endpoint else endpoint.rstrip("/") + _PUSH_PATH
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self._target = Target(url, headers, _TIMEOUT_SECONDS)
        self._labels = {"service_name": service, "host_name": socket.gethostname()}
        self._reads = reads
        self._courier: Courier[_Item] = Courier(
            "monitoring-loki", self._send, _BOUNDS, lambda text: tell(f"log lines for {url}: {text}")
        )

    @property
    def courier(self) -> Courier[_Item]:
        """What counts deliveries."""
        return self._courier

    def write(self, batch: Sequence[tuple[Line, bytes]]) -> None:
        """Keeps the lines for the next push."""
        for entry, line in batch:
            self._courier.put((entry.category, entry.level, entry.unix_microseconds, line), len(line))

    def flush(self, timeout_seconds: float) -> None:
        """Pushes what is kept."""
        self._courier.flush(timeout_seconds)

    def reset_in_child(self) -> None:
        """The courier does that itself."""

    def close(self) -> None:
        """Pushes what is kept and ends."""
        self._courier.close()

    def _send(self, batch: list[_Item]) -> Answer:
        reads = self._reads.ask() if self._reads is not None else False
        if reads is None:
            return Answer(Outcome.LATER, 1.0)
        return Answer(Outcome.DELIVERED) if reads else post(self._target, self._body(batch))

    def _body(self, batch: list[_Item]) -> bytes:
        import zlib

        import msgspec

        streams: dict[tuple[str, str], list[list[str]]] = {}
        for category, level, microseconds, line in batch:
            streams.setdefault((category, level), []).append([f"{microseconds}000", line[:-1].decode()])
        pushed: dict[str, Any] = {
            "streams": [
                {"stream": {**self._labels, "category": category, "level": level}, "values": values}
                for (category, level), values in streams.items()
            ]
        }
        return zlib.compress(msgspec.json.encode(pushed), 1, wbits=31)

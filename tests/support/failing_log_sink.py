"""An OTLP/HTTP receiver of logs that fails in every way there is, until it is told to stop that."""

import gzip
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from log_judge import LogJudge
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

FAILING_SHARE = 0.18
WAYS = ("503", "503 later", "429", "reset before", "reset after", "hang", "partial", "partial rejected")
OUTAGE_EVERY_SECONDS = (8.0, 20.0)
OUTAGE_SECONDS = (1.0, 4.0)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Clients are killed in the middle of a request: that is what the tests are about."""


class FailingLogSink:
    """Gives the judge what it acknowledges. `hang_seconds` is longer than clients wait; `calm` makes it answer everything."""

    def __init__(self, judge: LogJudge, *, seed: int, hang_seconds: float) -> None:
        self.calm = False
        self.ways: dict[str, int] = {}
        self.requests = 0
        self._judge = judge
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._down_from = time.monotonic() + self._draw.uniform(*OUTAGE_EVERY_SECONDS)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                way = sink.next_way()
                if way == "reset before":
                    self._reset()
                    return
                body = self._body()
                if way in {"503", "503 later", "429", "outage"}:
                    self._answer(429 if way == "429" else 503, retry_after=way in {"429", "503 later"})
                elif way == "reset after":
                    self._reset()
                elif way == "hang":
                    sink.hang(hang_seconds)
                    self._reset()
                else:
                    records = list(records_of(ExportLogsServiceRequest.FromString(body)))
                    sink._judge.take(records)
                    self._answer(200, body=_partial(way))

            def _body(self) -> bytes:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

            def _answer(self, status: int, *, body: bytes = b"", retry_after: bool = False) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                if retry_after:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _reset(self) -> None:
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._calmed = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def next_way(self) -> str:
        """How the next request is answered."""
        with self._lock:
            self.requests += 1
            way = self._choose()
            self.ways[way] = self.ways.get(way, 0) + 1
            return way

    def _choose(self) -> str:
        if self.calm:
            return "good"
        now = time.monotonic()
        if now >= self._down_from:
            self._down_until = now + self._draw.uniform(*OUTAGE_SECONDS)
            self._down_from = self._down_until + self._draw.uniform(*OUTAGE_EVERY_SECONDS)
        if now < self._down_until:
            return "outage"
        return self._draw.choice(WAYS) if self._draw.random() < FAILING_SHARE else "good"

    def hang(self, seconds: float) -> None:
        """Until the client has given up, or calm comes."""
        self._calmed.wait(seconds)

    def close(self) -> None:
        self._calmed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "FailingLogSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def records_of(request: ExportLogsServiceRequest) -> Iterator[tuple[str, str]]:
    """Body and log.record.uid of each record."""
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield record.body.string_value, _uid(record)


def _uid(record: Any) -> str:
    for attribute in record.attributes:
        if attribute.key == "log.record.uid":
            return str(attribute.value.string_value)
    return ""


def _partial(way: str) -> bytes:
    """What is rejected here counts as arrived: a client must not send it again (OTLP specification, Partial Success)."""
    if way not in {"partial", "partial rejected"}:
        return b""
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = int(way == "partial rejected")
    answer.partial_success.error_message = "told so"
    return answer.SerializeToString()

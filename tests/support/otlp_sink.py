"""An OTLP/HTTP receiver that keeps what it gets and answers as it is told."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients are killed in the middle of a request: that is what the tests are about."""


class OtlpSink:
    """Listens on loopback; `status` is what it answers from now on, 400 what it cannot read though it is 200."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.requests: list[ExportMetricsServiceRequest] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.logs: list[ExportLogsServiceRequest] = []
        self.span_ids: set[bytes] = set()
        self.refused = 0
        self._arrived = threading.Condition()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                self.send_response(sink.take(self.path, body))
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, body: bytes) -> int:
        """Keep a request; how it is answered: 400 where protobuf's own parser cannot read it."""
        kind, kept = {
            "/v1/metrics": (ExportMetricsServiceRequest, self.requests),
            "/v1/traces": (ExportTraceServiceRequest, self.traces),
            "/v1/logs": (ExportLogsServiceRequest, self.logs),
        }[path]
        with self._arrived:
            status = self.status
            try:
                if status == 200:
                    kept.append(kind.FromString(body))
            except DecodeError:
                status = 400
            if status != 200:
                self.refused += 1
            elif kept is self.traces:
                self.span_ids.update(span.span_id for span in spans_of(self.traces[-1]))
            self._arrived.notify_all()
            return status

    def wait(self, enough: Callable[["OtlpSink"], bool], seconds: float = 30) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: enough(self), seconds), "nothing came"

    def metrics(self) -> dict[str, list[Any]]:
        """Every metric received, by name."""
        found: dict[str, list[Any]] = {}
        for request in self.requests:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        found.setdefault(metric.name, []).append(metric)
        return found

    def spans(self) -> list[Any]:
        """Every span received, in order, those received twice twice."""
        return [span for request in self.traces for span in spans_of(request)]

    def resource(self) -> dict[str, str]:
        attributes = self.requests[-1].resource_metrics[0].resource.attributes
        return {attribute.key: attribute.value.string_value for attribute in attributes}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "OtlpSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spans_of(request: ExportTraceServiceRequest) -> list[Any]:
    """The spans of a request, in order."""
    scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
    return [span for scope in scopes for span in scope.spans]

"""Sends numbered spans over OTLP/HTTP, and remembers which were taken."""

import http.client
import itertools
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def request_of(numbers, *, service="novel-engine", attributes=2):
    """A request with a span for each number, which is its span id; ten to a trace."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    name = resource.resource.attributes.add()
    name.key, name.value.string_value = "service.name", service
    spans = resource.scope_spans.add().spans
    now = time.time_ns()
    for number in numbers:
        span = spans.add(
            trace_id=(1 + number // 10).to_bytes(16, "big"),
            span_id=span_id_of(number),
            name="GET /api/stories",
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 5_000_000,
        )
        for index in range(attributes):
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = f"attribute.{index}", f"value {number}"
    return request


def number_of(span):
    return int.from_bytes(span.span_id, "big") - 1


def span_id_of(number):
    return (number + 1).to_bytes(8, "big")


class SpanClient:
    """Threads that send requests of ten spans until stopped; a request that fails is not sent again."""

    def __init__(self, port, threads=4, spans=10, first=0):
        self.port = port
        self.taken = set()
        self.refused = 0
        self.failed = 0
        self._spans = spans
        self._numbers = itertools.count(first, spans)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self):
        connection = None
        while not self._stop.is_set():
            first = next(self._numbers)
            body = request_of(range(first, first + self._spans)).SerializeToString()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.failed += 1
                if connection is not None:
                    connection.close()
                connection = None
                self._stop.wait(0.02)
                continue
            if answer.status == 200:
                self.taken.update(range(first, first + self._spans))
            else:
                self.refused += 1
        if connection is not None:
            connection.close()

    @property
    def taken_ids(self):
        return {span_id_of(number) for number in self.taken}

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

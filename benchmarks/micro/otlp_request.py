"""The bytes of a request on their way through the receiver, against protobuf's own library.

Goal: what it costs to count and check, enrich and split a request of 100 spans (about 40 KB), and to turn JSON into protobuf
and back. Limits: one shape of span, eight attributes each; both sides in one process, in turn, the fastest of the rounds,
because on a busy machine only that says what the code itself takes.

The rival decodes with protobuf's C library, counts, adds attributes to each resource and encodes again, as the Collector does
in Go; for JSON it is protobuf's json_format. Versions are those of the lock file.
"""

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.measure import Row

SPANS = 100
ROUNDS = 40
REPEATS = 5
_ADDED = {"host.name": "node-17.novel-engine.example", "host.id": "0123456789abcdef", "os.type": "linux"}
_RESOURCE = {
    "service.name": "novel-engine",
    "service.version": "1.2.3",
    "deployment.environment.name": "production",
    "service.instance.id": "6c9e3a34-5ab5-4d8e-93c5-0b7cf4e5a1de",
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": "1.38.0",
}
_ATTRIBUTES: dict[str, str | int] = {
    "http.request.method": "GET",
    "http.route": "/api/v1/stories/{story_id}",
    "url.path": "/api/v1/stories/48213",
    "server.address": "api.novel-engine.example",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)",
    "network.protocol.version": "1.1",
    "http.response.status_code": 200,
    "server.port": 443,
}


class Case(NamedTuple):
    """The same work done by us and by the rival; `budget` is a key of budgets.toml."""

    name: str
    ours: Callable[[], object]
    rival: Callable[[], object]
    budget: str


def request() -> Any:
    """A request as an OpenTelemetry SDK behind a web framework sends it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    generator = random.Random(1)
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(_pairs(_RESOURCE))
    scope = group.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    for number in range(SPANS):
        start = 1_790_000_000_000_000_000 + number * 1_000_000
        scope.spans.add(
            trace_id=generator.randbytes(16),
            span_id=generator.randbytes(8),
            parent_span_id=generator.randbytes(8),
            name="GET /api/v1/stories/{story_id}",
            kind=2,
            start_time_unix_nano=start,
            end_time_unix_nano=start + 5_000_000,
            attributes=_pairs(_ATTRIBUTES),
            flags=257,
        )
    return message


def _pairs(attributes: Any) -> list[Any]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in attributes.items()
    ]


def cases() -> list[Case]:
    """Every step of the path."""
    from google.protobuf import json_format

    from novel_agent.wire.otlp import attribute
    from novel_agent.wire.otlp_enrich import Enricher
    from novel_agent.wire.otlp_json import request_to_json
    from novel_agent.wire.otlp_json_read import request_from_json
    from novel_agent.wire.otlp_scan import scan

    message = request()
    kind = type(message)
    body = message.SerializeToString()
    json_body = request_to_json("traces", body)
    their_json_body = json_format.MessageToJson(message, indent=None).encode()
    enrich = Enricher([(key, attribute((key, value))) for key, value in _ADDED.items()])
    added = _pairs(_ADDED)

    def enrich_decoded() -> bytes:
        decoded = kind.FromString(body)
        for group in decoded.resource_spans:
            has = {each.key for each in group.resource.attributes}
            group.resource.attributes.extend([each for each in added if each.key not in has])
        return bytes(decoded.SerializeToString())

    def parse() -> bytes:
        return bytes(json_format.Parse(their_json_body, kind()).SerializeToString())

    return [
        Case("scan", lambda: scan("traces", body), lambda: kind.FromString(body), "otlp_scan"),
        Case("scan_deep", lambda: scan("traces", body, deep=True), lambda: kind.FromString(body), "otlp_scan_deep"),
        Case("enrich", lambda: enrich(body), enrich_decoded, "otlp_enrich"),
        Case("split", lambda: _split(body), lambda: kind.FromString(body), "otlp_split"),
        Case("json_to_protobuf", lambda: request_from_json("traces", json_body), parse, "otlp_json_read"),
        Case(
            "protobuf_to_json",
            lambda: request_to_json("traces", body),
            lambda: json_format.MessageToJson(kind.FromString(body), indent=None),
            "otlp_json_write",
        ),
    ]


def _split(body: bytes) -> None:
    from novel_agent.wire.otlp_split import RequestSplitter

    splitter = RequestSplitter("traces", lambda payload, items: None)
    for start in range(0, len(body), 1 << 16):
        splitter.feed(body[start : start + (1 << 16)])
    splitter.finish()


def measure() -> dict[str, tuple[float, float]]:
    """By case: ours and the rival's, in microseconds a request."""
    fastest: dict[str, tuple[float, float]] = {}
    every = cases()
    for _ in range(ROUNDS):
        for case in every:
            ours, rival = _microseconds(case.ours), _microseconds(case.rival)
            before = fastest.get(case.name, (ours, rival))
            fastest[case.name] = min(before[0], ours), min(before[1], rival)
    return fastest


def _microseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return 1e6 * (time.perf_counter() - began) / REPEATS


def run() -> list[Row]:
    """Every case against protobuf."""
    budgets = {case.name: case.budget for case in cases()}
    return [Row(name, "us", ours, rival, "protobuf", budgets[name]) for name, (ours, rival) in measure().items()]


def main() -> list[tuple[str, float, float, float]]:
    """Name, ours and the rival's in microseconds, ratio."""
    return [(name, ours, rival, ours / rival) for name, (ours, rival) in measure().items()]


if __name__ == "__main__":
    for label, our_us, rival_us, ratio in main():
        print(f"{label:20} {our_us:9.1f} {rival_us:9.1f} {ratio:7.3f}   {SPANS / our_us * 1e6:12,.0f} spans/s")

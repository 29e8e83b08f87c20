"""What each processor on spans costs, for a body of 100 spans: ours, on bytes, and opentelemetry-proto's classes.

Goal: what configuring a processor adds to a request. Limits: the bodies are all of one application, 36 kB each, five spans a
trace, eight attributes a span, one span in twenty failed; one processor at a time and nothing around it.

The rival of each case does, on the generated classes (upb, in C), the least that such a processor has to do: parse the body,
read what has to be read of every span, and, where a payload comes out, serialise it again. It decides and keeps nothing.
Both sides run in one process, in turn, on the same bodies. Span metrics and the service graph take decoded spans, whose
decoding is in their figure; where both are on it is done once.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.measure import Row
from novel_agent.config import schema
from novel_agent.config.schema import AttributeLimits, Redaction, TailRule
from novel_agent.processors.attribute_limits import AttributeLimiter
from novel_agent.processors.head_sampling import HeadSampler
from novel_agent.processors.redact import Redactor
from novel_agent.processors.service_graph import ServiceGraph
from novel_agent.processors.span_metrics import SpanMetrics
from novel_agent.processors.tail_sampling import TailSampler
from novel_agent.wire.otlp_read import read_spans

BODIES = 100
SPANS = 100
SPANS_A_TRACE = 5
ROUNDS = 9
WARM_UP = 2
_ATTRIBUTES = (
    ("http.request.method", "GET"),
    ("http.route", "/stories/{id}"),
    ("url.path", "/stories/12345"),
    ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("server.address", "api.example.org"),
    ("network.protocol.version", "1.1"),
)

Work = Callable[[bytes], object]


def body(chance: random.Random) -> bytes:
    """A request as an instrumented web service sends it."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (("service.name", "novel-engine"), ("host.name", "host1"), ("service.version", "1.2.3")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    trace_id = parent = b""
    for number in range(SPANS):
        if number % SPANS_A_TRACE == 0:
            trace_id, parent = chance.randbytes(16), b""
        span = scope.spans.add(trace_id=trace_id, span_id=chance.randbytes(8), parent_span_id=parent, flags=0x101)
        span.name, span.kind = "GET /stories/{id}", 3 if parent else 2
        span.start_time_unix_nano = 1_764_000_000_000_000_000 + chance.randrange(10**9)
        span.end_time_unix_nano = span.start_time_unix_nano + chance.randrange(10**9)
        for key, value in _ATTRIBUTES:
            span.attributes.add(key=key).value.string_value = value
        span.attributes.add(key="http.response.status_code").value.int_value = 200
        span.attributes.add(key="server.port").value.int_value = 8000
        if number % 20 == 0:
            span.status.code, span.status.message = 2, "boom"
        parent = parent or span.span_id
    return request.SerializeToString()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Any]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def sampled(share: float) -> Work:
    """The rival: spans of other trace ids removed, the others marked."""
    least = int((1 - share) * 2**56).to_bytes(7, "big")

    def work(payload: bytes) -> object:
        request = ExportTraceServiceRequest.FromString(payload)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                kept = [span for span in scope.spans if span.trace_id[9:] >= least]
                for span in kept:
                    span.trace_state = "ot=th:" + span.trace_state
                del scope.spans[:]
                scope.spans.extend(kept)
        return request.SerializeToString()

    return work


def read(payload: bytes) -> object:
    """The rival: ids, times, status and attributes of every span."""
    return [
        (
            *(span.trace_id, span.span_id, span.parent_span_id, span.name, span.kind),
            *(span.start_time_unix_nano, span.end_time_unix_nano, span.status.code),
            {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
        )
        for span in _spans(ExportTraceServiceRequest.FromString(payload))
    ]


def grouped(payload: bytes) -> object:
    """The rival: ids, times and status of every span, and a payload again."""
    request = ExportTraceServiceRequest.FromString(payload)
    facts = [
        (span.trace_id, span.start_time_unix_nano, span.end_time_unix_nano, span.status.code)
        for span in _spans(request)
    ]
    return facts, request.SerializeToString()


def looked_through(payload: bytes) -> object:
    """The rival: key and text of every attribute looked at, and a payload again."""
    request = ExportTraceServiceRequest.FromString(payload)
    found = sum(
        "@" in each.value.string_value or each.key == "password" for span in _spans(request) for each in span.attributes
    )
    return found, request.SerializeToString()


def measured(payload: bytes) -> object:
    """The rival: attributes counted and texts measured, four attributes a span kept, and a payload again."""
    request = ExportTraceServiceRequest.FromString(payload)
    longest = 0
    for span in _spans(request):
        longest = max(longest, *(len(each.value.string_value) for each in span.attributes))
        del span.attributes[4:]
    return longest, request.SerializeToString()


def tail() -> Work:
    """Errors, slow traces, those of an attribute, and a tenth of the rest."""
    rules = [
        TailRule(name="errors", errors=True),
        TailRule(name="slow", latency_seconds=0.95),
        TailRule(name="gold", attributes={"user.tier": "gold"}),
        TailRule(name="rest", probability=0.1),
    ]
    sampler = TailSampler(rules, wait_seconds=10.0, memory_bytes=8 << 20)
    now = 0.0

    def work(payload: bytes) -> object:
        nonlocal now
        now += 0.1
        sampler.add(payload, now, None)
        return sampler.decide(now)

    return work


def span_metrics() -> Work:
    metrics = SpanMetrics(schema.SpanMetrics())
    return lambda payload: metrics.take(read_spans(payload), 1_764_000_000.0)


def service_graph() -> Work:
    graph = ServiceGraph()
    now = 1_764_000_000.0

    def work(payload: bytes) -> object:
        nonlocal now
        now += 0.1
        return graph.take(read_spans(payload), now)

    return work


def cases() -> dict[str, tuple[Work, Work]]:
    """By name: ours, and what it is compared with."""
    patterns = Redaction(patterns=("email", "bearer", "key", "card", "url_password"))
    name = Redaction(attributes=("user_agent\\.original",))
    return {
        "head_sampling_tenth": (HeadSampler(0.1), sampled(0.1)),
        "head_sampling_half": (HeadSampler(0.5), sampled(0.5)),
        "tail_sampling": (tail(), grouped),
        "decode": (lambda payload: list(read_spans(payload)), read),
        "span_metrics": (span_metrics(), read),
        "service_graph": (service_graph(), read),
        "redact_patterns": (Redactor(patterns), looked_through),
        "redact_name": (Redactor(name), looked_through),
        "limits_within": (AttributeLimiter(AttributeLimits()), measured),
        "limits_cut": (AttributeLimiter(AttributeLimits(count=4)), measured),
    }


def measure() -> dict[str, tuple[float, float]]:
    """By case: our median and the rival's, in microseconds of CPU a body."""
    chance = random.Random(1)
    bodies = [body(chance) for _ in range(BODIES)]
    return {name: _medians(bodies, *sides) for name, sides in cases().items()}


def _medians(bodies: list[bytes], ours: Work, rival: Work) -> tuple[float, float]:
    costs: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + ROUNDS):
        for work, own in zip((ours, rival), costs, strict=True):
            before = time.process_time()
            for payload in bodies:
                work(payload)
            if turn >= WARM_UP:
                own.append(1e6 * (time.process_time() - before) / len(bodies))
    return statistics.median(costs[0]), statistics.median(costs[1])


def run() -> list[Row]:
    """Every case."""
    return [
        Row(f"{case} 100 spans", "µs CPU", ours, rival, "opentelemetry-proto", f"span_processors_{case}")
        for case, (ours, rival) in measure().items()
    ]


if __name__ == "__main__":
    for label, (our_microseconds, rival_microseconds) in measure().items():
        ratio = our_microseconds / rival_microseconds
        print(f"{label:24} {our_microseconds:9.1f} {rival_microseconds:9.1f} {ratio:6.3f}")

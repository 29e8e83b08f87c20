"""Ended spans on their way out: a span processor of OpenTelemetry's SDK before a courier that sends OTLP over HTTP.

The SDK's own batch processor gives up what could not be delivered within ten seconds and may hold an exit up for thirty;
this one keeps up to `MOST_SPANS` while the collector is away, and an exit waits two seconds at most. Spans are encoded in
the courier's thread.
"""

import gzip
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanKind, Tracer, get_current_span

from monitoring._courier import Answer, Bounds, Courier, Outcome
from monitoring._http_post import Target, post
from monitoring._log_redaction import redact_text

MOST_SPANS = 4096
_BOUNDS = Bounds(most_items=MOST_SPANS, most_bytes=64 << 20, batch_items=256, linger_seconds=1.0)
_WORTH_COMPRESSING_BYTES = 1024
_SPAN_BYTES = 1024
_ADDRESSES = ("url.query", "url.full", "http.url", "http.target")

Send = Callable[[list[ReadableSpan]], Answer]


def http_sender(target: Target, *, is_compressed: bool) -> Send:
    """Sends batches as OTLP protobuf (opentelemetry-proto, docs/specification.md: OTLP/HTTP)."""
    headers = {"Content-Type": "application/x-protobuf", **target.headers}
    plain = target._replace(headers=headers)
    packed = target._replace(headers={**headers, "Content-Encoding": "gzip"})

    def send(batch: list[ReadableSpan]) -> Answer:
        body = encode_spans(batch).SerializeToString()
        if is_compressed and len(body) > _WORTH_COMPRESSING_BYTES:
            return post(packed, gzip.compress(body, 1))
        return post(plain, body)

    return send


def grpc_sender(endpoint: str, headers: dict[str, str]) -> Send:
    """Sends batches by gRPC; ImportError where its exporter is not installed."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(
        endpoint=endpoint, insecure=not endpoint.startswith("https://"), headers=headers, timeout=5
    )

    def send(batch: list[ReadableSpan]) -> Answer:
        if exporter.export(batch) is SpanExportResult.SUCCESS:
            return Answer(Outcome.DELIVERED)
        return Answer(Outcome.LATER, 0.0, f"{endpoint} does not take spans")

    return send


def courier(send: Send, tell: Callable[[str], None]) -> Courier[ReadableSpan]:
    """What keeps and delivers spans; its thread starts with the first of them."""
    return Courier("monitoring-spans", send, _BOUNDS, tell)


class Handover(SpanProcessor):
    """Gives ended spans to the courier of the moment; where there is none, to nobody.

    A process has one tracer provider, which cannot be replaced: what a later configuration changes is here. Without a
    `resource` spans keep that of their provider, which then is the application's own.
    """

    def __init__(self) -> None:
        self.courier: Courier[ReadableSpan] | None = None
        self.is_on_console = False
        self.sampler: Sampler = ALWAYS_OFF
        self.resource: Resource | None = None

    def configure(self, resource: Mapping[str, Any] | None, sampling_rate: float, *, is_on_console: bool) -> None:
        """From now on: parents decide whether a trace is sent, roots by their trace id."""
        self.sampler = ParentBased(TraceIdRatioBased(min(max(sampling_rate, 0.0), 1.0)))
        self.resource = None if resource is None else Resource.create(dict(resource))
        self.is_on_console = is_on_console

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Secrets in addresses are replaced, whoever put them there."""
        attributes = span.attributes if span.kind is not SpanKind.INTERNAL else None
        for name in _ADDRESSES if attributes else ():
            text = attributes.get(name) if attributes else None
            if isinstance(text, str):
                span.set_attribute(name, redact_text(text))

    def on_end(self, span: ReadableSpan) -> None:
        """Only of what is sampled."""
        if not span.context.trace_flags.sampled:
            return
        if self.resource is not None and span.resource is not self.resource:
            span._resource = self.resource  # noqa: SLF001 - a copy that is ours; it has no public way
        if self.courier is not None:
            self.courier.put(span, _SPAN_BYTES + 128 * (len(span.attributes or ()) + 8 * len(span.events)))
        if self.is_on_console:
            print(span.to_json(indent=None))

    def shutdown(self) -> None:
        """The courier is ended by who made it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether everything was delivered in time."""
        return self.courier is None or self.courier.flush(timeout_millis / 1000)


class _Provider(TracerProvider):
    """Where FastAPI traces requests by itself (0.165 has it) that is left to our middleware, when it is there.

    Else a request had four spans, for thrice the time.
    """

    leaves_fastapi_to_itself: Callable[[], bool]

    def get_tracer(self, *arguments: Any, **keywords: Any) -> Tracer:
        """The SDK's, but for FastAPI."""
        tracer = super().get_tracer(*arguments, **keywords)
        name = arguments[0] if arguments else keywords.get("instrumenting_module_name")
        return _FastApiTracer(tracer, self.leaves_fastapi_to_itself) if name == "fastapi" else tracer


class _FastApiTracer(Tracer):
    """Starts no spans of its own: those that are asked for are the one that is open."""

    def __init__(self, tracer: Tracer, is_real: Callable[[], bool]) -> None:
        self._tracer = tracer
        self._is_real = is_real

    def start_span(self, name: str, context: Context | None = None, *arguments: Any, **keywords: Any) -> Any:
        if self._is_real():
            return self._tracer.start_span(name, context, *arguments, **keywords)
        return NonRecordingSpan(get_current_span(context).get_span_context())

    def start_as_current_span(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        if self._is_real():
            return self._tracer.start_as_current_span(name, *arguments, **keywords)
        return nullcontext(get_current_span())


class _CurrentSampler(Sampler):
    """That of the configuration in force."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    def should_sample(self, *arguments: Any, **keywords: Any) -> SamplingResult:
        return self._handover.sampler.should_sample(*arguments, **keywords)

    def get_description(self) -> str:
        return self._handover.sampler.get_description()


def provider(handover: Handover, leaves_fastapi_to_itself: Callable[[], bool]) -> TracerProvider:
    """A tracer provider that does as the handover is configured; attributes are at most 8 KiB long."""
    made = _Provider(
        sampler=_CurrentSampler(handover),
        resource=handover.resource,
        span_limits=SpanLimits(max_attribute_length=8192, max_span_attribute_length=8192),
        shutdown_on_exit=False,
    )
    made.leaves_fastapi_to_itself = leaves_fastapi_to_itself
    made.add_span_processor(handover)
    return made

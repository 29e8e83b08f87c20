"""Traces of a Novel Engine application, by OTLP to the agent beside it or to whom the configuration names.

    setup_tracing()
    @trace_story_generation("adventure", character_count=3)
    async def generate_story(story_type, characters): ...

    async with trace_operation("database_query", {"table": "users"}) as span:
        span.set_attribute("result_count", 3)

Everything here works without OpenTelemetry installed and before `setup_tracing`: then spans are nobody's and cost next to
nothing. OpenTelemetry is imported by `setup_tracing`, not before. Where the application has a tracer provider of its own,
spans go there as well.
"""

import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, overload
from urllib.parse import unquote

from monitoring import _context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer, TracerProvider

    from monitoring._courier import Courier
    from monitoring._spans import Handover, Send

logger = logging.getLogger("monitoring.tracing")

_LOCAL_AGENT = "http://127.0.0.1:4318"
_TRACES_PATH = "/v1/traces"
_TIMEOUT_SECONDS = 5.0
_SCOPE = "monitoring"
_AUTHORITY = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(?:[^/@]*@)?(\[[^\]]*\]|[^/:]+)(?::\d+)?(?:[/?#].*)?", re.IGNORECASE
)
_GRPC_PORT = re.compile(r"(?:https?://)?(?:[^/@]*@)?(?:\[[^\]]*\]|[^/:]*):4317(?:/.*)?")

_PLAIN = (str, bool, int, float)

_Function = TypeVar("_Function", bound=Callable[..., Any])
Kind = Literal["internal", "client", "server", "producer", "consumer"]


@dataclass(kw_only=False)
class TracingConfig:
    """What spans say of the application, how many are kept, and where they go.

    `sampling_rate` is the share of traces, 0 to 1, that begin here; of others their first service decides. Without an
    endpoint those of the environment count (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`,
    `OTLP_ENDPOINT`, `JAEGER_ENDPOINT`), else it is the local agent, 127.0.0.1:4318. `jaeger_endpoint` stands for OTLP to
    port 4318 of its host.
    """

    service_name: str = field(default_factory=lambda: os.environ.get("OTEL_SERVICE_NAME") or "novel-engine")
    service_version: str = "unknown"
    environment: str = field(default_factory=lambda: os.environ.get("ENVIRONMENT") or "development")
    sampling_rate: float = 1.0
    jaeger_endpoint: str | None = None
    otlp_endpoint: str | None = None
    console_export: bool = False
    auto_instrument_fastapi: bool = True
    fastapi_operation_spans: bool = False
    otlp_headers: Mapping[str, str] | None = None
    compression: Literal["gzip", "none"] = "gzip"
    timeout_seconds: float = _TIMEOUT_SECONDS
    custom_attributes: Mapping[str, str] | None = None


class AnySpan(Protocol):
    """What a span is asked, of OpenTelemetry's and of nobody's."""

    def set_attribute(self, key: str, value: Any) -> None: ...
    def set_attributes(self, attributes: Mapping[str, Any]) -> None: ...
    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None: ...
    def record_exception(self, exception: BaseException, attributes: Any = None) -> None: ...
    def set_status(self, status: Any, description: str | None = None) -> None: ...
    def update_name(self, name: str) -> None: ...
    def is_recording(self) -> bool: ...
    def get_span_context(self) -> Any: ...
    def end(self, end_time: int | None = None) -> None: ...


class NobodysSpan:
    """Takes everything and keeps nothing; also as a context manager, as the spans of a tracer."""

    def set_attribute(self, key: str, value: Any) -> None: ...
    def set_attributes(self, attributes: Mapping[str, Any]) -> None: ...
    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None: ...
    def record_exception(self, exception: BaseException, attributes: Any = None, *_: Any, **__: Any) -> None: ...
    def set_status(self, status: Any, description: str | None = None) -> None: ...
    def update_name(self, name: str) -> None: ...
    def end(self, end_time: int | None = None) -> None: ...

    def is_recording(self) -> bool:
        """It never is."""
        return False

    def get_span_context(self) -> None:
        """It is part of no trace."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class NobodysTracer:
    """Gives spans that nobody keeps."""

    def start_span(self, name: str, *_: Any, **__: Any) -> NobodysSpan:
        """One that nobody keeps."""
        return _NOBODYS_SPAN

    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> NobodysSpan:
        """One that nobody keeps, for `with`."""
        return _NOBODYS_SPAN


_NOBODYS_SPAN = NobodysSpan()
_NOBODYS_TRACER = NobodysTracer()


class _State:
    """What is set up in this process."""

    config: TracingConfig | None = None
    tracer: "Tracer | None" = None
    provider: "TracerProvider | None" = None
    is_own_provider = False
    handover: "Handover | None" = None
    courier: "Courier[ReadableSpan] | None" = None
    is_missing_told = False


_state = _State()


def setup_tracing(config: TracingConfig | Any | None = None, app: Any = None) -> "Tracer | NobodysTracer":
    """Starts tracing and gives the tracer; may be called again, with another configuration to change it.

    Requests to applications that any `setup_*` or `create_*` was given get server spans from then on. `app` may stand in the
    place of `config` too.
    """
    if config is not None and not isinstance(config, TracingConfig):
        config, app = None, config
    if app is not None:
        from monitoring._applications import adopt

        adopt(app)
    if _state.tracer is not None and (config is None or config == _state.config):
        return _state.tracer
    try:
        import opentelemetry.sdk.trace  # noqa: F401 - whether it can be used
    except ImportError:
        if not _state.is_missing_told:
            _state.is_missing_told = True
            logger.warning("opentelemetry-sdk is not installed: nothing is traced")
        return _NOBODYS_TRACER
    shutdown_tracing()
    _state.config = config = config or TracingConfig()
    _set_up(config)
    assert _state.tracer is not None
    return _state.tracer


def get_tracer(name: str = _SCOPE) -> "Tracer | NobodysTracer":
    """A tracer of what is set up; else of the application's own OpenTelemetry, where it uses that; else nobody's."""
    if _state.tracer is not None and name == _SCOPE:
        return _state.tracer
    if _state.tracer is None and "opentelemetry.trace" not in sys.modules:
        return _NOBODYS_TRACER
    from opentelemetry import trace

    return trace.get_tracer(name)


def shutdown_tracing(timeout_seconds: float = 2.0) -> None:
    """Delivers what is kept, as far as that is possible in this time, and traces no more until the next `setup_tracing`."""
    _context.open_span = None
    _context.start_server_span = None
    if _state.handover is not None:
        _state.handover.courier = None
    if _state.courier is not None:
        _state.courier.close(timeout_seconds)
    _state.config = _state.tracer = _state.courier = None


def flush_traces(timeout_seconds: float = 2.0) -> bool:
    """Whether every span that has ended was delivered in this time."""
    return _state.courier is None or _state.courier.flush(timeout_seconds)


def tracing_statistics() -> dict[str, int]:
    """Spans of this process: delivered, kept, dropped for want of room, refused by the collector."""
    courier = _state.courier
    return {
        "delivered": courier.delivered_items if courier else 0,
        "kept": courier.kept_items if courier else 0,
        "dropped": courier.dropped_items if courier else 0,
        "refused": courier.refused_items if courier else 0,
    }


def _set_up(config: TracingConfig) -> None:
    from monitoring import _server_span, _spans

    if _state.handover is None:
        _state.handover = _spans.Handover()
    handover = _state.handover
    handover.courier = _state.courier = _spans.courier(_sender(config), _tell)
    resource = _resource(config)
    handover.configure(resource, config.sampling_rate, is_on_console=config.console_export)
    if _state.provider is None:
        _state.provider, _state.is_own_provider = _provider(handover)
    if not _state.is_own_provider:
        handover.resource = None
    tracer = _state.tracer = _state.provider.get_tracer(_SCOPE)
    _context.open_span = _open_span
    if config.auto_instrument_fastapi:
        is_instead = _state.is_own_provider and not config.fastapi_operation_spans
        _context.start_server_span = lambda scope: _server_span.start(tracer, scope, is_instead_of_fastapi=is_instead)


def _provider(handover: "Handover") -> "tuple[TracerProvider, bool]":
    """The one of this process, and whether it is ours: an application may have its own."""
    from opentelemetry import trace

    from monitoring import _spans

    theirs = trace.get_tracer_provider()
    add = getattr(theirs, "add_span_processor", None)
    if add is not None:
        add(handover)
        logger.info(
            "the application has a tracer provider of its own: its resource and sampler count, its spans come here too"
        )
        return theirs, False
    made = _spans.provider(handover, _leaves_fastapi_to_itself)
    trace.set_tracer_provider(made)
    return made, True


def _leaves_fastapi_to_itself() -> bool:
    """Unless requests get their spans from this package's middleware, which only applications given to it have."""
    config = _state.config
    is_ours = config is not None and config.auto_instrument_fastapi and "monitoring._asgi" in sys.modules
    return not is_ours or (config is not None and config.fastapi_operation_spans)


def _resource(config: TracingConfig) -> dict[str, str]:
    return {
        "service.name": config.service_name,
        "service.version": config.service_version,
        "deployment.environment.name": config.environment,
        "host.name": socket.gethostname(),
        **(config.custom_attributes or {}),
    }


def _where(config: TracingConfig) -> tuple[str, bool]:
    """The endpoint, and whether it is one of traces alone, with its path."""
    environment = os.environ
    if config.otlp_endpoint:
        return config.otlp_endpoint, False
    if config.jaeger_endpoint:
        return _jaeger(config.jaeger_endpoint), False
    if own := environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return own, True
    if general := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environment.get("OTLP_ENDPOINT"):
        return general, False
    if jaeger := environment.get("JAEGER_ENDPOINT"):
        return _jaeger(jaeger), False
    return _LOCAL_AGENT, False


def _jaeger(endpoint: str) -> str:
    match = _AUTHORITY.fullmatch(endpoint.strip())
    if match is None:
        logger.warning("%r is not a URL such as http://jaeger:14268: spans go to the local agent", endpoint)
        return _LOCAL_AGENT
    scheme = "https" if (match[1] or "").lower() == "https" else "http"
    otlp = f"{scheme}://{match[2]}:4318"
    logger.info("jaeger_endpoint %s: spans go to %s by OTLP, Jaeger no longer takes its own protocol", endpoint, otlp)
    return otlp


def _sender(config: TracingConfig) -> "Send":
    """By gRPC to port 4317, where its exporter is installed; else by HTTP."""
    from monitoring._http_post import Target
    from monitoring._spans import grpc_sender, http_sender

    endpoint, is_complete = _where(config)
    endpoint = endpoint.strip().rstrip("/")
    headers = {**_environment_headers(), **(config.otlp_headers or {})}
    if _GRPC_PORT.fullmatch(endpoint) and not is_complete:
        try:
            return grpc_sender(endpoint, headers)
        except ImportError:
            http = re.sub(r":4317(?=/|$)", ":4318", endpoint)
            logger.warning(
                "%s means gRPC, but opentelemetry-exporter-otlp-proto-grpc is not installed: spans go to %s",
                endpoint,
                http,
            )
            endpoint = http
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    url = endpoint if is_complete or endpoint.endswith(_TRACES_PATH) else f"{endpoint}{_TRACES_PATH}"
    return http_sender(Target(url, headers, config.timeout_seconds), is_compressed=config.compression == "gzip")


def _environment_headers() -> dict[str, str]:
    """`key=value,key=value`, percent-encoded (OpenTelemetry, protocol/exporter.md)."""
    text = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or os.environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}


def _tell(text: str) -> None:
    logger.warning("spans: %s", text)


def _open_span() -> _context.SpanIds | None:
    from opentelemetry.trace import get_current_span

    here = get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return _context.SpanIds(f"{here.trace_id:032x}", f"{here.span_id:016x}", here.trace_flags.sampled)


class _Running:
    """A span of OpenTelemetry's that is open while its block or function runs."""

    __slots__ = ("_contexts", "_current", "_records_exception", "_span", "_token", "_with_span")

    def __init__(self, tracer: "Tracer", operation: "trace_operation") -> None:
        from opentelemetry import context, trace

        kind = trace.SpanKind[operation.kind.upper()]
        attributes = {
            key: _attribute(value) for key, value in (operation.attributes or {}).items() if value is not None
        }
        self._span = tracer.start_span(operation.name, None, kind, attributes)
        self._contexts = context
        self._current = trace.get_current_span
        self._with_span = trace.set_span_in_context(self._span)
        self._records_exception = operation.record_exception
        self._token: Any = None

    @property
    def span(self) -> AnySpan:
        return self._span

    def resume(self) -> None:
        self._token = self._contexts.attach(self._with_span)

    def pause(self) -> None:
        if self._current() is self._span:  # else this runs in another context, as when a loop closes a generator
            self._contexts.detach(self._token)

    def end(self, error: BaseException | None) -> None:
        if isinstance(error, Exception) and self._span.is_recording():
            from opentelemetry.trace import Status, StatusCode

            if self._records_exception:
                self._span.record_exception(error)
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:1024]))
        self._span.end()


class _NobodyRuns:
    """Nothing is open."""

    span: AnySpan = _NOBODYS_SPAN

    def resume(self) -> None: ...
    def pause(self) -> None: ...
    def end(self, error: BaseException | None) -> None: ...


_NOBODY_RUNS = _NobodyRuns()


def _attribute(value: object) -> Any:
    """As OpenTelemetry takes it; other values as texts."""
    if isinstance(value, _PLAIN):
        return value
    if (
        isinstance(value, list | tuple)
        and len({type(each) for each in value}) == 1
        and isinstance(value[0], str | bool | int | float)
    ):
        return value
    return str(value)


class trace_operation:  # noqa: N801 - used like a function
    """A span around a block, `with` or `async with`, or around each call of a function of any kind it decorates.

    An exception ends it as an error, and goes on; `record_exception` False leaves its text and traceback out. Attributes
    that are None are left out.
    """

    __slots__ = ("_open", "attributes", "kind", "name", "record_exception")

    def __init__(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        record_exception: bool = True,
        *,
        kind: Kind = "internal",
    ) -> None:
        self.name = name
        self.attributes = attributes
        self.record_exception = record_exception
        self.kind: Kind = kind
        self._open: list[_Running | _NobodyRuns] = []

    def begin(self) -> "_Running | _NobodyRuns":
        """A new span, not open yet."""
        tracer = _state.tracer
        if tracer is None:
            if "opentelemetry.trace" not in sys.modules:
                return _NOBODY_RUNS
            from opentelemetry import trace

            tracer = trace.get_tracer(_SCOPE)
        return _Running(tracer, self)

    def __enter__(self) -> AnySpan:
        running = self.begin()
        running.resume()
        self._open.append(running)
        return running.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running = self._open.pop()
        running.pause()
        running.end(error)

    async def __aenter__(self) -> AnySpan:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        from monitoring._traced import traced

        return traced(function, self.begin)  # type: ignore[return-value]


@overload
def trace_function(name: _Function) -> _Function: ...
@overload
def trace_function(
    name: str | None = None, attributes: Mapping[str, Any] | None = None, record_exception: bool = True
) -> Callable[[_Function], _Function]: ...
def trace_function(name: Any = None, attributes: Mapping[str, Any] | None = None, record_exception: bool = True) -> Any:
    """A decorator, with or without arguments: a span around each call, named as the function unless told."""
    if callable(name):
        return _decorated(name, None, None, True)
    return lambda function: _decorated(function, name, attributes, record_exception)


def _decorated(
    function: _Function, name: str | None, attributes: Mapping[str, Any] | None, record_exception: bool
) -> _Function:
    module, qualified = (
        getattr(function, "__module__", None),
        getattr(function, "__qualname__", type(function).__qualname__),
    )
    where = {"code.function.name": f"{module}.{qualified}" if module else qualified}
    return trace_operation(name or qualified, where | dict(attributes or {}), record_exception)(function)


def trace_story_generation(story_type: str, character_count: int | None = None) -> trace_operation:
    """The generation of a story; decorator or context manager, as all that follow."""
    return trace_operation("story_generation", {"story.type": story_type, "story.character_count": character_count})


def trace_agent_coordination(agent_type: str, coordination_type: str) -> trace_operation:
    """Agents that work together."""
    return trace_operation("agent_coordination", {"agent.type": agent_type, "coordination.type": coordination_type})


def trace_character_interaction(interaction_type: str) -> trace_operation:
    """Characters that meet."""
    return trace_operation("character_interaction", {"interaction.type": interaction_type})


def trace_database_operation(operation_type: str, table_name: str | None = None) -> trace_operation:
    """A query; the span is named `SELECT stories` (semantic conventions, database spans)."""
    attributes = {"db.operation.name": operation_type, "db.collection.name": table_name}
    return trace_operation(
        f"{operation_type} {table_name}" if table_name else operation_type, attributes, kind="client"
    )


def trace_cache_operation(operation: str) -> trace_operation:
    """A look into a cache, or a change of it."""
    return trace_operation(f"cache {operation}", {"cache.operation": operation}, kind="client")


def trace_api_request(endpoint: str, method: str = "GET") -> trace_operation:
    """The work for a request, within its server span."""
    return trace_operation(f"{method} {endpoint}", {"http.request.method": method, "http.route": endpoint})


__all__ = [
    "TracingConfig",
    "flush_traces",
    "get_tracer",
    "setup_tracing",
    "shutdown_tracing",
    "trace_agent_coordination",
    "trace_api_request",
    "trace_cache_operation",
    "trace_character_interaction",
    "trace_database_operation",
    "trace_function",
    "trace_operation",
    "trace_story_generation",
    "tracing_statistics",
]

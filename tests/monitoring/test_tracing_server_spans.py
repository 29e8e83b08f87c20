import asyncio
import json
import logging

import pytest
from otlp_sink import OtlpSink

from monitoring import _context
from monitoring.opentelemetry_tracing import (
    TracingConfig,
    flush_traces,
    setup_tracing,
    shutdown_tracing,
    trace_operation,
)
from monitoring.structured_logging import LoggingConfig, setup_structured_logging, shutdown_structured_logging

SERVER = 2


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        setup_tracing(TracingConfig(otlp_endpoint=sink.url))
        yield sink
        shutdown_tracing()


def scope(kind="http", **changes):
    return {
        "type": kind,
        "method": "GET",
        "path": "/api/stories/7",
        "scheme": "http",
        "http_version": "1.1",
        "query_string": b"token=secret",
        "headers": [(b"user-agent", b"test/1")],
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.9", 1234),
        **changes,
    }


def only(sink):
    assert flush_traces(20)
    (span,) = sink.spans()
    return span, {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_request_is_a_server_span_named_after_its_route(sink):
    span = _context.start_server_span(scope())
    span.end(200, "/api/stories/{story_id}")
    received, attributes = only(sink)
    assert (received.name, received.kind, received.status.code) == ("GET /api/stories/{story_id}", SERVER, 0)
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/api/stories/{story_id}",
        "http.response.status_code": 200,
        "url.path": "/api/stories/7",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "client.address": "10.0.0.9",
        "user_agent.original": "test/1",
    }


def test_what_the_request_does_is_within_it_and_nothing_is_open_afterwards(sink):
    span = _context.start_server_span(scope())
    with trace_operation("query"):
        pass
    span.end(200, "/")
    assert _context.span_ids() is None
    assert flush_traces(20)
    query, request = sink.spans()
    assert query.parent_span_id == request.span_id


def test_a_request_continues_the_trace_that_it_brings(sink):
    header = (b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01")
    _context.start_server_span(scope(headers=[header])).end(200, "/")
    received, _ = only(sink)
    assert received.trace_id == bytes([0xAB] * 16)
    assert received.parent_span_id == bytes([0xCD] * 8)


def test_a_trace_that_is_not_sampled_where_it_began_is_not_sent(sink):
    header = (b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00")
    span = _context.start_server_span(scope(headers=[header]))
    assert _context.current_trace_id() is None
    assert _context.span_ids().trace_id == "ab" * 16
    span.end(200, "/")
    assert flush_traces(20)
    assert sink.spans() == []


@pytest.mark.parametrize("header", [b"", b"00-zz", b"00-" + b"0" * 32 + b"-" + b"cd" * 8 + b"-01", b"\xff"])
def test_a_damaged_trace_context_begins_a_new_trace(sink, header):
    _context.start_server_span(scope(headers=[(b"traceparent", header)])).end(200, "/")
    received, _ = only(sink)
    assert received.parent_span_id == b""
    assert received.trace_id != b"\0" * 16


@pytest.mark.parametrize(("status", "is_error"), [(404, False), (500, True), (None, False)])
def test_only_an_answer_of_5xx_is_an_error_of_the_server(sink, status, is_error):
    _context.start_server_span(scope()).end(status, None)
    received, attributes = only(sink)
    assert received.name == "GET"
    assert "http.route" not in attributes
    assert (received.status.code == 2) is is_error
    assert attributes.get("error.type") == ("500" if is_error else None)


def test_an_exception_is_recorded_and_a_client_that_leaves_is_none(sink):
    _context.start_server_span(scope()).end(None, "/", ValueError("why"))
    _context.start_server_span(scope()).end(None, "/", asyncio.CancelledError())
    assert flush_traces(20)
    failed, left = sink.spans()
    assert (failed.status.code, [event.name for event in failed.events]) == (2, ["exception"])
    assert (left.status.code, list(left.events)) == (0, [])


def test_a_websocket_and_an_odd_method_are_named_in_few_words(sink):
    socket = scope("websocket", scheme="ws")
    del socket["method"]
    _context.start_server_span(socket).end(101, "/ws/{room}")
    _context.start_server_span(scope(method="BREW" * 50)).end(405, None)
    assert flush_traces(20)
    first, second = sink.spans()
    assert (first.name, second.name) == ("GET /ws/{room}", "HTTP")


def test_an_unmatched_route_is_no_route(sink):
    _context.start_server_span(scope()).end(404, "unmatched")
    received, attributes = only(sink)
    assert received.name == "GET"
    assert "http.route" not in attributes


def test_a_server_span_of_somebody_else_is_enough(sink):
    from opentelemetry import trace

    tracer = trace.get_tracer("instrumentation")
    with tracer.start_as_current_span("theirs", kind=trace.SpanKind.SERVER):
        assert _context.start_server_span(scope()) is None
    with tracer.start_as_current_span("internal"):
        assert _context.start_server_span(scope()) is not None


def test_server_spans_can_be_left_to_others(sink):
    setup_tracing(TracingConfig(otlp_endpoint=sink.url, auto_instrument_fastapi=False))
    assert _context.start_server_span is None


def test_fastapi_s_own_instrumentation_beside_ours_gives_one_server_span(sink):
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.asgi")

    async def application(scope, receive, send):
        span = _context.start_server_span(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        if span is not None:
            span.end(200, "/")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    outer = instrumentation.OpenTelemetryMiddleware(application, exclude_spans=["receive", "send"])
    asyncio.run(outer(scope(), receive, send))
    received, _ = only(sink)
    assert received.kind == SERVER


def service():
    """A FastAPI application with a router within a router, a mounted application, and ours around it."""
    fastapi = pytest.importorskip("fastapi")
    from monitoring.prometheus_metrics import setup_prometheus_endpoint

    stories = fastapi.APIRouter(prefix="/stories")

    @stories.get("/{story_id}")
    async def story(story_id: int):
        if story_id == 13:
            raise RuntimeError("unlucky")
        with trace_operation("query"):
            return {"id": story_id}

    application, mounted = fastapi.FastAPI(), fastapi.FastAPI()
    application.include_router(stories, prefix="/api")
    mounted.include_router(stories)
    application.mount("/old", mounted)
    setup_prometheus_endpoint(application)
    return application


async def ask(application, path, **changes):
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        pass

    await application(scope(path=path, raw_path=path.encode(), root_path="", **changes), receive, send)


def test_a_request_to_fastapi_is_one_server_span_with_its_whole_route(sink):
    application = service()

    async def requests():
        for path in ("/api/stories/7", "/old/stories/7", "/api/stories/7", "/nowhere"):
            await ask(application, path)

    asyncio.run(requests())
    assert flush_traces(20)
    servers = [span for span in sink.spans() if span.kind == SERVER]
    queries = [span for span in sink.spans() if span.name == "query"]
    names = ["GET /api/stories/{story_id}", "GET /old/stories/{story_id}", "GET /api/stories/{story_id}", "GET"]
    assert [span.name for span in servers] == names
    assert [span.parent_span_id for span in queries] == [span.span_id for span in servers[:3]]
    assert len(sink.spans()) == 7


def test_fastapi_s_own_spans_can_be_had_and_show_no_secret_of_the_query(sink):
    application = service()
    if not hasattr(application, "_telemetry"):
        pytest.skip("this FastAPI does not trace by itself")
    for rate in (0.0, 1.0):
        setup_tracing(TracingConfig(otlp_endpoint=sink.url, fastapi_operation_spans=True, sampling_rate=rate))
        asyncio.run(ask(application, "/api/stories/7", query_string=b"token=abc&page=2"))
    assert flush_traces(20)
    found = {span.name: span for span in sink.spans()}
    assert found["query"].parent_span_id == found["fastapi.endpoint"].span_id
    request = found["GET /api/stories/{story_id}"]
    assert [each.value.string_value for each in request.attributes if each.key == "url.query"] == [
        "token=[redacted]&page=2"
    ]
    assert [span.kind for span in sink.spans()].count(SERVER) == 1


def test_an_exception_that_the_server_logs_after_the_request_still_names_it(sink, tmp_path):
    setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False))
    application = service()
    try:
        asyncio.run(ask(application, "/api/stories/13", headers=[(b"x-request-id", b"r-1")]))
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    shutdown_structured_logging()
    line = json.loads((tmp_path / "novel-engine.log").read_text().splitlines()[-1])
    received, _ = only(sink)
    assert received.status.code == 2
    assert (line["trace_id"], line["span_id"]) == (received.trace_id.hex(), received.span_id.hex())
    assert line["request_id"] == "r-1"


def test_an_application_given_to_setting_up_gets_server_spans(sink, tmp_path):
    fastapi = pytest.importorskip("fastapi")
    for give in (
        lambda app: setup_tracing(app=app),
        lambda app: setup_tracing(app),
        lambda app: setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False), app=app),
        lambda app: setup_structured_logging(app),
    ):
        application = fastapi.FastAPI()
        give(application)
        asyncio.run(ask(application, "/openapi.json"))
    shutdown_structured_logging()
    assert flush_traces(20)
    assert [span.name for span in sink.spans()] == ["GET /openapi.json"] * 4

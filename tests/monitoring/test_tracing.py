import asyncio
import contextvars
import functools
import json
import subprocess
import sys

import pytest
from otlp_sink import OtlpSink

from monitoring import _context
from monitoring.opentelemetry_tracing import (
    TracingConfig,
    flush_traces,
    get_tracer,
    setup_tracing,
    shutdown_tracing,
    trace_agent_coordination,
    trace_api_request,
    trace_cache_operation,
    trace_character_interaction,
    trace_database_operation,
    trace_function,
    trace_operation,
    trace_story_generation,
)
from monitoring.structured_logging import LoggingConfig, setup_structured_logging, shutdown_structured_logging

OK, ERROR = 0, 2
INTERNAL, CLIENT = 1, 3


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        setup_tracing(TracingConfig(service_name="novel-engine", environment="production", otlp_endpoint=sink.url))
        yield sink
        shutdown_tracing()


def spans(sink):
    """What has ended, by name."""
    assert flush_traces(20)
    return {span.name: span for span in sink.spans()}


def attributes(span):
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in span.attributes
        if each.key != "code.function.name"
    }


def test_a_story_is_traced_with_the_queries_within(sink):
    @trace_story_generation("adventure", character_count=3)
    async def generate_story(story_type, characters):
        async with trace_operation("database_query", {"table": "users"}) as span:
            span.set_attribute("result_count", 3)
        return story_type

    assert asyncio.run(generate_story("adventure", [])) == "adventure"
    found = spans(sink)
    story, query = found["story_generation"], found["database_query"]
    assert attributes(story) == {"story.type": "adventure", "story.character_count": 3}
    assert attributes(query) == {"table": "users", "result_count": 3}
    assert query.parent_span_id == story.span_id
    assert query.trace_id == story.trace_id
    assert (story.kind, story.status.code) == (INTERNAL, OK)


def test_spans_say_whose_they_are(sink):
    with trace_operation("x"):
        pass
    spans(sink)
    resource = {each.key: each.value.string_value for each in sink.traces[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "novel-engine"
    assert resource["deployment.environment.name"] == "production"
    assert resource["host.name"]


@pytest.mark.parametrize(
    ("operation", "name", "kind", "expected"),
    [
        (trace_agent_coordination("director", "planning"), "agent_coordination", INTERNAL,
         {"agent.type": "director", "coordination.type": "planning"}),
        (trace_character_interaction("dialogue"), "character_interaction", INTERNAL, {"interaction.type": "dialogue"}),
        (trace_database_operation("SELECT", "stories"), "SELECT stories", CLIENT,
         {"db.operation.name": "SELECT", "db.collection.name": "stories"}),
        (trace_database_operation("COMMIT"), "COMMIT", CLIENT, {"db.operation.name": "COMMIT"}),
        (trace_cache_operation("get"), "cache get", CLIENT, {"cache.operation": "get"}),
        (trace_api_request("/api/stories", "POST"), "POST /api/stories", INTERNAL,
         {"http.request.method": "POST", "http.route": "/api/stories"}),
    ],
)  # fmt: skip
def test_each_operation_has_its_name_and_attributes(sink, operation, name, kind, expected):
    assert operation(lambda value: value)(5) == 5
    span = spans(sink)[name]
    assert (span.kind, attributes(span)) == (kind, expected)


def test_a_function_is_named_as_it_is_unless_told(sink):
    @trace_function
    def plain():
        return 1

    @trace_function("told", {"a": 1})
    def told():
        return 2

    assert (plain(), told()) == (1, 2)
    assert plain.__name__ == "plain"
    found = spans(sink)
    assert "test_a_function_is_named_as_it_is_unless_told.<locals>.plain" in found
    assert attributes(found["told"]) == {"a": 1}


def test_an_exception_ends_a_span_as_an_error_and_goes_on(sink):
    with pytest.raises(ZeroDivisionError), trace_operation("with"):
        _ = 1 / 0

    @trace_operation("quiet", record_exception=False)
    async def quiet():
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        asyncio.run(quiet())
    found = spans(sink)
    assert found["with"].status.code == found["quiet"].status.code == ERROR
    assert attributes(found["with"]) == {"error.type": "ZeroDivisionError"}
    assert [event.name for event in found["with"].events] == ["exception"]
    assert list(found["quiet"].events) == []


def test_a_cancelled_task_is_no_error(sink):
    @trace_operation("cancelled")
    async def waits():
        await asyncio.Event().wait()

    async def cancel():
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert spans(sink)["cancelled"].status.code == OK


def test_a_generators_span_holds_its_own_work_and_not_its_consumers(sink):
    @trace_operation("generator")
    def generate():
        with trace_operation("within"):
            pass
        given = yield 1
        assert given == "given"
        try:
            yield 2
        except KeyError:
            yield 3
        return "result"

    with trace_operation("consumer"):
        generator = generate()
        assert next(generator) == 1
        with trace_operation("between"):
            pass
        assert generator.send("given") == 2
        assert generator.throw(KeyError()) == 3
        with pytest.raises(StopIteration, match="result"):
            next(generator)
    found = spans(sink)
    assert found["within"].parent_span_id == found["generator"].span_id
    assert found["between"].parent_span_id == found["consumer"].span_id
    assert found["generator"].parent_span_id == found["consumer"].span_id
    assert found["generator"].status.code == OK


def test_an_async_generators_too_also_when_it_is_left_early(sink, caplog):
    closed = []

    @trace_operation("stream")
    async def stream():
        try:
            for number in range(10):
                async with trace_operation("chunk"):
                    pass
                yield number
        finally:
            closed.append(True)

    async def consume():
        chunks = stream()
        assert await anext(chunks) == 0
        with trace_operation("between"):
            await asyncio.sleep(0)
        assert await contextvars.copy_context().run(lambda: asyncio.create_task(anext(chunks))) == 1
        await chunks.aclose()

    asyncio.run(consume())
    found = spans(sink)
    assert closed == [True]
    assert found["chunk"].parent_span_id == found["stream"].span_id
    assert found["between"].parent_span_id == b""
    assert "Failed to detach" not in caplog.text


def test_a_generator_that_fails_is_an_error_and_one_that_never_runs_is_no_span(sink):
    @trace_operation("fails")
    def fails():
        yield 1
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        list(fails())
    never = fails()
    del never
    assert flush_traces(20)
    assert [span.status.code for span in sink.spans()] == [ERROR]


def test_methods_partials_and_callable_objects_are_traced(sink):
    class Stories:
        @trace_function("method")
        def method(self):
            return self

        async def __call__(self):
            return 4

    stories = Stories()
    assert stories.method() is stories
    assert trace_operation("partial")(functools.partial(int, "7"))() == 7
    assert asyncio.run(trace_operation("object")(stories)()) == 4
    assert set(spans(sink)) == {"method", "partial", "object"}


def test_a_block_that_is_left_in_another_context_says_nothing(sink, caplog):
    async def generate():
        with trace_operation("left elsewhere"):
            yield 1

    async def consume():
        chunks = generate()
        assert await asyncio.create_task(anext(chunks)) == 1
        await chunks.aclose()
        assert _context.span_ids() is None

    asyncio.run(consume())
    assert "left elsewhere" in spans(sink)
    assert "Failed to detach" not in caplog.text


def test_one_operation_object_may_be_open_within_itself(sink):
    operation = trace_operation("twice")
    with operation, operation:
        pass
    assert flush_traces(20)
    inner, outer = sink.spans()
    assert inner.parent_span_id == outer.span_id


def test_attributes_of_other_types_are_texts_and_none_is_left_out(sink):
    with trace_operation("x", {"a": {"b": 1}, "c": None, "d": [1, 2], "e": [1, "x"], "f": []}):
        pass
    found = attributes(spans(sink)["x"])
    assert [each.int_value for each in found.pop("d").values] == [1, 2]
    assert found == {"a": "{'b': 1}", "e": "[1, 'x']", "f": "[]"}


def test_log_lines_carry_the_open_span(sink, tmp_path):
    logger = setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False))
    with trace_operation("x"):
        logger.info("within")
        ids = _context.span_ids()
        assert _context.current_trace_id() == ids.trace_id
    logger.info("after")
    shutdown_structured_logging()
    within, after = (json.loads(line) for line in (tmp_path / "novel-engine.log").read_text().splitlines())
    span = spans(sink)["x"]
    assert within["trace_id"] == span.trace_id.hex() == ids.trace_id
    assert within["span_id"] == span.span_id.hex() == ids.span_id
    assert "trace_id" not in after


def test_the_share_of_traces_is_what_was_asked_for(sink):
    setup_tracing(TracingConfig(otlp_endpoint=sink.url, sampling_rate=0.0))
    with trace_operation("none"):
        assert _context.span_ids().is_sampled is False
        assert _context.current_trace_id() is None
    setup_tracing(TracingConfig(otlp_endpoint=sink.url, sampling_rate=0.5))
    for _ in range(1000):
        with trace_operation("half"), trace_operation("child"):
            pass
    assert flush_traces(20)
    names = [span.name for span in sink.spans()]
    assert "none" not in names
    assert 400 < names.count("half") < 600
    assert names.count("half") == names.count("child")


def test_setting_up_again_gives_the_same_tracer_and_another_configuration_another_place(sink):
    tracer = setup_tracing()
    assert setup_tracing() is tracer
    assert get_tracer() is tracer
    with OtlpSink() as other:
        setup_tracing(TracingConfig(service_name="other", otlp_endpoint=other.url))
        with trace_operation("moved"):
            pass
        assert "moved" in spans(other)
        resource = other.traces[0].resource_spans[0].resource.attributes
        assert [each.value.string_value for each in resource if each.key == "service.name"] == ["other"]
        shutdown_tracing()
    assert sink.spans() == []


def test_spans_of_libraries_that_use_opentelemetry_itself_arrive_too(sink):
    from opentelemetry import trace

    with trace.get_tracer("a library").start_as_current_span("library"), trace_operation("ours"):
        pass
    found = spans(sink)
    assert found["ours"].parent_span_id == found["library"].span_id


def test_after_shutdown_spans_are_nobodys_and_tracing_can_begin_anew(sink):
    shutdown_tracing()
    with trace_operation("lost") as span:
        span.set_attribute("a", 1)
        assert _context.span_ids() is None
    setup_tracing(TracingConfig(otlp_endpoint=sink.url))
    with trace_operation("again"):
        pass
    assert list(spans(sink)) == ["again"]


WITHOUT = """
import asyncio, logging, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
logging.basicConfig(format="%(message)s")
from monitoring.opentelemetry_tracing import *
for _ in range(2):
    with setup_tracing().start_as_current_span("x") as span:
        span.set_attribute("a", 1)

@trace_story_generation("adventure", character_count=3)
async def story():
    async with trace_operation("x", {"a": 1}) as span:
        span.set_attribute("a", 1); span.add_event("e"); span.record_exception(ValueError()); span.set_status("x")
        assert not span.is_recording() and span.get_span_context() is None
    return 5

@trace_function
def numbers():
    yield 1
    yield 2

assert asyncio.run(story()) == 5
assert list(numbers()) == [1, 2]
get_tracer().start_span("x").end()
assert flush_traces()
shutdown_tracing()
"""


def test_without_opentelemetry_everything_works_and_that_is_said_once():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stderr == "opentelemetry-sdk is not installed: nothing is traced\n"


FOREIGN = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
theirs = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(theirs))
trace.set_tracer_provider(provider)
from monitoring.opentelemetry_tracing import *
setup_tracing(TracingConfig(otlp_endpoint=sys.argv[1]))
setup_tracing(TracingConfig(otlp_endpoint=sys.argv[1], sampling_rate=0.5))
with trace.get_tracer("x").start_as_current_span("theirs"), trace_operation("ours"):
    pass
shutdown_tracing()
print(sorted(span.name for span in theirs.get_finished_spans()))
"""


def test_an_application_with_its_own_tracer_provider_keeps_it_and_spans_come_here_once_too():
    with OtlpSink() as sink:
        done = subprocess.run([sys.executable, "-c", FOREIGN, sink.url], capture_output=True, text=True, check=True)
        assert done.stdout == "['ours', 'theirs']\n"
        assert sorted(span.name for span in sink.spans()) == ["ours", "theirs"]

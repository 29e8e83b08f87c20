"""What the application sends to the real command: where it is seen, and where it goes."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from agent_process import AgentProcess
from otlp_client import counter, gauge, log_records, post
from otlp_sink import OtlpSink
from trace_payloads import request, span, trace_id

from rivals import free_port

GET, TALE, LOOKUP = "GET /api/stories", "tell a tale", "SELECT story"


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def port() -> int:
    return free_port()


def configuration(port: int, sink: OtlpSink | None = None, **sections) -> dict:
    export = [{"name": "central", "endpoint": sink.url}] if sink is not None else []
    return {
        "host": {"interval": "1h"},
        "otlp_receiver": {"http": f"127.0.0.1:{port}"},
        "export": export,
        **sections,
    }


def resource_of(group) -> dict[str, str]:
    return {each.key: each.value.string_value for each in group.resource.attributes}


def lines(agent: AgentProcess, *beginnings: str) -> list[str]:
    return [line for line in agent.get("/metrics").splitlines() if line.startswith(beginnings)]


def names(sink: OtlpSink) -> list[str]:
    return sorted(each.name for each in sink.spans())


def test_each_signal_is_forwarded_with_the_host_added_to_what_its_sender_says_of_itself(tmp_path, port, sink):
    resource = {"attributes": {"deployment.environment.name": "staging", "service.name": "the-agent's-own"}}
    with AgentProcess(tmp_path, configuration(port, sink, resource=resource)) as agent:
        assert post(port, "traces", request(span(1, 1), service="tales")).status == 200
        assert post(port, "metrics", gauge("pens.ready", 3)).status == 200
        assert post(port, "logs", log_records("once", "upon")).status == 200
        sink.wait(lambda sink: sink.traces and sink.logs and "pens.ready" in sink.metrics())
        (received,) = agent.json("/api/v1/status")["receivers"]
    assert received["transport"] == "http"
    assert received["accepted_items"] == {"metrics": 1, "logs": 2, "traces": 1}
    spans, records = sink.traces[0].resource_spans[0], sink.logs[0].resource_logs[0]
    for group in (spans, records):
        assert resource_of(group)["host.name"] == socket.gethostname()
        assert resource_of(group)["deployment.environment.name"] == "staging"
    assert (resource_of(spans)["service.name"], resource_of(records)["service.name"]) == ("tales", "novel-engine")
    assert [each.body.string_value for each in records.scope_logs[0].log_records] == ["once", "upon"]


def test_received_metrics_are_shown_and_one_that_wants_a_name_of_ours_is_renamed(tmp_path, port):
    with AgentProcess(tmp_path, configuration(port)) as agent:
        post(port, "metrics", counter("stories.told", 7, "{story}", genre="saga"))
        post(port, "metrics", gauge("node_load1", 99.0))
        post(port, "metrics", gauge("novel_agent_build_info", 5.0))
        shown = lines(agent, "stories_told", "otlp_", "novel_agent_received_metrics")
        loads = lines(agent, "node_load1 ")
        status = agent.json("/api/v1/status")
    assert shown == [
        'stories_told_total{genre="saga",job="novel-engine"} 7',
        'otlp_node_load1{job="novel-engine"} 99.0',
        'otlp_novel_agent_build_info{job="novel-engine"} 5.0',
        "novel_agent_received_metrics_series 3",
        'novel_agent_received_metrics_renamed{wanted="node_load1",shown="otlp_node_load1"} 1',
        'novel_agent_received_metrics_renamed{wanted="novel_agent_build_info",shown="otlp_novel_agent_build_info"} 1',
    ]
    assert len(loads) == 1
    assert not loads[0].endswith(" 99.0")
    assert status["renamed"] == {
        "node_load1": "otlp_node_load1",
        "novel_agent_build_info": "otlp_novel_agent_build_info",
    }


def test_a_name_that_a_text_file_has_is_on_the_page_once(tmp_path, port):
    (tmp_path / "backup.prom").write_text("backup_age_seconds 42\n")
    host = {"interval": "1h", "collectors": {"textfile": {"directories": [str(tmp_path)]}}}
    with AgentProcess(tmp_path / "agent", configuration(port, host=host)) as agent:
        post(port, "metrics", gauge("backup.age", 7.0, "s"))
        assert lines(agent, "backup_age_seconds", "# TYPE backup_age_seconds") == [
            "# TYPE backup_age_seconds untyped",
            "backup_age_seconds 42.0",
        ]


def test_a_slow_request_is_looked_up_on_the_host_by_either_way(tmp_path, port):
    began = time.time_ns()
    spans = [span(9, 1, GET, kind=2, for_ms=900), span(9, 2, LOOKUP, parent=1, kind=3, for_ms=700, db__system="pg")]
    for each in spans:
        each.end_time_unix_nano += began - spans[0].start_time_unix_nano
        each.start_time_unix_nano = began
    with AgentProcess(tmp_path, configuration(port)) as agent:
        assert post(port, "traces", request(*spans, service="tales")).status == 200
        wanted = trace_id(9).hex()
        (found,) = agent.json("/api/v1/traces?min_duration=500ms&service=tales")["traces"]
        whole = agent.json(f"/api/v1/traces/{wanted}")
        services = agent.json("/api/services")["data"]
        operations = agent.json("/api/services/tales/operations")["data"]
        (jaeger,) = agent.json(f"/api/traces/{wanted}")["data"]
        searched = agent.json("/api/traces?service=tales&limit=5&lookback=1h")["data"]
    assert (found["trace_id"], found["name"], found["span_count"]) == (wanted, GET, 2)
    assert found["duration_seconds"] == pytest.approx(0.9)
    assert [(each["name"], each["attributes"]) for each in whole["spans"]] == [(GET, {}), (LOOKUP, {"db.system": "pg"})]
    assert whole["resources"][0]["host.name"] == socket.gethostname()
    assert services == ["tales"]
    assert sorted(operations) == sorted([GET, LOOKUP])
    assert [each["operationName"] for each in jaeger["spans"]] == [GET, LOOKUP]
    assert [each["traceID"] for each in searched] == [wanted]


def test_head_sampling_keeps_whole_traces_and_counts_the_rest(tmp_path, port, sink):
    with AgentProcess(tmp_path, configuration(port, sink, traces={"head_sampling": 0.5})) as agent:
        low, high = (
            0x00_FFFF_FFFF_FFFF,
            0xFF_0000_0000_0000,
        )  # the last 56 bits of the id decide: above the half is kept
        post(port, "traces", request(span(low, 1, "dropped"), span(high, 2, "kept"), span(high, 3, "kept too")))
        sink.wait(lambda sink: sink.spans())
        dropped = lines(agent, "novel_agent_traces_dropped_spans_total")
        held = {each["trace_id"] for each in agent.json("/api/v1/traces")["traces"]}
    assert names(sink) == ["kept", "kept too"]
    assert dropped == ['novel_agent_traces_dropped_spans_total{reason="head_sampling"} 1']
    assert held == {trace_id(low).hex(), trace_id(high).hex()}  # what is looked up on the host is never sampled


def test_tail_sampling_keeps_what_a_rule_wants_also_across_requests(tmp_path, port, sink):
    rules = [{"name": "errors", "errors": True}, {"name": "slow", "latency": "500ms"}]
    traces = {"tail_sampling": rules, "tail_wait": "300ms"}
    with AgentProcess(tmp_path, configuration(port, sink, traces=traces)) as agent:
        post(
            port, "traces", request(span(1, 1, "first of failed"), span(2, 2, "quick"), span(3, 3, "slow", for_ms=501))
        )
        post(port, "traces", request(span(1, 4, "failed", parent=1, failed="no ink")))
        sink.wait(lambda sink: len(sink.spans()) == 3)
        deadline = time.monotonic() + 10
        while not (dropped := lines(agent, "novel_agent_traces_dropped_spans_total")):
            assert time.monotonic() < deadline
    assert names(sink) == ["failed", "first of failed", "slow"]
    assert dropped == ['novel_agent_traces_dropped_spans_total{reason="tail_sampling no_rule"} 1']


def test_calls_are_counted_on_the_page_and_over_otlp_with_the_graph_of_services(tmp_path, port, sink):
    traces = {"span_metrics": {"buckets": ["100ms", "1s"]}, "service_graph": True}
    host = {"interval": "1s"}
    with AgentProcess(tmp_path, configuration(port, sink, traces=traces, host=host)) as agent:
        caller = request(span(1, 1, TALE, kind=3, for_ms=300), service="web")
        called = request(span(1, 2, GET, parent=1, kind=2, for_ms=200, http__route="/api/stories"), service="stories")
        post(port, "traces", caller + called)
        calls = lines(agent, "traces_span_metrics_calls_total{")
        buckets = lines(agent, 'traces_span_metrics_duration_seconds_bucket{service_name="stories"')
        graph = lines(agent, "traces_service_graph_request_total{")
        sink.wait(lambda sink: {"traces.span.metrics.calls", "traces.span.metrics.duration"} <= sink.metrics().keys())
        (data_point, *_) = sink.metrics()["traces.span.metrics.calls"][0].sum.data_points
    assert len(calls) == 2
    assert any(
        'service_name="stories"' in line and 'http_route="/api/stories"' in line and line.endswith(" 1")
        for line in calls
    )
    assert [line.rsplit(" ", 1)[1] for line in buckets] == ["0", "1", "1"]
    assert [line for line in graph if 'client="web"' in line and 'server="stories"' in line and line.endswith(" 1")]
    assert data_point.as_int == 1 or data_point.as_double == 1


def test_what_is_redacted_is_seen_nowhere(tmp_path, port, sink):
    traces = {"redact": {"attributes": ["user\\..*"], "patterns": ["email"]}}
    with AgentProcess(tmp_path, configuration(port, sink, traces=traces)) as agent:
        told = span(1, 1, GET, user__id="4711", note="from jane@example.org")
        post(port, "traces", request(told))
        sink.wait(lambda sink: sink.spans())
        (looked_up,) = agent.json(f"/api/v1/traces/{trace_id(1).hex()}")["spans"]
        edited = lines(agent, "novel_agent_traces_edited_values_total ")
    (sent,) = sink.spans()
    attributes = {each.key: each.value.string_value for each in sent.attributes}
    assert attributes["user.id"] == "[redacted]"
    assert "jane" not in str(attributes)
    assert looked_up["attributes"] == attributes
    assert edited == ["novel_agent_traces_edited_values_total 2"]
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"jane" not in spooled
    assert b"4711" not in spooled


@contextmanager
def loki() -> Iterator[tuple[str, list[dict]]]:
    """A server that takes pushes; its address and what was pushed."""
    pushed: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            pushed.extend(json.loads(body)["streams"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", pushed
        finally:
            server.shutdown()
            thread.join()


def until(holds, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_logs_go_to_loki_and_everything_to_a_file_each_at_its_own_pace(tmp_path, port):
    file = tmp_path / "telemetry.jsonl"
    with loki() as (endpoint, pushed):
        exports = [
            {"name": "loki", "type": "loki", "endpoint": endpoint, "labels": ["service.name"]},
            {"name": "file", "type": "file", "path": str(file)},
        ]
        with AgentProcess(tmp_path / "agent", configuration(port, export=exports)) as agent:
            post(port, "logs", log_records("the muse is late", severity=13))
            post(port, "traces", request(span(1, 1, GET)))
            post(port, "metrics", gauge("pens.ready", 3))
            until(lambda: pushed and file.exists() and len(file.read_text().splitlines()) >= 3)
            until(lambda: all(each["sent_requests"] for each in agent.json("/api/v1/status")["destinations"]))
    (stream,) = pushed
    assert stream["stream"] == {"service_name": "novel-engine"}
    ((_, line, metadata),) = stream["values"]
    assert (line, metadata["level"], metadata["host_name"]) == ("the muse is late", "warn", socket.gethostname())
    written = [json.loads(line) for line in file.read_text().splitlines()]
    kinds = {next(iter(each)) for each in written}
    assert kinds == {"resourceLogs", "resourceSpans", "resourceMetrics"}
    (spans,) = [each["resourceSpans"] for each in written if "resourceSpans" in each]
    assert spans[0]["scopeSpans"][0]["spans"][0]["traceId"] == trace_id(1).hex()
    assert "ERROR" not in agent.log

"""Other people's OTLP clients against the receiver: OpenTelemetry's SDK for Python, the Collector, rotel."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink
from span_client import number_of, request_of

pytestmark = pytest.mark.interop
RIVALS = Path(os.environ.get("RIVALS_DIR", Path.home() / ".cache" / "novel-engine-rivals")) / "bin"


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def receiver(tmp_path, sink):
    """A running agent that receives on both ports and forwards to the sink."""
    http, grpc = free_ports(2)
    configuration = {
        "host": {"interval": "1h"},
        "otlp_receiver": {"http": f"127.0.0.1:{http}", "grpc": f"127.0.0.1:{grpc}"},
        "export": [{"name": "sink", "endpoint": sink.url}],
    }
    with AgentProcess(tmp_path / "agent", configuration) as agent:
        agent.http, agent.grpc = http, grpc
        yield agent


def sdk_exporters(transport, receiver):
    if transport == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        where = {"endpoint": f"http://127.0.0.1:{receiver.grpc}", "insecure": True}
        return OTLPSpanExporter(**where), OTLPMetricExporter(**where), OTLPLogExporter(**where)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = f"http://127.0.0.1:{receiver.http}/v1"
    return (
        OTLPSpanExporter(f"{base}/traces", compression=Compression.Gzip),
        OTLPMetricExporter(f"{base}/metrics"),
        OTLPLogExporter(f"{base}/logs"),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_what_the_sdk_of_opentelemetry_sends_is_forwarded_and_shown(transport, receiver, sink):
    import logging

    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    spans, metrics, logs = sdk_exporters(transport, receiver)
    resource = Resource.create({"service.name": "novel-engine", "service.namespace": "stories"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(spans))
    measuring = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(metrics, 3_600_000)])
    logging_ = LoggerProvider(resource=resource)
    logging_.add_log_record_processor(BatchLogRecordProcessor(logs))
    with tracing.get_tracer("app").start_as_current_span(
        "write a story", attributes={"story.type": "adventure"}
    ) as span:
        measuring.get_meter("app").create_counter("stories.written", unit="{story}").add(3, {"story.type": "adventure"})
        measuring.get_meter("app").create_histogram("story.duration", unit="s").record(0.2)
        record = logging.LogRecord("app", logging.WARNING, __file__, 1, "the muse is late", None, None)
        LoggingHandler(logger_provider=logging_).emit(record)
        trace_id = span.get_span_context().trace_id
    for provider in (tracing, measuring, logging_):
        assert provider.force_flush() is not False
        provider.shutdown()
    sink.wait(lambda sink: sink.traces and sink.logs and "stories.written" in sink.metrics())
    (sent,) = [span for span in sink.spans() if span.name == "write a story"]
    assert int.from_bytes(sent.trace_id, "big") == trace_id
    attributes = {each.key: each.value.string_value for each in sink.traces[0].resource_spans[0].resource.attributes}
    assert attributes["service.name"] == "novel-engine"
    assert attributes["host.name"] == socket.gethostname()
    (logged,) = sink.logs[0].resource_logs[0].scope_logs[0].log_records
    assert (logged.body.string_value, logged.severity_number) == ("the muse is late", 13)
    page = receiver.get("/metrics")
    assert "stories_written_total{" in page
    assert "story_duration_seconds_bucket{" in page
    found = receiver.json(f"/api/v1/traces/{trace_id:032x}")
    assert [each["name"] for each in found["spans"]] == ["write a story"]
    assert "novel-engine" in receiver.json("/api/services")["data"]


COLLECTOR = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}
exporters:
  {exporter}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [{name}]}}}}
"""


def program(name):
    found = RIVALS / name if (RIVALS / name).exists() else shutil.which(name)
    assert found, f"{name} is missing; `make interop` brings it"
    return str(found)


def collector(tmp_path, port, receiver, transport):
    exporters = {
        "http": ("otlp_http", f"otlp_http: {{endpoint: 'http://127.0.0.1:{receiver.http}', compression: zstd}}"),
        "json": ("otlp_http", f"otlp_http: {{endpoint: 'http://127.0.0.1:{receiver.http}', encoding: json}}"),
        "grpc": ("otlp_grpc", f"otlp_grpc: {{endpoint: '127.0.0.1:{receiver.grpc}', tls: {{insecure: true}}}}"),
    }
    name, exporter = exporters[transport]
    config = tmp_path / "collector.yaml"
    config.write_text(COLLECTOR.format(port=port, exporter=exporter, name=name))
    return [program("otelcol"), f"--config={config}"]


def rotel(tmp_path, port, receiver, transport):
    (other,) = free_ports(1)
    target = f"http://127.0.0.1:{receiver.grpc if transport == 'grpc' else receiver.http}"
    return [
        *(program("rotel"), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}"),
        *("--otlp-grpc-endpoint", f"127.0.0.1:{other}", "--exporter", "otlp", "--otlp-exporter-endpoint", target),
        *("--otlp-exporter-protocol", "grpc" if transport == "grpc" else "http"),
    ]


@pytest.mark.parametrize(
    ("client", "transport"),
    [(collector, "http"), (collector, "json"), (collector, "grpc"), (rotel, "http"), (rotel, "grpc")],
    ids=["collector http zstd", "collector json", "collector grpc", "rotel http", "rotel grpc"],
)
def test_what_another_agent_forwards_arrives_once_each(client, transport, receiver, sink, tmp_path):
    import urllib.request

    (port,) = free_ports(1)
    with (tmp_path / "client.log").open("wb") as log:
        process = subprocess.Popen(client(tmp_path, port, receiver, transport), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 20
            sent = 0
            while sent < 20:
                body = request_of(range(sent * 50, sent * 50 + 50)).SerializeToString()
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/v1/traces", body, {"Content-Type": "application/x-protobuf"}
                )
                try:
                    urllib.request.urlopen(request, timeout=5).close()
                    sent += 1
                except OSError:
                    assert time.monotonic() < deadline, (tmp_path / "client.log").read_text()
                    time.sleep(0.1)
            sink.wait(lambda sink: len(sink.spans()) >= 1000)
        finally:
            process.terminate()
            process.wait(20)
    assert sorted(map(number_of, sink.spans())) == list(range(1000))

"""Where spans go, and that nobody waits for a collector that is away, silent or unwell."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from otlp_sink import OtlpSink

from monitoring import _courier, opentelemetry_tracing
from monitoring._courier import Answer, Bounds, Courier, Outcome
from monitoring.opentelemetry_tracing import (
    TracingConfig,
    flush_traces,
    setup_tracing,
    shutdown_tracing,
    trace_operation,
    tracing_statistics,
)


@pytest.fixture(autouse=True)
def _no_tracing_afterwards(monkeypatch):
    monkeypatch.setattr(_courier, "_FIRST_PAUSE_SECONDS", 0.01)
    for name in (
        "OTLP_ENDPOINT",
        "JAEGER_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
    yield
    shutdown_tracing(0)


@pytest.mark.parametrize(
    ("config", "environment", "url"),
    [
        ({}, {}, "http://127.0.0.1:4318"),
        ({}, {"OTLP_ENDPOINT": "http://tempo:4318"}, "http://tempo:4318"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTLP_ENDPOINT": "http://b:2"}, "http://a:1"),
        ({}, {"JAEGER_ENDPOINT": "http://jaeger:14268/api/traces"}, "http://jaeger:4318"),
        ({"jaeger_endpoint": "http://jaeger:14268/api/traces"}, {"OTLP_ENDPOINT": "http://b:2"}, "http://jaeger:4318"),
        ({"jaeger_endpoint": "https://u:p@[::1]:14268"}, {}, "https://[::1]:4318"),
        ({"jaeger_endpoint": "x", "otlp_endpoint": "http://c:3"}, {}, "http://c:3"),
        ({"jaeger_endpoint": "jaeger"}, {}, "http://jaeger:4318"),
        ({"jaeger_endpoint": ":::"}, {}, "http://127.0.0.1:4318"),
    ],
)
def test_where_spans_go(monkeypatch, config, environment, url):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert opentelemetry_tracing._where(TracingConfig(**config)) == (url, False)


def test_headers_and_a_path_of_traces_alone_are_taken_from_the_environment(monkeypatch):
    with OtlpSink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{sink.url}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,y=2")
        assert opentelemetry_tracing._environment_headers() == {"x-tenant": "a b", "y": "2"}
        setup_tracing()
        with trace_operation("x"):
            pass
        assert flush_traces(20)
        assert [span.name for span in sink.spans()] == ["x"]


def test_spans_are_delivered_without_being_asked_for():
    with OtlpSink() as sink:
        setup_tracing(TracingConfig(otlp_endpoint=sink.url))
        with trace_operation("x"):
            pass
        sink.wait(lambda sink: len(sink.spans()) == 1, 20)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_what_was_kept_while_the_collector_was_away_is_delivered_once_on_return():
    port = free_port()
    setup_tracing(TracingConfig(otlp_endpoint=f"http://127.0.0.1:{port}"))
    for number in range(300):
        with trace_operation(f"n{number}"):
            pass
    assert not flush_traces(20)
    assert tracing_statistics() == {"delivered": 0, "kept": 300, "dropped": 0, "refused": 0}
    with OtlpSink(port) as sink:
        sink.wait(lambda sink: len(sink.spans()) >= 300, 20)
        assert flush_traces(20)
        assert sorted(span.name for span in sink.spans()) == sorted(f"n{number}" for number in range(300))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_collector_that_is_unwell_gets_them_later(status):
    with OtlpSink() as sink:
        sink.status = status
        setup_tracing(TracingConfig(otlp_endpoint=sink.url))
        with trace_operation("x"):
            pass
        sink.wait(lambda sink: sink.refused >= 2, 20)
        sink.status = 200
        sink.wait(lambda sink: len(sink.spans()) == 1, 20)


def test_spans_that_are_refused_for_good_are_counted_and_do_not_stand_in_the_way(caplog):
    with OtlpSink() as sink:
        sink.status = 400
        setup_tracing(TracingConfig(otlp_endpoint=sink.url))
        with trace_operation("bad"):
            pass
        sink.wait(lambda sink: sink.refused == 1, 20)
        sink.status = 200
        with trace_operation("good"):
            pass
        sink.wait(lambda sink: len(sink.spans()) == 1, 20)
        assert [span.name for span in sink.spans()] == ["good"]
        assert tracing_statistics()["refused"] == 1
    assert "answers 400" in caplog.text


def test_a_silent_collector_makes_nobody_wait_and_nothing_grows():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        setup_tracing(TracingConfig(otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=60))
        for _ in range(6000):
            with trace_operation("x"):
                pass
        found = tracing_statistics()
        assert found["kept"] <= 4096 + 256
        assert found["kept"] + found["dropped"] == 6000
        begin = time.monotonic()
        assert not flush_traces(0.1)
        shutdown_tracing(0.1)
        assert time.monotonic() - begin < 5


def test_the_newest_are_kept_when_there_is_no_room():
    seen, may_go = [], threading.Event()

    def send(batch):
        assert may_go.wait(20)
        seen.extend(batch)
        return Answer(Outcome.DELIVERED)

    courier = Courier("test", send, Bounds(most_items=10, most_bytes=1000, batch_items=5, linger_seconds=60))
    for number in range(25):
        courier.put(number)
    may_go.set()
    assert courier.flush(20)
    courier.close()
    assert seen[-5:] == [20, 21, 22, 23, 24]
    assert len(seen) + courier.dropped_items == 25


def test_what_is_kept_is_bounded_by_bytes_too():
    courier = Courier("test", lambda _: Answer(Outcome.LATER), Bounds(1000, 1000, 5, 60))
    for number in range(100):
        courier.put(number, 100)
    assert courier.kept_items == 10
    courier.close(0)


def test_who_waits_for_a_silent_server_does_so_once():
    may_go = threading.Event()

    def send(batch):
        assert may_go.wait(20)
        return Answer(Outcome.DELIVERED)

    courier = Courier("test", send, Bounds(10, 1000, 1, 0.01))
    courier.put("a")
    assert not courier.flush(0.05)
    begin = time.monotonic()
    assert not courier.flush(60)
    assert time.monotonic() - begin < 30
    may_go.set()
    deadline = time.monotonic() + 20
    while not courier.flush(20) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert courier.delivered_items == 1
    courier.close()


def test_an_error_of_the_transport_itself_is_no_end():
    answers = [ValueError("odd"), OSError("away"), Answer(Outcome.DELIVERED)]
    told = []

    def send(batch):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    courier = Courier("test", send, Bounds(10, 1000, 1, 0.01), told.append)
    courier.put("a")
    courier.put("b")
    deadline = time.monotonic() + 20
    while courier.kept_items and time.monotonic() < deadline:
        courier.flush(1)
    courier.close()
    assert (courier.refused_items, courier.delivered_items) == (1, 1)
    assert told == ["refused, so dropped: odd", "what is to be delivered is kept: away", "delivered again"]


EXITING = """
import os, sys
from monitoring.opentelemetry_tracing import *
setup_tracing(TracingConfig(otlp_endpoint=sys.argv[1]))
with trace_operation("parent"):
    pass
if len(sys.argv) > 2:
    for number in range(3):
        if os.fork() == 0:
            with trace_operation("child"):
                pass
            sys.exit(0)
    for number in range(3):
        os.wait()
"""


def test_what_is_kept_is_delivered_at_exit():
    with OtlpSink() as sink:
        subprocess.run([sys.executable, "-c", EXITING, sink.url], check=True, timeout=30)
        assert [span.name for span in sink.spans()] == ["parent"]


def test_children_of_fork_deliver_their_own_spans_and_no_others():
    with OtlpSink() as sink:
        subprocess.run([sys.executable, "-W", "ignore", "-c", EXITING, sink.url, "fork"], check=True, timeout=60)
        found = sink.spans()
        assert sorted(span.name for span in found) == ["child", "child", "child", "parent"]
        assert len({span.span_id for span in found}) == 4


def test_an_exit_does_not_wait_long_for_a_silent_collector():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        subprocess.run([sys.executable, "-c", EXITING, url], check=True, timeout=60)
        assert time.monotonic() - begin < 15


def test_port_4317_means_grpc_and_without_its_exporter_http_beside_it(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    setup_tracing(TracingConfig(otlp_endpoint="http://127.0.0.1:4317"))
    assert "spans go to http://127.0.0.1:4318" in caplog.text


def test_nothing_is_open_after_a_delivery():
    with OtlpSink() as sink:
        setup_tracing(TracingConfig(otlp_endpoint=sink.url))
        with trace_operation("x"):
            pass
        assert flush_traces(20)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with trace_operation("x"):
                pass
            assert flush_traces(20)
        sink.wait(lambda sink: len(sink.spans()) == 6)
        assert len(os.listdir("/proc/self/fd")) <= before + 1

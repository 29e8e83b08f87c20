"""What one client sends that cannot be read, and what that does to the others, with the real command."""

import http.client
import os
import time
from collections.abc import Iterator

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink
from trace_payloads import request, span

from rivals import free_port

CUT_OFF = b"\x4a\x05ab"
"""An attribute of a span that says it is longer than the span."""


class Client:
    """A connection whose first request, the one that is checked to the bottom, is over."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert self.send(b"") == 200

    def send(self, body: bytes) -> int:
        self._connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def bad_request(inner: bytes) -> bytes:
    """A request of one span with this content."""
    scope = b"\x12" + bytes([len(inner)]) + inner
    group = b"\x12" + bytes([len(scope)]) + scope
    return b"\x0a" + bytes([len(group)]) + group


BAD = bad_request(b"\x2a\x03bad" + CUT_OFF)


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def port() -> int:
    return free_port()


def configuration(port: int, sink: OtlpSink, **traces: object) -> dict:
    return {
        "host": {"interval": "1h"},
        "otlp_receiver": {"http": f"127.0.0.1:{port}", "durability": "os"},
        "export": [{"name": "central", "endpoint": sink.url, "signals": ["traces"]}],
        "traces": traces,
    }


def counted(agent: AgentProcess, name: str | tuple[str, ...]) -> list[str]:
    return [line for line in agent.get("/metrics").splitlines() if line.startswith(name) and not line.endswith(" 0")]


def names(sink: OtlpSink) -> list[str]:
    return sorted(each.name for each in sink.spans())


def test_a_flood_of_requests_that_cannot_be_read_loses_nobody_elses(tmp_path, port, sink):
    sink.status = 503
    dropped = 'novel_agent_export_dropped_items_total{destination="central",signal="traces",reason='
    with (
        AgentProcess(tmp_path, configuration(port, sink)) as agent,
        Client(port) as good,
        Client(port) as bad,
    ):
        time.sleep(0.2)  # at most ten requests a second are checked to the bottom
        for number in range(1, 301):
            assert good.send(request(span(number, number, f"good {number:03}"))) == 200
            if number % 3 == 0:
                assert bad.send(BAD) == 200
        sink.status = 200
        sink.wait(lambda sink: len(sink.spans()) >= 300)
        deadline = time.monotonic() + 20
        while agent.json("/api/v1/status")["destinations"][0]["queue_items"] and time.monotonic() < deadline:
            time.sleep(0.05)
        lost = counted(agent, "novel_agent_export_dropped_items_total")
    assert names(sink) == [f"good {number:03}" for number in range(1, 301)]
    assert lost == [f'{dropped}"malformed"}} 100']


def test_spans_that_are_to_be_redacted_and_cannot_be_read_are_refused_before_anything_is_counted(tmp_path, port, sink):
    good = request(span(1, 1, "good", note="from jane@example.org"))
    with (
        AgentProcess(tmp_path, configuration(port, sink, redact={"patterns": ["email"]}, span_metrics=True)) as agent,
        Client(port) as client,
    ):
        time.sleep(0.2)
        assert client.send(good + bad_request(b"\x4a\x20jane@example.or")) == 400
        assert client.send(good) == 200
        sink.wait(lambda sink: sink.spans())
        page = counted(agent, ("novel_agent_traces", "traces_span_metrics_calls_total"))
    assert [line.rsplit(" ", 1)[1] for line in page if line.startswith("traces_span_metrics_calls_total")] == ["1"]
    assert [line for line in page if line.startswith("novel")] == ["novel_agent_traces_edited_values_total 1"]
    assert names(sink) == ["good"]


def test_under_tail_sampling_only_the_requests_that_cannot_be_read_are_dropped(tmp_path, port, sink):
    traces = {"tail_sampling": [{"name": "all"}], "tail_wait": "1s"}
    with (
        AgentProcess(tmp_path, configuration(port, sink, **traces)) as agent,
        Client(port) as good,
        Client(port) as bad,
    ):
        time.sleep(0.2)
        for number in range(1, 201):
            assert good.send(request(span(number, number, f"good {number:03}"))) == 200
            if number % 4 == 0:
                assert bad.send(bad_request(b"\x0a\x7f\x00")) == 200
        sink.wait(lambda sink: len(sink.spans()) >= 200)
        lost = counted(agent, "novel_agent_traces_dropped_spans_total")
    assert names(sink) == [f"good {number:03}" for number in range(1, 201)]
    assert lost == ['novel_agent_traces_dropped_spans_total{reason="unreadable"} 50']


def test_a_state_directory_that_everyone_may_write_to_is_refused(tmp_path, port, sink):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (state / "lock").symlink_to(victim)
    with pytest.raises(AssertionError, match=f"ended with 2: .*{state} may be written by everyone"):
        AgentProcess(tmp_path, configuration(port, sink))
    assert victim.read_text() == "precious"
    assert os.listdir(state) == ["lock"]

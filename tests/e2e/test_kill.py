"""SIGKILL at random moments under load: what was acknowledged arrives, and little arrives twice."""

import os
import random
import signal
import socket
import time

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink
from span_client import SpanClient, number_of

KILLS = int(os.environ.get("NOVEL_AGENT_KILLS", "5"))
KILLS_SAMPLING = max(5, KILLS // 4)
LONGEST_LIFE_SECONDS = 0.6


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def configuration(sink, port, **traces):
    return {
        "host": {"interval": "1h"},
        "otlp_receiver": {"http": f"127.0.0.1:{port}"},
        "traces": traces,
        "export": [{"name": "sink", "endpoint": sink.url, "signals": ["traces"]}],
    }


@pytest.mark.parametrize(
    ("traces", "kills"),
    [({}, KILLS), ({"tail_sampling": [{"name": "all"}], "tail_wait": "50ms"}, KILLS_SAMPLING)],
    ids=["forwarded", "tail sampled"],
)
def test_nothing_that_was_acknowledged_is_lost_by_being_killed(tmp_path, traces, kills):
    moments = random.Random(20261128)
    port = free_port()
    with OtlpSink() as sink:
        client = SpanClient(port)
        try:
            for _ in range(kills):
                agent = AgentProcess(tmp_path, configuration(sink, port, **traces))
                time.sleep(moments.uniform(0.0, LONGEST_LIFE_SECONDS))
                agent.send(signal.SIGKILL)
                agent.process.wait(10)
                agent.close()
        finally:
            client.stop()
        assert len(client.taken) > 100, "too little was taken for the test to mean anything"
        with AgentProcess(tmp_path, configuration(sink, port, **traces)) as agent:
            taken = client.taken_ids
            sink.wait(lambda sink: taken <= sink.span_ids, 60)
            status = agent.json("/api/v1/status")
        assert status["destinations"][0]["damaged_bytes"] < 1 << 20
    arrived = list(map(number_of, sink.spans()))
    if not traces:
        # A kill finds at most one request's worth under way, and what was answered but not yet noted: some 1 MiB each.
        assert len(arrived) - len(set(arrived)) <= kills * 10_000
    print(f"{kills} kills, {len(client.taken)} spans taken, {len(arrived) - len(set(arrived))} arrived twice")

"""The running agent writes to a real Prometheus 3 on its schedule: the series there are those that its /metrics shows."""

import json
import time
import urllib.parse
import urllib.request

import pytest
from agent_process import AgentProcess
from exposition import Page, parse
from otlp_client import counter, gauge, post
from trace_payloads import request, span

from rivals import free_port

pytestmark = pytest.mark.interop

EXTERNAL = {"job": "novel-engine-agent"}


@pytest.fixture
def prometheus(tmp_path, rival):
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    return rival(
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        "--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        ready="/-/ready",
    )


def query(url: str, expression: str) -> dict[frozenset[tuple[str, str]], float]:
    asked = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{asked}", timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    return {frozenset(each["metric"].items()): float(each["value"][1]) for each in result}


def shown(page: Page, instance: str) -> dict[frozenset[tuple[str, str]], float]:
    """What the page says, with the labels that the sender adds where a series has none of that name."""
    found = {}
    for (name, labels), value in page.series.items():
        own = {label: text for label, text in labels if text}
        found[frozenset({**EXTERNAL, "instance": instance, **own, "__name__": name}.items())] = value
    return found


def configuration(port: int, url: str, version: str) -> dict:
    return {
        "host": {"interval": "1s"},
        "otlp_receiver": {"http": f"127.0.0.1:{port}"},
        "resource": {"attributes": {"host.name": "scriptorium"}},
        "traces": {"span_metrics": True},
        "export": [
            {"name": "central", "type": "prometheus_remote_write", "endpoint": url, "remote_write_version": version}
        ],
    }


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_the_series_in_prometheus_are_those_of_the_page(prometheus, tmp_path, version):
    port = free_port()
    with AgentProcess(tmp_path / "agent", configuration(port, prometheus, version)) as agent:
        post(port, "metrics", counter("stories.told", 7, "{story}", genre="saga"))
        post(port, "metrics", gauge("node_load1", 99.0))
        post(port, "traces", request(span(1, 1, "GET /api/stories", kind=2)))
        time.sleep(3.5)
        before = shown(parse(agent.get("/metrics")), "scriptorium")
        time.sleep(2.5)
        theirs = query(prometheus, '{__name__=~".+"}')
        time.sleep(1.1)
        after = shown(parse(agent.get("/metrics")), "scriptorium")
        (destination,) = agent.json("/api/v1/status")["destinations"]
    assert (destination["dropped_items"], destination["rejected_items"]) == ({}, {})
    lasting = before.keys() & after.keys()
    assert len(lasting) > 300
    assert sorted(map(sorted, lasting - theirs.keys())) == []
    assert sorted(map(sorted, theirs.keys() - before.keys() - after.keys())) == []
    still = {series for series in lasting if before[series] == after[series]}
    assert len(still) > 200
    # What is the same before and after may have moved there and back between: gauges of the kernel's, on a busy machine.
    assert len([series for series in still if theirs[series] != before[series]]) <= 0.05 * len(still)
    told = frozenset(
        {"__name__": "stories_told_total", "genre": "saga", "job": "novel-engine", "instance": "scriptorium"}.items()
    )
    assert theirs[told] == 7.0
    renamed = [value for series, value in theirs.items() if ("__name__", "otlp_node_load1") in series]
    assert renamed == [99.0]
    calls = [value for series, value in theirs.items() if ("__name__", "traces_span_metrics_calls_total") in series]
    assert calls == [1.0]
    assert "ERROR" not in agent.log


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_what_an_outage_kept_back_arrives_whole_and_in_order(tmp_path, rival, version):
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    receiver = free_port()
    with AgentProcess(tmp_path / "agent", configuration(receiver, url, version)) as agent:
        until = time.monotonic() + 60
        time.sleep(4)
        while True:
            (waiting,) = agent.json("/api/v1/status")["destinations"]
            if waiting["state"] == "waiting to retry" or time.monotonic() > until:
                break
            time.sleep(0.1)
        assert waiting["state"] == "waiting to retry"
        rival(
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            ready="/-/ready",
            port=port,
        )
        deadline = time.monotonic() + 60
        while list(query(url, "count_over_time(node_time_seconds[5m])").values()) < [8.0]:
            assert time.monotonic() < deadline, agent.json("/api/v1/status")["destinations"]
            time.sleep(0.2)
        (samples,) = query(url, "count_over_time(node_time_seconds[5m])").values()
        (lasted,) = query(url, "max_over_time(node_time_seconds[5m]) - min_over_time(node_time_seconds[5m])").values()
        (destination,) = agent.json("/api/v1/status")["destinations"]
    assert (destination["dropped_items"], destination["rejected_items"]) == ({}, {})
    assert samples == pytest.approx(lasted + 1, abs=1.5), "one sample a second, also of the outage"

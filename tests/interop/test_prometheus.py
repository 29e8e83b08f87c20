"""Prometheus itself reads what the agent shows."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from agent_process import AgentProcess

from rivals import find, free_port

pytestmark = pytest.mark.interop

SHIPPED = Path(__file__).parents[2] / "conf.d"
SCRAPING_SECONDS = 120


def shipped() -> dict:
    """Process groups as shipped, and every collector."""
    from novel_agent import registry

    return {
        "host": {"collectors": dict.fromkeys(registry.HOST_COLLECTORS, True)},
        "processes": [{"name": "{comm}", "top": 10}, {"name": "agents", "match": {"cmdline": "novel_agent"}}],
    }


def test_promtool_finds_nothing_to_say_that_it_does_not_say_of_node_exporter(tmp_path, rival):
    theirs_url = rival("node_exporter", "--web.listen-address=127.0.0.1:{port}")
    with AgentProcess(tmp_path / "agent", shipped()) as agent:
        ours = lint(agent.get("/metrics"))
    with urllib.request.urlopen(f"{theirs_url}/metrics", timeout=30) as answer:
        theirs = lint(answer.read().decode())
    own = [line for line in ours if line.startswith(("novel_agent_", "container_effective"))]
    assert own == []
    inherited = ("node_", "namedprocess_", "container_")
    assert [line for line in ours if line not in theirs and not line.startswith(inherited)] == []


def lint(page: str) -> list[str]:
    done = subprocess.run(
        [find("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    assert "error while linting" not in done.stderr, done.stderr
    return done.stderr.splitlines()


def test_a_real_prometheus_scrapes_for_two_minutes_without_an_error_or_a_gap(tmp_path):
    port = free_port()
    with AgentProcess(tmp_path / "agent", shipped()) as agent:
        target = agent.url.removeprefix("http://")
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 2s, scrape_timeout: 2s}\n"
            f"scrape_configs: [{{job_name: node, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        with (
            (tmp_path / "prometheus.log").open("wb") as log,
            subprocess.Popen(
                [
                    find("prometheus"),
                    f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            ) as prometheus,
        ):
            try:
                time.sleep(SCRAPING_SECONDS)
                window = f"[{SCRAPING_SECONDS - 20}s]"
                (up,) = query(
                    port, f'sum_over_time(up{{job="node"}}{window}) / count_over_time(up{{job="node"}}{window})'
                )
                scrapes = query(port, f'count_over_time(up{{job="node"}}{window})')[0]
                gaps = query(port, f'count_over_time(node_load1{{job="node"}}{window})')[0]
                samples = query(port, 'scrape_samples_post_metric_relabeling{job="node"}')[0]
                fell = query(port, f'sum(resets(node_cpu_seconds_total{{job="node"}}{window}))')[0]
                page = agent.get("/metrics")
            finally:
                prometheus.terminate()
                prometheus.wait(20)
        errors = [line for line in (tmp_path / "prometheus.log").read_text().splitlines() if "level=ERROR" in line]
    assert up == 1.0
    assert scrapes >= (SCRAPING_SECONDS - 20) / 2 - 2
    assert gaps == scrapes
    assert fell == 0
    shown = sum(not line.startswith("#") for line in page.splitlines())
    assert samples == pytest.approx(shown, abs=50), "processes come and go; nothing else may be missing"
    assert errors == []
    assert "ERROR" not in agent.log


def query(port: int, expression: str) -> list[float]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return [float(result["value"][1]) for result in json.load(answer)["data"]["result"]]

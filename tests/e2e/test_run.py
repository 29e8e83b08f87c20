"""The real command, as an operator meets it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

SHIPPED = Path(__file__).parents[2] / "conf.d"
QUICK = {"host": {"interval": "1s"}}


def novel_agent(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "novel_agent", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
        check=False,
    )


def exporting(sink: OtlpSink, **more) -> dict:
    return {**QUICK, "export": [{"name": "central", "endpoint": sink.url, **more}]}


def test_a_first_run_serves_metrics_health_status_and_the_page(tmp_path):
    with AgentProcess(tmp_path, {}) as agent:
        families = {family.name for family in parse_text(agent.get("/metrics"))}
        assert {"node_load1", "node_cpu_seconds", "node_memory_MemTotal_bytes", "novel_agent_build_info"} <= families
        assert agent.json("/health")["status"] == "healthy"
        status = agent.json("/api/v1/status")
        assert status["pid"] == agent.process.pid
        assert "<title>" in agent.get("/")
    assert agent.process.returncode == 0
    assert "ERROR" not in agent.log


def test_the_shipped_conf_d_runs_and_its_pages_parse_in_both_formats(tmp_path):
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "novel_agent", "run", "--conf-dir", str(SHIPPED)),
            *("--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().removeprefix("listening on ").strip().rstrip("/")
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            text = {family.name for family in parse_text(answer.read().decode())}
        request = urllib.request.Request(
            f"{url}/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            openmetrics = {family.name for family in parse_openmetrics(answer.read().decode())}
        process.terminate()
        assert process.wait(20) == 0
    assert "namedprocess_namegroup_num_procs" in text
    assert text == openmetrics


def test_host_metrics_arrive_over_otlp_with_the_host_as_resource(tmp_path):
    with OtlpSink() as sink, AgentProcess(tmp_path, exporting(sink)):
        sink.wait(lambda sink: len(sink.requests) >= 2)
        metrics = sink.metrics()
        resource = sink.resource()
    assert {"system.cpu.time", "system.memory.usage", "system.network.io", "system.filesystem.usage"} <= metrics.keys()
    assert metrics["system.cpu.time"][0].sum.is_monotonic
    points = metrics["system.cpu.time"][0].sum.data_points
    boot = int(
        next(line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    )
    assert all(abs(point.start_time_unix_nano / 1e9 - boot) < 2 for point in points)
    assert resource["host.name"] == socket.gethostname()
    assert resource["os.type"] == "linux"


def test_an_outage_of_the_collector_costs_nothing_and_is_shown(tmp_path):
    with OtlpSink() as sink, AgentProcess(tmp_path, exporting(sink)) as agent:
        sink.wait(lambda sink: len(sink.requests) >= 1)
        sink.status = 503
        sink.wait(lambda sink: sink.refused >= 1)
        until(agent, lambda status: status["destinations"][0]["failed_requests"] >= 1)
        assert agent.json("/health")["status"] == "degraded"
        sink.status = 200
        sink.wait(lambda sink: len(sink.requests) >= 3)
        (destination,) = agent.json("/api/v1/status")["destinations"]
        assert destination["dropped_items"] == {}
    times = [
        point.time_unix_nano
        for metric in sink.metrics()["system.cpu.load_average.1m"]
        for point in metric.gauge.data_points
    ]
    assert len(times) == len(set(times))
    steps = [later - earlier for earlier, later in zip(sorted(times), sorted(times)[1:], strict=False)]
    assert max(steps) < 1_900_000_000, "a sampling is missing"


def test_sigterm_delivers_what_is_queued_and_exits_0(tmp_path):
    with OtlpSink() as sink:
        sink.status = 503
        agent = AgentProcess(tmp_path, exporting(sink))
        sink.wait(lambda sink: sink.refused >= 1)
        sink.status = 200
        assert agent.stop() == 0
        sink.wait(lambda sink: len(sink.requests) >= 1, 5)
    assert "lost" not in agent.log


def test_sigterm_under_load_answers_what_it_accepted(tmp_path):
    agent = AgentProcess(tmp_path, {})
    outcomes: list[str] = []

    def hammer() -> None:
        while True:
            try:
                outcomes.append("whole" if agent.get("/metrics").endswith("\n") else "torn")
            except (urllib.error.URLError, ConnectionError):
                return

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 40:
        assert agent.process.poll() is None
    assert agent.stop() == 0
    for thread in threads:
        thread.join(20)
    assert set(outcomes) == {"whole"}


def test_a_destination_that_never_answers_does_not_delay_the_exit(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        configuration = {
            **QUICK,
            "export": [{"name": "silent", "endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}],
        }
        agent = AgentProcess(tmp_path, configuration)
        silent.settimeout(20)
        connection, _ = silent.accept()
        assert agent.stop(within_seconds=12) == 0
        connection.close()
    assert "lost" not in agent.log
    ls = [sys.executable, "-m", "novel_agent", "queue", "ls", "--json", "--state-dir", str(tmp_path / "state")]
    kept = subprocess.run([*ls, "--config", ""], capture_output=True, text=True, check=True).stdout
    assert '"silent"' in kept


def test_kill_9_leaves_nothing_that_hinders_the_next_start(tmp_path):
    agent = AgentProcess(tmp_path, {})
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    with AgentProcess(tmp_path, {}) as again:
        assert again.json("/health/ready")["status"] == "healthy"


def test_a_port_in_use_is_an_error_that_names_its_holder(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = novel_agent("run", "--conf-dir", "", "--listen", f"127.0.0.1:{port}", "--state-dir", str(tmp_path))
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stderr
    assert str(os.getpid()) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_state_directory_in_use_is_an_error_that_names_its_holder(tmp_path):
    with AgentProcess(tmp_path, {}) as agent:
        ended = novel_agent("run", "--conf-dir", "", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"))
    assert ended.returncode == 2
    assert f"in use by process {agent.process.pid}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_configuration_starts_nothing_and_tells_every_mistake(tmp_path):
    config = tmp_path / "agent.yaml"
    config.write_text("agent:\n  lisen: 127.0.0.1:9090\nhost:\n  interval: 15 parsecs\n  collectors: {cpuu: on}\n")
    ended = novel_agent("run", "--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert ended.returncode == 2
    assert f"{config}:2: agent.lisen: " in ended.stderr
    assert "listen" in ended.stderr
    assert f"{config}:4: host.interval: " in ended.stderr
    assert f"{config}:5: host.collectors.cpuu: " in ended.stderr
    assert not (tmp_path / "state").exists()


class TestReload:
    def test_sighup_puts_a_valid_change_in_force_without_losing_the_process(self, tmp_path):
        with AgentProcess(tmp_path, {}) as agent:
            assert "node_vmstat_pgfault" in agent.get("/metrics")
            agent.write({"host": {"collectors": {"vmstat": "off"}}})
            agent.send(signal.SIGHUP)
            until(agent, lambda status: status["config"]["last_reload_at"] is not None)
            assert "node_vmstat_pgfault" not in agent.get("/metrics")
            assert agent.json("/api/v1/status")["pid"] == agent.process.pid

    def test_an_invalid_change_keeps_the_last_good_and_says_why(self, tmp_path):
        with AgentProcess(tmp_path, {}) as agent:
            agent.write({"host": {"intervall": "15s"}})
            agent.send(signal.SIGHUP)
            status = until(agent, lambda status: not status["config"]["last_reload_ok"])
            assert "host.intervall" in status["config"]["errors"][0]
            assert agent.json("/health")["status"] == "degraded"
            assert "node_load1" in agent.get("/metrics")
            agent.write({})
            agent.send(signal.SIGHUP)
            until(agent, lambda status: status["config"]["last_reload_ok"])
            assert agent.json("/health")["status"] == "healthy"

    def test_post_reload_answers_with_the_mistakes(self, tmp_path):
        with AgentProcess(tmp_path, {}) as agent:
            agent.write({"agent": {"log_level": "loud"}})
            request = urllib.request.Request(f"{agent.url}/-/reload", method="POST")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=30)
            assert refused.value.code == 400
            assert "agent.log_level" in json.load(refused.value)["error"]

    def test_a_destination_that_did_not_change_keeps_its_queue_and_counts(self, tmp_path):
        with OtlpSink() as sink, AgentProcess(tmp_path, exporting(sink)) as agent:
            sink.wait(lambda sink: len(sink.requests) >= 1)
            status = until(agent, lambda status: status["destinations"][0]["sent_items"])
            sent = status["destinations"][0]["sent_items"]["metrics"]
            agent.write({**exporting(sink), "resource": {"attributes": {"deployment.environment.name": "test"}}})
            agent.send(signal.SIGHUP)
            until(agent, lambda status: status["config"]["last_reload_at"] is not None)
            assert agent.json("/api/v1/status")["destinations"][0]["sent_items"]["metrics"] >= sent
            seen = len(sink.requests)
            sink.wait(lambda sink: len(sink.requests) >= seen + 2)
            assert sink.resource()["deployment.environment.name"] == "test"

    def test_reloads_under_load_lose_no_scrape(self, tmp_path):
        with AgentProcess(tmp_path, {}) as agent:
            failed: list[object] = []
            stop = threading.Event()

            def hammer() -> None:
                while not stop.is_set():
                    try:
                        if "node_load1 " not in agent.get("/metrics"):
                            failed.append("incomplete")
                    except (urllib.error.URLError, ConnectionError) as error:
                        failed.append(error)

            threads = [threading.Thread(target=hammer) for _ in range(4)]
            for thread in threads:
                thread.start()
            for number in range(8):
                agent.write({"host": {"collectors": {"vmstat": number % 2 == 0}}})
                last = agent.json("/api/v1/status")["config"]["loaded_at"]
                agent.send(signal.SIGHUP)
                until(agent, lambda status, last=last: status["config"]["loaded_at"] > last)
            stop.set()
            for thread in threads:
                thread.join(30)
            assert failed == []


def until(agent: AgentProcess, holds, seconds: float = 20):
    """The first status for which it holds."""
    deadline = time.monotonic() + seconds
    while True:
        status = agent.json("/api/v1/status")
        if holds(status):
            return status
        assert time.monotonic() < deadline, status["config"]
        assert agent.process.poll() is None, agent.log


def test_systemd_is_told_of_readiness_reload_watchdog_and_stop(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        agent = AgentProcess(
            tmp_path / "agent", {}, environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        )

        def next_with(field: str) -> str:
            while True:
                message = manager.recv(4096).decode()
                if field in message:
                    return message

        assert "STATUS=healthy" in next_with("READY=1")
        next_with("WATCHDOG=1")
        next_with("WATCHDOG=1")
        agent.send(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in next_with("RELOADING=1")
        next_with("READY=1")
        agent.send(signal.SIGTERM)
        next_with("STOPPING=1")
        assert agent.process.wait(20) == 0
        agent.close()


def test_the_earlier_servers_command_becomes_the_agent_with_the_same_pid(tmp_path):
    config = tmp_path / "observability_config.json"
    config.write_text(json.dumps({"environment": "production", "log_level": "INFO", "dashboard_retention_hours": 168}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "monitoring.observability_server", "--host", "127.0.0.1"),
            *("--port", str(port), "--config", str(config)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on http://127.0.0.1:{port}/\n".encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status", timeout=30) as answer:
            assert json.load(answer)["pid"] == process.pid
        process.terminate()
        assert process.wait(20) == 0

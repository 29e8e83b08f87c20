"""Reloads that fail half-way, that change what is busy, and a stop in the middle of one."""

import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink

QUICK = {"host": {"interval": "1s"}}


def until(agent: AgentProcess, holds, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while True:
        assert time.monotonic() < deadline
        try:
            status = agent.json("/api/v1/status")
        except (
            urllib.error.URLError,
            ConnectionError,
        ):  # a server that moves on its own port cuts off who waits to be accepted
            continue
        if holds(status):
            return status


def exporting(url: str, **more) -> dict:
    return {**QUICK, "export": [{"name": "central", "endpoint": url, **more}]}


def reload(agent: AgentProcess, seconds: float = 20) -> dict:
    """Reload and wait until that was either done or refused."""
    before = agent.json("/api/v1/status")["config"]["last_reload_at"]
    agent.send(signal.SIGHUP)
    return until(agent, lambda status: status["config"]["last_reload_at"] != before, seconds)


def points_received(sink: OtlpSink) -> int:
    return sum(len(points) for points in sink.metrics().values())


def test_a_refused_reload_changes_nothing_at_all(tmp_path):
    with socket.socket() as holder, OtlpSink() as sink, AgentProcess(tmp_path, {}) as agent:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = f"127.0.0.1:{holder.getsockname()[1]}"
        # The command line's --listen wins over the file, so the file that fails is one with a certificate that is not there.
        agent.write(
            {
                "agent": {"tls": {"cert_file": str(tmp_path / "none.pem"), "key_file": str(tmp_path / "none.key")}},
                "host": {"collectors": {"vmstat": False}},
                "export": [{"name": "new", "endpoint": sink.url}],
                "resource": {"attributes": {"busy": busy}},
            }
        )
        status = reload(agent)
        assert status["config"]["last_reload_ok"] is False
        assert status["destinations"] == []
        assert "node_vmstat_pgfault" in agent.get("/metrics")
        agent.write({})
        assert reload(agent)["config"]["last_reload_ok"] is True


def test_correcting_a_destination_that_is_down_loses_nothing(tmp_path):
    with OtlpSink() as sink:
        sink.status = 503
        with AgentProcess(tmp_path, exporting(sink.url, headers={"api-key": "wrong"})) as agent:
            queued = until(agent, lambda status: status["destinations"][0]["queue_items"] > 500)
            before = queued["destinations"][0]
            agent.write(exporting(sink.url, headers={"api-key": "right"}, timeout="5s"))
            (after,) = reload(agent)["destinations"]
            assert after["queue_items"] >= before["queue_items"]
            assert after["failed_requests"] >= before["failed_requests"]
            assert after["dropped_items"] == {}
            sink.status = 200
            sink.wait(lambda sink: points_received(sink) >= before["queue_items"])
            (delivered,) = until(agent, lambda status: status["destinations"][0]["sent_items"])["destinations"]
            assert delivered["dropped_items"] == {}


def test_what_a_removed_destination_could_not_deliver_waits_for_the_name_to_come_back(tmp_path):
    with OtlpSink() as sink:
        sink.status = 503
        with AgentProcess(tmp_path, exporting(sink.url)) as agent:
            waited = until(agent, lambda status: status["destinations"][0]["queue_items"] > 0)
            agent.write(QUICK)
            reload(agent)
            until(agent, lambda status: status["destinations"] == [])
            assert "the rest stays in its spool" in agent.log
            assert "novel_agent_export_dropped_items_total{" not in agent.get("/metrics")
            agent.write(exporting(sink.url))
            (back,) = reload(agent)["destinations"]
            assert back["queue_items"] >= waited["destinations"][0]["queue_items"]
            sink.status = 200
            sink.wait(lambda sink: points_received(sink) >= back["queue_items"])


def test_a_stop_in_the_middle_of_a_reload_ends_in_time_and_loses_nothing(tmp_path):
    with OtlpSink() as sink:
        sink.status = 503
        agent = AgentProcess(tmp_path, exporting(sink.url))
        until(agent, lambda status: status["destinations"][0]["queue_items"] > 0)
        agent.write(exporting(sink.url, headers={"api-key": "changed"}))
        agent.send(signal.SIGHUP)
        assert agent.stop(within_seconds=18) == 0
        assert "data lost" not in agent.log
        sink.status = 200
        with AgentProcess(tmp_path, exporting(sink.url)):
            sink.wait(lambda sink: sink.requests)
    assert "Unclosed" not in agent.log
    assert "Traceback" not in agent.log


def test_changed_access_rules_refuse_no_connection_even_while_a_request_is_open(tmp_path):
    with AgentProcess(tmp_path, {}) as agent:
        host, port = agent.url.removeprefix("http://").split(":")
        failed: list[Exception] = []
        stop = threading.Event()

        def hammer() -> None:
            while not stop.is_set():
                try:
                    agent.get("/-/healthy")
                except (urllib.error.URLError, ConnectionError) as error:
                    failed.append(error)

        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
            thread = threading.Thread(target=hammer)
            thread.start()
            for number in range(3):
                agent.write({"agent": {"allowed_hosts": [f"agent{number}.example"]}})
                reload(agent)
            stop.set()
            thread.join(20)
        assert failed == []
        request = urllib.request.Request(f"{agent.url}/-/healthy", headers={"Host": "agent2.example"})
        assert urllib.request.urlopen(request, timeout=10).status == 200


def test_counters_of_what_did_not_change_survive_a_reload(tmp_path):
    with AgentProcess(tmp_path, {}) as agent:
        for _ in range(3):
            agent.get("/metrics")
        before = series(agent, 'novel_agent_component_runs_total{component="loadavg",kind="host"}')
        requests = series(agent, 'novel_agent_http_requests_total{route="/metrics",method="GET",code="2xx"}')
        agent.write({"host": {"interval": "30s"}, "agent": {"allowed_hosts": ["agent.example"]}})
        reload(agent)
        assert series(agent, 'novel_agent_component_runs_total{component="loadavg",kind="host"}') >= before
        assert series(agent, 'novel_agent_http_requests_total{route="/metrics",method="GET",code="2xx"}') >= requests


def series(agent: AgentProcess, name: str) -> float:
    """The value on the next page that has it; a page is shared for a second."""
    deadline = time.monotonic() + 10
    while True:
        found = [line for line in agent.get("/metrics").splitlines() if line.startswith(name + " ")]
        if found:
            return float(found[0].rsplit(" ", 1)[1])
        assert time.monotonic() < deadline, f"{name} is not shown"


def test_a_destination_removed_and_added_again_while_it_leaves_delivers(tmp_path):
    with socket.socket() as silent, OtlpSink() as sink:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        with AgentProcess(tmp_path, exporting(f"http://127.0.0.1:{silent.getsockname()[1]}")) as agent:
            connection, _ = silent.accept()
            agent.write(QUICK)
            reload(agent)
            agent.write(exporting(sink.url))
            reload(agent)
            until(agent, lambda status: len(status["destinations"]) == 1)  # the one that left is gone
            seen = len(sink.requests)
            sink.wait(lambda sink: len(sink.requests) >= seen + 2)
            connection.close()


def test_a_shorter_interval_does_not_wait_for_the_longer_one(tmp_path):
    with OtlpSink() as sink:
        export = {"export": [{"name": "central", "endpoint": sink.url}]}
        with AgentProcess(tmp_path, {"host": {"interval": "1h"}, **export}) as agent:
            agent.write({"host": {"interval": "1s"}, **export})
            reload(agent)
            sink.wait(lambda sink: len(sink.requests) >= 2, 10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_refused_change_of_the_address_leaves_the_agent_where_it_was(tmp_path):
    here, there = free_port(), free_port()
    garbage = tmp_path / "ca.pem"
    garbage.write_text("no certificate")
    garbage.chmod(0o600)
    with AgentProcess(tmp_path / "agent", {"agent": {"listen": f"127.0.0.1:{here}"}}, listen=()) as agent:
        export = {"name": "a", "endpoint": "https://127.0.0.1:9", "tls": {"ca_file": str(garbage)}}
        agent.write({"agent": {"listen": f"127.0.0.1:{there}"}, "export": [export]})
        status = reload(agent)
        assert status["config"]["last_reload_ok"] is False
        assert "ca_file" in status["config"]["errors"][0]
        time.sleep(1)
        assert agent.get("/-/healthy")
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", there)):
            pass


def test_the_address_may_change_on_the_same_port(tmp_path):
    port = free_port()
    with AgentProcess(tmp_path / "agent", {"agent": {"listen": f"127.0.0.1:{port}"}}, listen=()) as agent:
        agent.write({"agent": {"listen": f"0.0.0.0:{port}"}})
        assert reload(agent)["config"]["last_reload_ok"] is True
        assert "0.0.0.0" in agent.json("/api/v1/status")["listen"] or agent.get("/-/healthy")
        agent.write({"agent": {"listen": f"192.0.2.1:{port}"}})
        assert reload(agent)["config"]["last_reload_ok"] is False
        assert agent.get("/-/healthy")


@pytest.mark.parametrize("times", [2])
def test_a_second_signal_ends_at_once(tmp_path, times):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        agent = AgentProcess(tmp_path, exporting(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        silent.settimeout(20)
        connection, _ = silent.accept()
        for _ in range(times):
            agent.send(signal.SIGTERM)
            time.sleep(0.3)
        assert agent.process.wait(3) == -signal.SIGTERM
        agent.close()
        connection.close()

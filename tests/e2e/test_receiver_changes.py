"""Receivers whose address cannot be had, reloads under load, queues and disks that are full."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_client import gauge, post
from otlp_sink import OtlpSink
from span_client import SpanClient, number_of, request_of
from trace_payloads import request, span

from rivals import free_port

QUIET = {"host": {"interval": "1h"}}


def until(agent: AgentProcess, holds: Callable[[dict], object], seconds: float = 20) -> dict:
    deadline = time.monotonic() + seconds
    while True:
        status = agent.json("/api/v1/status")
        if holds(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def reload(agent: AgentProcess) -> dict:
    """Reload and wait until that was either done or refused."""
    before = agent.json("/api/v1/status")["config"]["last_reload_at"]
    agent.send(signal.SIGHUP)
    return until(agent, lambda status: status["config"]["last_reload_at"] != before)["config"]


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_port_that_is_in_use_at_the_start_is_named_with_its_holder_and_ends_with_2(tmp_path, transport):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(AssertionError) as ended:
            AgentProcess(tmp_path, {**QUIET, "otlp_receiver": {transport: busy}})
    said = str(ended.value)
    assert said.startswith("the agent ended with 2")
    assert f"{busy} is in use by " in said
    assert f"process {os.getpid()}" in said
    assert f"otlp_receiver.{transport}" in said
    assert "Traceback" not in said


def test_an_address_that_this_machine_does_not_have_ends_with_2(tmp_path):
    with pytest.raises(AssertionError, match=r"(?s)ended with 2.*no interface of this machine has that address"):
        AgentProcess(tmp_path, {**QUIET, "otlp_receiver": {"http": f"192.0.2.1:{free_port()}"}})


def test_a_reload_that_wants_a_busy_port_is_refused_and_every_address_stays(tmp_path):
    http, grpc, other, listen, elsewhere = (free_port() for _ in range(5))
    before = {
        "agent": {"listen": f"127.0.0.1:{listen}"},
        "otlp_receiver": {"http": f"127.0.0.1:{http}", "grpc": f"127.0.0.1:{grpc}"},
    }
    with socket.socket() as holder, AgentProcess(tmp_path, {**QUIET, **before}, listen=()) as agent:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = f"127.0.0.1:{holder.getsockname()[1]}"
        for wanted in (
            {"http": f"127.0.0.1:{other}", "grpc": busy},
            {"http": busy, "grpc": f"127.0.0.1:{other}"},
            {"http": f"127.0.0.1:{http}", "grpc": busy, "max_request": "1MiB"},
        ):
            agent.write({**QUIET, "agent": {"listen": f"127.0.0.1:{elsewhere}"}, "otlp_receiver": wanted})
            refused = reload(agent)
            assert refused["last_reload_ok"] is False
            assert f"{busy} is in use by " in refused["errors"][0]
            assert f"process {os.getpid()}" in refused["errors"][0]
            assert post(http, "traces", request(span(1, 1))).status == 200
            socket.create_connection(("127.0.0.1", grpc), 5).close()
            assert agent.get("/-/healthy")
            for port in (other, elsewhere):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), 5)
        agent.write({**QUIET, **before})
        assert reload(agent)["last_reload_ok"] is True
        assert post(http, "traces", request(span(1, 1))).status == 200


def test_nothing_acknowledged_is_lost_by_reloads_that_change_everything(tmp_path):
    first, second, grpc = (free_port() for _ in range(3))
    with OtlpSink() as sink, OtlpSink() as other:
        export = {"name": "central", "endpoint": sink.url, "signals": ["traces"]}
        tail = {"tail_sampling": [{"name": "all"}], "tail_wait": "100ms"}

        def settings(port: int, **more) -> dict:
            return {**QUIET, "export": [export], "otlp_receiver": {"http": f"127.0.0.1:{port}", **more}}

        steps = [
            settings(first, durability="os"),
            {**settings(first), "traces": tail},
            settings(first, grpc=f"127.0.0.1:{grpc}", max_request="1MiB"),
            {**settings(first), "export": [export, {"name": "other", "endpoint": other.url}]},
            settings(second),
            {**settings(second), "traces": {"redact": {"patterns": ["email"]}}},
            {**settings(first), "traces": {**tail, "tail_wait": "50ms"}},
            {**QUIET, "export": [{**export, "headers": {"x": "y"}}]},
            settings(first),
        ]
        with AgentProcess(tmp_path, settings(first)) as agent:
            clients = [SpanClient(first, threads=2), SpanClient(second, threads=2, first=1 << 32)]
            try:
                for step in steps:
                    time.sleep(0.15)
                    agent.write(step)
                    assert reload(agent)["last_reload_ok"] is True
                time.sleep(0.15)
            finally:
                for client in clients:
                    client.stop()
            taken = clients[0].taken_ids | clients[1].taken_ids
            assert len(clients[0].taken) > 100
            assert len(clients[1].taken) > 100
            sink.wait(lambda sink: taken <= sink.span_ids)
            status = agent.json("/api/v1/status")
    assert [each["dropped_items"] for each in status["destinations"]] == [{}]
    assert "Traceback" not in agent.log


def test_a_full_queue_that_blocks_tells_clients_to_come_back_and_keeps_what_it_took(tmp_path):
    port = free_port()
    with OtlpSink() as sink:
        sink.status = 503
        export = {"name": "central", "endpoint": sink.url, "spool": {"size": "1MiB", "when_full": "block"}}
        configuration = {
            **QUIET,
            "otlp_receiver": {"http": f"127.0.0.1:{port}"},
            "export": [{**export, "concurrency": 1}],
        }
        with AgentProcess(tmp_path, configuration) as agent:
            taken = 0
            while (answer := post(port, "traces", numbered(taken))).status == 200:
                taken += 1
                assert taken < 1000, "never full"
            assert answer.status == 503
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert taken > 5
            status = agent.json("/api/v1/status")
            (destination,), (receiver,) = status["destinations"], status["receivers"]
            assert destination["dropped_items"] == {}
            assert receiver["refused"]["queue full"] == 1
            assert post(port, "metrics", gauge("pens.ready", 1)).status == 200  # what still fits is taken
            sink.status = 200
            sink.wait(lambda sink: len(sink.spans()) == 500 * taken)
            until(agent, lambda status: status["destinations"][0]["queue_items"] == 0)
            assert post(port, "traces", numbered(taken)).status == 200
            sink.wait(lambda sink: len(sink.spans()) == 500 * (taken + 1))
    assert list(map(number_of, sink.spans())) == list(range(500 * (taken + 1)))


def numbered(request_number: int) -> bytes:
    return request_of(range(500 * request_number, 500 * (request_number + 1))).SerializeToString()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A state directory of 4 MiB in the directory of the agent."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount one")
    place = tmp_path / "agent" / "state"
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; the file to remove for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


def test_a_full_disk_is_said_and_outlived_and_what_was_taken_meanwhile_arrives(tmp_path, small_disk):
    port = free_port()
    with OtlpSink() as sink:
        sink.status = 503
        configuration = {
            **QUIET,
            "otlp_receiver": {"http": f"127.0.0.1:{port}"},
            "export": [{"name": "central", "endpoint": sink.url, "concurrency": 1}],
        }
        with AgentProcess(tmp_path / "agent", configuration) as agent:
            assert post(port, "traces", numbered(0)).status == 200
            ballast = fill(small_disk)
            taken = 1
            while (answer := post(port, "traces", numbered(taken))).status == 200:
                taken += 1
                assert taken < 1000, "the memory for that case is never full"
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert taken > 50
            (destination,) = agent.json("/api/v1/status")["destinations"]
            assert destination["queue_in_memory"] is True
            assert "novel_agent_export_queue_in_memory{" in agent.get("/metrics")
            assert agent.log.count("spool cannot be written, held in memory until it can") == 1
            assert "No space left on device" in agent.log
            ballast.unlink()
            sink.status = 200
            until(agent, lambda status: status["destinations"][0]["queue_items"] == 0)
            while "spool is written again" not in agent.log:  # a put tries the disk again, once a second
                assert post(port, "traces", numbered(taken)).status == 200
                taken += 1
                assert taken < 2000
                time.sleep(0.05)
            sink.wait(lambda sink: len(sink.spans()) >= 500 * taken)
            assert agent.json("/api/v1/status")["destinations"][0]["queue_in_memory"] is False
            assert agent.json("/health")["status"] == "healthy"
    arrived = [number_of(span) // 500 for span in sink.spans()[::500]]
    assert arrived == list(range(taken))


def test_an_agent_starts_on_a_full_disk_and_takes_what_comes(tmp_path, small_disk):
    port = free_port()
    with OtlpSink() as sink:
        configuration = {
            **QUIET,
            "otlp_receiver": {"http": f"127.0.0.1:{port}"},
            "export": [{"name": "central", "endpoint": sink.url}],
        }
        fill(small_disk)
        with AgentProcess(tmp_path / "agent", configuration) as agent:
            assert post(port, "traces", numbered(0)).status == 200
            sink.wait(lambda sink: len(sink.spans()) == 500)
            assert "held in memory until it can" in agent.log
    assert "Traceback" not in agent.log

"""Mounts that never answer, and thousands of them, in a mount namespace of their own."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from agent_process import AgentProcess

HELPER = Path(__file__).parents[1] / "support" / "in_mount_namespace.py"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse"
)


def within(directory: Path, *, dead: int = 0, tmpfs: int = 0) -> list[str]:
    return [sys.executable, str(HELPER), str(directory), str(dead), str(tmpfs)]


def configuration(**filesystem) -> dict:
    return {"host": {"collectors": {"filesystem": {"exclude_types": "^(proc|sysfs|cgroup2?)$", **filesystem}}}}


def test_ten_dead_mounts_cost_their_own_series_and_nothing_else(tmp_path):
    mounts = tmp_path / "mounts"
    with AgentProcess(tmp_path / "agent", configuration(), within=within(mounts, dead=10)) as agent:
        first = agent.get("/metrics")
        began = time.monotonic()
        time.sleep(1.1)
        page = agent.get("/metrics")
        took = time.monotonic() - began - 1.1
        status = agent.json("/api/v1/status")
    for text in (first, page):
        assert 'node_scrape_collector_success{collector="filesystem"} 1' in text
        assert 'node_scrape_collector_success{collector="loadavg"} 1' in text
    broken = re.findall(r"node_filesystem_device_error\{[^}]*mountpoint=\"([^\"]*/dead\d)\"[^}]*\} 1", page)
    assert sorted(broken) == sorted(f"{mounts}/dead{number}" for number in range(10))
    assert re.search(r'node_filesystem_size_bytes\{[^}]*mountpoint="/"[^}]*\} [1-9]', page)
    assert took < 3, "mounts known to be dead are not waited for again"
    assert 1 <= status["left_behind"] <= 10
    assert agent.process.returncode == 0


def test_five_thousand_mounts_are_shown(tmp_path):
    mounts = tmp_path / "mounts"
    with AgentProcess(tmp_path / "agent", configuration(), within=within(mounts, tmpfs=5000)) as agent:
        page = agent.get("/metrics")
        status = agent.json("/api/v1/status")
    assert len(re.findall(r"node_filesystem_size_bytes\{[^}]*/many\d+\"", page)) == 5000
    assert next(each for each in status["components"] if each["name"] == "filesystem")["state"] == "up"
    assert status["resident_bytes"] < 128 << 20


def test_a_kernel_that_hangs_everywhere_still_answers(tmp_path):
    dead = f"{tmp_path}/mounts/dead0"
    settings = {"host": {"deadline": "500ms", "paths": {"proc": f"{dead}/proc", "sys": f"{dead}/sys", "root": dead}}}
    with AgentProcess(tmp_path / "agent", settings, within=within(tmp_path / "mounts", dead=1)) as agent:
        page = agent.get("/metrics")
        assert agent.json("/health/live")["status"] == "healthy"
        status = agent.json("/api/v1/status")
    assert 'node_scrape_collector_success{collector="loadavg"} 0' in page
    states = {each["name"]: each["state"] for each in status["components"]}
    assert states["loadavg"] == "hung"
    assert status["health"]["status"] in {"degraded", "unhealthy"}
    assert agent.process.returncode == 0


def test_more_dead_mounts_than_threads_and_reloads_silence_no_collector(tmp_path):
    mounts = tmp_path / "mounts"
    with AgentProcess(tmp_path / "agent", configuration(), within=within(mounts, dead=70)) as agent:
        agent.get("/metrics")
        for number in range(3):
            agent.write({**configuration(), "resource": {"attributes": {"turn": str(number)}}})
            before = agent.json("/api/v1/status")["config"]["last_reload_at"]
            agent.send(signal.SIGHUP)
            while agent.json("/api/v1/status")["config"]["last_reload_at"] == before:
                time.sleep(0.05)
            time.sleep(1.1)
            page = agent.get("/metrics")
        status = agent.json("/api/v1/status")
    assert agent.process.returncode == 0
    assert "\nnode_load1 " in page
    assert 'node_scrape_collector_success{collector="cpu"} 1' in page
    assert status["left_behind"] <= 64
    assert {each["state"] for each in status["components"] if each["name"] in {"cpu", "loadavg", "meminfo"}} == {"up"}


def test_what_is_left_behind_is_logged_without_the_configuration(tmp_path):
    dead = f"{tmp_path}/mounts/dead0"
    settings = {
        "host": {"deadline": "500ms", "paths": {"proc": f"{dead}/proc"}},
        "export": [
            {"name": "a", "endpoint": "http://user:hunter2@127.0.0.1:9", "headers": {"authorization": "hunter3"}}
        ],
    }
    with AgentProcess(tmp_path / "agent", settings, within=within(tmp_path / "mounts", dead=1)) as agent:
        while "resource not detected" not in agent.log:
            time.sleep(0.05)
    assert "left behind" in agent.log
    assert "hunter" not in agent.log

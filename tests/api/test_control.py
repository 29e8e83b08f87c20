import asyncio
from pathlib import Path

import pytest

from novel_agent.config.load import load
from novel_agent.config.model import Sources

from .conftest import Running, Start, until

GOOD = (
    "agent: {{listen: '127.0.0.1:0', state_dir: {state}, log_level: {level}}}\nhost: {{collectors: {{{collectors}}}}}\n"
)


class Configured:
    """An agent that reads its configuration from a file."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "agent.yaml"
        self._state = directory / "state"
        self.sources = Sources(config=str(self.file), conf_dir="")

    def write(self, level: str = "info", **collectors: str) -> None:
        from novel_agent import registry

        chosen = dict.fromkeys(registry.HOST_COLLECTORS, "off") | {"loadavg": "on"} | collectors
        shown = ", ".join(f"{name}: {setting}" for name, setting in chosen.items())
        self.file.write_text(GOOD.format(state=self._state, level=level, collectors=shown))
        self.file.chmod(0o600)

    async def start(self, start: Start) -> Running:
        self.write()
        running: Running = await start(loaded=load(self.sources), sources=self.sources)
        return running


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


async def test_healthy_and_ready_are_told_as_prometheus_does(agent: Running) -> None:
    assert (await agent.ask("/-/healthy")).body == b"Novel Engine Agent is healthy.\n"
    assert (await agent.ask("/-/ready")).body == b"Novel Engine Agent is ready.\n"
    agent.daemon.ready = False
    assert (await agent.ask("/-/ready")).status == 503
    assert (await agent.ask("/-/healthy")).status == 200


async def test_a_reload_puts_a_valid_configuration_in_force(start: Start, configured: Configured) -> None:
    agent = await configured.start(start)
    configured.write(cpu="on")
    reply = await agent.ask("/-/reload", "POST")
    assert reply.status == 200
    assert reply.json()["status"] == "success"
    assert b"\nnode_cpu_seconds_total{" in (await agent.ask("/metrics")).body


async def test_a_reload_of_an_invalid_one_lists_every_mistake(start: Start, configured: Configured) -> None:
    agent = await configured.start(start)
    configured.file.write_text("agent:\n  lisen: 127.0.0.1:0\n  log_level: loud\nhots: {}\n")
    reply = await agent.ask("/-/reload", "POST")
    body = reply.json()
    assert reply.status == 400
    assert body["errorType"] == "bad_data"
    assert len(body["errors"]) == 3
    assert f"{configured.file}:2: " in body["errors"][0]
    assert (await agent.ask("/api/v1/status")).json()["config"]["last_reload_ok"] is False
    assert (await agent.ask("/metrics")).status == 200


async def test_a_reload_that_changes_the_address_is_answered_by_the_old_one(
    start: Start, configured: Configured
) -> None:
    agent = await configured.start(start)
    configured.file.write_text(configured.file.read_text().replace("127.0.0.1:0", "localhost:0"))
    reply = await agent.ask("/-/reload", "POST")
    assert reply.status == 200
    await until(lambda: agent.daemon.address.startswith("http://localhost:"))
    await until(lambda: agent.daemon.config_status.last_reload_at)
    agent.port = int(agent.daemon.address.rsplit(":", 1)[1].rstrip("/"))
    assert (await agent.ask("/-/healthy")).status == 200


async def test_a_fault_of_ours_in_a_reload_is_500(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(agent.daemon, "reload", broken)
    reply = await agent.ask("/-/reload", "POST")
    assert reply.status == 500
    assert reply.json()["errorType"] == "internal"


async def test_reloads_asked_for_while_one_runs_are_one(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = 0, asyncio.Event()

    async def reload() -> None:
        nonlocal begun
        begun += 1
        await go.wait()

    monkeypatch.setattr(agent.daemon, "reload", reload)
    asked = [asyncio.create_task(agent.ask("/-/reload", "POST"))]
    await until(lambda: begun == 1)
    asked += [asyncio.create_task(agent.ask("/-/reload", "POST")) for _ in range(20)]
    await until(lambda: agent.server.traffic.connections == 21)
    for _ in range(100):
        await agent.ask("/-/healthy")
    go.set()
    replies = await asyncio.gather(*asked)
    assert [reply.status for reply in replies] == [200] * 21
    assert begun == 2

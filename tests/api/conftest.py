"""A real daemon behind a real socket, and a client that sends what it is told to the byte."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from novel_agent import registry
from novel_agent.api.server import ApiServer
from novel_agent.config.model import Loaded, Sources
from novel_agent.config.schema import Agent, Config, Host
from novel_agent.runtime.daemon import Daemon
from novel_agent.serving.limits import Limits

DEADLINE_SECONDS = 10.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop the daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


class Reply:
    """One answer; header names are lower case."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Running:
    """A daemon that runs, and ways to ask it."""

    def __init__(self, daemon: Daemon, server: ApiServer, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.daemon = daemon
        self.server = server
        self.port = port
        self.tls = tls

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)

    async def send(self, raw: bytes) -> bytes:
        """Send, and read until the agent closes; what it sent before a reset is not lost."""
        reader, writer = await self.connect()
        received = b""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                with contextlib.suppress(ConnectionError):
                    writer.write(raw)
                    while chunk := await reader.read(1 << 16):
                        received += chunk
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        return received

    async def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
        """Ask for a path; header names are written with underscores."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            sent["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        return Reply(await self.send("\r\n".join(lines).encode() + body))


def make_loaded(state_dir: Path, **agent: Any) -> Loaded:
    """A configuration with two inputs that every Linux has."""
    collectors = {name: name in {"cpu", "loadavg"} for name in registry.HOST_COLLECTORS}
    agent = {"listen": "127.0.0.1:0", "state_dir": str(state_dir)} | agent
    config = Config(agent=Agent(**agent), host=Host(collectors=collectors))
    return Loaded(config=config, origins={}, notices=[], files=[])


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start an agent: `await start(limits=…, listen=…)`; stopped after the test."""
    running: list[tuple[Daemon, asyncio.Task[None]]] = []

    async def run(
        limits: Limits | None = None,
        tls_client: ssl.SSLContext | None = None,
        loaded: Loaded | None = None,
        sources: Sources | None = None,
        **agent: Any,
    ) -> Running:
        servers: list[ApiServer] = []

        def front_end(daemon: Daemon) -> ApiServer:
            servers.append(ApiServer(daemon, limits or Limits()))
            return servers[-1]

        loaded = loaded or make_loaded(tmp_path / f"state{len(running)}", **agent)
        daemon = Daemon(loaded, sources or Sources(), front_end)
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(daemon.run(address.set_result))
        running.append((daemon, task))
        await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_SECONDS)
        if task.done():
            running.pop()
            await task
        return Running(daemon, servers[0], int(address.result().rsplit(":", 1)[1].rstrip("/")), tls_client)

    yield run
    for daemon, task in running:
        daemon.request_stop()
        await task


@pytest.fixture
async def agent(start: Start) -> Running:
    """An agent with the defaults."""
    running: Running = await start()
    return running


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0)

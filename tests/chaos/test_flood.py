"""A thousand clients for a minute while the destination comes and goes: bounded memory, and nothing acknowledged is lost."""

import asyncio
import itertools
import os
import resource
import time
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink
from span_client import request_of, span_id_of

from rivals import free_port

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("NOVEL_AGENT_FLOOD_SECONDS", "60"))
CONNECTIONS = 1000
SPANS = 50
HEAD = (
    b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
)
MOST_MIB = 96
MOST_MIB_SAMPLING = 128
"""Of which the traces that wait to be decided may have 8 MiB, twice: as they came and as they are kept apart."""


def highest_mib(agent: AgentProcess) -> float:
    """The most that was resident so far."""
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * CONNECTIONS:
        pytest.skip(f"only {hard} descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Clients that send as fast as they are answered; one that is told to come back does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.taken: set[int] = set()
        self.refused = 0
        self.failed = 0
        self._numbers = itertools.count(0, SPANS)

    async def run(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        await asyncio.gather(*(self._client(ends_at) for _ in range(CONNECTIONS)))

    async def _client(self, ends_at: float) -> None:
        while time.monotonic() < ends_at:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.failed += 1
                await asyncio.sleep(0.5)
                continue
            try:
                while time.monotonic() < ends_at:
                    await self._request(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                self.failed += 1
            finally:
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._numbers)
        body = request_of(range(first, first + SPANS)).SerializeToString()
        writer.write(HEAD % len(body) + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in answered.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(fields.get(b"Content-Length", b"0")))
        if answered.startswith(b"HTTP/1.1 200"):
            self.taken.update(range(first, first + SPANS))
        else:
            self.refused += 1
            await asyncio.sleep(float(fields[b"Retry-After"]))


async def come_and_go(sink: OtlpSink) -> None:
    while True:
        await asyncio.sleep(3)
        sink.status = 503
        await asyncio.sleep(2)
        sink.status = 200


TAIL_SAMPLING = {"tail_sampling": [{"name": "all"}], "tail_wait": "1s"}


@pytest.mark.parametrize(
    ("traces", "bound_mib"), [({}, MOST_MIB), (TAIL_SAMPLING, MOST_MIB_SAMPLING)], ids=["forwarded", "tail sampled"]
)
def test_a_thousand_clients_and_a_destination_that_comes_and_goes(tmp_path, many_descriptors, traces, bound_mib):
    port = free_port()

    async def flood(sink: OtlpSink) -> Flood:
        changing = asyncio.create_task(come_and_go(sink))
        clients = Flood(port)
        await clients.run(SECONDS)
        changing.cancel()
        return clients

    with OtlpSink() as sink:
        configuration = {
            "host": {"interval": "1s"},
            "otlp_receiver": {"http": f"127.0.0.1:{port}"},
            "traces": traces,
            "export": [{"name": "central", "endpoint": sink.url, "signals": ["traces"]}],
        }
        with AgentProcess(tmp_path, configuration) as agent:
            clients = asyncio.run(flood(sink))
            sink.status = 200
            expected = {span_id_of(number) for number in clients.taken}
            sink.wait(lambda sink: expected <= sink.span_ids, 120)
            status = agent.json("/api/v1/status")
            most_mib = highest_mib(agent)
    print(
        f"{len(clients.taken)} spans taken, {clients.refused} requests refused, {clients.failed} failed, {most_mib:.0f} MiB"
    )
    assert len(clients.taken) > 100 * SECONDS
    assert status["destinations"][0]["dropped_items"] == {}
    assert most_mib < bound_mib
    assert "Traceback" not in agent.log


def test_a_destination_that_never_comes_back_fills_the_queue_and_no_memory(tmp_path, many_descriptors):
    port = free_port()
    with OtlpSink() as sink:
        sink.status = 503
        export = {"name": "central", "endpoint": sink.url, "spool": {"size": "32MiB", "when_full": "block"}}
        configuration = {
            "host": {"interval": "1h"},
            "otlp_receiver": {"http": f"127.0.0.1:{port}"},
            "export": [export],
        }
        with AgentProcess(tmp_path, configuration) as agent:
            clients = Flood(port)
            asyncio.run(clients.run(SECONDS / 2))
            waiting = agent.json("/api/v1/status")["destinations"][0]
            sink.status = 200
            expected = {span_id_of(number) for number in clients.taken}
            sink.wait(lambda sink: expected <= sink.span_ids, 120)
            most_mib = highest_mib(agent)
    print(
        f"{len(clients.taken)} spans taken, {clients.refused} requests refused, {clients.failed} failed, {most_mib:.0f} MiB"
    )
    assert waiting["dropped_items"] == {}
    assert most_mib < MOST_MIB
    assert "Traceback" not in agent.log

"""The stream of what passes, over a real connection to a real daemon."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from otlp_client import gauge, log_records
from trace_payloads import request, span

from novel_agent.api import tail
from novel_agent.model.batch import Batch

from .conftest import DEADLINE_SECONDS, Running, Start, make_loaded, until


class Stream:
    """An answer that goes on: its head, and its lines as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = ""
        self._read = b""

    async def line(self) -> Any:
        """The next line; None at the end of the answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while b"\n" not in self._read:
                size = int(await self.reader.readline(), 16)
                self._read += (await self.reader.readexactly(size + 2))[:-2]
                if not size:
                    return None
        line, _, self._read = self._read.partition(b"\n")
        return msgspec.json.decode(line)

    async def item(self) -> Any:
        """The next line that is not a heartbeat."""
        while True:
            line = await self.line()
            if line is None or line["type"] != "heartbeat":
                return line


@asynccontextmanager
async def tailing(agent: Running, query: str = "") -> AsyncIterator[Stream]:
    """A stream that has begun."""
    reader, writer = await agent.connect()
    stream = Stream(reader, writer)
    try:
        writer.write(f"GET /api/v1/tail?{query} HTTP/1.1\r\nHost: 127.0.0.1:{agent.port}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            stream.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert (await stream.line())["type"] == "heartbeat"
        yield stream
    finally:
        writer.close()


def pass_on(agent: Running, *bodies: str, source: str = "stories", severity: int = 9) -> None:
    batch = Batch("logs", log_records(*bodies, severity=severity), len(bodies))
    agent.daemon.destinations.tap.offer(batch, source)


async def test_records_come_as_they_pass_a_json_object_a_line(agent: Running) -> None:
    async with tailing(agent) as stream:
        assert stream.head.startswith("HTTP/1.1 200 ")
        assert "\r\nContent-Type: application/x-ndjson\r\n" in stream.head
        assert "\r\nCache-Control: no-store\r\n" in stream.head
        pass_on(agent, "once upon a time")
        first = await stream.item()
        pass_on(agent, "the end")
        second = await stream.item()
    assert (first["type"], first["source"], first["service"]) == ("log", "stories", "novel-engine")
    assert (first["severity"], first["body"], second["body"]) == ("info", "once upon a time", "the end")


async def test_what_is_received_is_seen_as_otlp_of_each_signal(agent: Running) -> None:
    async with tailing(agent) as stream:
        for batch in (
            Batch("logs", log_records("late"), 1),
            Batch("traces", request(span(1, 1, "GET /")), 1),
            Batch("metrics", gauge("pens.ready", 3), 1),
        ):
            await agent.daemon.delivery(batch)
        items = [await stream.item() for _ in range(3)]
    assert [each["type"] for each in items] == ["log", "span", "metric"]
    assert {each["source"] for each in items} == {"otlp"}


async def test_the_hosts_metrics_are_seen_though_no_destination_takes_them(agent: Running) -> None:
    daemon = agent.daemon
    async with tailing(agent, "signal=metrics&match=system.cpu.time&limit=1") as stream:
        await daemon.forwarding.forward(daemon.sampler, 15.0, daemon._shown)
        item = await stream.item()
    assert (item["source"], item["name"], item["unit"]) == ("host", "system.cpu.time", "s")


async def test_only_what_is_asked_for_comes(agent: Running) -> None:
    query = "signal=logs,traces&source=a&source=b&min_severity=warn&match=ink"
    async with tailing(agent, query) as stream:
        pass_on(agent, "no ink", source="a", severity=9)
        pass_on(agent, "no ink", source="c", severity=13)
        pass_on(agent, "no pen", source="a", severity=13)
        pass_on(agent, "no ink at all", source="b", severity=17)
        assert (await stream.item())["body"] == "no ink at all"


async def test_a_limit_ends_the_stream_and_says_so(agent: Running) -> None:
    async with tailing(agent, "limit=2") as stream:
        pass_on(agent, "a", "b", "c")
        items = [await stream.item() for _ in range(3)]
        assert await stream.line() is None
    assert [each.get("body") for each in items] == ["a", "b", None]
    assert items[2] == {"type": "end", "reason": "limit"}
    assert not agent.daemon.destinations.tap.wants("logs")


async def test_what_was_lost_on_the_way_is_told(agent: Running) -> None:
    async with tailing(agent) as stream:
        agent.daemon.destinations.tap.offer(Batch("logs", log_records("a") + b"\x0a\x7f", 121), "otlp")
        assert (await stream.item()) == {"type": "skipped", "items": 120}
        assert (await stream.item())["body"] == "a"


async def test_a_quiet_stream_has_a_heartbeat(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT_SECONDS", 0.01)
    async with tailing(agent) as stream:
        line = await stream.line()
    assert line["type"] == "heartbeat"
    assert line["time"] > 1_700_000_000


async def test_a_client_that_hangs_up_is_forgotten(agent: Running) -> None:
    tap = agent.daemon.destinations.tap
    async with tailing(agent):
        assert tap.wants("logs")
    await until(lambda: not tap.wants("logs"))


async def test_a_stop_ends_the_stream_and_is_not_held_up(agent: Running) -> None:
    async with tailing(agent) as stream:
        agent.daemon.request_stop()
        assert await stream.item() == {"type": "end", "reason": "closing"}
        assert await stream.line() is None


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
    agent: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LAST_LINE_SECONDS", 0.01)
    tap = agent.daemon.destinations.tap
    async with tailing(agent):
        (listener,) = tap._listeners
        while listener._waiting_bytes < 3_000_000:  # until what it is sent backs up
            pass_on(agent, "x" * 1_000_000)
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await agent.server.stop()
        assert time.monotonic() - began < 4  # others are waited for 5 s
        assert not tap.wants("logs")


async def test_a_reload_leaves_the_stream_alone_unless_the_server_has_to_go(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await start()

    async def reload(**settings: Any) -> None:
        loaded = make_loaded(tmp_path / "state0", **settings)

        async def load_again(sources: object) -> Any:
            return loaded

        monkeypatch.setattr("novel_agent.runtime.daemon.load_again", load_again)
        await agent.daemon.reload()

    async with tailing(agent) as stream:
        await reload()
        pass_on(agent, "still here")
        assert (await stream.item())["body"] == "still here"
        await reload(allowed_hosts=("novels.example",))
        assert await stream.item() == {"type": "end", "reason": "closing"}
    async with tailing(agent) as stream:
        pass_on(agent, "the next server")
        assert (await stream.item())["body"] == "the next server"


async def test_a_fifth_who_looks_on_is_refused(agent: Running) -> None:
    async with tailing(agent), tailing(agent), tailing(agent), tailing(agent):
        reply = await agent.ask("/api/v1/tail")
    assert (reply.status, reply.json()["errorType"]) == (503, "unavailable")
    assert reply.json()["error"] == "4 look on already, which is the most there may be; end one of them"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("signal=log", "signal=log: write logs, traces, metrics, several with commas between, or all"),
        ("signal=logs,", "signal=logs,: write logs, traces, metrics, several with commas between, or all"),
        ("min_severity=loud", "min_severity=loud: write one of trace, debug, info, warn, error, fatal"),
        ("limit=0", "limit=0: write a number from 1 to 1000000"),
        ("limit=x", "limit=x: write a whole number"),
        ("sources=a", "sources=a: not known here; there are signal, source, min_severity, match, limit"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_named_with_what_would_be_right(
    agent: Running, query: str, error: str
) -> None:
    reply = await agent.ask(f"/api/v1/tail?{query}")
    assert (reply.status, reply.json()) == (400, {"status": "error", "errorType": "bad_data", "error": error})


async def test_the_head_alone_does_not_go_on(agent: Running) -> None:
    reply = await agent.ask("/api/v1/tail", "HEAD")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "application/x-ndjson", b"")


async def test_from_elsewhere_it_wants_the_token(agent: Running) -> None:
    assert (await agent.ask("/api/v1/tail", X_Forwarded_For="192.0.2.1")).status == 401
    assert (await agent.ask("/api/v1/tail", Sec_Fetch_Site="cross-site")).status == 403


async def test_each_kind_of_line_is_described(agent: Running) -> None:
    body = (await agent.ask("/openapi.json")).json()
    schema = body["paths"]["/api/v1/tail"]["get"]["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    assert sorted(schema["discriminator"]["mapping"]) == ["end", "heartbeat", "log", "metric", "skipped", "span"]
    assert {each["$ref"].rpartition("/")[2] for each in schema["anyOf"]} <= set(body["components"]["schemas"])

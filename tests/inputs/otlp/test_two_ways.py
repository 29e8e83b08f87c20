"""A request that is served without aiohttp gets the answer that aiohttp's way gives, and leaves the same behind."""

import asyncio
import contextlib
import gzip
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novel_agent.config.schema import Auth
from novel_agent.inputs.otlp.admission import Admission
from novel_agent.inputs.otlp.http_head import Heads
from novel_agent.serving.limits import Limits
from novel_agent.state.queue import QueueFull

from .conftest import TOKEN, Running, Start, logs, traces, until

ANSWER_SECONDS = 5.0
BODY = traces(3)
JSON_BODY = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityText":"INFO"}]}]}]}'
Outcome = Callable[[], Awaitable[None]]


class NoHeads(Heads):
    """Learns nothing, so that everything goes aiohttp's way."""

    def learn(self, *_: object) -> None:
        """Nothing."""


def aiohttp_alone(receiver: Running) -> Running:
    receiver.http._service = receiver.http._service._replace(heads=NoHeads())
    return receiver


def request(
    body: bytes = BODY, /, *lines: str, path: str = "/v1/traces", length: str | None = None, **other: str
) -> bytes:
    """A request as clients write it; `lines` are further headers, `other` headers instead of the usual ones."""
    headers = {"Host": "localhost", "Content-Type": "application/x-protobuf"}
    headers |= {name.replace("_", "-"): value for name, value in other.items()}
    first = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), *lines]
    return "\r\n".join([*first, f"Content-Length: {length or len(body)}", "", ""]).encode() + body


GOOD = request()


class Client:
    """One connection; `ask` gives an answer without its date, empty where the connection has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_head = False

    @classmethod
    async def connect(cls, receiver: Running) -> "Client":
        return cls(*await receiver.connect())

    async def send(self, *parts: bytes) -> None:
        """Each in a read of its own, as far as that can be had."""
        self.is_head = parts[0].startswith(b"HEAD")
        with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's for a transport that is closed
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                for _ in range(4):
                    await asyncio.sleep(0)

    async def answer(self) -> bytes:
        async with asyncio.timeout(ANSWER_SECONDS):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"Content-Length: (\d+)", head)
                if self.is_head:
                    return re.sub(rb"Date: [^\r]*", b"Date:", head)
                body = await self.reader.readexactly(int(found[1])) if found else await self.reader.read()
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""
        return re.sub(rb"Date: [^\r]*", b"Date:", head) + body

    async def ask(self, *parts: bytes) -> bytes:
        await self.send(*parts)
        return await self.answer()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def served(receiver: Running) -> tuple[int, int]:
    """Requests that were served without aiohttp, and by it."""
    server = receiver.http._server
    assert server is not None
    counts = receiver.counts.of("http").requests
    return sum(counts.values()) - server.requests_count, server.requests_count


class Left(NamedTuple):
    """What requests leave behind, once their connections have ended."""

    answers: list[bytes]
    counts: object
    batches: list[Any]


async def left_by(receiver: Running, parts: Sequence[Sequence[bytes]], outcomes: Sequence[Outcome] = ()) -> Left:
    """Ask on one connection, one request after the other."""
    client = await Client.connect(receiver)
    answers = []
    for number, each in enumerate(parts):
        if number:  # the first request is the one that aiohttp learns from
            receiver.destination.outcomes = list(outcomes)
        answers.append(await client.ask(*each))
        receiver.destination.outcomes = []
    await client.close()
    await until(lambda: receiver.counts.of("http").connections == 0)
    assert receiver.admission.held_bytes == 0
    return Left(answers, receiver.counts.of("http").status(), list(receiver.destination.batches))


async def full() -> None:
    error = QueueFull("full")
    error.retry_after_seconds = 2.5  # type: ignore[attr-defined,unused-ignore]
    raise error


async def fault() -> None:
    raise RuntimeError("a fault of ours")


async def out_of_time() -> None:
    raise TimeoutError


ZSTD = zstandard.ZstdCompressor().compress
JSON = "application/json"


class Kind(NamedTuple):
    """A request that is asked as the second and third of its connection; `first` teaches its head. `fast`: how many of the
    requests behind the first are served without aiohttp, the one that ends the row being like the first."""

    name: str
    first: bytes
    asked: bytes
    fast: int
    outcomes: Sequence[Outcome] = ()


KINDS = [
    Kind("good", GOOD, GOOD, 3),
    Kind("of another length", GOOD, request(traces(30)), 3),
    Kind("empty", GOOD, request(b""), 3),
    Kind("logs", request(logs(2), path="/v1/logs"), request(logs(5), path="/v1/logs"), 3),
    Kind("an unknown head", GOOD, request(BODY, "X-More: 1"), 2),
    Kind(
        "json",
        request(JSON_BODY, path="/v1/logs", Content_Type=JSON),
        request(b"{}", path="/v1/logs", Content_Type=JSON),
        3,
    ),
    Kind("wrong json", request(b"{}", Content_Type=JSON), request(b"{", Content_Type=JSON), 3),
    Kind("no protobuf", GOOD, request(b"\xff\xff"), 3),
    Kind(
        "gzip",
        request(gzip.compress(BODY), Content_Encoding="gzip"),
        request(gzip.compress(traces(9)), Content_Encoding="gzip"),
        3,
    ),
    Kind("zstd", request(ZSTD(BODY), Content_Encoding="zstd"), request(ZSTD(traces(9)), Content_Encoding="zstd"), 3),
    Kind(
        "deflate",
        request(zlib.compress(BODY), Content_Encoding="deflate"),
        request(zlib.compress(traces(9)), Content_Encoding="deflate"),
        3,
    ),
    Kind("no gzip", request(gzip.compress(BODY), Content_Encoding="gzip"), request(BODY, Content_Encoding="gzip"), 3),
    Kind(
        "gzip that is cut off",
        request(gzip.compress(BODY), Content_Encoding="gzip"),
        request(gzip.compress(BODY)[:-9], Content_Encoding="gzip"),
        3,
    ),
    Kind(
        "a bomb",
        request(gzip.compress(BODY), Content_Encoding="gzip"),
        request(gzip.compress(bytes(4 << 20)), Content_Encoding="gzip"),
        3,
    ),
    Kind(
        "large when it unfolds",
        request(gzip.compress(BODY), Content_Encoding="gzip"),
        request(gzip.compress(traces(3000, padding=500)), Content_Encoding="gzip"),
        3,
    ),
    Kind("large", GOOD, request(traces(1500, padding=1000)), 1),
    Kind("a full queue", GOOD, GOOD, 3, [full]),
    Kind("a fault", GOOD, GOOD, 1, [fault]),
    Kind("out of time", GOOD, GOOD, 1, [out_of_time]),
    Kind("another path", GOOD, request(path="/v1/trace"), 1),
    Kind("another method", GOOD, GOOD.replace(b"POST", b"PUT"), 1),
    Kind("another content type", GOOD, request(Content_Type="text/plain"), 1),
    Kind("another encoding", GOOD, request(Content_Encoding="br"), 1),
    Kind("a host that is not ours", GOOD, request(Host="evil.example"), 1),
    Kind("a page of another site", GOOD, request(BODY, "Origin: https://evil.example"), 1),
    Kind("through a proxy", GOOD, request(BODY, "X-Forwarded-For: 10.0.0.1"), 1),
    Kind("GET", GOOD, b"GET /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n", 1),
    Kind("HEAD", GOOD, b"HEAD /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n", 1),
    Kind("HTTP/1.0", GOOD, GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 0),
    Kind("keep-alive off", GOOD, request(BODY, "Connection: close"), 0),
    Kind("keep-alive on", request(BODY, "Connection: keep-alive"), request(BODY, "Connection: keep-alive"), 3),
    Kind("names in lower case", GOOD, GOOD.replace(b"Content-Length", b"content-length"), 2),
    Kind("names in upper case", GOOD, GOOD.replace(b"Content-Length", b"CONTENT-LENGTH"), 0),
    Kind(
        "another order",
        GOOD,
        request().replace(b"Host: localhost\r\n", b"").replace(b"\r\n\r\n", b"\r\nHost: localhost\r\n\r\n", 1),
        2,
    ),
    Kind("no space behind a colon", GOOD, GOOD.replace(b"Host: ", b"Host:"), 0),
    Kind("a space more", GOOD, GOOD.replace(b"Host: ", b"Host:  "), 0),
    Kind("a sign", GOOD, request(BODY, length=f"+{len(BODY)}"), 0),
    Kind("a minus", GOOD, request(BODY, length=f"-{len(BODY)}"), 0),
    Kind("leading zeros", GOOD, request(BODY, length=f"000{len(BODY)}"), 0),
    Kind("a space before the length", GOOD, request(BODY, length=f" {len(BODY)}"), 0),
    Kind("a space behind the length", GOOD, request(BODY, length=f"{len(BODY)} "), 0),
    Kind("a length that is none", GOOD, request(BODY, length="x"), 0),
    Kind("no length", GOOD, GOOD.replace(b"Content-Length: %d\r\n" % len(BODY), b""), 0),
    Kind("two lengths", GOOD, request(BODY, f"Content-Length: {len(BODY)}"), 0),
    Kind("two lengths that differ", GOOD, request(BODY, "Content-Length: 0"), 0),
    Kind("a length beyond all bounds", GOOD, request(b"", length="9" * 30), 0),
    Kind("a length of more than is taken", GOOD, request(b"", length="99999999"), 0),
    Kind("length and chunks", GOOD, request(BODY, "Transfer-Encoding: chunked"), 0),
    Kind("chunks", GOOD, request(b"0\r\n\r\n", "Transfer-Encoding: chunked").replace(b"Content-Length: 5\r\n", b""), 0),
    Kind("a folded line", GOOD, GOOD.replace(b"Host: ", b"X: a\r\n b\r\nHost: "), 0),
    Kind("a line feed alone", GOOD, GOOD.replace(b"Host: localhost\r\n", b"Host: localhost\n"), 0),
    Kind("a NUL", GOOD, GOOD.replace(b"Host: localhost", b"Host: localhost\r\nX: \0"), 0),
    Kind("an empty line before", GOOD, b"\r\n" + GOOD, 0),
    Kind("a byte before", GOOD, b"X" + GOOD, 0),
    Kind("an upgrade", GOOD, request(BODY, "Connection: Upgrade", "Upgrade: websocket"), 0),
    Kind("nonsense", GOOD, b"nonsense\r\n\r\n", 0),
]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
async def test_every_kind_of_request_is_answered_as_by_aiohttp(start: Start, kind: Kind) -> None:
    row = [[kind.first], [kind.asked], [kind.asked], [kind.first]]
    by_aiohttp = await left_by(aiohttp_alone(await start()), row, kind.outcomes)
    receiver = await start()
    assert await left_by(receiver, row, kind.outcomes) == by_aiohttp
    assert (await served(receiver))[0] >= kind.fast


@pytest.mark.parametrize("body", [traces(1), b"\xff\xff"], ids=["good", "bad"])
async def test_a_request_may_be_cut_anywhere(start: Start, body: bytes) -> None:
    asked = request(body)
    cuts = [[asked[:at], asked[at:]] for at in range(1, len(asked))]
    by_aiohttp = await left_by(aiohttp_alone(await start()), [[GOOD], *cuts])
    receiver = await start()
    assert await left_by(receiver, [[GOOD], *cuts]) == by_aiohttp
    in_head = len(asked) - len(body)
    fast, slow = await served(receiver)
    assert fast + slow == len(asked)
    assert slow <= in_head + 1


async def test_requests_one_behind_the_other_are_answered_in_order(start: Start) -> None:
    bodies = [traces(number) for number in (1, 2, 3)] + [b"\xff"] + [traces(4)]
    row = [[GOOD], [b"".join(map(request, bodies))]]
    outcomes = []
    for receiver in (aiohttp_alone(await start()), await start()):
        client = await Client.connect(receiver)
        answers = [await client.ask(*row[0]), await client.ask(*row[1])]
        answers += [await client.answer() for _ in bodies[1:]]
        await client.close()
        outcomes.append((answers, [batch.items for batch in receiver.destination.batches]))
    assert outcomes[0] == outcomes[1]
    assert [answer[9:12] for answer in outcomes[0][0]] == [b"200"] * 4 + [b"400", b"200"]
    assert outcomes[0][1] == [3, 1, 2, 3, 4]
    assert await served(receiver) == (5, 1)


async def test_what_is_unusual_behind_what_is_known_is_aiohttps(start: Start) -> None:
    both = GOOD + b"GET /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n" + GOOD
    outcomes = []
    for receiver in (aiohttp_alone(await start()), await start()):
        client = await Client.connect(receiver)
        outcomes.append([await client.ask(GOOD), await client.ask(both), await client.answer(), await client.answer()])
        await client.close()
    assert outcomes[0] == outcomes[1]
    assert [answer[9:12] for answer in outcomes[0]] == [b"200", b"200", b"405", b"200"]


async def test_a_connection_of_a_known_head_needs_no_aiohttp_at_all(start: Start) -> None:
    receiver = await start()
    for _ in range(3):
        client = await Client.connect(receiver)
        assert (await client.ask(GOOD)).startswith(b"HTTP/1.1 200")
        await client.close()
    assert await served(receiver) == (2, 1)


async def test_who_may_send_is_asked_for_every_request(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    asked = request(BODY, f"Authorization: Bearer {TOKEN}")
    outcomes = []
    for with_heads in (False, True):
        file.write_text(TOKEN)
        receiver = await start(Limits(failure_seconds=0.01), auth=Auth(token_file=str(file)))
        if not with_heads:
            aiohttp_alone(receiver)
        client = await Client.connect(receiver)
        answers = [await client.ask(asked) for _ in range(3)]
        file.write_text("another token")
        answers += [await client.ask(asked), await client.ask(request(BODY, "Authorization: Bearer another token"))]
        await client.close()
        outcomes.append((answers, receiver.counts.of("http").status().refused))
    assert outcomes[0] == outcomes[1]
    assert [answer[9:12] for answer in outcomes[0][0]] == [b"200", b"200", b"200", b"401", b"200"]
    assert await served(receiver) == (3, 2)


async def test_a_known_head_from_elsewhere_is_let_in_by_who_sends_it(start: Start) -> None:
    receiver = await start()
    client = await Client.connect(receiver)
    await client.ask(GOOD)
    for connection in receiver.http._connections:
        connection._remote = "192.0.2.1"
    assert (await client.ask(GOOD))[9:12] == b"401"
    assert await served(receiver) == (1, 1)
    await client.close()


@pytest.mark.parametrize("sent", [0, 1, len(BODY) - 1])
async def test_a_body_that_does_not_come_in_time_is_answered_and_the_connection_ends(start: Start, sent: int) -> None:
    cut = GOOD[: len(GOOD) - len(BODY) + sent]
    rows = []
    for receiver in (aiohttp_alone(await start(Limits(body_seconds=0.1))), await start(Limits(body_seconds=0.1))):
        rows.append(await left_by(receiver, [[GOOD], [cut], [b"x" * 3000]]))
    assert rows[0] == rows[1]
    assert [answer[9:12] for answer in rows[0].answers] == [b"200", b"408", b""]
    assert await served(receiver) == (1, 1)


async def test_a_client_that_is_gone_within_a_body_is_counted(start: Start) -> None:
    statuses = []
    for receiver in (aiohttp_alone(await start()), await start()):
        client = await Client.connect(receiver)
        await client.ask(GOOD)
        await client.send(GOOD[:-5])
        await client.close()
        counts = receiver.counts.of("http")
        await until(lambda counts=counts: (counts.connections, counts.requests["hung_up"]) == (0, 1))  # type: ignore[misc]
        statuses.append(counts.status())
    assert statuses[0] == statuses[1]
    assert receiver.admission.held_bytes == 0


async def test_a_client_that_hangs_up_while_it_waits_is_counted(start: Start) -> None:
    receiver = await start()
    client = await Client.connect(receiver)
    await client.ask(GOOD)
    receiver.destination.outcomes = [asyncio.Event().wait]  # type: ignore[list-item]
    await client.send(GOOD)
    await until(lambda: not receiver.destination.outcomes)
    await client.close()
    await until(lambda: receiver.destination.cancelled == 1)
    await until(lambda: receiver.counts.of("http").requests["hung_up"] == 1)


async def test_stopping_lets_a_request_finish_and_ends_quiet_connections(start: Start) -> None:
    receiver = await start()
    durable = asyncio.Event()

    async def wait() -> None:
        await durable.wait()

    quiet, client = await Client.connect(receiver), await Client.connect(receiver)
    assert [await quiet.ask(GOOD), await client.ask(GOOD)] == [await quiet.ask(GOOD)] * 2
    receiver.destination.outcomes = [wait]
    await client.send(GOOD + GOOD)
    await until(lambda: not receiver.destination.outcomes)
    stopping = asyncio.create_task(receiver.http.stop(5.0))
    assert await quiet.answer() == b""
    durable.set()
    assert (await client.answer())[9:12] == b"200"
    assert await client.answer() == b""
    await stopping
    assert await served(receiver) == (3, 1)
    for each in (quiet, client):
        await each.close()


async def test_a_body_may_still_arrive_while_the_receiver_stops(start: Start) -> None:
    receiver = await start()
    client = await Client.connect(receiver)
    await client.ask(GOOD)
    await client.send(GOOD[:-5])
    await until(lambda: any(connection.task is not None for connection in receiver.http._connections))
    stopping = asyncio.create_task(receiver.http.stop(5.0))
    assert (await client.ask(GOOD[-5:]))[9:12] == b"200"
    await stopping
    await client.close()


async def test_what_does_not_finish_is_cancelled_when_the_time_to_stop_is_over(start: Start) -> None:
    receiver = await start()
    client = await Client.connect(receiver)
    await client.ask(GOOD)
    receiver.destination.outcomes = [asyncio.Event().wait]  # type: ignore[list-item]
    await client.send(GOOD)
    await until(lambda: not receiver.destination.outcomes)
    await receiver.http.stop(0.05)
    assert await client.answer() == b""
    assert receiver.destination.cancelled == receiver.counts.of("http").requests["hung_up"] == 1
    assert receiver.admission.held_bytes == 0
    await client.close()


async def test_a_connection_without_aiohttp_is_closed_when_it_is_quiet(start: Start) -> None:
    receiver = await start(Limits(idle_seconds=0.2))
    first, second = await Client.connect(receiver), await Client.connect(receiver)
    await first.ask(GOOD)
    for _ in range(3):
        assert (await second.ask(GOOD))[9:12] == b"200"
        await asyncio.sleep(0.12)  # what is measured is time itself
    assert await second.answer() == b""
    assert await first.answer() == b""
    assert receiver.counts.of("http").refused.total() == 0
    for each in (first, second):
        await each.close()


async def test_a_connection_that_never_asks_is_cut_off(start: Start) -> None:
    receiver = await start(Limits(head_seconds=0.1))
    client = await Client.connect(receiver)
    assert await client.answer() == b""
    await until(lambda: receiver.counts.of("http").refused["slow request"] == 1)
    await client.close()


async def test_a_known_head_whose_body_is_held_up_is_told_to_come_back(start: Start) -> None:
    receiver = await start(Limits(body_seconds=5.0), admission=Admission(100_000, wait_seconds=0.2))
    first, second = await Client.connect(receiver), await Client.connect(receiver)
    await first.ask(GOOD)
    await first.send(request(b"", length="900000") + bytes(50_000))
    await until(lambda: receiver.admission.held_bytes >= 50_000)
    answer = await second.ask(request(b"", length="900000") + bytes(60_000))
    assert answer[9:12] == b"503"
    assert b"Retry-After: 1\r\n" in answer
    assert await served(receiver) == (1, 1)
    for each in (first, second):
        await each.close()


async def test_nothing_is_read_behind_a_request_that_waits(start: Start) -> None:
    receiver = await start()
    durable = asyncio.Event()

    async def wait() -> None:
        await durable.wait()

    client = await Client.connect(receiver)
    await client.ask(GOOD)
    receiver.destination.outcomes = [wait]
    flood = b"".join([request(traces(100, padding=1000))] * 300)
    sending = asyncio.create_task(client.send(flood))
    await until(lambda: not receiver.destination.outcomes)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert receiver.admission.held_bytes < 1 << 20
    durable.set()
    answers = [await client.answer() for _ in range(300)]
    assert {answer[9:12] for answer in answers} == {b"200"}
    await sending
    await client.close()


WELL_FORMED = [
    GOOD,
    request(b""),
    request(b"\xff"),
    request(traces(40)),
    request(gzip.compress(BODY), Content_Encoding="gzip"),
    request(JSON_BODY, path="/v1/logs", Content_Type=JSON),
    request(BODY, "X-Other: 1"),
    GOOD.replace(b"Content-Length: ", b"content-length: "),
    GOOD.replace(b"Host: ", b"Host:"),
    request(BODY, length=f"0{len(BODY)}"),
    request(path="/v1/nothing"),
    b"GET /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n",
    request(b"5\r\n" + BODY[:5] + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked").replace(
        b"Content-Length", b"X-Length"
    ),
    b"\r\n" + GOOD,
]
LAST = [
    request(BODY, "Connection: close"),
    GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    b"X" + GOOD,
    request(BODY, "Content-Length: 0"),
    request(BODY, length=f"+{len(BODY)}"),
    request(BODY, "Transfer-Encoding: chunked"),
]


def in_pieces(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    return [stream[first:last] for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_in_any_pieces_is_answered_as_by_aiohttp(data: st.DataObject, tmp_path: Path) -> None:
    chosen = data.draw(st.lists(st.sampled_from(WELL_FORMED), min_size=1, max_size=8))
    sent = in_pieces(data, b"".join(chosen))
    last = in_pieces(data, data.draw(st.sampled_from(LAST)))

    async def both() -> list[object]:
        return [await _streamed(len(chosen), sent, last, str(tmp_path), with_heads=each) for each in (False, True)]

    by_aiohttp, by_both = asyncio.run(both())
    assert by_both == by_aiohttp


async def _streamed(
    answers: int, sent: Sequence[bytes], last: Sequence[bytes], directory: str, *, with_heads: bool
) -> object:
    """Everything that is said on one connection, and what is left behind."""
    receiver = await _started(directory)
    if not with_heads:
        aiohttp_alone(receiver)
    client = await Client.connect(receiver)
    said = [await client.ask(GOOD)]
    await client.send(*sent)
    said += [await client.answer() for _ in range(answers)]
    said.append(await client.ask(*last))
    await client.close()
    await receiver.http.stop(1.0)
    assert receiver.admission.held_bytes == 0
    return said, receiver.counts.of("http").requests, [batch.items for batch in receiver.destination.batches]


async def _started(directory: str) -> Running:
    from novel_agent.config.schema import OtlpReceiver
    from novel_agent.inputs.otlp.counts import Counts
    from novel_agent.inputs.otlp.http import OtlpHttpReceiver
    from novel_agent.serving.access import TokenInMemory

    from .conftest import Destination

    receiver = Running(Destination(), Counts(), Admission())
    receiver.http = OtlpHttpReceiver(
        OtlpReceiver(http="127.0.0.1:0"),
        receiver.destination,
        admission=receiver.admission,
        counts=receiver.counts,
        token=TokenInMemory(TOKEN),
        names=frozenset(),
        spill_directory=directory,
    )
    receiver.http_port = int((await receiver.http.start()).rsplit(":", 1)[1].rstrip("/"))
    return receiver

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
import uvloop

from novel_agent.errors import StateError
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Listener, Lost
from novel_agent.serving.traffic import Traffic


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop the daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


class Echo(asyncio.Protocol):
    """Answers with its name."""

    def __init__(self, name: bytes, lost: Lost) -> None:
        self.name = name
        self.lost = lost
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self.name)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(self)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


Listen = Callable[..., Listener]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Make listeners that are closed after the test."""
    made: list[Listener] = []

    def make(address: str, name: bytes, room: Callable[[], Awaitable[None]] | None = None) -> Listener:
        made.append(Listener(address, lambda lost: Echo(name, lost), None, Limits(), Traffic(), room))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        each.abort()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].rstrip("/"))


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"?")
    async with asyncio.timeout(10):
        answer = await reader.read(100)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_successor_at_the_same_address_has_its_sockets(listen: Listen) -> None:
    first, second = listen("127.0.0.1:0", b"first"), listen("127.0.0.1:0", b"second")
    port = port_of(await first.open())
    assert await ask(port) == b"first"
    assert port_of(await first.make_way(second)) == port
    assert await ask(port) == b"second"
    assert (first.is_listening, second.is_listening) == (False, True)


async def test_a_successor_at_another_port_listens_beside_it(listen: Listen) -> None:
    first, second = listen("127.0.0.1:0", b"first"), listen("localhost:0", b"second")
    port = port_of(await first.open())
    other = port_of(await first.make_way(second))
    assert (await ask(port), await ask(other)) == (b"first", b"second")


async def test_a_successor_at_another_address_of_its_port_takes_it_over(listen: Listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, second = listen(f"127.0.0.1:{port}", b"first"), listen(f"0.0.0.0:{port}", b"second")
    await first.open()
    await first.make_way(second)
    assert await ask(port) == b"second"


async def test_where_the_successor_cannot_listen_it_goes_on_itself(listen: Listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, second = listen(f"127.0.0.1:{port}", b"first"), listen(f"192.0.2.1:{port}", b"second")
    await first.open()
    with pytest.raises(StateError, match="no interface of this machine"):
        await first.make_way(second)
    assert await ask(port) == b"first"


async def test_a_connection_is_not_served_before_there_is_room(listen: Listen) -> None:
    free = asyncio.Event()
    asked: list[int] = []

    async def room() -> None:
        asked.append(1)
        await free.wait()

    port = port_of(await (listener := listen("127.0.0.1:0", b"served", room)).open())
    asking = asyncio.create_task(ask(port))
    async with asyncio.timeout(10):
        while not asked:
            await asyncio.sleep(0)
    assert not asking.done()
    free.set()
    assert await asking == b"served"
    assert listener.is_listening

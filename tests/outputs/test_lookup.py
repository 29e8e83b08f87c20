import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from novel_agent.errors import OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs import lookup
from novel_agent.outputs.lookup import Address, Lookups, Resolver

BATCH = Batch("metrics", b"\x0a\x00", 1)
real_getaddrinfo = socket.getaddrinfo


class HungNames:
    """A libc that hangs for names that begin with `hung`, until it is let go, and knows `sink` as loopback."""

    def __init__(self) -> None:
        self.asked = []
        self.answer = threading.Event()

    def __call__(self, host, port, family=0, kind=0, proto=0, flags=0):
        if flags & socket.AI_NUMERICHOST:
            return real_getaddrinfo(host, port, family, kind, proto, flags)
        self.asked.append(host)
        if host.startswith("hung"):
            self.answer.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        assert host == "sink"
        return real_getaddrinfo("127.0.0.1", port, family, kind, proto)


@pytest.fixture
async def names(monkeypatch):
    hung = HungNames()
    monkeypatch.setattr(socket, "getaddrinfo", hung)
    yield hung
    hung.answer.set()
    async with asyncio.timeout(5):
        while lookup.LOOKUPS.under_way():
            await asyncio.sleep(0.001)


async def test_an_address_needs_no_thread(names):
    assert await Lookups().addresses("127.0.0.1", 4318) == [
        Address(socket.AF_INET, socket.IPPROTO_TCP, ("127.0.0.1", 4318))
    ]
    assert [each.sockaddr[:2] for each in await Lookups().addresses("::1", 1)] == [("::1", 1)]
    assert names.asked == []


async def test_a_name_that_is_none_is_an_os_error():
    with pytest.raises(OSError, match="not a host name"):
        await Lookups().addresses("a" * 64, 1)


async def test_whoever_asks_for_a_name_under_way_shares_its_thread(names):
    lookups = Lookups()
    asking = [asyncio.create_task(lookups.addresses("hung", 1)) for _ in range(5)]
    done, _ = await asyncio.wait(asking, timeout=0.05)
    assert (done, lookups.under_way(), names.asked) == (set(), 1, ["hung"])
    asking[0].cancel()
    names.answer.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [str(each) for each in outcomes[1:]] == ["[Errno -3] Temporary failure in name resolution"] * 4
    assert lookups.under_way() == 0


async def test_threads_that_hang_are_capped_and_the_rest_fails_at_once(names):
    lookups = Lookups(most=2)
    asking = [asyncio.create_task(lookups.addresses(f"hung{number}", 1)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many names wait for the resolver"):
        await lookups.addresses("sink", 1)
    names.answer.set()
    await asyncio.gather(*asking, return_exceptions=True)
    assert [each.sockaddr for each in await lookups.addresses("sink", 1)] == [("127.0.0.1", 1)]


async def test_aiohttp_gets_addresses_as_it_wants_them(names):
    (found,) = await Resolver().resolve("sink", 4318, socket.AF_INET)
    assert (found["hostname"], found["host"], found["port"]) == ("sink", "127.0.0.1", 4318)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_hung_resolver_costs_one_destination_its_deadline_and_no_other_anything(
    names, output, http_destination, grpc_destination, protocol
):
    near = (await grpc_destination() if protocol == "grpc" else http_destination).url.replace("127.0.0.1", "sink")
    hung = [await output(f"http://hung{number}:1", protocol=protocol, timeout_seconds=0.3) for number in range(8)]
    waiting = [asyncio.create_task(each.send(BATCH)) for each in hung]
    await asyncio.sleep(0)
    await (await output(near, protocol=protocol, timeout_seconds=0.3)).send(BATCH)
    for each in waiting:
        with pytest.raises(OutputUnavailable, match=r"no answer within 0\.3 s"):
            await each


EXIT = """
import asyncio, socket, sys, threading, uvloop
from novel_agent.config.schema import Export
from novel_agent.errors import OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.otlp import OtlpOutput

numeric = socket.getaddrinfo
def hang(*arguments, flags=0, **options):
    if flags & socket.AI_NUMERICHOST:
        return numeric(*arguments, flags=flags, **options)
    threading.Event().wait()
socket.getaddrinfo = hang

async def main():
    for protocol in ("http/protobuf", "grpc"):
        output = OtlpOutput(Export(name="c", endpoint="http://hung:1", protocol=protocol, timeout_seconds=0.1))
        await output.start()
        try:
            await output.send(Batch("metrics", b"", 0))
        except OutputUnavailable:
            print("unavailable")
        await output.stop()

(uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_exit_does_not_wait_for_a_hung_resolver(loop):
    ended = subprocess.run([sys.executable, "-c", EXIT, loop], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "unavailable\n" * 2, "")

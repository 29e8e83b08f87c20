import asyncio
import os
import shutil
import socket
import ssl
import sys
from pathlib import Path

import pytest

from novel_agent.config.schema import ServerTls
from novel_agent.errors import ConfigError, StateError
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Listener

from .conftest import DEADLINE_SECONDS, Start, until

TLS = Path(__file__).parent / "tls"
PLAIN = ServerTls(cert_file=str(TLS / "server.pem"), key_file=str(TLS / "server.key"))
MUTUAL = ServerTls(
    cert_file=str(TLS / "server.pem"), key_file=str(TLS / "server.key"), client_ca_file=str(TLS / "ca.pem")
)


def client(certificate: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    if certificate:
        context.load_cert_chain(TLS / f"{certificate}.pem", TLS / f"{certificate}.key")
    return context


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:0", "http://127.0.0.1:{}/"),
        ("localhost:0", "http://localhost:{}/"),
        ("0.0.0.0:0", "http://localhost:{}/"),
        (":0", "http://localhost:{}/"),
    ],
)
async def test_the_address_shown_is_one_that_answers(start: Start, listen: str, address: str) -> None:
    agent = await start(listen=listen)
    assert agent.daemon.address == address.format(agent.port)
    assert (await agent.ask("/health")).status == 200


@needs_ipv6
@pytest.mark.parametrize(
    ("listen", "address"),
    [("[::1]:0", "http://[::1]:{}/"), ("[::]:0", "http://localhost:{}/"), (":0", "http://localhost:{}/")],
)
async def test_it_listens_on_ipv6(start: Start, listen: str, address: str) -> None:
    agent = await start(listen=listen)
    assert agent.daemon.address == address.format(agent.port)
    reader, writer = await asyncio.open_connection("::1", agent.port)
    writer.write(b"GET /api/v1/status HTTP/1.1\r\nHost: [::1]:9090\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


@needs_ipv6
async def test_every_ipv6_address_is_every_ipv4_address_too(start: Start) -> None:
    agent = await start(listen="[::]:0")
    assert (await agent.ask("/api/v1/status")).status == 200


async def test_a_free_port_must_be_free_on_every_address(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []
    bind = Listener._bind

    def refuse_the_second_once(self: Listener, family: int, address: str, port: int, *, dual_stack: bool) -> None:
        tried.append((address, port))
        if len(tried) == 2:
            raise StateError("in use")
        bind(self, family, address, port, dual_stack=dual_stack)

    async def two(self: Listener, host: str, port: int) -> list[tuple[int, str]]:
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2")]

    monkeypatch.setattr(Listener, "_bind", refuse_the_second_once)
    monkeypatch.setattr(Listener, "_resolve", two)
    agent = await start()
    assert [address for address, _ in tried] == ["127.0.0.1", "127.0.0.2"] * 2
    assert tried[2:] == [("127.0.0.1", 0), ("127.0.0.2", agent.port)]


async def test_a_port_in_use_names_who_holds_it(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(StateError) as caught:
            await start(listen=f"127.0.0.1:{port}")
    text = str(caught.value)
    assert text.startswith(f"127.0.0.1:{port} is in use by process {os.getpid()} (")
    assert os.path.basename(sys.executable) in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("192.0.2.1:9090", "no interface of this machine"),
        ("no-such-host.invalid:9090", "cannot listen on no-such-host"),
    ],
)
async def test_an_address_that_is_not_here_is_an_error(start: Start, listen: str, said: str) -> None:
    with pytest.raises(StateError, match=said):
        await start(listen=listen)


async def test_it_serves_over_tls(start: Start) -> None:
    agent = await start(tls=PLAIN, tls_client=client())
    assert agent.daemon.address == f"https://127.0.0.1:{agent.port}/"
    assert (await agent.ask("/api/v1/status")).status == 200


async def test_plain_http_on_a_tls_port_gets_nothing(start: Start) -> None:
    agent = await start(tls=PLAIN)
    assert b"HTTP/1.1 200" not in await agent.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: agent.server.traffic.refused["handshake failed"] == 1)


async def test_a_handshake_that_never_comes_is_cut_off_and_counts_as_a_connection(start: Start) -> None:
    agent = await start(Limits(connections=1, handshake_seconds=0.2), tls=PLAIN)
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
    agent.tls = None
    assert await agent.send(b"") == b""
    assert agent.server.traffic.refused["too many connections"] == 1
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.read() == b""
    assert agent.server.traffic.refused["handshake failed"] == 1
    writer.close()
    await writer.wait_closed()


async def test_mutual_tls_wants_a_certificate_of_the_authority(start: Start) -> None:
    agent = await start(tls=MUTUAL, tls_client=client("client"))
    assert (await agent.ask("/health")).status == 200
    agent.tls = client()
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        await agent.ask("/health")


async def test_a_renewed_certificate_is_taken_up(start: Start, tmp_path: Path) -> None:
    files = {suffix: tmp_path / f"agent.{suffix}" for suffix in ("pem", "key")}
    for suffix, path in files.items():
        shutil.copy(TLS / f"server.{suffix}", path)
    tls = ServerTls(cert_file=str(files["pem"]), key_file=str(files["key"]))
    agent = await start(tls=tls, tls_client=client())
    assert await name_shown(agent.port) == "server"
    files["pem"].write_text("not a certificate")
    assert await name_shown(agent.port) == "server"
    for suffix, path in files.items():
        shutil.copy(TLS / f"renewed.{suffix}", path)
    assert await name_shown(agent.port) == "renewed"


async def name_shown(port: int) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client())
    subject = writer.get_extra_info("peercert")["subject"]
    writer.close()
    await writer.wait_closed()
    return str(dict(pair for [pair] in subject)["commonName"])


@pytest.mark.parametrize(
    ("tls", "key"),
    [
        (ServerTls(cert_file="/nonexistent.pem", key_file=str(TLS / "server.key")), "agent.tls.cert_file"),
        (ServerTls(cert_file=str(TLS / "server.pem"), key_file=str(TLS / "client.key")), "agent.tls.cert_file"),
        (
            ServerTls(cert_file=PLAIN.cert_file, key_file=PLAIN.key_file, client_ca_file=PLAIN.key_file),
            "agent.tls.client_ca_file",
        ),
    ],
)
async def test_unusable_tls_files_are_configuration_errors(start: Start, tls: ServerTls, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        await start(tls=tls)

"""Who may send: over loopback, from elsewhere, with and without a token, over TLS."""

import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from h2_client import H2Client, framed

from novel_agent.config.schema import Auth, ServerTls
from novel_agent.errors import ConfigError
from novel_agent.serving.limits import Limits

from .conftest import METHODS, TOKEN, Start, traces

TLS = Path(__file__).parents[2] / "fixtures" / "tls"
TRACES = METHODS["traces"]
FORWARDED = {"X_Forwarded_For": "10.0.0.1"}


@pytest.mark.parametrize(
    ("auth", "headers", "status"),
    [
        (None, {}, 200),
        (None, FORWARDED, 401),
        (None, FORWARDED | {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("none", FORWARDED, 200),
        ("none", {"Host": "evil.example"}, 421),
        ("none", {"Host": "collector.example.org"}, 200),
    ],
)
async def test_a_token_is_needed_unless_it_is_loopback_or_configured_away(
    start: Start, auth: Literal["none"] | None, headers: dict[str, str], status: int
) -> None:
    receiver = await start(auth=auth, names=frozenset({"collector.example.org"}))
    assert (await receiver.post("/v1/traces", traces(1), **headers)).status == status


async def test_a_token_of_its_own_is_needed_on_loopback_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another\n")
    receiver = await start(Limits(failure_seconds=0.01), auth=Auth(token_file=str(tmp_path / "token")))
    refused = await receiver.post("/v1/traces", traces(1))
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="novel-agent"')
    assert (await receiver.post("/v1/traces", traces(1), Authorization="Bearer another")).status == 200
    assert (await receiver.post("/v1/traces", traces(1), Authorization=f"Bearer {TOKEN}")).status == 401
    assert (await receiver.call(TRACES, traces(1)))["grpc-status"] == "16"
    assert (await receiver.call(TRACES, traces(1), authorization="Bearer another"))["grpc-status"] == "0"
    assert (await receiver.call(TRACES, traces(1), authorization="Bearer wrong"))["grpc-status"] == "16"
    assert receiver.counts.of("http").refused["wrong token"] == receiver.counts.of("grpc").refused["wrong token"] == 1
    assert receiver.destination.items == 2


async def test_guessing_is_slow_over_both(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("another")
    limits = Limits(failure_seconds=60.0, failures_waiting=1)
    receiver = await start(limits, auth=Auth(token_file=str(tmp_path / "token")))
    client = await H2Client.connect(receiver.grpc_port)
    first = client.begin(TRACES, authorization="Bearer guess")
    assert (await client.call(TRACES, framed(traces(1)), authorization="Bearer another"))["grpc-status"] == "8"
    assert first not in client.ended
    await client.close()


async def test_a_token_file_that_cannot_be_read_is_a_mistake_in_the_configuration(start: Start) -> None:
    with pytest.raises(ConfigError) as caught:
        await start(auth=Auth(token_file="/no/such/file"))
    assert caught.value.key == "otlp_receiver.auth.token_file"


def client_context(protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    context.check_hostname = False
    context.set_alpn_protocols([protocol])
    return context


@pytest.fixture
def tls(tmp_path: Path) -> Callable[..., ServerTls]:
    def make(**options: str) -> ServerTls:
        for name in ("server.pem", "server.key"):
            shutil.copy(TLS / name, tmp_path / name)
        return ServerTls(cert_file=str(tmp_path / "server.pem"), key_file=str(tmp_path / "server.key"), **options)

    return make


async def test_both_speak_tls(start: Start, tls: Callable[..., ServerTls]) -> None:
    receiver = await start(tls=tls(), tls_client=client_context("http/1.1"))
    assert (await receiver.post("/v1/traces", traces(1))).status == 200
    receiver.tls = client_context("h2")
    assert (await receiver.call(TRACES, traces(2)))["grpc-status"] == "0"
    assert receiver.destination.items == 3


async def test_over_tls_too_a_known_head_needs_no_aiohttp(start: Start, tls: Callable[..., ServerTls]) -> None:
    receiver = await start(tls=tls(), tls_client=client_context("http/1.1"))
    reader, writer = await receiver.connect()
    body = traces(400, padding=100)
    sent = receiver.head(Content_Length=str(len(body)), Connection="keep-alive") + body
    for _ in range(3):
        writer.write(sent)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    assert receiver.http._server is not None
    assert (receiver.destination.items, receiver.http._server.requests_count) == (1200, 1)


async def test_grpc_over_tls_needs_http2_to_be_agreed_on(start: Start, tls: Callable[..., ServerTls]) -> None:
    receiver = await start(tls=tls())
    client = await H2Client.connect(receiver.grpc_port, client_context("http/1.1"))
    await client.until_closed()
    assert receiver.counts.of("grpc").refused["malformed"] == 1
    await client.close()


async def test_with_mutual_tls_a_client_needs_a_certificate(start: Start, tls: Callable[..., ServerTls]) -> None:
    receiver = await start(tls=tls(client_ca_file=str(TLS / "ca.pem")), tls_client=client_context("http/1.1"))
    with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
        await receiver.post("/v1/traces", traces(1))
    assert receiver.tls is not None
    receiver.tls.load_cert_chain(str(TLS / "client.pem"), str(TLS / "client.key"))
    assert (await receiver.post("/v1/traces", traces(1))).status == 200


async def test_a_certificate_that_is_none_is_a_mistake_in_the_configuration(
    start: Start, tls: Callable[..., ServerTls]
) -> None:
    broken = tls()
    shutil.copy(TLS / "make.sh", broken.cert_file)
    with pytest.raises(ConfigError) as caught:
        await start(tls=broken)
    assert caught.value.key == "otlp_receiver.tls.cert_file"

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from novel_agent.errors import ConfigError
from novel_agent.serving.access import TokenFile, host_named, is_loopback, own_names
from novel_agent.serving.limits import Limits

from .conftest import Running, Start, until

STATUS = "/api/v1/status"
OPEN = ["/metrics", "/health", "/health/live", "/health/ready", "/health/detailed", "/-/healthy", "/-/ready", "/"]
CLOSED = [STATUS, "/api/v1/system/overview", "/api/v1/inputs/cpu/check", "/openapi.json", "/no-such-thing"]


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:9090", "localhost"),
        ("LocalHost.", "localhost"),
        ("[::1]:9090", "::1"),
        ("[::1]", "::1"),
        ("10.0.0.5", "10.0.0.5"),
        ("", ""),
    ],
)
def test_the_host_is_taken_from_its_header(header: str, host: str) -> None:
    assert host_named(header) == host


NO_HOSTS = ["localhost:80@evil.example", "evil@localhost", "[::1]evil.example", "localhost, evil", "localhost/x", "::1"]


@pytest.mark.parametrize("header", NO_HOSTS)
def test_what_is_more_than_a_host_is_none(header: str) -> None:
    with pytest.raises(ValueError, match="Host"):
        host_named(header)


@pytest.mark.parametrize("header", NO_HOSTS)
async def test_a_host_header_that_names_none_is_malformed(agent: Running, header: str) -> None:
    reply = await agent.ask(STATUS, Host=header)
    assert reply.status == 400
    assert agent.server.traffic.refused["malformed"] == 1


async def test_an_absolute_target_names_the_host_whatever_the_header_says(agent: Running) -> None:
    assert (await agent.ask(f"http://127.0.0.1:{agent.port}{STATUS}")).status == 200
    assert (await agent.ask(f"http://evil.example{STATUS}")).status == 421
    assert (await agent.ask(f"http://localhost@evil.example{STATUS}")).status == 400
    assert (await agent.ask(f"http://{socket.gethostname()}{STATUS}")).status == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example.com", False),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_told_without_resolving(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_own_names_come_from_the_host_name_the_hosts_file_and_the_search_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Web1")
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1 web1.example.com web1 # set by the installer\n10.0.0.9 db1\n\n")
    resolver.write_text("nameserver 10.0.0.1\nsearch lan.example.com corp.\n")
    names = own_names(str(hosts), str(resolver))
    assert names == {"web1", "web1.example.com", "web1.lan.example.com", "web1.corp"}


def test_own_names_do_without_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "web1.example.com")
    assert own_names("/nonexistent/hosts", "/nonexistent/resolv.conf") == {"web1", "web1.example.com"}


def token_file(directory: Path, content: str = "right\n") -> Path:
    path = directory / "token"
    path.write_text(content)
    path.chmod(0o640)
    return path


def test_a_token_matches_whole_or_not_at_all(tmp_path: Path) -> None:
    token = TokenFile(str(token_file(tmp_path)))
    assert token.matches("right")
    assert not token.matches("righ")
    assert not token.matches("")
    assert not token.matches("r\udcffght")


def test_a_token_that_was_replaced_is_taken_up(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    token = TokenFile(str(path))
    path.write_text("another")
    assert token.matches("another")
    assert not token.matches("right")


def test_a_token_file_that_became_unusable_leaves_the_token_valid(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    token = TokenFile(str(path))
    path.write_text("")
    assert token.matches("right")
    path.unlink()
    assert token.matches("right")


@pytest.mark.parametrize(("content", "mode"), [("", 0o600), (" \n", 0o600), ("right", 0o666), ("x" * 5000, 0o600)])
def test_an_unusable_token_file_is_a_configuration_error(tmp_path: Path, content: str, mode: int) -> None:
    path = token_file(tmp_path, content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"agent\.auth\.token_file"):
        TokenFile(str(path))


def test_a_pipe_in_the_token_s_place_is_not_waited_for(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    token = TokenFile(str(path))
    path.unlink()
    os.mkfifo(path, 0o600)
    assert token.matches("right")
    with pytest.raises(ConfigError, match="holds no token"):
        TokenFile(str(path))


def test_a_missing_token_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        TokenFile(str(tmp_path / "missing"))


@pytest.mark.parametrize("path", [*OPEN, STATUS, "/openapi.json"])
async def test_a_local_request_reads_everything(agent: Running, path: str) -> None:
    assert (await agent.ask(path)).status == 200
    assert (await agent.ask(path, Host=f"localhost:{agent.port}")).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.0.2.1", "0.0.0.0"]
)
async def test_a_name_pointed_at_this_machine_is_refused(agent: Running, host: str) -> None:
    for path in ["/", "/metrics", "/health", STATUS]:
        reply = await agent.ask(path, Host=host)
        assert reply.status == 421
        assert reply.json()["errorType"] == "misdirected"
    assert agent.server.traffic.refused["misdirected"] == 4


async def test_the_names_of_this_machine_are_answered_but_are_not_loopback(agent: Running) -> None:
    assert (await agent.ask("/metrics", Host=socket.gethostname())).status == 200
    assert (await agent.ask(STATUS, Host=socket.gethostname())).status == 401


async def test_allowed_hosts_are_answered(start: Start) -> None:
    agent = await start(allowed_hosts=("agent.example.com", "*.wild.example", "192.0.2.7"))
    for host in ["agent.example.com:443", "AGENT.example.com", "a.b.wild.example", "192.0.2.7"]:
        assert (await agent.ask("/metrics", Host=host)).status == 200
    for host in ["example.com", "wild.example", "192.0.2.8"]:
        assert (await agent.ask("/metrics", Host=host)).status == 421


async def test_a_request_without_host_is_answered_but_is_not_local(agent: Running) -> None:
    assert (await agent.send(b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")
    assert (await agent.send(b"GET /api/v1/status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 401")


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "X_Forwarded_For",
        "X_Forwarded_Proto",
        "x_forwarded_anything",
        "X_Forwarded",
        "X_Real_IP",
        "Via",
        "CF_Connecting_IP",
        "True_Client_IP",
        "X_Original_Host",
        "X_Envoy_External_Address",
    ],
)
async def test_what_a_proxy_forwards_needs_the_token(agent: Running, header: str) -> None:
    for path in CLOSED:
        reply = await agent.ask(path, **{header: "127.0.0.1"})
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
    for path in OPEN:
        assert (await agent.ask(path, **{header: "127.0.0.1"})).status == 200


async def test_a_proxied_request_with_the_kept_token_is_served(agent: Running) -> None:
    path = os.path.join(agent.daemon.state.path, "api-token")
    assert os.stat(path).st_mode & 0o777 == 0o640
    token, _ = agent.daemon.state.token()
    assert (await agent.ask(STATUS, Via="1.1 proxy", Authorization=f"Bearer {token}")).status == 200
    assert (await agent.ask(STATUS, Via="1.1 proxy", Authorization=f"bearer  {token} ")).status == 200


async def start_with_token(start: Start, tmp_path: Path, **limits: Any) -> Running:
    from novel_agent.config.schema import Auth

    auth = Auth(token_file=str(token_file(tmp_path)))
    running: Running = await start(Limits(**{"failure_seconds": 0.0} | limits), auth=auth)
    return running


async def test_with_a_configured_token_loopback_needs_it_too(start: Start, tmp_path: Path) -> None:
    agent = await start_with_token(start, tmp_path)
    for path in CLOSED:
        assert (await agent.ask(path)).status == 401
    for path in OPEN:
        assert (await agent.ask(path)).status == 200
    assert (await agent.ask(STATUS, Authorization="Bearer right")).status == 200
    assert (await agent.ask("/-/reload", "POST")).status == 401


@pytest.mark.parametrize("given", ["Bearer wrong", "Bearer", "Basic cmlnaHQ=", "right", "Bearer right right"])
async def test_anything_but_the_token_is_refused(start: Start, tmp_path: Path, given: str) -> None:
    agent = await start_with_token(start, tmp_path)
    reply = await agent.ask(STATUS, Authorization=given)
    assert reply.status == 401
    assert reply.json()["errorType"] == "unauthorized"
    refused = agent.server.traffic.refused
    assert refused["wrong token"] + refused["no token"] == 1


async def test_a_wrong_token_is_answered_late(start: Start, tmp_path: Path) -> None:
    agent = await start_with_token(start, tmp_path, failure_seconds=0.2)
    began = time.monotonic()
    assert (await agent.ask(STATUS, Authorization="Bearer wrong")).status == 401
    assert time.monotonic() - began >= 0.2


async def test_while_wrong_tokens_wait_further_ones_are_not_looked_at(start: Start, tmp_path: Path) -> None:
    agent = await start_with_token(start, tmp_path, failure_seconds=30.0, failures_waiting=2)
    guesses = [asyncio.create_task(agent.ask(STATUS, Authorization="Bearer wrong")) for _ in range(2)]
    await until(lambda: agent.server.traffic.refused["wrong token"] == 2)
    for guess in guesses:  # hanging up does not make room
        guess.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)
    await until(lambda: agent.server.traffic.connections == 0)
    reply = await agent.ask(STATUS, Authorization="Bearer right")
    assert reply.status == 429
    assert reply.headers["retry-after"] == "1"
    assert agent.server.traffic.refused["too many failures"] == 1
    assert (await agent.ask("/metrics")).status == 200


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has loopback only")
        return str(probe.getsockname()[0])


async def test_from_elsewhere_everything_but_the_open_routes_needs_the_token(start: Start) -> None:
    address = own_address()
    agent = await start(listen="0.0.0.0:0")

    async def ask(path: str, *headers: str) -> bytes:
        reader, writer = await asyncio.open_connection(address, agent.port)
        head = [f"GET {path} HTTP/1.1", f"Host: {address}:{agent.port}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(head).encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer[9:12]

    token, made = agent.daemon.state.token()
    assert not made
    assert await ask("/metrics") == b"200"
    assert await ask(STATUS) == b"401"
    assert await ask(STATUS, f"Authorization: Bearer {token}") == b"200"
    assert (await agent.ask(STATUS)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
async def test_a_page_of_another_site_cannot_change_anything(agent: Running, headers: dict[str, str]) -> None:
    reply = await agent.ask("/-/reload", "POST", **headers)
    assert reply.status == 403
    assert reply.json()["errorType"] == "forbidden"
    assert agent.daemon.config_status.last_reload_at is None


async def test_a_page_of_another_site_may_link_but_not_fetch(agent: Running) -> None:
    assert (await agent.ask(STATUS, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")).status == 403
    assert (await agent.ask("/metrics", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors")).status == 403
    assert (await agent.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")).status == 200
    assert (await agent.ask(STATUS, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")).status == 200


async def test_every_answer_says_what_browsers_may_do_with_it(agent: Running) -> None:
    for path in ["/", STATUS, "/metrics", "/no-such-thing"]:
        headers = (await agent.ask(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["server"] == "novel-agent"
        assert "access-control-allow-origin" not in headers
    for path in ["/", STATUS, "/health", "/no-such-thing"]:
        assert "frame-ancestors 'none'" in (await agent.ask(path)).headers["content-security-policy"]
    for path in [STATUS, "/health", "/no-such-thing"]:
        assert (await agent.ask(path)).headers["cache-control"] == "no-store"

"""What `Access` decides, of requests that came by no HTTP server."""

from typing import Any, Literal, NamedTuple

import pytest

from novel_agent.serving.access import Access, TokenInMemory
from novel_agent.serving.limits import Limits
from novel_agent.serving.traffic import Traffic


class Headers(dict[str, str]):
    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Asked(NamedTuple):
    headers: Headers
    remote: str | None = "127.0.0.1"
    method: str = "POST"
    raw_path: str = "/Export"


LOCAL = Asked(Headers({"host": "localhost:4317"}))
REMOTE = Asked(Headers({"host": "agent.example.org"}), "192.0.2.7")
WITH_TOKEN = Asked(Headers({"host": "agent.example.org", "authorization": "Bearer token"}), "192.0.2.7")


@pytest.mark.parametrize(
    ("authenticate", "asked", "status"),
    [
        ("elsewhere", LOCAL, None),
        ("elsewhere", REMOTE, 401),
        ("elsewhere", WITH_TOKEN, None),
        ("elsewhere", LOCAL._replace(remote="192.0.2.7"), 401),
        ("always", LOCAL, 401),
        ("always", WITH_TOKEN, None),
        ("never", LOCAL, None),
        ("never", REMOTE, None),
        ("never", Asked(Headers({"host": "evil.example"})), 421),
        ("never", Asked(Headers({"host": "localhost", "origin": "https://evil.example"})), 403),
        ("never", Asked(Headers({"host": "a b"})), 400),
    ],
)
async def test_who_needs_a_token(
    authenticate: Literal["elsewhere", "always", "never"], asked: Asked, status: int | None
) -> None:
    traffic = Traffic()
    access = Access(
        TokenInMemory("token"), traffic, Limits(), authenticate=authenticate, names=frozenset({"agent.example.org"})
    )
    refusal = await access.judge(asked)
    assert (refusal and refusal.status) == status
    assert traffic.refused.total() == (status is not None)


async def test_what_is_said_to_who_has_no_token_is_the_servers_to_say() -> None:
    access = Access(
        TokenInMemory("x"), Traffic(), Limits(), authenticate="always", names=(), how_to_authenticate="ask your admin"
    )
    refusal = await access.judge(LOCAL)
    assert refusal is not None
    assert (refusal.error, refusal.headers) == ("ask your admin", {"WWW-Authenticate": 'Bearer realm="novel-agent"'})

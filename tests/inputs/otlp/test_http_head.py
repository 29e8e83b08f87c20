"""Which heads are kept, and what of another head is the same."""

from typing import Any, NamedTuple

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from novel_agent.inputs.otlp.http_head import LONGEST_HEAD_BYTES, MOST_HEADS, Heads
from novel_agent.inputs.otlp.intake import What

WHAT = What("traces", "protobuf", "", is_deep=False)


class Parsed(NamedTuple):
    """What aiohttp makes of a head."""

    raw_headers: tuple[tuple[bytes, bytes], ...]
    method: str = "POST"
    raw_path: str = "/v1/traces"
    version: Any = (1, 1)
    keep_alive: bool = True

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return CIMultiDictProxy(CIMultiDict([(name.decode(), value.decode()) for name, value in self.raw_headers]))


def head(*lines: str, length: str = "5") -> bytes:
    return "\r\n".join(["POST /v1/traces HTTP/1.1", "Host: a", *lines, f"Content-Length: {length}", "", ""]).encode()


def learned(raw: bytes, heads: Heads | None = None, **other: Any) -> Heads:
    heads = Heads() if heads is None else heads
    _, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    heads.learn(raw, Parsed(tuple(headers), **other), WHAT)
    return heads


def test_the_same_head_is_found_whatever_its_length() -> None:
    heads = learned(head())
    for length in ("0", "5", "10", "1048576"):
        sent = b"before" + head(length=length) + b"body"
        found = heads.find(sent, 6)
        assert found is not None
        known, start, size = found
        assert (known.what, known.deep_what, known.raw_path) == (WHAT, WHAT._replace(is_deep=True), "/v1/traces")
        assert (sent[start:], size) == (b"body", int(length))


@pytest.mark.parametrize(
    "other",
    [
        head(length="+5"),
        head(length="05"),
        head(length=" 5"),
        head(length="5 "),
        head(length="5,5"),
        head(length=""),
        head(length="99999999"),
        head().replace(b"Host", b"host"),
        head().replace(b"1.1", b"1.0"),
        head("X: y"),
        head()[:-1],
        head().replace(b"\r\n", b"\n"),
        head().replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5"),
        b" " + head(),
    ],
)
def test_another_head_is_not_found(other: bytes) -> None:
    assert learned(head()).find(other, 0) is None


@pytest.mark.parametrize(
    ("raw", "other"),
    [
        (head("Transfer-Encoding: chunked"), {}),
        (head("Expect: 100-continue"), {}),
        (head("Upgrade: h2c"), {}),
        (head("Connection: close"), {"keep_alive": False}),
        (head("Connection: Upgrade"), {}),
        (head("Content-Length: 5"), {}),
        (head(), {"version": (1, 0)}),
        (head(), {"method": "PUT"}),
        (head(), {"raw_path": "/v1/logs"}),
        (head(f"X: {'y' * LONGEST_HEAD_BYTES}"), {}),
        (head("X:y"), {}),
        (head("X:  y").replace(b"  ", b"\t"), {}),
    ],
)
def test_a_head_that_leaves_something_to_interpret_is_not_kept(raw: bytes, other: dict[str, Any]) -> None:
    assert len(learned(raw, **other)) == 0


def test_those_used_last_are_kept() -> None:
    heads = learned(head("X: first"))
    for number in range(MOST_HEADS):
        learned(head(f"X: {number}"), heads)
        assert heads.find(head("X: first"), 0) is not None
    assert len(heads) == MOST_HEADS
    assert heads.find(head("X: 0"), 0) is None

"""Heads of requests that are known already: what they say is looked up and not parsed again.

Two heads that are the same to the byte, but for the digits of Content-Length, say the same, but for that length. So a head
that aiohttp has parsed is kept with what it found, and the next request that begins with it needs no parser. Kept is only what
leaves nothing to interpret: its own headers written one below the other give the very bytes that came, Content-Length is there
once and plain (no sign, no space, no leading zero), the connection stays open, and nothing changes how a body is framed or
sent (Transfer-Encoding, Expect, Upgrade). Nothing else is decided here: who may send is asked for every request.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from novel_agent.inputs.otlp.intake import What

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

MOST_HEADS = 64
LONGEST_HEAD_BYTES = 2 << 10
"""What clients that send data write; those of browsers with cookies and tokens may be longer, and are parsed each time."""

END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9][0-9]{0,6})\r\n")
_VERSION = (1, 1)
_FRAMING = ("Transfer-Encoding", "Expect", "Upgrade", "Trailer", "HTTP2-Settings")
_LENGTH_NAME = "Content-Length"


class Parsed(Protocol):
    """A request as aiohttp has parsed it."""

    @property
    def method(self) -> str: ...

    @property
    def raw_path(self) -> str: ...

    @property
    def version(self) -> tuple[int, int]: ...

    @property
    def headers(self) -> "CIMultiDictProxy[str]": ...

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """As they came, without the space around the values."""

    @property
    def keep_alive(self) -> bool: ...


class Head(NamedTuple):
    """What a head says, whatever the length of the body; an `access.Asked` but for who sent it."""

    method: str
    raw_path: str
    headers: Mapping[str, str]
    what: What
    deep_what: What
    """The same, to be checked to the bottom."""


class Request(NamedTuple):
    """A request of one client, an `access.Asked`."""

    method: str
    raw_path: str
    headers: Mapping[str, str]
    remote: str | None


class Heads:
    """A few heads, those used last; one for all connections."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Head] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes, start: int) -> tuple[Head, int, int] | None:
        """The head that is at `start`, where the body begins and how long it is; None where it is not whole or not known."""
        end = data.find(END_OF_HEAD, start, start + LONGEST_HEAD_BYTES)
        if end < 0:
            return None
        end += len(END_OF_HEAD)
        length = _LENGTH.search(data, start, end)
        if length is None:
            return None
        first, last = length.span(1)
        key = (data[start:first], data[last:end])
        head = self._known.pop(key, None)
        if head is None:
            return None
        self._known[key] = head
        return head, end, int(length[1])

    def learn(self, raw: bytes, parsed: Parsed, what: What) -> None:
        """Keep a head, `raw`, of which aiohttp made this; nothing happens where it is not of the kind that is kept."""
        length = _LENGTH.search(raw)
        if (
            length is None
            or len(raw) > LONGEST_HEAD_BYTES
            or not _is_plain(parsed, length[1])
            or written(parsed) != raw
        ):
            return
        first, last = length.span(1)
        head = Head(parsed.method, parsed.raw_path, parsed.headers, what, what._replace(is_deep=True))
        self._known[raw[:first], raw[last:]] = head
        if len(self._known) > MOST_HEADS:
            del self._known[next(iter(self._known))]


def _is_plain(parsed: Parsed, length: bytes) -> bool:
    headers = parsed.headers
    return (
        parsed.version == _VERSION
        and parsed.keep_alive
        and headers.getall(_LENGTH_NAME, []) == [length.decode()]
        and headers.get("Connection", "keep-alive").lower() == "keep-alive"
        and not any(name in headers for name in _FRAMING)
    )


def written(parsed: Parsed) -> bytes:
    """The head as it is written with nothing to spare; empty where that is not HTTP/1.1 and ASCII."""
    if parsed.version != _VERSION or not (parsed.method.isascii() and parsed.raw_path.isascii()):
        return b""
    lines = [f"{parsed.method} {parsed.raw_path} HTTP/1.1".encode()]
    lines += [b"%b: %b" % header for header in parsed.raw_headers]
    return b"\r\n".join(lines) + END_OF_HEAD


def body_bytes(parsed: Parsed) -> int | None:
    """How long the body is; None where that is not known from the head, or the connection is not HTTP/1.1 behind it."""
    headers = parsed.headers
    if not parsed.keep_alive or parsed.method == "CONNECT" or any(name in headers for name in _FRAMING):
        return None
    length = headers.get(_LENGTH_NAME, "0")
    return int(length) if length.isascii() and length.isdigit() else None

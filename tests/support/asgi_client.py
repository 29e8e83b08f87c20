"""Requests to an ASGI application without a server: what a server would call, and what the application sends."""

from typing import Any


class Exchange:
    """What came back. `error` is what the application raised, which a server would log."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.error: BaseException | None = None

    @property
    def status(self) -> int:
        """Of the answer; 0 where none began."""
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        start = next(m for m in self.messages if m["type"] == "http.response.start")
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def body(self) -> bytes:
        """All parts."""
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")


def http_scope(path: str, method: str = "GET", root_path: str = "", **headers: str) -> dict[str, Any]:
    """As uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": root_path,
        "headers": [(b"host", b"service"), *((n.replace("_", "-").encode(), v.encode()) for n, v in headers.items())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def ask(
    app: Any, path: str, method: str = "GET", root_path: str = "", body: bytes = b"", **headers: str
) -> Exchange:
    """One request."""
    exchange = Exchange()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        exchange.messages.append(message)

    try:
        await app(http_scope(path, method, root_path, **headers), receive, send)
    except Exception as error:  # noqa: BLE001 - a server would log it, a test looks at it
        exchange.error = error
    return exchange


async def talk(app: Any, path: str, *incoming: dict[str, Any]) -> Exchange:
    """One websocket: connect, what the client sends, and its disconnect with 1001 unless it was closed before."""
    exchange = Exchange()
    messages = [{"type": "websocket.connect"}, *incoming, {"type": "websocket.disconnect", "code": 1001}]
    scope = http_scope(path) | {"type": "websocket", "scheme": "ws", "subprotocols": []}
    del scope["method"]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        exchange.messages.append(message)

    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - a server would log it, a test looks at it
        exchange.error = error
    return exchange

"""What stands around an application: counts and times its requests, opens their spans, and answers the library's own pages.

Pure ASGI: messages pass as they are, streams are never gathered, and an exception goes on as it came. What a request
counts as:

    answered                          its status; its duration ends with the last part of the body, not with background tasks;
                                      counted before that part is sent, so that who has the answer finds it counted
    raises before or within an answer 500
    client gone before an answer      499, as web servers log it
    client gone within an answer      the status that was sent
    websocket                         websocket_connections_total{endpoint,close_code} when it ends, and how long it was open

The library's own pages are not counted: what probes and scrapers ask says nothing of how users fare, and an unhealthy
503 is no error.
"""

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from monitoring import _context
from monitoring._interpreter import collections, lag
from monitoring._routes import Templates
from monitoring._said import say_once
from monitoring._series import Family, store
from monitoring._workers import workers
from monitoring.prometheus_metrics import metrics_collector

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Answer = tuple[int, str, bytes, bool]
"""Status, media type, body, and whether that is compressed with gzip."""
Page = Callable[[str, Scope], Awaitable[Answer]]

_COUNTED = "novel_engine.monitoring"
_FAILED = 500
_CLIENT_GONE = 499
_ABNORMAL_CLOSE = 1006
_NEVER_ACCEPTED = 403

WEBSOCKETS = Family(
    "websocket_connections_total", "counter", "Websockets that ended, with the code they were closed with."
)
WEBSOCKETS_OPEN = Family("websocket_connections_active", "gauge", "Websockets that are open.", across="sum")
WEBSOCKET_DURATION = Family(
    "websocket_connection_duration_seconds",
    "histogram",
    "How long websockets were open.",
    (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0),
)

_at_start: list[Callable[[asyncio.AbstractEventLoop | None], None]] = []


def when_serving(begin: Callable[[asyncio.AbstractEventLoop | None], None]) -> None:
    """Call this with the loop, once a process, when an application begins to serve; soon if one does already."""
    if begin in _at_start:
        return
    _at_start.append(begin)
    if _serving.has_begun:
        _called(begin, _serving.loop)


class _Serving:
    has_begun = False
    loop: asyncio.AbstractEventLoop | None = None

    def forget(self) -> None:
        """After a fork."""
        self.has_begun, self.loop = False, None


_serving = _Serving()
os.register_at_fork(after_in_child=_serving.forget)


class Application:
    """What the library knows of one application: its pages and its routes."""

    def __init__(self, app: Any) -> None:
        self._app = weakref.ref(app)
        self._pages: dict[str, Page] = {}
        self._owned: tuple[int, frozenset[str]] = (-1, frozenset())
        self.templates = Templates(weakref.proxy(app))

    def serve(self, path: str, page: Page) -> None:
        """Answer GET and HEAD there, unless the application does."""
        self._pages[path if path.startswith("/") else "/" + path] = page
        self._owned = (-1, frozenset())

    def page_at(self, path: str, root_path: str) -> tuple[str, Page] | None:
        """The page with this path, within `root_path` or not."""
        page = self._pages.get(path)
        if page is None and root_path and path.startswith(root_path):
            path = path[len(root_path) :]
            page = self._pages.get(path)
        if page is None or path in self._owned_now():
            return None
        return path, page

    def _owned_now(self) -> frozenset[str]:
        routes = len(getattr(self._app(), "routes", ()))
        if self._owned[0] != routes:
            owned = frozenset(path for path in self._pages if _answers_get(self.templates.owner_of(path)))
            for path in sorted(owned):
                say_once(logging.WARNING, "the application has a route of its own there, which stays", path)
            self._owned = (routes, owned)
        return self._owned[1]


class Middleware:
    """Around the application. Adds two coroutines' worth of work to a request."""

    def __init__(self, app: App, application: Application) -> None:
        self.app = app
        self._application = application
        self._templates = application.templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if not _serving.has_begun:
            _begin_to_serve()
        if kind == "http":
            if _COUNTED in scope:
                await self.app(scope, receive, send)
                return
            page = self._application.page_at(scope["path"], scope.get("root_path", ""))
            if page is not None and scope["method"] in ("GET", "HEAD"):
                await _answer(*page, scope, send)
            else:
                await self._http(scope, receive, send)
        elif kind == "websocket" and _COUNTED not in scope:
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await self.app(scope, receive, _stopping(send))
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_at = time.perf_counter()
        path, root_path, method = scope["path"], scope.get("root_path", ""), scope["method"]
        server = scope.get("server")
        if server is not None and workers.directory is not None:
            workers.serve(server[1] or 0)
        scope[_COUNTED] = True
        token = _context.enter_request(scope["headers"])
        open_server_span = _context.start_server_span
        span = open_server_span(scope) if open_server_span is not None else None
        exemplar = _exemplar() if _context.open_span is not None else None
        status = 0
        is_recorded = False

        def record(counted_as: int) -> str:
            nonlocal is_recorded
            is_recorded = True
            endpoint = self._templates.of(scope, path, root_path, counted_as)
            metrics_collector.record_http_request(
                method, endpoint, counted_as, time.perf_counter() - began_at, exemplar
            )
            return endpoint

        async def observed_send(message: Message) -> None:
            nonlocal status
            about = message["type"]
            if about == "http.response.body":
                if not is_recorded and not message.get("more_body"):
                    record(status)
            elif about == "http.response.start":
                status = message["status"]
            await send(message)

        error: BaseException | None = None
        try:
            await self.app(scope, receive, observed_send)
        except BaseException as raised:
            error = raised
            if not is_recorded:
                status = (status or _CLIENT_GONE) if _is_client_gone(raised) else _FAILED
            raise
        finally:
            if not is_recorded:
                status = status or _CLIENT_GONE
                record(status)
            if span is not None:
                endpoint = self._templates.of(scope, path, root_path, status)
                span.end(status, endpoint, error)
            if error is not None:
                _context.mark(error)
            _context.leave_request(token)
            error = None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_at = time.perf_counter()
        path, root_path = scope["path"], scope.get("root_path", "")
        scope[_COUNTED] = True
        token = _context.enter_request(scope["headers"])
        open_server_span = _context.start_server_span
        span = open_server_span(scope) if open_server_span is not None else None
        is_open = False
        code = _ABNORMAL_CLOSE

        async def observed_receive() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or _ABNORMAL_CLOSE
            return message

        async def observed_send(message: Message) -> None:
            nonlocal code, is_open
            await send(message)
            about = message["type"]
            if about == "websocket.accept":
                is_open = True
                _open_websockets(1)
            elif about == "websocket.close":
                code = message.get("code", 1000) if is_open else _NEVER_ACCEPTED
            elif about == "websocket.http.response.start":
                code = message["status"]

        error: BaseException | None = None
        try:
            await self.app(scope, observed_receive, observed_send)
        except BaseException as raised:
            error = raised
            if not _is_client_gone(raised):
                code = 1011
            raise
        finally:
            endpoint = self._templates.of(scope, path, root_path, 404 if code == _NEVER_ACCEPTED else 101)
            _count_websocket(endpoint, code, time.perf_counter() - began_at, is_open)
            if span is not None:
                span.end(101 if is_open else _NEVER_ACCEPTED, endpoint, error)
            if error is not None:
                _context.mark(error)
            _context.leave_request(token)
            error = None


def install(app: Any) -> Application:
    """Put the middleware around a Starlette or FastAPI application, also around one that serves already."""
    application = Application(app)
    if getattr(app, "middleware_stack", None) is None:
        app.add_middleware(Middleware, application=application)
    else:
        app.middleware_stack = Middleware(app.middleware_stack, application)
        _begin_to_serve()
    return application


def _begin_to_serve() -> None:
    """Once a process: what needs a process of its own, a loop, or siblings."""
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        return
    assert loop is not None
    _serving.has_begun, _serving.loop = True, loop
    workers.join()
    collections.begin()
    lag.begin(loop)
    for begin in _at_start:
        _called(begin, loop)


def _called(begin: Callable[[asyncio.AbstractEventLoop | None], None], loop: asyncio.AbstractEventLoop | None) -> None:
    try:
        begin(loop)
    except Exception as error:  # noqa: BLE001 - an application must be able to serve
        say_once(logging.ERROR, "a part of monitoring could not begin", repr(error))


def _stopping(send: Send) -> Send:
    async def observed_send(message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await asyncio.get_running_loop().run_in_executor(None, _context.application_stopped)
        await send(message)

    return observed_send


async def _answer(path: str, page: Page, scope: Scope, send: Send) -> None:
    try:
        status, content_type, body, is_compressed = await page(path, scope)
    except Exception as error:  # noqa: BLE001 - a page of ours is no reason to fail in the application
        say_once(logging.ERROR, f"{path} could not be made", repr(error))
        status, content_type, body, is_compressed = (
            500,
            "text/plain; charset=utf-8",
            b"see the application's log\n",
            False,
        )
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"accept, accept-encoding"),
    ]
    if is_compressed:
        headers.append((b"content-encoding", b"gzip"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _answers_get(route: Any) -> bool:
    methods = getattr(route, "methods", None)
    return route is not None and (not methods or "GET" in methods)


def _exemplar() -> tuple[bytes, bytes] | None:
    ids = _context.span_ids()
    return (bytes.fromhex(ids.trace_id), bytes.fromhex(ids.span_id)) if ids is not None and ids.is_sampled else None


def _is_client_gone(error: BaseException) -> bool:
    """Whether this is how a server or Starlette says that nobody listens any more."""
    return isinstance(error, asyncio.CancelledError) or type(error).__name__ in (
        "ClientDisconnect",
        "WebSocketDisconnect",
    )


def _open_websockets(change: int) -> None:
    series = store.series(WEBSOCKETS_OPEN, ())
    if series is not None:
        store.add(series, change)


def _count_websocket(endpoint: str, code: int, seconds: float, was_open: bool) -> None:
    ended = store.series(WEBSOCKETS, (("endpoint", endpoint), ("close_code", str(code))))
    if ended is not None:
        store.add(ended, 1.0)
    if was_open:
        _open_websockets(-1)
        duration = store.series(WEBSOCKET_DURATION, (("endpoint", endpoint),))
        if duration is not None:
            store.observe(duration, seconds)

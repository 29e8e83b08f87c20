"""The server on `agent.listen`: routes, access, limits, errors and counts put together."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from novel_agent.api import page
from novel_agent.api.control import Control
from novel_agent.api.health import HealthResource
from novel_agent.api.inputs import InputsResource
from novel_agent.api.jaeger import JaegerResource
from novel_agent.api.metrics import Metrics
from novel_agent.api.openapi import OpenApi
from novel_agent.api.status import StatusResource
from novel_agent.api.tail import TailResource
from novel_agent.api.traces import TracesResource
from novel_agent.logs import get_logger
from novel_agent.model.metric import Block
from novel_agent.runtime.daemon import Daemon, FrontEnd
from novel_agent.serving.access import Access, TokenFile, host_named, own_names
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.connection import Connection
from novel_agent.serving.kept_token import kept_token
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Certificates, Listener, Lost
from novel_agent.serving.route import Handler, Route, problem
from novel_agent.serving.traffic import Traffic

log = get_logger("api")

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

_UNMATCHED = "unmatched"
_HUNG_UP = 499


class ApiServer:
    """A `runtime.daemon.FrontEnd` for the configuration that is in force when it is made."""

    def __init__(self, daemon: Daemon, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._daemon = daemon
        self._agent = daemon.loaded.config.agent
        self._limits = limits
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._access: Access | None = None
        self.traffic = Traffic()
        self.routes = _routes(daemon, self._closing)
        self._open = {route.path for route in self.routes if route.is_open}

    async def start(self, predecessor: FrontEnd | None = None) -> str:
        """Listen; gives the URL of the page."""
        agent = self._agent
        if isinstance(predecessor, ApiServer):
            self.traffic = predecessor.traffic
        certificates = Certificates(agent.tls) if agent.tls is not None else None
        self._access = self._make_access()
        app = web.Application(middlewares=[self._middleware()], client_max_size=self._limits.body_bytes)
        for route in self.routes:
            app.router.add_route(route.method, route.path, route.handler)
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, route.handler)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=self._limits.stop_seconds)
        await self._runner.setup()
        self._listener = Listener(agent.listen, self._connect, certificates, self._limits, self.traffic)
        if not isinstance(predecessor, ApiServer):
            return await self._listener.open()
        return await predecessor.make_way(self._listener)

    async def make_way(self, successor: Listener) -> str:
        """Let another listener begin where this one is."""
        return await (successor.open() if self._listener is None else self._listener.make_way(successor))

    def _make_access(self) -> Access:
        agent = self._agent
        names = {*own_names(), *map(host_named, (*agent.allowed_hosts, agent.listen))}
        return Access(
            TokenFile(agent.auth.token_file) if agent.auth.token_file else kept_token(self._daemon.state),
            self.traffic,
            self._limits,
            authenticate="elsewhere" if agent.auth.token_file is None else "always",
            names=names - {""},
        )

    async def stop(self) -> None:
        """Accept nothing more, finish what was asked within `stop_seconds`, close."""
        self._closing.set()
        if self._listener is not None:
            await self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listener is not None:
            self._listener.abort()

    def blocks(self) -> Sequence[Block]:
        """The server's own series."""
        return self.traffic.blocks()

    def _connect(self, lost: Lost) -> Connection:
        assert self._runner is not None
        assert self._runner.server is not None
        return _ApiConnection(self._runner.server, self._limits, self.traffic, lost)

    def _middleware(self) -> "Middleware":
        @web.middleware
        async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._serve(request, handler)

        return serve

    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        connection = cast(Connection, request.protocol)
        connection.request_begins()
        resource = request.match_info.route.resource
        route = _UNMATCHED if resource is None else resource.canonical
        status = 500
        try:
            response = await self._respond(request, handler, is_open=route in self._open)
            status = response.status
            return response
        except asyncio.CancelledError:
            status = _HUNG_UP
            raise
        finally:
            connection.request_ends(whole=request.content.is_eof())
            self.traffic.answered(route, request.method, status, time.perf_counter() - began)

    async def _respond(self, request: web.Request, handler: Handler, *, is_open: bool) -> web.StreamResponse:
        assert self._access is not None
        refusal = await self._access.refusal(request, is_open=is_open)
        if refusal is not None:
            return refusal
        try:
            if not is_open:  # what everybody may ask takes no body, so nobody can fill memory with one
                await self._read_body(request)
        except (TimeoutError, web.HTTPRequestEntityTooLarge, web.RequestPayloadError) as error:
            return self._refuse_body(error)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _as_problem(error, request)

    async def _read_body(self, request: web.Request) -> None:
        if (request.content_length or 0) > self._limits.body_bytes:
            raise web.HTTPRequestEntityTooLarge(self._limits.body_bytes, request.content_length or 0)
        if request.body_exists:
            async with asyncio.timeout(self._limits.body_seconds):
                await request.read()

    def _refuse_body(self, error: Exception) -> web.Response:
        if isinstance(error, TimeoutError):
            self.traffic.refuse("slow request")
            response = problem(408, f"the body did not arrive within {self._limits.body_seconds:g} s")
        elif isinstance(error, web.HTTPRequestEntityTooLarge):
            self.traffic.refuse("too large")
            response = problem(413, f"the body is larger than {self._limits.body_bytes} bytes")
        else:
            self.traffic.refuse("malformed")
            response = problem(400, "malformed body")
        response.force_close()
        return response


class _ApiConnection(Connection):
    """Counts as answered what was too malformed to reach a route."""

    __slots__ = ()
    _traffic: Traffic

    def error_answer(self, request: web.BaseRequest, status: int, error: str) -> web.StreamResponse:
        if status == 400:
            self._traffic.answered(_UNMATCHED, "other", 400, 0.0)
        return super().error_answer(request, status, error)


def _routes(daemon: Daemon, closing: asyncio.Event) -> list[Route]:
    routes = [
        *Metrics(daemon).routes(),
        *HealthResource(daemon).routes(),
        *StatusResource(daemon).routes(),
        *InputsResource(daemon).routes(),
        *TracesResource(daemon).routes(),
        *JaegerResource(daemon).routes(),
        *TailResource(daemon, closing).routes(),
        *Control(daemon, closing).routes(),
        *page.routes(),
    ]
    return [*routes, *OpenApi(routes).routes()]


def _as_problem(error: web.HTTPException, request: web.Request) -> web.Response:
    path = request.path[:100]
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return problem(405, f"{request.method} is not for {path}; use {allowed}", headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return problem(404, f"there is no {path}; /openapi.json lists what there is")
    return problem(error.status, error.reason)

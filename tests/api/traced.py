"""The server with recent traces a test has made, and of the daemon only what the server needs to listen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast

from novel_agent.api.jaeger import JaegerResource
from novel_agent.api.openapi import OpenApi
from novel_agent.api.server import ApiServer
from novel_agent.api.traces import TracesResource
from novel_agent.config.model import Loaded
from novel_agent.outputs.recent_traces import RecentTraces
from novel_agent.runtime.daemon import Daemon
from novel_agent.state.directory import StateDirectory

from .conftest import Running, make_loaded


class Keeper(NamedTuple):
    """The part of a daemon that is asked."""

    loaded: Loaded
    state: StateDirectory
    recent_traces: RecentTraces | None


@asynccontextmanager
async def traced(directory: Path, store: RecentTraces | None) -> AsyncIterator[Running]:
    """Listen for as long as this is open."""
    state = StateDirectory(str(directory))
    state.open()
    daemon = cast(Daemon, Keeper(make_loaded(directory), state, store))
    server = ApiServer(daemon)
    routes = [route for route in server.routes if route.path != "/openapi.json"]
    paths = {route.path for route in routes}
    more = [*TracesResource(daemon).routes(), *JaegerResource(daemon).routes()]
    routes += [route for route in more if route.path not in paths]
    server.routes = [*routes, *OpenApi(routes).routes()]
    try:
        address = await server.start()
        yield Running(daemon, server, int(address.rsplit(":", 1)[1].rstrip("/")))
    finally:
        await server.stop()
        state.close()

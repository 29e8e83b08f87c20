"""OTLP over HTTP: `POST /v1/traces`, `/v1/metrics` and `/v1/logs`, protobuf and JSON.

Source: opentelemetry-proto docs/specification.md, "OTLP/HTTP". Success is 200 with an empty Export…ServiceResponse in the
request's content type, sent when the data is as durable as configured; errors are google.rpc.Status in that type, JSON where it
is neither. `http_connection` says which requests are served here and which by aiohttp.
"""

import asyncio

from novel_agent.config.schema import OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission
from novel_agent.inputs.otlp.counts import Counts
from novel_agent.inputs.otlp.door import Door
from novel_agent.inputs.otlp.http_aiohttp import AiohttpConnection, AiohttpRequests
from novel_agent.inputs.otlp.http_connection import HttpConnection, Service
from novel_agent.inputs.otlp.http_head import Heads
from novel_agent.inputs.otlp.intake import WHOLE_BYTES, Deliver, Intake
from novel_agent.serving.access import Token
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Lost

LIMITS = Limits(read_bytes=64 << 10)

_CANCELLED_SECONDS = 1.0


class OtlpHttpReceiver:
    """Listens on `otlp_receiver.http`.

    `token` is the API's, for requests that need one where the configuration names none; `names` are the hosts that may be
    named besides addresses of this machine. Large requests pass through files in `spill_directory`.
    """

    def __init__(
        self,
        config: OtlpReceiver,
        deliver: Deliver,
        *,
        admission: Admission,
        counts: Counts,
        token: Token,
        names: frozenset[str],
        spill_directory: str,
        limits: Limits = LIMITS,
    ) -> None:
        assert config.http is not None
        self.counts = counts.of("http")
        self.door = Door(
            config.http,
            config,
            "http/1.1",
            self._connect,
            token=token,
            names=names,
            counts=self.counts,
            limits=limits,
            admission=admission,
        )
        most_bytes = config.max_request_bytes
        intake = Intake(deliver, self.counts, max_request_bytes=most_bytes, spill_directory=spill_directory)
        self._requests = AiohttpRequests(most_bytes)
        self._server: web.Server | None = None
        self._connections: set[HttpConnection] = set()
        self._service = self._requests.service = Service(
            self.door,
            intake,
            admission,
            self.counts,
            limits,
            Heads(),
            min(WHOLE_BYTES, most_bytes),
            self._make_aiohttp,
            self._connections,
        )

    async def start(self, predecessor: "OtlpHttpReceiver | None" = None) -> str:
        """Listen; the URL. A predecessor's sockets are taken over; it is to be stopped afterwards."""
        self._server = web.Server(self._requests.handle, handler_cancellation=True)
        return await self.door.open(None if predecessor is None else predecessor.door)

    async def stop(self, deadline_seconds: float) -> None:
        """Accept nothing more, finish what was asked within the deadline, close."""
        await self.door.close()
        for connection in list(self._connections):
            connection.finish()
        if self._server is not None:
            self._server.pre_shutdown()
            await asyncio.gather(self._server.shutdown(deadline_seconds), self._finished(deadline_seconds))
        self.door.abort()

    async def _finished(self, deadline_seconds: float) -> None:
        """Wait for the requests that are served without aiohttp; those that are not answered in time are cancelled."""
        under_way = {connection.task for connection in self._connections if connection.task is not None}
        if not under_way:
            return
        _, late = await asyncio.wait(under_way, timeout=deadline_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCELLED_SECONDS)

    def _connect(self, lost: Lost) -> HttpConnection:
        return HttpConnection(self._service, lost)

    def _make_aiohttp(self, front: HttpConnection) -> AiohttpConnection:
        assert self._server is not None
        return AiohttpConnection(self._server, self._service, front)

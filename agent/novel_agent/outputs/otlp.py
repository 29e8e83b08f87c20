"""OTLP to a server, over HTTP (protobuf or JSON) or gRPC.

Sources: opentelemetry-proto 1.11, docs/specification.md. Over HTTP, 429, 502, 503 and 504 are to be tried again, as is
everything short of an answer; every other status is final.
"""

import time
from collections.abc import Callable, Sequence

from aiohttp import hdrs

from novel_agent.config.schema import Export
from novel_agent.errors import OutputRejected
from novel_agent.model.batch import Batch, Signal
from novel_agent.outputs.body import CONTENT_ENCODINGS, compress, compressed_pieces, made
from novel_agent.outputs.http_post import Answer, HttpPost
from novel_agent.outputs.output import Delivered, Output
from novel_agent.state.queue import joined
from novel_agent.wire.otlp_json import request_to_json
from novel_agent.wire.otlp_response import (
    PartialSuccess,
    RpcStatus,
    partial_success,
    partial_success_from_json,
    rpc_status,
    rpc_status_from_json,
)
from novel_agent.wire.protobuf import WireError

_PATHS: dict[Signal, str] = {"metrics": "/v1/metrics", "logs": "/v1/logs", "traces": "/v1/traces"}
_CONTENT_TYPES = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}
_RETRYABLE = frozenset({429, 502, 503, 504})
_JSON_OFF_LOOP_BYTES = 8 << 10
"""JSON costs Python 0.2 ms a kilobyte: in a thread the loop gets its turns meanwhile."""


class OtlpOutput:
    """One OTLP destination, by the protocol it is configured for."""

    in_order = False

    def __init__(self, config: Export, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since the epoch, which a Retry-After date is compared with."""
        self._transport = _transport(config, now)

    async def start(self) -> None:
        await self._transport.start()

    async def send(self, batch: Batch) -> Delivered:
        return await self._transport.send(batch)

    async def send_joined(self, batches: Sequence[Batch]) -> Delivered:
        """Several as one; over HTTP without joining them in memory."""
        if isinstance(self._transport, OtlpHttp):
            return await self._transport.send_joined(batches)
        return await self._transport.send(joined(batches))

    async def stop(self) -> None:
        await self._transport.stop()


def _transport(config: Export, now: Callable[[], float]) -> Output:
    if config.protocol == "grpc":
        from novel_agent.outputs.otlp_grpc import OtlpGrpc

        return OtlpGrpc(config)
    return OtlpHttp(config, now)


class OtlpHttp:
    """OTLP over HTTP/1.1."""

    in_order = False

    def __init__(self, config: Export, now: Callable[[], float]) -> None:
        self._json = config.protocol == "http/json"
        self._compression = config.compression
        headers: dict[str, str | None] = {
            hdrs.CONTENT_TYPE: _CONTENT_TYPES[config.protocol],
            hdrs.CONTENT_ENCODING: CONTENT_ENCODINGS[config.compression],
        }
        self._http = HttpPost(config, headers, now)
        self._urls = {signal: self._http.url(path) for signal, path in _PATHS.items()}

    async def start(self) -> None:
        await self._http.start()

    async def stop(self) -> None:
        await self._http.stop()

    async def send(self, batch: Batch) -> Delivered:
        return await self.send_joined([batch])

    async def send_joined(self, batches: Sequence[Batch]) -> Delivered:
        """Several as one request."""
        body = await self._body(batches)
        answer = await self._http.post(self._urls[batches[0].signal], body)
        if answer.good:
            partial = _partial_success(answer)
            return Delivered(sum(map(len, body)), partial.rejected_items, self._http.mask(partial.message))
        said = _error(answer)
        raise self._http.failure(answer, said.message, _RETRYABLE, said.retry_after_seconds)

    async def _body(self, batches: Sequence[Batch]) -> Sequence[bytes]:
        """In pieces."""
        if self._json:
            batch = joined(batches)
            return [
                await made(lambda payload: self._in_json(batch.signal, payload), batch.payload, _JSON_OFF_LOOP_BYTES)
            ]
        return await compressed_pieces(self._compression, [batch.payload for batch in batches])

    def _in_json(self, signal: Signal, payload: bytes) -> bytes:
        try:
            return compress(self._compression, request_to_json(signal, payload))
        except WireError as error:
            raise OutputRejected(f"the batch is not OTLP: {error}", reason="malformed") from None


def _partial_success(answer: Answer) -> PartialSuccess:
    """What a good answer says was not taken."""
    if "json" in answer.content_type:
        return partial_success_from_json(answer.body)
    return partial_success(answer.body)


def _error(answer: Answer) -> RpcStatus:
    """What a bad answer says of its reasons; other servers than OTLP's may be between."""
    if "json" in answer.content_type:
        return rpc_status_from_json(answer.body)
    if "protobuf" in answer.content_type:
        return rpc_status(answer.body)
    return RpcStatus(answer.text)

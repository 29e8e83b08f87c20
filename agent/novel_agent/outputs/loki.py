"""Logs to Loki, by its push API.

Source: grafana.com/docs/loki "Loki HTTP API". 204 is success. As promtail does it, 429 and every 5xx is tried again, and what
else is refused (400: too old, a line too long) is final; Loki has then taken the rest of the request and says how much it
refused only in words.
"""

import time
from collections.abc import Callable

from aiohttp import hdrs

from novel_agent.config.schema import Export
from novel_agent.errors import ConfigError, OutputRejected
from novel_agent.model.batch import Batch
from novel_agent.outputs.body import CONTENT_ENCODINGS, compress, made
from novel_agent.outputs.http_post import BUSY_OR_FAILING, HttpPost
from novel_agent.outputs.output import Delivered
from novel_agent.wire.loki import encode_push
from novel_agent.wire.otlp_read import read_logs
from novel_agent.wire.protobuf import WireError

_PATH = "/loki/api/v1/push"
_NO_STREAMS = 422
_OFF_LOOP_BYTES = 16 << 10
"""Of OTLP: reading and writing them takes Python a few milliseconds."""


class LokiOutput:
    """One Loki. The tenant is a header of the configuration, X-Scope-OrgID."""

    in_order = False

    def __init__(self, config: Export, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since the epoch: for records that have no time, and to compare a Retry-After date with."""
        if config.compression == "zstd":
            raise ConfigError(
                "configuration", 0, f"export.{config.name}.compression", "is zstd, which Loki does not take; write gzip"
            )
        self._compression = config.compression
        self._labels = config.labels
        self._now = now
        encoding = CONTENT_ENCODINGS[config.compression]
        self._http = HttpPost(config, {hdrs.CONTENT_TYPE: "application/json", hdrs.CONTENT_ENCODING: encoding}, now)
        self._url = self._http.whole_url(_PATH)

    async def start(self) -> None:
        await self._http.start()

    async def stop(self) -> None:
        await self._http.stop()

    async def send(self, batch: Batch) -> Delivered:
        body = await made(self._body, batch.payload, _OFF_LOOP_BYTES)
        answer = await self._http.post(self._url, body)
        if answer.good or (answer.status == _NO_STREAMS and not batch.payload):
            return Delivered(len(body))
        raise self._http.failure(answer, answer.text, BUSY_OR_FAILING)

    def _body(self, payload: bytes) -> bytes:
        try:
            pushed = encode_push(read_logs(payload), self._labels, int(self._now() * 1e9))
        except WireError as error:
            raise OutputRejected(f"the batch is not OTLP: {error}", reason="malformed") from None
        return compress(self._compression, pushed)

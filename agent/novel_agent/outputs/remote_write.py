"""Metrics to a Prometheus remote-write receiver, 2.0 or 1.0.

Sources: prometheus.io/docs/specs/prw/remote_write_spec and remote_write_spec_2_0. Bodies are snappy blocks. 429 and every 5xx
is tried again; what else is refused is final, but with 2.0 the receiver says how many samples of the request it has written
all the same. A receiver takes the samples of a series in order only, so requests do not overlap.
"""

import time
from collections.abc import Callable

from aiohttp import hdrs

from novel_agent.config.schema import Export
from novel_agent.errors import OutputRejected
from novel_agent.model.batch import Batch
from novel_agent.outputs.body import made
from novel_agent.outputs.http_post import BUSY_OR_FAILING, Answer, HttpPost
from novel_agent.outputs.output import Delivered
from novel_agent.wire.protobuf import WireError
from novel_agent.wire.remote_write import Version2

_PATH = "/api/v1/write"
_VERSION = "X-Prometheus-Remote-Write-Version"
_WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"
_HEADERS: dict[str, dict[str, str | None]] = {
    "1.0": {hdrs.CONTENT_TYPE: "application/x-protobuf", _VERSION: "0.1.0", hdrs.CONTENT_ENCODING: "snappy"},
    "2.0": {
        hdrs.CONTENT_TYPE: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        _VERSION: "2.0.0",
        hdrs.CONTENT_ENCODING: "snappy",
    },
}
_UNSUPPORTED = 415
_OFF_LOOP_BYTES = 256 << 10
_MOST_DIGITS = 19
_PERHAPS_OLDER = "if it speaks 1.0 only, set remote_write_version to 1.0"


class RemoteWriteOutput:
    """One receiver. Its batches are those of `wire.remote_write.RemoteWriteEncoder`, not OTLP."""

    in_order = True

    def __init__(self, config: Export, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since the epoch, which a Retry-After date is compared with."""
        self._version2 = Version2() if config.remote_write_version == "2.0" else None
        self._http = HttpPost(config, _HEADERS[config.remote_write_version], now)
        self._url = self._http.whole_url(_PATH)

    async def start(self) -> None:
        await self._http.start()

    async def stop(self) -> None:
        await self._http.stop()

    async def send(self, batch: Batch) -> Delivered:
        body = await made(self._body, batch.payload, _OFF_LOOP_BYTES)
        answer = await self._http.post(self._url, body)
        if self._version2 is not None and answer.status not in BUSY_OR_FAILING:
            return self._answered(answer, batch, len(body))
        if answer.good:
            return Delivered(len(body))
        raise self._http.failure(answer, answer.text, BUSY_OR_FAILING)

    def _body(self, payload: bytes) -> bytes:
        from cramjam import snappy

        try:
            request = payload if self._version2 is None else self._version2.request(payload)
        except WireError as error:
            raise OutputRejected(f"the batch is not remote write: {error}", reason="malformed") from None
        return bytes(snappy.compress_raw(request))

    def _answered(self, answer: Answer, batch: Batch, wire_bytes: int) -> Delivered:
        """With 2.0 it is the count of what was written that decides; a good answer without one is from an older receiver."""
        written = _whole(answer.headers.get(_WRITTEN, ""))
        if answer.good and not batch.items:
            return Delivered(wire_bytes)
        if written:
            said = f"{self._http.where()} answered {answer.status}: {answer.text}" if not answer.good else ""
            return Delivered(wire_bytes, max(0, batch.items - written), self._http.mask(said))
        if answer.good:
            said = f"{self._http.where()} answered {answer.status} and wrote nothing; {_PERHAPS_OLDER}"
            raise OutputRejected(self._http.mask(said), reason="not_written")
        hint = f"{answer.text} ({_PERHAPS_OLDER})" if answer.status == _UNSUPPORTED else answer.text
        raise self._http.failure(answer, hint, BUSY_OR_FAILING)


def _whole(header: str) -> int:
    """0 where it is no number, or one of more digits than any count has: of thousands `int` makes an error."""
    return int(header) if header.isdecimal() and len(header) <= _MOST_DIGITS else 0

"""An OTLP/HTTP server that looks at what log lines it gets: `python -m benchmarks.log_sink PORT`.

GET / gives `records` (lines by their mark), `wire_bytes` (of bodies as they came) and `requests`; GET /lags the quantiles
0.5, 0.99 and 1 of the time from when a line says it was written until its request was here, in milliseconds; GET /samples
when the host was sampled, in seconds since the epoch. Bodies of logs are searched, not decoded, to cost little of the two
cores that the programs compared run on.
"""

import asyncio
import re
import sys
import time
from array import array

import uvloop
from aiohttp import web
from isal import igzip

from benchmarks.log_lines import MARK

_MARK = MARK.encode()
_WRITTEN_AT = re.compile(_MARK + rb" at (\d{19})")
_QUANTILES = (0.5, 0.99, 1.0)


class Sink:
    """What came."""

    def __init__(self) -> None:
        self._records = 0
        self._wire_bytes = 0
        self._requests = 0
        self._lags_ms = array("d")
        self._samples: list[float] = []

    async def take_logs(self, request: web.Request) -> web.Response:
        """Count, and see how late each line is that says when it was written."""
        wire = await request.read()
        now = time.time_ns()
        body = _plain(request, wire)
        self._requests += 1
        self._wire_bytes += len(wire)
        self._records += body.count(_MARK)
        self._lags_ms.extend((now - int(written)) / 1e6 for written in _WRITTEN_AT.findall(body))
        return web.Response(content_type="application/x-protobuf")

    async def take_metrics(self, request: web.Request) -> web.Response:
        """Note when they were sampled."""
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        message = ExportMetricsServiceRequest.FromString(_plain(request, await request.read()))
        times = set()
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name.startswith("system."):
                        data = getattr(metric, metric.WhichOneof("data"))
                        times.update(point.time_unix_nano for point in data.data_points)
        self._samples.extend(moment / 1e9 for moment in times)
        return web.Response(content_type="application/x-protobuf")

    async def counts(self, _: web.Request) -> web.Response:
        """How much."""
        return web.json_response({"records": self._records, "wire_bytes": self._wire_bytes, "requests": self._requests})

    async def lags(self, _: web.Request) -> web.Response:
        """How late."""
        lags = sorted(self._lags_ms)
        return web.json_response([lags[min(len(lags) - 1, int(len(lags) * each))] for each in _QUANTILES])

    async def samples(self, _: web.Request) -> web.Response:
        """When the host was sampled."""
        return web.json_response(sorted(set(self._samples)))


def _plain(request: web.Request, wire: bytes) -> bytes:
    return igzip.decompress(wire) if request.headers.get("Content-Encoding") == "gzip" else wire


async def main(port: int) -> None:
    """Serve for ever."""
    sink = Sink()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/logs", sink.take_logs)
    app.router.add_post("/v1/metrics", sink.take_metrics)
    app.router.add_get("/", sink.counts)
    app.router.add_get("/lags", sink.lags)
    app.router.add_get("/samples", sink.samples)
    runner = web.AppRunner(app, auto_decompress=False, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

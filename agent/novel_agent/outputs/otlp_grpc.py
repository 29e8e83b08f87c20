"""OTLP over gRPC. Imported only where a destination is configured so.

Source: opentelemetry-proto 1.11, docs/specification.md "OTLP/gRPC Response": which codes are to be tried again, and when.
"""

from novel_agent import __version__
from novel_agent.config.schema import Export
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch, Signal
from novel_agent.outputs.body import compressed
from novel_agent.outputs.endpoint import Mask, check_headers, parse_endpoint, proxy_for, tls_context
from novel_agent.outputs.grpc_client import OK, RESOURCE_EXHAUSTED, Answer, ConnectionFailed, GrpcClient
from novel_agent.outputs.output import Delivered
from novel_agent.wire.otlp_response import partial_success, rpc_status

_DEFAULT_PORTS = {"http": 4317, "https": 443}
_PATHS: dict[Signal, str] = {
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
_NAMES = (
    "ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
    "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
    "internal", "unavailable", "data_loss", "unauthenticated",
)  # fmt: skip
_RETRYABLE = frozenset({"cancelled", "deadline_exceeded", "aborted", "out_of_range", "unavailable", "data_loss"})


class OtlpGrpc:
    """OTLP over one HTTP/2 connection. `http://` means plaintext, port 4317 unless stated; `https://` TLS, port 443."""

    in_order = False

    def __init__(self, config: Export) -> None:
        self._config = config
        key = f"export.{config.name}.endpoint"
        self._endpoint = parse_endpoint(config.url, _DEFAULT_PORTS, key)
        if self._endpoint.path.strip("/"):
            raise ConfigError("configuration", 0, key, f"gRPC has no paths: leave {self._endpoint.path} out")
        check_headers(config.headers, f"export.{config.name}.headers")
        self._proxy = proxy_for(self._endpoint)
        self._metadata = dict(config.headers)
        if self._endpoint.authorization:
            self._metadata = {"authorization": self._endpoint.authorization, **self._metadata}
        proxy_authorization = self._proxy.authorization if self._proxy else None
        self._mask = Mask([*self._metadata.values(), proxy_authorization])
        self._client: GrpcClient | None = None

    async def start(self) -> None:
        config = self._config
        self._client = GrpcClient(
            self._endpoint,
            tls=tls_context(config.tls, f"export.{config.name}.tls", ("h2",)) if self._endpoint.secure else None,
            server_name=config.tls.server_name,
            proxy=self._proxy,
            metadata=self._metadata,
            user_agent=f"novel-engine-agent/{__version__}",
        )

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def send(self, batch: Batch) -> Delivered:
        where = f"{self._endpoint.scheme}://{self._endpoint.authority}"
        if self._client is None:
            raise OutputUnavailable(f"{where}: not started")
        compression = self._config.compression
        message = await compressed(compression, batch.payload)
        try:
            answer = await self._client.call(
                _PATHS[batch.signal],
                message,
                encoding=None if compression == "none" else compression,
                timeout_seconds=self._config.timeout_seconds,
            )
        except ConnectionFailed as error:
            raise OutputUnavailable(self._mask(f"{where}: {error}")) from None
        if answer.code == OK:
            partial = partial_success(answer.body)
            return Delivered(len(message), partial.rejected_items, self._mask(partial.message))
        raise self._error(answer, where)

    def _error(self, answer: Answer, where: str) -> OutputUnavailable | OutputRejected:
        name = _NAMES[answer.code] if answer.code < len(_NAMES) else "unknown"
        wait_seconds = rpc_status(answer.details).retry_after_seconds
        text = self._mask(f"{where} answered {name.upper()}" + (f": {answer.message}" if answer.message else ""))
        if name in _RETRYABLE or (answer.code == RESOURCE_EXHAUSTED and wait_seconds is not None):
            return OutputUnavailable(text, retry_after_seconds=wait_seconds)
        return OutputRejected(text, reason=f"grpc_{name}")

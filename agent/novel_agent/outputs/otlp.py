"""OTLP to a server, over HTTP (protobuf or JSON) or gRPC.

Sources: opentelemetry-proto 1.11, docs/specification.md. Over HTTP, 429, 502, 503 and 504 are to be tried again, as is
everything short of an answer; every other status is final. A redirect is not followed: it would take the data, and the
credentials, to where nobody configured them to go.
"""

import email.utils
import time
import zlib
from collections.abc import Callable
from datetime import UTC
from typing import NamedTuple

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict

from novel_agent import __version__
from novel_agent.config.schema import Export
from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch, Signal
from novel_agent.outputs.endpoint import Mask, check_headers, parse_endpoint, proxy_for, tls_context, why_not_connected
from novel_agent.outputs.lookup import Resolver
from novel_agent.outputs.output import Delivered, Output
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

USER_AGENT = f"novel-engine-agent/{__version__}"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATHS: dict[Signal, str] = {"metrics": "/v1/metrics", "logs": "/v1/logs", "traces": "/v1/traces"}
_CONTENT_TYPES = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}
_RETRYABLE = frozenset({429, 502, 503, 504})
_LARGEST_ANSWER_BYTES = 64 << 10
_GZIP_LEVEL = 1
_GZIP_WINDOW = 31
_IDLE_CONNECTION_SECONDS = 90


class OtlpOutput:
    """One OTLP destination, by the protocol it is configured for."""

    def __init__(self, config: Export, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since the epoch, which a Retry-After date is compared with."""
        self._transport = _transport(config, now)

    async def start(self) -> None:
        await self._transport.start()

    async def send(self, batch: Batch) -> Delivered:
        return await self._transport.send(batch)

    async def stop(self) -> None:
        await self._transport.stop()


def _transport(config: Export, now: Callable[[], float]) -> Output:
    if config.protocol == "grpc":
        from novel_agent.outputs.otlp_grpc import OtlpGrpc

        return OtlpGrpc(config)
    return OtlpHttp(config, now)


class OtlpHttp:
    """OTLP over HTTP/1.1 with one connection kept open."""

    def __init__(self, config: Export, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._endpoint = parse_endpoint(config.endpoint, _DEFAULT_PORTS, f"export.{config.name}.endpoint")
        check_headers(config.headers, f"export.{config.name}.headers")
        self._json = config.protocol == "http/json"
        self._urls = {signal: self._endpoint.url(path) for signal, path in _PATHS.items()}
        self._proxy = proxy_for(self._endpoint)
        self._headers = self._request_headers()
        proxy_authorization = self._proxy.authorization if self._proxy else None
        self._mask = Mask(
            [*config.headers.values(), self._endpoint.query, self._endpoint.authorization, proxy_authorization]
        )
        self._session: aiohttp.ClientSession | None = None

    def _request_headers(self) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict({hdrs.USER_AGENT: USER_AGENT})
        if self._endpoint.authorization:
            headers[hdrs.AUTHORIZATION] = self._endpoint.authorization
        if self._proxy and self._proxy.authorization and not self._endpoint.secure:
            headers[hdrs.PROXY_AUTHORIZATION] = self._proxy.authorization
        headers.update(self._config.headers)
        headers[hdrs.ACCEPT_ENCODING] = "identity"
        headers[hdrs.CONTENT_TYPE] = _CONTENT_TYPES[self._config.protocol]
        headers.popall(hdrs.CONTENT_ENCODING, None)
        if self._config.compression == "gzip":
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return headers

    async def start(self) -> None:
        config = self._config
        tls = tls_context(config.tls, f"export.{config.name}.tls", ("http/1.1",)) if self._endpoint.secure else None
        connector = aiohttp.TCPConnector(
            ssl=tls or True,
            resolver=Resolver(),
            keepalive_timeout=_IDLE_CONNECTION_SECONDS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=config.timeout_seconds),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, batch: Batch) -> Delivered:
        body = self._body(batch)
        answer = await self._post(self._urls[batch.signal], body)
        if 200 <= answer.status < 300:
            partial = answer.partial_success()
            return Delivered(len(body), partial.rejected_items, self._mask(partial.message))
        said = answer.error()
        text = f"{self._where()} answered {answer.status}" + (f": {said.message}" if said.message else "")
        if answer.status in _RETRYABLE:
            wait_seconds = _retry_after_seconds(answer.retry_after, self._now)
            if wait_seconds is None:
                wait_seconds = said.retry_after_seconds
            raise OutputUnavailable(self._mask(text), retry_after_seconds=wait_seconds)
        if 300 <= answer.status < 400:
            text += " (redirects are not followed)"
        raise OutputRejected(self._mask(text), reason=f"http_{answer.status}")

    def _body(self, batch: Batch) -> bytes:
        try:
            body = request_to_json(batch.signal, batch.payload) if self._json else batch.payload
        except WireError as error:
            raise OutputRejected(f"the batch is not OTLP: {error}", reason="malformed") from None
        if self._config.compression == "gzip":
            return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW)
        return body

    async def _post(self, url: str, body: bytes) -> "_Answer":
        if self._session is None:
            raise OutputUnavailable(f"{self._where()}: not started")
        try:
            async with self._session.post(
                url,
                data=body,
                headers=self._headers,  # here and not the session's, which would go to the proxy as well
                allow_redirects=False,
                server_hostname=self._config.tls.server_name,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy_headers(),
            ) as response:
                headers = response.headers
                return _Answer(
                    response.status,
                    headers.get(hdrs.CONTENT_TYPE, ""),
                    headers.get(hdrs.RETRY_AFTER),
                    await _read_bounded(response.content),
                )
        except TimeoutError:
            reason = f"no answer within {self._config.timeout_seconds:g} s"
        except aiohttp.ClientError as error:
            reason = _why(error)
        except OSError as error:
            reason = why_not_connected(error)
        raise OutputUnavailable(self._mask(f"{self._where()}: {reason}"))

    def _proxy_headers(self) -> dict[str, str] | None:
        if self._proxy and self._proxy.authorization and self._endpoint.secure:
            return {hdrs.PROXY_AUTHORIZATION: self._proxy.authorization}
        return None

    def _where(self) -> str:
        through = f" through {self._proxy.url}" if self._proxy else ""
        return f"{self._endpoint.scheme}://{self._endpoint.authority}{through}"


class _Answer(NamedTuple):
    """What came back, its body cut at 64 KiB."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes

    def partial_success(self) -> PartialSuccess:
        """What a good answer says was not taken."""
        if "json" in self.content_type:
            return partial_success_from_json(self.body)
        return partial_success(self.body)

    def error(self) -> RpcStatus:
        """What a bad answer says of its reasons; other servers than OTLP's may be between."""
        if "json" in self.content_type:
            return rpc_status_from_json(self.body)
        if "protobuf" in self.content_type:
            return rpc_status(self.body)
        if self.content_type.startswith("text/plain"):
            return RpcStatus(self.body.decode("utf-8", "replace"))
        return RpcStatus()


def _retry_after_seconds(header: str | None, now: Callable[[], float]) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
        # A date without a zone (asctime's form, which RFC 9110 section 5.6.7 keeps) is UTC.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now())
    except (ValueError, OverflowError):
        return None


async def _read_bounded(content: aiohttp.StreamReader) -> bytes:
    """The body, as far as it matters; where there is more, leaving it unread closes the connection."""
    parts: list[bytes] = []
    left = _LARGEST_ANSWER_BYTES
    while left > 0 and (chunk := await content.read(left)):
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)


def _why(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        certificate_error = error.certificate_error
        return why_not_connected(certificate_error) if isinstance(certificate_error, OSError) else "certificate refused"
    if isinstance(error, aiohttp.ClientConnectorError):
        return why_not_connected(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return str(error) or type(error).__name__

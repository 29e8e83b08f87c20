"""POST requests to one HTTP destination: connections, TLS, proxy, credentials, bounded answers; shared by the outputs.

A redirect is not followed: it would take the data, and the credentials, to where nobody configured them to go.
"""

import email.utils
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from io import BytesIO
from typing import NamedTuple, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import Payload
from multidict import CIMultiDict, CIMultiDictProxy

from novel_agent import __version__
from novel_agent.config.schema import Export
from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.outputs.endpoint import Mask, check_headers, parse_endpoint, proxy_for, tls_context, why_not_connected
from novel_agent.outputs.lookup import Resolver

USER_AGENT = f"novel-engine-agent/{__version__}"
BUSY_OR_FAILING = frozenset({429, *range(500, 600)})
"""What Loki and remote-write receivers answer where the same request may succeed later."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LARGEST_ANSWER_BYTES = 64 << 10
_IDLE_CONNECTION_SECONDS = 90
_LARGEST_WHOLE_BODY_BYTES = 1 << 20
"""A larger body is handed to the socket in pieces as it takes them, not copied into its buffer at once."""


_SMALL_PIECE_BYTES = 64 << 10
"""Pieces that are together no larger are joined."""


class Answer(NamedTuple):
    """What came back, its body cut at 64 KiB."""

    status: int
    headers: "CIMultiDictProxy[str]"
    body: bytes

    @property
    def good(self) -> bool:
        """Whether it is one of 2xx."""
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        """As sent; empty where there is none."""
        return self.headers.get(hdrs.CONTENT_TYPE, "")

    @property
    def text(self) -> str:
        """The body where it says that it is plain text: what may stand between (a proxy's page) is left out."""
        return self.body.decode("utf-8", "replace") if self.content_type.startswith("text/plain") else ""


class _InPieces(Payload):
    """A body in pieces, handed to the socket as they are."""

    _autoclose = True
    _value: Sequence[bytes]

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(pieces)
        self._size = sum(map(len, pieces))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """The head goes with the first piece, the rest in one system call as far as the socket takes it, none of it copied."""
        await writer.write(self._value[0])
        transport = cast(StreamWriter, writer).transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection is closed")
        transport.writelines(self._value[1:])
        await writer.drain()


def _payload(body: bytes | Sequence[bytes]) -> bytes | BytesIO | Payload:
    """What aiohttp sends best."""
    if not isinstance(body, bytes):
        if len(body) > 1:
            return _InPieces(_of_some_size(body))
        body = body[0]
    return body if len(body) <= _LARGEST_WHOLE_BODY_BYTES else BytesIO(body)


def _of_some_size(pieces: Sequence[bytes]) -> list[bytes]:
    """The same with the small ones joined: each piece costs the transport a few objects."""
    sized: list[bytes] = []
    small: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        if size_bytes + len(piece) > _SMALL_PIECE_BYTES and small:
            sized.append(b"".join(small))
            small, size_bytes = [], 0
        small.append(piece)
        size_bytes += len(piece)
    sized.append(b"".join(small))
    return sized


class HttpPost:
    """The way to one destination; up to `config.concurrency` requests at a time, each on a connection that is kept.

    `headers` are the output's own and win over those of the configuration. `now` gives seconds since the epoch, which a
    Retry-After date is compared with.
    """

    def __init__(self, config: Export, headers: Mapping[str, str | None], now: Callable[[], float] = time.time) -> None:
        """A header whose value is None is not sent, whatever is configured."""
        self._config = config
        self._now = now
        self.endpoint = parse_endpoint(config.url, _DEFAULT_PORTS, f"export.{config.name}.endpoint")
        check_headers(config.headers, f"export.{config.name}.headers")
        self._proxy = proxy_for(self.endpoint)
        self._headers = self._request_headers(headers)
        proxy_authorization = self._proxy.authorization if self._proxy else None
        self.mask = Mask(
            [*config.headers.values(), self.endpoint.query, self.endpoint.authorization, proxy_authorization]
        )
        self._session: aiohttp.ClientSession | None = None

    def _request_headers(self, own: Mapping[str, str | None]) -> "CIMultiDict[str]":
        headers: CIMultiDict[str] = CIMultiDict({hdrs.USER_AGENT: USER_AGENT})
        if self.endpoint.authorization:
            headers[hdrs.AUTHORIZATION] = self.endpoint.authorization
        if self._proxy and self._proxy.authorization and not self.endpoint.secure:
            headers[hdrs.PROXY_AUTHORIZATION] = self._proxy.authorization
        headers.update(self._config.headers)
        headers[hdrs.ACCEPT_ENCODING] = "identity"
        for name, value in own.items():
            headers.popall(name, None)
            if value is not None:
                headers[name] = value
        return headers

    def url(self, path: str) -> str:
        """The URL of a path below the endpoint."""
        return self.endpoint.url(path)

    def whole_url(self, default_path: str) -> str:
        """The endpoint itself where it has a path, else with this one."""
        return self.endpoint.url("" if self.endpoint.path.strip("/") else default_path)

    def where(self) -> str:
        """The destination as errors name it, without credentials."""
        through = f" through {self._proxy.url}" if self._proxy else ""
        return f"{self.endpoint.scheme}://{self.endpoint.authority}{through}"

    async def start(self) -> None:
        """Make ready, in the loop that will run it; ConfigError where a TLS file cannot be used."""
        config = self._config
        tls = tls_context(config.tls, f"export.{config.name}.tls", ("http/1.1",)) if self.endpoint.secure else None
        connector = aiohttp.TCPConnector(
            ssl=tls or True,
            resolver=Resolver(),
            keepalive_timeout=_IDLE_CONNECTION_SECONDS,
            limit=config.concurrency,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=config.timeout_seconds),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        """Close the connections; safe at any time, more than once."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: str, body: bytes | Sequence[bytes]) -> Answer:
        """Send one request, its body in one or in pieces, and read its answer; OutputUnavailable where there is none."""
        if self._session is None:
            raise OutputUnavailable(f"{self.where()}: not started")
        try:
            async with self._session.post(
                url,
                data=_payload(body),
                headers=self._headers,  # here and not the session's, which would go to the proxy as well
                allow_redirects=False,
                server_hostname=self._config.tls.server_name,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy_headers(),
            ) as response:
                return Answer(response.status, response.headers, await _read_bounded(response.content))
        except TimeoutError:
            reason = f"no answer within {self._config.timeout_seconds:g} s"
        except aiohttp.ClientError as error:
            reason = _why(error)
        except OSError as error:
            reason = why_not_connected(error)
        raise OutputUnavailable(self.mask(f"{self.where()}: {reason}"))

    def failure(
        self, answer: Answer, said: str, retryable: frozenset[int], else_retry_after_seconds: float | None = None
    ) -> OutputUnavailable | OutputRejected:
        """What a bad answer means; `said` is the server's reason, the seconds what it named elsewhere than in a header."""
        text = f"{self.where()} answered {answer.status}" + (f": {said}" if said else "")
        if answer.status in retryable:
            wait_seconds = _retry_after_seconds(answer.headers.get(hdrs.RETRY_AFTER), self._now)
            if wait_seconds is None:
                wait_seconds = else_retry_after_seconds
            return OutputUnavailable(self.mask(text), retry_after_seconds=wait_seconds)
        if 300 <= answer.status < 400:
            text += " (redirects are not followed)"
        return OutputRejected(self.mask(text), reason=f"http_{answer.status}")

    def _proxy_headers(self) -> dict[str, str] | None:
        if self._proxy and self._proxy.authorization and self.endpoint.secure:
            return {hdrs.PROXY_AUTHORIZATION: self._proxy.authorization}
        return None


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

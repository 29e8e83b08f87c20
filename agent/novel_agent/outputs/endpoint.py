"""Where an HTTP or gRPC destination is: address, credentials, proxy, TLS; shared by the outputs that connect to one."""

import os
import re
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from novel_agent.config.schema import ClientTls
from novel_agent.errors import ConfigError

_SHORTEST_SECRET = 4
_LONGEST_ERROR = 300
_NOT_IN_HOSTS = re.compile(r"[\x00-\x20\x7f]")
_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Endpoint(NamedTuple):
    """A base URL taken apart. `authorization` is made of its user and password, which stand nowhere else."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    authorization: str | None

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, suffix: str = "") -> str:
        """The URL of a path below the base, without credentials."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.authority}{self.path.rstrip('/')}{suffix}{query}"


def parse_endpoint(url: str, default_ports: dict[str, int], key: str) -> Endpoint:
    """The endpoint that a configured URL means; ConfigError under `key` where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError("configuration", 0, key, f"not a URL: {error}") from None
    if parts.scheme not in default_ports or not parts.hostname:
        raise ConfigError("configuration", 0, key, "must be http://HOST[:PORT] or https://HOST[:PORT]")
    if not _may_be_host(parts.hostname):
        raise ConfigError("configuration", 0, key, f"{parts.hostname!r} is not a host name")
    return Endpoint(
        parts.scheme, parts.hostname, port or default_ports[parts.scheme], parts.path, parts.query, _basic(parts)
    )


def _may_be_host(name: str) -> bool:
    """Whether resolvers and TLS take it at all: labels of 1 to 63 characters, no blanks, no control characters."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return _NOT_IN_HOSTS.search(name) is None


def check_headers(headers: Mapping[str, str], key: str) -> None:
    """ConfigError under `key` for a header that cannot be sent, or that would change where one request ends."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            problem = "is not the name of a header"
        elif name.lower() in _FRAMING_HEADERS:
            problem = "cannot be set: it belongs to the connection"
        elif _NOT_IN_HEADERS.search(value):
            problem = "has a control character in its value"
        else:
            continue
        raise ConfigError("configuration", 0, f"{key}.{name}", problem)


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode()


class Proxy(NamedTuple):
    """An HTTP proxy; `authorization` goes to it alone."""

    host: str
    port: int
    authorization: str | None

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy that the environment names for it (http_proxy, https_proxy, no_proxy in either case)."""
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get(endpoint.scheme)
    if not url or proxy_bypass(f"{endpoint.host}:{endpoint.port}"):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{endpoint.scheme}_proxy", 0, "", f"not a URL: {error}") from None
    if parts.scheme != "http" or not parts.hostname or not _may_be_host(parts.hostname):
        raise ConfigError(
            f"{endpoint.scheme}_proxy", 0, "", "only proxies of the form http://HOST[:PORT] are spoken to"
        )
    return Proxy(parts.hostname, port or 80, _basic(parts))


class Mask:
    """Takes credentials out of texts that are shown."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        self._secrets = sorted(
            {word for secret in secrets if secret for word in _spellings(secret) if len(word) >= _SHORTEST_SECRET},
            key=len,
            reverse=True,
        )

    def __call__(self, text: str) -> str:
        """The text on one line, without secrets, bounded."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + "…"


def _spellings(secret: str) -> Iterator[str]:
    """A secret as a server may repeat it: whole, in words, the password of a Basic pair, the value of a query."""
    yield secret
    yield from secret.split()
    if secret.startswith("Basic "):
        with suppress(ValueError):
            yield b64decode(secret[6:]).decode().partition(":")[2]
    for pair in secret.split("&"):
        yield from (value := pair.partition("=")[2], unquote(value))
    yield b64encode(secret.encode()).decode().rstrip("=")


def tls_context(tls: ClientTls, key: str, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """TLS towards a destination, as configured under `key` (`export.NAME.tls`); ConfigError names the file at fault."""
    if tls.server_name is not None and not _may_be_host(tls.server_name):
        raise ConfigError("configuration", 0, f"{key}.server_name", f"{tls.server_name!r} is not a host name")
    if tls.ca_file is not None:
        _readable(tls.ca_file, f"{key}.ca_file")
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except ssl.SSLError:
        raise ConfigError(str(tls.ca_file), 0, f"{key}.ca_file", "holds no certificate in PEM form") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # where the distribution's OpenSSL would take less
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _load_client_certificate(context, tls, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _load_client_certificate(context: ssl.SSLContext, tls: ClientTls, key: str) -> None:
    if tls.cert_file is None:
        if tls.key_file is not None:
            raise ConfigError(tls.key_file, 0, f"{key}.key_file", "is of no use without cert_file")
        return
    _readable(tls.cert_file, f"{key}.cert_file")
    if tls.key_file is not None:
        _readable(tls.key_file, f"{key}.key_file")
    try:
        # Without a callback OpenSSL would ask for a pass phrase on the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    except ssl.SSLError as error:
        problem = "certificate and key do not belong together" if "MISMATCH" in str(error.reason) else "not usable"
        reason = str(error.reason or "not a certificate and an unencrypted key in PEM form").replace("_", " ").lower()
        raise ConfigError(tls.key_file or tls.cert_file, 0, f"{key}.cert_file", f"{problem}: {reason}") from None


def _readable(path: str, key: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise ConfigError(path, 0, key, f"cannot be read: {error.strerror}") from None


def why_not_connected(error: OSError) -> str:
    """A failed connect in words; the address is the caller's to name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__

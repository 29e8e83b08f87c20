"""Who may do what.

A request is *local* when its peer and the host it names are both loopback and no header tells of a proxy. Where the token
is needed `elsewhere`, a local request may do everything, and any other needs the bearer token; `always` and `never` are what
they say. `is_open` routes need none.

Every request must name a host that is this machine's or stands in `agent.allowed_hosts`: a page of somebody else whose
name was pointed at this machine (DNS rebinding) names its own. What another site's page sends is refused unless it is a
plain link that reads.

A wrong token is answered late. While `failures_waiting` such answers to one peer wait (IPv6: one /64), or
`all_failures_waiting` in all, further tokens are refused without being looked at, so guessing is slow however many
connections it uses, and costs the agent next to nothing.
"""

import asyncio
import ipaddress
import os
import re
import secrets
import socket
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from novel_agent.errors import ConfigError
from novel_agent.logs import get_logger
from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.limits import Limits
from novel_agent.serving.route import problem
from novel_agent.serving.traffic import Tally

log = get_logger("api")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDING = re.compile(
    r"forwarded.*|via|x-real-ip|x-(?:forwarded|original|envoy|proxyuser)(?:-.*)?|cf-.*|(?:.*-)?client-ip"
)
"""Header names that proxies and content delivery networks add."""

_HOST = re.compile(r"(?:\[([0-9a-z:.%]+)\]|([^\[\]:/?#@,\s]*))(?::[0-9]*)?")
HOW_TO_AUTHENTICATE = (
    "a token is required: send `Authorization: Bearer TOKEN`; it is in the file that agent.auth.token_file names,"
    " else in api-token in the agent's state directory"
)
NO_HEADERS: Mapping[str, str] = {}
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="novel-agent"'}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=64)
def address_of(text: str) -> Address | None:
    """An IP address, IPv4 where it is mapped into IPv6; None where the text is a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is loopback, by itself: nothing is resolved."""
    address = address_of(host)
    return host == "localhost" if address is None else address.is_loopback


@lru_cache(maxsize=64)
def host_named(authority: str) -> str:
    """The host in a Host header: lower case, without port, brackets and final dot; ValueError where it holds more."""
    match = _HOST.fullmatch(authority.strip().lower())
    if match is None:
        raise ValueError("the Host header is not HOST or HOST:PORT")
    return match[1] or match[2].removesuffix(".")


def own_names(hosts_file: str = "/etc/hosts", resolver_file: str = "/etc/resolv.conf") -> frozenset[str]:
    """The names of this machine that can be known without asking the network.

    Its host name, short and as set; what stands beside it in the hosts file; the short one in each search domain.
    """
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    names = {name, short}
    for _, *beside in _lines(hosts_file):
        if names & set(beside):
            names.update(beside)
    for keyword, *domains in _lines(resolver_file):
        if keyword in {"search", "domain"}:
            names.update(f"{short}.{domain.rstrip('.')}" for domain in domains)
    return frozenset(names - {""})


def _lines(path: str) -> Iterable[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError:
        return
    for line in text.lower().splitlines():
        words = line.partition("#")[0].split()
        if words:
            yield words


class TokenFile:
    """A file that holds the token; a new token is taken up without a restart, an unusable file leaves the old one valid."""

    def __init__(self, path: str, key: str = "agent.auth.token_file") -> None:
        self._path = path
        self._key = key
        self._signature, self._token = self._read()

    def _read(self) -> tuple[object, bytes]:
        try:
            with open(self._path, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                token = file.read(4097).strip() if stat.S_ISREG(status.st_mode) else b""
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        if status.st_mode & stat.S_IWOTH:
            raise self._unusable(f"others may write it; run chmod o-w {self._path}")
        if not token or len(token) > 4096:
            raise self._unusable("holds no token; put 1 to 4096 characters into it")
        return _signature(status), token

    def _unusable(self, problem: str) -> ConfigError:
        return ConfigError(self._path, 0, self._key, problem)

    def matches(self, given: str) -> bool:
        """Whether this is the token; takes the same time however much of it is right."""
        self._refresh()
        return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def _refresh(self) -> None:
        try:
            if _signature(os.stat(self._path)) != self._signature:
                self._signature, self._token = self._read()
                log.info("token read anew", path=self._path)
        except (OSError, ConfigError) as error:
            log.warning("token file unusable, the token read before stays valid", reason=error)


class TokenInMemory:
    """A token for this run only, where there is no room to keep it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def matches(self, given: str) -> bool:
        """Whether this is the token; takes the same time however much of it is right."""
        return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)


def _without_waiting(path: str, flags: int) -> int:
    """Open; a FIFO in the token's place would otherwise hold up the event loop until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _signature(status: os.stat_result) -> object:
    return status.st_mtime_ns, status.st_ino, status.st_size


class Asked(Protocol):
    """What is looked at of a request."""

    @property
    def method(self) -> str: ...

    @property
    def raw_path(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, whatever its case."""

    @property
    def remote(self) -> str | None:
        """The peer's address."""


class Refusal(NamedTuple):
    """Why a request is not served: an HTTP status, words, and headers to add."""

    status: int
    error: str
    headers: Mapping[str, str]


Token = TokenFile | TokenInMemory


class Access:
    """Decides about each request."""

    def __init__(
        self,
        token: Token,
        traffic: Tally,
        limits: Limits,
        *,
        authenticate: Literal["elsewhere", "always", "never"],
        names: Iterable[str],
        how_to_authenticate: str = HOW_TO_AUTHENTICATE,
    ) -> None:
        self._token = token
        self._traffic = traffic
        self._limits = limits
        self._authenticates = authenticate
        self._how_to_authenticate = how_to_authenticate
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))
        self._waiting = Counter[str]()

    async def refusal(self, request: web.Request, *, is_open: bool) -> web.Response | None:
        """The API's answer to a request that may not be served, else None."""
        refusal = await self.judge(request, is_open=is_open)
        return None if refusal is None else problem(refusal.status, refusal.error, headers=refusal.headers)

    async def judge(self, request: Asked, *, is_open: bool = False) -> Refusal | None:
        """Why a request may not be served, counted; else None."""
        authority = _authority(request)
        try:
            host = host_named(authority)
        except ValueError as error:
            return self._refuse(400, "malformed", f"malformed request: {error}")
        if host and not self._is_ours(host):
            shown = f"this agent does not answer to the host {host[:100]!r}"
            return self._refuse(421, "misdirected", f"{shown}; to allow it, list it in agent.allowed_hosts")
        if _is_cross_site(request, authority):
            return self._refuse(403, "cross site", "requests sent by pages of other sites are refused")
        if is_open or self._needs_no_token(host, request):
            return None
        return await self._authenticate(request)

    def _needs_no_token(self, host: str, request: Asked) -> bool:
        if self._authenticates == "elsewhere":
            return bool(host) and is_loopback(host) and _comes_over_loopback(request)
        return self._authenticates == "never"

    def _is_ours(self, host: str) -> bool:
        address = address_of(host)
        if address is None:
            return host == "localhost" or host in self._names or host.endswith(self._domains)
        return address.is_loopback or host in self._names or _is_own(address)

    async def _authenticate(self, request: Asked) -> Refusal | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            return self._refuse(401, "no token", self._how_to_authenticate, _CHALLENGE)
        peer = _source(request.remote or "")
        if self._waiting[peer] >= self._limits.failures_waiting or self._waiting.total() >= (
            self._limits.all_failures_waiting
        ):
            return self._refuse(
                429, "too many failures", "too many wrong tokens, try again later", {"Retry-After": "1"}
            )
        if self._token.matches(given.strip()):
            return None
        refusal = self._refuse(401, "wrong token", "wrong token", _CHALLENGE)
        await self._let_wait(peer)
        return refusal

    def _refuse(self, status: int, reason: str, error: str, headers: Mapping[str, str] = NO_HEADERS) -> Refusal:
        self._traffic.refuse(reason)
        return Refusal(status, error, headers)

    async def _let_wait(self, peer: str) -> None:
        """Wait, and count as waiting even when the peer hangs up: it must not guess on by doing so."""
        log.warning("request with a wrong token", peer=peer)
        self._waiting[peer] += 1
        asyncio.get_running_loop().call_later(self._limits.failure_seconds, self._waited, peer)
        await asyncio.sleep(self._limits.failure_seconds)

    def _waited(self, peer: str) -> None:
        self._waiting[peer] -= 1
        if not self._waiting[peer]:
            del self._waiting[peer]


def _comes_over_loopback(request: Asked) -> bool:
    if not is_loopback(request.remote or ""):
        return False
    return not any(map(_tells_of_a_proxy, request.headers))


@lru_cache(maxsize=256)
def _tells_of_a_proxy(header: str) -> bool:
    return _FORWARDING.fullmatch(header.lower()) is not None


def _authority(request: Asked) -> str:
    """What the request names as its host: of an absolute target that, whatever Host says (RFC 9112, section 3.2.2)."""
    scheme, absolute, rest = request.raw_path.partition("://")
    if absolute and scheme.isalpha():
        return re.split("[/?#]", rest, maxsplit=1)[0]
    return request.headers.get("Host", "")


def _is_cross_site(request: Asked, authority: str) -> bool:
    """Whether a page of another origin sent this, as browsers tell it (Fetch Metadata; RFC 6454, section 7)."""
    headers = request.headers
    site = headers.get("Sec-Fetch-Site", "none")
    if request.method in _SAFE_METHODS:
        return site in {"cross-site", "same-site"} and headers.get("Sec-Fetch-Mode") != "navigate"
    origin = headers.get("Origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != authority.lower()
    return foreign or site not in {"same-origin", "none"}


def _is_own(address: Address) -> bool:
    """Whether an interface has the address, which is when a socket can be bound to it."""
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _source(peer: str) -> str:
    address = address_of(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer

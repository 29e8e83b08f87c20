"""The listening sockets: where the agent can be reached, over TLS or not, and by how many at a time.

Connections are accepted here and not by the event loop's own server, because that one cannot refuse: a client that opens
connections, or begins TLS handshakes, and leaves them costs no more than its share of `Limits.connections`.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from novel_agent.config.schema import ServerTls
from novel_agent.errors import AgentError, ConfigError, StateError
from novel_agent.logs import get_logger
from novel_agent.serving.access import address_of
from novel_agent.serving.limits import Limits
from novel_agent.serving.traffic import Tally

log = get_logger("api")

_BACKLOG = 1024
"""Where more connect at once than fit, the kernel resets some of them."""

_ACCEPTED_AT_A_TIME = 16
"""Each is read from once before anything can be said about it; see `room`."""
_PORTS_TRIED = 10
_RESOLVE_SECONDS = 5.0
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_RESOURCES_PAUSE_SECONDS = 1.0
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_SHOWN_OF_COMMAND = 80


class Certificates:
    """The TLS side of a listener; renewed certificate files are taken up with the next connection."""

    def __init__(self, tls: ServerTls, *, section: str = "agent.tls", protocol: str = "http/1.1") -> None:
        self._tls = tls
        self._section = section
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols([protocol])
        self._signature = self._load()
        if tls.client_ca_file is not None:
            self._demand_client_certificate(tls.client_ca_file)

    def _load(self) -> object:
        signature = self._read_signature()
        try:
            self.context.load_cert_chain(self._tls.cert_file, self._tls.key_file, password="")
        except (OSError, ssl.SSLError) as error:
            reason = f"cannot be used with the key {self._tls.key_file}: {_reason(error)}"
            raise ConfigError(self._tls.cert_file, 0, f"{self._section}.cert_file", reason) from None
        return signature

    def _demand_client_certificate(self, client_ca_file: str) -> None:
        try:
            self.context.load_verify_locations(client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(client_ca_file, 0, f"{self._section}.client_ca_file", _reason(error)) from None
        self.context.verify_mode = ssl.CERT_REQUIRED

    def _read_signature(self) -> object:
        with contextlib.suppress(OSError):
            both = [os.stat(path) for path in (self._tls.cert_file, self._tls.key_file)]
            return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in both]
        return None

    def refresh(self) -> None:
        """Load the files again if they changed; where that fails, what was loaded before stays in use."""
        signature = self._read_signature()
        if signature is None or signature == self._signature:
            return
        self._signature = signature
        try:
            self._load()
            log.info("certificate read anew", path=self._tls.cert_file)
        except ConfigError as error:
            log.warning("renewed certificate unusable, the one before stays in use", reason=error)


def _reason(error: OSError | ssl.SSLError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)


class ServedProtocol(Protocol):
    """What a listener makes of each connection: an `asyncio.Protocol` that can be cut off."""

    def abort(self) -> None:
        """Close at once, whatever is under way."""


Lost = Callable[[Any], object]
"""Called by a connection, with itself, when it has ended."""


class Listener:
    """Accepts connections on every address of `HOST:PORT`."""

    def __init__(
        self,
        address: str,
        make: Callable[[Lost], ServedProtocol],
        certificates: Certificates | None,
        limits: Limits,
        traffic: Tally,
        room: Callable[[], Awaitable[None]] | None = None,
        *,
        option: str = "--listen",
    ) -> None:
        """`room` is waited for before a connection is read from; the kernel keeps what the client sends until then.

        `option` is what gives it another address, for people.
        """
        self.address = address
        self._option = option
        self._make = make
        self._certificates = certificates
        self._limits = limits
        self._traffic = traffic
        self._room = room
        self._sockets: list[socket.socket] = []
        self._connections: set[ServedProtocol] = set()
        self._handshakes: set[asyncio.Task[None]] = set()

    async def open(self, inherited: Sequence[socket.socket] = ()) -> str:
        """Listen; the URL to show. StateError where that is not possible.

        `inherited` are the sockets that another listener at the same address has given up: nothing is bound then.
        """
        host, _, port = self.address.rpartition(":")
        host = host.strip("[]")
        self._sockets = list(inherited)
        if not inherited:
            await self._bind_somewhere(host, port)
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.add_reader(each, self._accept, each)
        return self._url(host)

    def give_up_sockets(self) -> list[socket.socket]:
        """Accept nothing more; the sockets, still listening, are the caller's."""
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each)
        given, self._sockets = self._sockets, []
        return given

    async def _bind_somewhere(self, host: str, port: str) -> None:
        addresses = await self._resolve(host, int(port))
        for attempt in range(_PORTS_TRIED):
            try:
                self._bind_all(addresses, int(port), dual_stack=host == "::")
                break
            except AgentError:
                self._close_sockets()
                if int(port) or attempt == _PORTS_TRIED - 1:
                    raise

    async def _resolve(self, host: str, port: int) -> list[tuple[int, str]]:
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
        except (OSError, TimeoutError) as error:
            raise StateError(f"cannot listen on {self.address}: {_words(error)}") from None
        return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))

    def _bind_all(self, addresses: Sequence[tuple[int, str]], port: int, *, dual_stack: bool) -> None:
        """Every address at one port; where that is 0, at one the kernel finds free for the first address."""
        for family, address in addresses:
            self._bind(family, address, port, dual_stack=dual_stack)
            port = port or self._sockets[0].getsockname()[1]

    def _bind(self, family: int, address: str, port: int, *, dual_stack: bool) -> None:
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
            listening.bind((address, port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            if self._sockets and error.errno in _NOT_HERE:
                return
            raise StateError(self._cannot_listen(error, port)) from None
        self._sockets.append(listening)

    def _cannot_listen(self, error: OSError, port: int) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"{self.address} is in use by {_holder(port)}; stop that, or listen elsewhere with {self._option}"
        if error.errno == errno.EACCES:
            return f"cannot listen on {self.address}: ports below 1024 need root or CAP_NET_BIND_SERVICE"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"cannot listen on {self.address}: no interface of this machine has that address"
        return f"cannot listen on {self.address}: {_words(error)}"

    def _url(self, host: str) -> str:
        port = self._sockets[0].getsockname()[1]
        address = address_of(host)
        if not host or (address is not None and address.is_unspecified):
            host = "localhost"
        scheme = "http" if self._certificates is None else "https"
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_A_TIME):
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._pause(listening, error)
                    return
                continue  # a connection that broke before it was accepted: accept(2)
            self._take(accepted)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        log.warning("no connection can be accepted for now", reason=_words(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(_NO_RESOURCES_PAUSE_SECONDS, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def make_way(self, successor: "Listener") -> str:
        """Let another listener begin where this one is: at the same address it takes the sockets over.

        At another address of the same port the two would be in each other's way, so this one closes first, and listens
        again where the other cannot.
        """
        if self.address == successor.address:
            return await successor.open(self.give_up_sockets())
        if self.port == "0" or self.port != successor.port:
            return await successor.open()
        for each in self.give_up_sockets():
            each.close()
        try:
            return await successor.open()
        except AgentError:
            await self.open()
            raise

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted; not from when its sockets were given up."""
        return bool(self._sockets)

    @property
    def port(self) -> str:
        """Of the address as it was given."""
        return self.address.rpartition(":")[2]

    def _take(self, accepted: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections:
            self._traffic.refuse("too many connections")
            accepted.close()
            return
        connection = self._make(self._lost)
        self._connections.add(connection)
        self._traffic.connections = len(self._connections)
        task = asyncio.create_task(self._hand_over(accepted, connection), name="new connection")
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def _lost(self, connection: ServedProtocol) -> None:
        self._connections.discard(connection)
        self._traffic.connections = len(self._connections)

    async def _hand_over(self, accepted: socket.socket, connection: ServedProtocol) -> None:
        context = None
        if self._certificates is not None:
            self._certificates.refresh()
            context = self._certificates.context
        try:
            if self._room is not None:
                await self._room()
            accepted.setblocking(False)
            milliseconds = int(self._limits.write_seconds * 1000)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: cast(asyncio.BaseProtocol, connection),
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake_seconds if context else None,
            )
        except (OSError, ssl.SSLError):
            self._traffic.refuse("handshake failed")
            accepted.close()
            self._lost(connection)
        except asyncio.CancelledError:
            accepted.close()
            self._lost(connection)
            raise

    async def close(self) -> None:
        """Listen no more; connections that are up stay."""
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each)
        self._close_sockets()
        for task in list(self._handshakes):
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def abort(self) -> None:
        """Close what is still open."""
        for connection in list(self._connections):
            connection.abort()


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    pids = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
    ]
    if not any(pids):
        return "a process that this user may not see"
    pid = next(filter(None, pids))
    try:
        command = " ".join(psutil.Process(pid).cmdline()) or psutil.Process(pid).name()
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({command[:_SHOWN_OF_COMMAND]})"

"""Names to addresses, where a resolver that hangs holds up nobody else.

libc's getaddrinfo cannot be cancelled. The loop's own would run it in a pool that other lookups share and that exit waits
for; here each name has a daemon thread of its own. Whoever asks for a name that is being looked up waits for that lookup,
so hung ones are never more than names, and beyond a cap further names fail at once.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

MOST_LOOKUPS = 32


class Address(NamedTuple):
    """Where to connect a stream socket. `sockaddr` is as `socket.connect` takes it."""

    family: int
    protocol: int
    sockaddr: tuple[Any, ...]


class Lookups:
    """The lookups under way; one for the whole process."""

    def __init__(self, most: int = MOST_LOOKUPS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int, int], Future[list[Address] | OSError]] = {}

    def under_way(self) -> int:
        """How many names are being looked up, those that nobody waits for any more included."""
        return len(self._under_way)

    async def addresses(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """What the name means, best first; OSError where it means nothing. The deadline is the caller's."""
        try:
            return _look_up(host, port, family, socket.AI_NUMERICHOST)
        except OSError:  # a name
            pass
        outcome = await asyncio.shield(asyncio.wrap_future(self._lookup((host, port, family))))
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def _lookup(self, key: tuple[str, int, int]) -> Future[list[Address] | OSError]:
        with self._lock:
            lookup = self._under_way.get(key)
            if lookup is None:
                if len(self._under_way) >= self._most:
                    raise socket.gaierror(socket.EAI_AGAIN, "too many names wait for the resolver")
                lookup = self._under_way[key] = Future()
                threading.Thread(target=self._run, args=(key, lookup), name=f"resolve {key[0]}", daemon=True).start()
        return lookup

    def _run(self, key: tuple[str, int, int], lookup: Future[list[Address] | OSError]) -> None:
        outcome: list[Address] | OSError
        try:
            outcome = _look_up(*key, socket.AI_ADDRCONFIG)
        except OSError as error:
            outcome = error
        with self._lock:
            del self._under_way[key]
        lookup.set_result(outcome)


def _look_up(host: str, port: int, family: int, flags: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    except ValueError as error:  # a label longer than 63 characters, a NUL
        raise socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}") from None
    return [Address(where, protocol, sockaddr) for where, _, protocol, _, sockaddr in found]


LOOKUPS = Lookups()


class Resolver(AbstractResolver):
    """The same as aiohttp asks for it."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await LOOKUPS.addresses(host, port, family)
        return [
            {
                "hostname": host,
                "host": _numeric(address.sockaddr),
                "port": address.sockaddr[1],
                "family": address.family,
                "proto": address.protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held; a lookup under way is left to itself."""


def _numeric(sockaddr: tuple[Any, ...]) -> str:
    """The address as text, with the scope of a link-local one."""
    return socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]

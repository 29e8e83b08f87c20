"""What both receivers stand behind: their listening sockets, TLS, and who is let in."""

import asyncio
from collections.abc import Callable
from typing import Literal

from novel_agent.config.schema import Auth, OtlpReceiver
from novel_agent.inputs.otlp.admission import Admission
from novel_agent.serving.access import Access, Token, TokenFile, host_named
from novel_agent.serving.limits import Limits
from novel_agent.serving.listener import Certificates, Listener, Lost, ServedProtocol
from novel_agent.serving.traffic import Tally

_DEEP_EVERY = 256
_DEEP_APART_SECONDS = 0.1

WHOLE_BODY_BYTES = 1 << 20
FURTHER_BYTES_A_SECOND = 512 << 10
"""A body has `Limits.body_seconds` to arrive, and what is larger as many seconds more as it takes at this rate."""

_SECTION = "otlp_receiver"
_HOW_TO_AUTHENTICATE = (
    "a token is required: send `Authorization: Bearer TOKEN`; it is in the file that otlp_receiver.auth.token_file names,"
    " else the API's"
)


class Door:
    """Listens at one address for connections that `make` serves, each request of which asks `access`."""

    def __init__(
        self,
        address: str,
        config: OtlpReceiver,
        protocol: str,
        make: Callable[[Lost], ServedProtocol],
        *,
        token: Token,
        names: frozenset[str],
        counts: Tally,
        limits: Limits,
        admission: Admission,
    ) -> None:
        if isinstance(config.auth, Auth) and config.auth.token_file is not None:
            token = TokenFile(config.auth.token_file, f"{_SECTION}.auth.token_file")
        self.access = Access(
            token,
            counts,
            limits,
            authenticate=_when(config),
            names=(names | {host_named(address)}) - {""},
            how_to_authenticate=_HOW_TO_AUTHENTICATE,
        )
        tls = config.tls
        certificates = None if tls is None else Certificates(tls, section=f"{_SECTION}.tls", protocol=protocol)
        self._next_deep = 0.0
        option = f"{_SECTION}.{'grpc' if protocol == 'h2' else 'http'}"
        self.listener = Listener(address, make, certificates, limits, counts, admission.room, option=option)

    async def open(self, predecessor: "Door | None" = None) -> str:
        """Listen, with a predecessor's sockets where it has the same address; the URL."""
        if predecessor is None:
            return await self.listener.open()
        return await predecessor.listener.make_way(self.listener)

    def is_checked_deeply(self, requests: int) -> bool:
        """Whether the request that is so manieth of its connection is checked to the bottom, which takes 2 ms for 40 KB.

        The first is and every 256th, unless another was a moment ago: where everybody connects anew for each request, the
        check would otherwise cost more than all the rest.
        """
        if requests % _DEEP_EVERY != 1:
            return False
        now = asyncio.get_running_loop().time()
        if now < self._next_deep:
            return False
        self._next_deep = now + _DEEP_APART_SECONDS
        return True

    async def close(self) -> None:
        """Listen no more; connections that are up stay."""
        await self.listener.close()

    def abort(self) -> None:
        """Close what is still open."""
        self.listener.abort()


def _when(config: OtlpReceiver) -> Literal["elsewhere", "always", "never"]:
    if config.auth == "none":
        return "never"
    return "elsewhere" if config.auth is None or config.auth.token_file is None else "always"

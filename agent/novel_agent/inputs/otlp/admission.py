"""How many bytes of requests are in memory at a time, over all connections of both receivers.

Every connection has a `Share`, charged with what it has read and not yet given on. When the shares together exceed the
capacity, no connection is read from any more, so the excess is one read of one socket at the most; what was not read stays
with the kernel and its sender. The share that has been charged for longest is exempt: it can always finish, so requests that
are each half there never wait for each other. Reading goes on when a quarter of the capacity is free again; a request that
was held up for `wait_seconds` is refused as busy.
"""

import asyncio
from typing import Protocol

from novel_agent.inputs.otlp.refusal import busy

CAPACITY_BYTES = 4 << 20
WAIT_SECONDS = 5.0
_REFUSE_EVERY_SECONDS = 0.5


class Gate(Protocol):
    """A connection, as far as admission has a say."""

    def hold(self) -> None:
        """Read nothing more."""

    def let(self) -> None:
        """Read again."""

    def refuse(self) -> None:
        """End the request under way, whose rest is waited for, as busy; nothing where there is none."""


class Admission:
    """The budget of bytes, shared by all receivers."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES, wait_seconds: float = WAIT_SECONDS) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self.highest_bytes = 0
        self._resume_bytes = capacity_bytes - capacity_bytes // 4
        self._wait_seconds = wait_seconds
        self._shares: dict[Share, None] = {}
        self._charged: dict[Share, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._opened: asyncio.Future[None] | None = None
        self.is_full = False

    def share(self, gate: Gate) -> "Share":
        """A new connection's share; `Share.close` gives it back."""
        share = Share(self, gate)
        self._shares[share] = None
        if self.is_full:
            share.hold()
        return share

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            if self._opened is None:
                self._opened = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._opened)

    def is_oldest(self, share: "Share") -> bool:
        """Whether this is the share that may always go on."""
        return next(iter(self._charged), share) is share

    def changed(self, share: "Share", size_bytes: int) -> None:
        """A share grew, or shrank where negative: for `Share` alone."""
        self.held_bytes += size_bytes
        if size_bytes > 0:
            if share.size_bytes == size_bytes:
                self._charged[share] = None
            if self.held_bytes > self.highest_bytes:
                self.highest_bytes = self.held_bytes
            if self.held_bytes > self.capacity_bytes and not self.is_full:
                self._fill()
            return
        if not share.size_bytes:
            self._charged.pop(share, None)
        if self.is_full:
            self._relieve(share)

    def closed(self, share: "Share") -> None:
        """A share is gone: for `Share` alone."""
        self._shares.pop(share, None)

    def _fill(self) -> None:
        self.is_full = True
        for share in self._shares:
            if not self.is_oldest(share):
                share.hold()
        self._timer = asyncio.get_running_loop().call_later(_REFUSE_EVERY_SECONDS, self._refuse_the_held_up)

    def _relieve(self, share: "Share") -> None:
        if self.held_bytes <= self._resume_bytes:
            self.is_full = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._opened is not None:
                self._opened.set_result(None)
                self._opened = None
            for each in list(self._shares):
                each.let()
        elif self._charged:
            next(iter(self._charged)).let()
            if not share.size_bytes:
                share.hold()

    def _refuse_the_held_up(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_REFUSE_EVERY_SECONDS, self._refuse_the_held_up)
        latest = loop.time() - self._wait_seconds
        for share in list(self._charged):
            if share.held_since is not None and share.held_since <= latest:
                share.refuse()


class Share:
    """One connection's part of the budget."""

    def __init__(self, admission: Admission, gate: Gate) -> None:
        self._admission = admission
        self._gate = gate
        self._waiters: set[asyncio.Future[None]] = set()
        self.size_bytes = 0
        self.held_since: float | None = None
        """When reading was last stopped; None while it goes on."""

    def charge(self, size_bytes: int) -> None:
        """So many bytes more are in memory."""
        if size_bytes:
            self.size_bytes += size_bytes
            self._admission.changed(self, size_bytes)

    def discharge(self, size_bytes: int) -> None:
        """So many are gone again; never more than were charged."""
        size_bytes = min(size_bytes, self.size_bytes)
        if size_bytes:
            self.size_bytes -= size_bytes
            self._admission.changed(self, -size_bytes)

    async def room(self) -> None:
        """Wait until more may be taken into memory; Refused where that takes too long."""
        while self.held_since is not None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def hold(self) -> None:
        """Stop reading."""
        if self.held_since is None:
            self.held_since = asyncio.get_running_loop().time()
            self._gate.hold()

    def let(self) -> None:
        """Read again."""
        if self.held_since is not None:
            self.held_since = None
            self._gate.let()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def refuse(self) -> None:
        """Held up for too long."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(busy())
        self._gate.refuse()

    def close(self) -> None:
        """The connection has ended."""
        self.discharge(self.size_bytes)
        self._admission.closed(self)
        for waiter in self._waiters:
            waiter.cancel()


class Part:
    """One call's part of a connection's share, where several calls are under way on it."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.room = share.room
        self.size_bytes = 0

    def charge(self, size_bytes: int) -> None:
        """So many bytes more are in memory."""
        self.size_bytes += size_bytes
        self._share.charge(size_bytes)

    def discharge(self, size_bytes: int) -> None:
        """So many are gone again; never more than were charged."""
        size_bytes = min(size_bytes, self.size_bytes)
        self.size_bytes -= size_bytes
        self._share.discharge(size_bytes)

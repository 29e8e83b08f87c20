"""The receivers there are, by the configuration."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from novel_agent.config.schema import Config, OtlpReceiver
from novel_agent.logs import get_logger
from novel_agent.model.metric import Block
from novel_agent.serving.access import Token, host_named, own_names

log = get_logger("receiver")

STOP_SECONDS = 3.0
_SPILL_DIRECTORY = "incoming"


class Prepared(NamedTuple):
    """Receivers that listen and are not in place yet, and their URLs, by transport."""

    made_of: object
    receivers: dict[str, Any]
    addresses: dict[str, str]


class Receiving:
    """OTLP over HTTP and gRPC, each listening where it is configured to. The modules are loaded when one is."""

    def __init__(self, deliver: Any, token: Token, state_directory: str) -> None:
        self._deliver = deliver
        self._token = token
        self._spill_directory = os.path.join(state_directory, _SPILL_DIRECTORY)
        self._made_of: object = None
        self._here: dict[str, Any] = {}
        self._counts: Any = None
        self._admission: Any = None
        self.addresses: dict[str, str] = {}
        """URL by transport."""

    async def prepare(self, config: Config) -> "Prepared":
        """Make and start what a configuration wants; AgentError, and those before go on, where one cannot listen.

        From here on the new ones take what comes. `commit` ends those before; `discard` gives them their sockets back.
        """
        prepared = Prepared((config.otlp_receiver, config.agent.allowed_hosts), {}, {})
        if prepared.made_of == self._made_of:
            return Prepared(self._made_of, self._here, self.addresses)
        try:
            for transport, receiver in self._wanted(config).items():
                prepared.receivers[transport] = receiver
                prepared.addresses[transport] = await receiver.start(self._here.get(transport))
        except BaseException:
            await self.discard(prepared)
            raise
        return prepared

    async def discard(self, prepared: "Prepared") -> None:
        """Let go of what `prepare` made."""
        if prepared.receivers is self._here:
            return
        for transport, receiver in prepared.receivers.items():
            before = self._here.get(transport)
            if before is not None and not before.door.listener.is_listening:
                await before.door.open(receiver.door)
            await receiver.stop(0.0)

    async def commit(self, prepared: "Prepared") -> None:
        """Put them in place; those before answer what they were asked within a few seconds."""
        before, self._here, self._made_of = self._here, prepared.receivers, prepared.made_of
        self.addresses = prepared.addresses
        if before is self._here:
            return
        for each in before.values():
            await each.stop(STOP_SECONDS)
        if self.addresses:
            log.info("receiving", **self.addresses)

    def _wanted(self, config: Config) -> dict[str, Any]:
        receiver = config.otlp_receiver
        if receiver.http is None and receiver.grpc is None:
            return {}
        from novel_agent.inputs.otlp.admission import Admission
        from novel_agent.inputs.otlp.counts import Counts

        self._counts = self._counts or Counts()
        self._admission = self._admission or Admission()
        os.makedirs(self._spill_directory, mode=0o700, exist_ok=True)
        shared = {
            "admission": self._admission,
            "counts": self._counts,
            "token": self._token,
            "names": frozenset({*own_names(), *map(host_named, config.agent.allowed_hosts)}),
            "spill_directory": self._spill_directory,
        }
        return self._made(receiver, shared)

    def _made(self, receiver: OtlpReceiver, shared: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if receiver.http is not None:
            from novel_agent.inputs.otlp.http import OtlpHttpReceiver

            made["http"] = OtlpHttpReceiver(receiver, self._deliver, **shared)
        if receiver.grpc is not None:
            from novel_agent.inputs.otlp.grpc import OtlpGrpcReceiver

            made["grpc"] = OtlpGrpcReceiver(receiver, self._deliver, **shared)
        return made

    async def stop(self) -> None:
        """Take nothing more; requests under way are answered within a few seconds."""
        here, self._here, self._made_of = self._here, {}, None
        for each in here.values():
            await each.stop(STOP_SECONDS)

    def status(self) -> dict[str, Any]:
        """By transport."""
        return self._counts.status() if self._counts is not None else {}

    def blocks(self) -> Sequence[Block]:
        """The receivers as series."""
        if self._counts is None:
            return []
        return self._counts.blocks(self._admission.held_bytes)  # type: ignore[no-any-return]

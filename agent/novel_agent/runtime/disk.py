"""What the agent's queues have of the disk: a directory each in the state directory, and the threads that may block on it."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakSet

from novel_agent.config.schema import Config, Export
from novel_agent.runtime import tail
from novel_agent.state.spool import Durability, Spool, spool_directory

_THREADS = 4
"""Of calls that end: an fsync for each signal, and the reading of a backlog, may be under way."""


class Disk:
    """Makes spools; those that were made follow a change of `durability`."""

    def __init__(self, state_directory: str) -> None:
        self._state_directory = state_directory
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="spool")
        """For calls that end."""
        self._durability: Durability = "fsync"
        self._made: WeakSet[Spool] = WeakSet()

    def configure(self, config: Config) -> None:
        """Make data as durable as configured from now on."""
        self._durability = config.otlp_receiver.durability
        for spool in self._made:
            spool.durability = self._durability

    def spool_of(self, export: Export) -> Spool:
        """The spool of a destination, not open."""
        return self._make(
            Spool(
                spool_directory(self._state_directory, spool_name(export)),
                export.spool.size_bytes,
                executor=self.executor,
                now=time.time,
                durability=self._durability,
                when_full=export.spool.when_full,
            )
        )

    def spool_of_spans(self) -> Spool:
        """Where spans wait for their traces to be decided, not open."""
        return self._make(
            Spool(
                tail.directory(self._state_directory),
                tail.CAPACITY_BYTES,
                executor=self.executor,
                now=time.time,
                durability=self._durability,
                when_full="block",
            )
        )

    def holds_spans(self) -> bool:
        """Whether spans were left waiting by an agent that sampled whole traces."""
        return os.path.isdir(tail.directory(self._state_directory))

    def _make(self, spool: Spool) -> Spool:
        self._made.add(spool)
        return spool

    def close(self) -> None:
        """End the threads; after every spool was closed."""
        self.executor.shutdown(wait=False)


def spool_name(export: Export) -> str:
    """What a destination's spool goes by: its name, and apart from that where other things than OTLP wait for it."""
    return export.name if export.type != "prometheus_remote_write" else f"{export.name}@remote_write"

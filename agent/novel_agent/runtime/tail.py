"""Tail sampling: spans wait, on disk, until their whole trace can be judged.

What arrives goes into a spool of its own and is answered for once it is safe there. The task here takes it out, shows it to
the sampler, publishes what is kept when a trace is decided, and only then lets go of what it came in. After a crash what was
not settled is judged again: spans may be sent twice, none is lost.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from novel_agent.config.schema import Traces
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Shape
from novel_agent.processors.patterns import compile_re
from novel_agent.processors.tail_sampling import Decided, TailSampler
from novel_agent.runtime.spans import UNREADABLE, linear
from novel_agent.state.queue import Lease, QueueFull, joined
from novel_agent.state.spool import Spool
from novel_agent.wire.protobuf import WireError

DIRECTORY = "tail"
CAPACITY_BYTES = 256 << 20
_FULL_PAUSE_SECONDS = 0.5
_NOTHING = Batch("traces", b"", 0)

WAITING = Family("novel_agent_traces_waiting", "Traces that wait to be decided by tail sampling.")
WAITING_BYTES = Family("novel_agent_traces_waiting_bytes", "Memory that they take.")
EARLY = Family(
    "novel_agent_traces_decided_early_total", "Traces decided before their time, for want of memory.", "counter"
)
LATE = Family("novel_agent_traces_late_spans_total", "Spans that came after their trace was decided.", "counter")

log = get_logger("traces")

_SHAPE = Shape([WAITING.series(), WAITING_BYTES.series(), EARLY.series(), LATE.series()])

Publish = Callable[[Batch], Awaitable[None]]


class Drops(Protocol):
    """Counts spans by reason."""

    def __getitem__(self, reason: str) -> int: ...

    def __setitem__(self, reason: str, count: int) -> None: ...


class TailSampling:
    """The spool, the sampler and the task between them. Without rules every trace is kept, which empties the spool."""

    def __init__(
        self,
        traces: Traces,
        spool: Spool,
        publish: Publish,
        dropped: Drops,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spool = spool
        self.made_of = tail_settings(traces)
        self._traces = traces
        self.sampler = _sampler(traces)
        self._keeps_all = not traces.tail_sampling
        self._publish = publish
        self._dropped = dropped
        self._now = now

    def blocks(self) -> list[Block]:
        """The sampler as series."""
        sampler = self.sampler
        return [Block(_SHAPE, (sampler.waiting_traces, sampler.size_bytes, sampler.early, sampler.late))]

    async def put(self, batch: Batch) -> None:
        """Take spans; returns when they are safe. QueueFull where there is no room."""
        if batch.payload:
            await self.spool.put(batch)

    async def run(self) -> None:
        """Judge what comes, for ever; where every trace is kept, until nothing is left."""
        while not (self._keeps_all and self.spool.size_bytes == 0):
            await self._wait()
            lease = await self.spool.take()
            if lease is not None:
                await self._show(lease)
            due = self.sampler.next_decision_at
            if due is not None and due <= self._now():
                await self._settle(self.sampler.decide(self._now()))

    async def _wait(self) -> None:
        """Until there is something to take or to decide."""
        due = self.sampler.next_decision_at
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self._now())):
                await self.spool.ready()
        except TimeoutError:
            pass

    async def _show(self, lease: Lease) -> None:
        if self._keeps_all:
            await self._pass_on(lease.batch)
            self.spool.acknowledge(lease)
            return
        handle = Lease(lease.number, _NOTHING, ())  # the sampler has the bytes it needs, and bounds them
        try:
            self.sampler.add(lease.batch.payload, self._now(), handle)
        except WireError:
            self._show_readable(lease, handle)

    def _show_readable(self, lease: Lease, handle: Lease) -> None:
        """What different clients sent is in one lease: only those batches are dropped that cannot be read by themselves."""
        readable: list[Batch] = []
        trial = _sampler(self._traces)
        for part in lease.parts[:]:  # made at once
            try:
                trial.add(part.payload, 0.0, None)
            except WireError as error:
                log.warning("spans that cannot be read, dropped", reason=error, items=part.items)
                self._dropped[UNREADABLE] += part.items
            else:
                readable.append(part)
        if readable:
            self.sampler.add(joined(readable).payload, self._now(), handle)
        else:
            self.spool.acknowledge(lease)

    async def _settle(self, decided: Decided) -> None:
        try:
            for batch in decided.batches:
                await self._pass_on(batch)
        except BaseException:  # cancelled, or a fault: judged again, so that none is lost
            for token in decided.settled:
                assert isinstance(token, Lease)
                self.spool.give_back(token)
            raise
        for rule, spans in decided.dropped.items():
            self._dropped[f"tail_sampling {rule}"] += spans
        for token in decided.settled:
            assert isinstance(token, Lease)
            self.spool.acknowledge(token)

    async def _pass_on(self, batch: Batch) -> None:
        """Publish, however long a full destination takes to have room again; until then nothing more is taken in."""
        while True:
            try:
                await self._publish(batch)
                return
            except QueueFull:
                await asyncio.sleep(_FULL_PAUSE_SECONDS)


def _sampler(traces: Traces) -> TailSampler:
    compile_regex = linear if any(rule.attributes for rule in traces.tail_sampling) else compile_re
    return TailSampler(traces.tail_sampling, traces.tail_wait_seconds, traces.tail_memory_bytes, compile_regex)


def tail_settings(traces: Traces) -> object:
    """What tail sampling is made of."""
    return traces.tail_sampling, traces.tail_wait_seconds, traces.tail_memory_bytes


def directory(state_directory: str) -> str:
    """Where the spans wait."""
    return os.path.join(state_directory, DIRECTORY)

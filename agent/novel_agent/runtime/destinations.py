"""The destinations there are: each export of the configuration with its spool, its output and its exporter.

A destination is made, kept or taken down by name. One whose settings did not change in a reload goes on undisturbed; one that
changed hands its spool and its counts over to its successor, so that correcting a wrong token loses nothing; one that is gone
has a few seconds to deliver what it holds, and the rest stays in its spool on disk, where `novel-agent queue` finds it and
the same name takes it up again.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from urllib.parse import urlsplit

from novel_agent import registry
from novel_agent.config.schema import TAKES, Config, Export
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch, Signal
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.runtime.exporting import LINGER_SECONDS, Exporter
from novel_agent.runtime.status import DestinationStatus
from novel_agent.runtime.supervise import Supervisor
from novel_agent.runtime.tap import Tap
from novel_agent.state.queue import FULL, QueueFull
from novel_agent.state.spool import Spool

log = get_logger("forward")

CHANGE_SECONDS = 5.0

_BY_NAME = ("destination",)
QUEUE_BYTES = Family("novel_agent_export_queue_bytes", "Bytes waiting for a destination.", "gauge", _BY_NAME)
QUEUE_CAPACITY = Family("novel_agent_export_queue_capacity_bytes", "Most bytes that may wait.", "gauge", _BY_NAME)
QUEUE_ITEMS = Family("novel_agent_export_queue_items", "Data points, log records and spans waiting.", "gauge", _BY_NAME)
QUEUE_IN_MEMORY = Family(
    "novel_agent_export_queue_in_memory", "1 while the spool cannot be written and data waits in memory.", "gauge",
    _BY_NAME,
)  # fmt: skip
QUEUE_AGE = Family(
    "novel_agent_export_queue_oldest_age_seconds", "Age of the oldest data that waits; 0 for none.", "gauge", _BY_NAME
)
DAMAGED = Family(
    "novel_agent_export_queue_damaged_bytes_total", "Bytes of the spool that could not be read back.", "counter",
    _BY_NAME,
)  # fmt: skip
REQUESTS = Family("novel_agent_export_requests_total", "Requests answered well.", "counter", _BY_NAME)
FAILED = Family("novel_agent_export_failed_requests_total", "Requests not answered well.", "counter", _BY_NAME)
RETRIES = Family("novel_agent_export_retries_total", "Requests after one that failed.", "counter", _BY_NAME)
SENT_BYTES = Family("novel_agent_export_sent_bytes_total", "Bytes of request bodies, as sent.", "counter", _BY_NAME)
UNDER_WAY = Family("novel_agent_export_requests_under_way", "Requests that wait for an answer.", "gauge", _BY_NAME)
WINDOW = Family(
    "novel_agent_export_concurrency_limit", "Requests that may be under way; follows the answers.", "gauge", _BY_NAME
)
LAST_SUCCESS = Family(
    "novel_agent_export_last_success_timestamp_seconds", "When a request was last answered well; 0 for never.", "gauge",
    _BY_NAME,
)  # fmt: skip
SENT = Family("novel_agent_export_sent_items_total", "Items a destination took.", "counter", ("destination", "signal"))
DROPPED = Family(
    "novel_agent_export_dropped_items_total",
    "Items that never reached a destination or that it refused, by reason.",
    "counter",
    ("destination", "signal", "reason"),
)
UNCLAIMED = Family(
    "novel_agent_received_unclaimed_items_total", "Items received of signals that no destination takes.", "counter",
    ("signal",),
)  # fmt: skip
_PER_DESTINATION = (
    QUEUE_BYTES, QUEUE_CAPACITY, QUEUE_ITEMS, QUEUE_IN_MEMORY, QUEUE_AGE, DAMAGED, REQUESTS, FAILED, RETRIES, SENT_BYTES,
    UNDER_WAY, WINDOW, LAST_SUCCESS,
)  # fmt: skip

_serial = itertools.count(1)

MakeSpool = Callable[[Export], Spool]


class Destination:
    """One configured export and the exporter that serves it; `before` is the one whose place it takes.

    `task_name` is its own among all there ever are: one that leaves and one that comes may have the same name for a while.
    """

    def __init__(self, export: Export, make_spool: MakeSpool, before: "Destination | None" = None) -> None:
        self.export = export
        self.before = before
        self.task_name = f"export {export.name} #{next(_serial)}"
        self.closing = asyncio.Lock()
        output = registry.load(registry.OUTPUTS[export.type])(export)
        self.spool: Spool = before.spool if before is not None else make_spool(export)
        takes: list[Signal] = [signal for signal in export.signals if signal in TAKES[export.type]]
        concurrency = 1 if output.in_order else export.concurrency
        self.exporter = Exporter(
            export.name,
            output,
            self.spool,
            signals=takes,
            concurrency=concurrency,
            is_otlp=takes_otlp(export),
            linger_seconds=LINGER_SECONDS,
        )
        if before is not None:
            self.exporter.statistics = before.exporter.statistics

    @property
    def takes_otlp(self) -> bool:
        """Whether it is given OTLP; otherwise it is given series under the names of /metrics."""
        return takes_otlp(self.export)


class Destinations:
    """Every destination, by name, and those that are leaving."""

    def __init__(self, supervisor: Supervisor, make_spool: MakeSpool) -> None:
        self._supervisor = supervisor
        self._make_spool = make_spool
        self._here: dict[str, Destination] = {}
        self._leaving: dict[str, Destination] = {}
        self._lost_by_gone: Counter[tuple[str, ...]] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        self.unclaimed: Counter[Signal] = Counter()
        """Items received of signals that no destination takes."""
        self._shapes = ShapeMemo()
        self.tap = Tap()
        """What is published over OTLP is offered here by who publishes it, who knows what input it came through."""

    def __iter__(self) -> "itertools.chain[Destination]":
        return itertools.chain(self._here.values())

    async def prepare(self, config: Config) -> list[Destination]:
        """Make and start what a configuration wants and is not there yet. AgentError, and nothing changed, where one cannot be.

        `commit` puts them in place; `discard` is for when it does not come to that.
        """
        fresh: list[Destination] = []
        try:
            for export in config.export:
                before = self._here.get(export.name)
                if before is None or before.export != export:
                    if before is not None and before.takes_otlp is not takes_otlp(export):
                        before = None  # what waits for it is not what this one sends: it leaves, with its spool
                    fresh.append(Destination(export, self._make_spool, before))
                    await fresh[-1].exporter.output.start()
        except BaseException:
            await self.discard(fresh)
            raise
        return fresh

    async def discard(self, fresh: Sequence[Destination]) -> None:
        """Let go of what `prepare` made."""
        await asyncio.gather(*(destination.exporter.output.stop() for destination in fresh))

    async def commit(self, config: Config, fresh: Sequence[Destination]) -> None:
        """Make the destinations those of this configuration; cannot fail."""
        wanted = [export.name for export in config.export]
        for destination in fresh:  # before the old ones go: what is published meanwhile finds somebody who takes it
            await self._put_in_place(destination)
        for name in [name for name in self._here if name not in wanted]:
            self._take_down(self._here.pop(name))
        self._here = {name: self._here[name] for name in wanted}

    async def _put_in_place(self, destination: Destination) -> None:
        """Hand the spool over: what waits goes out under the new settings, and what is on its way is sent again."""
        before, destination.before = destination.before, None
        if before is not None:
            await self._supervisor.stop(before.task_name)
            await before.exporter.output.stop()
            destination.spool.resize(destination.export.spool.size_bytes)
            destination.spool.when_full = destination.export.spool.when_full
        else:
            await self._gone_before(destination)
            await destination.spool.open()
            replaced = self._here.get(destination.export.name)
            if replaced is not None:
                self._take_down(replaced)
        self._here[destination.export.name] = destination
        self._supervisor.start(destination.task_name, destination.exporter.run)

    async def _gone_before(self, destination: Destination) -> None:
        """One of the same name that is still leaving has the spool's files open: it leaves at once."""
        for leaving in list(self._leaving.values()):
            if leaving.spool.directory == destination.spool.directory:
                await self._close(leaving)

    def _take_down(self, destination: Destination) -> None:
        """A destination nobody wants any more delivers what it holds, within a deadline, beside the others."""
        self._leaving[destination.task_name] = destination
        self._run_beside(self._let_go(destination), f"leaving: {destination.task_name}")

    async def _let_go(self, destination: Destination) -> None:
        try:
            await destination.exporter.drain(CHANGE_SECONDS)
        finally:
            await self._close(destination)

    async def _close(self, destination: Destination) -> None:
        """Returns when its spool is closed, whoever else is closing it: somebody may wait to open it anew."""
        async with destination.closing:
            if destination.task_name not in self._leaving:
                return
            await destination.exporter.drain(0.0)
            await self._supervisor.stop(destination.task_name)
            await destination.exporter.output.stop()
            left_bytes = destination.spool.size_bytes
            await destination.spool.close()
            if left_bytes:
                log.warning(
                    "destination removed before all was delivered, the rest stays in its spool",
                    destination=destination.export.name,
                    bytes=left_bytes,
                )
            self._lost_by_gone.update(_dropped([destination]))
            del self._leaving[destination.task_name]

    def _run_beside(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def refuse_if_full(self, signal: Signal, size_bytes: int) -> None:
        """QueueFull where a destination that takes what arrives, and is told to block, has no room for so many bytes."""
        for destination in self._takers(signal, otlp=True):
            if destination.export.spool.when_full == "block" and not destination.spool.has_room(size_bytes):
                raise QueueFull(f"the spool of {destination.export.name} is full")

    def _takers(self, signal: Signal, *, otlp: bool) -> list[Destination]:
        return [
            each
            for each in self._here.values()
            if signal in each.exporter.signals and (each.takes_otlp is otlp or signal != "metrics")
        ]

    async def publish(self, batch: Batch, *, durable: bool = False, otlp: bool = True) -> None:
        """Put a batch into every spool that takes it; its bytes are shared.

        With `durable`, returns when it is as safe in each as configured; QueueFull where one that blocks, or every one,
        cannot hold it. One of several that cannot, though it may drop, loses it and counts that: it holds up nobody. `otlp`
        False is for series under the names of /metrics, which go to the destinations that do not take OTLP.
        """
        takers = self._takers(batch.signal, otlp=otlp)
        if len(takers) == 1:
            await takers[0].exporter.put(batch, durable=durable)
        elif takers:
            puts = (each.exporter.put(batch, durable=durable) for each in takers)
            self._judge(batch, takers, await asyncio.gather(*puts, return_exceptions=True))
        elif durable and not any(batch.signal in each.exporter.signals for each in self._here.values()):
            self.unclaimed[batch.signal] += batch.items

    @staticmethod
    def _judge(batch: Batch, takers: Sequence[Destination], results: Sequence[BaseException | None]) -> None:
        """Raise what must be said to whoever sent the batch."""
        refusals = 0
        for taker, result in zip(takers, results, strict=True):
            refusals += isinstance(result, QueueFull)
            if result is not None and (not isinstance(result, QueueFull) or taker.export.spool.when_full == "block"):
                raise result
        for taker, result in zip(takers, results, strict=True):
            if result is not None:
                if refusals == len(takers):
                    raise result
                taker.spool.dropped[batch.signal, FULL] += batch.items

    async def drain(self, deadline_seconds: float) -> None:
        """Deliver what is queued, each destination within the deadline; what is left stays in its spool."""
        everyone = [*self._here.values(), *self._leaving.values()]
        await asyncio.gather(*(destination.exporter.drain(deadline_seconds) for destination in everyone))

    async def stop(self) -> None:
        """Close every connection and every spool; after `drain`."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for destination in [*self._here.values(), *self._leaving.values()]:
            await self._supervisor.stop(destination.task_name)
            await destination.exporter.output.stop()
            await destination.spool.close()

    # what can be asked ------------------------------------------------------------------------------------------------

    def status(self) -> list[DestinationStatus]:
        """Each destination, in the order of the configuration, and those that are leaving."""
        return [_status(destination) for destination in (*self._here.values(), *self._leaving.values())]

    def blocks(self) -> Sequence[Block]:
        """The destinations as series."""
        destinations = list(self._here.values())
        names = tuple(each.export.name for each in destinations)
        shape = self._shapes.get(
            "destinations", names, lambda: [family.series(name) for family in _PER_DESTINATION for name in names]
        )
        rows = [_figures(each) for each in destinations]
        return [
            Block(shape, [row[index] for index in range(len(_PER_DESTINATION)) for row in rows]),
            self._counted("sent", SENT, _sent(destinations)),
            self._counted("unclaimed", UNCLAIMED, {(signal,): count for signal, count in self.unclaimed.items()}),
            self._counted("dropped", DROPPED, self._lost_by_gone + self._lost(destinations)),
        ]

    def _lost(self, destinations: Sequence[Destination]) -> Counter[tuple[str, ...]]:
        return Counter(_dropped(destinations)) + Counter(_dropped(list(self._leaving.values())))

    def _counted(self, slot: str, family: Family, counts: Mapping[tuple[str, ...], int]) -> Block:
        shape = self._shapes.get(slot, tuple(counts), lambda: [family.series(*labels) for labels in counts])
        return Block(shape, list(counts.values()))


def takes_otlp(export: Export) -> bool:
    """Whether what waits for it is OTLP; else series under the names of /metrics."""
    return export.type != "prometheus_remote_write"


def _figures(destination: Destination) -> tuple[int | float, ...]:
    exporter, spool, statistics = destination.exporter, destination.spool, destination.exporter.statistics
    return (
        spool.size_bytes,
        destination.export.spool.size_bytes,
        spool.items,
        int(spool.in_memory),
        round(spool.oldest_age_seconds, 3),
        spool.damaged_bytes,
        statistics.sent_requests,
        statistics.failed_requests,
        statistics.retries,
        statistics.sent_bytes,
        exporter.under_way,
        exporter.window.limit,
        statistics.last_success_at or 0,
    )


def _sent(destinations: Sequence[Destination]) -> dict[tuple[str, ...], int]:
    return {
        (each.export.name, signal): count
        for each in destinations
        for signal, count in each.exporter.statistics.sent_items.items()
    }


def _dropped(destinations: Sequence[Destination]) -> dict[tuple[str, ...], int]:
    return {
        (each.export.name, signal, reason): count
        for each in destinations
        for lost in (each.spool.dropped, each.exporter.statistics.rejected_items)
        for (signal, reason), count in lost.items()
    }


def _by_reason(lost: Mapping[tuple[Signal, str], int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, reason), count in lost.items():
        counts[reason] = counts.get(reason, 0) + count
    return counts


def _status(destination: Destination) -> DestinationStatus:
    export, exporter, spool = destination.export, destination.exporter, destination.spool
    statistics = exporter.statistics
    return DestinationStatus(
        name=export.name,
        type=export.type,
        endpoint=without_credentials(export.url) if export.url else export.where,
        protocol=export.protocol if export.type == "otlp" else export.type,
        state=exporter.state,
        queue_items=spool.items,
        queue_bytes=spool.size_bytes,
        queue_capacity_bytes=export.spool.size_bytes,
        queue_in_memory=spool.in_memory,
        queue_oldest_age_seconds=spool.oldest_age_seconds,
        damaged_bytes=spool.damaged_bytes,
        requests_under_way=exporter.under_way,
        concurrency_limit=exporter.window.limit,
        sent_items=dict(statistics.sent_items.items()),
        sent_requests=statistics.sent_requests,
        sent_bytes=statistics.sent_bytes,
        failed_requests=statistics.failed_requests,
        retries=statistics.retries,
        rejected_items=_by_reason(statistics.rejected_items),
        dropped_items=_by_reason(spool.dropped),
        last_success_at=statistics.last_success_at,
        last_error=statistics.last_error,
        last_error_at=statistics.last_error_at,
        retry_in_seconds=exporter.retry_in_seconds,
    )


def without_credentials(endpoint: str) -> str:
    """A URL without the user, the password and the query that may stand in it."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

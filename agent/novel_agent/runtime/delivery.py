"""What becomes of a batch that a receiver took: refused while there is no room, enriched, worked on, made durable.

Nothing here decodes unless a configured step must. What is refused is refused before anything is counted or kept, so that a
client that sends it again is not counted twice.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from novel_agent.config.schema import Config
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, ShapeMemo
from novel_agent.model.resource import Resource
from novel_agent.outputs.recent_traces import RecentTraces
from novel_agent.processors.received_metrics import ReceivedMetrics
from novel_agent.runtime.destinations import Destinations
from novel_agent.runtime.spans import SpanPipeline
from novel_agent.runtime.tail import TailSampling
from novel_agent.state.queue import QueueFull
from novel_agent.wire.otlp import attribute
from novel_agent.wire.otlp_enrich import Enricher

log = get_logger("receiver")

SOURCE = "otlp"
"""What was received is called so where inputs are told apart."""

SHOWN_SERIES = Family("novel_agent_received_metrics_series", "Series received over OTLP that /metrics shows.")
REFUSED_POINTS = Family(
    "novel_agent_received_metrics_refused_points_total", "Points received over OTLP that are forwarded but not shown.",
    "counter", ("reason",),
)  # fmt: skip
RENAMED = Family(
    "novel_agent_received_metrics_renamed", "1 for each family that is shown under another name, because its own was taken.",
    "gauge", ("wanted", "shown"),
)  # fmt: skip

_LATEST_SECONDS = 3600.0
"""How far ahead of this clock a point may be."""

Result = TypeVar("Result")

_OF_THE_HOST = ("cloud.", "host.", "k8s.cluster.", "k8s.node.", "os.")
"""What holds for everything on this host; its container, pod or process is the sender's to say."""


_OF_SPANS = frozenset({"traces_span_metrics_.*", "traces_service_graph_.*"})
"""What the agent makes of spans; reserved for that."""


class Delivery:
    """The way in for everything received, as configured by `configure`. An `inputs.otlp` `Deliver`."""

    def __init__(
        self,
        destinations: Destinations,
        resource: Callable[[], Resource],
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destinations = destinations
        self._resource = resource
        self._now = now
        self._steady = steady
        self._shapes = ShapeMemo()
        self._configured: dict[str, str] = {}
        self._enriched_for: object = None
        self._enrich: Callable[[bytes], bytes] = lambda payload: payload
        self.spans: SpanPipeline | None = None
        self.recent: RecentTraces | None = None
        self._reserved: object = None
        self.received = ReceivedMetrics((), _OF_SPANS)
        self.tail: TailSampling | None = None

    def configure(self, config: Config) -> None:
        """Work as this configuration says; what it measures and keeps goes on where it can."""
        self._configured = config.resource.attributes
        self._enriched_for = None
        self.spans = SpanPipeline(config.traces, self.spans)
        capacity_bytes = config.traces.recent_bytes
        if not capacity_bytes:
            self.recent = None
        elif self.recent is None:
            self.recent = RecentTraces(capacity_bytes)
        else:
            self.recent.resize(capacity_bytes)

    def reserve(self, names: frozenset[str], patterns: frozenset[str]) -> None:
        """The families of the agent's own, which what is received must not be taken for; where they change, shown anew."""
        if (names, patterns) != self._reserved:
            self._reserved = (names, patterns)
            self.received = ReceivedMetrics(names, patterns | _OF_SPANS)

    async def __call__(self, batch: Batch) -> None:
        """Returns when it is as safe as configured.

        QueueFull where a destination that blocks is full, WireError where a resource is not well formed: nothing was done.
        """
        payload = self._enriched(batch.payload)
        if payload is not batch.payload:
            batch = Batch(batch.signal, payload, batch.items)
        self._refuse_if_full(batch)
        if batch.signal == "traces":
            await self._deliver_spans(batch)
            return
        if batch.signal == "metrics":
            await self._show(batch)
        await self._destinations.publish(batch, durable=True)
        self._destinations.tap.offer(batch, SOURCE)

    def _refuse_if_full(self, batch: Batch) -> None:
        if batch.signal == "traces" and self.tail is not None:
            if not self.tail.spool.has_room(len(batch.payload)):
                raise QueueFull("too many spans wait for their traces to be decided")
            return
        self._destinations.refuse_if_full(batch.signal, len(batch.payload))

    async def _deliver_spans(self, batch: Batch) -> None:
        assert self.spans is not None
        spans = self.spans
        batch = await _in_turns(spans.looking(batch, self._now()))
        if self.recent is not None and batch.payload:
            self.recent.add(batch.payload, self._now())
        batch = spans.choose(batch)
        if self.tail is not None:
            await self.tail.put(batch)
        else:
            await self._destinations.publish(batch, durable=True)
        self._destinations.tap.offer(batch, SOURCE)

    async def _show(self, batch: Batch) -> None:
        latest_unix_nano = round((self._now() + _LATEST_SECONDS) * 1e9)
        try:
            for _ in self.received.taking(batch.payload, self._steady(), latest_unix_nano):
                await asyncio.sleep(0)
        except ValueError as error:  # WireError, or numbers that do not fit each other
            log.warning("metrics that cannot be read are forwarded but not shown", reason=error)

    def _enriched(self, payload: bytes) -> bytes:
        resource = self._resource()
        if resource is not self._enriched_for:
            self._enriched_for = resource
            self._enrich = Enricher([(label[0], attribute(label)) for label in self._attributes(resource)])
        return self._enrich(payload)

    def _attributes(self, resource: Resource) -> Sequence[tuple[str, str]]:
        return [
            label for label in resource.attributes if label[0] in self._configured or label[0].startswith(_OF_THE_HOST)
        ]

    @property
    def renamed(self) -> dict[str, str]:
        """Families received that are shown under another name, by the name they came under."""
        return self.received.statistics.renamed

    def _about_received(self) -> Block:
        statistics = self.received.statistics
        reasons, renamed = tuple(sorted(statistics.refused)), tuple(sorted(statistics.renamed.items()))
        shape = self._shapes.get(
            "received",
            (reasons, renamed),
            lambda: [
                SHOWN_SERIES.series(),
                *(REFUSED_POINTS.series(reason) for reason in reasons),
                *(RENAMED.series(*each) for each in renamed),
            ],
        )
        refused = [statistics.refused[reason] for reason in reasons]
        return Block(shape, [statistics.series, *refused, *[1] * len(renamed)])

    def measured(self, now_nanos: int) -> Sequence[Batch]:
        """Metrics made of traces, as OTLP."""
        return self.spans.measured(now_nanos) if self.spans is not None else ()

    def blocks(self) -> list[Block]:
        """What was received and what was made of it, as series."""
        now = self._now()
        return [
            *self.received.blocks(self._steady()),
            self._about_received(),
            *(self.spans.blocks(now) if self.spans is not None else ()),
            *(self.tail.blocks() if self.tail is not None else ()),
        ]


async def _in_turns(work: Generator[None, None, Result]) -> Result:
    """What the work gives, others having a turn wherever it yields."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        await asyncio.sleep(0)

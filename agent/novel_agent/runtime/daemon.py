"""The daemon: builds what the configuration asks for, runs it, changes it on reload, and takes it down in order.

Start: state directory, destinations, inputs and schedules, the HTTP front end, READY. Stop: the schedules, one last delivery
within a deadline, the front end, the inputs, the destinations. A reload loads and checks first; only a valid configuration
is built. An input or a destination whose settings did not change is left running, one that changed keeps its queue.
"""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from novel_agent import __version__
from novel_agent.config.model import Loaded, Sources
from novel_agent.config.schema import Config
from novel_agent.errors import AgentError, ConfigErrors
from novel_agent.logs import get_logger
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block
from novel_agent.outputs.recent_traces import RecentTraces
from novel_agent.runtime.budget import CHECK_SECONDS, BudgetWatch
from novel_agent.runtime.build import input_names, make_isolation, make_sampler, make_watched, reserved_names
from novel_agent.runtime.delivery import Delivery
from novel_agent.runtime.destinations import Destinations
from novel_agent.runtime.disk import Disk
from novel_agent.runtime.forward import Forwarding
from novel_agent.runtime.health import assess
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.lifecycle import Signals, keep_watchdog_fed, raise_descriptor_limit, share_one_heap
from novel_agent.runtime.log_sources import LogSources
from novel_agent.runtime.logs import set_up
from novel_agent.runtime.once import OnceResult, run_once, still_hung
from novel_agent.runtime.overview import Snapshot, overview
from novel_agent.runtime.receiving import Receiving
from novel_agent.runtime.reload import load_again
from novel_agent.runtime.sampling import HostSampler, Sample
from novel_agent.runtime.sdnotify import Notifier
from novel_agent.runtime.selfstats import SelfStats, read_cost
from novel_agent.runtime.status import BudgetStatus, ConfigStatus, Health, Overview, ReceiverStatus, Status
from novel_agent.runtime.supervise import Component, Supervisor
from novel_agent.runtime.tail import TailSampling, tail_settings
from novel_agent.serving.kept_token import kept_token
from novel_agent.state.directory import StateDirectory

log = get_logger("daemon")

_TAIL = "tail sampling"

DRAIN_SECONDS = 8.0
_OVERVIEW_APART_SECONDS = 5.0
_RELOAD_SECONDS = 2.0
_RETIRING_SECONDS = 0.5


class FrontEnd(Protocol):
    """What listens for people and scrapers; built above this layer."""

    async def start(self, predecessor: "FrontEnd | None" = None) -> str:
        """Listen; gives the address to show. AgentError where it cannot, with the predecessor undisturbed.

        A predecessor that listens at the same address hands its sockets over, so that no connection is refused.
        """

    async def stop(self) -> None:
        """Finish open requests and close."""

    def blocks(self) -> Sequence[Block]:
        """Its own series."""


class Daemon:
    """One agent. `front_end` makes what listens, for the configuration in force."""

    def __init__(
        self,
        loaded: Loaded,
        sources: Sources,
        front_end: "Callable[[Daemon], FrontEnd]",
        notifier: Notifier | None = None,
    ) -> None:
        share_one_heap()
        raise_descriptor_limit()  # before anything asks how many handles it may keep
        self.loaded = loaded
        self._sources = sources
        self._make_front_end = front_end
        self._front_end: FrontEnd | None = None
        self._notifier = notifier or Notifier()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reload_lock = asyncio.Lock()
        self.state = StateDirectory(state_path(loaded))
        self.supervisor = Supervisor()
        self.left_behind = LeftBehind()
        self._isolate = make_isolation(loaded.config, self.left_behind)
        self.sampler: HostSampler = make_sampler(loaded.config, self.left_behind, self._isolate)
        self.budget = BudgetWatch(loaded.config.agent.budget)
        self._disk = Disk(self.state.path)
        self._disk.configure(loaded.config)
        self.destinations = Destinations(self.supervisor, self._disk.spool_of)
        self.forwarding = Forwarding(self.destinations, self.left_behind)
        self.delivery = Delivery(self.destinations, lambda: self.forwarding.resource)
        self.receiving: Receiving | None = None
        self.logs = LogSources(
            self.supervisor,
            self.destinations,
            self.left_behind,
            self.state.path,
            self._disk.executor,
            lambda: self.forwarding.resource,
            offer=self.destinations.tap.offer,
            level=lambda: self.budget.level,
        )
        self._tail: TailSampling | None = None
        self.self_stats = SelfStats()
        self.address = ""
        self.ready = False
        self._listening: object = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloads: set[asyncio.Task[None]] = set()
        self.config_status = ConfigStatus(loaded.files, time.time(), loaded.notices, True, None, [])
        self._snapshots: tuple[Snapshot | None, Snapshot | None] = (None, None)

    async def run(self, announce: Callable[[str], object] = lambda address: None) -> None:
        """Run until asked to stop. `announce` gets the address once everything is up."""
        self.state.open()
        try:
            Signals(self.request_stop, self._reload.set).install()
            async with self._reload_lock:
                await self._start()
            announce(self.address)
            self._notifier.ready(self._one_line())
            await self._stop.wait()
        finally:
            await self._shut_down()
            self.state.close()

    async def _start(self) -> None:
        config = self.loaded.config
        await self.forwarding.describe(config)
        await self.destinations.commit(config, await self.destinations.prepare(config))
        self._configure_delivery(config)
        await self._judge_traces(config)
        await self._start_front_end()
        self.receiving = Receiving(self.delivery, kept_token(self.state), self.state.path)
        await self.receiving.commit(await self.receiving.prepare(config))
        await self.logs.configure(config)
        self.supervisor.start("export schedule", self._export)
        self.supervisor.start("budget", self._watch_budget)
        self.supervisor.start("reload", self._serve_reloads)
        self.supervisor.start("systemd watchdog", lambda: keep_watchdog_fed(self._notifier))
        self.ready = True
        _settle_garbage_collection()
        for notice in self.loaded.notices:
            log.info("configuration notice", notice=notice)
        log.info("ready", version=__version__, address=self.address, state_dir=self.state.path)

    async def _start_front_end(self) -> None:
        """Listen as configured, then let the server before finish what it was asked."""
        successor, predecessor = self._make_front_end(self), self._front_end
        self.address = await successor.start(predecessor)
        self._front_end, self._listening = successor, _listening(self.loaded)
        if predecessor is not None:
            task = asyncio.create_task(_retire(predecessor), name="server before")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _shut_down(self) -> None:
        self.ready = False
        await self._end_reloads()
        self._notifier.stopping()
        for name in ("export schedule", "reload", "budget"):
            await self.supervisor.stop(name)
        await self.logs.stop()
        if self.receiving is not None:
            await self.receiving.stop()
        await self.supervisor.stop(_TAIL)
        await self.destinations.drain(DRAIN_SECONDS)
        if self._front_end is not None:
            await self._front_end.stop()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self.sampler.close()
        self._isolate.close()
        await self.forwarding.stop()
        await self.destinations.stop()
        if self._tail is not None:
            await self._tail.spool.close()
        await self.supervisor.stop_all()
        self._disk.close()
        log.info("stopped")

    def _configure_delivery(self, config: Config) -> None:
        self.delivery.configure(config)
        self.delivery.reserve(*reserved_names(self.sampler.watched))

    async def _judge_traces(self, config: Config) -> None:
        """Sample whole traces where that is configured; where it no longer is, let out what waited for it."""
        before = self._tail
        if before is not None and before.made_of == tail_settings(config.traces):
            return
        await self.supervisor.stop(_TAIL)
        if before is not None:
            await before.spool.close()
        self.delivery.tail = self._tail = None
        if config.traces.tail_sampling or self._disk.holds_spans():
            spool = self._disk.spool_of_spans()
            await spool.open()
            assert self.delivery.spans is not None
            self._tail = TailSampling(config.traces, spool, self._publish_spans, self.delivery.spans.dropped)
            self.supervisor.start(_TAIL, self._tail.run)
            self.delivery.tail = self._tail if config.traces.tail_sampling else None

    async def _publish_spans(self, batch: Batch) -> None:
        self.destinations.refuse_if_full("traces", len(batch.payload))
        await self.destinations.publish(batch, durable=True)

    @property
    def recent_traces(self) -> RecentTraces | None:
        """The traces seen last; None where none are kept."""
        return self.delivery.recent

    def _receivers(self) -> list[ReceiverStatus]:
        if self.receiving is None:
            return []
        return [
            ReceiverStatus(
                transport=transport,
                address=self.receiving.addresses.get(transport, ""),
                connections=counted.connections,
                requests=counted.requests,
                accepted_items=counted.accepted_items,
                refused=counted.refused,
                received_bytes=counted.wire_bytes,
            )
            for transport, counted in self.receiving.status().items()
        ]

    def request_stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def _one_line(self) -> str:
        return f"{self.health().status}, {self.address}"

    # sampling ---------------------------------------------------------------------------------------------------------

    async def metrics(self) -> list[Block]:
        """Every series of `/metrics`, from a sample at most a second old."""
        sample = await self.sampler.sample()
        return self._shown(sample)

    def _shown(self, sample: Sample) -> list[Block]:
        sampled = self._families(sample)
        return [*sampled, *self._own_blocks(), *_beside(sampled, self._made_blocks())]

    def _made_blocks(self) -> list[Block]:
        """Under names that others chose: what was received, and what is measured in logs."""
        return [*self.delivery.blocks(), *self.logs.measures(time.time())]

    def _families(self, sample: Sample) -> list[Block]:
        blocks = self.sampler.families(sample)
        _, last = self._snapshots
        if last is None or sample.at - last.at >= _OVERVIEW_APART_SECONDS or sample.at < last.at:
            self._snapshots = (last, Snapshot(sample.at, blocks))
        return blocks

    def _own_blocks(self) -> list[Block]:
        return [
            *self.self_stats.blocks(read_cost(), self.left_behind.now, self.components()),
            *self.budget.blocks(),
            *self.forwarding.blocks(),
            *self.destinations.blocks(),
            *self.logs.blocks(),
            *(self.receiving.blocks() if self.receiving is not None else ()),
            *(self._front_end.blocks() if self._front_end is not None else ()),
        ]

    async def _export(self) -> None:
        await self.forwarding.run_schedule(
            lambda: self.loaded.config.host.interval_seconds * self.budget.interval_factor,
            lambda: self.sampler,
            self._shown,  # whoever looks first at the overview finds rates
            lambda now_nanos: [*self.delivery.measured(now_nanos), *self.logs.measured(now_nanos)],
        )

    async def _watch_budget(self) -> None:
        while True:
            self.budget.check(read_cost(), time.monotonic())
            self.sampler.resting = self.budget.optional_rest
            self._notifier.status(self._one_line())
            await asyncio.sleep(CHECK_SECONDS)

    # reload -----------------------------------------------------------------------------------------------------------

    async def _serve_reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            with contextlib.suppress(AgentError):
                await self.reload()

    async def reload(self) -> None:
        """Load, check and put in force; AgentError, and everything as before, where that is not possible.

        It runs to its end when the caller goes away, and is over before a shutdown begins to take things down.
        """
        task = asyncio.create_task(self._reload_in_turn(), name="reloading")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        await asyncio.shield(task)

    async def _reload_in_turn(self) -> None:
        async with self._reload_lock:
            self._refuse_when_stopping()
            self._notifier.reloading()
            try:
                loaded = await load_again(self._sources)
                self._refuse_when_stopping()
                await self._put_in_force(loaded)
            except AgentError as error:
                self._refuse(error)
                raise
            except Exception as error:
                log.exception("fault in a reload")
                self._refuse(AgentError(f"{type(error).__name__}: {error}"))
                raise
            finally:
                self._notifier.ready(self._one_line())

    def _refuse_when_stopping(self) -> None:
        if self._stop.is_set():
            raise AgentError("the agent is stopping")

    async def _end_reloads(self) -> None:
        """Give a reload under way a moment to finish, then cancel it."""
        if self._reloads:
            _, late = await asyncio.wait(self._reloads, timeout=_RELOAD_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _refuse(self, error: AgentError) -> None:
        errors = [str(each) for each in error.errors] if isinstance(error, ConfigErrors) else [str(error)]
        self.config_status.last_reload_ok = False
        self.config_status.last_reload_at = time.time()
        self.config_status.errors = errors
        for line in errors:
            log.error("reload refused, the configuration before it stays in force", reason=line)

    async def _put_in_force(self, loaded: Loaded) -> None:
        """What can fail comes first, and leaves everything as it was; each part compares with what is running."""
        config, before = loaded.config, self.loaded
        assert self.receiving is not None
        fresh = await self.destinations.prepare(config)
        receivers = None
        try:
            watched = make_watched(config, self._isolate, existing=self.sampler.known)
            receivers = await self.receiving.prepare(config)
            self.loaded = loaded
            if _listening(loaded) != self._listening:
                await self._start_front_end()
        except BaseException:
            self.loaded = before
            if receivers is not None:
                await self.receiving.discard(receivers)
            await self.destinations.discard(fresh)
            raise
        self._disk.configure(config)
        await self.forwarding.describe(config)
        await self.destinations.commit(config, fresh)
        self._configure_delivery(config)
        await self._judge_traces(config)
        await self.receiving.commit(receivers)
        await self.logs.configure(config)
        set_up(config.agent.log_level)
        self._isolate.keep_within(config.host.deadline_seconds)
        self.sampler.reconfigure(watched, config.host.deadline_seconds)
        self.budget.budget = config.agent.budget
        if config.host.interval_seconds != before.config.host.interval_seconds:
            await self.supervisor.stop("export schedule")  # it may be asleep for as long as the old interval
            self.supervisor.start("export schedule", self._export)
        self.config_status = ConfigStatus(loaded.files, time.time(), loaded.notices, True, time.time(), [])
        if state_path(loaded) != self.state.path:
            self.config_status.notices = [*loaded.notices, "agent.state_dir: a new value needs a restart"]
        log.info("configuration reloaded", files=len(loaded.files))

    # what can be asked ------------------------------------------------------------------------------------------------

    def components(self) -> list[Component]:
        """Every input and task."""
        return [*(watched.component for watched in self.sampler.watched), *self.supervisor.components.values()]

    def health(self) -> Health:
        """Whether the agent is well."""
        return self.status().health

    def status(self) -> Status:
        """Everything `status` shows."""
        cost, now = read_cost(), time.time()
        components, destinations, logs = self.components(), self.destinations.status(), self.logs.status()
        budget = BudgetStatus(
            self.budget.budget.cpu_percent,
            self.budget.budget.memory_bytes,
            self.budget.last.cpu,
            self.budget.last.memory,
            self.budget.level,
            self.budget.measure,
        )
        return Status(
            version=__version__,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=self.self_stats.started_at,
            now=now,
            listen=self.address,
            state_dir=self.state.path,
            health=assess(now, components, destinations, budget, self.config_status, logs),
            cpu_seconds=cost.cpu_seconds,
            resident_bytes=cost.resident_bytes,
            open_descriptors=cost.descriptors,
            left_behind=self.left_behind.now,
            budget=budget,
            config=self.config_status,
            components=components,
            destinations=destinations,
            receivers=self._receivers(),
            logs=logs,
            renamed=self.delivery.renamed,
            missing=[line for each in self.sampler.watched for line in getattr(each.collector, "missing", ())],
        )

    async def check(self, name: str) -> OnceResult | None:
        """Run one input now; None where none of that name is on."""
        if name not in input_names(self.loaded.config):
            return None
        watched = next((each for each in self.sampler.watched if each.component.name == name), None)
        if watched is not None and watched.hung:
            return still_hung(watched.component)
        return await run_once(self.loaded.config, name, self.left_behind)

    async def overview(self) -> Overview:
        """The host at a glance; samples if the last sample is older than a few seconds."""
        sample = await self.sampler.sample(_OVERVIEW_APART_SECONDS)
        if self._snapshots[1] is None or sample.at != self._snapshots[1].at:
            self._families(sample)
        before, last = self._snapshots
        return overview(last, before)


def state_path(loaded: Loaded) -> str:
    """The state directory of a loaded configuration; the loader has filled in the default."""
    assert loaded.config.agent.state_dir is not None
    return loaded.config.agent.state_dir


async def _retire(front_end: FrontEnd) -> None:
    """Stop a server that has a successor, once the connections it has just accepted have sent their requests."""
    await asyncio.sleep(_RETIRING_SECONDS)
    await front_end.stop()


def _beside(sampled: Sequence[Block], received: Sequence[Block]) -> list[Block]:
    """What was received without the families that a file of the textfile input has taken: a page has each once."""
    if not received:
        return []
    taken = {series.family.name for block in sampled for series in block.shape.series}
    return [block for block in received if not block.shape.series or block.shape.series[0].family.name not in taken]


def _settle_garbage_collection() -> None:
    """Leave what start-up made out of every later collection, and collect less often.

    A sampling makes a few thousand short-lived tuples and lists, none of them in a cycle. At the default threshold of 700
    that is several collections for nothing each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _listening(loaded: Loaded) -> tuple[object, ...]:
    agent = loaded.config.agent
    return agent.listen, agent.tls, agent.auth, agent.allowed_hosts

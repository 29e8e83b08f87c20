"""One input, once, now: what `check NAME` shows."""

import asyncio
from collections.abc import Iterable

import msgspec

from novel_agent.config.schema import Config
from novel_agent.model.metric import Block
from novel_agent.runtime.build import make_isolation, make_sampler
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.sampling import HostSampler, Outcome
from novel_agent.runtime.supervise import Component
from novel_agent.wire.prometheus import render_text


class OnceResult(msgspec.Struct):
    """What one run gave. `yields` is Prometheus text, `telemetry` one line a data point as OpenTelemetry names it."""

    name: str
    state: str
    reason: str
    seconds: float
    yields: str
    telemetry: list[str]


async def run_once(config: Config, name: str, left_behind: LeftBehind | None = None) -> OnceResult:
    """Build the input as configured, read it twice (some figures are differences), and give the second reading."""
    left_behind = left_behind or LeftBehind()
    isolate = make_isolation(config, left_behind)
    sampler = make_sampler(config, left_behind, isolate, only=name)
    try:
        sampler.telemetry(await sampler.sample())
        await asyncio.sleep(0.1)
        return result_of(sampler, (await sampler.sample(max_age_seconds=0.0)).outcomes[0])
    finally:
        await sampler.close()
        isolate.close()


def still_hung(component: Component) -> OnceResult:
    """What is to be said of an input whose last call has not come back: calling again would only lose another thread."""
    return OnceResult(component.name, component.state, component.reason, 0.0, "", [])


def result_of(sampler: HostSampler, outcome: Outcome) -> OnceResult:
    """One outcome in words."""
    component = outcome.watched.component
    good = outcome.error is None
    collector = outcome.watched.collector
    return OnceResult(
        component.name,
        component.state,
        component.reason,
        outcome.seconds,
        render_text(collector.families(outcome.reading)).decode() if good else "",
        list(_lines(collector.telemetry(outcome.reading))) if good else [],
    )


def _lines(blocks: Iterable[Block]) -> Iterable[str]:
    for shape, values in blocks:
        for series, value in zip(shape.series, values, strict=True):
            attributes = ", ".join(f"{name}={label}" for name, label in series.labels)
            yield f"{series.family.name}{{{attributes}}} {value} {series.family.unit}"

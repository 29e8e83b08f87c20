"""Configuration to components. Plugins are imported here, at the moment they are wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import json

from novel_agent import registry
from novel_agent.config.schema import Config
from novel_agent.inputs.host.kernel import Isolate, Kernel, call_directly
from novel_agent.model.metric import Family, FamilyPattern
from novel_agent.runtime.lanes import Isolation, LeftBehind
from novel_agent.runtime.sampling import HostSampler, Watched

_OUR_OWN = ("novel_agent_.*", "node_scrape_collector_.*")


def kernel_of(config: Config, isolate: Isolate = call_directly) -> Kernel:
    """A view of the kernel for one collector."""
    paths = config.host.paths
    return Kernel(paths.proc, paths.sys, paths.root, isolate=isolate)


def enabled_collectors(config: Config) -> dict[str, Mapping[str, Any]]:
    """The host collectors to run, by name, with the options the configuration gives them."""
    enabled: dict[str, Mapping[str, Any]] = {}
    for name in registry.HOST_COLLECTORS:
        setting = config.host.collectors.get(name, name not in registry.OFF_BY_DEFAULT)
        if setting is not False:
            enabled[name] = setting if isinstance(setting, Mapping) else {}
    return enabled


def make_collector(name: str, options: Mapping[str, Any], kernel: Kernel) -> Any:
    """One host collector; its options were checked when the configuration was loaded."""
    plugin = registry.load(registry.HOST_COLLECTORS[name])
    return plugin(kernel, msgspec.convert(dict(options), plugin.Options, strict=False))


def input_names(config: Config) -> list[str]:
    """The inputs the configuration asks for."""
    return [*enabled_collectors(config), *(["process"] if config.processes else [])]


def make_watched(
    config: Config, isolate: Isolate, only: str | None = None, existing: Sequence[Watched] = ()
) -> list[Watched]:
    """Every input the configuration asks for, or one of them, not started.

    One of `existing` that was made of the same settings is taken over with its counts, its handles and its hung call.
    """
    known = {(each.component.name, each.made_of): each for each in existing}
    watched: list[Watched] = []
    for name, options in enabled_collectors(config).items():
        if only in {None, name}:
            made_of = (config.host.paths, json.encode(options, order="deterministic"))
            watched.append(
                known.get((name, made_of))
                or Watched(make_collector(name, options, kernel_of(config, isolate)), made_of=made_of)
            )
    if config.processes and only in {None, "process"}:
        watched.append(known.get(("process", _made_of(config))) or _watch_processes(config))
    _reserve_names([each.collector for each in watched])
    return watched


def _made_of(config: Config) -> object:
    return config.host.paths, config.processes


def _watch_processes(config: Config) -> Watched:
    groups = registry.load(registry.PROCESS_GROUPS)
    return Watched(groups(kernel_of(config), config.processes), on_scrape_list=False, made_of=_made_of(config))


def reserved_names(watched: Sequence[Watched]) -> tuple[frozenset[str], frozenset[str]]:
    """The families that the inputs and the agent itself show: names, and regular expressions of names.

    Those of other people's files are not among them: they may have any name, and come and go.
    """
    declared = [
        (declaration, hasattr(each.collector, "reserved"))
        for each in watched
        for declaration in getattr(each.collector, "prometheus", ())
    ]
    patterns = frozenset(
        each.name for each, is_foreign in declared if isinstance(each, FamilyPattern) and not is_foreign
    )
    return frozenset(each.name for each, _ in declared if isinstance(each, Family)), patterns | frozenset(_OUR_OWN)


def _reserve_names(collectors: Sequence[Any]) -> None:
    """Tell those that show families of other people's which names are taken."""
    others = [each for each in collectors if not hasattr(each, "reserved")]
    declared = [declaration for each in others for declaration in each.prometheus]
    for each in collectors:
        if hasattr(each, "reserved"):
            each.reserved = frozenset(one.name for one in declared if isinstance(one, Family))
            each.reserved_patterns = frozenset(
                (*_OUR_OWN, *(one.name for one in declared if isinstance(one, FamilyPattern)))
            )


def make_sampler(config: Config, left_behind: LeftBehind, isolate: Isolate, only: str | None = None) -> HostSampler:
    """The host sampler with everything, or the one thing, it samples."""
    return HostSampler(
        make_watched(config, isolate, only), deadline_seconds=config.host.deadline_seconds, left_behind=left_behind
    )


def make_isolation(config: Config, left_behind: LeftBehind) -> Isolation:
    """Where collectors make calls that may never return."""
    return Isolation("mounts", left_behind, config.host.deadline_seconds)

"""Host collectors as the configuration sees them: a name, a line about it, whether it is on, its options."""

from typing import NamedTuple

import msgspec

from novel_agent import registry


class CollectorRow(NamedTuple):
    """What samples, reference and JSON Schema say about one collector."""

    name: str
    summary: str
    default_on: bool
    options: type[msgspec.Struct]


def registered_rows() -> list[CollectorRow]:
    """Every registered collector, each imported, by name."""
    return [_row(name) for name in sorted(registry.HOST_COLLECTORS)]


def registered_options(name: str) -> type[msgspec.Struct] | None:
    """The options of one registered collector, which alone is imported."""
    options: type[msgspec.Struct] = registry.load(registry.HOST_COLLECTORS[name]).Options
    return options


def _row(name: str) -> CollectorRow:
    plugin = registry.load(registry.HOST_COLLECTORS[name])
    return CollectorRow(name, plugin.summary, name not in registry.OFF_BY_DEFAULT, plugin.Options)

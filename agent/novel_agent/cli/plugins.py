"""What this build can do: every input with its metrics, every output.

--reference prints the reference of all metrics as Markdown.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from novel_agent import registry
from novel_agent.cli import screen

if TYPE_CHECKING:
    from novel_agent.runtime.catalogue import Plugin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `plugins`."""
    parser.add_argument("name", nargs="?", help="show the metrics of this input")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="for programs")
    group.add_argument("--reference", action="store_true", help="the reference of all metrics, as Markdown")


def main(args: argparse.Namespace) -> int:
    """List or show."""
    from novel_agent.runtime.catalogue import catalogue, reference

    if args.reference:
        print(reference(), end="")
        return 0
    plugins = catalogue()
    if args.name:
        chosen = [plugin for plugin in plugins if plugin.name == args.name]
        if not chosen:
            there_are = ", ".join(plugin.name for plugin in plugins)
            print(f"novel-agent: no input {args.name!r}; there are {there_are}", file=sys.stderr)
            return 2
        plugins = chosen
    if args.json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(plugins), indent=2))
    elif args.name:
        print(_one(plugins[0]))
    else:
        rows = [
            (
                plugin.name,
                "on" if plugin.default_on else "off",
                len(plugin.prometheus),
                len(plugin.otel),
                plugin.summary,
            )
            for plugin in plugins
        ]
        print("Inputs\n" + screen.table(("NAME", "DEFAULT", "PROMETHEUS", "OTEL", "WHAT"), rows))
        print("\nOutputs\n" + screen.table(("NAME",), [(name,) for name in ("prometheus", *registry.OUTPUTS)]))
    return 0


def _one(plugin: "Plugin") -> str:
    lines = [f"{plugin.name}: {plugin.summary}"]
    for title, metrics in (("/metrics", plugin.prometheus), ("OTLP", plugin.otel)):
        if metrics:
            rows = [(metric.name, metric.kind, ", ".join(metric.labels) or "-", metric.help) for metric in metrics]
            lines.append(f"\n{title}\n" + screen.table(("NAME", "TYPE", "LABELS", "HELP"), rows))
    if plugin.options:
        options = [(option.name, option.default, option.description) for option in plugin.options]
        lines.append("\nOptions\n" + screen.table(("NAME", "DEFAULT", "WHAT"), options))
    return "\n".join(lines)

"""Run one input once, now, and print what it yields. Exit 1 where it fails.

Without --config a running agent is asked to run it, as itself, with its own permissions; with --config or --conf-dir it runs
in this process.
"""

import argparse
import asyncio
import json
from urllib.parse import quote

import msgspec

from novel_agent.cli import screen
from novel_agent.cli.client import ask
from novel_agent.cli.options import add_agent_options, add_config_options, sources_of
from novel_agent.errors import ConfigError
from novel_agent.runtime.once import OnceResult, run_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check`."""
    parser.add_argument("name", help="an input, as `plugins` names it")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_agent_options(parser)
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Run and print."""
    if args.config or args.conf_dir:
        result = _here(args)
    else:
        _, result = ask(args, f"/api/v1/inputs/{quote(args.name, safe='')}/check", OnceResult)
    if args.json:
        print(json.dumps(msgspec.to_builtins(result), indent=2))
    else:
        print(describe(result))
    return 0 if result.state in {"up", "no data"} else 1


def _here(args: argparse.Namespace) -> OnceResult:
    from novel_agent.config.load import load
    from novel_agent.runtime.build import input_names
    from novel_agent.runtime.logs import set_up

    set_up("error")  # the result says what fails
    config = load(sources_of(args)).config
    known = input_names(config)
    if args.name not in known:
        raise ConfigError("check", 0, args.name, f"no such input is on; there are {', '.join(known)}")
    return asyncio.run(run_once(config, args.name))


def describe(result: OnceResult) -> str:
    """The result as text."""
    head = f"{result.name}: {screen.state(result.state)} in {screen.span(result.seconds)}"
    if result.reason:
        head += f": {result.reason}"
    parts = [head]
    if result.yields:
        parts.append(result.yields.rstrip())
    if result.telemetry:
        parts.append("# over OTLP\n" + "\n".join(result.telemetry))
    return "\n\n".join(parts)

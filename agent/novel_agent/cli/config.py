"""Show the effective configuration, or its JSON Schema.

show [--origin]   the configuration in force with these files, secrets masked; with --origin where each value came from
schema            JSON Schema, for editors
"""

import argparse

from novel_agent.cli.options import add_config_options, sources_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `config`."""
    parser.add_argument("what", choices=("show", "schema"))
    parser.add_argument("--origin", action="store_true", help="say where each value came from")
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Print one of the two."""
    if args.what == "schema":
        from novel_agent.config.json_schema import schema_json

        print(schema_json())
        return 0
    from novel_agent.config.load import load
    from novel_agent.config.show import show

    print(show(load(sources_of(args)), with_origin=args.origin), end="")
    return 0

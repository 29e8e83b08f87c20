"""Report every mistake in the configuration as `file:line: key: what is wrong, what would be right`. Exit 2 if any."""

import argparse
import sys

from novel_agent.cli.options import add_config_options, sources_of
from novel_agent.errors import ConfigErrors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `check-config`."""
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Load and report."""
    from novel_agent.config.load import load

    try:
        loaded = load(sources_of(args))
    except ConfigErrors as errors:
        for error in errors.errors:
            print(error, file=sys.stderr)
        count = len(errors.errors)
        print(f"{count} mistake{'s' if count != 1 else ''}", file=sys.stderr)
        return errors.exit_code
    for notice in loaded.notices:
        print(f"notice: {notice}")
    files = len(loaded.files)
    print(f"The configuration is valid ({files} file{'s' if files != 1 else ''}).")
    return 0

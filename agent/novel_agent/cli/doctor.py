"""Look for problems with this host and this configuration; each comes with its exact fix. Exit 1 if there is any."""

import argparse
import asyncio
import json
from typing import Literal

import msgspec

from novel_agent.cli import screen
from novel_agent.cli.options import add_config_options, sources_of
from novel_agent.errors import ConfigErrors

Verdict = Literal["ok", "note", "problem"]
_MARKS: dict[Verdict, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "note": ("note", "yellow"),
    "problem": ("PROBLEM", "red"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="for programs")
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Examine and print."""
    from novel_agent.config.load import load
    from novel_agent.runtime.doctor import examine
    from novel_agent.runtime.finding import Finding
    from novel_agent.runtime.logs import set_up

    set_up("error")  # the findings say what fails
    try:
        loaded = load(sources_of(args))
        findings = [Finding("configuration", "ok", f"{len(loaded.files)} files, valid")]
        findings += asyncio.run(examine(loaded.config))
    except ConfigErrors as errors:
        findings = [
            Finding(
                "configuration", "problem", str(error), "correct it; `novel-agent check-config` tells when it is right"
            )
            for error in errors.errors
        ]
    if args.json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
    else:
        for finding in findings:
            word, colour = _MARKS[finding.verdict]
            print(f"{screen.colour(f'{word:8}', colour)}{finding.what}: {finding.says}")
            if finding.fix:
                print(f"        fix: {finding.fix}")
    return int(any(finding.verdict == "problem" for finding in findings))

"""What flows through right now: log records, spans and data points, one a line, until Ctrl-C.

Columns: when, severity (or `span`, `metric`), the input it came through and its service, what it says, its attributes. On a
terminal lines are cut to its width.
"""

import argparse
import os
import select
import shutil
import sys
from contextlib import suppress
from datetime import date
from urllib.parse import urlencode

from novel_agent.cli import screen
from novel_agent.cli.client import Agent, addressed
from novel_agent.cli.options import add_agent_options, add_config_options
from novel_agent.cli.tail_stream import Line, streaming
from novel_agent.cli.tail_text import describe, fitting, harmless_json
from novel_agent.errors import AgentUnreachable
from novel_agent.model.batch import SIGNALS
from novel_agent.runtime.tapped import SEVERITIES, TailEnd, TailHeartbeat


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tail`."""
    parser.add_argument(
        "--signal",
        action="append",
        choices=(*SIGNALS, "all"),
        help="only this one; several times: these (default: all)",
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="NAME",
        help="only what came through this input (otlp, host, traces, or the name of an entry of logs) or is of this service;"
        " several times: any of them",
    )
    parser.add_argument(
        "--severity",
        choices=SEVERITIES,
        help="log records at least that severe; of spans those that failed, no metrics",
    )
    parser.add_argument("--match", metavar="TEXT", help="only what has this text in its body, names or attributes")
    parser.add_argument("-n", "--limit", type=_count, metavar="N", help="end after so many")
    parser.add_argument("--no-attributes", action="store_true", help="leave attributes out")
    parser.add_argument("--full", action="store_true", help="do not cut lines to the width of the terminal")
    parser.add_argument("--json", action="store_true", help="for programs: a JSON object a line")
    add_agent_options(parser)
    add_config_options(parser)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("write a number from 1")
    return count


def main(args: argparse.Namespace) -> int:
    """Print what comes, until the limit, Ctrl-C, or nobody reads it any more."""
    try:
        agent = addressed(args)
        with streaming(agent, f"/api/v1/tail?{_query(args)}") as lines:
            _say_that_it_waits(agent)
            for line in lines:
                if isinstance(line.decoded, TailEnd):
                    return _end(agent, line.decoded)
                if not isinstance(line.decoded, TailHeartbeat):
                    print(_shown(line, args), flush=True)
                elif _reader_is_gone():
                    break
    except KeyboardInterrupt:
        pass
    return 0


def _query(args: argparse.Namespace) -> str:
    asked = {
        "signal": ",".join(args.signal or ()),
        "source": [os.fsencode(each) for each in args.source or ()],
        "min_severity": args.severity,
        "match": os.fsencode(args.match or ""),
        "limit": args.limit,
    }
    return urlencode({name: value for name, value in asked.items() if value}, doseq=True)


def _shown(line: Line, args: argparse.Namespace) -> str:
    if args.json:
        return harmless_json(line.raw.decode(errors="replace").rstrip("\n"))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not args.full else None
    pieces = describe(line.decoded, date.today(), attributes=not args.no_attributes)
    return "".join(screen.colour(text, colour) if colour else text for text, colour in fitting(pieces, width))


def _end(agent: Agent, end: TailEnd) -> int:
    if end.reason == "limit":
        return 0
    raise AgentUnreachable(f"the agent at {agent.url} stops, or listens elsewhere from now on")


def _say_that_it_waits(agent: Agent) -> None:
    if sys.stderr.isatty() and sys.stdout.isatty():
        print(screen.colour(f"what passes through {agent.url} from now on; Ctrl-C ends", "dim"), file=sys.stderr)


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    with suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    return False

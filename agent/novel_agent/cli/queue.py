"""Look into the spools: what waits for each destination on disk. Only reads; the agent may be running or not.

ls      what waits, for each destination and signal
verify  read every record that waits and check it; exit 1 if any is damaged
export  write what waits for one destination to standard output or a file
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from novel_agent.cli import screen
from novel_agent.cli.options import add_config_options, sources_of
from novel_agent.errors import AgentError
from novel_agent.model.batch import SIGNALS, Batch

if TYPE_CHECKING:
    from novel_agent.state.spool_report import VerifyReport

_SHOWN_AFTER_SECONDS = 2.0
_REDRAWN_SECONDS = 0.2
_BAR_WIDTH = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `queue`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|verify|export")
    for name, summary in (("ls", "what waits"), ("verify", "read and check every record that waits")):
        action = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        action.add_argument("name", nargs="?", help="only this destination")
        action.add_argument("--json", action="store_true", help="for programs")
        add_config_options(action)
    export = actions.add_parser(
        "export",
        help="write what waits",
        description="Write what waits for a destination, oldest first: as JSON one OTLP request a line, as protobuf each "
        "request behind its length (a varint). What waits for a prometheus_remote_write (NAME@remote_write) is that protocol's "
        "own, version 1.0. It stays in the spool.",
        allow_abbrev=False,
    )
    export.add_argument("name", help="the destination")
    export.add_argument("--signal", choices=SIGNALS, help="only this one")
    export.add_argument("--format", choices=("json", "protobuf"), default="json", help="default: json")
    export.add_argument("--output", metavar="FILE", help="default: standard output")
    add_config_options(export)


def main(args: argparse.Namespace) -> int:
    """Look and print."""
    action: Callable[[argparse.Namespace, dict[str, str]], int] = {"ls": _ls, "verify": _verify, "export": _export}[
        args.action
    ]
    return action(args, _chosen(_state_directory(args), args.name))


def _state_directory(args: argparse.Namespace) -> str:
    if args.state_dir is not None:  # whatever state the configuration is in
        return str(args.state_dir)
    from novel_agent.config.load import load

    state_directory = load(sources_of(args)).config.agent.state_dir
    assert state_directory is not None
    return state_directory


def _chosen(state_directory: str, name: str | None) -> dict[str, str]:
    from novel_agent.state.spool_report import destinations

    there_are = destinations(state_directory)
    if name is None:
        return there_are
    if name not in there_are:
        known = ", ".join(there_are) or "none"
        raise NoSuchSpool(f"no spool of {name!r} in {state_directory}; there are: {known}")
    return {name: there_are[name]}


class NoSuchSpool(AgentError):  # noqa: N818 - an outcome of the command line
    """The destination named has no spool."""

    exit_code = 2


def _ls(args: argparse.Namespace, chosen: dict[str, str]) -> int:
    from novel_agent.state.spool_report import look

    reports = [report for name, directory in chosen.items() for report in look(name, directory)]
    if args.json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(reports), indent=2))
        return 0
    now = time.time()
    rows = [
        (
            report.destination,
            report.signal,
            report.segments,
            screen.size(report.size_bytes),
            report.items,
            "-" if report.oldest_unix_seconds is None else screen.span(max(0.0, now - report.oldest_unix_seconds)),
            f"{report.acknowledged.segment}:{report.acknowledged.offset}",
        )
        for report in reports
        if report.segments
    ]
    if not rows:
        print("No spool holds anything.")
        return 0
    print(screen.table(("DESTINATION", "SIGNAL", "SEGMENTS", "SIZE", "ITEMS", "OLDEST", "ACKNOWLEDGED"), rows))
    return 0


def _verify(args: argparse.Namespace, chosen: dict[str, str]) -> int:
    from novel_agent.state.spool_report import verify, waiting_bytes

    reports: list[VerifyReport] = []
    with _progress(sum(map(waiting_bytes, chosen.values()))) as read:
        for name, directory in chosen.items():
            reports += verify(name, directory, read)
    damaged = any(report.damages for report in reports)
    if args.json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(reports), indent=2))
        return int(damaged)
    for report in reports:
        print(
            f"{report.destination} {report.signal}: {report.records} records in {report.segments} segments,"
            f" {screen.size(report.size_bytes)}, {report.items} items"
            + (", the last record cut off (being written, or its writer was killed)" if report.cut_off else "")
        )
        for damage in report.damages:
            says = f"segment {damage.segment} {damage.fault} at {damage.offset}, {screen.size(damage.lost_bytes)} lost"
            print(f"  {screen.colour(says, 'red')}")
    print(screen.colour("damaged", "red") if damaged else "All that waits can be read.")
    return int(damaged)


@contextmanager
def _progress(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, where there is one and it takes more than two seconds."""
    began = shown = time.monotonic()
    done_bytes = 0
    drawn = False

    def read(size_bytes: int) -> None:
        nonlocal done_bytes, shown, drawn
        done_bytes += size_bytes
        now = time.monotonic()
        if now - began < _SHOWN_AFTER_SECONDS or now - shown < _REDRAWN_SECONDS or not sys.stderr.isatty():
            return
        shown, drawn = now, True
        share = min(1.0, done_bytes / max(1, total_bytes))
        bar = "#" * round(_BAR_WIDTH * share)
        print(f"\r[{bar:{_BAR_WIDTH}}] {share:4.0%} of {screen.size(total_bytes)}", end="", file=sys.stderr, flush=True)

    try:
        yield read
    finally:
        if drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _export(args: argparse.Namespace, chosen: dict[str, str]) -> int:
    if args.format == "json" and args.name.endswith("@remote_write"):
        print("novel-agent: remote write has no JSON; give --format protobuf", file=sys.stderr)
        return 2
    if args.output is None:
        return _write(args, chosen, sys.stdout.buffer)
    try:
        with open(args.output, "xb") as file:
            return _write(args, chosen, file)
    except FileExistsError:
        print(f"novel-agent: {args.output} is there already; give another --output", file=sys.stderr)
        return 2


def _write(args: argparse.Namespace, chosen: dict[str, str], file: BinaryIO) -> int:
    from novel_agent.state.spool_report import Unreadable, waiting
    from novel_agent.wire.protobuf import WireError

    (directory,) = chosen.values()
    well = True
    for found in waiting(directory, (args.signal,) if args.signal else SIGNALS):
        try:
            if isinstance(found, Unreadable):
                raise WireError(f"segment {found.segment}: {found.problem}, the rest of it is left out")
            file.write(_encoded(found, args.format))
        except WireError as error:
            print(f"novel-agent: {found.signal}: {error}", file=sys.stderr)
            well = False
    file.flush()
    return int(not well)


def _encoded(batch: Batch, form: str) -> bytes:
    if form == "protobuf":
        from novel_agent.wire.protobuf import varint

        return varint(len(batch.payload)) + batch.payload
    from novel_agent.wire.otlp_json import request_to_json

    return request_to_json(batch.signal, batch.payload) + b"\n"

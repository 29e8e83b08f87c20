"""Log files in, OTLP/HTTP out: CPU time a line of ours and of the Collector's filelog.

Goal: what it costs to read an application's log file and have it acknowledged. 400,000 lines of JSON, 608 bytes and 18
keys, appear at once in a directory that is watched; CPU is user and system time of the reading process from then until the
sink has every line and positions are noted. Ours writes records to its durable spool and notes positions with fsync; the
Collector keeps both in memory, with its json_parser, time, severity and trace ids, batches of 2,000. Four cases: every key
an attribute, with gzip and without; the line as body (of ours with time, severity and ids read from it: `attributes:
envelope`); and lines of which no two have the same keys. They take turns, three rounds, medians; the machine is shared, so
read the ratios.

Limits: one file, loopback, two cores shared with the sink; lines of one application repeat themselves, so gzip has it easy.
`python -m benchmarks.pipelines.file_to_otlp CASE …` runs some of the cases, `--only collector` one side, `--rounds N` more.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import log_lines
from benchmarks.log_readers import Job, Load, Start, collector, ours, place, read
from benchmarks.measure import REPOSITORY, Row

LINES = 400_000
ROUNDS = 3


class Case(NamedTuple):
    """What is read, how, and what of it is judged."""

    file: str
    job: Job
    budget: str


CASES = {
    "gzip": Case("application", Job("gzip", "all"), "file_gzip"),
    "none": Case("application", Job("none", "all"), "file_none"),
    "envelope": Case("application", Job("gzip", "envelope"), "file_envelope"),
    "shapeless": Case("shapeless", Job("gzip", "all"), "file_shapeless"),
}
CONTENDERS: dict[str, Start] = {"ours": ours, "collector": collector}


def run() -> list[Row]:
    """Every case."""
    return [
        row for name, loads in measure(tuple(CASES), tuple(CONTENDERS), ROUNDS).items() for row in rows(name, loads)
    ]


def measure(cases: Sequence[str], contenders: Sequence[str], rounds: int) -> dict[str, dict[str, list[Load]]]:
    """By case and contender, a load a round."""
    loads: dict[str, dict[str, list[Load]]] = {case: {name: [] for name in contenders} for case in cases}
    kept = REPOSITORY / ".state"
    with tempfile.TemporaryDirectory(dir=kept if kept.exists() else None) as directory:
        files = {kind: Path(directory) / kind for kind in {CASES[case].file for case in cases}}
        for kind, path in files.items():
            log_lines.write(path, getattr(log_lines, kind)(LINES))
        for case in cases:
            for _ in range(rounds):
                for name in contenders:
                    with place() as there:
                        load = read(CONTENDERS[name], there, CASES[case].job, files[CASES[case].file], LINES)
                    loads[case][name].append(load)
                    print(f"# {case} {name}: {load}", file=sys.stderr, flush=True)
    return loads


def rows(case: str, loads: dict[str, list[Load]]) -> list[Row]:
    """Both sides of a case."""
    middle = {name: statistics.median(load.microseconds_a_line for load in each) for name, each in loads.items()}
    peak = {name: max(load.peak_mib for load in each) for name, each in loads.items()}
    idle = {name: max(load.idle_mib for load in each) for name, each in loads.items()}
    against = "Collector, line as body" if case == "envelope" else "Collector, json_parser"
    return [
        Row(f"file {case}", "us a line", middle["ours"], middle["collector"], against, CASES[case].budget),
        Row(f"file {case}", "MiB idle", idle["ours"], idle["collector"], against, "file_memory"),
        Row(f"file {case}", "MiB peak", peak["ours"], peak["collector"], against, "file_memory"),
    ]


def main() -> None:
    """Some cases, or one side."""
    from benchmarks.__main__ import show_all

    parser = argparse.ArgumentParser("python -m benchmarks.pipelines.file_to_otlp")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--only", choices=[*CONTENDERS], help="only this side, without ratios")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    loads = measure(args.cases or tuple(CASES), [args.only] if args.only else tuple(CONTENDERS), args.rounds)
    if not args.only:
        sys.exit(not show_all([row for name, each in loads.items() for row in rows(name, each)]))


if __name__ == "__main__":
    main()

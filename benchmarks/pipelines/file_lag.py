"""How late lines arrive that are written at 20 MB/s for half a minute.

Goal: what is written is at the destination within a second while an application logs at its worst. A process of its own
appends JSON lines that say when they were written; the sink compares that with the clock when the request that carries a
line is there. The Collector, with its json_parser and gzip, does the same after ours; its file is looked at every 200 ms,
its batches wait 200 ms.

Limits: the clocks are one; writer, reader and sink share two cores. What matters is the most, which one pause of the
machine decides. `python -m benchmarks.pipelines.file_lag --only collector` runs one side.
"""

import argparse
import subprocess
import sys
from typing import NamedTuple

from benchmarks.log_readers import Job, Start, begun, collector, ours, place
from benchmarks.measure import Row

BYTES_A_SECOND = 20_000_000
SECONDS = 30
CONTENDERS: dict[str, Start] = {"ours": ours, "collector": collector}


class Lag(NamedTuple):
    """In milliseconds."""

    median: float
    p99: float
    most: float


def run() -> list[Row]:
    """Both sides."""
    lags = {name: measure(name) for name in CONTENDERS}
    mine, others = lags["ours"], lags["collector"]
    return [
        Row("file 20 MB/s, lag", "ms p50", mine.median, others.median, "Collector, json_parser", "file_lag"),
        Row("file 20 MB/s, lag", "ms p99", mine.p99, others.p99, "Collector, json_parser", "file_lag"),
        Row("file 20 MB/s, lag", "ms most", mine.most, others.most, "Collector, json_parser", "file_lag"),
    ]


def measure(name: str) -> Lag:
    """One side."""
    with place() as directory, begun(CONTENDERS[name], directory, Job()) as (_, destination):
        before = destination.records
        command = [sys.executable, "-m", "benchmarks.log_writer", f"{directory}/logs/application.log"]
        command += [str(BYTES_A_SECOND), str(SECONDS)]
        lines = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        destination.wait(before + lines)
        lag = Lag(*destination.get("/lags"))
    print(f"# lag {name}: {lines} lines, {lag}", file=sys.stderr, flush=True)
    return lag


def main() -> None:
    """Both, or one side."""
    from benchmarks.__main__ import show_all

    parser = argparse.ArgumentParser("python -m benchmarks.pipelines.file_lag")
    parser.add_argument("--only", choices=[*CONTENDERS], help="only this side, without ratios")
    args = parser.parse_args()
    if args.only:
        measure(args.only)
    else:
        sys.exit(not show_all(run()))


if __name__ == "__main__":
    main()

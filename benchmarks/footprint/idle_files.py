"""CPU of watching files to which nothing is written.

Goal: quiet files cost nothing between looks. Ours with the shipped conf.d, exporting every 15 s, with 0, 100 and 1,000
files, and the Collector's filelog with 100 and 1,000, all in the same minute. Each file holds one line of its own, long
since read. What 1,000 files cost is ours with them less ours without.

Limits: one minute; all share two cores. The Collector looks at its files every 200 ms, its default. `python -m
benchmarks.footprint.idle_files --only collector` runs one side.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.log_lines import MARK
from benchmarks.log_readers import Job, Sink, collector, place, sink
from benchmarks.measure import Row, agent, cpu_seconds, resident_bytes

SECONDS = 60.0
SETTLED_SECONDS = 20.0
COUNTS = {"ours": (0, 100, 1000), "collector": (100, 1000)}


class Idle(NamedTuple):
    """What it costs."""

    percent: float
    resident_mib: float


def run() -> list[Row]:
    """Both sides."""
    found = measure(("ours", "collector"))
    more = found["ours", 1000].percent - found["ours", 0].percent
    rival = "Collector"
    return [
        Row("idle, 100 files", "% of a core", *_both(found, 100, "percent"), rival, "idle_files_100"),
        Row("idle, 1,000 files more", "% of a core", more, found["collector", 1000].percent, rival, "idle_files_1000"),
        Row("idle, 1,000 files", "MiB", *_both(found, 1000, "resident_mib"), rival, "file_memory"),
    ]


def measure(sides: tuple[str, ...]) -> dict[tuple[str, int], Idle]:
    """All that is wanted at the same time."""
    with contextlib.ExitStack() as stack:
        pids = {}
        for side in sides:
            for count in COUNTS[side]:
                directory = stack.enter_context(place())
                destination = stack.enter_context(sink())
                for number in range(count):
                    line = {"level": "info", "message": f"{number:06d} {MARK}"}
                    (directory / "logs" / f"quiet-{number}.log").write_text(json.dumps(line) + "\n")
                start = _ours if side == "ours" else _collector
                pids[side, count] = stack.enter_context(start(directory, destination))
                destination.wait(count)
        time.sleep(SETTLED_SECONDS)
        began, before = time.monotonic(), {key: cpu_seconds(pid) for key, pid in pids.items()}
        time.sleep(SECONDS)
        took = time.monotonic() - began
        found = {
            key: Idle(100 * (cpu_seconds(pid) - before[key]) / took, resident_bytes(pid) / (1 << 20))
            for key, pid in pids.items()
        }
    for (side, count), idle in found.items():
        print(f"# {side}, {count} files: {idle}", file=sys.stderr, flush=True)
    return found


@contextlib.contextmanager
def _ours(directory: Path, destination: Sink):  # type: ignore[no-untyped-def]
    source = {"name": "application", "paths": [f"{directory}/logs/*.log"], "format": "json"}
    config = directory / "agent.json"
    export = {"name": "sink", "endpoint": destination.url, "signals": ["metrics", "logs"]}
    config.write_text(json.dumps({"logs": [source], "export": [export]}))
    with agent(str(directory), "--config", str(config)) as (pid, _):
        yield pid


def _collector(directory: Path, destination: Sink):  # type: ignore[no-untyped-def]
    return collector(directory, destination, Job())


def _both(found: dict[tuple[str, int], Idle], count: int, field: str) -> tuple[float, float]:
    return getattr(found["ours", count], field), getattr(found["collector", count], field)


def main() -> None:
    """Both, or one side."""
    from benchmarks.__main__ import show_all

    parser = argparse.ArgumentParser("python -m benchmarks.footprint.idle_files")
    parser.add_argument("--only", choices=[*COUNTS], help="only this side, without ratios")
    args = parser.parse_args()
    if args.only:
        measure((args.only,))
    else:
        sys.exit(not show_all(run()))


if __name__ == "__main__":
    main()

"""A large file that appears at once: how much memory it takes, and whether the host is still sampled on time.

Goal: memory does not depend on the size of what is to be caught up with, and metrics do not wait for logs. Two gigabytes of
JSON lines appear in a directory that is watched, while the host is sampled each second and exported to the same sink.
Resident memory is looked at ten times a second; its growth is the peak of the second half of the lines over that of the
first. Jitter is how far the time stamp of a sample is from where the schedule has it (the median of all of them), of the
samples taken meanwhile.

Limits: the lines repeat every 400,000; loopback, two cores shared with the sink. Reading may be slowed down by the agent's
own budget. `python -m benchmarks.pipelines.file_catch_up --gigabytes 10` takes ten, `--only collector` one side (it has no
jitter).
"""

import argparse
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import log_lines
from benchmarks.log_readers import Job, Sink, Start, begun, collector, forget_peak, ours, peak_bytes, place
from benchmarks.measure import Row, resident_bytes

GIGABYTES = 2.0
BLOCK_LINES = 400_000
_LOOK_SECONDS = 0.1
_SAMPLES_BEFORE = 5
_STALLED_SECONDS = 60.0
_MIB = 1 << 20


class CaughtUp(NamedTuple):
    """What it took. Of jitter, None where nothing was sampled."""

    lines: int
    wall_seconds: float
    peak_mib: float
    growth_mib: float
    jitter_ms: float | None


def _with_metrics(directory: Path, destination: Sink, job: Job):  # type: ignore[no-untyped-def]
    export = {"name": "sink", "endpoint": destination.url, "signals": ["logs", "metrics"]}
    return ours(directory, destination, job, {"host": {"interval": "1s"}, "export": [export]})


CONTENDERS: dict[str, Start] = {"ours": _with_metrics, "collector": collector}


def run(gigabytes: float = GIGABYTES) -> list[Row]:
    """Ours, and the Collector's memory."""
    mine, others = measure("ours", gigabytes), measure("collector", gigabytes)
    assert mine.jitter_ms is not None
    case = f"file {gigabytes:g} GB"
    return [
        Row(case, "MiB peak", mine.peak_mib, others.peak_mib, "Collector, json_parser", "file_memory"),
        Row(case, "MiB growth", mine.growth_mib, None, "", "file_memory_growth"),
        Row(f"{case}, sampling", "ms jitter", mine.jitter_ms, None, "", "file_sampling_jitter"),
    ]


def measure(name: str, gigabytes: float) -> CaughtUp:
    """One side."""
    with place() as directory:
        file = directory / "application.log"
        lines = _write(file, gigabytes)
        with begun(CONTENDERS[name], directory, Job()) as (pid, destination):
            if name == "ours":
                while len(destination.get("/samples")) < _SAMPLES_BEFORE:
                    time.sleep(_LOOK_SECONDS)
            forget_peak(pid)
            began_at, began = time.time(), time.monotonic()
            file.rename(directory / "logs" / file.name)
            first, second = _watch(pid, destination, 1, lines)
            ended_at, took = time.time(), time.monotonic() - began
            jitter_ms = None
            if name == "ours":
                time.sleep(2)
                jitter_ms = 1000 * jitter_seconds(destination.get("/samples"), began_at, ended_at)
            found = CaughtUp(lines, took, peak_bytes(pid) / _MIB, (second - first) / _MIB, jitter_ms)
    print(f"# catch up {name}: {found}", file=sys.stderr, flush=True)
    return found


def _write(file: Path, gigabytes: float) -> int:
    """Whole blocks of lines up to that size; how many lines."""
    block = "".join(f"{line}\n" for line in log_lines.application(BLOCK_LINES)).encode()
    blocks = math.ceil(gigabytes * 1e9 / len(block))
    with file.open("wb") as out:
        for _ in range(blocks):
            out.write(block)
    return blocks * BLOCK_LINES


def _watch(pid: int, destination: Sink, before: int, lines: int) -> tuple[int, int]:
    """The most that was resident while the first half of the lines came, and the second."""
    most = [0, 0]
    last, last_at = before, time.monotonic()
    while (now := destination.records) < before + lines:
        half = int(now > before + lines // 2)
        most[half] = max(most[half], resident_bytes(pid))
        if now > last:
            last, last_at = now, time.monotonic()
        elif time.monotonic() > last_at + _STALLED_SECONDS:
            raise SystemExit(f"{now - before} of {lines} lines have come, and no more do")
        time.sleep(_LOOK_SECONDS)
    return most[0], most[1]


def jitter_seconds(samples: list[float], began_at: float, ended_at: float) -> float:
    """How far a sample of that time is off its schedule at the most; one that was left out counts as a whole second."""
    phase = statistics.median(moment % 1.0 for moment in samples)
    phase = statistics.median((moment - phase + 0.5) % 1.0 for moment in samples) + phase - 0.5
    off = [abs((moment - phase + 0.5) % 1.0 - 0.5) for moment in samples if began_at <= moment <= ended_at]
    if len(off) < int(ended_at - began_at) - 1:
        return 1.0
    return max(off, default=0.0)


def main() -> None:
    """Another size, or one side."""
    from benchmarks.__main__ import show_all

    parser = argparse.ArgumentParser("python -m benchmarks.pipelines.file_catch_up")
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES)
    parser.add_argument("--only", choices=[*CONTENDERS], help="only this side, without ratios")
    args = parser.parse_args()
    measuring = partial(measure, gigabytes=args.gigabytes)
    if args.only:
        measuring(args.only)
    else:
        sys.exit(not show_all(run(args.gigabytes)))


if __name__ == "__main__":
    main()

"""Run every case, or those named: `python -m benchmarks [CASE …] [--json FILE]`. Exit 1 where a budget is exceeded."""

import argparse
import importlib
import json
import os
import platform
import sys
import tomllib
from pathlib import Path

from benchmarks.measure import Row

CASES = (
    "footprint.scrape",
    "footprint.resident",
    "micro.process_table",
    "micro.spool",
    "micro.otlp_request",
    "micro.span_processors",
    "pipelines.otlp_to_otlp",
    "pipelines.file_to_otlp",
    "pipelines.file_lag",
    "pipelines.file_catch_up",
    "footprint.idle_files",
)


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    args = parser.parse_args()
    rows = []
    good = True
    show_head()
    for case in args.cases or CASES:
        for row in importlib.import_module(f"benchmarks.{case}").run():
            rows.append(row)
            good &= show(row)
    if args.json:
        Path(args.json).write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")
    return 0 if good else 1


def show_head() -> None:
    """Print where this is and what the columns are."""
    kernel = os.uname().release
    print(
        f"Python {platform.python_version()}, Linux {kernel}, {os.cpu_count()} CPUs; ratios are ours / rival, lower is better"
    )
    print(f"{'case':24}{'unit':14}{'ours':>10}{'rival':>10}{'ratio':>8}{'budget':>9}  verdict  against")


def show(row: Row) -> bool:
    """Print one row; whether it keeps its budget."""
    budget = tomllib.loads((Path(__file__).parent / "budgets.toml").read_text())[row.budget]
    ratio = row.ours / row.rival if row.rival else None
    if "ratio" in budget:
        assert ratio is not None
        limit, good = f"{budget['ratio']:.2f}x", ratio <= budget["ratio"]
    else:
        limit, good = f"{budget['absolute']:g}", row.ours <= budget["absolute"]
    rival = f"{row.rival:10.3f}" if row.rival is not None else f"{'-':>10}"
    shown = f"{ratio:8.2f}" if ratio is not None else f"{'-':>8}"
    verdict = "ok" if good else "OVER"
    print(
        f"{row.case:24}{row.unit:14}{row.ours:10.3f}{rival}{shown}{limit:>9}  {verdict:7}  {row.rival_name}", flush=True
    )
    return good


def show_all(rows: list[Row]) -> bool:
    """The table of one case; whether every budget is kept."""
    show_head()
    verdicts = [show(row) for row in rows]
    return all(verdicts)


if __name__ == "__main__":
    sys.exit(main())

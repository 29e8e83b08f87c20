"""CPU of one scrape, ours and node_exporter's in turn.

Goal: what an operator pays for each scrape of the same collectors. Limits: one machine with few disks and interfaces; both
are asked with gzip over a new connection each time, more than a second apart, so every one of ours is a fresh reading.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, agent, cpu_seconds, node_exporter, scrape

SCRAPES = 40
_APART_SECONDS = 1.05
_NOT_NODE_EXPORTERS = ("cgroup", "gpu")


def run() -> list[Row]:
    """The median of the scrapes, in milliseconds."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as directory, node_exporter() as (their_pid, their_url):
        same = Path(directory) / "same-collectors.json"
        same.write_text(json.dumps({"host": {"collectors": dict.fromkeys(_NOT_NODE_EXPORTERS, False)}}))
        with agent_like_node_exporter(directory, same) as (our_pid, our_url):
            for _ in range(SCRAPES + 3):
                ours.append(_cost(our_pid, our_url))
                theirs.append(_cost(their_pid, their_url))
                time.sleep(_APART_SECONDS)
    return [
        Row("scrape", "ms CPU", _median_ms(ours), _median_ms(theirs), "node_exporter", "scrape_cpu"),
    ]


def agent_like_node_exporter(directory: str, configuration: Path):  # type: ignore[no-untyped-def]
    """The agent with exactly node_exporter's default collectors and no process groups."""
    return agent(directory, "--conf-dir", "", "--config", str(configuration))


def _cost(pid: int, url: str) -> float:
    before = cpu_seconds(pid)
    scrape(f"{url}/metrics")
    time.sleep(0.02)
    return cpu_seconds(pid) - before


def _median_ms(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds[3:])

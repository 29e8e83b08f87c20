"""Resident memory, idle CPU and time to READY with the shipped conf.d, exporting to a local sink.

Goal: what the agent costs a host on which nothing happens. Beside its memory stands the sum of the daemons it replaces so far:
node_exporter, process-exporter and a Collector with hostmetrics that exports to the same sink.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import (
    REPOSITORY,
    Row,
    agent,
    cpu_seconds,
    find,
    free_port,
    node_exporter,
    resident_bytes,
    running,
    scrape,
    sink,
)

PAGES = 300
IDLE_SECONDS = 60.0
STARTS = 5
COLLECTOR_SECONDS = 35.0
COLLECTOR = """
receivers:
  hostmetrics:
    collection_interval: 15s
    scrapers: {cpu: , disk: , load: , filesystem: , memory: , network: , paging: , processes: }
exporters:
  otlphttp: {endpoint: SINK}
service:
  telemetry:
    logs: {level: error}
    metrics:
      readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: PORT}}}}]
  pipelines: {metrics: {receivers: [hostmetrics], exporters: [otlphttp]}}
"""


def run() -> list[Row]:
    """Memory and idle CPU of one run, and the median of some starts."""
    with tempfile.TemporaryDirectory() as directory, sink() as destination:
        config = Path(directory) / "agent.json"
        config.write_text(json.dumps({"export": [{"name": "sink", "endpoint": destination}]}))
        with agent(directory, "--config", str(config)) as (pid, url):
            for _ in range(PAGES):
                scrape(f"{url}/metrics")
            began, cpu = time.monotonic(), cpu_seconds(pid)
            time.sleep(IDLE_SECONDS)
            percent = 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
            memory = resident_bytes(pid) / (1 << 20)
        others = _others(directory, destination)
    return [
        Row("resident", "MiB", memory, others, "node_exporter, process-exporter, Collector", "resident"),
        Row("idle", "% of a core", percent, None, "", "idle_cpu"),
        Row("ready", "s", _time_to_ready(), None, "", "ready"),
    ]


def _others(directory: str, destination: str) -> float:
    port, health_port = free_port(), free_port()
    process_exporter = [find("prometheus-process-exporter"), f"-web.listen-address=127.0.0.1:{port}"]
    process_exporter.append("-procnames=python,systemd")
    collector = Path(directory) / "collector.yaml"
    collector.write_text(COLLECTOR.replace("SINK", destination).replace("PORT", str(health_port)))
    with contextlib.ExitStack() as stack:
        node_pid, node_url = stack.enter_context(node_exporter())
        process_url = f"http://127.0.0.1:{port}"
        process_pid = stack.enter_context(running(process_exporter, process_url))
        collector_pid = stack.enter_context(
            running([find("otelcol"), f"--config={collector}"], f"http://127.0.0.1:{health_port}/metrics")
        )
        for _ in range(20):
            scrape(f"{node_url}/metrics")
            scrape(f"{process_url}/metrics")
        time.sleep(COLLECTOR_SECONDS)
        return sum(resident_bytes(pid) for pid in (node_pid, process_pid, collector_pid)) / (1 << 20)


def _time_to_ready() -> float:
    return sorted(_start_once() for _ in range(STARTS))[STARTS // 2]


def _start_once() -> float:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{directory}/notify")
        manager.settimeout(30)
        command = [sys.executable, "-m", "novel_agent", "run", "--conf-dir", str(REPOSITORY / "conf.d")]
        command += ["--listen", "127.0.0.1:0", "--state-dir", f"{directory}/state", "--log-level", "warning"]
        began = time.monotonic()
        environ = {**os.environ, "NOTIFY_SOCKET": f"{directory}/notify"}
        with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
            while b"READY=1" not in manager.recv(4096):
                continue
            took = time.monotonic() - began
            process.terminate()
            process.wait(20)
        return took

"""Starting both sides and reading what the kernel charges them for."""

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

RIVALS = Path(os.environ.get("RIVALS_DIR", Path.home() / ".cache" / "novel-engine-rivals")) / "bin"
REPOSITORY = Path(__file__).parent.parent
_SCHEDULER_CLOCK = 2


class Row(NamedTuple):
    """One comparison. `rival` is None where only the absolute figure counts; `budget` is a key of budgets.toml."""

    case: str
    unit: str
    ours: float
    rival: float | None
    rival_name: str
    budget: str


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, in nanosecond resolution (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | _SCHEDULER_CLOCK)


def resident_bytes(pid: int) -> int:
    """VmRSS."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find(name: str) -> str:
    """The rival's program."""
    found = str(RIVALS / name) if (RIVALS / name).exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is missing; `make bench` brings it")
    return found


def scrape(url: str) -> int:
    """GET with gzip, as Prometheus does; gives the bytes on the wire."""
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return len(answer.read())


@contextlib.contextmanager
def running(command: list[str], ready_url: str, environ: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process that answers at `ready_url`; gives its pid."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environ or {})})
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(ready_url, timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise SystemExit(f"{command[0]} does not start: {log.read().decode()}") from None
                    time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def agent(directory: str, *arguments: str) -> Iterator[tuple[int, str]]:
    """Our agent with the shipped conf.d and these arguments; gives its pid and base URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "novel_agent", "run", "--conf-dir", str(REPOSITORY / "conf.d")]
    command += [
        "--listen",
        f"127.0.0.1:{port}",
        "--state-dir",
        f"{directory}/state",
        "--log-level",
        "warning",
        *arguments,
    ]
    with running(command, f"{url}/-/ready") as pid:
        yield pid, url


@contextlib.contextmanager
def node_exporter() -> Iterator[tuple[int, str]]:
    """node_exporter as it comes; gives its pid and base URL."""
    port = free_port()
    with running([find("node_exporter"), f"--web.listen-address=127.0.0.1:{port}"], f"http://127.0.0.1:{port}/") as pid:
        yield pid, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """An HTTP server in this process that answers every POST with 200; gives its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

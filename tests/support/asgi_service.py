"""An application served by a real server on a free port of loopback: uvicorn or gunicorn, with as many workers as wanted."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

AGENT_SOURCES = Path(__file__).parents[2] / "agent"


class Service:
    """Where it listens, and its processes."""

    def __init__(self, port: int, process: "subprocess.Popen[str]", log: Path) -> None:
        self.port = port
        self.process = process
        self._log = log

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text()

    def request(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], str]:
        """One request over a connection of its own, so that any worker may take it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read().decode()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def metric(self, series: str) -> float | None:
        """The value of a series, written as the page writes it."""
        for line in self.request("/metrics")[2].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return None

    def workers(self) -> list[int]:
        """The pids of the processes that uvicorn or gunicorn started to serve."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    source: str,
    directory: Path,
    *,
    workers: int = 1,
    gunicorn: tuple[str, ...] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[Service]:
    """Serve the module `source`, which has an `app`, from `directory`, until the block ends."""
    (directory / "service.py").write_text(source)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "service:app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        str(workers),
    ]
    if gunicorn is not None:
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "service:app",
            "-b",
            f"127.0.0.1:{port}",
            "-w",
            str(workers),
            *gunicorn,
        ]
    log = directory / "server.log"
    variables = os.environ | {
        "PYTHONPATH": f"{AGENT_SOURCES}:{directory}",
        "OBSERVABILITY_ENDPOINT": "http://127.0.0.1:9",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=variables | (environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    service = Service(port, process, log)
    try:
        wait_until(lambda: _answers(service), service)
        if workers > 1:
            wait_until(lambda: len(service.workers()) == workers, service)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def wait_until(is_so: "object", service: Service, timeout_seconds: float = 40.0) -> None:
    """Poll until it is so; fails with the service's log."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():  # type: ignore[operator]
        if service.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"not so in time; the service wrote:\n{service.log()}")
        time.sleep(0.05)


def _answers(service: Service) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return service.request("/live-for-the-test")[0] > 0
    return False

"""Other people's programs, started on loopback for one test."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rivals import find, free_port


@pytest.fixture
def rival(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a program with `{port}` in its arguments replaced; gives its base URL once it answers `ready`."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str, ready: str | None = "/metrics", port: int | None = None) -> str:
            port = port or free_port()
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [find(name), *(argument.replace("{port}", str(port)) for argument in arguments)],
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"
            if ready is None:
                return url
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(url + ready, timeout=10).close()
                    return url
                except (urllib.error.URLError, ConnectionError):
                    assert process.poll() is None, (tmp_path / f"{name}.log").read_text()
                    assert time.monotonic() < deadline, f"{name} does not answer"
                    time.sleep(0.05)

        yield start

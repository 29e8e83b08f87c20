"""The real command, started and stopped by a test."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class AgentProcess:
    """`novel-agent run` on a free loopback port, as an operator would start it."""

    def __init__(
        self,
        directory: Path,
        configuration: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        listen: Sequence[str] = ("--listen", "127.0.0.1:0"),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.config_file = directory / "agent.yaml"
        self.write(configuration)
        self.log_file = directory / "agent.log"
        self._log = self.log_file.open("wb")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTLP_"))}
        self.process = subprocess.Popen(
            [
                *within,
                *(sys.executable, "-m", "novel_agent", "run"),
                *("--config", str(self.config_file), *listen),
                *("--state-dir", str(directory / "state")),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**kept, **(environ or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on "):
            code = self.process.wait(30)
            self.close()
            raise AssertionError(f"the agent ended with {code}: {line}{self.log_file.read_text()}")
        self.url = line.removeprefix("listening on ").strip().rstrip("/")

    def write(self, configuration: Mapping[str, Any]) -> None:
        self.config_file.write_text(json.dumps(configuration))

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def get(self, path: str, **headers: str) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_seconds: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_seconds)
        finally:
            self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def __enter__(self) -> "AgentProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

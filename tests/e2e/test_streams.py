"""The real command where its streams, its disk or the moment of a signal are not as one would wish."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

AGENT = (sys.executable, "-m", "novel_agent")
SECONDS = 30


def run_command(directory: Path) -> list[str]:
    config = directory / "agent.yaml"
    config.write_text("{}")
    return [
        *(*AGENT, "run", "--config", str(config)),
        *("--listen", "127.0.0.1:0", "--state-dir", str(directory / "state")),
    ]


@contextmanager
def service_manager(directory: Path) -> Iterator[socket.socket]:
    """What hears that the agent is ready, independent of its streams."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(SECONDS)
        yield manager


def url_when_ready(manager: socket.socket) -> str:
    while True:
        message = manager.recv(4096).decode()
        if "READY=1" in message:
            status = next(line for line in message.splitlines() if line.startswith("STATUS="))
            return status.split(", ")[1].rstrip("/")


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_the_daemon_runs_and_ends_well_whatever_its_streams_are(tmp_path, redirection):
    with (
        service_manager(tmp_path) as manager,
        subprocess.Popen(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", *run_command(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
        ) as process,
    ):
        assert process.stderr is not None
        url = url_when_ready(manager)
        with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as answer:
            assert b"\nnode_load1 " in answer.read()
        opened = {number: os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert b"Traceback" not in process.stderr.read()
    assert not any("socket" in target or "anon_inode" in target for target in opened.values()), opened


def test_the_daemon_outlives_who_read_its_address(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with (
        service_manager(tmp_path) as manager,
        subprocess.Popen(
            run_command(tmp_path), stdout=writing, stderr=subprocess.PIPE, env=environment(tmp_path)
        ) as process,
    ):
        os.close(writing)
        assert process.stderr is not None
        url = url_when_ready(manager)
        with urllib.request.urlopen(f"{url}/-/healthy", timeout=SECONDS) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert b"Traceback" not in process.stderr.read()


def test_a_command_whose_reader_has_seen_enough_ends_well():
    with subprocess.Popen(
        [*AGENT, "plugins", "--reference"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("arguments", [("version",), ("plugins", "--reference")])
def test_a_command_that_cannot_write_says_why_and_exits_1(arguments):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*AGENT, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=SECONDS, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "novel-agent: standard output: No space left on device\n"


def test_what_an_encoding_lacks_is_escaped():
    ended = subprocess.run(
        [*AGENT, "plugins", "--reference"],
        capture_output=True,
        timeout=SECONDS,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"node_load1" in ended.stdout
    assert ended.stdout.isascii()


def no_file_may_grow() -> None:
    """What a full disk does, to every file of the process: a write fails, making a file does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_a_full_disk_does_not_keep_an_agent_that_has_its_token_from_starting(tmp_path):
    command = run_command(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "api-token").write_text("0123456789012345678901234567890123456789\n")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=no_file_may_grow
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening on ")
        assert (tmp_path / "state" / "lock").read_text() == ""
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_full_disk_does_not_keep_an_agent_without_a_token_from_starting(tmp_path):
    with subprocess.Popen(
        run_command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=no_file_may_grow
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening on ")
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert b"no token kept" in process.stderr.read()


class Loading:
    """An agent held up while its configuration loads: the process that loads it is stopped."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(run_command(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + SECONDS
        while (loader := self._loader()) is None:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
        self.loader = loader
        os.kill(self.loader, signal.SIGSTOP)

    def _loader(self) -> int | None:
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"novel_agent.config" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        return None

    def __enter__(self) -> "Loading":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            os.kill(self.loader, signal.SIGKILL)
            self.process.communicate(timeout=SECONDS)

    def end(self) -> tuple[int, bytes, bytes]:
        stdout, stderr = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, stdout, stderr


def test_sighup_while_the_configuration_loads_is_survived(tmp_path):
    with Loading(tmp_path) as agent:
        agent.process.send_signal(signal.SIGHUP)
        os.kill(agent.loader, signal.SIGHUP)  # a terminal that closes sends it to both
        os.kill(agent.loader, signal.SIGCONT)
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline().startswith(b"listening on ")
        agent.process.terminate()
        code, _, stderr = agent.end()
    assert code == 0
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_configuration_loads_ends_at_once_with_the_loader(tmp_path, number):
    with Loading(tmp_path) as agent:
        agent.process.send_signal(number)
        os.kill(agent.loader, number)
        assert agent.end() == (0, b"", b"")
    assert not (tmp_path / "state").exists()


def test_a_failing_input_is_told_of_in_the_findings_alone(tmp_path):
    (tmp_path / "proc").mkdir()
    configuration = {
        "host": {"paths": {"proc": str(tmp_path / "proc")}},
        "processes": [{"name": "{comm}"}],
        "agent": {"state_dir": str(tmp_path / "state")},
    }
    config = tmp_path / "agent.yaml"
    config.write_text(json.dumps(configuration))
    doctor, check = (
        subprocess.run(
            [*AGENT, *arguments, "--config", str(config)], capture_output=True, text=True, timeout=60, check=False
        )
        for arguments in (("doctor",), ("check", "loadavg"))
    )
    assert (doctor.returncode, doctor.stderr) == (1, "")
    assert "host.collectors.loadavg: off" in doctor.stdout
    assert "PROBLEM input process: " in doctor.stdout
    assert "fix: remove the section `processes`" in doctor.stdout
    assert "host.collectors.process:" not in doctor.stdout
    assert not (tmp_path / "state").exists()
    assert (check.returncode, check.stderr) == (1, "")
    assert check.stdout.startswith("loadavg: failing")

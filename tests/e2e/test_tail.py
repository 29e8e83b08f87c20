"""`novel-agent tail` beside a real agent that receives."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_client import gauge, log_records, post
from trace_payloads import request, span, trace_id

from rivals import free_port

SECONDS = 30
TLS = Path(__file__).parents[1] / "api" / "tls"
BEACON = "beacon with ink"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def agent(tmp_path, port) -> Iterator[AgentProcess]:
    configuration = {"host": {"interval": "1h"}, "otlp_receiver": {"http": f"127.0.0.1:{port}"}}
    with AgentProcess(tmp_path, configuration) as agent:
        yield agent


class Tail:
    """The command, whose output is read from `reading`."""

    def __init__(self, process: subprocess.Popen[bytes], reading: int) -> None:
        self.process = process
        self._reading = reading
        self._read = b""

    def begin(self, port: int) -> None:
        """Send what it is to show until it does: then it listens."""
        deadline = time.monotonic() + SECONDS
        while not select.select([self._reading], [], [], 0.05)[0]:
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            post(port, "logs", log_records(BEACON, severity=21))
            post(port, "traces", request(span(9, 9, BEACON, failed="")))

    def line(self) -> str:
        """The next line that tells of something else than that."""
        while True:
            while b"\n" not in self._read:
                assert select.select([self._reading], [], [], SECONDS)[0]
                self._read += os.read(self._reading, 65_536)
            line, _, self._read = self._read.partition(b"\n")
            if BEACON.encode() not in line:
                return line.decode()

    def hang_up(self) -> None:
        """Read no more."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self._reading)
        os.close(null)

    def end(self) -> tuple[int, str]:
        """The exit code, and what was said to standard error."""
        _, said = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, said.decode()


def _mind_interrupts() -> None:
    """A shell starts what it runs in the background without minding Ctrl-C, and so would everything below it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def tailing(
    agent: AgentProcess, *options: str, output: tuple[int, int] | None = None, environ: dict[str, str] | None = None
) -> Iterator[Tail]:
    """The command with these options, its output a pipe unless `output` says where to read and write."""
    reading, writing = output or os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "novel_agent", "tail", "--url", agent.url, *options],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "TZ": "UTC", "TERM": "xterm", **(environ or {})},
        preexec_fn=_mind_interrupts,
    )
    os.close(writing)
    try:
        yield Tail(process, reading)
    finally:
        process.kill()
        process.communicate()
        os.close(reading)


def test_what_arrives_is_shown_a_line_each_and_ctrl_c_ends_it_well(agent, port):
    with tailing(agent) as tail:
        tail.begin(port)
        post(port, "logs", log_records("the muse is \x1b[31mlate\nagain", severity=13))
        post(port, "traces", request(span(1, 1, "GET /story", for_ms=250, failed="no ink", http__route="/story")))
        post(port, "metrics", gauge("pens.ready", 3, "{pen}", colour="blue"))
        record, tale, point = tail.line(), tail.line(), tail.line()
        tail.process.send_signal(signal.SIGINT)
        assert tail.end() == (0, "")
    assert record[12:] == " warn   otlp/novel-engine: the muse is \\x1b[31mlate\\nagain"
    assert tale == (
        "2026-09-21 14:13:20.000 span   otlp/web: GET /story 250 ms error no ink"
        f" trace {trace_id(1).hex()}  http.route=/story"
    )
    assert point[12:] == ' metric otlp/novel-engine: pens.ready{colour="blue"} 3 {pen}'


def test_filters_choose(agent, port):
    options = (
        "--signal",
        "logs",
        "--signal",
        "traces",
        "--source",
        "novel-engine",
        "--severity",
        "warn",
        "--match",
        "ink",
    )
    with tailing(agent, *options, "--json") as tail:
        tail.begin(port)
        post(port, "logs", log_records("no ink", severity=9))
        post(port, "logs", log_records("no ink", severity=17, service="web"))
        post(port, "metrics", gauge("ink", 3))
        post(port, "logs", log_records("no pen", "no ink at all", severity=17))
        shown = json.loads(tail.line())
    assert (shown["type"], shown["body"], shown["severity"], shown["source"], shown["service"]) == (
        "log", "no ink at all", "error", "otlp", "novel-engine",
    )  # fmt: skip


def test_it_ends_by_itself_after_as_many_as_asked_for(agent, port):
    with tailing(agent, "-n", "1", "--signal", "logs") as tail:
        tail.begin(port)
        assert tail.end() == (0, "")


def test_over_tls_it_works_the_same(tmp_path, port):
    tls = {"cert_file": str(TLS / "server.pem"), "key_file": str(TLS / "server.key")}
    configuration = {
        "agent": {"tls": tls},
        "host": {"interval": "1h"},
        "otlp_receiver": {"http": f"127.0.0.1:{port}"},
    }
    with AgentProcess(tmp_path, configuration) as agent:
        with tailing(agent) as tail:
            code, said = tail.end()
            assert code == 3
            assert "whom to trust: --ca-file" in said
        with tailing(agent, "--ca-file", tls["cert_file"]) as tail:
            tail.begin(port)
            post(port, "logs", log_records("in secret"))
            assert tail.line().endswith("novel-engine: in secret")
            tail.process.send_signal(signal.SIGINT)
            assert tail.end() == (0, "")


def test_of_spans_it_shows_what_redaction_and_head_sampling_leave(tmp_path, port):
    traces = {"head_sampling": 0.5, "redact": {"attributes": ["user"]}}
    configuration = {"host": {"interval": "1h"}, "otlp_receiver": {"http": f"127.0.0.1:{port}"}, "traces": traces}
    dropped, kept = 1, (1 << 128) - 1  # by the last seven bytes of the trace id
    with AgentProcess(tmp_path, configuration) as agent, tailing(agent) as tail:
        tail.begin(port)
        post(port, "traces", request(span(dropped, 1, "dropped"), span(kept, 2, "kept", user="jane")))
        assert tail.line().endswith(f"kept 10 ms unset trace {trace_id(kept).hex()}  user=[redacted]")


def test_an_agent_that_stops_is_told_of_with_exit_3(agent, port):
    with tailing(agent) as tail:
        tail.begin(port)
        agent.send(signal.SIGTERM)
        code, said = tail.end()
    assert code == 3
    assert said == f"novel-agent: the agent at {agent.url} stops, or listens elsewhere from now on\n"


def test_an_agent_that_is_killed_is_told_of_with_exit_3(agent, port):
    with tailing(agent) as tail:
        tail.begin(port)
        agent.process.kill()
        code, said = tail.end()
    assert (code, said) == (3, f"novel-agent: the agent at {agent.url} has gone away\n")


def test_a_reader_who_has_seen_enough_ends_it_quietly(agent, port):
    with tailing(agent) as tail:
        tail.begin(port)
        tail.hang_up()
        post(port, "logs", log_records("one more"))
        assert tail.end() == (0, "")


def test_a_reader_who_has_gone_is_noticed_though_nothing_comes(agent, port):
    with tailing(agent, "--signal", "logs") as tail:
        tail.begin(port)
        post(port, "logs", log_records("the last"))
        assert tail.line().endswith("the last")
        tail.hang_up()
        assert tail.end() == (0, "")  # at the next heartbeat


def test_on_a_terminal_it_has_colours_and_keeps_to_the_width(agent, port):
    reading, writing = pty.openpty()
    fcntl.ioctl(reading, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with tailing(agent, output=(reading, writing), environ={"COLUMNS": "", "LINES": ""}) as tail:
        tail.begin(port)
        post(port, "logs", log_records("\x1b[2J" + "x" * 100, severity=17))
        line = tail.line().rstrip("\r")
    assert "\x1b[31merror  \x1b[0m" in line
    assert "\\x1b[2Jxx" in line
    shown = line.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert len(shown) == 60
    assert shown.endswith("x…")
    assert "\x1b" not in shown

"""The stream behind `tail`: a JSON object a line, read as it comes, however slowly it is shown."""

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from novel_agent.cli.client import Agent, Refused
from novel_agent.cli.tail_text import harmless
from novel_agent.errors import AgentError, AgentUnreachable
from novel_agent.runtime.tapped import TailHeartbeat, TailLine, TailSkipped

SILENCE_SECONDS = 20.0
"""Longer than the agent is ever quiet: it sends a heartbeat every 5 s."""

MOST_BYTES = 8 << 20


class Line(NamedTuple):
    """A line as it came and what it says."""

    raw: bytes
    decoded: TailLine


@contextmanager
def streaming(agent: Agent, path: str) -> Iterator[Iterator[Line]]:
    """The lines of a path; AgentUnreachable or Refused where there are none, or where they break off."""
    connection = _connection(agent)
    try:
        answer, wire = _answer(agent, connection, path)
        backlog = _Backlog(_lines(agent, answer))
        try:
            yield iter(backlog)
        finally:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)  # the thread that reads from it notices
            backlog.join()
            answer.close()
    finally:
        connection.close()


def _connection(agent: Agent) -> HTTPConnection:
    parts = urlsplit(agent.url)
    host = parts.hostname or ""
    if agent.tls is not None:
        return HTTPSConnection(host, parts.port, timeout=SILENCE_SECONDS, context=agent.tls)
    return HTTPConnection(host, parts.port, timeout=SILENCE_SECONDS)


def _answer(agent: Agent, connection: HTTPConnection, path: str) -> tuple[HTTPResponse, socket.socket]:
    """The answer, and the socket it comes through, which the connection may let go of."""
    headers = {"Authorization": f"Bearer {agent.token}"} if agent.token else {}
    try:
        connection.connect()
        wire = connection.sock
        connection.request("GET", urlsplit(agent.url).path + path, headers=headers)
        answer = connection.getresponse()
    except OSError as error:
        hint = "; whom to trust: --ca-file" if isinstance(error, ssl.SSLCertVerificationError) else ""
        raise AgentUnreachable(
            f"no agent answers at {agent.url} ({error}); is it running? Another address: --url{hint}"
        ) from None
    except (HTTPException, ValueError) as error:
        raise _not_an_agent(agent, str(error)) from None
    if answer.status != 200:
        raise _refusal(agent, answer)
    return answer, wire


def _refusal(agent: Agent, answer: HTTPResponse) -> AgentError:
    said = None
    with answer, suppress(OSError, HTTPException, ValueError, KeyError, TypeError):
        said = json.load(answer)["error"]
    if not isinstance(said, str) or answer.status == 404:
        return _not_an_agent(agent, f"{answer.status} {answer.reason}")
    if answer.status == 401:
        return Refused(f"the agent wants a token ({harmless(said)}): --token-file, or OBSERVABILITY_TOKEN")
    return Refused(f"the agent answers {answer.status}: {harmless(said)}")


def _not_an_agent(agent: Agent, why: str) -> AgentUnreachable:
    return AgentUnreachable(
        f"what answers at {agent.url} is not an agent, or not one of this version ({harmless(why)}); another address: --url"
    )


def _lines(agent: Agent, answer: HTTPResponse) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(TailLine)
    while True:
        try:
            raw = answer.readline()
            if not raw.endswith(b"\n"):
                raise AgentUnreachable(f"the agent at {agent.url} has gone away")
            yield Line(raw, decoder.decode(raw))
        except TimeoutError:
            raise AgentUnreachable(f"the agent at {agent.url} has fallen silent") from None
        except (OSError, HTTPException):
            raise AgentUnreachable(f"the agent at {agent.url} has gone away") from None
        except msgspec.DecodeError as error:
            raise _not_an_agent(agent, str(error)) from None


class _Backlog:
    """Lines that wait to be shown. They are read in a thread: the agent cuts off who does not read for a while.

    So a pager, or Ctrl-S, may hold this up. Beyond `MOST_BYTES` the oldest give way and are counted as skipped.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._waiting: deque[Line] = deque()
        self._waiting_bytes = 0
        self._skipped = 0
        self._ended: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread, which has to come."""
        self._thread.join()

    def _read(self) -> None:
        try:
            for line in self._lines:
                self._put(line)
        except Exception as error:  # noqa: BLE001 - raised where the lines are read
            with self._changed:
                self._ended = error
                self._changed.notify()

    def _put(self, line: Line) -> None:
        with self._changed:
            if self._waiting and isinstance(line.decoded, TailHeartbeat):
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line.raw)
            while self._waiting_bytes > MOST_BYTES and len(self._waiting) > 1:
                lost = self._take().decoded
                self._skipped += lost.items if isinstance(lost, TailSkipped) else 1
            self._changed.notify()

    def _take(self) -> Line:
        line = self._waiting.popleft()
        self._waiting_bytes -= len(line.raw)
        return line

    def __iter__(self) -> Iterator[Line]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    assert self._ended is not None
                    raise self._ended
                skipped, self._skipped = self._skipped, 0
                line = self._take()
            if skipped:
                yield _line_of(TailSkipped(skipped))
            yield line


def _line_of(skipped: TailSkipped) -> Line:
    return Line(msgspec.json.encode(skipped) + b"\n", skipped)

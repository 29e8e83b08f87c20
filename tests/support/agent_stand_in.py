"""Something that listens where the agent would, and keeps what it is told."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class AgentStandIn:
    """Answers every PUT with `status`, or after `hangs` is set only when that is cleared."""

    def __init__(self) -> None:
        self.status = 200
        self.puts: list[tuple[str, Any, dict[str, str]]] = []
        self.changed = threading.Condition()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.url = ""

    def wait_for(self, count: int, timeout_seconds: float = 20.0) -> bool:
        """Until that many documents came."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.puts) >= count, timeout_seconds)


@contextlib.contextmanager
def agent_stand_in() -> Iterator[AgentStandIn]:
    """On a free port of loopback until the block ends."""
    told = AgentStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with told.changed:
                told.puts.append((self.path, json.loads(body), {k.lower(): v for k, v in self.headers.items()}))
                told.changed.notify_all()
            told.may_answer.wait(20)
            with contextlib.suppress(OSError):
                self.send_response(told.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        told.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()

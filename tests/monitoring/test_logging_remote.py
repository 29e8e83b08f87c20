import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from monitoring import _courier, _loki
from monitoring.structured_logging import LoggingConfig, setup_structured_logging, shutdown_structured_logging


class Server:
    """Loki and an agent in one: keeps what is pushed, and answers what the agent's status is set to."""

    def __init__(self):
        self.status = 204
        self.agent = None
        self.pushed = []
        self.asked = 0
        self.changed = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                with server.changed:
                    server.asked += 1
                    if server.status == 204:
                        server.pushed.append((self.path, json.loads(body)))
                    server.changed.notify_all()
                self.answer(server.status, b"")

            def do_GET(self):
                self.answer(404 if server.agent is None else 200, json.dumps(server.agent).encode())

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def wait(self, enough):
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self), 20)

    def streams(self):
        return [stream for _, body in self.pushed for stream in body["streams"]]

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(_courier, "_FIRST_PAUSE_SECONDS", 0.01)
    made = Server()
    monkeypatch.setenv("OBSERVABILITY_ENDPOINT", made.url)
    yield made
    shutdown_structured_logging()
    made.close()


def logger(server, directory, **options):
    config = LoggingConfig(
        log_directory=directory,
        enable_console=False,
        enable_remote_logging=True,
        remote_endpoint=f"{server.url}/loki/api/v1/push",
        **options,
    )
    return setup_structured_logging(config, "novel-engine")


def test_without_an_agent_lines_are_pushed_as_they_are_in_the_files(server, tmp_path):
    log = logger(server, tmp_path)
    log.info("one", n=1)
    log.info("two")
    log.log_security_event("x", "three")
    log.flush(20)
    assert [path for path, _ in server.pushed] == ["/loki/api/v1/push"]
    by_level = {stream["stream"]["level"]: stream for stream in server.streams()}
    assert set(by_level["info"]["stream"]) == {"service_name", "host_name", "category", "level"}
    assert by_level["info"]["stream"]["service_name"] == "novel-engine"
    assert by_level["warning"]["stream"]["category"] == "security"
    lines = [text for _, text in by_level["info"]["values"]]
    assert lines == (tmp_path / "novel-engine.log").read_text().splitlines()
    nanoseconds, text = by_level["info"]["values"][0]
    assert nanoseconds.endswith("000")
    assert len(nanoseconds) == 19
    assert json.loads(text)["timestamp"][20:26] == nanoseconds[10:16]


def test_an_agent_that_follows_the_files_takes_the_lines_and_none_is_pushed(server, tmp_path):
    path = str(tmp_path / "novel-engine.log")
    server.agent = {"version": "1", "logs": [{"name": "novel-engine", "files": [{"path": path, "state": "reading"}]}]}
    log = logger(server, tmp_path)
    log.info("one")
    log.flush(20)
    shutdown_structured_logging()
    assert server.pushed == []


def test_an_agent_that_does_not_follow_them_is_given_a_moment_and_then_lines_are_pushed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_loki, "_SETTLE_SECONDS", 0.2)
    server.agent = {"logs": [{"files": [{"path": "/var/log/other.log"}]}]}
    log = logger(server, tmp_path)
    log.info("one")
    server.wait(lambda server: server.pushed)
    assert len(server.streams()) == 1


def test_without_files_the_agent_is_not_asked(server, tmp_path):
    server.agent = {"logs": []}
    log = logger(server, tmp_path, enable_file=False)
    log.info("one")
    log.flush(20)
    assert len(server.streams()) == 1
    assert list(tmp_path.iterdir()) == []


def test_lines_are_kept_while_loki_is_unwell_and_pushed_once_it_is_back(server, tmp_path, capsys):
    server.status = 503
    log = logger(server, tmp_path)
    log.info("one")
    server.wait(lambda server: server.asked >= 2)
    server.status = 204
    server.wait(lambda server: server.pushed)
    shutdown_structured_logging()
    assert [json.loads(text)["message"] for stream in server.streams() for _, text in stream["values"]] == ["one"]
    said = capsys.readouterr().err
    assert said.count("is kept") == 1
    assert "answers 503" in said


def test_an_address_without_the_path_is_completed(server, tmp_path):
    config = LoggingConfig(
        log_directory=tmp_path, enable_console=False, enable_remote_logging=True, remote_endpoint=server.url
    )
    log = setup_structured_logging(config)
    log.info("one")
    log.flush(20)
    assert [path for path, _ in server.pushed] == ["/loki/api/v1/push"]


def test_remote_logging_to_nowhere_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("REMOTE_LOG_ENDPOINT", raising=False)
    setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False, enable_remote_logging=True))
    shutdown_structured_logging()
    assert "without remote_endpoint" in capsys.readouterr().err

"""`novel-agent doctor` before and after a run: every kind of destination, the receivers' ports, what is left in spools."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from agent_process import AgentProcess
from otlp_client import post
from otlp_sink import OtlpSink
from trace_payloads import request, span

from rivals import free_port


def novel_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "novel_agent", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def doctor(tmp_path, configuration: dict) -> tuple[int, dict[str, dict]]:
    """The exit code, and the findings by what they are of."""
    config = tmp_path / "doctor.yaml"
    config.write_text(json.dumps({"agent": {"listen": f"127.0.0.1:{free_port()}"}, **configuration}))
    ended = novel_agent("doctor", "--json", "--config", str(config), "--state-dir", str(tmp_path / "agent" / "state"))
    assert ended.stderr == ""
    return ended.returncode, {each["what"]: each for each in json.loads(ended.stdout)}


@pytest.fixture
def answering() -> Iterator[str]:
    """A server that answers every POST with 204, as Loki and Prometheus do."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_kind_of_destination_is_tried_and_nothing_is_made(tmp_path, answering):
    with OtlpSink() as sink:
        exports = [
            {"name": "otlp", "endpoint": sink.url},
            {"name": "loki", "type": "loki", "endpoint": answering},
            {"name": "prometheus", "type": "prometheus_remote_write", "endpoint": answering},
            {"name": "file", "type": "file", "path": str(tmp_path / "telemetry.jsonl")},
            {"name": "down", "type": "loki", "endpoint": f"http://127.0.0.1:{free_port()}"},
            {"name": "nowhere", "type": "file", "path": str(tmp_path / "doctor.yaml" / "telemetry.jsonl")},
        ]
        code, found = doctor(tmp_path, {"export": exports})
    assert code == 1
    verdicts = {what: each["verdict"] for what, each in found.items() if what.startswith("export")}
    assert verdicts == {
        "export otlp": "ok",
        "export loki": "ok",
        "export prometheus": "ok",
        "export file": "ok",
        "export down": "problem",
        "export nowhere": "problem",
    }
    assert str(tmp_path / "doctor.yaml" / "telemetry.jsonl") in found["export nowhere"]["says"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doctor.yaml"]


def test_the_addresses_of_receivers_are_looked_at(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        busy = f"127.0.0.1:{holder.getsockname()[1]}"
        receiver = {"http": f"127.0.0.1:{free_port()}", "grpc": busy}
        _, found = doctor(tmp_path, {"otlp_receiver": receiver})
        _, elsewhere = doctor(tmp_path, {"otlp_receiver": {"http": f"192.0.2.1:{free_port()}"}})
    assert found["OTLP over HTTP"]["verdict"] == "ok"
    assert (found["OTLP over gRPC"]["verdict"], found["OTLP over gRPC"]["says"]) == ("note", f"{busy} is in use")
    assert "otlp_receiver.grpc" in found["OTLP over gRPC"]["fix"]
    assert elsewhere["OTLP over HTTP"]["verdict"] == "problem"
    assert "OTLP over gRPC" not in elsewhere


def test_what_waits_for_a_destination_that_is_gone_is_named_with_what_to_do(tmp_path):
    port = free_port()
    with OtlpSink() as sink:
        sink.status = 503
        exports = [
            {"name": "old central", "endpoint": sink.url},
            {"name": "old", "type": "prometheus_remote_write", "endpoint": sink.url.replace("127.0.0.1", "localhost")},
        ]
        settings = {"host": {"interval": "1s"}, "otlp_receiver": {"http": f"127.0.0.1:{port}"}, "export": exports}
        with AgentProcess(tmp_path / "agent", settings) as agent:
            assert post(port, "traces", request(span(1, 1, "kept"))).status == 200
            deadline = time.monotonic() + 20
            while not all(
                each["queue_oldest_age_seconds"] > 1 for each in agent.json("/api/v1/status")["destinations"]
            ):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            agent.send(signal.SIGKILL)
            agent.process.wait(10)
        _, still = doctor(tmp_path, {"export": exports})
        code, found = doctor(tmp_path, {"export": [{"name": "new", "endpoint": sink.url}]})
    assert "spool old central" not in still
    assert still["spools"]["verdict"] in {"ok", "note"}
    left, of_metrics = found["spool old central"], found["spool old@remote_write"]
    assert (left["verdict"], of_metrics["verdict"]) == ("note", "note")
    assert left["says"].startswith("0.0 MiB wait for a destination that is not configured any more")
    directory = tmp_path / "agent" / "state" / "spool" / "old%20central"
    assert "novel-agent queue export 'old central' --output FILE" in left["fix"]
    assert left["fix"].endswith(f"rm -r {directory}")
    state = ("--state-dir", str(tmp_path / "agent" / "state"))
    exported = novel_agent("queue", "export", "old central", "--output", str(tmp_path / "kept.jsonl"), *state)
    assert (exported.returncode, exported.stderr) == (0, "")
    assert '"kept"' in (tmp_path / "kept.jsonl").read_text()
    refused = novel_agent("queue", "export", "old@remote_write", *state)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--format protobuf" in refused.stderr
    exported = novel_agent(
        "queue", "export", "old@remote_write", "--output", str(tmp_path / "kept.bin"), "--format", "protobuf", *state
    )
    assert (exported.returncode, exported.stderr) == (0, "")
    assert b"node_load1" in (tmp_path / "kept.bin").read_bytes()
    shutil.rmtree(directory)
    _, after = doctor(tmp_path, {"export": []})
    assert "spool old central" not in after
    assert "spool old@remote_write" in after
    assert code == 1  # the destination `new` answers 503

import json
import os
import re
import signal
import socket
import statistics
import time

import pytest
from agent_stand_in import agent_stand_in
from asgi_service import serving, wait_until

SERVICE = """
import asyncio, os, pathlib
from fastapi import FastAPI, WebSocket
from starlette.responses import StreamingResponse
from monitoring import create_health_endpoint, setup_prometheus_endpoint
from monitoring.health_checks import HealthCheck, create_database_check, health_manager
from monitoring.prometheus_metrics import metrics_collector

app = FastAPI(); setup_prometheus_endpoint(app); create_health_endpoint(app)
broken = pathlib.Path("broken")

async def check_external_api():
    if broken.exists():
        raise ConnectionError("refused")
    return {"status": "healthy", "message": f"API is responding, says {os.getpid()}"}

health_manager.register_check(HealthCheck("external_api", check_external_api, 1.0, critical=True, interval_seconds=0.2))
health_manager.register_check(HealthCheck("hangs", asyncio.Event().wait, timeout_seconds=0.2, interval_seconds=0.5))
import sqlite3
sqlite3.connect("stories.db").close()
health_manager.register_check(create_database_check("stories.db"))

@app.get("/stories/{n}")
async def story(n: int):
    return n

@app.get("/stream")
async def stream():
    async def parts():
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0.001)
    return StreamingResponse(parts())

@app.get("/slow")
async def slow():
    await asyncio.sleep(0.5)
"""


def health(service, path="/health"):
    status, _, body = service.request(path)
    return status, json.loads(body)


@pytest.mark.parametrize("workers", [1, 4])
def test_health_follows_a_check_that_breaks_and_heals_and_the_agent_is_told(tmp_path, workers):
    with (
        agent_stand_in() as told,
        serving(
            SERVICE,
            tmp_path,
            workers=workers,
            environment={"OBSERVABILITY_ENDPOINT": told.url, "OTEL_SERVICE_NAME": "novels"},
        ) as service,
    ):
        wait_until(lambda: health(service)[1]["checks"]["external_api"]["status"] == "healthy", service)
        wait_until(lambda: health(service)[1]["checks"]["hangs"]["message"] == "no answer within 0.2 s", service)
        code, body = health(service)
        assert (code, body["status"]) == (200, "degraded")
        assert body["checks"]["database"]["status"] == "healthy"
        (tmp_path / "broken").touch()
        wait_until(lambda: health(service)[0] == 503, service)
        assert health(service, "/health/live")[0] == 200
        wait_until(lambda: health(service, "/health/ready")[0] == 503, service)
        wait_until(lambda: said_last(told, "external_api") == "unhealthy", service)
        (tmp_path / "broken").unlink()
        wait_until(lambda: [health(service)[0] for _ in range(8)] == [200] * 8, service)
        wait_until(lambda: said_last(told, "external_api") == "healthy", service)
    messages = [document["message"] for _, document, _ in told.puts]
    assert len({re.search(r"says (\d+)", message).group(1) for message in messages if "says" in message}) == 1


def said_last(told, check):
    documents = [document for path, document, _ in told.puts if path == f"/api/v1/health/novels/{check}"]
    return documents[-1]["status"] if documents else None


def test_when_the_worker_that_told_the_agent_is_killed_another_does(tmp_path):
    with (
        agent_stand_in() as told,
        serving(SERVICE, tmp_path, workers=2, environment={"OBSERVABILITY_ENDPOINT": told.url}) as service,
    ):
        assert told.wait_for(3)
        speaker = speaking(told)
        assert speaker in service.workers()
        os.kill(speaker, signal.SIGKILL)
        wait_until(lambda: speaking(told) != speaker, service)


def speaking(told):
    said = [document["message"] for _, document, _ in told.puts if "says" in document["message"]]
    return int(re.search(r"says (\d+)", said[-1]).group(1)) if said else 0


def test_clients_that_leave_are_counted_once_and_not_as_errors(tmp_path):
    with serving(SERVICE, tmp_path) as service:
        for path in ("/stream", "/slow"):
            with socket.create_connection(("127.0.0.1", service.port)) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if path == "/stream":
                    assert client.recv(1000).startswith(b"HTTP/1.1 200")
        wait_until(
            lambda: service.metric('http_requests_total{endpoint="/stream",method="GET",status_code="200"}') == 1,
            service,
        )
        slow = 'http_requests_total{endpoint="/slow",method="GET",status_code="200"}'
        wait_until(lambda: service.metric(slow) == 1, service)
        assert "http_errors_total{" not in service.request("/metrics")[2]


@pytest.mark.parametrize("agent", ["stopped", "hangs", "answers 500"])
def test_the_application_serves_whatever_the_agent_does(tmp_path, agent):
    with agent_stand_in() as told:
        if agent == "hangs":
            told.may_answer.clear()
        told.status = 500
        endpoint = "http://127.0.0.1:9" if agent == "stopped" else told.url
        with serving(SERVICE, tmp_path, environment={"OBSERVABILITY_ENDPOINT": endpoint}) as service:
            durations = []
            for n in range(100):
                began_at = time.perf_counter()
                assert service.request(f"/stories/{n}")[0] == 200
                durations.append(time.perf_counter() - began_at)
            assert statistics.median(durations) < 0.1
            began_at = time.perf_counter()
            assert health(service)[0] == 200
            assert time.perf_counter() - began_at < 1.5
            wait_until(lambda: "the agent does not answer" in service.log(), service)
            assert service.log().count("the agent does not answer") == 1

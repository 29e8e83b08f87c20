import asyncio
import json
import sqlite3
import threading
import time

import pytest
from agent_stand_in import agent_stand_in
from asgi_client import ask
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from monitoring import _agent, _asgi, _said, health_checks
from monitoring.health_checks import (
    HealthCheck,
    HealthManager,
    HealthStatus,
    create_database_check,
    create_health_endpoint,
)


class Deliveries:
    """In the agent's place: runs what is due when told, keeps what is delivered."""

    def __init__(self):
        self.delivered = {}
        self.withdrawn = []
        self.due = []

    def deliver(self, path, document):
        self.delivered[path] = document

    def withdraw(self, path):
        self.withdrawn.append(path)

    def at(self, delay_seconds, due):
        self.due.append((delay_seconds, due))

    def run_due(self, within_seconds=0.0):
        now, self.due = [d for d in self.due if d[0] <= within_seconds], [d for d in self.due if d[0] > within_seconds]
        for _, due in now:
            due()


@pytest.fixture
def deliveries():
    return Deliveries()


@pytest.fixture
def manager(deliveries, monkeypatch):
    manager = HealthManager(deliveries)
    monkeypatch.setattr(health_checks, "health_manager", manager)
    return manager


@pytest.fixture
def agent():
    made = _agent.Agent()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _nothing_said():
    _said._said.clear()


def of(check_function, **more):
    return HealthCheck(name="it", check_function=check_function, **more)


async def external_api():
    return {"status": "healthy", "message": "API is responding", "details": {"latency": 3}}


async def wrong():
    raise ConnectionError("refused")


@pytest.mark.parametrize(
    ("check_function", "status", "message"),
    [
        (external_api, "healthy", "API is responding"),
        (lambda: {"status": "degraded", "message": "slow"}, "degraded", "slow"),
        (lambda: {"status": HealthStatus.UNHEALTHY}, "unhealthy", ""),
        (lambda: {"status": "HEALTHY"}, "healthy", ""),
        (lambda: True, "healthy", ""),
        (lambda: False, "unhealthy", ""),
        (lambda: HealthStatus.DEGRADED, "degraded", ""),
        (wrong, "unhealthy", "ConnectionError: refused"),
        (lambda: 1 / 0, "unhealthy", "ZeroDivisionError: division by zero"),
        (lambda: None, "unhealthy", "the check returned NoneType, not a dict, a bool or HealthStatus"),
        (lambda: 1, "unhealthy", "the check returned int, not a dict, a bool or HealthStatus"),
        (lambda: {"message": "no status"}, "unhealthy", "the check returned no known status: None"),
        (lambda: {"status": "fine"}, "unhealthy", "the check returned no known status: 'fine'"),
    ],
)
async def test_what_a_check_returns_says_how_it_is(manager, check_function, status, message):
    manager.register_check(of(check_function))
    result = await manager.run_check("it")
    assert (result.status.value, result.message) == (status, message)


async def test_an_asynchronous_check_is_cancelled_when_its_time_is_up(manager):
    cancelled = []

    async def hangs():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    manager.register_check(of(hangs, timeout_seconds=0.05))
    result = await manager.run_check("it")
    assert (result.status.value, result.message) == ("unhealthy", "no answer within 0.05 s")
    assert cancelled == [True]


def test_a_check_that_hangs_in_a_thread_is_unhealthy_and_not_started_again(manager, deliveries):
    goes_on, calls = threading.Event(), []

    def hangs():
        calls.append(True)
        goes_on.wait(20)
        return True

    manager.register_check(of(hangs, timeout_seconds=0.05, interval_seconds=1.0))
    deliveries.run_due()
    deliveries.run_due(within_seconds=1.0)
    manager.wait_for_first(20)
    assert [(r.status.value, r.message) for r in manager.results()] == [("unhealthy", "no answer within 0.05 s")]
    assert len(calls) == 1
    goes_on.set()


def test_checks_run_when_due_and_their_last_result_is_kept_and_delivered(manager, deliveries, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "novel engine")
    answers = [True, False]
    manager.register_check(of(lambda: answers.pop(0), critical=True, interval_seconds=15.0, timeout_seconds=10.0))
    deliveries.run_due()
    manager.wait_for_first(20)
    assert manager.overall_status() is HealthStatus.HEALTHY
    document = deliveries.delivered["/api/v1/health/novel%20engine/it"]
    assert document["status"] == "healthy"
    assert document["critical"] is True
    assert document["ttl_seconds"] == 55.0
    deliveries.run_due(within_seconds=15.0)
    wait_until(lambda: manager.overall_status() is HealthStatus.UNHEALTHY)
    assert deliveries.delivered["/api/v1/health/novel%20engine/it"]["status"] == "unhealthy"


def wait_until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_check_of_the_same_name_replaces_it(manager, deliveries):
    manager.register_check(of(lambda: False))
    manager.register_check(of(lambda: True))
    deliveries.run_due()
    manager.wait_for_first(20)
    assert [r.status.value for r in manager.results()] == ["healthy"]


def test_a_check_taken_away_is_no_longer_told(manager, deliveries):
    manager.register_check(of(lambda: True))
    manager.unregister_check("it")
    deliveries.run_due()
    assert manager.results() == []
    assert deliveries.delivered == {}
    assert deliveries.withdrawn == ["/api/v1/health/novel-engine/it"]


async def test_a_change_counts_after_its_threshold(manager):
    answers = [True, False, False, True, True]
    manager.register_check(of(lambda: answers.pop(0), failure_threshold=2, success_threshold=2))
    said = [(await manager.run_check("it")).status.value for _ in range(5)]
    assert said == ["healthy", "healthy", "unhealthy", "unhealthy", "healthy"]


def served(manager, *checks, prefix=""):
    app = FastAPI()
    create_health_endpoint(app, prefix)
    for check in checks:
        manager.register_check(check)
    return app


async def look(app, path, **headers):
    answer = await ask(app, path, **headers)
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("critical", "status", "code", "ready"),
    [(True, "unhealthy", 503, 503), (False, "degraded", 200, 200)],
)
async def test_what_a_broken_check_makes_of_the_whole(manager, critical, status, code, ready):
    app = served(manager, HealthCheck("good", lambda: True), HealthCheck("bad", lambda: False, critical=critical))
    await manager.run_check("good")
    await manager.run_check("bad")
    answered, body = await look(app, "/health")
    assert (answered, body["status"]) == (code, status)
    assert body["checks"]["bad"]["status"] == "unhealthy"
    assert 0 <= body["checks"]["good"]["age_seconds"] < 5
    assert (await look(app, "/health/ready"))[0] == (await look(app, "/ready"))[0] == ready
    assert (await look(app, "/health/live"))[0] == (await look(app, "/live"))[0] == 200


async def test_without_checks_who_answers_is_healthy(manager):
    assert (await look(served(manager), "/health"))[1]["status"] == "healthy"


async def test_detailed_says_details_and_the_process(manager):
    app = served(manager, of(external_api))
    await manager.run_check("it")
    _, body = await look(app, "/health/detailed")
    assert body["checks"]["it"]["details"] == {"latency": 3}
    assert body["process_id"] > 1
    assert body["uptime_seconds"] > 0


async def test_health_json_is_given_where_it_is_asked_for(manager):
    app = served(manager, of(lambda: False))
    await manager.run_check("it")
    answer = await ask(app, "/health", accept="application/health+json")
    assert answer.headers["content-type"] == "application/health+json"
    body = json.loads(answer.body)
    assert body["status"] == "warn"
    assert body["checks"]["it"][0]["status"] == "fail"


async def test_the_endpoints_are_where_the_prefix_puts_them(manager):
    app = served(manager, prefix="/ops")
    assert (await ask(app, "/ops/health")).status == 200
    assert (await ask(app, "/ops/health/detailed")).status == 200
    assert (await ask(app, "/ops/ready")).status == 200
    assert (await ask(app, "/health")).status == 404


async def test_a_health_route_of_the_applications_own_wins(manager, caplog):
    app = served(manager)

    @app.get("/health")
    async def own():
        return PlainTextResponse("mine")

    assert (await ask(app, "/health")).body == b"mine"
    assert (await ask(app, "/health/live")).status == 200
    assert "the application has a route of its own there, which stays: /health" in caplog.text


async def test_the_answer_waits_for_no_check_once_there_are_results(manager):
    async def hangs():
        await asyncio.Event().wait()

    app = served(manager, of(hangs, timeout_seconds=0.01, critical=True))
    await manager.run_check("it")
    manager._watched["it"].check.timeout_seconds = 20.0
    running = asyncio.ensure_future(manager.run_check("it"))
    await asyncio.sleep(0)
    began_at = time.monotonic()
    assert (await ask(app, "/health")).status == 503
    assert time.monotonic() - began_at < 0.5
    running.cancel()


async def test_a_check_not_yet_run_is_not_ready(manager, monkeypatch):
    monkeypatch.setattr(health_checks, "_FIRST_RESULTS_SECONDS", 0.01)
    monkeypatch.setattr(manager, "start", lambda loop=None: None)
    app = served(manager, of(lambda: True, critical=True))
    status, body = await look(app, "/ready")
    assert status == 503
    assert body["checks"]["it"]["message"] == "has not run yet"


def test_details_that_are_not_json_are_written_as_text(manager):
    class Odd:
        def __str__(self):
            return "odd"

    outcome = health_checks._outcome({"status": "healthy", "details": {"a": Odd(), 3: {1, 2}}})
    assert json.loads(health_checks.msgspec.json.encode(outcome.details)) == {"a": "odd", "3": [1, 2]}


async def test_an_sqlite_file_is_healthy_when_it_can_be_read(manager, tmp_path):
    path = tmp_path / "stories.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE stories (id INTEGER)")
    connection.close()
    manager.register_check(create_database_check(str(path)))
    result = await manager.run_check("database")
    assert (result.status.value, result.details) == ("healthy", {"dialect": "sqlite", "tables": 1})


async def test_an_sqlite_file_that_is_not_there_is_not_made(manager, tmp_path):
    manager.register_check(create_database_check(tmp_path / "nowhere.db"))
    assert (await manager.run_check("database")).message == "OperationalError: unable to open database file"
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_unhealthy(manager, tmp_path):
    (tmp_path / "text.db").write_bytes(b"once upon a time " * 100)
    manager.register_check(create_database_check(tmp_path / "text.db"))
    assert (await manager.run_check("database")).message == "DatabaseError: file is not a database"


async def test_an_engine_of_sqlalchemy_is_asked_for_a_row(manager, tmp_path):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/stories.db")
    manager.register_check(create_database_check(engine))
    result = await manager.run_check("database")
    engine.dispose()
    assert result.status is HealthStatus.HEALTHY
    assert result.details["dialect"] == "sqlite"


async def test_an_engine_without_its_server_is_unhealthy(manager, tmp_path):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/no/such/directory/stories.db")
    manager.register_check(create_database_check(engine, name="stories", critical=False))
    result = await manager.run_check("stories")
    engine.dispose()
    assert result.status is HealthStatus.UNHEALTHY
    assert "unable to open database file" in result.message


def test_a_document_reaches_the_agent_with_the_token(agent, monkeypatch):
    with agent_stand_in() as told:
        monkeypatch.setenv("OBSERVABILITY_ENDPOINT", told.url + "/")
        monkeypatch.setenv("OBSERVABILITY_TOKEN", "secret")
        agent.deliver(_agent.path_of("health", "novel engine", "a/b"), {"status": "healthy"})
        assert told.wait_for(1)
    path, document, headers = told.puts[0]
    assert path == "/api/v1/health/novel%20engine/a%2Fb"
    assert document == {"status": "healthy"}
    assert headers["authorization"] == "Bearer secret"


def test_what_was_not_delivered_is_kept_the_newest_of_each_and_delivered_on_return(agent, monkeypatch, caplog):
    with agent_stand_in() as told:
        told.status = 500
        monkeypatch.setenv("OBSERVABILITY_ENDPOINT", told.url)
        agent.deliver("/api/v1/health/a/one", {"n": 1})
        assert told.wait_for(1)
        agent.deliver("/api/v1/health/a/one", {"n": 2})
        agent.deliver("/api/v1/health/a/two", {"n": 3})
        told.status = 200
        assert told.wait_for(3)
    assert [document["n"] for _, document, _ in told.puts] == [1, 2, 3]
    assert caplog.text.count("the agent does not answer, what it is to know is kept") == 1


def test_an_agent_that_does_not_know_the_path_yet_is_said_once_and_not_asked_again(agent, monkeypatch, caplog):
    caplog.set_level("INFO")
    with agent_stand_in() as told:
        told.status = 404
        monkeypatch.setenv("OBSERVABILITY_ENDPOINT", told.url)
        agent.deliver("/api/v1/health/novel-engine/one", {})
        agent.deliver("/api/v1/health/novel-engine/two", {})
        assert told.wait_for(2)
        wait_until(lambda: not agent._documents)
    assert caplog.text.count("the agent of this version does not take this yet: /api/v1/health") == 1


def test_without_an_agent_one_line_is_logged_and_what_is_kept_is_bounded(agent, monkeypatch, caplog):
    monkeypatch.setenv("OBSERVABILITY_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(_agent, "_DOCUMENTS_MAX", 10)
    for n in range(30):
        agent.deliver(f"/api/v1/health/x/{n}", {})
    wait_until(lambda: agent._pause_seconds > 0)
    assert len(agent._documents) == 10
    assert caplog.text.count("http://127.0.0.1:9") == 1


def test_an_agent_that_hangs_delays_nobody(agent, monkeypatch):
    with agent_stand_in() as told:
        told.may_answer.clear()
        monkeypatch.setenv("OBSERVABILITY_ENDPOINT", told.url)
        began_at = time.monotonic()
        for n in range(100):
            agent.deliver(f"/api/v1/health/x/{n % 5}", {"n": n})
        assert time.monotonic() - began_at < 1.0
        assert told.wait_for(1)


def test_what_fails_in_the_background_is_said_and_the_rest_goes_on(agent, caplog):
    ran = threading.Event()
    agent.at(0.0, lambda: 1 / 0)
    agent.at(0.0, ran.set)
    assert ran.wait(20)
    assert "ZeroDivisionError" in caplog.text


async def test_asynchronous_checks_run_in_the_loop_that_serves(manager, deliveries):
    loops = []

    async def check():
        loops.append(asyncio.get_running_loop())
        return True

    manager.register_check(of(check))
    manager.start(asyncio.get_running_loop())
    await asyncio.to_thread(deliveries.run_due)
    await asyncio.to_thread(manager.wait_for_first, 20)
    assert loops == [asyncio.get_running_loop()]


def test_a_lambda_that_returns_a_coroutine_is_waited_for(manager, deliveries):
    manager.register_check(of(lambda: external_api()))
    deliveries.run_due()
    manager.wait_for_first(20)
    assert [r.message for r in manager.results()] == ["API is responding"]


def test_the_owner_is_the_services_name(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    assert _agent.owner() == "novel-engine"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=stories")
    assert _agent.owner() == "stories"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "novels")
    assert _agent.owner() == "novels"


def test_what_is_to_begin_with_the_server_is_noted_once():
    began = []
    for _ in range(3):
        _asgi.when_serving(began.append)
    assert _asgi._at_start.count(began.append) == 1
    _asgi._at_start.remove(began.append)
    assert len(began) <= 1

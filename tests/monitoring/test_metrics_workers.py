import collections
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgi_service import serving, wait_until

SERVICE = """
import os
from fastapi import APIRouter, FastAPI
from monitoring import setup_prometheus_endpoint
from monitoring.prometheus_metrics import metrics_collector

app = FastAPI()
setup_prometheus_endpoint(app)
router = APIRouter(prefix="/stories")

@router.get("/{story_id}")
async def story(story_id: int):
    metrics_collector.record_story_generation("adventure", 2.5, True, 0.85)
    metrics_collector.set_active_sessions(3)
    metrics_collector.set_business_metric("daily_active_users", story_id)
    return {"pid": os.getpid()}

@router.get("/")
async def failing():
    raise RuntimeError("out of ideas")

app.include_router(router, prefix="/api")
"""

OK = 'http_requests_total{endpoint="/api/stories/{story_id}",method="GET",status_code="200"}'
FAILED = 'http_requests_total{endpoint="/api/stories/",method="GET",status_code="500"}'
ERRORS = 'http_errors_total{endpoint="/api/stories/",method="GET",status_code="500"}'
COUNT = 'http_request_duration_seconds_count{endpoint="/api/stories/{story_id}",method="GET"}'


def load(service, requests):
    """Pids of the workers that answered, with how often each did."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: service.request(f"/api/stories/{n}"), range(1, requests + 1)))
    assert {status for status, _, _ in answers} == {200}
    return collections.Counter(body for _, _, body in answers)


def load_all(service, workers):
    """As `load`, as often as it takes until that many workers have answered."""
    answered = load(service, 100)
    while len(answered) < workers:
        answered += load(service, 20)
    return answered


def check_totals(service, workers=1):
    answered = load_all(service, workers)
    asked = sum(answered.values())
    for _ in range(5):
        assert service.request("/api/stories/")[0] == 500
    for _ in range(8):
        assert service.metric(OK) == asked
        assert service.metric(COUNT) == asked
        assert service.metric(FAILED) == 5
        assert service.metric(ERRORS) == 5
        assert service.metric('story_generation_requests_total{story_type="adventure",success="true"}') == asked
        assert service.metric('story_generation_quality_score{story_type="adventure"}') == 0.85
        assert service.metric("active_sessions") == 3 * len(answered)


def test_one_process_counts_every_request(tmp_path):
    with serving(SERVICE, tmp_path) as service:
        check_totals(service)


def test_four_uvicorn_workers_answer_with_the_totals_of_all(tmp_path):
    with serving(SERVICE, tmp_path, workers=4) as service:
        check_totals(service, 4)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_gunicorn_workers_answer_with_the_totals_of_all(tmp_path, preload):
    worker = ("-k", "uvicorn_worker.UvicornWorker", *preload)
    pytest.importorskip("uvicorn_worker")
    with serving(SERVICE, tmp_path, workers=3, gunicorn=worker) as service:
        check_totals(service, 3)


def test_what_a_killed_worker_counted_is_not_lost_and_its_sessions_are_gone(tmp_path):
    with serving(SERVICE, tmp_path, workers=2) as service:
        answered = load_all(service, 2)
        before = set(service.workers())
        killed = before.pop()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in service.workers() and len(service.workers()) == 2, service)
        assert service.metric(OK) == sum(answered.values())
        assert service.metric("active_sessions") == 3


def test_the_files_of_many_dead_workers_become_one_and_the_totals_stay(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    with serving(SERVICE, tmp_path, workers=2, environment={"PROMETHEUS_MULTIPROC_DIR": str(shared)}) as service:
        load(service, 60)
        for _ in range(6):
            wait_until(lambda: sharing(shared) >= set(service.workers()), service)
            killed = service.workers()[0]
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: killed not in service.workers() and len(service.workers()) == 2, service)  # noqa: B023
            load(service, 20)
        assert service.metric(OK) == 180
        assert service.metric(OK) == 180
        assert len(sharing(shared) - set(service.workers())) <= 4
        assert list(shared.glob("novel-monitoring-*/*/past.cells"))


def sharing(directory):
    """The pids of the workers that have a file, dead or alive."""
    return {int(path.name.partition("-")[0]) for path in directory.glob("novel-monitoring-*/*/*-*.cells")}


THEIRS = """
import prometheus_client
theirs = prometheus_client.Counter("theirs", "Of the application.")

@app.get("/theirs")
def count():
    theirs.inc()
    return os.getpid()
"""


def test_series_of_the_default_registry_say_whose_they_are(tmp_path):
    with serving(SERVICE + THEIRS, tmp_path, workers=2) as service:
        counts = collections.Counter(service.request("/theirs")[2] for _ in range(20))
        for _ in range(6):
            found = re.findall(r'theirs_total{pid="(\d+)"} (\S+)', service.request("/metrics")[2])
            assert [(pid, float(value)) for pid, value in found if counts[pid] != float(value)] == []


def test_the_default_registry_is_added_up_where_prometheus_client_keeps_it_in_files(tmp_path):
    (tmp_path / "shared").mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")}
    with serving(SERVICE + THEIRS, tmp_path, workers=2, environment=environment) as service:
        for _ in range(20):
            service.request("/theirs")
        assert [service.metric("theirs_total") for _ in range(4)] == [20.0] * 4


def test_two_servers_of_one_parent_do_not_count_for_each_other(tmp_path):
    source = (
        SERVICE
        + """
def run(port):
    import uvicorn
    uvicorn.run(app, host="127.0.0.1", port=port)
"""
    )
    (tmp_path / "service.py").write_text(source)
    import multiprocessing
    import sys

    from asgi_service import Service, free_port

    sys.path.insert(0, str(tmp_path))
    try:
        ports = [free_port(), free_port()]
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_run_service, args=(port, str(tmp_path)), daemon=True) for port in ports]
        for process in processes:
            process.start()
        services = [
            Service(port, _Polled(process), Path("/dev/null")) for port, process in zip(ports, processes, strict=True)
        ]
        for service in services:
            wait_until(lambda: _is_up(service), service)  # noqa: B023
        load(services[0], 10)
        load(services[1], 3)
        assert services[0].metric(OK) == 10
        assert services[1].metric(OK) == 3
    finally:
        sys.path.remove(str(tmp_path))
        for process in processes:
            process.terminate()
            process.join(10)


class _Polled:
    def __init__(self, process):
        self.pid = process.pid
        self.poll = lambda: process.exitcode


def _is_up(service):
    try:
        return service.request("/metrics")[0] == 200
    except OSError:
        return False


def _run_service(port, directory):
    import sys

    sys.path.insert(0, directory)
    import service

    service.run(port)

"""Whether the application can do its work: checks of its own, answered at `/health` and told to the agent.

A check runs every `interval_seconds`, never twice at a time, within `timeout_seconds`. One that is a coroutine
function runs in the loop that serves the application (else in a loop of its own) and is cancelled when its time is
up; one that is a plain function runs in a thread of its own, which cannot be ended: its result is discarded when it
comes too late, and it is not started again before it is back. Answers are made from the last results and never wait
for a check, whatever hangs; only the first results are waited for, a second at most.

    a check returns                           is
    dict: status, message, details            what `status` says
    HealthStatus                              that
    True, False                               healthy, unhealthy
    anything else, an exception, no answer    unhealthy

As a whole: unhealthy where a critical check is, degraded where any other is not healthy, else healthy. Live is who
answers. Ready is who has no unhealthy critical check and has run each of these once.
"""

import asyncio
import contextlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from monitoring import _agent
from monitoring._workers import workers

_FIRST_RESULTS_SECONDS = 1.0
_MESSAGE_LENGTH_MAX = 500
_MARGIN_SECONDS = 0.25
_DRAFT_STATUS = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail"}
_HEALTH_JSON = "application/health+json"


class HealthStatus(StrEnum):
    """How a check, or the whole, is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass
class HealthCheck:
    """What is checked, and how often. After so many failures, or successes, in a row it counts as changed."""

    name: str
    check_function: Callable[[], Any]
    timeout_seconds: float = 5.0
    critical: bool = False
    interval_seconds: float = 15.0
    failure_threshold: int = 1
    success_threshold: int = 1


@dataclass(frozen=True)
class HealthResult:
    """What a check said. `checked_at` in seconds since the epoch; None while it has not run."""

    name: str
    status: HealthStatus
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    critical: bool = False
    duration_seconds: float = 0.0
    checked_at: float | None = None


class _Watched:
    """A check with what is known of it. Changed under the manager's lock."""

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self.result = HealthResult(check.name, HealthStatus.UNHEALTHY, "has not run yet", critical=check.critical)
        self.run = 0
        self.running_since: float | None = None
        self.in_a_row = 0
        self.last_ended = -1

    def overdue(self, now: float) -> bool:
        """Whether it runs longer than it may."""
        return (
            self.running_since is not None and now - self.running_since > self.check.timeout_seconds + _MARGIN_SECONDS
        )


class HealthManager:
    """The checks of this process."""

    def __init__(self, agent: _agent.Agent = _agent.agent) -> None:
        self._agent = agent
        self._changed = threading.Condition()
        self._watched: dict[str, _Watched] = {}
        self._is_running = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def register_check(self, check: HealthCheck) -> None:
        """Run this check from now on (in a server: from when it serves); one of the same name is replaced."""
        with self._changed:
            watched = self._watched[check.name] = _Watched(check)
            starts = self._is_running
        if starts:
            self._agent.at(0.0, partial(self._start, watched))
        elif "uvicorn" in sys.modules or "gunicorn.arbiter" in sys.modules:
            from monitoring._asgi import when_serving

            when_serving(self.start)
        else:
            self.start()

    def unregister_check(self, name: str) -> None:
        """Run it no more; what the agent knows of it runs out."""
        with self._changed:
            self._watched.pop(name, None)
        self._agent.withdraw(_path(name))

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to run the checks; the asynchronous ones in `loop`. Called when the application begins to serve."""
        with self._changed:
            self._loop = loop or self._loop
            if self._is_running:
                return
            self._is_running = True
            waiting = list(self._watched.values())
        for watched in waiting:
            self._agent.at(0.0, partial(self._start, watched))

    def results(self) -> list[HealthResult]:
        """The last of each, by name. Waits for nothing."""
        now = time.monotonic()
        with self._changed:
            return [_seen_now(watched, now) for _, watched in sorted(self._watched.items())]

    def wait_for_first(self, timeout_seconds: float) -> None:
        """Until every check has run once, or the time is up."""
        with self._changed:
            self._changed.wait_for(
                lambda: all(w.result.checked_at is not None for w in self._watched.values()), timeout_seconds
            )

    def overall_status(self) -> HealthStatus:
        """The whole."""
        return _overall(self.results())

    async def run_check(self, name: str) -> HealthResult:
        """Run one now, in this loop, and give what it says; KeyError for a name nobody has."""
        with self._changed:
            watched = self._watched[name]
        began_at = time.monotonic()
        check = watched.check
        if inspect.iscoroutinefunction(check.check_function):
            outcome = await _outcome_within(check.check_function(), check.timeout_seconds)
        else:
            outcome = await _outcome_within(asyncio.to_thread(check.check_function), check.timeout_seconds)
        return self._noted(watched, outcome, time.monotonic() - began_at)

    def begin_as_child(self) -> None:
        """After a fork: the checks are known, and run when this process serves."""
        self._changed = threading.Condition()
        self._is_running, self._loop = False, None
        self._watched = {name: _Watched(watched.check) for name, watched in self._watched.items()}

    def _start(self, watched: _Watched) -> None:
        """In the agent's thread."""
        check = watched.check
        with self._changed:
            if self._watched.get(check.name) is not watched:
                return
            self._agent.at(max(0.1, check.interval_seconds), partial(self._start, watched))
            if watched.running_since is not None:
                return
            watched.run += 1
            watched.running_since = time.monotonic()
            run, loop = watched.run, self._loop
        self._agent.at(check.timeout_seconds + _MARGIN_SECONDS, partial(self._give_up, watched, run))
        if inspect.iscoroutinefunction(check.check_function) and loop is not None and loop.is_running():
            coroutine = _outcome_within(check.check_function(), check.timeout_seconds)
            try:
                future = asyncio.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError:
                coroutine.close()
            else:
                future.add_done_callback(partial(self._came, watched, run))
                return
        thread = threading.Thread(
            target=self._run, args=(watched, run, loop), name=f"monitoring-check-{check.name}", daemon=True
        )
        thread.start()

    def _run(self, watched: _Watched, run: int, loop: asyncio.AbstractEventLoop | None) -> None:
        """In a thread of its own."""
        check = watched.check
        try:
            answer = check.check_function()
            if not inspect.isawaitable(answer):
                outcome = _outcome(answer)
            elif loop is not None and loop.is_running():
                waiting = asyncio.run_coroutine_threadsafe(_outcome_within(answer, check.timeout_seconds), loop)
                waiting.add_done_callback(partial(self._came, watched, run))
                return
            else:
                outcome = asyncio.run(_outcome_within(answer, check.timeout_seconds))
        except Exception as error:  # noqa: BLE001 - whatever it raises is its result
            outcome = _failed(error)
        self._ended(watched, run, outcome)

    def _came(self, watched: _Watched, run: int, future: "Future[_Outcome]") -> None:
        if future.cancelled():
            outcome = _Outcome(HealthStatus.UNHEALTHY, "was cancelled")
        else:
            error = future.exception()
            outcome = _failed(error) if error is not None else future.result()
        self._ended(watched, run, outcome)

    def _ended(self, watched: _Watched, run: int, outcome: "_Outcome") -> None:
        with self._changed:
            began_at = watched.running_since
            watched.running_since = None
            if began_at is None or watched.last_ended >= run:
                return
            watched.last_ended = run
        self._noted(watched, outcome, time.monotonic() - began_at)

    def _give_up(self, watched: _Watched, run: int) -> None:
        with self._changed:
            if watched.run != run or watched.running_since is None or watched.last_ended >= run:
                return
            watched.last_ended = run
        self._noted(watched, _too_late(watched.check.timeout_seconds), watched.check.timeout_seconds)

    def _noted(self, watched: _Watched, outcome: "_Outcome", duration_seconds: float) -> HealthResult:
        check = watched.check
        with self._changed:
            status = _after_thresholds(watched, outcome.status)
            result = watched.result = HealthResult(
                check.name, status, outcome.message, outcome.details, check.critical, duration_seconds, time.time()
            )
            is_current = self._watched.get(check.name) is watched
            self._changed.notify_all()
        if is_current and self._is_running and workers.speaks_for_all(_path(check.name)):
            self._agent.deliver(_path(check.name), _document(result, check))
        return result


@dataclass(frozen=True)
class _Outcome:
    status: HealthStatus
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)


async def _outcome_within(answer: Awaitable[object], timeout_seconds: float) -> _Outcome:
    """Wait for a check, which is cancelled when its time is up."""
    try:
        return _outcome(await asyncio.wait_for(answer, timeout_seconds))
    except TimeoutError:
        return _too_late(timeout_seconds)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its result
        return _failed(error)


def _outcome(answer: object) -> _Outcome:
    if isinstance(answer, bool):
        return _Outcome(HealthStatus.HEALTHY if answer else HealthStatus.UNHEALTHY)
    if isinstance(answer, HealthStatus):
        return _Outcome(answer)
    if not isinstance(answer, dict):
        return _Outcome(
            HealthStatus.UNHEALTHY, f"the check returned {type(answer).__name__}, not a dict, a bool or HealthStatus"
        )
    details = answer.get("details")
    message = str(answer.get("message") or "")[:_MESSAGE_LENGTH_MAX]
    kept = _plain(details) if isinstance(details, dict) else {} if details is None else {"details": _plain(details)}
    try:
        given = answer.get("status")
        status = given if isinstance(given, HealthStatus) else HealthStatus(str(given).lower())
    except ValueError:
        return _Outcome(
            HealthStatus.UNHEALTHY, f"the check returned no known status: {answer.get('status')!r:.100}", kept
        )
    return _Outcome(status, message, kept)


def _too_late(timeout_seconds: float) -> _Outcome:
    return _Outcome(HealthStatus.UNHEALTHY, f"no answer within {timeout_seconds:g} s")


def _failed(error: BaseException) -> _Outcome:
    return _Outcome(HealthStatus.UNHEALTHY, f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH_MAX])


def _after_thresholds(watched: _Watched, status: HealthStatus) -> HealthStatus:
    """The status to show: a change counts when it was said often enough in a row, the first at once."""
    before = watched.result
    is_failure = status is HealthStatus.UNHEALTHY
    if before.checked_at is None or is_failure == (before.status is HealthStatus.UNHEALTHY):
        watched.in_a_row = 0
        return status
    watched.in_a_row += 1
    needed = watched.check.failure_threshold if is_failure else watched.check.success_threshold
    if watched.in_a_row < needed:
        return before.status
    watched.in_a_row = 0
    return status


def _seen_now(watched: _Watched, now: float) -> HealthResult:
    """The result, or that the running one is late, should the thread that says so be busy."""
    result = watched.result
    if watched.overdue(now) and watched.last_ended < watched.run:
        late = _too_late(watched.check.timeout_seconds)
        return HealthResult(
            result.name,
            late.status,
            late.message,
            {},
            result.critical,
            now - (watched.running_since or now),
            time.time(),
        )
    return result


def _overall(results: list[HealthResult]) -> HealthStatus:
    if any(result.critical and result.status is HealthStatus.UNHEALTHY for result in results):
        return HealthStatus.UNHEALTHY
    if any(result.status is not HealthStatus.HEALTHY for result in results):
        return HealthStatus.DEGRADED
    return HealthStatus.HEALTHY


def _plain(value: Any) -> Any:
    """As JSON can say it; what it cannot is written as text."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)[:_MESSAGE_LENGTH_MAX]


def _path(name: str) -> str:
    return _agent.path_of("health", _agent.owner(), name)


def _document(result: HealthResult, check: HealthCheck) -> dict[str, Any]:
    """What the agent is told. It counts as unhealthy when it is not renewed within its time to live."""
    return {
        "status": result.status.value,
        "message": result.message,
        "details": result.details,
        "critical": result.critical,
        "duration_seconds": round(result.duration_seconds, 6),
        "checked_at": result.checked_at,
        "ttl_seconds": 3 * check.interval_seconds + check.timeout_seconds,
    }


def create_health_endpoint(app: Any, prefix: str = "") -> HealthManager:
    """Serve `/health`, `/health/live`, `/health/ready`, `/health/detailed`, `/live` and `/ready` under `prefix`.

    May be called before or after routes are added, and more than once. Where the application has a route of that
    path, its own wins. 200 when healthy or degraded, 503 when unhealthy; `application/health+json` by Accept.
    """
    from monitoring import _applications
    from monitoring._asgi import when_serving

    application = _applications.adopt(app)
    if application is not None:
        when_serving(health_manager.start)
        prefix = prefix.rstrip("/")
        for path, page in _PAGES.items():
            application.serve(prefix + path, page)
    return health_manager


def create_database_check(
    target: Any,
    name: str = "database",
    timeout_seconds: float = 5.0,
    critical: bool = True,
    interval_seconds: float = 15.0,
) -> HealthCheck:
    """A check that a database answers: an Engine or AsyncEngine of SQLAlchemy, or an SQLite file (never created)."""
    check = partial(_ask_sqlite, target) if isinstance(target, (str, Path)) else _ask_engine(target)
    return HealthCheck(name, check, timeout_seconds, critical, interval_seconds)


def _ask_engine(engine: Any) -> Callable[[], Any]:
    if hasattr(engine, "sync_engine"):

        async def ask_async_engine() -> dict[str, Any]:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
            return {"status": "healthy", "details": _pool_of(engine.sync_engine)}

        return ask_async_engine

    def ask_engine() -> dict[str, Any]:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        return {"status": "healthy", "details": _pool_of(engine)}

    return ask_engine


def _pool_of(engine: Any) -> dict[str, Any]:
    in_use = getattr(engine.pool, "checkedout", None)
    return {"dialect": engine.dialect.name} | ({"connections_in_use": in_use()} if in_use is not None else {})


def _ask_sqlite(path: str | Path) -> dict[str, Any]:
    """Reading the schema reads the file's header, so a file that is no database is found."""
    import sqlite3

    with contextlib.closing(
        sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
    ) as connection:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    return {"status": "healthy", "details": {"dialect": "sqlite", "tables": tables}}


_Answer = tuple[int, str, bytes, bool]


async def _whole(_path: str, scope: MutableMapping[str, Any]) -> _Answer:
    return _told(await _first_results(), scope, is_detailed=False)


async def _detailed(_path: str, scope: MutableMapping[str, Any]) -> _Answer:
    return _told(await _first_results(), scope, is_detailed=True)


async def _live(_path: str, scope: MutableMapping[str, Any]) -> _Answer:
    return _told([], scope, is_detailed=False)


async def _ready(_path: str, scope: MutableMapping[str, Any]) -> _Answer:
    return _told([result for result in await _first_results() if result.critical], scope, is_detailed=False)


_PAGES = {
    "/health": _whole,
    "/health/live": _live,
    "/health/ready": _ready,
    "/health/detailed": _detailed,
    "/live": _live,
    "/ready": _ready,
}


async def _first_results() -> list[HealthResult]:
    results = health_manager.results()
    if all(result.checked_at is not None for result in results):
        return results
    health_manager.start(asyncio.get_running_loop())
    await asyncio.get_running_loop().run_in_executor(None, health_manager.wait_for_first, _FIRST_RESULTS_SECONDS)
    return health_manager.results()


def _told(results: list[HealthResult], scope: MutableMapping[str, Any], *, is_detailed: bool) -> _Answer:
    status = _overall(results)
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"").decode("latin-1")
    form = _HEALTH_JSON if _HEALTH_JSON in accept else "application/json"
    body = _draft(status, results) if form == _HEALTH_JSON else _brief(status, results, is_detailed=is_detailed)
    return 503 if status is HealthStatus.UNHEALTHY else 200, form, msgspec.json.encode(body), False


def _brief(status: HealthStatus, results: list[HealthResult], *, is_detailed: bool) -> dict[str, Any]:
    now = time.time()
    body: dict[str, Any] = {"status": status.value, "timestamp": _time(now)}
    if is_detailed:
        body |= {"process_id": os.getpid(), "uptime_seconds": round(time.monotonic() - _began_at, 3)}
    return body | {"checks": {result.name: _check_told(result, now, is_detailed=is_detailed) for result in results}}


def _check_told(result: HealthResult, now: float, *, is_detailed: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"status": result.status.value, "message": result.message, "critical": result.critical}
    told["age_seconds"] = None if result.checked_at is None else round(max(0.0, now - result.checked_at), 3)
    if is_detailed:
        told |= {"duration_seconds": round(result.duration_seconds, 6), "details": result.details}
    return told


def _draft(status: HealthStatus, results: list[HealthResult]) -> dict[str, Any]:
    """draft-inadarei-api-health-check-06, sections 3 and 4; `output` is for what does not pass."""
    checks = {}
    for result in results:
        about = {"componentType": "component", "status": _DRAFT_STATUS[result.status.value]}
        if result.checked_at is not None:
            about["time"] = _time(result.checked_at)
        if result.status is not HealthStatus.HEALTHY:
            about["output"] = result.message
        checks[result.name] = [about]
    return {
        "status": _DRAFT_STATUS[status.value],
        "version": "1",
        "description": f"health of {_agent.owner()}",
        "checks": checks,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


health_manager = HealthManager()
_began_at = time.monotonic()
os.register_at_fork(after_in_child=health_manager.begin_as_child)

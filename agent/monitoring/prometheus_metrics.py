"""The application's metrics: `metrics_collector` records, `setup_prometheus_endpoint(app)` measures and serves `/metrics`.

Recording never raises and never waits: what cannot be recorded (a value that is no number, a name used for two kinds)
is said once in the log. Durations are seconds. Identities of people and requests are not labels: such labels are left
out. prometheus-client renders the page and is imported when it is asked for the first time.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from monitoring._interpreter import collections
from monitoring._said import say_once
from monitoring._series import Across, Family, Kind, Series, number, store

_F = TypeVar("_F", bound=Callable[..., Any])
_Labels = tuple[tuple[str, str], ...]

DURATION_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
_QUERY_BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_CACHE_BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_GENERATION_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_QUALITY_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_COUNT_BUCKETS = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0)
_LONG_SECONDS = 1e9
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_IDENTITIES = frozenset({"user_id", "session_id", "request_id", "trace_id", "span_id"})
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")

HTTP_REQUESTS = Family("http_requests_total", "counter", "Requests answered.")
HTTP_DURATION = Family(
    "http_request_duration_seconds",
    "histogram",
    "From a request's arrival to the end of its answer.",
    DURATION_BUCKETS_SECONDS,
    exemplars=True,
)
HTTP_ERRORS = Family("http_errors_total", "counter", "Requests that the server failed: status 500 and above.")
_QUERIES = Family("database_queries_total", "counter", "Database queries.")
_QUERY_DURATION = Family(
    "database_query_duration_seconds", "histogram", "How long database queries took.", _QUERY_BUCKETS_SECONDS
)
_CACHE = Family("cache_operations_total", "counter", "Cache operations; result is hit or miss.")
_CACHE_DURATION = Family(
    "cache_operation_duration_seconds", "histogram", "How long cache operations took.", _CACHE_BUCKETS_SECONDS
)
_STORIES = Family("story_generation_requests_total", "counter", "Stories asked for.")
_STORY_DURATION = Family(
    "story_generation_duration_seconds", "histogram", "How long a story took.", _GENERATION_BUCKETS_SECONDS
)
_STORY_SCORE = Family("story_generation_quality_score", "gauge", "Quality of the last story, 0 to 1.")
_STORY_QUALITY = Family("story_generation_quality", "histogram", "Quality of stories, 0 to 1.", _QUALITY_BUCKETS)
_COORDINATIONS = Family("agent_coordination_events_total", "counter", "Times that agents coordinated.")
_COORDINATION_DURATION = Family(
    "agent_coordination_duration_seconds", "histogram", "How long coordination took.", _GENERATION_BUCKETS_SECONDS
)
_COORDINATION_AGENTS = Family("agent_coordination_agents", "gauge", "Agents in the last coordination.")
_INTERACTIONS = Family("character_interactions_total", "counter", "Interactions of characters.")
_CHARACTERS = Family("character_interaction_characters", "histogram", "Characters in an interaction.", _COUNT_BUCKETS)
_SESSIONS = Family("active_sessions", "gauge", "Sessions that are open, all workers together.", across="sum")
_CONNECTIONS = Family(
    "database_connections_active", "gauge", "Database connections in use, all workers together.", across="sum"
)
_CONNECTIONS_MAX = Family(
    "database_connections_max", "gauge", "Database connections there may be, all workers together.", across="sum"
)
_FEATURES = Family("feature_usage_total", "counter", "Uses of a feature.")
_ACTIONS = Family("user_actions_total", "counter", "Actions of users.")


class MetricsCollector:
    """Records. Every method may be called from any thread, loop and worker."""

    def __init__(self) -> None:
        self._families: dict[tuple[str, Kind], Family] = {}
        self._requests: dict[tuple[str, str, int], tuple[Series, Series, Series | None]] = {}

    def record_http_request(
        self, method: str, endpoint: str, status_code: int, duration: float, exemplar: tuple[bytes, bytes] | None = None
    ) -> None:
        """One request. `endpoint` is the template of the route; `exemplar` the ids of its trace and span as bytes."""
        series = self._requests.get((method, endpoint, status_code)) or self._request_series(
            method, endpoint, status_code
        )
        seconds = duration if type(duration) is float and 0.0 <= duration < _LONG_SECONDS else number(duration)
        if series is None or seconds is None:
            _complain_of_value(HTTP_DURATION.name, duration)
            return
        requests, durations, errors = series
        store.count_and_observe(requests, durations, seconds, exemplar)
        if errors is not None:
            store.add(errors, 1.0)

    def record_database_query(self, query_type: str, table: str, duration: float, success: bool = True) -> None:
        """One query, as `SELECT`, and the table it went to."""
        kind = (("query_type", str(query_type)), ("table", str(table)))
        self._add(_QUERIES, (*kind, ("success", _truth(success))))
        self._observe(_QUERY_DURATION, kind, duration)

    def record_cache_operation(self, operation: str, hit: bool, duration_seconds: float = 0.0) -> None:
        """One look into a cache."""
        self._add(_CACHE, (("operation", str(operation)), ("result", "hit" if hit else "miss")))
        self._observe(_CACHE_DURATION, (("operation", str(operation)),), duration_seconds)

    def record_story_generation(
        self, story_type: str, duration: float, success: bool = True, quality_score: float | None = None
    ) -> None:
        """One story; its quality from 0 to 1 where that is known."""
        kind = (("story_type", str(story_type)),)
        self._add(_STORIES, (*kind, ("success", _truth(success))))
        self._observe(_STORY_DURATION, kind, duration)
        if quality_score is not None:
            self._set(_STORY_SCORE, kind, quality_score)
            self._observe(_STORY_QUALITY, kind, quality_score)

    def record_agent_coordination(self, event_type: str, agent_count: int, duration: float) -> None:
        """One coordination of that many agents."""
        kind = (("event_type", str(event_type)),)
        self._add(_COORDINATIONS, kind)
        self._observe(_COORDINATION_DURATION, kind, duration)
        self._set(_COORDINATION_AGENTS, kind, agent_count)

    def record_character_interaction(self, interaction_type: str, character_count: int, success: bool = True) -> None:
        """One interaction of that many characters."""
        kind = (("interaction_type", str(interaction_type)),)
        self._add(_INTERACTIONS, (*kind, ("success", _truth(success))))
        self._observe(_CHARACTERS, kind, character_count)

    def record_feature_usage(self, feature: str, user_count: int = 1) -> None:
        """A feature used by that many."""
        self._add(_FEATURES, (("feature", str(feature)),), user_count)

    def record_user_action(self, action_type: str, user_id: str | None = None, success: bool = True) -> None:
        """One action. The user is taken so that callers need not think of it, and is never a label."""
        self._add(_ACTIONS, (("action_type", str(action_type)), ("success", _truth(success))))

    def set_active_sessions(self, count: int) -> None:
        """The sessions of this process; several workers are added up. For a number that they share, `set_gauge`."""
        self._set(_SESSIONS, (), count)

    def set_database_connections(self, count: int, maximum: int | None = None) -> None:
        """This process's pool: in use, and how many there may be. Several workers are added up."""
        self._set(_CONNECTIONS, (), count)
        if maximum is not None:
            self._set(_CONNECTIONS_MAX, (), maximum)

    def set_business_metric(self, name: str, value: float, labels: Mapping[str, object] | None = None) -> None:
        """The gauge `business_<name>`; of several workers, what was set last."""
        self.set_gauge("business_" + _NOT_IN_A_NAME.sub("_", str(name)), value, labels)

    def increment_counter(self, name: str, labels: Mapping[str, object] | None = None, value: float = 1.0) -> None:
        """A counter of one's own; `_total` is added to a name without it."""
        family = self._own(str(name) if str(name).endswith("_total") else f"{name}_total", "counter")
        if family is not None:
            self._add(family, _labels(family.name, labels), value)

    def set_gauge(
        self, name: str, value: float, labels: Mapping[str, object] | None = None, across_workers: Across = "latest"
    ) -> None:
        """A gauge of one's own; of several workers what was set last, or with `sum` the living added up."""
        family = self._own(str(name), "gauge", across=across_workers)
        if family is not None:
            self._set(family, _labels(family.name, labels), value)

    def observe_histogram(
        self,
        name: str,
        value: float,
        labels: Mapping[str, object] | None = None,
        buckets: Iterable[float] | None = None,
    ) -> None:
        """A histogram of one's own; `buckets` (the ones of request durations unless given) count at its first use."""
        family = self._own(str(name), "histogram", buckets=buckets)
        if family is not None:
            self._observe(family, _labels(family.name, labels), value)

    def time_request(self, method: str, endpoint: str) -> "Timing":
        """Times a block or a function as a request: status 200, or 500 when it raises."""
        return Timing(
            lambda seconds, failed: self.record_http_request(method, endpoint, 500 if failed else 200, seconds)
        )

    def time_operation(self, name: str, labels: Mapping[str, object] | None = None) -> "Timing":
        """Times a block or a function into the histogram `<name>_duration_seconds` (`name` itself if it ends in `_seconds`)."""
        histogram = name if name.endswith("_seconds") else f"{name}_duration_seconds"
        return Timing(lambda seconds, _failed: self.observe_histogram(histogram, seconds, labels))

    def get_metrics_text(self) -> str:
        """The page as `/metrics` gives it in Prometheus' text format."""
        from monitoring._exposition import text

        return text()

    def get_metrics_dict(self) -> dict[str, Any]:
        """The library's metrics by name: `type`, `help`, and `samples` with `name`, `labels` and `value`."""
        from monitoring._exposition import as_dict

        return as_dict()

    def forget(self) -> None:
        """Begin with nothing: for tests."""
        collections.forget()
        store.forget()
        self._families, self._requests = {}, {}

    def _request_series(self, method: str, endpoint: str, status: int) -> tuple[Series, Series, Series | None] | None:
        known_method = str(method).upper()
        route = (("method", known_method if known_method in _METHODS else "OTHER"), ("endpoint", str(endpoint)))
        answered = (*route, ("status_code", str(status)))
        requests, durations = self._series(HTTP_REQUESTS, answered), self._series(HTTP_DURATION, route)
        failed = number(status) or 0.0
        errors = self._series(HTTP_ERRORS, answered) if failed >= 500 else None
        if requests is None or durations is None:
            return None
        if len(self._requests) < 10_000:
            self._requests[method, endpoint, status] = (requests, durations, errors)
        return requests, durations, errors

    def _own(
        self, name: str, kind: Kind, buckets: Iterable[float] | None = None, across: Across = "latest"
    ) -> Family | None:
        family = self._families.get((name, kind))
        if family is not None:
            return family
        if not _NAME.fullmatch(name):
            say_once(logging.ERROR, "not a name for a metric", repr(name[:100]))
            return None
        bounds: tuple[float, ...] = ()
        if kind == "histogram":
            given = [number(bound) for bound in buckets] if buckets is not None else []
            bounds = tuple(sorted({bound for bound in given if bound is not None})) or DURATION_BUCKETS_SECONDS
        family = Family(name, kind, _SAID_OF_OWN[kind], bounds[:100], across if across == "sum" else "latest")
        if len(self._families) < 1000:
            self._families[name, kind] = family
        return family

    def _series(self, family: Family, labels: _Labels) -> Series | None:
        if not collections.is_measuring:
            collections.begin()
        if "prometheus_client" in sys.modules:
            from monitoring._exposition import register

            register()
        return store.series(family, labels)

    def _add(self, family: Family, labels: _Labels, amount: float = 1.0) -> None:
        counted = number(amount)
        if counted is None or counted < 0:
            _complain_of_value(family.name, amount)
            return
        series = store.known(family, labels) or self._series(family, labels)
        if series is not None:
            store.add(series, counted)

    def _set(self, family: Family, labels: _Labels, value: float) -> None:
        given = number(value)
        if given is None:
            _complain_of_value(family.name, value)
            return
        series = store.known(family, labels) or self._series(family, labels)
        if series is not None:
            store.set(series, given)

    def _observe(self, family: Family, labels: _Labels, value: float) -> None:
        given = number(value)
        if given is None:
            _complain_of_value(family.name, value)
            return
        series = store.known(family, labels) or self._series(family, labels)
        if series is not None:
            store.observe(series, given)


class Timing:
    """Times a `with` or `async with` block, or each call of a function: sync, async, or a generator of either kind."""

    def __init__(self, record: Callable[[float, bool], None]) -> None:
        self._record = record
        self._began_at: list[float] = []

    def __enter__(self) -> "Timing":
        self._began_at.append(time.perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._record(time.perf_counter() - self._began_at.pop(), kind is not None and kind is not GeneratorExit)

    async def __aenter__(self) -> "Timing":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _F) -> _F:
        """The function, timed."""
        import inspect

        record = self._record

        @wraps(function)
        async def timed_coroutine(*args: Any, **kwargs: Any) -> Any:
            with Timing(record):
                return await function(*args, **kwargs)

        @wraps(function)
        async def timed_async_generator(*args: Any, **kwargs: Any) -> Any:
            with Timing(record):
                async with aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

        @wraps(function)
        def timed_generator(*args: Any, **kwargs: Any) -> Any:
            with Timing(record):
                return (yield from function(*args, **kwargs))

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with Timing(record):
                return function(*args, **kwargs)

        if inspect.iscoroutinefunction(function):
            return timed_coroutine  # type: ignore[return-value]
        if inspect.isasyncgenfunction(function):
            return timed_async_generator  # type: ignore[return-value]
        return timed_generator if inspect.isgeneratorfunction(function) else timed  # type: ignore[return-value]


def setup_prometheus_endpoint(app: Any, path: str = "/metrics") -> MetricsCollector:
    """Measure the requests of a FastAPI or Starlette application and serve `/metrics` there.

    May be called before or after routes are added, and more than once. Where the application has a route of that
    path, its own wins.
    """
    from monitoring import _applications

    collections.begin()
    application = _applications.adopt(app)
    if application is not None:
        try:
            from monitoring._exposition import register

            register()
        except ImportError as error:
            say_once(
                logging.ERROR, "/metrics needs prometheus-client: pip install 'novel-engine-agent[app]'", str(error)
            )
        from monitoring._pages import metrics_page

        application.serve(path, metrics_page)
    return metrics_collector


_SAID_OF_OWN: dict[Kind, str] = {
    "counter": "Counted by the application.",
    "gauge": "Set by the application.",
    "histogram": "Observed by the application.",
}


def _truth(success: object) -> str:
    return "true" if success else "false"


def _labels(metric: str, labels: Mapping[str, object] | None) -> _Labels:
    """Sorted by name, so that the order they are given in makes no difference."""
    if not labels:
        return ()
    kept = []
    for name, value in sorted(labels.items(), key=lambda item: str(item[0])):
        if name in _IDENTITIES:
            say_once(logging.WARNING, "identities are not labels of metrics, it is left out", f"{metric}, {name}")
        else:
            legal = _NOT_IN_A_NAME.sub("_", str(name))
            kept.append((legal if _NAME.fullmatch(legal) else "_" + legal, str(value)))
    return tuple(kept)


def _complain_of_value(metric: str, value: object) -> None:
    say_once(logging.ERROR, "not a value for a metric", f"{metric}, {value!r:.100}")


metrics_collector = MetricsCollector()

import asyncio
import gc
import logging
import subprocess
import sys
import threading

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from monitoring import _exposition, _interpreter, _said, _series
from monitoring._series import Family, Store, read_block
from monitoring._workers import Workers, _merged
from monitoring.prometheus_metrics import metrics_collector


@pytest.fixture(autouse=True)
def _nothing_recorded():
    metrics_collector.forget()
    _said._said.clear()
    yield
    metrics_collector.forget()


def value(name, **labels):
    """Of a sample on the page, as Prometheus' own parser reads it."""
    for family in parse_text(metrics_collector.get_metrics_text()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_every_recording_has_its_names_and_labels():
    metrics_collector.record_http_request("GET", "/api/stories", 200, 0.150)
    metrics_collector.record_http_request("GET", "/api/stories", 503, 0.150)
    metrics_collector.record_database_query("SELECT", "stories", 0.025, True)
    metrics_collector.record_cache_operation("get", hit=False, duration_seconds=0.002)
    metrics_collector.record_story_generation("adventure", 2.5, True, 0.85)
    metrics_collector.record_agent_coordination("character_interaction", 3, 1.2)
    metrics_collector.record_character_interaction("dialogue", 2, success=False)
    metrics_collector.record_feature_usage("story_generator", user_count=5)
    metrics_collector.record_user_action("login", user_id="123")
    metrics_collector.set_active_sessions(7)
    metrics_collector.set_database_connections(4, maximum=20)
    metrics_collector.set_business_metric("daily_active_users", 1250)
    assert value("http_requests_total", method="GET", endpoint="/api/stories", status_code="200") == 1
    assert value("http_request_duration_seconds_count", method="GET", endpoint="/api/stories") == 2
    assert value("http_request_duration_seconds_sum", method="GET", endpoint="/api/stories") == 0.3
    assert value("http_errors_total", method="GET", endpoint="/api/stories", status_code="503") == 1
    assert value("database_queries_total", query_type="SELECT", table="stories", success="true") == 1
    assert value("database_query_duration_seconds_sum", query_type="SELECT", table="stories") == 0.025
    assert value("cache_operations_total", operation="get", result="miss") == 1
    assert value("cache_operation_duration_seconds_sum", operation="get") == 0.002
    assert value("story_generation_requests_total", story_type="adventure", success="true") == 1
    assert value("story_generation_duration_seconds_sum", story_type="adventure") == 2.5
    assert value("story_generation_quality_score", story_type="adventure") == 0.85
    assert value("story_generation_quality_bucket", story_type="adventure", le="0.9") == 1
    assert value("story_generation_quality_bucket", story_type="adventure", le="0.8") == 0
    assert value("agent_coordination_events_total", event_type="character_interaction") == 1
    assert value("agent_coordination_duration_seconds_sum", event_type="character_interaction") == 1.2
    assert value("agent_coordination_agents", event_type="character_interaction") == 3
    assert value("character_interactions_total", interaction_type="dialogue", success="false") == 1
    assert value("feature_usage_total", feature="story_generator") == 5
    assert value("user_actions_total", action_type="login", success="true") == 1
    assert value("active_sessions") == 7
    assert value("database_connections_active") == 4
    assert value("database_connections_max") == 20
    assert value("business_daily_active_users") == 1250
    assert '="123"' not in metrics_collector.get_metrics_text()


def test_durations_are_counted_in_the_buckets_of_the_targets():
    for duration in (0.05, 0.1, 0.15, 0.25, 0.5):
        metrics_collector.record_http_request("GET", "/x", 200, duration)
    got = {le: value("http_request_duration_seconds_bucket", method="GET", endpoint="/x", le=le) for le in
           ("0.05", "0.1", "0.15", "0.25", "0.5", "+Inf")}  # fmt: skip
    assert got == {"0.05": 1, "0.1": 2, "0.15": 3, "0.25": 4, "0.5": 5, "+Inf": 5}


def test_metrics_of_ones_own():
    metrics_collector.increment_counter("drafts", {"genre": "crime"}, 2)
    metrics_collector.increment_counter("drafts_total", {"genre": "crime"})
    metrics_collector.set_gauge("ink_level", 0.5)
    metrics_collector.set_gauge("ink_level", 0.25)
    metrics_collector.observe_histogram("page_words", 250, {"genre": "crime"}, buckets=(100, 300))
    assert value("drafts_total", genre="crime") == 3
    assert value("ink_level") == 0.25
    assert value("page_words_bucket", genre="crime", le="300.0") == 1
    assert value("page_words_bucket", genre="crime", le="100.0") == 0


def test_the_order_of_labels_makes_no_difference():
    metrics_collector.increment_counter("drafts", {"a": 1, "b": 2})
    metrics_collector.increment_counter("drafts", {"b": 2, "a": 1})
    assert value("drafts_total", a="1", b="2") == 2


def test_identities_are_left_out_of_the_labels_and_that_is_said_once(caplog):
    for user in ("123", "456"):
        metrics_collector.increment_counter("logins", {"user_id": user, "session_id": user, "way": "password"})
    assert value("logins_total", way="password") == 2
    assert caplog.text.count("identities are not labels of metrics") == 2


def test_label_values_beyond_the_cap_are_other_and_are_counted():
    for n in range(_series.LABEL_VALUES_MAX + 50):
        metrics_collector.record_feature_usage(f"feature-{n}")
    assert value("feature_usage_total", feature="feature-0") == 1
    assert value("feature_usage_total", feature="feature-199") == 1
    assert value("feature_usage_total", feature="feature-200") is None
    assert value("feature_usage_total", feature="other") == 50
    assert value("monitoring_label_values_limited_total", metric="feature_usage_total") == 50


def test_series_of_one_name_are_capped_too():
    for a in range(80):
        for b in range(80):
            metrics_collector.increment_counter("pairs", {"a": a, "b": b})
    page = metrics_collector.get_metrics_text()
    assert page.count("\npairs_total{") == _series.SERIES_OF_A_FAMILY_MAX + 1
    assert value("pairs_total", a="other", b="other") == 6400 - _series.SERIES_OF_A_FAMILY_MAX


def test_long_label_values_are_cut():
    metrics_collector.record_feature_usage("x" * 1000)
    assert value("feature_usage_total", feature="x" * 128) == 1


@pytest.mark.parametrize("wrong", ["many", None, float("nan"), float("inf"), -1, object()])
def test_what_is_no_number_is_said_and_does_not_raise(caplog, wrong):
    metrics_collector.increment_counter("drafts", value=wrong)
    metrics_collector.record_feature_usage("x", wrong)
    assert value("drafts_total") is None
    assert "not a value for a metric: drafts_total" in caplog.text


def test_a_name_used_for_two_kinds_is_said_and_the_first_stays(caplog):
    metrics_collector.set_gauge("ink_total", 3)
    metrics_collector.increment_counter("ink_total")
    assert value("ink_total") == 3
    assert "metric is a gauge already and cannot be a counter as well: ink_total" in caplog.text


def test_a_name_that_is_none_is_said(caplog):
    metrics_collector.set_gauge("ink level", 3)
    assert "not a name for a metric: 'ink level'" in caplog.text


def test_the_default_registry_is_on_the_page_and_ours_in_the_default_registry():
    registry = prometheus_client.REGISTRY
    theirs = prometheus_client.Counter("theirs", "Of the application.")
    try:
        theirs.inc(4)
        metrics_collector.record_feature_usage("x")
        assert value("theirs_total") == 4
        assert registry.get_sample_value("theirs_total") == 4
        _exposition.register()
        assert b'feature_usage_total{feature="x"} 1.0' in prometheus_client.generate_latest()
        assert metrics_collector.get_metrics_text().count("# TYPE feature_usage_total") == 1
    finally:
        registry.unregister(theirs)


def test_a_name_registered_twice_is_an_error_in_the_log_and_ours_is_shown(caplog):
    metrics_collector.record_feature_usage("x")
    theirs = prometheus_client.Counter("feature_usage", "Of the application.", ["feature"])
    try:
        theirs.labels("x").inc(40)
        assert value("feature_usage_total", feature="x") == 1
        assert metrics_collector.get_metrics_text().count("# TYPE feature_usage_total") == 1
        assert caplog.text.count("metric is registered twice, the second is not shown: feature_usage") == 1
    finally:
        prometheus_client.REGISTRY.unregister(theirs)


def test_openmetrics_is_given_where_it_is_asked_for():
    metrics_collector.record_http_request("GET", "/x", 200, 0.2, exemplar=(b"\x01" * 16, b"\x02" * 8))
    body, content_type = _exposition.answer("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    marked = [s for s in families["http_request_duration_seconds"].samples if s.exemplar]
    assert [(s.labels["le"], s.exemplar.value) for s in marked] == [("0.25", 0.2)]
    assert marked[0].exemplar.labels == {"trace_id": "01" * 16, "span_id": "02" * 8}


def test_labels_that_are_not_text_for_a_page_are_made_so():
    metrics_collector.increment_counter("drafts", {"9 lives": "caf\udce9", "quote": 'a"b\nc'})
    assert value("drafts_total", _9_lives="caf?", quote='a"b\nc') == 1


def test_a_log_handler_that_records_does_not_deadlock():
    class Recording(logging.Handler):
        def emit(self, record):
            worker = threading.Thread(target=metrics_collector.record_feature_usage, args=("from a handler",))
            worker.start()
            worker.join(20)
            assert not worker.is_alive()

    handler = Recording()
    _said.logger.addHandler(handler)
    try:
        metrics_collector.set_gauge("ink_total", 3)
        metrics_collector.increment_counter("ink_total")
    finally:
        _said.logger.removeHandler(handler)
    assert value("feature_usage_total", feature="from a handler") == 1


def test_the_metrics_as_a_dict():
    metrics_collector.record_feature_usage("x", 2)
    assert metrics_collector.get_metrics_dict()["feature_usage_total"] == {
        "type": "counter",
        "help": "Uses of a feature.",
        "samples": [{"name": "feature_usage_total", "labels": {"feature": "x"}, "value": 2.0}],
    }


def test_threads_lose_no_count():
    def record():
        for _ in range(2000):
            metrics_collector.record_http_request("GET", "/x", 200, 0.01)

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value("http_requests_total", method="GET", endpoint="/x", status_code="200") == 16000
    assert value("http_request_duration_seconds_count", method="GET", endpoint="/x") == 16000


async def test_timing_takes_blocks_and_every_kind_of_function():
    with metrics_collector.time_operation("draft", {"kind": "block"}):
        pass
    async with metrics_collector.time_operation("draft", {"kind": "async block"}):
        pass

    @metrics_collector.time_operation("draft", {"kind": "function"})
    def function(n):
        return n

    @metrics_collector.time_operation("draft", {"kind": "coroutine"})
    async def coroutine(n):
        return n

    @metrics_collector.time_operation("draft", {"kind": "generator"})
    def generator(n):
        yield from range(n)

    @metrics_collector.time_operation("draft", {"kind": "async generator"})
    async def async_generator(n):
        for item in range(n):
            yield item

    assert [function(2), function(3)] == [2, 3]
    assert await coroutine(4) == 4
    assert list(generator(3)) == [0, 1, 2]
    assert [item async for item in async_generator(3)] == [0, 1, 2]
    counts = {kind: value("draft_duration_seconds_count", kind=kind) for kind in
              ("block", "async block", "function", "coroutine", "generator", "async generator")}  # fmt: skip
    assert counts == {"block": 1, "async block": 1, "function": 2, "coroutine": 1, "generator": 1, "async generator": 1}


def test_a_timed_request_that_raises_counts_as_500():
    with pytest.raises(RuntimeError), metrics_collector.time_request("POST", "/stories"):
        raise RuntimeError
    with metrics_collector.time_request("POST", "/stories"):
        pass
    assert value("http_requests_total", method="POST", endpoint="/stories", status_code="500") == 1
    assert value("http_requests_total", method="POST", endpoint="/stories", status_code="200") == 1


def test_pauses_of_the_garbage_collector_are_measured_without_being_asked_for():
    metrics_collector.record_feature_usage("x")
    before = value("python_gc_pause_seconds_count", generation="2")
    gc.collect()
    assert value("python_gc_pause_seconds_count", generation="2") >= before + 1
    assert value("python_gc_pause_seconds_sum", generation="2") > 0


def test_recording_from_a_finalizer_while_recording_does_not_deadlock():
    class Last:
        def __del__(self):
            metrics_collector.record_feature_usage("finalizer")

    done = threading.Event()

    def record():
        with _series.store.lock:
            Last()
        done.set()

    threading.Thread(target=record, daemon=True).start()
    assert done.wait(20)
    assert value("feature_usage_total", feature="finalizer") == 1


def test_many_series_take_more_than_one_segment(tmp_path):
    store = Store()
    family = Family("long", "histogram", "h" * 1000, tuple(float(n) for n in range(50)))
    made = [store.series(family, (("n", str(n)),)) for n in range(199)]
    for n, series in enumerate(made):
        store.observe(series, n % 50)
    store.share(str(tmp_path / "1-1.cells"))
    for series in made:
        store.observe(series, 1.0)
    merged = _merged([[record for block in store.blocks() for record in read_block(block)]], [])
    assert len(store.blocks()) > 1
    assert len(merged) == 199
    assert all(sum(_counts(key.family, cells)) == 2 for key, cells in merged.items())


def _counts(family, cells):
    import struct

    return struct.unpack_from(f"={1 + len(family.buckets)}d", cells, 8)


def test_a_file_cut_short_or_full_of_nonsense_is_read_as_far_as_it_is_whole():
    store = Store()
    series = store.series(Family("a_total", "counter", "A."), ())
    store.add(series, 2)
    (block,) = store.blocks()
    assert len(list(read_block(block))) == 1
    for cut in range(len(block)):
        list(read_block(block[:cut]))
    assert list(read_block(b"\xff" * 200)) == []


def test_after_a_fork_the_child_begins_at_zero_and_the_parent_goes_on():
    code = (
        "import os\n"
        "from monitoring.prometheus_metrics import metrics_collector as m\n"
        "m.record_feature_usage('x', 5); m.set_gauge('ink', 3)\n"
        "child = os.fork()\n"
        "m.record_feature_usage('x', 2)\n"
        "if child: os.waitpid(child, 0)\n"
        "said = m.get_metrics_dict()\n"
        "print(said['feature_usage_total']['samples'][0]['value'], said['ink']['samples'][0]['value'], flush=True)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["2.0 3.0", "7.0 3.0"]


def test_a_process_no_server_started_is_alone():
    workers = Workers()
    workers.join()
    assert workers.directory is None
    assert workers.speaks_for_all("/api/v1/health/novel-engine/one")


async def test_the_lag_timer_goes_on_as_long_as_its_loop(monkeypatch):
    monkeypatch.setattr(_interpreter, "_LAG_INTERVAL_SECONDS", 0.001)
    _interpreter.lag.begin(asyncio.get_running_loop())
    while (value("python_event_loop_lag_seconds_count") or 0) < 3:
        await asyncio.sleep(0.001)


def test_importing_the_library_imports_nothing_heavy_and_starts_nothing():
    code = (
        "import sys, threading, gc; before = set(sys.modules)\n"
        "import monitoring\n"
        "heavy = {'asyncio', 'logging', 'msgspec', 'prometheus_client', 'fastapi', 'opentelemetry', 'typing'}\n"
        "assert not heavy & (set(sys.modules) - before)\n"
        "from monitoring.prometheus_metrics import metrics_collector\n"
        "import monitoring.health_checks\n"
        "assert not {'prometheus_client', 'fastapi', 'starlette', 'opentelemetry', 'sqlalchemy'} & set(sys.modules)\n"
        "assert threading.active_count() == 1 and not gc.callbacks\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_found_in_their_modules():
    import monitoring

    assert monitoring.metrics_collector is metrics_collector
    assert {"setup_prometheus_endpoint", "create_health_endpoint", "setup_tracing"} <= set(dir(monitoring))
    with pytest.raises(AttributeError, match="no attribute 'setup_everything'"):
        monitoring.setup_everything  # noqa: B018

import gc
import random
import tracemalloc

from prometheus_client.parser import text_string_to_metric_families

from novel_agent.model.span import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, STATUS_ERROR, Span, SpanGroup
from novel_agent.model.value import Origin
from novel_agent.processors.service_graph import ServiceGraph
from novel_agent.wire.prometheus import render_text

NOW = 1_700_000_000.0
START = 1_700_000_000_000_000_000
TRACE = b"\xaa" * 16


def span(kind, number, parent=0, *, seconds=0.1, failed=False, trace_id=TRACE, **attributes):
    return Span(
        trace_id=trace_id,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        kind=kind,
        status_code=STATUS_ERROR if failed else 0,
        start_unix_nano=START,
        end_unix_nano=START + round(seconds * 1e9),
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
    )


def group(service, *spans):
    return SpanGroup(Origin(resource={"service.name": service}), list(spans), [])


def samples(graph, now=NOW):
    text = render_text(graph.blocks(now)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def edges(graph, now=NOW, name="traces_service_graph_request_total"):
    found = {}
    for (sample, labels), value in samples(graph, now).items():
        if sample == name:
            by = dict(labels)
            found[by["client"], by["server"], by.get("connection_type", "")] = value
    return found


def test_a_client_and_the_server_below_it_make_an_edge():
    graph = ServiceGraph()
    graph.take([group("web", span(CLIENT, 1, seconds=0.3)), group("api", span(SERVER, 2, parent=1, seconds=0.2))], NOW)
    assert edges(graph) == {("web", "api", ""): 1.0}
    assert edges(graph, name="traces_service_graph_request_client_seconds_sum") == {("web", "api", ""): 0.3}
    assert edges(graph, name="traces_service_graph_request_server_seconds_sum") == {("web", "api", ""): 0.2}
    assert graph.waiting == 0
    assert graph.size_bytes == 0


def test_the_server_may_come_first_and_in_another_request():
    graph = ServiceGraph()
    graph.take([group("api", span(SERVER, 2, parent=1))], NOW)
    assert edges(graph, NOW + 5) == {}
    graph.take([group("web", span(CLIENT, 1))], NOW + 5)
    assert edges(graph, NOW + 5) == {("web", "api", ""): 1.0}


def test_equal_span_ids_of_other_traces_are_others():
    graph = ServiceGraph()
    graph.take([group("web", span(CLIENT, 1)), group("api", span(SERVER, 2, parent=1, trace_id=b"\xbb" * 16))], NOW)
    assert edges(graph) == {}


def test_a_request_fails_when_either_side_says_so():
    graph = ServiceGraph()
    graph.take(
        [
            group("web", span(CLIENT, 1), span(CLIENT, 3, failed=True), span(CLIENT, 5)),
            group("api", span(SERVER, 2, 1, failed=True), span(SERVER, 4, 3), span(SERVER, 6, 5)),
        ],
        NOW,
    )
    assert edges(graph) == {("web", "api", ""): 3.0}
    assert edges(graph, name="traces_service_graph_request_failed_total") == {("web", "api", ""): 2.0}


def test_a_message_may_have_several_consumers():
    graph = ServiceGraph()
    graph.take([group("mail", span(CONSUMER, 2, 1))], NOW)
    graph.take([group("api", span(PRODUCER, 1))], NOW)
    graph.take([group("search", span(CONSUMER, 3, 1))], NOW + 1)
    assert edges(graph, NOW + 60) == {
        ("api", "mail", "messaging_system"): 1.0,
        ("api", "search", "messaging_system"): 1.0,
    }
    assert graph.unpaired == 0


def test_a_database_becomes_a_node_after_the_wait():
    graph = ServiceGraph(wait_seconds=10.0)
    graph.take([group("api", span(CLIENT, 1, db__system__name="postgresql", server__address="db1"))], NOW)
    graph.take([group("api", span(CLIENT, 2, db__system="redis"))], NOW)
    assert edges(graph, NOW + 9.9) == {}
    assert edges(graph, NOW + 10) == {("api", "db1", "database"): 1.0, ("api", "redis", "database"): 1.0}


def test_a_peer_that_sends_no_spans_becomes_a_virtual_node():
    graph = ServiceGraph()
    graph.take([group("api", span(CLIENT, 1, peer__service="payments", server__address="10.0.0.1"))], NOW)
    graph.take([group("api", span(CLIENT, 2, server__address="llm.example.org", failed=True))], NOW)
    assert edges(graph, NOW + 10) == {
        ("api", "payments", "virtual_node"): 1.0,
        ("api", "llm.example.org", "virtual_node"): 1.0,
    }
    failed = edges(graph, NOW + 10, "traces_service_graph_request_failed_total")
    assert failed["api", "llm.example.org", "virtual_node"] == 1.0


def test_a_server_without_a_parent_is_called_by_the_user():
    graph = ServiceGraph()
    graph.take([group("web", span(SERVER, 1))], NOW)
    assert edges(graph) == {("user", "web", "virtual_node"): 1.0}


def test_what_stays_alone_is_counted():
    graph = ServiceGraph()
    graph.take([group("web", span(CLIENT, 1), span(SERVER, 2, parent=9), span(CONSUMER, 3))], NOW)
    assert samples(graph, NOW + 10)["traces_service_graph_unpaired_spans_total", ()] == 3.0
    assert edges(graph, NOW + 10) == {}


def test_internal_spans_are_no_edges():
    graph = ServiceGraph()
    graph.take([group("web", span(INTERNAL, 1), span(INTERNAL, 2, parent=1))], NOW)
    assert graph.waiting == 0


def test_a_percentile_can_be_computed():
    graph = ServiceGraph(buckets_seconds=(0.1, 0.5))
    for number in range(100):
        seconds = 0.05 if number < 95 else 0.4
        ids = (2 * number + 1, 2 * number + 2)
        graph.take(
            [group("web", span(CLIENT, ids[0])), group("api", span(SERVER, ids[1], ids[0], seconds=seconds))], NOW
        )
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in samples(graph).items()
        if name == "traces_service_graph_request_server_seconds_bucket"
    }
    assert buckets == {"0.1": 95.0, "0.5": 100.0, "+Inf": 100.0}


def test_otlp_has_the_same_numbers():
    graph = ServiceGraph()
    graph.take([group("web", span(CLIENT, 1)), group("api", span(SERVER, 2, parent=1))], NOW)
    requests, failed, server, client = graph.metrics(NOW)
    assert requests.points[0].attributes == {"client": "web", "server": "api"}
    assert [requests.points[0].value, failed.points[0].value] == [1, 0]
    assert [server.points[0].count, client.points[0].count] == [1, 1]
    assert server.points[0].exemplars[0].trace_id == TRACE


def test_more_edges_than_the_cap_share_one_series():
    graph = ServiceGraph(most_series=10)
    for number in range(15):
        graph.take([group(f"service {number}", span(SERVER, 1))], NOW)
    assert graph.overflowed == 5
    assert len(graph.metrics(NOW)[0].points) == 11


def test_what_waits_is_bounded_by_bytes_and_the_oldest_goes_first():
    chance = random.Random(1)
    graph = ServiceGraph(memory_bytes=1 << 20)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        spans = [span(CLIENT, 1, trace_id=chance.randbytes(16)) for _ in range(30)]
        servers = [span(SERVER, 1, parent=2, trace_id=chance.randbytes(16)) for _ in range(30)]
        graph.take([group("web", *spans, *servers)], NOW + number / 100)
        assert graph.size_bytes <= 1 << 20
    del spans, servers
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 1 << 19 < held < 1.1 * (1 << 20)
    assert graph.dropped > 10_000
    assert graph.dropped == graph.unpaired == 12_000 - graph.waiting

from novel_agent.inputs.otlp.counts import Counts

from .conftest import METHODS, Running, traces


def series(counts: Counts) -> dict[str, int | float]:
    [block] = counts.blocks(in_flight_bytes=7)
    names = [each.family.name + str(dict(each.labels)) for each in block.shape.series]
    return dict(zip(names, block.values, strict=True))


async def test_what_came_is_counted_by_transport(receiver: Running) -> None:
    await receiver.post("/v1/traces", traces(3))
    await receiver.post("/v1/traces", b"")
    await receiver.post("/v1/traces", b"\xff")
    await receiver.call(METHODS["traces"], traces(5))
    found = series(receiver.counts)
    assert {name: value for name, value in found.items() if value and "bytes" not in name} == {
        "novel_agent_receiver_accepted_items_total{'transport': 'http', 'signal': 'traces'}": 3,
        "novel_agent_receiver_accepted_items_total{'transport': 'grpc', 'signal': 'traces'}": 5,
        "novel_agent_receiver_requests_total{'transport': 'http', 'outcome': 'accepted'}": 1,
        "novel_agent_receiver_requests_total{'transport': 'http', 'outcome': 'empty'}": 1,
        "novel_agent_receiver_requests_total{'transport': 'http', 'outcome': 'refused'}": 1,
        "novel_agent_receiver_requests_total{'transport': 'grpc', 'outcome': 'accepted'}": 1,
        "novel_agent_receiver_refused_total{'transport': 'http', 'reason': 'malformed'}": 1,
    } | {name: value for name, value in found.items() if value and "connections" in name}
    assert found["novel_agent_receiver_bytes_total{'transport': 'http'}"] == len(traces(3)) + 1
    assert found["novel_agent_receiver_wire_bytes_total{'transport': 'grpc'}"] == len(traces(5))
    assert found["novel_agent_receiver_in_flight_bytes{}"] == 7


def test_without_a_receiver_there_are_no_series() -> None:
    assert Counts().blocks(0) == []


def test_a_receiver_that_starts_again_counts_on() -> None:
    counts = Counts()
    counts.of("http").accept("logs", 5)
    assert counts.of("http").items["logs"] == 5
    assert counts.status()["http"].accepted_items == {"metrics": 0, "logs": 5, "traces": 0}

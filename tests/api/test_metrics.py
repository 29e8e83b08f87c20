import asyncio
import zlib
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from novel_agent.api.metrics import Metrics

from .conftest import Reply, Running, Start

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def values(families: Any) -> dict[str, float]:
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


async def test_the_text_format_is_what_is_served_unless_asked_otherwise(agent: Running) -> None:
    reply = await agent.ask("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert "content-encoding" not in reply.headers
    read = values(parse_text(reply.body.decode()))
    assert 0 <= read["node_load1"] < 1e4
    assert read["novel_agent_process_resident_memory_bytes"] > 1e6


async def test_openmetrics_is_served_by_accept(agent: Running) -> None:
    reply = await agent.ask("/metrics", Accept=f"{OPENMETRICS};q=0.6,text/plain;version=0.0.4;q=0.3")
    assert reply.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert reply.headers["vary"] == "Accept, Accept-Encoding"
    assert reply.body.endswith(b"# EOF\n")
    assert "node_load1" in values(parse_openmetrics(reply.body.decode()))


async def test_gzip_is_served_by_accept_encoding(agent: Running) -> None:
    reply = await agent.ask("/metrics", Accept_Encoding="gzip")
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert b"\nnode_load1 " in zlib.decompress(reply.body, 31)


async def test_scrapes_within_a_second_get_the_same_sample(agent: Running) -> None:
    first = await agent.ask("/metrics")
    packed = await agent.ask("/metrics", Accept_Encoding="gzip")
    assert zlib.decompress(packed.body, 31) == first.body
    assert runs(agent) == 1


async def test_after_a_second_a_scrape_samples_anew(agent: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await agent.ask("/metrics")
    latest = agent.daemon.sampler.latest
    assert latest is not None
    agent.daemon.sampler._latest = latest._replace(monotonic=latest.monotonic - 1.1)
    await agent.ask("/metrics")
    assert runs(agent) == 2


def runs(agent: Running) -> int:
    return next(each.component.runs for each in agent.daemon.sampler.watched if each.component.name == "cpu")


async def test_a_thousand_concurrent_scrapes_share_samplings(agent: Running) -> None:
    async def scrape(number: int) -> Reply:
        return await agent.ask("/metrics", Accept=OPENMETRICS if number % 2 else "", Accept_Encoding="gzip")

    began = asyncio.get_running_loop().time()
    replies = await asyncio.gather(*map(scrape, range(1000)))
    seconds = asyncio.get_running_loop().time() - began
    assert [reply.status for reply in replies] == [200] * 1000
    assert runs(agent) <= 1 + seconds
    assert len({reply.body for reply in replies}) <= 2 * (1 + seconds)


async def test_a_scraper_that_hangs_up_does_not_end_the_scrape_of_the_others(agent: Running) -> None:
    metrics = Metrics(agent.daemon)
    impatient, patient = (asyncio.create_task(metrics._scrape()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert b"\nnode_load1 " in (await patient).body("text/plain;version=0.0.4", gzip=False)
    assert runs(agent) == 1


async def test_a_scrape_is_forgotten_after_its_second(agent: Running) -> None:
    metrics = Metrics(agent.daemon)
    scrape = await metrics._scrape()
    assert await metrics._scrape() is scrape
    assert scrape.body(OPENMETRICS, gzip=True) is scrape.body(OPENMETRICS, gzip=True)
    metrics._forget(scrape)
    assert await metrics._scrape() is not scrape


async def test_a_failed_scrape_is_an_error_and_the_next_one_is_not(
    agent: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> Any:
        raise ValueError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(agent.daemon, "metrics", broken)
        reply = await agent.ask("/metrics")
    assert reply.status == 500
    assert reply.json()["errorType"] == "internal"
    assert "fault of ours" not in reply.json()["error"]
    assert (await agent.ask("/metrics")).status == 200


async def test_head_gives_the_headers_alone(agent: Running) -> None:
    reply = await agent.ask("/metrics", "HEAD")
    assert reply.status == 200
    assert reply.body == b""


async def test_requests_are_counted_by_route_method_and_class_of_code(start: Start) -> None:
    agent = await start()
    for path in ["/health/check/inputs", "/health/check/tasks", "/health/check/nothing", "/nothing", "/nothing/else"]:
        await agent.ask(path)
    await agent.ask("/health", "BREW")
    await agent.ask("/health", "PROPFIND")
    shapes = [(series, value) for block in agent.server.blocks() for series, value in zip(*flat(block), strict=True)]
    counted = {
        tuple(dict(series.labels).values()): value
        for series, value in shapes
        if series.family.name == "novel_agent_http_requests_total"
    }
    assert counted == {
        ("/health/check/{name}", "GET", "2xx"): 2,
        ("/health/check/{name}", "GET", "4xx"): 1,
        ("unmatched", "GET", "4xx"): 2,
        ("unmatched", "other", "4xx"): 2,
    }
    seconds = [value for series, value in shapes if series.family.name == "novel_agent_http_request_seconds_total"]
    assert len(seconds) == 4
    assert all(0 < value < 5 for value in seconds[:3])
    refused = {
        series.labels[0][1]: value for series, value in shapes if series.family.name == "novel_agent_http_refused_total"
    }
    assert refused["malformed"] == 1
    assert sum(refused.values()) == 1


def flat(block: Any) -> tuple[Any, Any]:
    return block.shape.series, block.values

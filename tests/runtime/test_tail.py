"""Tail sampling between its spool and who takes what is kept."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trace_payloads import request, span

from novel_agent.config.schema import TailRule, Traces
from novel_agent.model.batch import Batch
from novel_agent.runtime.tail import TailSampling
from novel_agent.state.spool import Spool

UNREADABLE = b"\x0a\x07\x12\x05\x12\x03\x0a\x7f\x00"
"""A request of one span, whose trace id is longer than the span."""


class Published(list):
    async def __call__(self, batch):
        self.append(batch)

    def names(self):
        requests = [ExportTraceServiceRequest.FromString(batch.payload) for batch in self]
        groups = [group for each in requests for group in each.resource_spans]
        return sorted(each.name for group in groups for scope in group.scope_spans for each in scope.spans)


@pytest.fixture
async def spool(tmp_path):
    with ThreadPoolExecutor(1) as executor:
        spool = Spool(str(tmp_path / "tail"), 1 << 20, executor=executor, now=time.time, when_full="block")
        await spool.open()
        yield spool
        await spool.close()


async def test_of_what_is_joined_only_the_batch_that_cannot_be_read_is_dropped(spool):
    published, dropped = Published(), Counter()
    traces = Traces(tail_sampling=(TailRule(name="all"),), tail_wait_seconds=0.01)
    tail = TailSampling(traces, spool, published, dropped)
    for number in range(1, 41):
        await tail.put(Batch("traces", request(span(number, number, f"good {number:02}")), 1))
        if number % 8 == 0:
            await tail.put(Batch("traces", UNREADABLE, 1))
    running = asyncio.create_task(tail.run())
    try:
        async with asyncio.timeout(10):
            while len(published.names()) < 40 or spool.size_bytes:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert published.names() == [f"good {number:02}" for number in range(1, 41)]
    assert dropped == {"unreadable": 5}


async def test_a_lease_of_nothing_that_can_be_read_is_let_go_of(spool):
    published, dropped = Published(), Counter()
    traces = Traces(tail_sampling=(TailRule(name="all"),), tail_wait_seconds=0.01)
    tail = TailSampling(traces, spool, published, dropped)
    await tail.put(Batch("traces", UNREADABLE, 1))
    await tail.put(Batch("traces", UNREADABLE, 1))
    running = asyncio.create_task(tail.run())
    try:
        async with asyncio.timeout(10):
            while spool.size_bytes:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert published == []
    assert dropped == {"unreadable": 2}

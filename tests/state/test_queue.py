import asyncio

import pytest

from novel_agent.model.batch import Batch
from novel_agent.state.queue import MemoryQueue


def batch(text, signal="metrics", items=None):
    payload = text.encode()
    return Batch(signal, payload, len(payload) if items is None else items)


async def filled(*batches, capacity_bytes=100, **bounds):
    queue = MemoryQueue(capacity_bytes, **bounds)
    for each in batches:
        await queue.put(each)
    return queue


async def taken(queue):
    """Take and acknowledge everything: signal and payload of each request."""
    requests = []
    while (lease := await queue.take()) is not None:
        requests.append((lease.batch.signal, lease.batch.payload.decode(), lease.batch.items))
        assert queue.acknowledge(lease)
    return requests


async def test_batches_of_a_signal_are_joined_in_order():
    queue = await filled(batch("aa"), batch("bbb"), batch("c"))
    assert (queue.size_bytes, queue.items) == (6, 6)
    assert await taken(queue) == [("metrics", "aabbbc", 6)]
    assert (queue.size_bytes, queue.items) == (0, 0)


async def test_joining_stops_at_the_size_of_a_request():
    queue = await filled(batch("aa"), batch("bb"), batch("cc"), request_bytes=5)
    assert await taken(queue) == [("metrics", "aabb", 4), ("metrics", "cc", 2)]


async def test_a_batch_larger_than_a_request_goes_alone():
    queue = await filled(batch("a" * 9), batch("b"), request_bytes=5)
    assert await taken(queue) == [("metrics", "a" * 9, 9), ("metrics", "b", 1)]


async def test_half_of_the_room_is_leased_at_the_most():
    queue = await filled(batch("a" * 40), batch("b" * 40), capacity_bytes=100, request_bytes=1000)
    assert [request[1][0] for request in await taken(queue)] == ["a", "b"]


async def test_the_signal_that_waits_longest_is_next():
    queue = await filled(batch("a", "logs"), batch("b", "metrics"), batch("c", "traces"), batch("d", "logs"))
    assert await taken(queue) == [("logs", "ad", 2), ("metrics", "b", 1), ("traces", "c", 1)]


async def test_what_is_given_back_is_the_oldest_again():
    queue = await filled(batch("a"), batch("b"), request_bytes=1)
    lease = await queue.take()
    await queue.put(batch("c"))
    queue.give_back(lease)
    assert queue.size_bytes == 3
    assert [request[1] for request in await taken(queue)] == ["a", "b", "c"]


async def test_leases_given_back_out_of_order_are_in_order_again():
    queue = await filled(batch("a"), batch("b"), batch("c"), batch("d"), request_bytes=1)
    leases = [await queue.take() for _ in range(3)]
    for lease in (leases[0], leases[2], leases[1]):
        queue.give_back(lease)
    assert [request[1] for request in await taken(queue)] == ["a", "b", "c", "d"]


async def test_when_full_the_oldest_is_dropped_and_counted():
    queue = await filled(batch("a" * 40, "logs"), batch("b" * 40), batch("c" * 40), capacity_bytes=100)
    assert dict(queue.dropped) == {("logs", "queue_full"): 40}
    assert queue.size_bytes == 80
    assert [request[1][0] for request in await taken(queue)] == ["b", "c"]


async def test_the_number_of_batches_is_bounded_too():
    queue = await filled(*[batch("x") for _ in range(7)], most_batches=5)
    assert queue.items == 5
    assert dict(queue.dropped) == {("metrics", "queue_full"): 2}


async def test_what_is_on_its_way_is_not_dropped_for_room():
    queue = await filled(batch("a" * 60), capacity_bytes=100)
    lease = await queue.take()
    await queue.put(batch("b" * 30))
    await queue.put(batch("c" * 40))
    assert dict(queue.dropped) == {("metrics", "queue_full"): 30}
    await queue.put(batch("d" * 50))
    assert dict(queue.dropped) == {("metrics", "queue_full"): 120}
    assert queue.acknowledge(lease)
    assert await taken(queue) == []
    assert queue.size_bytes == 0


async def test_what_can_never_fit_is_dropped_alone():
    queue = await filled(batch("a" * 50), batch("b" * 101, "traces"))
    assert dict(queue.dropped) == {("traces", "too_large"): 101}
    assert queue.size_bytes == 50


async def test_an_empty_batch_is_nothing():
    queue = await filled(batch(""))
    assert await queue.take() is None


async def test_ready_wakes_when_something_comes_and_waits_when_all_is_leased():
    queue = MemoryQueue(100)
    waiter = asyncio.ensure_future(queue.ready())
    await asyncio.sleep(0)
    assert not waiter.done()
    await queue.put(batch("a"))
    await waiter
    lease = await queue.take()
    waiter = asyncio.ensure_future(queue.ready())
    await asyncio.sleep(0)
    assert not waiter.done()
    queue.give_back(lease)
    await waiter


async def test_abandoning_counts_what_is_left_and_what_comes():
    queue = await filled(batch("aa"), batch("b", "logs"), request_bytes=1)
    lease = await queue.take()
    assert queue.abandon("shutdown") == 3
    assert not queue.acknowledge(lease)
    queue.give_back(lease)
    await queue.put(batch("c"))
    assert dict(queue.dropped) == {("metrics", "shutdown"): 3, ("logs", "shutdown"): 1}
    assert (queue.size_bytes, queue.items, await queue.take()) == (0, 0, None)


async def test_a_single_batch_is_handed_on_without_a_copy():
    payload = batch("abc")
    queue = await filled(payload)
    assert (await queue.take()).batch is payload


@pytest.mark.parametrize("settle", ["acknowledge", "give_back"])
async def test_a_lease_is_settled_once(settle):
    queue = await filled(batch("abc"))
    lease = await queue.take()
    getattr(queue, settle)(lease)
    before = queue.size_bytes
    queue.give_back(lease)
    assert not queue.acknowledge(lease)
    assert queue.size_bytes == before

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from spool_made import MIB, NOW, Clock, batch, noted, segments, spool, taken, texts

from novel_agent.model.batch import Batch
from novel_agent.state.queue import QueueFull
from novel_agent.state.segment_scan import read_some
from novel_agent.state.spool import Spool, directory_name, spool_directory


def large(letter, size_bytes=50_000, signal="traces", items=1):
    return Batch(signal, letter.encode() * size_bytes, items)


def reads(monkeypatch):
    """Grows by one whenever a spool is read from disk."""
    read = []

    def noted(*arguments):
        read.append(arguments)
        return read_some(*arguments)

    monkeypatch.setattr("novel_agent.state.stream.read_some", noted)
    return read


class TestNames:
    @pytest.mark.parametrize(
        ("destination", "name"),
        [
            ("central", "central"),
            ("..", "%2E."),
            (".", "%2E"),
            (".hidden", "%2Ehidden"),
            ("a/b", "a%2Fb"),
            ("/etc", "%2Fetc"),
            ("a b%", "a%20b%25"),
            ("a\0b", "a%00b"),
            ("Ünï", "%C3%9Cn%C3%AF"),
            ("a~b", "a%7Eb"),
        ],
    )
    def test_any_name_is_a_directory_of_its_own(self, destination, name):
        assert directory_name(destination) == name

    def test_long_names_that_begin_alike_are_two_directories(self):
        one, other = directory_name("x" * 300 + "1"), directory_name("x" * 300 + "2")
        assert one != other
        assert max(len(one), len(other)) <= 255

    def test_a_spool_is_below_the_state_directory(self):
        assert spool_directory("/var/lib/agent", "../../etc") == "/var/lib/agent/spool/%2E.%2F..%2Fetc"


class TestQueue:
    async def test_batches_of_a_signal_are_joined_in_order(self, tmp_path):
        async with spool(tmp_path, MIB, batch("aa"), batch("bbb"), batch("c", items=7)) as queue:
            assert (queue.size_bytes, queue.items) == (6 + 3 * 24, 12)
            assert await taken(queue) == [("traces", "aabbbc", 12)]
            assert (queue.size_bytes, queue.items) == (0, 0)

    async def test_joining_stops_at_the_size_of_a_request(self, tmp_path):
        async with spool(tmp_path, MIB, batch("aa"), batch("bb"), batch("cc"), request_bytes=5) as queue:
            assert await texts(queue) == ["aabb", "cc"]

    async def test_a_batch_larger_than_a_request_goes_alone(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a" * 9), batch("b"), request_bytes=5) as queue:
            assert await texts(queue) == ["a" * 9, "b"]

    async def test_the_signal_that_waits_longest_is_next(self, tmp_path):
        batches = batch("a", "logs"), batch("b", "metrics"), batch("c", "traces"), batch("d", "logs")
        async with spool(tmp_path, MIB, *batches) as queue:
            assert await taken(queue) == [("logs", "ad", 2), ("metrics", "b", 1), ("traces", "c", 1)]

    async def test_an_empty_batch_is_nothing(self, tmp_path):
        async with spool(tmp_path, MIB, batch("")) as queue:
            assert await queue.take() is None

    async def test_what_can_never_fit_is_dropped_alone(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), batch("b" * MIB, "logs", 9)) as queue:
            assert dict(queue.dropped) == {("logs", "too_large"): 9}
            assert await texts(queue) == ["a"]

    async def test_ready_wakes_when_something_comes_and_waits_when_all_is_leased(self, tmp_path):
        async with spool(tmp_path, MIB) as queue:
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

    async def test_a_lease_is_settled_once(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a")) as queue:
            lease = await queue.take()
            assert queue.acknowledge(lease)
            queue.give_back(lease)
            assert not queue.acknowledge(lease)
            assert queue.size_bytes == 0

    async def test_a_put_that_nobody_waits_for_is_there_when_somebody_takes(self, tmp_path):
        async with spool(tmp_path, MIB) as queue:
            await queue.put(batch("a"), wait=False)
            assert queue.size_bytes == 25
            assert await texts(queue) == ["a"]

    async def test_a_put_that_nobody_waits_for_wakes_who_waits(self, tmp_path):
        async with spool(tmp_path, MIB) as queue:
            await queue.put(batch("a"), wait=False)
            await asyncio.wait_for(queue.ready(), 10)
            assert await texts(queue) == ["a"]

    async def test_a_cancelled_put_does_not_hurt_its_group(self, tmp_path):
        async with spool(tmp_path, MIB) as queue:
            puts = [asyncio.ensure_future(queue.put(batch(letter))) for letter in "abc"]
            await asyncio.sleep(0)
            puts[1].cancel()
            await asyncio.gather(puts[0], puts[2])
            assert sorted((await texts(queue))[0]) == ["a", "b", "c"]

    async def test_a_cancelled_take_takes_nothing(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a")) as queue:
            queue._streams["traces"]._forget_hot()
            take = asyncio.ensure_future(queue.take())
            await asyncio.sleep(0)
            take.cancel()
            await asyncio.gather(take, return_exceptions=True)
            assert await texts(queue) == ["a"]

    async def test_what_was_written_last_is_handed_over_from_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr("novel_agent.state.stream.HOT_BYTES", 100_000)
        read = reads(monkeypatch)
        async with spool(tmp_path, MIB, *map(large, "abcd"), request_bytes=50_000) as queue:
            assert [text[0] for text in await texts(queue)] == ["a", "b", "c", "d"]
            assert len(read) == 2

    async def test_what_is_handed_over_from_memory_follows_what_was_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("novel_agent.state.stream.HOT_BYTES", 20_000)
        written = [large(letter, 10_000) for letter in "abcd"]
        async with spool(tmp_path, MIB, *written, request_bytes=30_000) as queue:
            assert [(text[0], text[-1]) for text in await texts(queue)] == [("a", "c"), ("d", "d")]
            assert queue._streams["traces"]._hot_bytes == 0

    async def test_nothing_is_kept_in_memory_of_what_waits_for_long(self, tmp_path, monkeypatch):
        monkeypatch.setattr("novel_agent.state.stream.FAR_BEHIND_BYTES", 25_000)
        written = [large(letter, 10_000) for letter in "abc"]
        async with spool(tmp_path, MIB, *written, request_bytes=10_000) as queue:
            assert queue._streams["traces"]._hot_bytes == 0
            assert [text[0] for text in await texts(queue)] == ["a", "b", "c"]

    async def test_what_was_given_back_is_handed_over_again_and_only_once(self, tmp_path):
        async with spool(tmp_path, MIB, *map(large, "abc"), request_bytes=50_000) as queue:
            lease = await queue.take()
            queue.give_back(lease)
            assert [text[0] for text in await texts(queue)] == ["a", "b", "c"]
            assert queue._streams["traces"]._hot_bytes == 0

    async def test_what_is_handed_over_from_memory_may_lie_in_two_segments(self, tmp_path, monkeypatch):
        read = reads(monkeypatch)
        async with spool(tmp_path, MIB, *map(large, "abc"), request_bytes=MIB) as queue:
            assert len(segments(tmp_path)) == 3
            assert [text[0] for text in await texts(queue)] == ["a", "b", "c"]
            assert not read

    async def test_two_takes_at_once_take_two_things(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), batch("b"), request_bytes=1) as queue:
            queue._streams["traces"]._forget_hot()
            leases = await asyncio.gather(queue.take(), queue.take())
            assert sorted(lease.batch.payload for lease in leases) == [b"a", b"b"]

    async def test_what_is_put_while_another_group_is_written_keeps_its_place(self, tmp_path):
        async with spool(tmp_path, 64 * MIB) as queue:
            await asyncio.gather(*(queue.put(batch(f"{number:04d}")) for number in range(1000)))
            got = "".join(await texts(queue))
            assert got == "".join(f"{number:04d}" for number in range(1000))

    async def test_after_the_end_nothing_is_taken_in_or_out(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a")) as queue:
            assert queue.abandon("shutdown") == 0
            assert not queue.has_room(1)
            with pytest.raises(QueueFull):
                await queue.put(batch("b"))
            await queue.put(batch("c", items=3), wait=False)
            assert dict(queue.dropped) == {("traces", "queue_full"): 3}
            assert await queue.take() is None

    async def test_parts_are_what_was_put_in_also_when_read_from_disk(self, tmp_path):
        batches = [batch("aa", items=5), batch("b", items=6), batch("cccc", items=7)]
        async with spool(tmp_path, MIB, *batches):
            pass
        async with spool(tmp_path, MIB) as queue:
            lease = await queue.take()
            assert len(lease.parts) == 3
            assert list(lease.parts) == batches
            assert lease.parts[1:] == batches[1:]
            assert lease.parts[-1] == batches[-1]


class TestGivingBack:
    async def test_what_is_given_back_is_the_oldest_again(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), batch("b"), request_bytes=1) as queue:
            lease = await queue.take()
            await queue.put(batch("c"))
            queue.give_back(lease)
            assert (queue.size_bytes, queue.items) == (75, 3)
            assert await texts(queue) == ["a", "b", "c"]

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (2, 0, 1)])
    async def test_leases_given_back_out_of_order_are_in_order_again(self, tmp_path, order):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abcd"), request_bytes=1) as queue:
            leases = [await queue.take() for _ in range(3)]
            for number in order:
                queue.give_back(leases[number])
            assert "".join(await texts(queue)) == "abcd"
            assert (queue.size_bytes, queue.items) == (0, 0)

    async def test_one_that_was_given_back_between_acknowledged_ones_is_sent_alone(self, tmp_path):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abcd"), request_bytes=1) as queue:
            leases = [await queue.take() for _ in range(4)]
            queue.give_back(leases[1])
            for number in (0, 2, 3):
                assert queue.acknowledge(leases[number])
            assert await texts(queue) == ["b"]

    async def test_one_from_an_earlier_segment_is_still_there(self, tmp_path):
        batches = [large(letter) for letter in "abcd"]
        async with spool(tmp_path, MIB, *batches, request_bytes=1) as queue:
            leases = [await queue.take() for _ in range(4)]
            for lease in leases[1:]:
                assert queue.acknowledge(lease)
            queue.give_back(leases[0])
            assert await texts(queue) == ["a" * 50_000]

    async def test_where_requests_have_become_smaller_it_goes_in_parts(self, tmp_path):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abcd"), request_bytes=3) as queue:
            first, rest = await queue.take(), await queue.take()
            queue.resize(MIB, 1)
            queue.give_back(first)
            assert queue.acknowledge(rest)
            assert await texts(queue) == ["a", "b", "c"]
            assert (queue.size_bytes, queue.items) == (0, 0)


class TestRestart:
    async def test_order_is_kept_and_fresh_data_is_behind_the_backlog(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), batch("l", "logs"), batch("b")):
            pass
        async with spool(tmp_path, MIB, batch("c"), request_bytes=1) as queue:
            assert queue.items == 4
            assert await texts(queue) == ["a", "l", "b", "c"]

    async def test_what_was_acknowledged_is_not_sent_again(self, tmp_path):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abc"), request_bytes=1) as queue:
            assert queue.acknowledge(await queue.take())
        async with spool(tmp_path, MIB) as queue:
            assert (queue.size_bytes, queue.items) == (50, 2)
            assert await texts(queue) == ["bc"]
        async with spool(tmp_path, MIB) as queue:
            assert (queue.size_bytes, await queue.take()) == (0, None)

    async def test_what_is_behind_one_that_is_not_acknowledged_is_sent_again(self, tmp_path):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abcd"), request_bytes=1) as queue:
            leases = [await queue.take() for _ in range(4)]
            for number in (0, 2, 3):
                assert queue.acknowledge(leases[number])
        async with spool(tmp_path, MIB) as queue:
            assert await texts(queue) == ["bcd"]

    async def test_without_its_cursor_all_that_is_there_is_sent_again(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), batch("b"), request_bytes=1) as queue:
            assert queue.acknowledge(await queue.take())
        (tmp_path / "traces" / "cursor").unlink()
        async with spool(tmp_path, MIB) as queue:
            assert await texts(queue) == ["ab"]

    async def test_restarts_do_not_leave_a_file_each(self, tmp_path):
        for letter in "abcde":
            async with spool(tmp_path, MIB, batch(letter)):
                pass
        assert len(segments(tmp_path)) == 1
        async with spool(tmp_path, MIB) as queue:
            assert await texts(queue) == ["abcde"]

    async def test_the_numbers_of_segments_are_never_used_again(self, tmp_path):
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abc"), request_bytes=1) as queue:
            await taken(queue)
        (last,) = segments(tmp_path)
        last.unlink()
        async with spool(tmp_path, MIB, batch("x")) as queue:
            assert segments(tmp_path)[0].name > last.name
            assert await texts(queue) == ["x"]

    async def test_a_cursor_beyond_its_segment_does_not_swallow_what_comes(self, tmp_path):
        async with spool(tmp_path, MIB, batch("abcdef")) as queue:
            await taken(queue)
        with segments(tmp_path)[0].open("r+b") as file:
            file.truncate(10)
        async with spool(tmp_path, MIB, batch("x")) as queue:
            assert await texts(queue) == ["x"]
        async with spool(tmp_path, MIB, batch("y")) as queue:
            assert await texts(queue) == ["y"]

    async def test_a_cursor_older_than_its_segments_begins_with_the_first_that_is_there(self, tmp_path):
        cursor = tmp_path / "traces" / "cursor"
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abcd"), request_bytes=1) as queue:
            assert queue.acknowledge(await queue.take())
            await noted(queue)
            older = cursor.read_bytes()
            assert queue.acknowledge(await queue.take())
            assert queue.acknowledge(await queue.take())
        cursor.write_bytes(older)
        async with spool(tmp_path, MIB, request_bytes=1) as queue:
            assert [text[0] for text in await texts(queue)] == ["d"]

    async def test_a_segment_that_was_to_be_removed_is_removed_at_the_start(self, tmp_path):
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abc"), request_bytes=1) as queue:
            first = segments(tmp_path)[0]
            content = first.read_bytes()
            assert queue.acknowledge(await queue.take())
        assert not first.exists()
        first.write_bytes(content)
        async with spool(tmp_path, MIB, request_bytes=1) as queue:
            assert not first.exists()
            assert [text[0] for text in await texts(queue)] == ["b", "c"]

    async def test_ages_are_known_again(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a")) as queue:
            assert queue.oldest_age_seconds < 1
        clock = Clock()
        clock.seconds += 100
        async with spool(tmp_path, MIB, batch("b", "logs"), now=clock) as queue:
            assert queue.oldest_age_seconds == pytest.approx(100, abs=1)
            await taken(queue)
            assert queue.oldest_age_seconds == 0
        assert clock.seconds > NOW

    async def test_items_of_many_segments_are_known_again(self, tmp_path):
        async with spool(tmp_path, 2 * MIB, *(large("x", items=3) for _ in range(20))):
            pass
        assert len(segments(tmp_path)) == 20
        async with spool(tmp_path, 2 * MIB) as queue:
            assert (queue.items, queue.size_bytes) == (60, 20 * 50_024)


class TestSegments:
    async def test_a_segment_is_removed_when_all_of_it_and_before_it_is_acknowledged(self, tmp_path):
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abcd"), request_bytes=1) as queue:
            leases = [await queue.take() for _ in range(4)]
            names = [path.name for path in segments(tmp_path)]
            assert len(names) == 4
            queue.acknowledge(leases[1])
            await noted(queue)
            queue.acknowledge(leases[0])
            await noted(queue)
            assert [path.name for path in segments(tmp_path)] == names[2:]

    async def test_a_batch_larger_than_a_segment_has_one_of_its_own(self, tmp_path):
        batches = batch("a"), large("b", 200_000), batch("c")
        async with spool(tmp_path, MIB, *batches):
            assert len(segments(tmp_path)) == 3
        async with spool(tmp_path, MIB, request_bytes=1) as queue:
            assert [text[0] for text in await texts(queue)] == ["a", "b", "c"]

    async def test_files_are_private(self, tmp_path):
        async with spool(tmp_path / "s", MIB, batch("a")) as queue:
            await taken(queue)
            await noted(queue)
            modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "s" / "traces").iterdir()}
        assert modes == {"0000000000000001.seg": 0o600, "cursor": 0o600}
        assert (tmp_path / "s" / "traces").stat().st_mode & 0o777 == 0o700

    async def test_deleting_leaves_nothing_but_what_others_put_there(self, tmp_path):
        async with spool(tmp_path / "a", MIB, batch("x"), batch("y", "logs")) as queue:
            await queue.delete()
            with pytest.raises(QueueFull):
                await queue.put(batch("z"))
        assert not (tmp_path / "a").exists()
        async with spool(tmp_path / "b", MIB, batch("x")) as queue:
            (tmp_path / "b" / "traces" / "notes.txt").write_text("mine")
            await queue.delete()
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["b/traces/notes.txt"]


class TestFull:
    async def test_the_oldest_goes_and_is_counted_by_signal(self, tmp_path):
        async with spool(tmp_path, MIB) as queue:
            await queue.put(large("l", signal="logs", items=5))
            for letter in "abcdefghijklmnopqrstuvw":
                await queue.put(large(letter, items=2))
            assert queue.size_bytes <= MIB
            assert dict(queue.dropped) == {("logs", "queue_full"): 5, ("traces", "queue_full"): 6}
            assert [text[0] for text in await texts(queue)] == list("defghijklmnopqrstuvw")

    async def test_what_was_dropped_stays_dropped_after_a_restart(self, tmp_path):
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abcdefghijklmnopqrstuvw")):
            pass
        async with spool(tmp_path, MIB) as queue:
            assert (await texts(queue))[0][0] == "d"

    async def test_what_is_on_its_way_is_not_dropped_for_room(self, tmp_path):
        async with spool(tmp_path, MIB, *(large(letter) for letter in "abc"), request_bytes=1) as queue:
            lease = await queue.take()
            for _ in range(30):
                await queue.put(large("x"))
            assert queue.size_bytes <= MIB
            assert dict(queue.dropped) == {("traces", "queue_full"): 13}
            queue.give_back(lease)
            assert [text[0] for text in await texts(queue)] == ["a", *"x" * 19]

    async def test_where_all_is_on_its_way_who_waits_is_refused(self, tmp_path):
        async with spool(tmp_path, MIB, large("a", 500_000), large("b", 500_000)) as queue:
            leases = [await queue.take(), await queue.take()]
            with pytest.raises(QueueFull):
                await queue.put(large("c", 100_000))
            await queue.put(large("d", 100_000, items=4), wait=False)
            assert dict(queue.dropped) == {("traces", "queue_full"): 4}
            assert queue.acknowledge(leases[0])
            await queue.put(large("e", 100_000))

    async def test_blocking_refuses_without_a_trace(self, tmp_path):
        async with spool(tmp_path, MIB, large("a", 900_000), when_full="block") as queue:
            assert queue.has_room(100_000)
            assert not queue.has_room(200_000)
            with pytest.raises(QueueFull):
                await queue.put(large("b", 200_000))
            assert (queue.size_bytes, dict(queue.dropped)) == (900_024, {})
            await queue.put(large("c", 200_000, items=8), wait=False)
            assert dict(queue.dropped) == {("traces", "queue_full"): 8}
            await taken(queue)
            await queue.put(large("b", 200_000))
            assert [text[0] for text in await texts(queue)] == ["b"]

    async def test_a_smaller_bound_holds_from_the_next_batch_on(self, tmp_path):
        async with spool(tmp_path, 4 * MIB, *(large("x") for _ in range(40))) as queue:
            queue.resize(MIB)
            assert queue.size_bytes == 40 * 50_024
            await queue.put(large("y"))
            assert queue.size_bytes <= MIB
            assert queue.dropped["traces", "queue_full"] >= 20

    async def test_a_disk_that_stands_still_does_not_fill_the_memory_with_what_nobody_waits_for(self, tmp_path):
        async with spool(tmp_path, 64 * MIB, memory_bytes=120_000) as queue:
            for _ in range(5):
                await queue.put(large("x"), wait=False)
            assert (queue.memory_bytes, dict(queue.dropped)) == (2 * 50_024, {("traces", "queue_full"): 3})


class TestGroups:
    async def test_puts_at_once_share_an_fsync(self, tmp_path):
        async with spool(tmp_path) as queue:
            await asyncio.gather(*(queue.put(batch(str(number))) for number in range(500)))
            assert 1 <= queue.fsyncs <= 5

    async def test_one_put_after_the_other_has_an_fsync_each(self, tmp_path):
        async with spool(tmp_path, MIB, *(batch(letter) for letter in "abc")) as queue:
            assert queue.fsyncs == 3

    async def test_os_never_syncs(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a"), durability="os") as queue:
            assert (queue.fsyncs, queue.written_bytes, queue.durability) == (0, 25, "os")
            queue.durability = "fsync"
            await queue.put(batch("b"))
            assert queue.fsyncs == 1

    async def test_an_idle_spool_has_nothing_to_do(self, tmp_path):
        async with spool(tmp_path, MIB, batch("a")) as queue:
            await taken(queue)
            await noted(queue)
            assert all(stream._due is None and stream._job is None for stream in queue._streams.values())
            assert len(asyncio.all_tasks()) == 1


async def test_a_spool_without_threads_goes_on_in_memory(tmp_path, caplog):
    executor = ThreadPoolExecutor(1)
    queue = Spool(str(tmp_path), MIB, executor=executor, now=Clock())
    await queue.open()
    executor.shutdown()
    with caplog.at_level(logging.ERROR):
        await queue.put(batch("a"))
    assert queue.in_memory
    assert [record.getMessage() for record in caplog.records] == [
        "spool cannot be written, held in memory until it can"
    ]
    assert (await queue.take()).batch.payload == b"a"


async def test_a_clock_that_was_set_back_does_not_put_what_comes_before_what_waits(tmp_path):
    clock = Clock()
    async with spool(tmp_path, MIB, batch("old", "logs"), now=clock) as queue:
        clock.seconds -= 3600
        await queue.put(batch("new", "traces"))
        assert [signal for signal, _, _ in await taken(queue)] == ["logs", "traces"]


async def test_a_signal_to_avoid_is_taken_only_where_no_other_waits(tmp_path):
    async with spool(tmp_path, MIB, batch("old", "logs"), batch("new", "traces")) as queue:
        lease = await queue.take("logs")
        assert lease.batch.signal == "traces"
        assert (await queue.take("logs")).batch.signal == "logs"

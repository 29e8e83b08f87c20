import asyncio

from novel_agent.runtime.supervise import Component, Supervisor


async def test_a_task_that_dies_is_started_again_later_and_later():
    waits = []
    tries = asyncio.Semaphore(0)

    async def sleep(seconds):
        waits.append(seconds)

    async def run():
        if len(waits) == 8:
            tries.release()
            await asyncio.Event().wait()
        raise RuntimeError("boom")

    supervisor = Supervisor(sleep)
    component = supervisor.start("fragile", run)
    async with asyncio.timeout(5):
        await tries.acquire()
    for wait, most in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert most / 2 <= wait <= most
    assert (component.restarts, component.failures, component.state) == (8, 8, "up")
    assert component.reason == "RuntimeError: boom"
    await supervisor.stop_all()
    assert not supervisor.components


async def test_a_task_that_returns_is_not_started_again():
    runs = []

    async def run():
        runs.append(1)

    supervisor = Supervisor()
    component = supervisor.start("once", run)
    async with asyncio.timeout(5):
        while component.state != "stopped":
            await asyncio.sleep(0)
    assert runs == [1]
    await supervisor.stop_all()


async def test_stopping_waits_for_the_task_to_clean_up():
    cleaned = []

    async def run():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    supervisor = Supervisor()
    supervisor.start("clean", run)
    await asyncio.sleep(0)
    await supervisor.stop("clean")
    await supervisor.stop("clean")
    assert cleaned == [1]


def test_a_component_tells_when_its_state_is_news():
    component = Component("cpu", "host")
    assert component.succeeded(0.1, 1.0) is False
    assert component.failed(0.1, 2.0, "why") is True
    assert component.failed(0.1, 3.0, "why") is False
    assert component.failed(0.1, 4.0, "another") is True
    assert component.succeeded(0.1, 5.0) is True
    assert (component.runs, component.failures, component.last_success_at) == (5, 3, 5.0)

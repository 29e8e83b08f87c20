"""Spools for tests: made, filled, emptied, and their files."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from novel_agent.model.batch import Batch
from novel_agent.state.spool import Spool

MIB = 1 << 20
NOW = 1_800_000_000.0


def batch(text: str, signal: str = "traces", items: int | None = None) -> Batch:
    payload = text.encode()
    return Batch(signal, payload, len(payload) if items is None else items)


class Clock:
    """A wall clock that a test moves; it moves by a microsecond at each look, so that no two batches are of one moment."""

    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        self.seconds += 1e-6
        return self.seconds


@asynccontextmanager
async def spool(directory: Path, capacity_bytes: int = 64 * MIB, *batches: Batch, **options) -> AsyncIterator[Spool]:
    """An open spool with these batches put into it."""
    with ThreadPoolExecutor(4) as executor:
        opened = Spool(str(directory), capacity_bytes, executor=executor, now=options.pop("now", Clock()), **options)
        await opened.open()
        try:
            for each in batches:
                await opened.put(each)
            yield opened
        finally:
            opened.abandon("shutdown")
            await opened.close()


async def taken(queue: Spool, *, acknowledge: bool = True) -> list[tuple[str, str, int]]:
    """Take everything: signal, payload and items of each request."""
    requests = []
    while (lease := await queue.take()) is not None:
        assert b"".join(part.payload for part in lease.parts) == lease.batch.payload
        assert sum(part.items for part in lease.parts) == lease.batch.items
        requests.append((lease.batch.signal, lease.batch.payload.decode(), lease.batch.items))
        if acknowledge:
            assert queue.acknowledge(lease)
    return requests


async def texts(queue: Spool) -> list[str]:
    """The payloads of all requests, which are acknowledged."""
    return [text for _, text, _ in await taken(queue)]


async def noted(queue: Spool) -> None:
    """Wait until what was acknowledged is noted on disk."""
    await asyncio.gather(*(stream.flush() for stream in queue._streams.values()))


def segments(directory: Path, signal: str = "traces") -> list[Path]:
    """The files of a stream, oldest first."""
    return sorted((directory / signal).glob("*.seg"))


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond this size (EFBIG); the interpreter ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def retry_now(queue: Spool) -> None:
    """As if the second after a failed write had passed."""
    for stream in queue._streams.values():
        stream._retry_at = 0.0

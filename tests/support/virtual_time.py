"""An event loop whose clock goes on at once to when something is due, and threads' work done on the spot."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector:
    """A selector that never waits: it moves the loop's clock instead."""

    def __init__(self, loop: "VirtualTimeLoop") -> None:
        self._loop = loop
        self._selector = selectors.DefaultSelector()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def select(self, timeout: float | None = None) -> Any:
        ready = self._selector.select(0)
        if not ready and timeout != 0:
            assert timeout is not None, "nothing will ever happen again"
            self._loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Nothing outside the process may be waited for in it, and no thread."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        super().__init__(_Selector(self))  # type: ignore[arg-type]

    def time(self) -> float:
        return self.now


def run(main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, T]]) -> T:
    """What `main` gives, run in a loop of its own."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


class Inline(Executor):
    """Runs what it is given before it returns."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            future.set_exception(error)
        return future

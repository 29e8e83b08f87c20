"""Functions of any kind with a span around each call: plain, async, generators and async generators.

The span of a generator lasts from its first step to its end and is open only while the generator itself runs: between steps,
what its consumer does is none of its.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol


class Running(Protocol):
    """A span of one call."""

    def resume(self) -> None:
        """Open it in this context, until `pause`."""

    def pause(self) -> None:
        """Not open in this context any more."""

    def end(self, error: BaseException | None) -> None:
        """It is over."""


def traced(function: Callable[..., Any], begin: Callable[[], Running]) -> Callable[..., Any]:
    """The function with a span, which `begin` starts, around each of its calls."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.isasyncgenfunction(called):
        return _async_generator(function, begin)
    if inspect.iscoroutinefunction(called):
        return _coroutine(function, begin)
    if inspect.isgeneratorfunction(called):
        return _generator(function, begin)
    return _plain(function, begin)


def _plain(function: Callable[..., Any], begin: Callable[[], Running]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        running = begin()
        running.resume()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            running.pause()
            running.end(error)
            raise
        running.pause()
        running.end(None)
        return result

    return call


def _coroutine(function: Callable[..., Any], begin: Callable[[], Running]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        running = begin()
        running.resume()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            running.pause()
            running.end(error)
            raise
        running.pause()
        running.end(None)
        return result

    return call


def _generator(function: Callable[..., Any], begin: Callable[[], Running]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        running = begin()
        step: Callable[[Any], Any] = generator.send
        given: Any = None
        try:
            while True:
                running.resume()
                try:
                    item = step(given)
                except StopIteration as stop:
                    running.end(None)
                    return stop.value
                finally:
                    running.pause()
                try:
                    given = yield item
                    step = generator.send
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - what a consumer throws is the generator's to answer
                    given, step = error, generator.throw
        except BaseException as error:
            running.end(error)
            raise

    return call


def _async_generator(function: Callable[..., Any], begin: Callable[[], Running]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        running = begin()
        step: Callable[[Any], Any] = generator.asend
        given: Any = None
        try:
            while True:
                running.resume()
                try:
                    item = await step(given)
                except StopAsyncIteration:
                    running.end(None)
                    return
                finally:
                    running.pause()
                try:
                    given = yield item
                    step = generator.asend
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - what a consumer throws is the generator's to answer
                    given, step = error, generator.athrow
        except BaseException as error:
            running.end(error)
            raise

    return call

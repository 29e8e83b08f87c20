"""What is known of the request at work: who asks, in which session, and the span that is open.

Every part of this package reads it here, and none has to import another for it: log lines take the identities, exemplars
the trace, and the middleware tells it what a request brought. It imports nothing of OpenTelemetry; `opentelemetry_tracing`
puts its functions here when it is set up. Context variables follow tasks and threads started with `asyncio.to_thread`;
a thread of one's own begins with none.
"""

import os
import random
import re
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, NamedTuple, Protocol

Scope = MutableMapping[str, Any]

_LONGEST_ID = 128
_MARK = "monitoring_at_work"
_REQUEST_ID_HEADER = b"x-request-id"
_SAFE_ID = re.compile(rb"[!-~]{1,128}")


class Identities(NamedTuple):
    """Who is at work; None where that is not known."""

    request_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None


class SpanIds(NamedTuple):
    """The open span in lower-case hexadecimal (W3C Trace Context): 32 digits and 16."""

    trace_id: str
    span_id: str
    is_sampled: bool


class ServerSpan(Protocol):
    """The span of one request, from its start to its end; both in the same task."""

    def end(self, status_code: int | None, route: str | None, error: BaseException | None = None) -> None:
        """Of the answer; None for what is not known. `route` is the template, never the path. May be called once."""


_NOBODY = Identities()
_identities: ContextVar[Identities] = ContextVar("monitoring_identities", default=_NOBODY)

open_span: Callable[[], SpanIds | None] | None = None
"""Set while tracing is set up."""

start_server_span: Callable[[Scope], ServerSpan | None] | None = None
"""Set while tracing is set up and server spans are wanted. Gives None where somebody else's span is open already."""

_at_stop: list[Callable[[], None]] = []


def identities() -> Identities:
    """Those of the request at work."""
    return _identities.get()


def span_ids() -> SpanIds | None:
    """The span that is open in this context; None where tracing is not set up or none is open."""
    return open_span() if open_span is not None else None


def current_trace_id() -> str | None:
    """The trace at work, when it is one that is sent: what an exemplar needs. 40 ns while tracing is not set up."""
    if open_span is None:
        return None
    ids = open_span()
    return ids.trace_id if ids is not None and ids.is_sampled else None


class bind:  # noqa: N801 - used like a function
    """Sets identities, from now on or, with `with`, until the block ends. What is not given stays.

    Values are cut to 128 characters.
    """

    def __init__(self, *, request_id: object = None, user_id: object = None, session_id: object = None) -> None:
        here = _identities.get()
        self._token: Token[Identities] = _identities.set(
            Identities(
                here.request_id if request_id is None else str(request_id)[:_LONGEST_ID],
                here.user_id if user_id is None else str(user_id)[:_LONGEST_ID],
                here.session_id if session_id is None else str(session_id)[:_LONGEST_ID],
            )
        )

    def __enter__(self) -> Identities:
        return _identities.get()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _identities.reset(self._token)


def unbind() -> None:
    """Nobody is at work any more in this context."""
    _identities.set(_NOBODY)


def enter_request(headers: Iterable[tuple[bytes, bytes]]) -> Token[Identities]:
    """At the begin of an ASGI request or websocket: its `x-request-id`, or a new one, and nobody's user or session.

    An identity of more than 128 characters, or with blanks or what is not ASCII, is not taken. The token goes to
    `leave_request`, in the same task.
    """
    given = next((value for name, value in headers if name == _REQUEST_ID_HEADER), b"")
    request_id = given.decode() if _SAFE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    return _identities.set(Identities(request_id))


def leave_request(token: Token[Identities]) -> None:
    """At the end of it."""
    _identities.reset(token)


def mark(error: BaseException) -> None:
    """Keeps with an exception that leaves a request who was at work: a server logs it when the request is over."""
    with suppress(AttributeError, TypeError):
        if getattr(error, _MARK, None) is None:
            setattr(error, _MARK, (_identities.get(), span_ids()))


def marked(error: object) -> tuple[Identities, SpanIds | None] | None:
    """What `mark` kept with it."""
    kept: tuple[Identities, SpanIds | None] | None = getattr(error, _MARK, None)
    return kept


def at_stop(deliver: Callable[[], None]) -> None:
    """Calls this when the application stops: deliver what is kept, within a deadline of its own."""
    if deliver not in _at_stop:
        _at_stop.append(deliver)


def application_stopped() -> None:
    """To be called when an ASGI application has shut down (`lifespan.shutdown`), before it says so: flush everything.

    A server may end its process by a signal right after, and then nothing runs at exit. Blocks for at most the deadlines of
    those who asked; never raises.
    """
    for deliver in tuple(_at_stop):
        try:
            deliver()
        except Exception:  # noqa: BLE001, S112 - an application must be able to stop
            continue


def _forget_in_child() -> None:
    """A child of fork serves no request of its parent's."""
    unbind()


os.register_at_fork(after_in_child=_forget_in_child)

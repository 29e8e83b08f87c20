"""A log record as the members of one JSON object: made in the thread that logs, finished in the one that writes.

An entry has three parts: the head (time, level, category, component) and the tail (identities, host, process, thread) hold
nothing that an application says freely; the body between them (message, exception, contexts, attributes) does, so only that is
searched for secrets. What is mutable is encoded at once: a mapping that changes after the call is logged as it was.
"""

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from monitoring import _context

LONGEST_BODY_BYTES = 256 << 10
NO_CATEGORY = "application"
CATEGORIES = ("application", "security", "performance", "business", "infrastructure", "audit")
KEYWORDS = "monitoring_keywords"
"""The attribute of a log record that holds the keywords of the call."""

_LONGEST_TEXT = 16 << 10
_SHORTEST_TEXT = 1 << 10
_DEEPEST = 6
_MOST_MEMBERS = 200
_MOST_FRAMES = 50
_MOST_CAUSES = 5
_CONTEXTS = ("business_context", "security_context")
_TEXT_IDS = ("trace_id", "span_id", "user_id", "session_id", "request_id")
_STANDARD = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__
    | {"message": "", "asctime": "", "taskName": "", KEYWORDS: ""}
)
_UNSEEN = len(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)


class Entry(NamedTuple):
    """A line to come, which `finish` gives. `error` is what the body still lacks."""

    category: str
    level: str
    unix_microseconds: int
    head: bytes
    body: bytes
    tail: bytes
    error: traceback.TracebackException | None
    is_on_console: bool

    @property
    def size_bytes(self) -> int:
        """What it takes in a queue, about."""
        return len(self.body) + 512


def _foreign(value: object) -> object:
    """What JSON and msgspec do not know, as a text."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)[:_LONGEST_TEXT]


_encode = msgspec.json.Encoder(enc_hook=_foreign).encode


def _plain(value: object, longest: int, depth: int = 0) -> object:
    """A copy that can be encoded: bounded, without cycles, lone surrogates or keys that are no texts; never fails."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {
            _text(key, _SHORTEST_TEXT): _plain(inner, longest, depth + 1)
            for key, inner in list(value.items())[:_MOST_MEMBERS]
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_plain(inner, longest, depth + 1) for inner in list(value)[:_MOST_MEMBERS]]
    return _text(value, longest)


def _text(value: object, longest: int) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - anybody's __str__
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text[:longest].encode("utf-8", "replace").decode()


def _encoded(value: object) -> bytes:
    try:
        return _encode(value)
    except Exception:  # noqa: BLE001 - msgspec's, or what a value of the application raises
        return _encode(_plain(value, _LONGEST_TEXT))


class LineMaker:
    """Turns log records into entries, in any thread."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._second = (-1, "")
        self._heads: dict[tuple[int, str, str], tuple[str, bytes]] = {}
        self._host = socket.gethostname()
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """After a fork: this process has another number."""
        self._place = b',"hostname":%b,"process_id":%d,"thread_id":%%d}' % (
            _encoded(self._host).replace(b"%", b"%%"),
            os.getpid(),
        )

    def entry(self, record: logging.LogRecord, *, is_on_console: bool = True) -> Entry:
        """The record as an entry; never fails for what a record holds."""
        fields = record.__dict__
        context: Mapping[str, object] | None = fields.get(KEYWORDS)
        if context is None and len(fields) > _UNSEEN:
            context = {key: value for key, value in fields.items() if key not in _STANDARD}
        message = _message(record)
        microseconds = int(record.created * 1e6)
        error = _captured(record)
        if not context:
            level, head = self._head(record.levelno, NO_CATEGORY, record.name)
            body = _encoded(message)
            tail = _identity_members(None, record.exc_info) + self._place % threading.get_native_id()
            category = NO_CATEGORY
        else:
            given = context.get("category")
            category = str(getattr(given, "value", given)) if given is not None else NO_CATEGORY
            category = category if category in CATEGORIES else NO_CATEGORY
            component = context.get("component")
            level, head = self._head(record.levelno, category, record.name if component is None else str(component))
            body = _encoded(message) + _members(context)
            tail = _identity_members(context, record.exc_info) + self._place % threading.get_native_id()
        if len(body) > LONGEST_BODY_BYTES:
            body = _shortened(message, context or {})
        stamp = self._stamp(microseconds)
        return Entry(category, level, microseconds, stamp + head, body, tail, error, is_on_console)

    def own_entry(self, message: str, attributes: Mapping[str, object]) -> Entry:
        """A warning of this package itself."""
        microseconds = self._now_ns() // 1000
        level, head = self._head(logging.WARNING, "infrastructure", "monitoring.structured_logging")
        body = _encoded(message) + b',"attributes":' + _encoded(attributes)
        tail = self._place % threading.get_native_id()
        return Entry("infrastructure", level, microseconds, self._stamp(microseconds) + head, body, tail, None, True)

    def _stamp(self, microseconds: int) -> bytes:
        second, fraction = divmod(microseconds, 1_000_000)
        known, text = self._second
        if known != second:
            text = time.strftime('{"timestamp":"%Y-%m-%dT%H:%M:%S', time.gmtime(second))
            self._second = (second, text)
        return f'{text}.{fraction:06d}Z"'.encode()

    def _head(self, level_number: int, category: str, component: str) -> tuple[str, bytes]:
        key = (level_number, category, component)
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) >= 4096:
                self._heads.clear()
            level = logging.getLevelName(level_number).lower()
            found = (
                level,
                b',"level":%b,"category":"%b","component":%b,'
                % (_encoded(level), category.encode(), _encoded(component)),
            )
            self._heads[key] = found
        return found


def finish(entry: Entry, redact: Callable[[bytes], bytes]) -> bytes:
    """The line, with a newline. Formats the exception, which reads source files."""
    body = b'"message":' + entry.body
    if entry.error is not None:
        body += b',"exception":' + _encoded(_plain(_described(entry.error, 0), _LONGEST_TEXT))
    return entry.head + redact(body) + entry.tail + b"\n"


def _message(record: logging.LogRecord) -> str:
    if not record.args and isinstance(record.msg, str):
        return record.msg
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - wrong arguments or anybody's __str__
        return f"{_text(record.msg, _LONGEST_TEXT)} [arguments do not fit: {type(error).__name__}]"


def _captured(record: logging.LogRecord) -> traceback.TracebackException | None:
    """The exception, without its frames' variables and without reading source."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    try:
        return traceback.TracebackException(*record.exc_info, limit=-_MOST_FRAMES, lookup_lines=False, compact=True)
    except Exception:  # noqa: BLE001 - anybody's __str__
        return None


def _described(error: traceback.TracebackException, depth: int) -> dict[str, object]:
    kind = error.exc_type
    name = kind.__qualname__
    described: dict[str, object] = {
        "type": name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}",
        "message": str(error),
    }
    if depth == 0:
        described["stacktrace"] = "".join(error.format())
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _MOST_CAUSES:
        described["cause"] = _described(cause, depth + 1)
    return described


def _members(context: Mapping[str, object]) -> bytes:
    """Contexts, duration and everything without a place of its own, as attributes."""
    parts = b""
    attributes: dict[str, object] = {}
    for key, value in context.items():
        if key in _TOP:
            if value is not None and key in _IN_BODY:
                parts += b',"%b":%b' % (key.encode(), _encoded(value))
        else:
            attributes[key] = value
    given = attributes.pop("attributes", None)
    if isinstance(given, Mapping):
        attributes = {**given, **attributes}
    elif given is not None:
        attributes["attributes"] = given
    return parts + b',"attributes":' + _encoded(attributes) if attributes else parts


_IN_BODY = frozenset((*_CONTEXTS, "duration_ms"))
_TOP = frozenset((*_TEXT_IDS, *_IN_BODY, "category", "component"))


def _identity_members(context: Mapping[str, object] | None, exc_info: object) -> bytes:
    """Those of the call, else those of the request at work, else of the one that the exception has left."""
    identities = _context.identities()
    span = _context.span_ids()
    if exc_info and span is None and isinstance(exc_info, tuple):
        left = _context.marked(exc_info[1])
        if left is not None:
            identities, span = left
    if context is None:
        if span is None and identities == (None, None, None):
            return b""
        context = {}
    known = (
        context.get("trace_id") or (span and span.trace_id),
        context.get("span_id") or (span and span.span_id),
        _first(context.get("user_id"), identities.user_id),
        _first(context.get("session_id"), identities.session_id),
        _first(context.get("request_id"), identities.request_id),
    )
    parts = b""
    for key, value in zip(_TEXT_IDS, known, strict=True):
        if value is not None:
            parts += b',"%b":%b' % (key.encode(), _encoded(str(value)[:_SHORTEST_TEXT]))
    return parts


def _first(given: object, otherwise: str | None) -> object:
    return otherwise if given is None else given


def _shortened(message: str, context: Mapping[str, object]) -> bytes:
    """The body with long texts cut, or, where there are too many of them, the message alone."""
    short = {key: _plain(value, _SHORTEST_TEXT) for key, value in context.items()}
    cut = _encoded(_text(message, _LONGEST_TEXT))
    body = cut + _members({**short, "log.truncated": True})
    return body if len(body) <= LONGEST_BODY_BYTES else cut + _members({"log.truncated": True})

"""What texts stand for: for each kind how it is checked, written back and described.

The schema names a kind in the `Meta` of a type (`extra={"kind": "duration"}`). Checks raise ValueError with what is wrong
and what would be right, worded to follow the quoted value.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from novel_agent.config.quantities import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from novel_agent.config.wording import listing, nearest

_LONGEST_REGEX = 4096
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:\[\]/?#@,\s]*)):([0-9]{1,5})")
_ALLOWED_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|(?:\*\.)?[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*\.?)(?::[0-9]{1,5})?")
_URL = re.compile(r"(https?)://(?:[^/?#@\s]*@)?(\[[^\]/\s]+\]|[^:/?#\[\]@\s]+)(?::([0-9]*))?(/[^?#\s]*)?")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_OFF = ("off", "no", "none", "false", "on", "yes", "true")
_PLACEHOLDERS = ("comm", "exe", "user", "unit")
_LEVEL_WORDS = {
    **dict.fromkeys(("trace", "debug", "notset"), "debug"),
    **dict.fromkeys(("info", "information", "notice"), "info"),
    **dict.fromkeys(("warn", "warning"), "warning"),
    **dict.fromkeys(("error", "critical", "fatal"), "error"),
}


class Kind(NamedTuple):
    """One kind of text."""

    wanted: str
    """As in `a duration`, for the reference and for what else was written there."""
    parse: Callable[[str], Any]
    write: Callable[[Any], str] = str
    pattern: str | None = None
    """Regular expression for the JSON Schema, without anchors."""
    takes_any_scalar: bool = False
    """Numbers need no quotes, since the check itself tells right from wrong."""


def _listen(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if match:
        if int(match[3]) > 65535:
            raise ValueError(f"has the port {match[3]}; ports end at 65535")
        return text
    if text.isdigit():
        raise ValueError(f"has no host; write 127.0.0.1:{text}, or :{text} for every address")
    if "://" in text:
        raise ValueError(f"is a URL; write HOST:PORT, as {text.split('://', 1)[1].rstrip('/') or '127.0.0.1:9090'}")
    if text.count(":") > 1 and "[" not in text:
        raise ValueError("is not HOST:PORT; an IPv6 address stands in brackets, as [::1]:9090")
    if ":" not in text:
        raise ValueError(f"has no port; write {text or '127.0.0.1'}:9090")
    raise ValueError("is not HOST:PORT; write for example 127.0.0.1:9090 or [::1]:9090")


def _receiver_listen(text: str) -> str:
    if text.lower() in _OFF:
        raise ValueError("is not HOST:PORT; where nothing is to be received, leave the value empty")
    if text.isdigit():
        raise ValueError(f"has no host; write 127.0.0.1:{text}, or :{text} for every address")
    if ":" not in text:
        raise ValueError(f"has no port; write {text or '127.0.0.1'}:4318")
    return _listen(text)


def _allowed_host(text: str) -> str:
    if _ALLOWED_HOST.fullmatch(text):
        return text
    if "://" in text:
        host = re.split("[/?#]", text.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
        raise ValueError(f"is a URL; write its host alone, as {host or 'agent.example.org'}")
    if text == "*":
        raise ValueError("would let every host through; write the names, or *.example.org for those below one")
    if text.count(":") > 1 and "[" not in text:
        raise ValueError("is not a host; an IPv6 address stands in brackets, as [2001:db8::1]")
    raise ValueError("is not a host; write one such as agent.example.org, *.example.org or 192.0.2.1")


def _url(text: str) -> str:
    match = _URL.fullmatch(text)
    if match:
        if match[3] is not None and not (match[3] and 0 < int(match[3][:6]) <= 65535):
            raise ValueError("has no valid port; ports go from 1 to 65535")
        return text
    if "://" not in text:
        shown = text if text and "@" not in text else "HOST:PORT"
        raise ValueError(f"has no scheme; write http://{shown} or https://{shown}")
    if not text.startswith(("http://", "https://")):
        raise ValueError("is not an http:// or https:// URL")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment, which cannot be sent; end it before that")
    raise ValueError("is not a URL of the form http://HOST:PORT/PATH")


def _regex(text: str) -> str:
    if len(text) > _LONGEST_REGEX:
        raise ValueError(f"is longer than {_LONGEST_REGEX} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except re.error as error:
        where = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise ValueError(f"is not a regular expression: {error.msg}{where}") from None
    except (OverflowError, RecursionError):
        raise ValueError("is not a regular expression: its repetitions or its nesting are too large") from None
    return text


def _linear_regex(text: str) -> str:
    """What RE2 takes, which matches in time that grows with the text alone, whoever wrote the text."""
    _regex(text)
    import re2

    quiet = re2.Options()
    quiet.log_errors = False
    try:
        re2.compile(text, quiet)
    except re2.error:
        raise ValueError(
            "is not a regular expression of RE2, which has no look-around and no back references"
        ) from None
    return text


def log_level(text: str) -> str:
    """The level that Python's logging, syslog or OpenTelemetry would call so, in any case."""
    level = _LEVEL_WORDS.get(text.strip().lower())
    if level is None:
        near = nearest(text, _LEVEL_WORDS)
        right = f"did you mean {near}?" if near else "write debug, info, warning or error"
        raise ValueError(f"is not a log level; {right}")
    return level


def _group_name(text: str) -> str:
    for word in _PLACEHOLDER.findall(text):
        if word not in _PLACEHOLDERS:
            near = nearest(word, _PLACEHOLDERS)
            right = f"did you mean {{{near}}}?" if near else f"known are {_braced(_PLACEHOLDERS)}"
            raise ValueError(f"holds the unknown placeholder {{{word}}}; {right}")
    if "{" in _PLACEHOLDER.sub("", text) or "}" in _PLACEHOLDER.sub("", text):
        raise ValueError(f"holds a lone brace; placeholders are {_braced(_PLACEHOLDERS)}")
    return text


def _braced(words: tuple[str, ...]) -> str:
    return listing(f"{{{word}}}" for word in words)


def has_placeholder(name: str) -> bool:
    """Whether a process group's name makes one group a value."""
    return bool(_PLACEHOLDER.search(name))


KINDS: dict[str, Kind] = {
    "duration": Kind("a duration", parse_duration, format_duration, DURATION_PATTERN, takes_any_scalar=True),
    "size": Kind("a size", parse_size, format_size, SIZE_PATTERN, takes_any_scalar=True),
    "listen": Kind("HOST:PORT", _listen, pattern=r".*:[0-9]{1,5}", takes_any_scalar=True),
    "receiver_listen": Kind("HOST:PORT", _receiver_listen, pattern=r".*:[0-9]{1,5}", takes_any_scalar=True),
    "allowed_host": Kind("a host", _allowed_host, pattern=_ALLOWED_HOST.pattern, takes_any_scalar=True),
    "url": Kind("a URL", _url, pattern="https?://.+"),
    "regex": Kind("a regular expression", _regex),
    "linear_regex": Kind("a regular expression", _linear_regex),
    "group_name": Kind("a name", _group_name),
    "name_or_number": Kind("a name or number", str, takes_any_scalar=True),
    "log_level": Kind("a log level", log_level),
    "secret": Kind("a secret", str),
    "file": Kind("a file", str),
    "path": Kind("a path", str),
}
TEXT = Kind("text", str)

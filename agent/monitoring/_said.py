"""What the library has to tell the application's operator: each thing once, through the standard logging module."""

import logging

_REMEMBERED_MAX = 1000

logger = logging.getLogger("monitoring")
_said: set[str] = set()


def say_once(level: int, text: str, about: str = "") -> None:
    """Log `text` unless it was said before about the same thing. `about` is part of the line and of its identity."""
    line = f"{text}: {about}" if about else text
    if line in _said or len(_said) >= _REMEMBERED_MAX:
        return
    _said.add(line)
    logger.log(level, "%s", line)


def forget(text: str, about: str = "") -> None:
    """Let `say_once` say it again: the thing it was said of is over."""
    _said.discard(f"{text}: {about}" if about else text)

"""How every part of the agent speaks: a constant event and its details. Where it is written is `runtime.logs`' affair.

WARN: nothing is lost yet. ERROR: something was lost, or someone must act.
"""

import logging

_ROOT = "novel_agent"


class EventLogger:
    """A logger whose events are constant texts and whose details are keywords."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{name}")

    def debug(self, event: str, **details: object) -> None:
        """For whoever looks for a fault in the agent."""
        self._log(logging.DEBUG, event, details)

    def info(self, event: str, **details: object) -> None:
        """A change of state worth reading afterwards."""
        self._log(logging.INFO, event, details)

    def warning(self, event: str, **details: object) -> None:
        """Something is not as it should be; nothing is lost yet."""
        self._log(logging.WARNING, event, details)

    def error(self, event: str, **details: object) -> None:
        """Something was lost, or someone must act."""
        self._log(logging.ERROR, event, details)

    def exception(self, event: str, **details: object) -> None:
        """An error with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, details, traceback=True)

    def _log(self, level: int, event: str, details: dict[str, object], *, traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"details": details}, exc_info=traceback)


def get_logger(name: str) -> EventLogger:
    """The logger of a part of the agent."""
    return EventLogger(name)

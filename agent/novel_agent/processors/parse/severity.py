"""Severities as programs write them, to the numbers of OpenTelemetry (logs data model, "Severity Fields" and appendix B)."""

TRACE, DEBUG, INFO, WARN, ERROR, FATAL = 1, 5, 9, 13, 17, 21

_NAMES = {
    "trace": TRACE, "trc": TRACE, "finest": TRACE, "verbose": TRACE, "t": TRACE,
    "finer": 2,
    "debug": DEBUG, "dbg": DEBUG, "dbug": DEBUG, "fine": DEBUG, "d": DEBUG,
    "config": 6,
    "info": INFO, "inf": INFO, "information": INFO, "informational": INFO, "i": INFO, "success": INFO,
    "notice": 10, "note": 10, "n": 10,
    "warn": WARN, "warning": WARN, "wrn": WARN, "w": WARN,
    "error": ERROR, "err": ERROR, "eror": ERROR, "severe": ERROR, "e": ERROR,
    "fatal": FATAL, "ftl": FATAL, "critical": FATAL, "crit": FATAL, "c": FATAL, "f": FATAL,
    "alert": FATAL, "panic": FATAL, "dpanic": FATAL, "emerg": FATAL, "emergency": FATAL,
}  # fmt: skip
_LONGEST = max(map(len, _NAMES))
_PINO = {10: TRACE, 20: DEBUG, 30: INFO, 40: WARN, 50: ERROR, 60: FATAL}
"""The numbers of pino and bunyan. Python's logging counts from 10 as well and means others; it writes names into its lines."""


def severity_number(text: str) -> int:
    """1 to 24, or 0 where the text names no severity. Case and blanks around it do not count."""
    if len(text) > _LONGEST + 2:
        return 0
    return _NAMES.get(text.strip().lower(), 0)


def severity_of_number(number: float) -> int:
    """Of a level that is a number: those of pino and bunyan, 10 to 60; 0 for any other."""
    return _PINO.get(int(number), 0) if number in _PINO else 0

"""Structured logs of a Novel Engine application: JSON lines in a directory that the agent beside it reads.

    logger = setup_structured_logging()
    logger.info("Story generation started", story_type="adventure", user_id="123")

The logger is a standard `logging.Logger` whose methods take keywords. What other loggers of the application say is written
too. A call queues a line and returns; one thread writes. Nothing starts at import.

Keywords that are parts of a line take their place in it (`user_id`, `session_id`, `request_id`, `duration_ms`, `trace_id`,
`span_id`, `business_context`, `security_context`, `category`, `component`); all others become `attributes`. Who is at work can
also be bound for a while: `with bind(user_id="123"): …`.
"""

import enum
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from monitoring._context import bind as bind
from monitoring._context import unbind as unbind

if TYPE_CHECKING:
    from monitoring._log_lines import LineMaker
    from monitoring._log_writer import LogWriter, Sink

_KEYWORDS = "monitoring_keywords"
_SERVERS = ("uvicorn", "gunicorn.error", "hypercorn.error")
_INTERNAL = frozenset({logging.info.__code__.co_filename, (lambda: None).__code__.co_filename})


class LogLevel(enum.StrEnum):
    """How much is written; in lines levels are in lower case."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class LogCategory(enum.StrEnum):
    """What a line is about, and so in which file it is."""

    APPLICATION = "application"
    SECURITY = "security"
    PERFORMANCE = "performance"
    BUSINESS = "business"
    INFRASTRUCTURE = "infrastructure"
    AUDIT = "audit"


@dataclass(kw_only=True)
class LoggingConfig:
    """How logs are written.

    What is not given comes from the environment (`LOG_LEVEL`, `LOG_DIRECTORY`, `REMOTE_LOG_ENDPOINT`), else is as here.
    `enable_console` None: standard error, unless the application has handlers of its own. `redact` False writes secrets as
    they are.
    """

    log_level: str | int | LogLevel = field(default_factory=lambda: os.environ.get("LOG_LEVEL") or "INFO")
    enable_console: bool | None = None
    enable_file: bool = True
    enable_json: bool = True
    log_directory: str | os.PathLike[str] = field(default_factory=lambda: os.environ.get("LOG_DIRECTORY") or "logs")
    max_file_size: int = 100 << 20
    backup_count: int = 10
    enable_remote_logging: bool = field(default_factory=lambda: bool(os.environ.get("REMOTE_LOG_ENDPOINT")))
    remote_endpoint: str | None = field(default_factory=lambda: os.environ.get("REMOTE_LOG_ENDPOINT") or None)
    redact: bool = True
    capture_standard_logging: bool = True
    queue_lines: int = 10_000
    queue_bytes: int = 16 << 20


class StructuredLogger(logging.Logger):
    """A standard logger whose methods take keywords beside the standard ones.

    Those are `exc_info`, `extra`, `stack_info` and `stacklevel`.
    """

    # The first parameters are positional only, so that any word may be a keyword of the application.

    def debug(self, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, msg, args, **context)

    def info(self, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(logging.INFO):
            self._log(logging.INFO, msg, args, **context)

    def warning(self, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(logging.WARNING):
            self._log(logging.WARNING, msg, args, **context)

    def error(self, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(logging.ERROR):
            self._log(logging.ERROR, msg, args, **context)

    def exception(  # type: ignore[override]
        self, msg: object, /, *args: object, exc_info: Any = True, **context: Any
    ) -> None:
        if self.isEnabledFor(logging.ERROR):
            self._log(logging.ERROR, msg, args, exc_info=exc_info, **context)

    def critical(self, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(logging.CRITICAL):
            self._log(logging.CRITICAL, msg, args, **context)

    def log(self, level: int, msg: object, /, *args: object, **context: Any) -> None:  # type: ignore[override]
        if self.isEnabledFor(level):
            self._log(level, msg, args, **context)

    def _log(  # type: ignore[override]
        self,
        level: int,
        msg: object,
        args: Any,
        /,
        exc_info: Any = None,
        extra: Mapping[str, object] | None = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        **context: object,
    ) -> None:
        if context:
            extra = {_KEYWORDS: {**extra, **context} if extra else context}
        super()._log(level, msg, args, exc_info, extra, stack_info, stacklevel)

    def findCaller(  # noqa: N802 - logging's name
        self, stack_info: bool = False, stacklevel: int = 1
    ) -> tuple[str, int, str, str | None]:
        """Where the call was: neither here nor in the logging module. A third of the standard method's cost."""
        frame = sys._getframe(1)  # noqa: SLF001 - as the standard library does
        while True:
            if frame.f_code.co_filename not in _INTERNAL:
                stacklevel -= 1
                if stacklevel <= 0:
                    break
            if frame.f_back is None:
                break
            frame = frame.f_back
        stack = None
        if stack_info:
            import traceback

            stack = "Stack (most recent call last):\n" + "".join(traceback.format_stack(frame)).rstrip("\n")
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, stack

    def log_performance_event(
        self, operation: str, duration_ms: float, success: bool = True, **context: object
    ) -> None:
        """How long an operation took, to `performance.log`; a warning where it failed."""
        level = logging.INFO if success else logging.WARNING
        if self.isEnabledFor(level):
            members: dict[str, Any] = {
                "category": "performance",
                "duration_ms": duration_ms,
                "operation": operation,
                "success": success,
            }
            self._log(level, operation, (), **members | context)

    def log_security_event(
        self,
        event_type: str,
        message: str,
        user_id: object = None,
        ip_address: str | None = None,
        severity: str = "warning",
        **context: object,
    ) -> None:
        """What concerns security, to `security.log`, whatever the level of the logger is.

        `event_type` and `ip_address` are in the line's `security_context`; `severity` is the line's level.
        """
        known: dict[str, Any] = {"event_type": event_type}
        if ip_address is not None:
            known["ip_address"] = ip_address
        given = context.pop("security_context", None)
        members: dict[str, Any] = {"security_context": known | dict(given) if isinstance(given, Mapping) else known}
        members |= {"category": "security", "user_id": user_id}
        self._log(level_number(severity), message, (), **members | context)

    def log_business_event(
        self,
        event_type: str,
        message: str,
        user_id: object = None,
        business_context: Mapping[str, object] | None = None,
        **context: object,
    ) -> None:
        """What users did, to the main file with the category `business`; `event_type` is an attribute."""
        if self.isEnabledFor(logging.INFO):
            members: dict[str, Any] = {"category": "business", "event_type": event_type, "user_id": user_id}
            self._log(logging.INFO, message, (), business_context=business_context, **members | context)

    def log_audit_event(
        self,
        action: str,
        resource: str,
        user_id: object = None,
        success: bool = True,
        message: str | None = None,
        **context: object,
    ) -> None:
        """Who did what to which resource, to `audit.log`, whatever the level of the logger is."""
        members: dict[str, Any] = {
            "category": "audit",
            "user_id": user_id,
            "action": action,
            "resource": resource,
            "success": success,
        }
        level = logging.INFO if success else logging.WARNING
        text = message if message is not None else f"{action} {resource}"
        self._log(level, text, (), **members | context)

    def flush(self, timeout_seconds: float = 3.0) -> bool:
        """Writes what is queued; whether that was done in time."""
        return _state.writer is None or _state.writer.flush(timeout_seconds)


class log_performance:  # noqa: N801 - used like a function
    """Logs how long a block took, `with` or `async with`, as `log_performance_event` does.

    A warning where it took longer than `expected_duration_ms`, or ended with an exception, which goes on.
    """

    def __init__(
        self,
        logger: logging.Logger,
        operation: str,
        expected_duration_ms: float | None = None,
        **context: object,
    ) -> None:
        self._logger = logger
        self._operation = operation
        self._expected_ms = expected_duration_ms
        self._context = context
        self._begin = 0.0

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        duration_ms = round((time.perf_counter() - self._begin) * 1000, 3)
        is_late = self._expected_ms is not None and duration_ms > self._expected_ms
        level = logging.WARNING if error is not None or is_late else logging.INFO
        members: dict[str, object] = {
            "category": "performance",
            "duration_ms": duration_ms,
            "operation": self._operation,
            "success": error is None,
        }
        if self._expected_ms is not None:
            members["expected_duration_ms"] = self._expected_ms
        self._logger.log(
            level, self._operation, exc_info=error, extra={_KEYWORDS: members | self._context}, stacklevel=2
        )

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class QueueHandler(logging.Handler):
    """Queues records for the writer, without the lock that handlers have."""

    def __init__(self, lines: "LineMaker", writer: "LogWriter", *, is_on_console: bool) -> None:
        super().__init__()
        self._lines = lines
        self._writer = writer
        self._is_on_console = is_on_console

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None is needed: a queue is appended to by any thread."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock that there is not."""
        if self.filters and not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises."""
        try:
            self._writer.put(self._lines.entry(record, is_on_console=self._is_on_console))
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Writes what is queued."""
        self._writer.flush()


class _State:
    """What is set up in this process."""

    config: LoggingConfig | None = None
    service = ""
    writer: "LogWriter | None" = None
    attached: list[tuple[logging.Logger, logging.Handler]] = []  # noqa: RUF012 - there is one state
    levels: dict[logging.Logger, int] = {}  # noqa: RUF012


_state = _State()


def setup_structured_logging(
    config: LoggingConfig | Any | None = None, service: str | None = None, app: Any = None
) -> StructuredLogger:
    """The service's logger; its lines, and those of all other loggers, are written as `config` says.

    May be called again: without a configuration to get the logger, with another one to change how lines are written.
    Requests to `app`, which may stand in the place of `config` too, get an identity that their lines carry.
    """
    if config is not None and not isinstance(config, LoggingConfig):
        config, app = None, config
    if app is not None:
        from monitoring._applications import adopt

        adopt(app)
    name = service or _state.service or os.environ.get("OTEL_SERVICE_NAME") or "novel-engine"
    logger = _structured(name)
    if config is None and _state.config is not None:
        logger.setLevel(level_number(_state.config.log_level))
        return logger
    config = config or LoggingConfig()
    if config != _state.config or name != _state.service:
        _take_down()
        _put_up(config, name)
    logger.setLevel(level_number(config.log_level))
    return logger


def shutdown_structured_logging() -> None:
    """Writes what is queued and leaves loggers as they were before."""
    _take_down()


def get_logger(name: str) -> StructuredLogger:
    """A logger with keywords, by name, as `logging.getLogger` gives one."""
    return _structured(name)


def flush_logs(timeout_seconds: float = 3.0) -> bool:
    """Writes what is queued; whether that was done in time."""
    return _state.writer is None or _state.writer.flush(timeout_seconds)


def dropped_log_lines() -> int:
    """Lines of this process that did not fit into the queue."""
    return 0 if _state.writer is None else _state.writer.dropped_lines


def level_number(level: str | int) -> int:
    """A level by its name in any case, or its number; INFO, said once, for what is none."""
    if isinstance(level, int):
        return level
    name = {"WARN": "WARNING", "FATAL": "CRITICAL", "TRACE": "DEBUG"}.get(level.strip().upper(), level.strip().upper())
    number = logging.getLevelNamesMapping().get(name)
    if number is None:
        _tell(f"{level!r} is no log level such as info; info it is")
        return logging.INFO
    return number


def _structured(name: str) -> StructuredLogger:
    """The standard logger of this name, made one that takes keywords: others may hold it already."""
    logger = logging.getLogger(name)
    if not isinstance(logger, StructuredLogger):
        kind = type(logger)
        logger.__class__ = (
            StructuredLogger
            if kind is logging.Logger
            else type(f"Structured{kind.__name__}", (StructuredLogger, kind), {})
        )
    assert isinstance(logger, StructuredLogger)
    return logger


def _put_up(config: LoggingConfig, service: str) -> None:
    from monitoring._log_lines import LineMaker
    from monitoring._log_redaction import redact_members
    from monitoring._log_writer import LogWriter

    root = logging.getLogger()
    is_bare = not root.handlers
    lines = LineMaker()
    writer = LogWriter(
        lines,
        _sinks(config, service, is_console=is_bare if config.enable_console is None else config.enable_console),
        redact_members if config.redact else bytes,
        most_lines=config.queue_lines,
        most_bytes=config.queue_bytes,
    )
    _state.config, _state.service, _state.writer = config, service, writer
    handler = QueueHandler(lines, writer, is_on_console=True)
    if not config.capture_standard_logging:
        _attach(logging.getLogger(service), handler)
        return
    _attach(root, handler)
    if is_bare and root.level == logging.WARNING:
        _state.levels[root] = root.level
        root.setLevel(level_number(config.log_level))
    for name in _SERVERS:
        if not logging.getLogger(name).propagate:
            _attach(logging.getLogger(name), QueueHandler(lines, writer, is_on_console=False))


def _sinks(config: LoggingConfig, service: str, *, is_console: bool) -> "list[Sink]":
    from monitoring._log_sinks import FILES, MAIN_FILE, ConsoleSink, FileSink

    sinks: list[Sink] = []
    directory = os.path.abspath(config.log_directory)
    if config.enable_file:
        from monitoring._log_files import LogFiles

        files = LogFiles(directory, max_bytes=config.max_file_size, backups=config.backup_count)
        sinks.append(FileSink(files, is_json=config.enable_json, tell=_tell))
    if is_console:
        sinks.append(ConsoleSink(is_json=config.enable_json))
    if config.enable_remote_logging and config.remote_endpoint:
        from monitoring._loki import AgentReads, LokiSink

        paths = [os.path.join(directory, name) for name in (MAIN_FILE, *FILES.values())]
        reads = AgentReads(paths, *_agent()) if config.enable_file and config.enable_json else None
        sinks.append(LokiSink(config.remote_endpoint, service, reads, _tell))
    elif config.enable_remote_logging:
        _tell("remote logging is enabled without remote_endpoint, so nothing is pushed")
    return sinks


def _agent() -> tuple[str, dict[str, str]]:
    """Where the agent is, and what to say to it."""
    url = os.environ.get("OBSERVABILITY_ENDPOINT") or "http://127.0.0.1:9090"
    token = os.environ.get("OBSERVABILITY_TOKEN", "")
    if not token and (path := os.environ.get("OBSERVABILITY_TOKEN_FILE")):
        with suppress(OSError), open(path) as file:
            token = file.read().strip()
    return url, {"Authorization": f"Bearer {token}"} if token else {}


def _attach(logger: logging.Logger, handler: logging.Handler) -> None:
    logger.addHandler(handler)
    _state.attached.append((logger, handler))


def _take_down() -> None:
    for logger, handler in _state.attached:
        logger.removeHandler(handler)
    _state.attached.clear()
    for logger, level in _state.levels.items():
        logger.setLevel(level)
    _state.levels.clear()
    if _state.writer is not None:
        _state.writer.close()
    _state.config, _state.writer = None, None


def _tell(text: str) -> None:
    """To standard error: what concerns logging cannot be logged."""
    with suppress(OSError, ValueError):
        print(f"monitoring: {text}", file=sys.stderr, flush=True)


__all__ = [
    "LogCategory",
    "LogLevel",
    "LoggingConfig",
    "StructuredLogger",
    "bind",
    "dropped_log_lines",
    "flush_logs",
    "get_logger",
    "log_performance",
    "setup_structured_logging",
    "shutdown_structured_logging",
    "unbind",
]

"""What can go wrong, as types.

    AgentError                  exit 1
    ├── ConfigError             exit 2, with file, line and key; collected, never raised one by one to a user
    ├── InputError              a source could not be read; the others go on
    │   └── NoData              the kernel has none of this (no such hardware or module): normal, not a fault
    ├── OutputUnavailable       try again later, after `retry_after_seconds` when the destination named a time
    ├── OutputRejected          final: the destination will never take this batch; drop and count
    ├── StateError              exit 2: the state directory is in use, unreadable or not ours
    └── AgentUnreachable        exit 3: the command line found no running agent

Texts of errors are for people and never become label values.
"""


class AgentError(Exception):
    """Everything this project raises on purpose."""

    exit_code = 1


class ConfigError(AgentError):
    """One mistake in a configuration file.

    `line` is 1-based, 0 where a value came from no file line (environment, command line).
    """

    exit_code = 2

    def __init__(self, file: str, line: int, key: str, problem: str) -> None:
        super().__init__(file, line, key, problem)
        self.file = file
        self.line = line
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.problem}" if self.key else f"{where}: {self.problem}"


class ConfigErrors(AgentError):  # noqa: N818 - the plural of one
    """Every mistake found in one configuration, in file order."""

    exit_code = 2

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class InputError(AgentError):
    """A source could not be read this time."""


class NoData(InputError):  # noqa: N818 - it is an outcome, not a fault
    """The kernel offers none of this here: no such hardware, module or file."""


class OutputUnavailable(AgentError):  # noqa: N818 - named by what it means for the batch
    """The destination cannot take the batch now; the batch stays queued."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class OutputRejected(AgentError):  # noqa: N818 - named by what it means for the batch
    """The destination refused the batch for good; `reason` is a short constant fit for a label."""

    def __init__(self, message: str, *, reason: str = "rejected") -> None:
        super().__init__(message)
        self.reason = reason


class StateError(AgentError):
    """The state directory cannot be used."""

    exit_code = 2


class AgentUnreachable(AgentError):  # noqa: N818 - an outcome of the command line
    """No agent answers at the address asked."""

    exit_code = 3

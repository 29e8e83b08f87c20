import pytest

from novel_agent.runtime.health import assess
from novel_agent.runtime.status import BudgetStatus, ConfigStatus, LogFileStatus, LogSourceStatus

BUDGET = BudgetStatus(5.0, 96 << 20, 0.1, 0.5, 0, "as configured")
CONFIG = ConfigStatus([], 0.0, [], True, None, [])


def source(state="idle", reason="", *files):
    return LogSourceStatus("app", "files", state, reason, 0, 0.0, 0, {}, {}, 0, 0, 0, 0.0, "", list(files))


def file(reason):
    return LogFileStatus("/var/log/a.log", "1:2 x", "unreadable", 0, 0, 0, 0, 0.0, 0, 0.0, 0, reason)


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (source(), "healthy", "idle"),
        (source("waiting", "no export takes logs"), "healthy", "no export takes logs"),
        (source("waiting", "the spool of central is full"), "degraded", "the spool of central is full"),
        (source("hung", "a read has not come back"), "degraded", "a read has not come back"),
        (
            source("idle", "", file("Permission denied")),
            "degraded",
            "cannot be read: /var/log/a.log: Permission denied",
        ),
    ],
)
def test_a_source_of_logs_is_as_well_as_what_it_can_read(given, status, message):
    health = assess(1.0, [], [], BUDGET, CONFIG, [given])
    (check,) = [each for each in health.checks if each.name == "logs:app"]
    assert (check.status, check.message) == (status, message)
    assert health.status == status

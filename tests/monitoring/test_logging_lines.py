import asyncio
import datetime
import json
import logging
import os
import socket
import threading

import pytest

from monitoring._log_lines import LineMaker, finish
from monitoring._log_redaction import redact_members
from monitoring.structured_logging import (
    LoggingConfig,
    LogLevel,
    StructuredLogger,
    bind,
    log_performance,
    setup_structured_logging,
    shutdown_structured_logging,
)


@pytest.fixture
def written(tmp_path):
    """Sets up logging, gives the logger and what reads the lines of a file."""
    logger = setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False), "novel-engine")

    def lines(name="novel-engine.log"):
        logger.flush()
        path = tmp_path / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    yield logger, lines
    shutdown_structured_logging()


def test_a_line_says_what_happened_when_where_and_to_whom(written):
    logger, lines = written
    before = datetime.datetime.now(datetime.UTC)
    logger.info("Story generation started", story_type="adventure", user_id="123")
    (line,) = lines()
    stamp = line.pop("timestamp")
    assert len(stamp) == len("2026-11-28T15:14:30.653929Z")
    assert before <= datetime.datetime.fromisoformat(stamp) <= datetime.datetime.now(datetime.UTC)
    assert line == {
        "level": "info",
        "category": "application",
        "component": "novel-engine",
        "message": "Story generation started",
        "attributes": {"story_type": "adventure"},
        "user_id": "123",
        "hostname": socket.gethostname(),
        "process_id": os.getpid(),
        "thread_id": threading.get_native_id(),
    }


def test_events_go_to_the_one_file_of_their_category(written):
    logger, lines = written
    logger.log_performance_event("story_generation", 2500, True)
    logger.log_security_event(
        "authentication_failure", "Invalid credentials", user_id="456", ip_address="192.168.1.100"
    )
    logger.log_business_event(
        "story_completed",
        "User completed story generation",
        user_id="123",
        business_context={"story_id": "story_789"},
    )
    logger.log_audit_event("delete", "story/1", user_id="9", success=False)
    (performance,), (security,), (business,), (audit,) = (
        lines(name) for name in ("performance.log", "security.log", "novel-engine.log", "audit.log")
    )
    assert (performance["category"], performance["level"]) == ("performance", "info")
    assert performance["message"] == "story_generation"
    assert performance["duration_ms"] == 2500
    assert performance["attributes"] == {"operation": "story_generation", "success": True}
    assert (security["category"], security["level"]) == ("security", "warning")
    assert security["message"] == "Invalid credentials"
    assert security["user_id"] == "456"
    assert security["security_context"] == {"event_type": "authentication_failure", "ip_address": "192.168.1.100"}
    assert business["category"] == "business"
    assert business["business_context"] == {"story_id": "story_789"}
    assert business["attributes"] == {"event_type": "story_completed"}
    assert (audit["level"], audit["message"]) == ("warning", "delete story/1")
    assert audit["attributes"] == {"action": "delete", "resource": "story/1", "success": False}


def test_the_logger_is_a_standard_one_and_found_by_its_name(written):
    logger, _ = written
    assert isinstance(logger, logging.Logger)
    assert logging.getLogger("novel-engine") is logger


def test_a_logger_that_was_there_before_takes_keywords_too(written):
    _, lines = written
    early = logging.getLogger("novel-engine.early")
    assert not isinstance(early, StructuredLogger)
    late = setup_structured_logging(service="novel-engine.early")
    assert late is early
    early.warning("said", reason="none")
    assert lines()[-1]["attributes"] == {"reason": "none"}


def test_what_other_loggers_say_is_written_with_what_they_add(written):
    _, lines = written
    logging.getLogger("stories.db").warning("%d rows", 3, extra={"table": "stories", "user_id": 5})
    (line,) = lines()
    assert (line["component"], line["message"], line["level"]) == ("stories.db", "3 rows", "warning")
    assert line["attributes"] == {"table": "stories"}
    assert line["user_id"] == "5"


@pytest.mark.parametrize(
    ("level", "written_levels"), [("warning", ["warning"]), (LogLevel.DEBUG, ["debug", "info", "warning"])]
)
def test_the_level_is_a_name_in_any_case_or_a_log_level(tmp_path, level, written_levels):
    logger = setup_structured_logging(LoggingConfig(log_level=level, log_directory=tmp_path, enable_console=False))
    for say in (logger.debug, logger.info, logger.warning):
        say("x")
    shutdown_structured_logging()
    path = tmp_path / "novel-engine.log"
    assert [json.loads(line)["level"] for line in path.read_text().splitlines()] == written_levels


def test_security_and_audit_are_written_whatever_the_level_is(tmp_path):
    logger = setup_structured_logging(LoggingConfig(log_level="critical", log_directory=tmp_path, enable_console=False))
    logger.log_security_event("x", "y")
    logger.log_audit_event("read", "story/1")
    logger.log_performance_event("op", 1)
    shutdown_structured_logging()
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["audit.log", "security.log"]


def test_a_level_nobody_knows_is_said_and_taken_as_info(tmp_path, capsys):
    logger = setup_structured_logging(LoggingConfig(log_level="loud", log_directory=tmp_path, enable_console=False))
    assert logger.level == logging.INFO
    shutdown_structured_logging()
    assert "'loud' is no log level" in capsys.readouterr().err


def test_an_exception_is_fields_with_its_cause(written):
    logger, lines = written
    try:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no such story") from error
    except ValueError:
        logger.exception("Story not found", story_id=4)
    (line,) = lines()
    assert line["level"] == "error"
    assert line["attributes"] == {"story_id": 4}
    assert (line["exception"]["type"], line["exception"]["message"]) == ("ValueError", "no such story")
    assert line["exception"]["cause"] == {"type": "KeyError", "message": "'missing'"}
    assert line["exception"]["stacktrace"].startswith("Traceback (most recent call last):\n")
    assert 'raise ValueError("no such story") from error' in line["exception"]["stacktrace"]


def test_an_exception_may_be_given_and_one_without_is_none(written):
    logger, lines = written
    logger.error("x", exc_info=RuntimeError("given"))
    logger.error("y", exc_info=True)
    first, second = lines()
    assert first["exception"] == {"type": "RuntimeError", "message": "given", "stacktrace": "RuntimeError: given\n"}
    assert "exception" not in second


def test_who_is_at_work_is_in_the_line_and_the_call_says_it_better(written):
    logger, lines = written
    with bind(request_id="r1", user_id="7", session_id="s1"):
        logger.info("a")
        logger.info("b", user_id="8")
    first, second = lines()
    assert (first["request_id"], first["user_id"], first["session_id"]) == ("r1", "7", "s1")
    assert (second["request_id"], second["user_id"]) == ("r1", "8")


def test_a_block_is_measured_and_late_or_failed_ones_are_warnings(written):
    logger, lines = written
    with log_performance(logger, "quick", expected_duration_ms=60_000, table="x"):
        pass
    with log_performance(logger, "late", expected_duration_ms=0):
        pass
    with pytest.raises(RuntimeError), log_performance(logger, "failed"):
        raise RuntimeError("why")

    plain_logger = logging.getLogger("plain")
    plain_logger.setLevel(logging.INFO)

    async def measured():
        async with log_performance(plain_logger, "async"):
            await asyncio.sleep(0)

    asyncio.run(measured())
    quick, late, failed, plain = lines("performance.log")
    assert (quick["level"], late["level"], failed["level"], plain["level"]) == ("info", "warning", "warning", "info")
    assert quick["attributes"] == {"operation": "quick", "success": True, "expected_duration_ms": 60_000, "table": "x"}
    assert failed["attributes"] == {"operation": "failed", "success": False}
    assert failed["exception"]["message"] == "why"
    assert 0 <= plain["duration_ms"] < 60_000


def test_what_json_does_not_know_is_a_text_and_nothing_raises(written):
    class Broken:
        def __str__(self):
            raise RuntimeError

    logger, lines = written
    cycle = {}
    cycle["self"] = cycle
    logger.info("a", value=object, at=datetime.date(2026, 11, 28), items={1, 2})
    logger.info("b", value=Broken(), cycle=cycle, huge=1 << 80, surrogate="\ud800", nan=float("nan"))
    a, b = lines()
    assert a["attributes"] == {"value": "<class 'object'>", "at": "2026-11-28", "items": [1, 2]}
    assert b["attributes"]["huge"] == str(1 << 80)
    assert b["attributes"]["surrogate"] == "?"
    assert b["attributes"]["nan"] is None
    assert "cannot be shown" in b["attributes"]["value"]


def test_a_message_whose_arguments_do_not_fit_is_written_as_it_is():
    class Broken:
        def __str__(self):
            raise RuntimeError

    def message(text, *arguments):
        record = logging.LogRecord("x", logging.INFO, "", 0, text, arguments, None)
        return json.loads(finish(LineMaker().entry(record), redact_members))["message"]

    assert message("%d of %d", 1) == "%d of %d [arguments do not fit: TypeError]"
    assert "cannot be shown" in message(Broken())


def test_a_mapping_that_changes_after_the_call_is_logged_as_it_was(written):
    logger, lines = written
    state = {"step": 1}
    logger.info("a", state=state)
    state["step"] = 2
    assert lines()[0]["attributes"] == {"state": {"step": 1}}


def test_a_line_has_a_longest_length_and_says_what_it_lacks(written):
    logger, lines = written
    logger.info("m" * 1_000_000, one="x" * 1_000_000, two=["y" * 1000] * 1000)
    (line,) = lines()
    assert len(json.dumps(line)) < 300_000
    assert line["message"] == "m" * 16_384
    assert line["attributes"]["log.truncated"] is True
    assert line["attributes"]["one"] == "x" * 1024


def test_any_word_may_be_a_keyword(written):
    logger, lines = written
    logger.info("a", level="high", msg="m", args=[1], message="n", name="x")
    logger.log(logging.INFO, "b", level=2)
    logger.log_security_event("e", "c", msg=3)
    a, b = lines()
    assert a["message"] == "a"
    assert a["attributes"] == {"level": "high", "msg": "m", "args": [1], "message": "n", "name": "x"}
    assert b["attributes"] == {"level": 2}


def test_attributes_given_as_such_join_the_others(written):
    logger, lines = written
    logger.info("a", attributes={"x": 1, "y": 1}, y=2)
    assert lines()[0]["attributes"] == {"x": 1, "y": 2}


def test_an_event_may_name_its_component_and_category(written):
    logger, lines = written
    logger.info("pool is full", component="database", category="infrastructure")
    logger.info("x", category="nonsense")
    first, second = lines()
    assert (first["component"], first["category"]) == ("database", "infrastructure")
    assert second["category"] == "application"


def test_where_the_call_was_is_right_for_other_handlers(written):
    logger, _ = written
    seen = []

    class Seeing(logging.Handler):
        def emit(self, record):
            seen.append((record.funcName, record.getMessage()))

    handler = Seeing()
    logger.addHandler(handler)
    logger.info("%s", "a", x=1)
    logger.log_audit_event("read", "b")
    logger.removeHandler(handler)
    assert seen == [("test_where_the_call_was_is_right_for_other_handlers", text) for text in ("a", "read b")]


def test_text_lines_are_for_people(tmp_path):
    config = LoggingConfig(log_directory=tmp_path, enable_console=False, enable_json=False)
    logger = setup_structured_logging(config, "novel-engine")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("said", story="a b", count=3)
    shutdown_structured_logging()
    first, second, *_ = (tmp_path / "novel-engine.log").read_text().splitlines()
    assert first[27:] == ' ERROR    novel-engine: said story="a b" count=3'
    assert second == "Traceback (most recent call last):"

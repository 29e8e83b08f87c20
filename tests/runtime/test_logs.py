import io
import logging
import re

import pytest

from novel_agent.logs import get_logger
from novel_agent.runtime import logs


@pytest.fixture
def stream():
    kept = [
        (logger, logger.handlers[:], logger.level) for logger in (logging.getLogger(), logging.getLogger("novel_agent"))
    ]
    yield io.StringIO()
    for logger, handlers, level in kept:
        logger.handlers[:] = handlers
        logger.setLevel(level)
    logging.getLogger("novel_agent").propagate = True


def test_a_line_is_time_level_part_event_and_details(stream):
    logs.set_up("info", stream)
    get_logger("export").info("delivered again", destination="central", after_seconds=31.5)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO export: delivered again destination=central after_seconds=31.500\n",
        stream.getvalue(),
    )


def test_values_that_need_it_are_quoted_on_one_line(stream):
    logs.set_up("info", stream)
    get_logger("x").info("event", text='two "words"\nand a line')
    assert stream.getvalue().endswith(r'text="two \"words\"\nand a line"' + "\n")


def test_levels_below_the_set_one_are_silent(stream):
    logs.set_up("warning", stream)
    get_logger("x").info("quiet")
    get_logger("x").debug("quiet")
    assert stream.getvalue() == ""


def test_a_repeated_warning_is_held_back_and_counted(stream):
    now = [0.0]
    logs.set_up("info", stream, now=lambda: now[0])
    log = get_logger("x")
    for _ in range(5):
        log.warning("again", host="a")
    log.warning("again", host="b")
    now[0] = 61.0
    log.warning("again", host="a")
    lines = [line.split(" WARN ")[1] for line in stream.getvalue().splitlines()]
    assert lines == ["x: again host=a", "x: again host=b", "x: again host=a repeated=4"]


def test_under_systemd_lines_carry_the_priority_and_no_time(monkeypatch, capsys, stream):
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    logs.set_up("info")
    get_logger("x").error("lost", items=3)
    assert capsys.readouterr().err == "<3>x: lost items=3\n"

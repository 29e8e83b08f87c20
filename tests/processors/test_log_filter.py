import time

import pytest
import re2

from novel_agent.config.schema import LogFilter, LogMatch
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_filter import Filter, Matcher


def matches(record, **criteria):
    return Matcher(LogMatch(**criteria), re2.compile)(record)


@pytest.mark.parametrize(
    ("number", "at_least_warn", "at_most_warn"),
    [(0, False, False), (9, False, True), (12, False, True), (13, True, True), (16, True, True), (17, True, False)],
)
def test_severities_are_ranges_and_no_severity_is_in_none(number, at_least_warn, at_most_warn):
    record = LogRecord(severity_number=number)
    assert matches(record, min_severity="warn") is at_least_warn
    assert matches(record, max_severity="warn") is at_most_warn


def test_a_body_matches_where_the_pattern_is_found_in_it():
    assert matches(LogRecord(body="10:00 GET /health 200"), body="GET /health")
    assert not matches(LogRecord(body="10:00 GET /health 200"), body="^GET")
    assert not matches(LogRecord(), body="GET")


def test_a_body_that_is_no_text_is_looked_at_as_json():
    assert matches(LogRecord(body={"path": "/health", "status": 200}), body='"status":200')
    assert matches(LogRecord(body=404), body="^404$")


def test_an_attribute_is_matched_whole_as_text():
    record = LogRecord(attributes={"status": 503, "cached": False, "zone": "eu-1"})
    assert matches(record, attributes={"status": "5..", "cached": "false"})
    assert not matches(record, attributes={"zone": "eu"})
    assert not matches(record, attributes={"status": "5..", "absent": ".*"})


def test_an_attribute_within_another_is_named_with_a_dot():
    nested = LogRecord(attributes={"attributes": {"story_type": "short", "user": {"tier": "gold"}}})
    assert matches(nested, attributes={"attributes.story_type": "short", "attributes.user.tier": "gold"})
    assert not matches(nested, attributes={"story_type": "short"})


def test_every_criterion_must_hold_and_without_any_all_match():
    record = LogRecord(severity_number=17, body="failed", attributes={"component": "pdf"})
    assert matches(record)
    assert matches(record, min_severity="error", body="fail", attributes={"component": "pdf"})
    assert not matches(record, min_severity="fatal", body="fail", attributes={"component": "pdf"})
    assert not matches(record, min_severity="error", body="fine", attributes={"component": "pdf"})


def test_keep_is_the_opposite_of_drop():
    records = [LogRecord(severity_number=number) for number in (5, 9, 13, 0)]
    kept = Filter(LogFilter(keep=LogMatch(min_severity="info")), re2.compile)(list(records), 0)
    left = Filter(LogFilter(drop=LogMatch(min_severity="info")), re2.compile)(list(records), 0)
    assert [record.severity_number for record in kept] == [9, 13]
    assert [record.severity_number for record in left] == [5, 0]


def test_a_pattern_that_backtracking_engines_die_of_takes_linear_time():
    matcher = Matcher(LogMatch(body="(a+)+$"), re2.compile)
    before = time.process_time()
    assert not matcher(LogRecord(body="a" * 100_000 + "!"))
    assert time.process_time() - before < 1.0

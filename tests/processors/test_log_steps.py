import subprocess
import sys

import re2

from novel_agent.config.schema import LogFilter, LogMatch, LogMetric, LogRate, LogSample, LogStep, Redaction
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_steps import make_steps, needs_records

NOW = 1_700_000_000.0
COUNT = LogStep(count=LogMetric(name="seen"))


def steps(*configured, before=None):
    return make_steps(tuple(configured), re2.compile, before)


def seen(made):
    return [point.value for metric in made.metrics(NOW) for point in metric.points]


def test_steps_are_done_in_the_order_in_which_they_stand():
    drop = LogStep(filter=LogFilter(drop=LogMatch(body="@")))
    redact = LogStep(redact=("email",))
    made = steps(redact, drop)
    assert [record.body for record in made.take([LogRecord(body="a@b.org")], NOW)] == ["[redacted]"]
    assert steps(drop, redact).take([LogRecord(body="a@b.org")], NOW) == []


def test_what_is_left_out_is_counted_by_reason():
    made = steps(
        LogStep(filter=LogFilter(keep=LogMatch(min_severity="info"))),
        LogStep(sample=LogSample(info=0)),
        LogStep(rate_limit=LogRate(per_second=2)),
    )
    records = [LogRecord(severity_number=number, body=place) for place, number in enumerate((5, 9, 9, 17, 17, 17, 17))]
    assert [record.body for record in made.take(records, NOW)] == [3, 4]
    assert made.dropped == {"filter": 1, "sample": 2, "rate_limit": 2}


def test_a_metric_counts_what_comes_so_far():
    made = steps(COUNT, LogStep(filter=LogFilter(drop=LogMatch())), LogStep(count=LogMetric(name="left")))
    assert made.take([LogRecord(), LogRecord()], NOW) == []
    assert [(metric.name, metric.points[0].value) for metric in made.metrics(NOW)] == [("seen", 2)]
    assert [len(block.shape) for block in made.blocks(NOW)] == [1]


def test_attributes_are_left_out_and_added():
    made = steps(LogStep(drop_attributes=("a*",)), LogStep(add_attributes={"team": "stories"}))
    (record,) = made.take([LogRecord(attributes={"a1": 1, "b": 2})], NOW)
    assert record.attributes == {"b": 2, "team": "stories"}


def test_redaction_takes_the_options_of_traces_too_and_counts():
    made = steps(LogStep(redact=Redaction(attributes=("token",), values=("NE-[0-9]+",))))
    (record,) = made.take([LogRecord(body="NE-1", attributes={"token": "x"})], NOW)
    assert (record.body, record.attributes, made.edited) == ("[redacted]", {"token": "[redacted]"}, 2)


def test_without_steps_records_pass():
    records = [LogRecord()]
    assert steps().take(records, NOW) is records
    assert (steps().blocks(NOW), steps().metrics(NOW)) == ([], [])


def test_counts_and_metrics_of_rules_that_stay_go_on():
    drop = LogStep(filter=LogFilter(drop=LogMatch(body="x")))
    before = steps(COUNT, LogStep(redact=("email",)), drop)
    before.take([LogRecord(body="a@b.org"), LogRecord(body="x")], NOW)
    after = steps(drop, COUNT, LogStep(count=LogMetric(name="other")), before=before)
    after.take([LogRecord(body="y"), LogRecord(body="x")], NOW)
    assert (after.dropped, after.edited) == ({"filter": 2}, 1)
    assert seen(after) == [3, 1]


def test_two_equal_rules_count_apart():
    before = steps(COUNT, COUNT)
    before.take([LogRecord()], NOW)
    after = steps(COUNT, COUNT, before=before)
    after.take([LogRecord()], NOW)
    assert seen(after) == [2, 2]


def test_any_step_needs_records():
    assert not needs_records(())
    assert needs_records((COUNT,))


def test_only_what_is_configured_is_loaded():
    code = (
        "import re, sys\n"
        "from novel_agent.config.schema import LogStep\n"
        "from novel_agent.processors.log_steps import make_steps\n"
        "make_steps((LogStep(add_attributes={'a': 'b'}),), re.compile)\n"
        "print(sorted(name for name in sys.modules if name.startswith('novel_agent.processors.') or name == 're2'))\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == [
        "['novel_agent.processors.log_attributes',", "'novel_agent.processors.log_steps',",
        "'novel_agent.processors.patterns']",
    ]  # fmt: skip

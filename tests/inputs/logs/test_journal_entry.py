from pathlib import Path

import pytest

from novel_agent.inputs.logs.journal_entry import EntryReader, cursor_microseconds, uid_of
from novel_agent.inputs.logs.journal_export import ExportReader, Fields

FIXTURE = Path(__file__).parents[2] / "fixtures" / "journal" / "entries.export"
CURSOR = (
    "s=3341e4ee124344fa9bdb6c396c4eb288;i=2193;b=be47864b06854a6cada0c657be52cd03;m=12d1b58;t=54208f568a37a;x=f8e47"
)


def entries(**options):
    reader = EntryReader(**options)
    return [reader.entry(fields, 7).record for fields in ExportReader().feed(FIXTURE.read_bytes())]


def record(data=None, truncated=False, **values):
    return EntryReader().entry(Fields(values, truncated, data or {}), 7).record


def test_a_line_of_a_service():
    made = entries()[3]
    assert made.body == "listening on 127.0.0.1:8000"
    assert (made.severity_number, made.severity_text) == (9, "info")
    assert (made.time_unix_nano, made.observed_unix_nano) == (1_764_000_102_000_000_000, 7)
    assert made.attributes == {
        "journal.transport": "stdout",
        "syslog.facility.code": 3,
        "syslog.appname": "novel-engine",
        "process.pid": 901,
        "process.user.id": 998,
        "process.executable.name": "python3",
        "process.executable.path": "/usr/bin/python3.11",
        "process.command_line": "/usr/bin/python3 -m novel_engine",
        "systemd.unit": "novel-engine.service",
    }


def test_the_time_is_the_sources_where_it_says_one():
    assert entries()[0].time_unix_nano == 1_764_000_000_000_042_000


def test_where_code_says_so_it_is_named_by_the_conventions_and_fields_of_others_in_lower_case():
    attributes = entries()[2].attributes
    assert attributes["code.file.path"] == "src/core/job.c"
    assert attributes["code.line.number"] == 768
    assert attributes["code.function.name"] == "job_emit_done_message"
    assert attributes["thread.id"] == 1
    assert (attributes["unit"], attributes["job_result"]) == ("novel-engine.service", "done")
    assert attributes["message_id"] == "39f53479d3a045ac8e11786248231fbf"


def test_ids_of_a_trace_are_set_and_several_values_are_a_list():
    made = entries()[4]
    assert made.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert made.span_id.hex() == "00f067aa0ba902b7"
    assert made.flags == 1
    assert not {"trace_id", "span_id", "trace_flags"} & made.attributes.keys()
    assert made.attributes["tag"] == ["pdf", "retry"]
    assert made.attributes["story_id"] == "s-17"


@pytest.mark.parametrize("value", ["", "0" * 32, "4bf9", "x" * 32, "4b f92f3577b34da6a3ce929d0e0e473"])
def test_an_id_that_is_none_stays_an_attribute(value):
    made = record(TRACE_ID=value)
    assert made.trace_id == b""
    assert made.attributes == {"trace_id": value}


@pytest.mark.parametrize(
    ("priority", "number", "text"),
    [("0", 21, "emerg"), ("1", 19, "alert"), ("2", 18, "crit"), ("3", 17, "err"), ("4", 13, "warning"),
     ("5", 10, "notice"), ("6", 9, "info"), ("7", 5, "debug"), ("8", 0, ""), ("", 0, ""), ("-1", 0, "")],
)  # fmt: skip
def test_levels_are_opentelemetrys_severities(priority, number, text):
    made = record(PRIORITY=priority)
    assert (made.severity_number, made.severity_text) == (number, text)


def test_without_a_level_there_is_no_severity_and_without_a_message_no_body():
    made = record(A="1")
    assert (made.severity_number, made.severity_text, made.body, made.time_unix_nano) == (0, "", None, 0)


def test_a_message_that_is_no_text_is_one_with_replacements_and_other_bytes_stay_bytes():
    made = record({"MESSAGE": b"a\xff", "RAW": b"\xff"}, MESSAGE="a\ufffd", RAW="\ufffd")
    assert made.body == "a\ufffd"
    assert made.attributes == {"raw": b"\xff"}


def test_numbers_that_are_none_stay_text():
    assert record(_PID="x", CODE_LINE="", TID="9" * 30).attributes == {
        "process.pid": "x", "code.line.number": "", "thread.id": "9" * 30,
    }  # fmt: skip


def test_a_cut_entry_says_so():
    assert record(truncated=True, MESSAGE="x").attributes == {"log.truncated": True}


def test_the_host_is_named_only_where_it_may_be_another():
    assert "host.name" not in entries()[0].attributes
    attributes = entries(other_hosts=True)[0].attributes
    assert (attributes["host.name"], attributes["host.id"]) == ("web1", "0123456789abcdef0123456789abcdef")


def test_the_uid_is_the_sequence_and_the_number_in_it():
    entry = EntryReader().entry(Fields({"__CURSOR": CURSOR, "MESSAGE": "x"}), 7)
    assert entry.cursor == CURSOR
    assert entry.record.attributes == {"log.record.uid": "3341e4ee124344fa9bdb6c396c4eb288-2193"}
    assert uid_of("something") == "something"


def test_the_time_of_a_cursor():
    assert cursor_microseconds(CURSOR) == 1_479_981_128_000_378
    assert cursor_microseconds("s=1;t=x") is None
    assert cursor_microseconds("") is None

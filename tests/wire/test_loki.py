"""Log records to Loki's push body."""

import json

import pytest

from novel_agent.model.log import LogGroup, LogRecord
from novel_agent.model.value import Origin
from novel_agent.wire.loki import encode_push, label_name, level_of

NOW = 1_700_000_000_000_000_009
LABELS = ("service.name", "service.namespace", "deployment.environment.name", "host.name")
HOST = {"service.name": "novel-engine", "host.name": "host-1", "process.pid": 7}


def group(*records: LogRecord, resource=HOST, **origin) -> LogGroup:
    return LogGroup(Origin(resource=resource, **origin), list(records), [])


def pushed(*groups: LogGroup, labels=LABELS):
    return json.loads(encode_push(groups, labels, NOW))["streams"]


def only(*groups: LogGroup, **options):
    (stream,) = pushed(*groups, **options)
    ((time, line, metadata),) = stream["values"]
    return stream["stream"], time, line, metadata


def test_a_record_is_a_line_of_the_stream_of_its_resource():
    record = LogRecord(
        time_unix_nano=1_700_000_000_000_000_001,
        severity_number=9,
        severity_text="Information",
        body="GET /",
        trace_id=bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
        span_id=bytes.fromhex("b7ad6b7169203331"),
        attributes={"http.route": "/", "http.status": 200, "cached": True},
    )
    assert only(group(record, scope="app.web", scope_version="1.2")) == (
        {"service_name": "novel-engine", "host_name": "host-1"},
        "1700000000000000001",
        "GET /",
        {
            "level": "info",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
            "http_route": "/",
            "http_status": "200",
            "cached": "true",
            "process_pid": "7",
            "scope_name": "app.web",
            "scope_version": "1.2",
        },
    )


def test_the_time_is_the_records_else_when_it_was_seen_else_now():
    times = [LogRecord(time_unix_nano=3, observed_unix_nano=2), LogRecord(observed_unix_nano=2), LogRecord()]
    (stream,) = pushed(group(*times))
    assert [time for time, _, _ in stream["values"]] == ["3", "2", "1700000000000000009"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (None, ""),
        ("a\nb", "a\nb"),
        (True, "true"),
        (7, "7"),
        (0.5, "0.5"),
        ({"event": "login", "user": {"id": 1}}, '{"event":"login","user":{"id":1}}'),
        (["a", 1], '["a",1]'),
        (b"\x00\x01", "AAE="),
    ],
)
def test_a_body_of_any_kind_is_a_line(body, line):
    assert only(group(LogRecord(body=body)))[2] == line


def test_a_label_comes_from_the_resource_or_else_from_the_record():
    records = [
        LogRecord(body="1", attributes={"tenant": "a", "x": 1}),
        LogRecord(body="2", attributes={"tenant": "b"}),
        LogRecord(body="3", attributes={"tenant": "a", "service.name": "not this one"}),
        LogRecord(body="4"),
    ]
    streams = pushed(group(*records, resource={"service.name": "s"}), labels=("service.name", "tenant"))
    assert [(stream["stream"], [line for _, line, _ in stream["values"]]) for stream in streams] == [
        ({"service_name": "s", "tenant": "a"}, ["1", "3"]),
        ({"service_name": "s", "tenant": "b"}, ["2"]),
        ({"service_name": "s"}, ["4"]),
    ]
    assert [metadata for _, _, metadata in streams[0]["values"]] == [{"x": "1"}, {"service_name": "not this one"}]


def test_groups_of_equal_labels_are_one_stream():
    streams = pushed(group(LogRecord(body="1")), group(LogRecord(body="2"), scope="other"))
    assert [len(stream["values"]) for stream in streams] == [2]


def test_a_stream_without_any_label_gets_one_because_loki_wants_one():
    assert only(group(LogRecord(), resource={}))[0] == {"service_name": "unknown_service"}


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (1, "", "trace"),
        (4, "", "trace"),
        (5, "", "debug"),
        (9, "whatever", "info"),
        (13, "", "warn"),
        (17, "", "error"),
        (21, "", "fatal"),
        (24, "", "fatal"),
        (25, "Odd", "odd"),
        (-1, "", ""),
        (0, "WARNING", "warning"),
        (0, "", ""),
    ],
)
def test_levels(number, text, level):
    assert level_of(LogRecord(severity_number=number, severity_text=text)) == level


def test_what_the_record_states_itself_wins_over_attributes_and_those_over_the_resource():
    record = LogRecord(severity_number=17, attributes={"level": "x", "process.pid": 8}, event_name="login")
    assert only(group(record))[3] == {"level": "error", "process_pid": "8", "event_name": "login"}


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("http.route", "http_route"),
        ("a-b/c d", "a_b_c_d"),
        ("größe", "gr__e"),
        ("2xx", "key_2xx"),
        ("", "key_"),
        ("ok", "ok"),
    ],
)
def test_names_become_valid(name, valid):
    assert label_name(name) == valid


def test_no_more_labels_than_loki_takes_the_rest_is_metadata():
    resource = {f"a{number:02}": "x" for number in range(17)}
    labels, _, _, metadata = only(group(LogRecord(), resource=resource), labels=tuple(resource))
    assert len(labels) == 15
    assert metadata == {"a15": "x", "a16": "x"}


def test_a_label_value_is_cut_where_loki_would_refuse_it():
    labels, *_ = only(group(LogRecord(), resource={"service.name": "é" * 1500}))
    assert labels == {"service_name": "é" * 1024}


def test_no_more_metadata_than_loki_takes_and_the_records_own_is_kept():
    record = LogRecord(severity_number=9, attributes={f"a{number}": "x" for number in range(100)})
    metadata = only(group(record, resource={f"r{number}": "x" for number in range(100)}))[3]
    assert len(metadata) == 128
    assert {"level", "a0", "a99", "r0"} <= metadata.keys()


def test_a_value_that_is_too_long_for_metadata_is_left_out_and_the_others_stay():
    record = LogRecord(attributes={"stack": "x" * 70_000, "small": "y"})
    assert only(group(record, resource={}))[3] == {"small": "y"}


def test_nothing_is_no_stream():
    assert pushed() == []

"""How `tail` shows what it gets, and what it says when it gets nothing; `tests/e2e` has it beside a real agent."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime

import pytest

from novel_agent.cli import run_command_line, tail_stream
from novel_agent.cli.tail_stream import Line
from novel_agent.cli.tail_text import describe, fitting, harmless, harmless_json
from novel_agent.errors import AgentUnreachable
from novel_agent.runtime.tapped import TailHeartbeat, TailSkipped, TappedLog, TappedPoint, TappedSpan

TODAY = date(2026, 11, 28)
NOON = datetime(2026, 11, 28, 12, 0, 0, 7_900).timestamp()


@pytest.fixture(autouse=True)
def _no_foreign_environment(monkeypatch):
    for name in ("NOVEL_AGENT_URL", "NOVEL_AGENT_CA_FILE", "OBSERVABILITY_TOKEN", "OBSERVABILITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


def log(body: object = "late", **fields) -> TappedLog:
    settings = {
        "time": NOON, "source": "stories", "service": "novel-engine", "severity": "warn", "severity_number": 13,
        "severity_text": "WARNING", "event_name": "", "trace_id": "", "span_id": "", "attributes": {}, "resource": {},
    }  # fmt: skip
    return TappedLog(body=body, **(settings | fields))


def span(**fields) -> TappedSpan:
    settings = {
        "time": NOON, "source": "otlp", "service": "web", "name": "GET /", "kind": "SERVER", "duration_seconds": 0.0125,
        "status": "ok", "status_message": "", "trace_id": "ab" * 16, "span_id": "cd" * 8, "parent_span_id": None,
        "attributes": {"k": 1}, "resource": {},
    }  # fmt: skip
    return TappedSpan(**(settings | fields))


def point(**fields) -> TappedPoint:
    settings = {
        "time": NOON, "source": "host", "service": "", "name": "pens", "unit": "By", "kind": "gauge", "value": 3,
        "count": None, "sum": None, "attributes": {"a": "b", "c": 1}, "resource": {},
    }  # fmt: skip
    return TappedPoint(**(settings | fields))


def text(line, **settings) -> str:
    return "".join(piece for piece, _ in describe(line, TODAY, **settings))


class TestText:
    def test_a_log_record_is_one_line(self):
        record = log(attributes={"user": "jane", "n": 7, "deep": {"a": [1]}}, trace_id="ab" * 16)
        assert text(record) == (
            "12:00:00.007 warn   stories/novel-engine: late"
            '  trace=abababababababababababababababab  user=jane n=7 deep={"a":[1]}'
        )
        assert text(record, attributes=False) == "12:00:00.007 warn   stories/novel-engine: late"

    def test_a_service_of_the_inputs_name_is_said_once(self):
        assert text(log(source="web", service="web")) == "12:00:00.007 warn   web: late"
        assert text(log(service="")) == "12:00:00.007 warn   stories: late"

    def test_a_record_without_a_severity_a_body_or_a_time_has_something_in_its_place(self):
        record = log(None, severity="", severity_text="", event_name="session.end", time=None)
        assert text(record) == "--:--:--.--- -      stories/novel-engine: session.end"

    def test_a_time_that_no_clock_has_does_no_harm(self):
        assert text(log(time=1e30)).startswith("--:--:--.--- ")

    def test_what_is_of_another_day_has_its_date(self):
        moment = datetime(2026, 11, 27, 23, 59, 59, 999_000).timestamp()
        assert text(log(time=moment)).startswith("2026-11-27 23:59:59.999 warn")

    def test_a_span_has_its_duration_its_status_and_its_trace(self):
        assert (
            text(span()) == "12:00:00.007 span   otlp/web: GET / 12.5 ms ok trace abababababababababababababababab  k=1"
        )
        failed = span(status="error", status_message="no ink", attributes={})
        assert "GET / 12.5 ms error no ink trace" in text(failed)
        assert ("span   ", "red") in describe(failed, TODAY)

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [(0.0, "0 s"), (0.000_000_5, "5e-07 s"), (0.000_25, "250 µs"), (0.25, "250 ms"), (1.5, "1.5 s"), (3700.0, "1 h 1 min")],
    )  # fmt: skip
    def test_a_duration_is_said_as_people_say_it(self, seconds, shown):
        assert f"GET / {shown} ok" in text(span(duration_seconds=seconds))

    def test_a_data_point_has_its_attributes_its_value_and_its_unit(self):
        assert text(point()) == '12:00:00.007 metric host: pens{a="b",c="1"} 3 By'
        assert text(point(unit="1", attributes={}, value=0.5)) == "12:00:00.007 metric host: pens 0.5"
        assert text(point(value=None), attributes=False) == "12:00:00.007 metric host: pens - By"

    def test_of_a_distribution_count_and_sum_are_shown(self):
        shown = point(kind="histogram", value=None, count=4, sum=1.25, unit="s", attributes={})
        assert text(shown) == "12:00:00.007 metric host: pens count 4 sum 1.25 s"

    def test_what_was_lost_is_said(self):
        assert text(TailSkipped(120)) == "… 120 records skipped"
        assert text(TailSkipped(1)) == "… 1 record skipped"

    @pytest.mark.parametrize(
        ("severity", "colour"),
        [("trace", "dim"), ("debug", "dim"), ("info", "green"), ("warn", "yellow"), ("error", "red"), ("fatal", "red")],
    )
    def test_a_severity_has_its_colour(self, severity, colour):
        assert (f"{severity:6} ", colour) in describe(log(severity=severity), TODAY)

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            ("a\nb\r\tc\x00\x7f", "a\\nb\\r\\tc\\x00\\x7f"),
            ("\x9b31m \x85", "\\x9b31m \\x85"),
            ("\u202eabc\u2066\u2028\u200f\ufeff", "\\u202eabc\\u2066\\u2028\\u200f\\ufeff"),
            ("žluťoučký 猫 🐈 \\n", "žluťoučký 猫 🐈 \\n"),
        ],
    )
    def test_nothing_in_a_record_steers_the_terminal(self, sent, shown):
        assert harmless(sent) == shown
        record = log(
            sent, severity="", severity_text=sent, source=sent, service=sent, trace_id=sent, attributes={sent: sent}
        )
        for line in (
            record,
            span(name=sent, status=sent, status_message=sent, trace_id=sent, attributes={sent: [sent]}),
        ):
            assert not set(text(line)) & set("\x1b\n\r\t\x00\x07\x7f\x85\x9b\u202e\u2066\u2028\u200f\ufeff")
        series = point(name=sent, unit=sent, attributes={sent: sent})
        assert not set(text(series)) & set("\x1b\n\r\t\x00\x07\x7f\x85\x9b\u202e\u2066\u2028\u200f\ufeff")

    def test_json_stays_the_same_json_and_does_not_steer_either(self):
        sent = json.dumps({"body": "\x9b31m\x7f\u202e猫"}, ensure_ascii=False)
        assert harmless_json(sent) == '{"body": "\\u009b31m\\u007f\\u202e猫"}'
        assert json.loads(harmless_json(sent)) == json.loads(sent)


class TestWidth:
    @pytest.mark.parametrize(
        ("width", "shown"),
        [(None, "abcdef"), (6, "abcdef"), (5, "abcd…"), (4, "abc…"), (2, "a…"), (1, "…")],
    )
    def test_a_line_is_cut_to_the_width_and_shows_that(self, width, shown):
        assert "".join(piece for piece, _ in fitting([("abc", ""), ("def", "dim")], width)) == shown

    def test_colours_stay_with_their_pieces(self):
        assert fitting([("abc", "red"), ("def", "dim")], 5) == [("abc", "red"), ("d", "dim"), ("…", "dim")]

    @pytest.mark.parametrize(
        ("width", "shown"), [(7, "猫猫é"), (5, "猫猫é"), (4, "猫…"), (3, "猫…"), (2, "…")]
    )  # fmt: skip
    def test_wide_characters_take_two_columns_and_combining_ones_none(self, width, shown):
        assert "".join(piece for piece, _ in fitting([("猫猫e\u0301", "")], width)) == shown.replace("é", "e\u0301")


HEARTBEAT = b'{"type":"heartbeat","time":1.0}\n'
RECORD = (
    b'{"type":"log","time":null,"source":"s","service":"","severity":"","severity_number":0,"severity_text":"","body":"%s",'
    b'"event_name":"","trace_id":"","span_id":"","attributes":{},"resource":{}}\n'
)


@contextmanager
def serving(head: bytes, *pieces: bytes, hold: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of something that answers one request so, and what it was asked; it holds the connection until the end."""
    asked: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(head)
                for piece in pieces:
                    connection.sendall(piece)
                if hold:
                    over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        over.set()
        thread.join(30)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"


def refusing(status: str, error: str) -> bytes:
    body = json.dumps({"status": "error", "errorType": "x", "error": error}).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class TestStream:
    def test_options_are_asked_for(self):
        with serving(OK, HEARTBEAT, b'{"type":"end","reason":"limit"}\n') as (url, asked):
            options = [
                "--signal",
                "logs",
                "--signal",
                "traces",
                "--source",
                "a b",
                "--severity",
                "warn",
                "--match",
                "ü&",
            ]
            assert run_command_line(["tail", "--url", url, *options, "-n", "3"]) == 0
        assert asked[0].startswith(
            b"GET /api/v1/tail?signal=logs%2Ctraces&source=a+b&min_severity=warn&match=%C3%BC%26&limit=3 HTTP/1.1\r\n"
        )

    def test_the_token_is_sent(self, tmp_path):
        (tmp_path / "token").write_text("secret\n")
        with serving(OK, b'{"type":"end","reason":"limit"}\n') as (url, asked):
            assert run_command_line(["tail", "--url", url, "--token-file", str(tmp_path / "token")]) == 0
        assert b"\r\nAuthorization: Bearer secret\r\n" in asked[0]

    def test_lines_are_printed_without_heartbeats(self, capsys):
        lines = (
            HEARTBEAT,
            RECORD % b"\\u001b[1mx",
            b'{"type":"skipped","items":2}\n',
            b'{"type":"end","reason":"limit"}\n',
        )
        with serving(OK, *lines) as (url, _):
            assert run_command_line(["tail", "--url", url]) == 0
        assert capsys.readouterr().out == "--:--:--.--- -      s: \\x1b[1mx\n… 2 records skipped\n"

    def test_json_is_passed_on_a_line_each(self, capsys):
        with serving(OK, HEARTBEAT, RECORD % b"x", b'{"type":"end","reason":"limit"}\n') as (url, _):
            assert run_command_line(["tail", "--json", "--url", url]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["body"] == "x"

    @pytest.mark.parametrize(
        ("answer", "code", "says"),
        [
            ((OK, HEARTBEAT), 3, "has gone away"),
            ((OK, HEARTBEAT, b'{"type":'), 3, "has gone away"),
            ((OK, b'{"type":"end","reason":"closing"}\n'), 3, "stops, or listens elsewhere"),
            ((OK, b'{"type":"news"}\n'), 3, "is not an agent, or not one of this version"),
            ((OK, b"\x1b[2J\n"), 3, "is not an agent, or not one of this version"),
            ((b"SSH-2.0-OpenSSH_9.9\r\n",), 3, "is not an agent"),
            ((refusing("404 Not Found", "there is no /api/v1/tail"),), 3, "404 Not Found"),
            ((refusing("401 Unauthorized", "a token is required"),), 1, "wants a token"),
            (
                (refusing("503 Service Unavailable", "4 look on \x1b already"),),
                1,
                "answers 503: 4 look on \\x1b already",
            ),
        ],
    )
    def test_what_breaks_off_or_is_refused_is_said(self, answer, code, says, capsys):
        with serving(*answer) as (url, _):
            assert run_command_line(["tail", "--url", url]) == code
        err = capsys.readouterr().err
        assert says in err
        assert "\x1b" not in err
        assert len(err.splitlines()) == 1

    def test_nobody_there_exits_3(self, capsys):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            assert run_command_line(["tail", "--url", f"http://127.0.0.1:{probe.getsockname()[1]}"]) == 3
        assert "no agent answers at" in capsys.readouterr().err

    def test_an_agent_that_falls_silent_is_given_up(self, capsys, monkeypatch):
        monkeypatch.setattr(tail_stream, "SILENCE_SECONDS", 0.05)
        with serving(OK, HEARTBEAT, hold=True) as (url, _):
            assert run_command_line(["tail", "--url", url]) == 3
        assert "has fallen silent" in capsys.readouterr().err

    @pytest.mark.parametrize("options", [("-n", "0"), ("-n", "x"), ("--signal", "log"), ("--severity", "loud")])
    def test_an_option_that_cannot_be_used_exits_2(self, options, capsys):
        with pytest.raises(SystemExit) as ended:
            run_command_line(["tail", *options])
        assert ended.value.code == 2

    def test_what_is_not_shown_for_long_is_read_all_the_same_and_the_oldest_is_lost(self, monkeypatch):
        def lines() -> Iterator[Line]:
            yield Line(b"." * 10, TailSkipped(5))
            for number in range(6):
                yield Line(b"." * 10, log(str(number)))
                yield Line(b"." * 10, TailHeartbeat(1.0))
            raise AgentUnreachable("gone")

        monkeypatch.setattr(tail_stream, "MOST_BYTES", 30)
        backlog = tail_stream._Backlog(lines())
        backlog.join()
        found = iter(backlog)
        assert next(found).decoded == TailSkipped(8)
        assert [next(found).decoded.body for _ in range(3)] == ["3", "4", "5"]
        with pytest.raises(AgentUnreachable, match="gone"):
            next(found)

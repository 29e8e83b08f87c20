"""Log files followed by the real command: appended, rotated by logrotate, forbidden, configured anew and wrongly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


@pytest.fixture
def logs(tmp_path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


def line(number: int, **more: Any) -> str:
    fields = {"timestamp": "2026-11-28T12:00:00.5Z", "level": "warning", "message": f"story {number}", "number": number}
    return json.dumps({**fields, "trace_id": TRACE, "span_id": SPAN, **more}) + "\n"


def append(file: Path, numbers: range) -> None:
    with file.open("a") as out:
        out.writelines(line(number) for number in numbers)


def settings(sink: OtlpSink, *sources: dict) -> dict:
    export = {"name": "central", "endpoint": sink.url, "signals": ["logs"]}
    return {"host": {"interval": "1h"}, "logs": list(sources), "export": [export]}


def source(directory: Path, **more: Any) -> dict:
    return {"name": "app", "paths": [f"{directory}/*.log"], "format": "json", **more}


def records(sink: OtlpSink) -> list[Any]:
    scopes = [scope for request in sink.logs for group in request.resource_logs for scope in group.scope_logs]
    return [record for scope in scopes for record in scope.log_records]


def bodies(sink: OtlpSink) -> list[str]:
    return [record.body.string_value for record in records(sink)]


def attributes(thing: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in thing.attributes}


def stories(*numbers: int) -> list[str]:
    return [f"story {number}" for number in numbers]


def until(agent: AgentProcess, holds: Callable[[dict], object], seconds: float = 20) -> dict:
    deadline = time.monotonic() + seconds
    while True:
        status = agent.json("/api/v1/status")
        if holds(status):
            return status
        assert time.monotonic() < deadline, status["logs"]
        time.sleep(0.05)


def reload(agent: AgentProcess) -> dict:
    before = agent.json("/api/v1/status")["config"]["last_reload_at"]
    agent.send(signal.SIGHUP)
    return until(agent, lambda status: status["config"]["last_reload_at"] != before)["config"]


def file_of(status: dict, path: Path) -> dict:
    (found,) = [file for each in status["logs"] for file in each["files"] if file["path"] == str(path)]
    return found


def novel_agent(*arguments: str, within: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*within, sys.executable, "-m", "novel_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rotate(file: Path, way: str) -> None:
    """As logrotate does it; it is only on Debian's systems without being asked for, so by hand where it is not."""
    if shutil.which("logrotate"):
        configuration = file.parent.parent / "logrotate.conf"
        words = {"renamed": "create", "copied": "copytruncate", "compressed": "create\n compress"}
        configuration.write_text(f"{file} {{\n rotate 5\n {words[way]}\n}}\n")
        state = file.parent.parent / "logrotate.state"
        command = ["logrotate", "--force", "--state", str(state), str(configuration)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        return
    older = sorted(file.parent.glob(f"{file.name}.*"), reverse=True)
    for path in older:
        number = int(path.name.removeprefix(f"{file.name}.").partition(".")[0])
        path.rename(path.with_name(path.name.replace(f"{file.name}.{number}", f"{file.name}.{number + 1}")))
    first = file.with_name(f"{file.name}.1")
    if way == "copied":
        shutil.copyfile(file, first)
        os.truncate(file, 0)
        return
    file.rename(first)
    file.touch()
    if way == "compressed":
        subprocess.run(["gzip", str(first)], check=True, timeout=30)


@pytest.mark.parametrize("way", ["renamed", "copied", "compressed"])
def test_a_log_arrives_once_and_in_order_through_rotations_and_a_restart(tmp_path, logs, sink, way):
    conf_dir = tmp_path / "conf.d"
    conf_dir.mkdir()
    (conf_dir / "70-logs.yaml").write_text(json.dumps({"logs": [source(logs)]}))
    configuration = settings(sink)
    del configuration["logs"]
    listen = ("--listen", "127.0.0.1:0", "--conf-dir", str(conf_dir))
    file = logs / "novel-engine.log"
    with AgentProcess(tmp_path / "agent", configuration, listen=listen) as agent:
        append(file, range(20))
        sink.wait(lambda sink: len(records(sink)) >= 20)
        rotate(file, way)
        append(file, range(20, 40))
        sink.wait(lambda sink: len(records(sink)) >= 40)
        rotate(file, way)
        append(file, range(40, 60))
        sink.wait(lambda sink: len(records(sink)) >= 60)
        assert agent.stop() == 0
    append(file, range(60, 80))
    rotate(file, way)
    append(file, range(80, 100))
    with AgentProcess(tmp_path / "agent", configuration, listen=listen) as agent:
        sink.wait(lambda sink: len(records(sink)) >= 100)
        append(file, range(100, 120))
        sink.wait(lambda sink: len(records(sink)) >= 120)
        until(agent, lambda status: status["logs"][0]["lag_bytes"] == 0)
        assert agent.stop() == 0
        assert "ERROR" not in agent.log
    assert sorted(bodies(sink)) == sorted(stories(*range(120)))
    assert bodies(sink)[:60] == stories(*range(60))
    uids = [attributes(record)["log.record.uid"] for record in records(sink)]
    assert len(set(uids)) == 120


def test_a_line_becomes_a_record_with_its_parts_where_they_belong(tmp_path, logs, sink):
    file = logs / "novel-engine.log"
    file.write_text(line(1) + "not JSON\n\n" + line(2, level="error"))
    configured = source(logs, resource={"service.name": "tales"})
    with AgentProcess(tmp_path / "agent", settings(sink, configured)):
        sink.wait(lambda sink: len(records(sink)) >= 3)
    first, wrong, last = records(sink)
    assert first.body.string_value == "story 1"
    assert first.time_unix_nano == 1_795_867_200_500_000_000
    assert abs(first.observed_time_unix_nano - time.time_ns()) < 60 * 10**9
    assert (first.severity_number, first.severity_text) == (13, "warning")
    assert (first.trace_id.hex(), first.span_id.hex()) == (TRACE, SPAN)
    uid = attributes(first)["log.record.uid"]
    assert attributes(first) == {
        "number": 1,
        "log.file.path": str(file),
        "log.file.name": "novel-engine.log",
        "log.record.uid": uid,
    }
    assert uid.endswith("-0")
    assert len(uid) == 18
    assert (wrong.body.string_value, wrong.severity_number) == ("not JSON", 0)
    assert attributes(wrong)["log.parse_error"]
    assert attributes(wrong)["log.record.uid"] == f"{uid[:-2]}-{len(line(1))}"
    assert (last.severity_number, last.severity_text) == (17, "error")
    assert attributes(sink.logs[0].resource_logs[0].resource)["service.name"] == "tales"
    assert attributes(sink.logs[0].resource_logs[0].resource)["host.name"]


def test_a_line_is_held_until_it_is_whole(tmp_path, logs, sink):
    file = logs / "novel-engine.log"
    with AgentProcess(tmp_path / "agent", settings(sink, source(logs))) as agent, file.open("w") as out:
        out.write(line(1) + line(2)[:30])
        out.flush()
        until(agent, lambda status: status["logs"][0]["records"] == 1)
        time.sleep(0.5)
        out.write(line(2)[30:])
        out.flush()
        sink.wait(lambda sink: len(records(sink)) >= 2)
    assert bodies(sink) == stories(1, 2)
    assert all("log.parse_error" not in attributes(record) for record in records(sink))


def test_what_was_written_while_it_was_down_after_a_kill_arrives_and_twice_only_under_one_name(tmp_path, logs, sink):
    file = logs / "novel-engine.log"
    configuration = settings(sink, source(logs))
    with AgentProcess(tmp_path / "agent", configuration) as agent:
        append(file, range(50))
        sink.wait(lambda sink: len(records(sink)) >= 50)
        append(file, range(50, 100))
        agent.send(signal.SIGKILL)
        agent.process.wait(10)
    append(file, range(100, 150))
    with AgentProcess(tmp_path / "agent", configuration):
        sink.wait(lambda sink: set(bodies(sink)) >= set(stories(*range(150))))
    names: dict[str, set[str]] = {}
    for record in records(sink):
        names.setdefault(record.body.string_value, set()).add(attributes(record)["log.record.uid"])
    assert all(len(each) == 1 for each in names.values())
    assert len(names) == 150


def test_what_is_written_while_the_destination_is_down_arrives(tmp_path, logs, sink):
    sink.status = 503
    file = logs / "novel-engine.log"
    with AgentProcess(tmp_path / "agent", settings(sink, source(logs))) as agent:
        append(file, range(100))
        until(agent, lambda status: file_of(status, file)["committed_offset"] == file.stat().st_size)
        sink.status = 200
        sink.wait(lambda sink: len(records(sink)) >= 100)
    assert bodies(sink) == stories(*range(100))


def test_status_shows_each_file_with_how_far_it_is_read(tmp_path, logs, sink):
    file = logs / "novel-engine.log"
    file.write_text(line(1) + "not JSON\n" + line(2))
    configuration = settings(sink, source(logs))
    with AgentProcess(tmp_path / "agent", configuration) as agent:
        sink.wait(lambda sink: len(records(sink)) >= 3)
        size = file.stat().st_size
        status = until(agent, lambda status: file_of(status, file)["committed_offset"] == size)
        shown = novel_agent("status", "--all", "--config", str(agent.config_file), "--url", agent.url).stdout
        metrics = agent.get("/metrics").splitlines()
    (app,) = status["logs"]
    assert (app["name"], app["kind"], app["records"], app["lag_bytes"], app["reason"]) == ("app", "files", 3, 0, "")
    assert sum(app["errors"].values()) == 1
    read = file_of(status, file)
    assert (read["size_bytes"], read["read_offset"], read["lag_bytes"], read["errors"]) == (size, size, 0, 1)
    assert str(file.stat().st_ino) in read["identity"]
    assert status["health"]["status"] == "healthy"
    assert str(file) in shown
    assert "app" in shown
    assert f'novel_agent_log_read_bytes_total{{source="app"}} {size}' in metrics
    assert 'novel_agent_log_records_total{source="app"} 3' in metrics
    assert 'novel_agent_log_files{source="app"} 1' in metrics


def test_a_reload_takes_up_a_source_and_lets_one_go_and_on_again(tmp_path, logs, sink):
    other = tmp_path / "other"
    other.mkdir()
    first, second = source(logs), source(other, name="other")
    append(logs / "a.log", range(10))
    append(other / "b.log", range(100, 110))
    with AgentProcess(tmp_path / "agent", settings(sink, first)) as agent:
        sink.wait(lambda sink: len(records(sink)) >= 10)
        agent.write(settings(sink, first, second))
        assert reload(agent)["last_reload_ok"] is True
        sink.wait(lambda sink: len(records(sink)) >= 20)
        agent.write(settings(sink, second))
        assert reload(agent)["last_reload_ok"] is True
        assert [each["name"] for each in agent.json("/api/v1/status")["logs"]] == ["other"]
        append(logs / "a.log", range(10, 20))
        append(other / "b.log", range(110, 120))
        sink.wait(lambda sink: len(records(sink)) >= 30)
        assert not set(bodies(sink)) & set(stories(*range(10, 20)))
        agent.write(settings(sink, first, second))
        assert reload(agent)["last_reload_ok"] is True
        sink.wait(lambda sink: len(records(sink)) >= 40)
        assert "Traceback" not in agent.log
    assert sorted(bodies(sink)) == sorted(stories(*range(20), *range(100, 120)))


def test_a_refused_reload_leaves_every_source_as_it_was(tmp_path, logs, sink):
    with AgentProcess(tmp_path / "agent", settings(sink, source(logs))) as agent:
        append(logs / "a.log", range(10))
        sink.wait(lambda sink: len(records(sink)) >= 10)
        agent.write(settings(sink, source(logs, format="jsn")))
        refused = reload(agent)
        assert refused["last_reload_ok"] is False
        assert 'logs[app].format: "jsn" is not known; did you mean json?' in refused["errors"][0]
        append(logs / "a.log", range(10, 20))
        sink.wait(lambda sink: len(records(sink)) >= 20)
    assert bodies(sink) == stories(*range(20))


def test_a_source_that_starts_at_the_end_sends_what_comes_then(tmp_path, logs, sink):
    append(logs / "old.log", range(10))
    with AgentProcess(tmp_path / "agent", settings(sink, source(logs, start_at="end"))) as agent:
        until(agent, lambda status: status["logs"][0]["files"])
        append(logs / "old.log", range(10, 12))
        append(logs / "new.log", range(12, 14))
        sink.wait(lambda sink: len(records(sink)) >= 4)
    assert sorted(bodies(sink)) == stories(10, 11, 12, 13)


def test_what_is_redacted_or_left_out_is_seen_nowhere(tmp_path, logs, sink):
    steps = [{"redact": ["email"]}, {"filter": {"drop": {"max_severity": "debug"}}}]
    file = logs / "novel-engine.log"
    with AgentProcess(tmp_path / "agent", settings(sink, source(logs, processors=steps))) as agent:
        file.write_text(line(1, message="from jane@example.org") + line(2, level="debug") + line(3))
        sink.wait(lambda sink: len(records(sink)) >= 2)
        status = until(agent, lambda status: status["logs"][0]["dropped"])
        spooled = b"".join(path.read_bytes() for path in (tmp_path / "agent/state").rglob("*") if path.is_file())
    assert bodies(sink)[1:] == stories(3)
    assert bodies(sink)[0].startswith("from ")
    assert "jane" not in str(sink.logs)
    assert b"jane" not in spooled
    assert sum(status["logs"][0]["dropped"].values()) == 1


@pytest.fixture
def without_override() -> tuple[str, ...]:
    """A prefix under which permissions of files hold also for root."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("setpriv"):
        pytest.skip("root may read everything, and setpriv is not installed")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


def test_a_file_that_may_not_be_read_is_shown_and_read_from_when_it_may(tmp_path, logs, sink, without_override):
    file = logs / "secret.log"
    append(file, range(3))
    file.chmod(0)
    configuration = settings(sink, source(logs))
    with AgentProcess(tmp_path / "agent", configuration, within=without_override) as agent:
        status = until(agent, lambda status: status["logs"][0]["files"] and file_of(status, file)["reason"])
        shown = novel_agent("status", "--config", str(agent.config_file), "--url", agent.url)
        assert file_of(status, file)["state"] == "unreadable"
        assert "ermission denied" in file_of(status, file)["reason"]
        checks = {each["name"]: each for each in status["health"]["checks"]}
        assert checks["logs:app"]["status"] == "degraded"
        assert str(file) in checks["logs:app"]["message"]
        assert shown.returncode == 1
        assert str(file) in shown.stdout
        assert records(sink) == []
        file.chmod(0o600)
        sink.wait(lambda sink: len(records(sink)) >= 3)
        until(agent, lambda status: not file_of(status, file)["reason"])
        assert "Traceback" not in agent.log
    assert bodies(sink) == stories(0, 1, 2)


def test_doctor_names_a_file_that_may_not_be_read_with_what_to_type(tmp_path, logs, sink, without_override):
    file = logs / "secret.log"
    append(file, range(1))
    file.chmod(0)
    config = tmp_path / "doctor.yaml"
    config.write_text(json.dumps(settings(sink, source(logs))))
    arguments = ("doctor", "--json", "--config", str(config), "--state-dir", str(tmp_path / "state"))
    barred = novel_agent(*arguments, within=without_override)
    file.chmod(0o644)
    allowed = novel_agent(*arguments, within=without_override)
    (found,) = [each for each in json.loads(barred.stdout) if each["what"] == "logs app"]
    assert barred.returncode == 1
    assert found["verdict"] == "problem"
    assert f"{file} is not this user's to read" in found["says"]
    assert str(file) in found["fix"]
    (found,) = [each for each in json.loads(allowed.stdout) if each["what"] == "logs app"]
    assert (found["verdict"], found["says"]) == ("ok", "1 file is readable")


WRONG = """\
logs:
  - name: app
    path: [/var/log/app.log]
  - name: both
    paths: [/var/log/app.log]
    journal: {}
  - name: lines
    paths: [/var/log/app.log]
    format: regex
  - name: typed
    paths: [/var/log/app.log]
    format: jsn
  - name: together
    paths: [/var/log/app.log]
    multiline: {preset: python, start: 'x'}
  - name: steps
    paths: [/var/log/app.log]
    processors:
      - {redact: [email], sample: {info: 0.5}}
  - name: typed
    paths: [/var/log/other.log]
"""


@pytest.mark.parametrize("command", ["check-config", "run"])
def test_each_mistake_is_told_with_its_line_and_ends_with_2(tmp_path, command):
    config = tmp_path / "agent.yaml"
    config.write_text(WRONG)
    more = ("--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state")) if command == "run" else ()
    ended = novel_agent(command, "--config", str(config), *more)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 2
    for expected in (
        "3: logs[app].path: unknown key; did you mean paths?",
        "logs[both].paths: or journal: give one of the two",
        "logs[lines].pattern: is missing; format regex needs a regular expression with named groups",
        '12: logs[typed].format: "jsn" is not known; did you mean json?',
        "logs[together].multiline.preset: or start: give one of the two",
        "19: logs[steps].processors[0].sample: stands beside redact; write it as an item of its own",
        "20: logs[typed].name: stands twice, first in line 10; names are unique",
    ):
        assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "state").exists()

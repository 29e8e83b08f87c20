"""The command line, in this process; `tests/e2e` starts the real one."""

import json
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_process import AgentProcess
from otlp_sink import OtlpSink

from novel_agent.cli import COMMANDS, run_command_line, screen


@pytest.fixture(autouse=True)
def _no_foreign_environment(monkeypatch):
    for name in (
        *("NOVEL_AGENT_URL", "NOVEL_AGENT_CA_FILE", "OTLP_ENDPOINT"),
        *("OBSERVABILITY_TOKEN", "OBSERVABILITY_TOKEN_FILE"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with AgentProcess(tmp_path_factory.mktemp("agent"), {}) as running:
        yield running


TLS = Path(__file__).parents[1] / "api" / "tls"


def write(path, text: str) -> str:
    path.write_text(text)
    return str(path)


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of something that answers one connection so, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(30)


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class TestUsage:
    def test_no_command_lists_the_commands_and_exits_2(self, capsys):
        assert run_command_line([]) == 2
        out = capsys.readouterr().out
        assert all(name in out for name in COMMANDS)

    def test_help_exits_0(self, capsys):
        assert run_command_line(["--help"]) == 0
        assert "usage: novel-agent COMMAND" in capsys.readouterr().out

    def test_an_unknown_command_names_the_nearest(self, capsys):
        assert run_command_line(["stauts"]) == 2
        assert "did you mean 'status'?" in capsys.readouterr().err

    @pytest.mark.parametrize("command", sorted(COMMANDS))
    def test_every_command_explains_itself(self, command, capsys):
        with pytest.raises(SystemExit) as ended:
            run_command_line([command, "--help"])
        assert ended.value.code == 0
        assert f"usage: novel-agent {command}" in capsys.readouterr().out

    def test_an_unknown_option_exits_2(self, capsys):
        with pytest.raises(SystemExit) as ended:
            run_command_line(["status", "--jsn"])
        assert ended.value.code == 2


class TestCheckConfig:
    def test_a_valid_configuration_exits_0(self, tmp_path, capsys):
        config = write(tmp_path / "agent.yaml", "host: {interval: 30s}\n")
        assert run_command_line(["check-config", "--config", config]) == 0
        assert "valid (1 file)" in capsys.readouterr().out

    def test_every_mistake_has_its_line_and_what_would_be_right(self, tmp_path, capsys):
        config = write(
            tmp_path / "agent.yaml", "host:\n  intervall: 30s\nexport:\n  - name: a\n    endpoint: collector:4318\n"
        )
        assert run_command_line(["check-config", "--config", config]) == 2
        err = capsys.readouterr().err
        assert f"{config}:2: host.intervall: " in err
        assert "interval" in err
        assert f"{config}:5: export" in err
        assert "2 mistakes" in err

    def test_a_file_that_does_not_exist_is_a_mistake(self, tmp_path, capsys):
        assert run_command_line(["check-config", "--config", str(tmp_path / "none.yaml")]) == 2
        assert "none.yaml" in capsys.readouterr().err


class TestNoHome:
    @pytest.fixture
    def _no_home(self, monkeypatch):
        def unknown(uid: int) -> None:
            raise KeyError(uid)

        monkeypatch.setattr(pwd, "getpwuid", unknown)
        monkeypatch.setattr("novel_agent.config.load.os.geteuid", lambda: 54_321)
        for name in ("HOME", "STATE_DIRECTORY", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.usefixtures("_no_home")
    def test_a_user_without_a_home_is_asked_for_a_state_directory(self, capsys):
        assert run_command_line(["config", "show", "--config", ""]) == 2
        assert "agent.state_dir: this user has no home directory" in (err := capsys.readouterr().err)
        assert "--state-dir" in err
        assert run_command_line(["config", "show", "--config", "", "--state-dir", "/var/tmp/agent"]) == 0

    @pytest.mark.usefixtures("_no_home")
    def test_a_home_that_is_no_absolute_path_is_none(self, capsys, monkeypatch):
        monkeypatch.setenv("HOME", "here")
        assert run_command_line(["check-config", "--config", ""]) == 2
        assert "--state-dir" in capsys.readouterr().err


class TestConfig:
    def test_show_masks_secrets_and_tells_origins(self, tmp_path, capsys):
        config = write(
            tmp_path / "agent.yaml",
            "export:\n  - name: a\n    endpoint: https://user:hunter2@collector:4318\n    headers: {api-key: hunter3}\n",
        )
        assert run_command_line(["config", "show", "--origin", "--config", config]) == 0
        out = capsys.readouterr().out
        assert "hunter" not in out
        assert f"{config}:3" in out
        assert "default" in out

    def test_schema_is_json_schema(self, capsys):
        assert run_command_line(["config", "schema"]) == 0
        schema = json.loads(capsys.readouterr().out)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert "host" in json.dumps(schema)


class TestStatus:
    def test_a_healthy_agent_exits_0_and_tells_what_it_costs(self, agent, capsys):
        agent.get("/metrics")
        assert run_command_line(["status", "--url", agent.url]) == 0
        out = capsys.readouterr().out
        assert "healthy" in out
        assert f"process {agent.process.pid}" in out
        assert "resident" in out
        assert "\x1b[" not in out, "no colour where there is no terminal"

    def test_all_shows_every_input(self, agent, capsys):
        run_command_line(["status", "--all", "--url", agent.url])
        out = capsys.readouterr().out
        assert "loadavg" in out
        assert "LAST RUN" in out

    def test_json_is_for_programs(self, agent, capsys):
        run_command_line(["status", "--json", "--url", agent.url])
        assert json.loads(capsys.readouterr().out)["pid"] == agent.process.pid

    def test_no_agent_exits_3_and_says_where_it_looked(self, capsys):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert run_command_line(["status", "--url", url]) == 3
        assert url in capsys.readouterr().err

    def test_the_environment_names_the_agent(self, agent, capsys, monkeypatch):
        monkeypatch.setenv("NOVEL_AGENT_URL", agent.url)
        assert run_command_line(["status"]) == 0

    def test_an_address_without_a_scheme_is_an_http_one(self, agent, capsys):
        assert run_command_line(["status", "--url", agent.url.removeprefix("http://")]) == 0

    @pytest.mark.parametrize(
        "url",
        [
            *("http://[::1", "ftp://localhost", "http://", "http://localhost:99999", "http://local host"),
            *("http://a..b", "http://me:hunter2@localhost", "http://localhost/?x", "\n"),
        ],
    )
    @pytest.mark.parametrize("by", ["option", "environment"])
    def test_an_unusable_url_exits_2_and_says_whose(self, url, by, capsys, monkeypatch):
        if by == "environment":
            monkeypatch.setenv("NOVEL_AGENT_URL", url)
        assert run_command_line(["status", *(["--url", url] if by == "option" else [])]) == 2
        err = capsys.readouterr().err
        assert err.startswith(
            "novel-agent: --url: " if by == "option" else "novel-agent: environment NOVEL_AGENT_URL: "
        )
        assert "hunter2" not in err

    def test_a_host_that_does_not_exist_exits_3(self, capsys, monkeypatch):
        monkeypatch.setenv("NOVEL_AGENT_URL", "garbage.invalid")
        assert run_command_line(["status"]) == 3
        assert "no agent answers at http://garbage.invalid (" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (b"SSH-2.0-OpenSSH_9.9\r\n", "it does not speak HTTP"),
            (http("200 OK", b"{}"), "missing required field"),
            (http("200 OK", b"<html>"), "Expecting value"),
            (http("200 OK", b"\xff\xfe"), "is not an agent"),
            (http("404 Not Found", b"<html>"), "404 Not Found"),
            (http("404 Not Found", b'{"error": {"code": 404}}'), "404 Not Found"),
            (http("200 OK", b"{}")[:-1], "IncompleteRead"),
            (b"", "no agent answers"),
        ],
    )
    @pytest.mark.parametrize("command", [("status",), ("check", "loadavg")])
    def test_what_is_not_an_agent_exits_3_and_says_why(self, command, answer, why, capsys):
        with answering(answer) as (url, _):
            assert run_command_line([*command, "--url", url]) == 3
        err = capsys.readouterr().err
        assert url in err
        assert why in err
        assert len(err.splitlines()) == 1

    def test_a_degraded_agent_exits_1_with_the_problem_first(self, tmp_path, capsys):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = {
            "host": {"interval": "1s"},
            "export": [{"name": "dead", "endpoint": f"http://127.0.0.1:{port}"}],
        }
        with AgentProcess(tmp_path, configuration) as running:
            while not running.json("/api/v1/status")["destinations"][0]["failed_requests"]:
                continue
            assert run_command_line(["status", "--url", running.url]) == 1
        out = capsys.readouterr().out
        assert "degraded" in out.splitlines()[0]
        assert out.index("Problems") < out.index("Destinations")
        assert "export:dead" in out


class TestToken:
    REFUSED = http("403 Forbidden", b'{"status": "error", "errorType": "forbidden", "error": "no"}')

    def authorization(self, *arguments: str) -> bytes:
        with answering(self.REFUSED) as (url, asked):
            assert run_command_line(["status", "--url", url, *arguments]) == 1
        lines = [line for line in asked[0].split(b"\r\n") if line.lower().startswith(b"authorization: ")]
        return lines[0].partition(b": ")[2] if lines else b""

    def test_a_file_of_any_bytes_is_sent_as_it_is(self, tmp_path):
        (tmp_path / "token").write_bytes("schlüssel\n".encode())
        assert self.authorization("--token-file", str(tmp_path / "token")) == "Bearer schlüssel".encode()

    def test_the_option_comes_before_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OBSERVABILITY_TOKEN", "other")
        assert self.authorization() == b"Bearer other"
        token = write(tmp_path / "token", "mine")
        assert self.authorization("--token-file", token) == b"Bearer mine"

    def test_a_file_that_cannot_be_read_exits_2(self, tmp_path, capsys):
        assert run_command_line(["status", "--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "none")]) == 2
        assert "none: cannot be read: No such file" in capsys.readouterr().err

    def test_a_file_of_several_lines_exits_2(self, tmp_path, capsys):
        token = write(tmp_path / "token", "one\ntwo\n")
        assert run_command_line(["status", "--url", "http://127.0.0.1:1", "--token-file", token]) == 2
        assert "more than one line" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tls_agent(tmp_path_factory):
    """An agent whose certificate is for 127.0.0.1 and not for 127.0.0.2; its configuration and port."""
    directory = tmp_path_factory.mktemp("tls")
    config = write(
        directory / "agent.yaml",
        f"agent: {{state_dir: {directory}/state, tls: {{cert_file: {TLS}/server.pem, key_file: {TLS}/server.key}}}}\n",
    )
    command = [sys.executable, "-m", "novel_agent", "run", "--config", config, "--listen", "0.0.0.0:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = process.stdout.readline().decode().rstrip("/\n").rpartition(":")[2]
        yield config, port
        process.terminate()
        process.wait(20)


class TestTls:
    def test_the_configured_certificate_is_trusted_whatever_its_name(self, tls_agent):
        config, port = tls_agent
        assert run_command_line(["status", "--config", config, "--listen", f"127.0.0.2:{port}"]) == 0
        assert run_command_line(["status", "--config", config, "--listen", f"0.0.0.0:{port}"]) == 0

    def test_another_certificate_is_not(self, tls_agent, tmp_path, capsys):
        _, port = tls_agent
        tls = f"{{cert_file: {TLS}/renewed.pem, key_file: {TLS}/renewed.key}}"
        config = write(tmp_path / "agent.yaml", f"agent: {{state_dir: {tmp_path}, tls: {tls}}}\n")
        assert run_command_line(["status", "--config", config, "--listen", f"127.0.0.1:{port}"]) == 3
        assert "certificate verify failed" in capsys.readouterr().err

    def test_an_address_named_wants_an_authority_and_the_name(self, tls_agent, capsys, monkeypatch):
        _, port = tls_agent
        named = ["status", "--url", f"https://127.0.0.1:{port}"]
        assert run_command_line(named) == 3
        assert "--ca-file" in capsys.readouterr().err
        assert run_command_line([*named, "--ca-file", f"{TLS}/ca.pem"]) == 0
        monkeypatch.setenv("NOVEL_AGENT_CA_FILE", f"{TLS}/ca.pem")
        assert run_command_line(named) == 0
        assert run_command_line(["status", "--url", f"https://127.0.0.2:{port}"]) == 3

    @pytest.mark.parametrize(("name", "why"), [("none.pem", "cannot be read"), ("server.key", "holds no certificate")])
    def test_an_unusable_authority_exits_2(self, name, why, capsys):
        assert run_command_line(["status", "--url", "https://127.0.0.1:1", "--ca-file", f"{TLS}/{name}"]) == 2
        assert f"{name}: {why}" in capsys.readouterr().err


class TestCheck:
    def test_runs_one_input_here_under_both_names(self, tmp_path, capsys):
        config = write(tmp_path / "agent.yaml", "{}\n")
        assert run_command_line(["check", "loadavg", "--config", config]) == 0
        out = capsys.readouterr().out
        assert "\nnode_load1 " in out
        assert "system.cpu.load_average.1m{} " in out

    def test_asks_a_running_agent_without_a_configuration(self, agent, capsys):
        assert run_command_line(["check", "loadavg", "--url", agent.url]) == 0
        assert "\nnode_load1 " in capsys.readouterr().out

    def test_an_input_that_is_not_there_lists_those_that_are(self, tmp_path, capsys):
        config = write(tmp_path / "agent.yaml", "{}\n")
        assert run_command_line(["check", "laodavg", "--config", config]) == 2
        assert "loadavg" in capsys.readouterr().err

    def test_a_failing_input_exits_1_with_the_kernels_words(self, tmp_path, capsys):
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "loadavg").write_text("garbage")
        config = write(tmp_path / "agent.yaml", f"host: {{paths: {{proc: {tmp_path}/proc}}}}\n")
        assert run_command_line(["check", "loadavg", "--config", config]) == 1
        assert "failing" in capsys.readouterr().out


class TestDoctor:
    def test_finds_a_working_destination_well(self, tmp_path, capsys):
        with OtlpSink() as sink:
            config = write(
                tmp_path / "agent.yaml",
                f"agent: {{state_dir: {tmp_path}/state}}\nexport: [{{name: central, endpoint: '{sink.url}'}}]\n",
            )
            run_command_line(["doctor", "--config", config])
        out = capsys.readouterr().out
        assert "ok      export central: " in out
        assert "ok      state directory: " in out

    def test_a_dead_destination_is_a_problem_with_a_fix(self, tmp_path, capsys):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        config = write(
            tmp_path / "agent.yaml",
            f"agent: {{state_dir: {tmp_path}/state}}\nexport: [{{name: central, endpoint: '{endpoint}'}}]\n",
        )
        assert run_command_line(["doctor", "--config", config]) == 1
        out = capsys.readouterr().out
        assert f"PROBLEM export central: {endpoint}: Connection refused" in out
        assert out.count(endpoint) == 1
        assert "fix: " in out

    def test_a_password_in_an_endpoint_is_not_shown(self, tmp_path, capsys):
        with OtlpSink() as sink:
            endpoint = sink.url.replace("://", "://me:hunter2@")
            config = write(
                tmp_path / "agent.yaml",
                f"agent: {{state_dir: {tmp_path}/state}}\nexport: [{{name: central, endpoint: '{endpoint}'}}]\n",
            )
            run_command_line(["doctor", "--config", config])
        out = capsys.readouterr().out
        assert "ok      export central: " in out
        assert "hunter2" not in out

    def test_leaves_a_running_agent_and_its_state_alone(self, agent, tmp_path, capsys):
        directory = agent.config_file.parent / "state"
        before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(directory)}
        config = write(tmp_path / "agent.yaml", "{}\n")
        run_command_line(["doctor", "--config", config, "--state-dir", str(directory)])
        run_command_line(["doctor", "--config", config, "--state-dir", str(tmp_path / "none")])
        out = capsys.readouterr().out
        assert f"note    state directory: {directory} is in use by process {agent.process.pid}\n" in out
        assert f"ok      state directory: {tmp_path}/none is not there yet and can be made\n" in out
        assert {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(directory)} == before
        assert not (tmp_path / "none").exists()

    def test_a_wrong_configuration_is_a_problem(self, tmp_path, capsys):
        config = write(tmp_path / "agent.yaml", "agent: {lisen: x}\n")
        assert run_command_line(["doctor", "--config", config]) == 1
        assert "agent.lisen" in capsys.readouterr().out

    def test_json_is_a_list_of_findings(self, tmp_path, capsys):
        config = write(tmp_path / "agent.yaml", f"agent: {{state_dir: {tmp_path}/state}}\n")
        run_command_line(["doctor", "--json", "--config", config])
        assert {"what", "verdict", "says", "fix"} == json.loads(capsys.readouterr().out)[0].keys()


class TestPlugins:
    def test_lists_inputs_with_their_default_and_outputs(self, capsys):
        assert run_command_line(["plugins"]) == 0
        out = capsys.readouterr().out
        assert any(line.split()[:2] == ["loadavg", "on"] for line in out.splitlines())
        assert any(line.split()[:2] == ["systemd", "off"] for line in out.splitlines())
        assert "otlp" in out

    def test_one_input_shows_its_metrics_and_options(self, capsys):
        assert run_command_line(["plugins", "filesystem"]) == 0
        out = capsys.readouterr().out
        assert "node_filesystem_avail_bytes" in out
        assert "system.filesystem.usage" in out
        assert "exclude_mounts" in out

    def test_an_unknown_input_exits_2(self, capsys):
        assert run_command_line(["plugins", "nonsense"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "no input 'nonsense'; there are " in said.err


def test_version_names_what_a_bug_report_needs(capsys):
    assert run_command_line(["version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert {"novel-engine-agent", "python", "kernel", "aiohttp", "uvloop"} <= versions.keys()
    assert "not installed" not in versions.values()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0421, "42 ms"), (1.0, "1 s"), (61.0, "1 min 1 s"), (90_061.0, "1 d 1 h"), (3600.0, "1 h")],
)
def test_spans_are_in_their_two_largest_units(seconds, text):
    assert screen.span(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(512, "512 B"), (1536, "1.5 KiB"), (50 << 20, "50.0 MiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes_are_in_binary_units(size_bytes, text):
    assert screen.size(size_bytes) == text

import os

import pytest

from novel_agent.config.schema import Config


def relative(place, origins):
    return {key: origin.replace(f"{place.root}/", "") for key, origin in origins.items()}


def test_nothing_given_is_the_defaults(place):
    loaded = place.load(state_dir="/s")
    assert loaded.config.host == Config().host
    assert loaded.config.agent.listen == "127.0.0.1:9090"
    assert loaded.notices == []


def test_command_line_over_environment_over_drop_ins_over_main_file_over_defaults(place):
    place.write("agent.yaml", "agent: {log_level: info, listen: ':1', state_dir: /one}\nhost: {interval: 20s}\n")
    place.write("conf.d/a.yaml", "agent: {log_level: warning, listen: ':2', state_dir: /two}\n")
    loaded = place.load(environ={"LOG_LEVEL": "ERROR", "STATE_DIRECTORY": "/three"}, listen=":3")
    agent = loaded.config.agent
    assert (agent.log_level, agent.listen, agent.state_dir) == ("error", ":3", "/two")
    assert {
        key: origin
        for key, origin in relative(place, loaded.origins).items()
        if key.startswith(("agent.l", "agent.s", "host.i", "host.d"))
    } == {
        "agent.log_level": "environment LOG_LEVEL",
        "agent.listen": "command line --listen",
        "agent.state_dir": "conf.d/a.yaml:1",
        "host.interval": "agent.yaml:2",
        "host.deadline": "default",
    }


def test_the_command_line_wins_over_every_other(place):
    place.write("agent.yaml", "agent: {log_level: info, listen: ':1', state_dir: /one}\n")
    loaded = place.load(log_level="WARN", listen="[::1]:0", state_dir="/four", environ={"LOG_LEVEL": "debug"})
    agent = loaded.config.agent
    assert (agent.log_level, agent.listen, agent.state_dir) == ("warning", "[::1]:0", "/four")
    assert loaded.origins["agent.log_level"] == "command line --log-level"


def test_wrong_command_line_options_are_reported_with_their_names(place):
    assert place.mistakes(listen="9090", log_level="loud", state_dir="") == [
        'command line --log-level: agent.log_level: "loud" is not a log level; write debug, info, warning or error',
        'command line --listen: agent.listen: "9090" has no host; write 127.0.0.1:9090, or :9090 for every address',
    ]


def test_mappings_merge_key_by_key(place):
    place.write("agent.yaml", "resource: {attributes: {a: '1', b: '1'}}\nhost: {collectors: {cpu: off, memory: off}}\n")
    place.write("conf.d/a.yaml", "resource: {attributes: {b: '2', c: '2'}}\nhost: {collectors: {memory: on}}\n")
    config = place.load().config
    assert config.resource.attributes == {"a": "1", "b": "2", "c": "2"}
    assert config.host.collectors == {"cpu": False, "memory": True}


def test_items_append_and_a_later_one_takes_the_place_of_its_namesake(place):
    place.write(
        "agent.yaml",
        """\
        processes:
          - {name: a, match: {comm: a}, threads: true}
          - {name: b, match: {comm: b}}
        """,
    )
    place.write("conf.d/a.yaml", "processes: [{name: c, match: {comm: c}}, {name: a, match: {comm: x}}]\n")
    loaded = place.load()
    assert [(group.name, group.match.comm, group.threads) for group in loaded.config.processes] == [
        ("a", "x", False),
        ("b", "b", False),
        ("c", "c", False),
    ]
    origins = relative(place, loaded.origins)
    assert origins["processes[a].match.comm"] == "conf.d/a.yaml:1"
    assert origins["processes[b].match.comm"] == "agent.yaml:3"
    assert origins["processes[a].threads"] == "default"


def test_of_other_lists_the_last_wins(place):
    place.write("agent.yaml", "agent: {allowed_hosts: [a, b]}\n")
    place.write("conf.d/a.yaml", "agent: {allowed_hosts: [c]}\n")
    assert place.load().config.agent.allowed_hosts == ("c",)


@pytest.mark.parametrize("empty", ["agent:\n", "processes:\n", "resource:\n  attributes:\n", "host:\n  collectors:\n"])
def test_a_section_without_a_value_changes_nothing(place, empty):
    place.write(
        "agent.yaml",
        """\
        agent: {listen: ":1"}
        processes: [{name: a}]
        resource: {attributes: {a: b}}
        host: {collectors: {cpu: off}}
        """,
    )
    before = place.load(state_dir="/s").config
    place.write("conf.d/a.yaml", empty)
    assert place.load(state_dir="/s").config == before


def test_null_unsets_an_option_that_may_be_unset(place):
    place.write("agent.yaml", "agent: {auth: {token_file: t}, state_dir: /x}\n")
    place.write("t", "token")
    assert place.load().config.agent.auth.token_file == str(place.root / "t")
    place.write("conf.d/a.yaml", "agent: {auth: {token_file: ~}}\n")
    assert place.load().config.agent.auth.token_file is None


def test_on_off_and_options_of_a_collector_replace_each_other(place):
    place.write("agent.yaml", "host: {collectors: {disk: off}}\n")
    place.write("conf.d/a.yaml", "host: {collectors: {disk: {timeout: 1s}}}\n")
    assert place.load().config.host.collectors == {"disk": {"timeout": 1.0}}
    place.write("conf.d/b.yaml", "host: {collectors: {disk: {only: [sda]}}}\n")
    assert place.load().config.host.collectors == {"disk": {"timeout": 1.0, "only": ["sda"]}}
    place.write("conf.d/c.yaml", "host: {collectors: {disk: off}}\n")
    assert place.load().config.host.collectors == {"disk": False}


def test_groups_without_criteria_come_last_so_that_drop_ins_are_not_starved(place):
    place.write("agent.yaml", "processes: [{name: '{comm}', top: 10}]\n")
    place.write("conf.d/a.yaml", "processes: [{name: db, match: {comm: postgres}}, {name: rest}]\n")
    loaded = place.load()
    assert [group.name for group in loaded.config.processes] == ["db", "{comm}", "rest"]
    assert loaded.notices == ["processes[rest] gets nothing: processes[{comm}] takes every process left over before it"]


def test_a_mistake_that_a_later_file_hides_is_reported_all_the_same(place):
    place.write("agent.yaml", "host: {interval: 15}\nprocesses: [{name: a, tpo: 5}]\n")
    place.write("conf.d/a.yaml", "host: {interval: 15s}\nprocesses: [{name: a}]\n")
    assert place.mistakes() == [
        'agent.yaml:1: host.interval: "15" has no unit; write 15s if seconds are meant',
        "agent.yaml:2: processes[a].tpo: unknown key; did you mean top?",
    ]


def test_a_section_may_be_spread_over_files(place):
    for name in ("cert", "key"):
        place.write(name, "pem")
    place.write("agent.yaml", "agent: {tls: {cert_file: cert}}\n")
    place.write("conf.d/a.yaml", "agent: {tls: {key_file: ../key}}\n")
    tls = place.load().config.agent.tls
    assert (tls.cert_file, tls.key_file) == (str(place.root / "cert"), str(place.root / "key"))


def test_mistakes_stand_in_the_order_of_files_and_lines(place):
    place.write("agent.yaml", "x1:\nagent:\n  x2: 1\n  listen: 5\nx3:\n")
    place.write("conf.d/b.yaml", "x5:\n")
    place.write("conf.d/a.yaml", "\nx4:\n")
    assert [mistake.split(" ")[0] for mistake in place.mistakes(environ={"LOG_LEVEL": "x"})] == [
        "agent.yaml:1:",
        "agent.yaml:3:",
        "agent.yaml:4:",
        "agent.yaml:5:",
        "conf.d/a.yaml:2:",
        "conf.d/b.yaml:1:",
        "environment",
    ]


@pytest.mark.parametrize(
    ("environ", "user", "path", "origin"),
    [
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}, 0, "/var/lib/x", "environment STATE_DIRECTORY"),
        ({"HOME": "/root"}, 0, "/var/lib/novel-engine-agent", "default"),
        ({"XDG_STATE_HOME": "/s"}, 1000, "/s/novel-engine-agent", "environment XDG_STATE_HOME"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, 1000, "/h/.local/state/novel-engine-agent", "default"),
        ({"HOME": "/home/a"}, 1000, "/home/a/.local/state/novel-engine-agent", "default"),
    ],
)
def test_state_is_kept_where_system_or_user_keep_it(place, monkeypatch, environ, user, path, origin):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    loaded = place.load(environ=environ)
    assert (loaded.config.agent.state_dir, loaded.origins["agent.state_dir"]) == (path, origin)

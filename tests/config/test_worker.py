"""The child process that loads, over its real pipes."""

import os
import subprocess
import sys

import pytest

from novel_agent.config.load import load
from novel_agent.config.model import Sources
from novel_agent.config.worker import answer_bytes, decode_answer, request_bytes
from novel_agent.errors import ConfigErrors


def ask(sources, **options):
    child = subprocess.run(
        [sys.executable, "-m", "novel_agent.config"],
        input=request_bytes(sources),
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
        **options,
    )
    return child.stdout


def test_a_child_loads_what_this_process_would_load(place):
    place.write("secret", "hunter2\n")
    place.write(
        "agent.yaml",
        """\
        agent: {budget: {memory: 64MiB}, state_dir: "${HOME}/state"}
        host: {interval: 1m30s, collectors: {loadavg: off, stat: on}}
        processes: [{name: "{comm}", top: 3}]
        export: [{name: a, endpoint: "https://h", headers: {authorization_file: secret}, timeout: 500ms}]
        """,
    )
    sources = Sources(
        config=str(place.config), conf_dir=str(place.conf_dir), listen=":1", environ={"HOME": "/h", "SMTP_HOST": "x"}
    )
    loaded = decode_answer(ask(sources))
    assert loaded == load(sources)
    assert loaded.config.host.interval_seconds == 90.0
    assert loaded.config.export[0].headers == {"authorization": "hunter2"}
    assert loaded.config.agent.state_dir == "/h/state"
    assert loaded.notices == ["environment SMTP_HOST is understood but not used by this version"]
    assert loaded.origins["agent.listen"] == "command line --listen"


def test_mistakes_come_back_one_by_one(place):
    place.write("agent.yaml", "agnt:\nagent: {listen: 5}\n")
    sources = Sources(config=str(place.config), conf_dir="")
    with pytest.raises(ConfigErrors) as raised:
        decode_answer(ask(sources))
    assert [(error.line, error.key) for error in raised.value.errors] == [(1, "agnt"), (2, "agent.listen")]
    assert str(raised.value.errors[0]) == f"{place.config}:1: agnt: unknown key; did you mean agent?"


def test_paths_are_taken_from_the_childs_directory(place):
    place.write("agent.yaml", "agent: {listen: ':1'}")
    loaded = decode_answer(ask(Sources(config="agent.yaml", conf_dir="conf.d", state_dir="s"), cwd=place.root))
    assert loaded.files == ["agent.yaml"]
    assert loaded.config.agent.state_dir == str(place.root / "s")


def test_an_environment_that_is_not_utf_8_is_sent_all_the_same():
    value = os.fsdecode(b"a\xffb")
    assert b"a?b" in request_bytes(Sources(config="", conf_dir="", environ={"X": value}))


def test_an_environment_that_is_not_utf_8_is_a_mistake_where_it_is_used(place):
    place.write("agent.yaml", "resource: {attributes: {a: '${X}'}}")
    (mistake,) = place.mistakes(environ={"X": os.fsdecode(b"a\xffb")})
    assert mistake.endswith('resource.attributes.a: "a\\udcffb" holds a line break or a control character')


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"{}", b'{"loaded": {"config": {}}}', b"Traceback (most recent call last)"]
)
def test_an_answer_that_is_none_is_an_error_of_the_configuration(answer):
    with pytest.raises(ConfigErrors, match="configuration: could not be loaded: "):
        decode_answer(answer)


def test_the_daemons_side_imports_neither_yaml_nor_the_loader():
    code = (
        "import sys; import novel_agent.config.worker; "
        "print([name for name in ('yaml', 'difflib', 'novel_agent.config.load') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=30, check=True, text=True)
    assert child.stdout.strip() == "[]"


def test_secrets_are_in_the_answer_alone(place):
    place.write("agent.yaml", "export: [{name: a, endpoint: 'http://h', headers: {k: '${TOKEN}'}}]")
    sources = Sources(config=str(place.config), conf_dir="", environ={"TOKEN": "hunter2"})
    answer = answer_bytes(request_bytes(sources))
    assert answer.count(b"hunter2") == 1

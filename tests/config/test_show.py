import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.masking import mask_url
from novel_agent.config.substitute import substitute
from novel_agent.config.yaml_reader import read_yaml
from novel_agent.config.yaml_writer import write_text

RICH = """\
agent:
  allowed_hosts: [a.example.org, "*.b.example.org"]
  state_dir: /state
  budget: {memory: 100MB}
resource:
  attributes: {service.version: "1.10", "a b": "off", c: 'it''s "\\d" $${HOME} $', d: "", e: "null", f: "x: y"}
host:
  interval: 90s
  collectors: {cpu: off, memory: on, disk: {timeout: 1500ms, only: [sda, "1"], exclude_disks: '^(a|\\d+)$'}}
processes:
  - {name: "{comm}", top: 5, match: {user: 1000}}
  - {name: a, match: {cmdline: "uvicorn|api_server", comm: "yes"}}
export:
  - {name: a, endpoint: "https://h:4318/base", signals: [metrics], timeout: 1s, spool: {size: 1MiB}}
"""


def test_what_is_shown_loads_as_the_same_configuration(place):
    place.write("agent.yaml", RICH)
    before = place.load()
    place.write("agent.yaml", place.show(before))
    assert place.load().config == before.config
    place.write("agent.yaml", place.show(before, with_origin=True))
    assert place.load().config == before.config


def test_the_defaults_too(place):
    before = place.load(state_dir="/s")
    place.write("agent.yaml", place.show(before))
    assert place.load().config == before.config


def test_each_value_has_its_origin_beside_it(place):
    place.write("agent.yaml", "agent: {state_dir: /s}\nhost: {collectors: {disk: {timeout: 1s}, cpu: off}}\n")
    place.write("conf.d/a.yaml", "processes:\n  - name: a\n    match: {comm: a}\n")
    text = place.show(place.load(environ={"LOG_LEVEL": "DEBUG"}), with_origin=True)
    origins = {
        line.split("#")[0].strip(): line.split("# ")[1].replace(f"{place.root}/", "")
        for line in text.splitlines()
        if "#" in line
    }
    assert origins["log_level: debug"] == "environment LOG_LEVEL"
    assert origins["state_dir: /s"] == "agent.yaml:1"
    assert origins["listen: 127.0.0.1:9090"] == "default"
    assert origins["memory: 96MiB"] == "default"
    assert origins["timeout: 1s"] == "agent.yaml:2"
    assert origins["cpu: off"] == "agent.yaml:2"
    assert origins["- name: a"] == "conf.d/a.yaml:2"
    assert origins["comm: a"] == "conf.d/a.yaml:3"
    assert origins["smaps: true"] == "default"


def test_every_value_that_is_shown_has_an_origin(place):
    place.write("agent.yaml", RICH)
    lines = place.show(place.load(), with_origin=True).splitlines()
    assert [line for line in lines if "#" not in line and not line.endswith(":")] == []


def test_secrets_are_masked(place):
    place.write("token", "hunter2")
    place.write(
        "agent.yaml",
        "export:\n"
        "  - {name: a, endpoint: 'https://me:hunter2@h/x', headers: {a: hunter2, b_file: token}}\n"
        "  - {name: b, endpoint: 'https://hunter2@h'}\n",
    )
    text = place.show(place.load(), with_origin=True)
    assert "hunter2" not in text
    assert "endpoint: https://me:********@h/x" in text
    assert 'b: "********"' in text
    assert f"{place.config}:2, read from {place.root}/token" in text
    assert "https://********@h" in text


@given(st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from("'\"\\${}: #-[]&*!|>%@`~,?"))))
def test_any_text_is_written_so_that_it_reads_as_itself(text):
    errors = []
    node = read_yaml(f"[{write_text(text)}]".encode(), "a.yaml", errors)
    assert errors == []
    (item,) = substitute(node, {}, errors).nodes
    assert (item.text, errors) == (text, [])
    assert item.style == "quoted" or not (item.is_null or item.looks_numeric or item.boolean is not None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h:1/p?q=1#f", "http://h:1/p?q=1#f"),
        ("http://u:p@h", "http://u:********@h"),
        ("http://u:p:q@h", "http://u:********@h"),
        ("http://token@h", "http://********@h"),
        ("http://h/?a=1&api_key=x&b=2", "http://h/?a=1&api_key=********&b=2"),
        ("http://h/?Access_Token=x", "http://h/?Access_Token=********"),
        ("see http://a:b@h and http://c:d@i", "see http://a:********@h and http://c:********@i"),
        ("me@example.org", "me@example.org"),
    ],
)
def test_credentials_in_urls_are_masked(text, shown):
    assert mask_url(text) == shown

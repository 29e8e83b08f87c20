"""The JSON Schema, checked with the few keywords it uses."""

import json
import re

import pytest
import yaml

from novel_agent.config.json_schema import schema, schema_json
from novel_agent.config.sample import sample_files

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KEYWORDS = {
    "$schema", "$ref", "$defs", "title", "description", "examples", "default", "type", "enum", "anyOf", "pattern",
    "properties", "additionalProperties", "required", "items", "minItems", "maxItems", "minLength", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
}  # fmt: skip


def is_valid(value, node, root=None):
    root = root or node
    if "$ref" in node:
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    types = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", list(TYPES))
    checks = [
        any(isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool)) for name in types),
        "enum" not in node or any(value == each and type(value) is type(each) for each in node["enum"]),
        "anyOf" not in node or any(is_valid(value, each, root) for each in node["anyOf"]),
        "pattern" not in node or re.search(node["pattern"], str(value)) is not None,
        "minLength" not in node or len(value) >= node["minLength"],
        not isinstance(value, int | float) or value >= node.get("minimum", value),
        not isinstance(value, int | float) or value <= node.get("maximum", value),
        not isinstance(value, int | float) or value > node.get("exclusiveMinimum", value - 1),
    ]
    if isinstance(value, dict):
        known, others = node.get("properties", {}), node.get("additionalProperties", True)
        checks += [key in value for key in node.get("required", [])]
        checks += [
            is_valid(each, known[key], root)
            if key in known
            else is_valid(each, others, root)
            if others not in (True, False)
            else others
            for key, each in value.items()
        ]
    if isinstance(value, list):
        checks += [is_valid(each, node.get("items", {}), root) for each in value]
        checks.append(len(value) >= node.get("minItems", 0))
    return all(checks)


def nodes(node):
    yield node
    for key, each in node.items():
        if key in ("properties", "$defs"):
            for inner in each.values():
                yield from nodes(inner)
        elif key == "anyOf":
            for inner in each:
                yield from nodes(inner)
        elif key in ("items", "additionalProperties") and isinstance(each, dict):
            yield from nodes(each)


@pytest.fixture
def whole_schema(rows):
    return schema(rows)


def test_is_json_of_the_dialect_it_names(rows):
    document = json.loads(schema_json(rows))
    assert document == json.loads(json.dumps(schema(rows)))
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {keyword for node in nodes(document) for keyword in node} <= KEYWORDS


def test_describes_every_option(whole_schema):
    lacking = [
        (key, name)
        for node in nodes(whole_schema)
        for key, value in node.get("properties", {}).items()
        for name in ("description",)
        if name not in value and not any(name in each for each in value.get("anyOf", []))
    ]
    assert lacking == [("depth", "description")]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "agent: {listen: ':1', log_level: debug, tls: null, budget: {memory: 64MiB, cpu_percent: 5}}",
        "agent: {tls: {cert_file: a, key_file: b}, budget: {memory: '${M:-64MiB}', cpu_percent: '${C}'}}",
        "agent:\nhost:\n  collectors:\nprocesses:\nexport:\n",
        "host: {interval: 1h30m, collectors: {cpu: off, disk: {timeout: 500ms, only: [a], depth: 3}}}",
        "host: {collectors: {cpu: 'off', disk: 'on'}}",
        "host: {collectors: {one_of_a_later_version: off}}",
        "agent: {allowed_hosts: ['${H}', '*.example.org', '[::1]']}",
        "processes: [{name: '{comm}', match: {user: 1000}, top: 5, threads: 'on'}]",
        "export: [{name: a, endpoint: 'https://h', headers: {a: b, c_file: d}, signals: [metrics]}]",
    ],
)
def test_takes_what_the_loader_takes(text, whole_schema):
    assert is_valid(yaml.safe_load(text), whole_schema)


@pytest.mark.parametrize(
    "text",
    [
        "agnt: {}",
        "agent: {listen: 9090}",
        "agent: {log_level: loud}",
        "agent: {allowed_hosts: ['*']}",
        "agent: {tls: {cert_file: a}}",
        "agent: {budget: {cpu_percent: 0}}",
        "agent: {budget: {memory: 64}}",
        "host: {interval: 15}",
        "host: {interval: 1.5h}",
        "host: {interval: ''}",
        "host: {collectors: {gpu: on}}",
        "host: {collectors: {cpu: {a: b}}}",
        "host: {collectors: {disk: {timeout: 5}}}",
        "processes: {name: a}",
        "processes: [{match: {comm: a}}]",
        "processes: [{name: a, top: 0}]",
        "processes: [{name: a, threads: maybe}]",
        "export: [{endpoint: 'http://h'}]",
        "export: [{name: a, endpoint: h}]",
        "export: [{name: a, endpoint: 'http://h', signals: []}]",
        "export: [{name: a, endpoint: 'http://h', signals: [metric]}]",
        "resource: {attributes: {a: [b]}}",
    ],
)
def test_refuses_what_the_loader_refuses(text, whole_schema):
    assert not is_valid(yaml.safe_load(text), whole_schema)


def test_takes_the_samples_with_every_option_set(rows, whole_schema):
    for name, text in sample_files(rows).items():
        whole = re.sub(r"(?m)^( *)# ", r"\1", text)
        assert is_valid(yaml.safe_load(text), whole_schema), name
        assert is_valid(yaml.safe_load(whole), whole_schema), name

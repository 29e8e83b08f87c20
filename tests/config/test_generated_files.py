"""Samples and reference: as generated, valid, complete."""

import re
from pathlib import Path

import pytest
from msgspec import inspect

from novel_agent import registry
from novel_agent.config.collectors import registered_rows
from novel_agent.config.load import load
from novel_agent.config.model import Sources
from novel_agent.config.outline import item_type, options_of, struct_info, unwrap
from novel_agent.config.reference import generated_files
from novel_agent.config.sample import sample_files
from novel_agent.config.scalars import SCALARS
from novel_agent.config.schema import Config
from novel_agent.errors import ConfigErrors

ROOT = Path(__file__).parents[2]


def test_the_files_of_the_tree_are_as_generated():
    stale = [
        name
        for name, content in generated_files(registered_rows()).items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text() != content
    ]
    assert stale == [], "run `make docs`"


def test_nothing_else_lies_among_the_samples():
    assert {path.name for path in (ROOT / "conf.d").iterdir()} == set(sample_files([]))


def test_the_shipped_drop_ins_are_the_defaults_and_two_process_groups():
    loaded = load(Sources(config="", conf_dir=str(ROOT / "conf.d"), state_dir="/s"))
    bare = load(Sources(config="", conf_dir="", state_dir="/s"))
    assert loaded.notices == []
    assert (loaded.config.agent, loaded.config.host) == (bare.config.agent, bare.config.host)
    assert (loaded.config.export, loaded.config.resource) == ((), bare.config.resource)
    engine, rest = loaded.config.processes
    assert (engine.name, engine.match.cmdline) == ("novel-engine", "uvicorn|api_server")
    assert (rest.name, rest.top) == ("{comm}", 10)


def without_comment_signs(text):
    return re.sub(r"(?m)^( *)# ", r"\1", text)


@pytest.mark.parametrize("name", sample_files([]))
def test_every_option_of_a_sample_can_be_set_by_taking_the_sign_off(name, tmp_path):
    (tmp_path / name).write_text(without_comment_signs((ROOT / "conf.d" / name).read_text()))
    assert [problem for problem in problems_in(tmp_path) if "cannot be read: it does not exist" not in problem] == []


def problems_in(conf_dir):
    try:
        load(Sources(config="", conf_dir=str(conf_dir)))
    except ConfigErrors as raised:
        return [error.problem for error in raised.errors]
    return []


def test_a_sample_shows_every_option_of_the_schema():
    text = "\n".join(sample_files(registered_rows()).values())
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("##")]
    names = set(re.findall(r"\b([a-z_]+):", "\n".join(lines)))
    assert every_key(struct_info(Config)) <= names
    assert set(registry.HOST_COLLECTORS) <= names


def every_key(info):
    keys = set()
    for option in options_of(info):
        keys.add(option.key)
        inner = getattr(option.form.type, "item_type", option.form.type)
        if hasattr(inner, "fields"):
            keys |= every_key(inner)
    return keys


def test_every_collectors_option_is_described():
    undescribed = [
        f"{row.name}.{option.key}"
        for row in registered_rows()
        for option in options_of(struct_info(row.options))
        if not option.form.description
    ]
    assert undescribed == []


def test_every_option_is_of_a_form_that_can_be_checked():
    sections = [Config, *(row.options for row in registered_rows())]
    assert [name for cls in sections for name in unchecked(struct_info(cls))] == []


def unchecked(info):
    for option in options_of(info):
        inner = item_type(option.form.type) or option.form.type
        if isinstance(inner, inspect.StructType):
            yield from unchecked(inner)
        elif isinstance(inner, inspect.UnionType):
            yield from (option.key for each in inner.types if not is_checkable(item_type(each) or unwrap(each).type))
        elif option.form.kind != "collectors" and not is_checkable(unwrap(inner).type):
            yield option.key


def is_checkable(kind):
    return type(kind) in {*SCALARS, inspect.DictType, inspect.StructType}


def test_a_collector_with_options_is_shown_with_them(rows):
    text = sample_files(rows)["20-host.yaml"]
    assert (
        "    ## cpu: time of processors\n"
        "    # cpu: on\n"
        "\n"
        "    ## disk: disks | their use\n"
        "    # disk:   # off by default; its options turn it on\n"
        "    ##   Disks left out.\n"
        "    #   exclude_disks: ^loop\n"
        "    ##   How long one may take. More than 0s.\n"
        "    #   timeout: 5s\n"
    ) in text


def test_the_reference_has_a_row_an_option_with_its_default(rows):
    text = generated_files(rows)["docs/reference/configuration.md"]
    assert "| `budget.memory` | size | `96MiB` | Resident memory. At least 32MiB. |\n" in text
    assert "| `tls.key_file` | file | required with `tls` | Private key, PEM. Example: " in text
    assert "| `disk` | off | disks \\| their use |\n" in text
    assert "| `timeout` | duration | `5s` | How long one may take. More than 0s. |\n" in text
    assert "| `signals` | list of choice | `[metrics, logs, traces]` | " in text
    assert "| `OTEL_SERVICE_NAME` | resource attribute `service.name`" in text
    assert "| `smtp_host` | nothing in this version; a notice says so |" in text


def test_no_line_of_a_sample_is_wider_than_a_screen(rows):
    long = [line for text in sample_files(rows).values() for line in text.splitlines() if len(line) > 130]
    assert long == []

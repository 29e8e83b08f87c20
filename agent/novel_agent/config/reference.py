"""The reference of the configuration, written from the schema."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import NODEFAULT, inspect

from novel_agent.config import earlier_server, environment
from novel_agent.config.collectors import CollectorRow
from novel_agent.config.convert import join
from novel_agent.config.kinds import KINDS
from novel_agent.config.outline import Form, Option, item_type, options_of, struct_in, struct_info, summary_of, unwrap
from novel_agent.config.sample import allowed_values, sample_files
from novel_agent.config.schema import Config
from novel_agent.config.yaml_writer import write_value

_HEAD = """\
# Configuration

<!-- Written from the schema by `make docs`; edit agent/novel_agent/config instead. -->

`novel-agent check-config` reports every mistake at once as `file:line: key: what is wrong, what would be right`.
`novel-agent config show --origin` prints what is in force and where each value came from, `novel-agent config schema` the
JSON Schema for editors. How to go about it: [Configure the agent](../how-to/configure.md).

## Files

`--config` (default `/etc/novel-engine-agent/agent.yaml`) is read first, then the files `*.yaml` of `--conf-dir` (default
`/etc/novel-engine-agent/conf.d`) in the order of their names. `--config` without `--conf-dir` reads that file alone. A default
place that does not exist is skipped, one that is named must exist, `""` stands for none. Names that begin with a dot are
skipped; `*.yml` and `*.json` in the directory are not read, and a notice says so. Every file may hold any section.

- Mappings merge, key by key.
- Lists of named items (`processes`, `export`) append; an item with the `name` of an earlier one takes its place, whole.
- Of everything else, the last one given wins. A key without a value changes nothing where it stands before a section or a list,
  unsets an option that may be unset, and is an error elsewhere.
- Command line over environment over drop-ins over `--config` over defaults.

Files are YAML 1.1, and so JSON, in UTF-8; one document of at most 1 MiB, 64 levels and, aliases followed, 100,000 values.
Anchors and merge keys (`<<`) work; a key that stands twice in a mapping is an error.

A file or directory that others may change is refused: one that everyone may write, or that a group may write which is
neither `root` nor the private group of the owner (named as the owner, with no other member). The same goes for the
directory a file stands in, also at the end of a symbolic link, unless it has the sticky bit, which does not excuse a drop-in
directory. On a file system mounted read-only the mode does not matter. Files that the configuration names (secrets, tokens,
certificates, keys) follow the same rule. A configuration file that belongs to neither root nor the agent's user is read, with
a notice.

## Values

| kind | written |
|---|---|
| duration | whole numbers with `ms s m h d w y`, the largest first: `500ms`, `15s`, `1h30m`, `7d` |
| size | a number with `B kB MB GB TB` (powers of 1000) or `KiB MiB GiB TiB` (of 1024): `64KiB`, `10MB`, `1.5GiB` |
| true or false | as YAML 1.1 has them: `true false on off yes no` |
| text | quotes are needed where YAML would read a number or a boolean: `"1.10"`, `"off"` |
| host | as a `Host` header names it: a name, `*.` and a name, an address (IPv6 in brackets); a port counts for nothing |
| file, path | relative ones start at the directory of the file they stand in; a *file* must be readable at load |
| regular expression | Python's syntax; single quotes keep backslashes as they are |
| secret | never shown. Option `x` may be given as `x_file`, the path of a file with it; a newline at its end is dropped |

`${VAR}` and `${VAR:-default}` in a value are replaced from the environment, before types are checked; a variable that is not
set and has no default is an error. `$$` is a dollar sign. What a variable holds is never read as YAML.
"""
_ENVIRONMENT = """\
## Environment

An empty variable counts as not set. Where OpenTelemetry's specification has a value that cannot be read ignored, it is, with a
notice.

| variable | sets |
|---|---|
"""
_EARLIER = """\
## The earlier server's file

`--config` also takes the flat JSON file of the earlier observability server: a file that holds some of its keys and no section
of the above. `${VAR}` is not replaced there. A key that is not known is an error.

| key | sets |
|---|---|
"""
_UNUSED = "nothing in this version; a notice says so"


def reference(rows: Iterable[CollectorRow]) -> str:
    """The page, as Markdown."""
    sections = "\n".join(_section(option, rows) for option in options_of(struct_info(Config)))
    return f"{_HEAD}\n{sections}\n{_ENVIRONMENT}{_environment()}\n{_EARLIER}{_earlier()}"


def generated_files(rows: Iterable[CollectorRow]) -> dict[str, str]:
    """Everything that is written from the schema: path below the root of the source tree to content."""
    every = list(rows)
    samples = {f"conf.d/{name}": content for name, content in sample_files(every).items()}
    return {**samples, "docs/reference/configuration.md": reference(every)}


def _section(option: Option, rows: Iterable[CollectorRow]) -> str:
    info = item_type(option.form.type) or option.form.type
    assert isinstance(info, inspect.StructType)
    intro = f"{option.form.description} {summary_of(info.cls)}".strip()
    if option.form.kind == "named":
        intro = f"A list. {intro}"
    lines = [f"## `{option.key}`", "", intro, "", *_table(info)]
    if option.key == "host":
        lines += ["", *_collectors(rows)]
    return "\n".join(lines) + "\n"


def _table(info: inspect.StructType) -> Iterator[str]:
    yield "| option | kind | default | meaning |"
    yield "|---|---|---|---|"
    for path, within, option in _flattened(info, ""):
        yield _row(path, within, option)


def _row(path: str, within: str, option: Option) -> str:
    meaning = f"{option.form.description} {allowed_values(option.form)}".strip()
    if option.form.examples and option.default in (NODEFAULT, None, (), {}):
        meaning += f" Example: `{write_value(option.form, option.form.examples[0])}`"
    default = _default(option) + (f" with `{within}`" if option.required and within else "")
    return _cells(f"`{path}`", _kind(option.form), default, meaning)


def _cells(*texts: str) -> str:
    escaped = (text.replace("|", "\\|") for text in texts)
    return f"| {' | '.join(escaped)} |"


def _flattened(info: inspect.StructType, path: str, within: str = "") -> Iterator[tuple[str, str, Option]]:
    """Each option with its path and the optional section it stands in."""
    for option in options_of(info):
        inner = join(path, option.key)
        items, choice = item_type(option.form.type), struct_in(option.form.type)
        if isinstance(option.form.type, inspect.StructType):
            yield from _flattened(option.form.type, inner, inner if option.form.optional else within)
            continue
        yield inner, within, option
        if isinstance(items, inspect.StructType):
            yield from _flattened(items, f"{inner}[]", inner)
        elif choice is not None:
            yield from _flattened(choice, inner, inner)


def _kind(form: Form) -> str:
    kind = form.type
    if form.kind == "collectors":
        return "mapping"
    if isinstance(kind, inspect.DictType):
        values = unwrap(kind.value_type)
        return f"mapping to {_kind(values)}"
    inner = item_type(kind)
    if inner is not None:
        return f"list of {_kind(unwrap(inner))}"
    if form.kind in KINDS:
        return form.text.wanted.removeprefix("a ")
    return _KINDS[type(kind)]


_KINDS: dict[type, str] = {
    inspect.BoolType: "true or false",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.StrType: "text",
    inspect.LiteralType: "choice",
    inspect.UnionType: "a choice, or options",
    inspect.StructType: "items",
}


def _default(option: Option) -> str:
    if option.required:
        return "required"
    value: Any = option.default
    return "" if value is None or value in ((), {}) else f"`{write_value(option.form, value)}`"


def _collectors(rows: Iterable[CollectorRow]) -> Iterator[str]:
    yield "### Collectors"
    yield ""
    yield "Under `host.collectors`: `NAME: on`, `NAME: off` or `NAME:` with options below it, which turn it on."
    yield ""
    yield "| collector | default | what it shows |"
    yield "|---|---|---|"
    every = list(rows)
    for row in every:
        yield _cells(f"`{row.name}`", "on" if row.default_on else "off", row.summary)
    for row in every:
        if row.options.__struct_fields__:
            yield from ("", f"#### Options of `{row.name}`", "", *_table(struct_info(row.options)))


def _environment() -> str:
    used = [f"| `{name}` | {meaning} |" for name, meaning in environment.USED.items()]
    unused = [f"| `{name}` | {_UNUSED} |" for name in environment.UNUSED]
    return "\n".join([*used, *unused]) + "\n"


def _earlier() -> str:
    options = options_of(struct_info(earlier_server.EarlierServer))
    return "\n".join(f"| `{option.key}` | {option.form.description or _UNUSED} |" for option in options) + "\n"

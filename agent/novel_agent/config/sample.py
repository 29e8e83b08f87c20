"""The sample drop-ins of `conf.d`, written from the schema: every option, explained, its default in a comment.

Lines that begin with `##` explain; taking `# ` off a line sets the option.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import NODEFAULT, inspect

from novel_agent.config.collectors import CollectorRow
from novel_agent.config.outline import Form, Option, item_type, options_of, struct_in, struct_info, summary_of, unwrap
from novel_agent.config.scalars import bounds
from novel_agent.config.schema import Config
from novel_agent.config.wording import listing
from novel_agent.config.yaml_writer import write_text, write_value

_WIDTH = 118

_HOW_TO_READ = """\
Lines with ## explain, lines with # show an option and its default: take the # off to change it.
Every file of this directory may hold any section; files are read in the order of their names, and what a later one says wins.\
"""
_INTRODUCTIONS = {
    "agent": "The agent itself: where it listens, what it may cost.",
    "resource": "Who the telemetry is about.",
    "host": "Host metrics: node_exporter's names on /metrics, OpenTelemetry's system.* over OTLP.",
    "processes": """\
Process metrics: process-exporter's names on /metrics, OpenTelemetry's process.* over OTLP.
A process belongs to the first group it fits. A group without criteria takes what no other group does, wherever it stands,
so a group of your own works in any file; an item with the name of an earlier one replaces it.\
""",
    "export": """\
Where telemetry is sent. Nothing is sent until a destination is given here or by OTEL_EXPORTER_OTLP_ENDPOINT;
/metrics is served either way. Each destination has its own spool, retries and acknowledgement.\
""",
    "otlp_receiver": """\
Where the application sends its traces, metrics and logs. A request is answered when its data is safe: on disk in the spool
of every destination that takes it.\
""",
    "logs": """\
Log files and journals to read. A file's position is kept in the state directory and moves on when its records are safe in
every spool that takes them: what is written while the agent is down, or before a rotation, is read when it is back.\
""",
    "traces": "What happens to traces on their way, and which of them can be looked up on this host.",
}
_COLLECTORS = "To set an option of a collector, take the # off the line with its name as well."
_SHIPPED_GROUPS = """\
  ## The application.
  - name: novel-engine
    match:
      cmdline: uvicorn|api_server

  ## Everything else, by program: the ten largest by CPU and by memory, the rest as one.
  - name: "{comm}"
    top: 10
"""
_SHIPPED_LOGS = """\
  ## The application: novel-engine.log, security.log, performance.log, audit.log.
  - name: novel-engine
    paths: [/var/log/novel-engine/*.log]
    format: json
"""
_LOG_STEPS = """\
  ## Steps, in the order wanted:
  #   processors:
  #     - redact: [email, bearer, key, card, url_password]
  #     - redact: {attributes: [password], patterns: [email], values: ["NE-[0-9]{8}"]}
  #     - filter: {keep: {min_severity: debug, max_severity: fatal}}
  #     - filter: {drop: {body: GET /health, attributes: {http.response.status_code: 2..}}}
  #     - drop_attributes: [thread_*]
  #     - add_attributes: {team: stories}
  #     - sample: {trace: 0.01, debug: 0.1, info: 1.0, warn: 1.0, error: 1.0, fatal: 1.0}
  #     - rate_limit: {per_second: 1000, burst: 2000, by: component}
  #     - count: {name: stories.failed, match: {min_severity: error}, attributes: [component], max_series: 200}
  #     - count: {name: story.duration, description: Of one story., unit: ms, value: duration_ms, buckets: [100, 1000]}

  ## Others that are often wanted:
  # - name: nginx
  #   paths: [/var/log/nginx/access.log]
  #   format: combined
  #   resource: {service.name: nginx}
  # - name: legacy
  #   paths: [/var/log/legacy.log]
  #   format: regex
  #   pattern: '(?P<time>\\S+) (?P<level>[A-Z]+) (?P<message>.*)'
  #   multiline: {start: '\\d{4}-'}
"""
_FILES_APART = frozenset({"journal", "pattern", "start", "processors"})
"""Options of a log source that do not go with the others of the sample."""
_SHIPPED_RECEIVER = {"http": "127.0.0.1:4318"}
"""OpenTelemetry's own port: an SDK that is told nothing sends there."""


def sample_files(rows: Iterable[CollectorRow]) -> dict[str, str]:
    """File name to content, for the directory `conf.d`."""
    sections = {option.key: option for option in options_of(struct_info(Config))}
    files = {
        "00-agent.yaml": _section(sections["agent"]),
        "10-resource.yaml": _section(sections["resource"]),
        "20-host.yaml": _host(sections["host"], rows),
        "30-processes.yaml": [*_list_section(sections["processes"], _SHIPPED_GROUPS)],
        "40-export.yaml": [*_list_section(sections["export"], "")],
        "50-otlp.yaml": _section(sections["otlp_receiver"], _SHIPPED_RECEIVER),
        "60-traces.yaml": _section(sections["traces"]),
        "70-logs.yaml": _logs(sections["logs"]),
    }
    return {name: "\n".join(_trimmed(lines)) + "\n" for name, lines in files.items()}


def _trimmed(lines: Iterable[str]) -> list[str]:
    """Without blank lines at the end."""
    kept = [line.rstrip() for line in lines]
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _introduction(key: str) -> Iterator[str]:
    for line in f"{_INTRODUCTIONS[key]}\n\n{_HOW_TO_READ}".splitlines():
        yield f"## {line}".rstrip()
    yield ""


def _section(option: Option, shipped: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    yield from _introduction(option.key)
    yield f"{option.key}:"
    assert isinstance(option.form.type, inspect.StructType)
    yield from _struct(option.form.type, option.default, "  ", shipped)


def _struct(
    info: inspect.StructType, default: Any, indent: str, shipped: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    for option in options_of(info):
        if isinstance(option.form.type, inspect.StructType):
            yield from _explained(summary_of(option.form.type.cls), indent)
            yield f"{indent}{option.key}:"
            yield from _struct(option.form.type, None, indent + "  ")
            continue
        yield from _explained(_explanation(option), indent)
        if option.key in shipped:
            yield f"{indent}{option.key}: {shipped[option.key]}"
        else:
            yield from _commented(option, indent)
        yield ""


def _commented(option: Option, indent: str) -> Iterator[str]:
    """An option that is not set: its default, and below it what else may stand there."""
    items, choice = item_type(option.form.type), struct_in(option.form.type)
    if isinstance(items, inspect.StructType):
        yield f"{indent}# {option.key}:"
        yield from _item(items, indent)
    elif choice is not None:
        is_switch = option.default is False
        yield f"{indent}# {option.key}:" + ("   # off by default; its options turn it on" if is_switch else "")
        for inner in options_of(choice):
            yield from _explained(_explanation(inner), indent, "  ")
            yield f"{indent}#   {inner.key}: {_example(inner)}"
    else:
        yield f"{indent}# {option.key}: {_example(option)}"


def _explained(text: str, indent: str, inset: str = "") -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - len(indent) - len(inset)):
        yield f"{indent}## {inset}{line}"


def _explanation(option: Option) -> str:
    parts = [option.form.description, allowed_values(option.form)]
    if option.required:
        parts.append("Required.")
    elif option.default in (None, (), {}):
        parts.append("Unset by default.")
    return " ".join(part for part in parts if part)


def allowed_values(form: Form) -> str:
    """The choices or bounds as a sentence; nothing where there are none."""
    inner = item_type(form.type)
    if inner is not None:
        return allowed_values(unwrap(inner)).replace("One of", "Each one of")
    values = [str(value) for value in form.type.values] if isinstance(form.type, inspect.LiteralType) else []
    if len(values) > 1:
        return f"One of {listing(values, 'or')}."
    limits = listing(bounds(form)) if bounds(form) else ""
    return f"{limits[0].upper()}{limits[1:]}." if limits else ""


def _example(option: Option) -> str:
    """The default, or where there is none to see, an example."""
    form, value = option.form, option.default
    if value is NODEFAULT or value is None or value in ((), {}):
        if not form.examples:
            return placeholder(form)
        value = form.examples[0]
    return write_value(form, value)


def placeholder(form: Form) -> str:
    """A valid value of a form without default or example."""
    if isinstance(form.type, inspect.DictType):
        return "{}"
    if item_type(form.type) is not None:
        return "[]"
    if isinstance(form.type, inspect.LiteralType):
        return write_text(str(form.type.values[0]))
    if form.kind == "regex":
        return "^example$"
    return {"duration": "15s", "size": "1MiB"}.get(form.kind, "1" if _is_number(form) else "example")


def _is_number(form: Form) -> bool:
    return isinstance(form.type, inspect.IntType | inspect.FloatType)


def _host(section: Option, rows: Iterable[CollectorRow]) -> Iterator[str]:
    yield from _introduction("host")
    yield "host:"
    assert isinstance(section.form.type, inspect.StructType)
    for option in options_of(section.form.type):
        if option.form.kind == "collectors":
            yield from _explained(f"{option.form.description} {_COLLECTORS}", "  ")
            yield "  collectors:"
            for row in rows:
                yield from _collector(row)
        elif isinstance(option.form.type, inspect.StructType):
            yield from _explained(summary_of(option.form.type.cls), "  ")
            yield f"  {option.key}:"
            yield from _struct(option.form.type, None, "    ")
        else:
            yield from _explained(_explanation(option), "  ")
            yield f"  # {option.key}: {_example(option)}"
            yield ""


def _collector(row: CollectorRow) -> Iterator[str]:
    yield from _explained(f"{row.name}: {row.summary}", "    ")
    options = options_of(struct_info(row.options))
    if not options:
        yield f"    # {row.name}: {'on' if row.default_on else 'off'}"
        yield ""
        return
    yield f"    # {row.name}:" + ("" if row.default_on else "   # off by default; its options turn it on")
    for option in options:
        yield from _explained(_explanation(option), "    ", "  ")
        yield f"    #   {option.key}: {_example(option)}"
    yield ""


def _list_section(section: Option, shipped: str) -> Iterator[str]:
    yield from _introduction(section.key)
    yield f"{section.key}:"
    yield from shipped.splitlines()
    if shipped:
        yield ""
    inner = item_type(section.form.type)
    assert isinstance(inner, inspect.StructType)
    yield from _explained("One item with every option:", "  ")
    yield from _item(inner, "  ")


def _logs(section: Option) -> Iterator[str]:
    source = item_type(section.form.type)
    assert isinstance(source, inspect.StructType)
    yield from _introduction(section.key)
    yield f"{section.key}:"
    yield from _SHIPPED_LOGS.splitlines()
    yield ""
    yield from _explained("One item with every option of files:", "  ")
    yield from _item(source, "  ", _FILES_APART)
    yield from _LOG_STEPS.splitlines()
    yield ""
    yield from _explained("The systemd journal:", "  ")
    yield "  # - name: system"
    journal = next(option for option in options_of(source) if option.key == "journal")
    assert isinstance(journal.form.type, inspect.StructType)
    yield "  #   journal:"
    for option in options_of(journal.form.type):
        yield from _explained(_explanation(option), "  ", "    ")
        yield f"  #     {option.key}: {_example(option)}"


def _item(info: inspect.StructType, indent: str, apart: frozenset[str] = frozenset()) -> Iterator[str]:
    marker = "- "
    for option, depth in _flattened(info, 0, apart):
        inset = "  " * (depth + 1)
        if isinstance(option.form.type, inspect.StructType):
            yield from _explained(summary_of(option.form.type.cls), indent, inset)
            yield f"{indent}# {inset}{option.key}:"
        else:
            yield from _explained(_explanation(option), indent, inset)
            yield f"{indent}# {marker if not depth and marker.strip() else inset}{option.key}: {_example(option)}"
        marker = ""


def _flattened(info: inspect.StructType, depth: int, apart: frozenset[str]) -> Iterator[tuple[Option, int]]:
    for option in options_of(info):
        if option.key in apart:
            continue
        yield option, depth
        if isinstance(option.form.type, inspect.StructType):
            yield from _flattened(option.form.type, depth + 1, apart)

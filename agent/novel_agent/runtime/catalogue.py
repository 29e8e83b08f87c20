"""Everything this build can do, read from the plugins' own declarations; the reference documents are made from it."""

from typing import Any

import msgspec

from novel_agent import registry
from novel_agent.model.metric import Declaration, Family


class MetricRow(msgspec.Struct):
    """One declared metric."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    help: str


class OptionRow(msgspec.Struct):
    """One option of a plugin."""

    name: str
    default: str
    description: str


class Plugin(msgspec.Struct):
    """One input."""

    name: str
    summary: str
    default_on: bool
    prometheus: list[MetricRow]
    otel: list[MetricRow]
    options: list[OptionRow]


def catalogue() -> list[Plugin]:
    """Every input of this build; imports them all."""
    plugins = [
        _plugin(name, registry.load(target), default_on=name not in registry.OFF_BY_DEFAULT)
        for name, target in registry.HOST_COLLECTORS.items()
    ]
    return [*plugins, _plugin("process", registry.load(registry.PROCESS_GROUPS), default_on=True)]


def _plugin(name: str, plugin: Any, *, default_on: bool) -> Plugin:
    return Plugin(
        name,
        plugin.summary,
        default_on,
        [_row(each) for each in plugin.prometheus],
        [_row(each) for each in plugin.otel],
        _options(getattr(plugin, "Options", None)),
    )


def _row(declaration: Declaration) -> MetricRow:
    name = declaration.name if isinstance(declaration, Family) else _readable(declaration.name)
    return MetricRow(name, declaration.kind, declaration.unit, declaration.labels, declaration.help)


def _readable(pattern: str) -> str:
    return f"/{pattern}/"


def _options(struct: type[msgspec.Struct] | None) -> list[OptionRow]:
    if struct is None or not struct.__struct_fields__:
        return []
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    return [OptionRow(field.encode_name, _default(field), _description(field.type)) for field in info.fields]


def _default(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else None
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    return msgspec.json.encode(value).decode()


def _description(kind: Any) -> str:
    schema: dict[str, Any] = getattr(kind, "extra_json_schema", None) or {}
    return str(schema.get("description", ""))


def reference() -> str:
    """Every metric of every input, as Markdown."""
    lines = [
        "# Metrics",
        "",
        "Written by `make docs` from the declarations in the code. Names between slashes are regular expressions: the kernel",
        "chooses the rest of the name.",
        "",
    ]
    for plugin in catalogue():
        lines += [f"## {plugin.name}", "", f"{plugin.summary[:1].upper()}{plugin.summary[1:]}.", ""]
        lines += _markdown("On `/metrics`", plugin.prometheus, unit=False)
        lines += _markdown("Over OTLP", plugin.otel, unit=True)
    return "\n".join(lines).rstrip() + "\n"


def _markdown(title: str, metrics: list[MetricRow], *, unit: bool) -> list[str]:
    if not metrics:
        return []
    head = ["name", "type", "unit", "attributes", "what"] if unit else ["name", "type", "labels", "what"]
    rows = [f"| {title} | {' | '.join(head[1:])} |", "|" + "---|" * len(head)]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        middle = [f"`{metric.unit}`", labels] if unit else [labels]
        text = metric.help.replace("|", "\\|")
        rows.append(f"| `{metric.name}` | {metric.kind} | {' | '.join(middle)} | {text} |".replace("|  |", "| |"))
    return [*rows, ""]

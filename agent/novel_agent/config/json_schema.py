"""The configuration as JSON Schema 2020-12, for editors that complete and check while typing."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from novel_agent.config.collectors import CollectorRow, registered_rows
from novel_agent.config.kinds import KINDS
from novel_agent.config.outline import Form, Option, item_type, options_of, struct_info, summary_of, unwrap
from novel_agent.config.schema import Config
from novel_agent.config.yaml_writer import write_value

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_SWITCH = {"enum": [True, False, "on", "off", "yes", "no"]}
"""YAML 1.2, which editors speak, reads `on` as a text."""
_OFF = {"enum": [False, "off", "no"], "description": "A collector that this version does not have may be off."}

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_VARIABLE_REF = {"$ref": "#/$defs/variable"}


def schema_json(rows: Iterable[CollectorRow] | None = None) -> str:
    """The whole schema as text; `rows` defaults to every registered collector."""
    document = schema(registered_rows() if rows is None else rows)
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def schema(rows: Iterable[CollectorRow]) -> dict[str, Any]:
    """The same as values."""
    collectors = {row.name: _collector(row) for row in rows}
    return {
        "$schema": _DIALECT,
        "title": "Novel Engine Agent configuration",
        **_struct(struct_info(Config), collectors),
        "$defs": {"variable": _VARIABLE},
    }


def _collector(row: CollectorRow) -> dict[str, Any]:
    options = _struct(struct_info(row.options), {})
    return {"description": row.summary, "anyOf": [_SWITCH, options], "default": "on" if row.default_on else "off"}


def _struct(info: inspect.StructType, collectors: dict[str, Any]) -> dict[str, Any]:
    options = options_of(info)
    described = {"description": summary_of(info.cls)} if info.cls.__doc__ else {}
    properties: dict[str, Any] = {}
    for option in options:
        properties[option.key] = _option(option, collectors)
        if option.form.is_secret:
            properties[f"{option.key}_file"] = {"type": "string", "description": f"File that holds {option.key}."}
    required = [option.key for option in options if option.required]
    return {
        **described,
        "type": ["object", "null"] if not required else "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _option(option: Option, collectors: dict[str, Any]) -> dict[str, Any]:
    form = option.form
    rendered = _form(form, collectors)
    if form.optional and rendered.get("type") != ["object", "null"]:
        rendered = {"anyOf": [rendered, {"type": "null"}]}
    if form.description:
        rendered = {**rendered, "description": form.description}
    if form.examples:
        rendered["examples"] = list(form.examples)
    default = _default(form, option.default)
    return rendered if default is NODEFAULT else {**rendered, "default": default}


def _default(form: Form, value: Any) -> Any:
    if value is NODEFAULT or value is None or isinstance(value, msgspec.Struct):
        return NODEFAULT
    if form.kind in ("duration", "size"):
        return write_value(form, value)
    return msgspec.to_builtins(value)


def _form(form: Form, collectors: dict[str, Any]) -> dict[str, Any]:
    kind = form.type
    if form.kind == "collectors":
        return {"type": ["object", "null"], "properties": collectors, "additionalProperties": _OFF}
    if isinstance(kind, inspect.StructType):
        return _struct(kind, collectors)
    if isinstance(kind, inspect.DictType):
        values = _form(unwrap(kind.value_type), collectors)
        return {"type": ["object", "null"], "additionalProperties": values}
    inner = item_type(kind)
    if inner is not None:
        return _list(form, inner, collectors)
    if isinstance(kind, inspect.UnionType):
        return {"anyOf": [_form(unwrap(each), collectors) for each in kind.types]}
    return _scalar(form)


def _list(form: Form, inner: inspect.Type, collectors: dict[str, Any]) -> dict[str, Any]:
    least, most = getattr(form.type, "min_length", None), getattr(form.type, "max_length", None)
    return {
        "type": "array" if least else ["array", "null"],
        "items": _form(unwrap(inner), collectors),
        **({"minItems": least} if least else {}),
        **({"maxItems": most} if most else {}),
    }


def _scalar(form: Form) -> dict[str, Any]:
    kind = form.type
    if isinstance(kind, inspect.LiteralType):
        return {"anyOf": [{"enum": list(kind.values)}, _VARIABLE_REF]}
    if isinstance(kind, inspect.BoolType):
        return {"anyOf": [_SWITCH, _VARIABLE_REF]}
    if form.kind in KINDS or isinstance(kind, inspect.StrType):
        return _text(form)
    number = {"type": "integer" if isinstance(kind, inspect.IntType) else "number"}
    limits = {word: limit for name, word in _BOUNDS.items() if (limit := getattr(kind, name, None)) is not None}
    return {"anyOf": [{**number, **limits}, _VARIABLE_REF]}


def _text(form: Form) -> dict[str, Any]:
    types = ["string", "integer"] if form.kind == "name_or_number" else "string"
    pattern = form.text.pattern or getattr(form.type, "pattern", None)
    if pattern is None:
        least = getattr(form.type, "min_length", None)
        return {"type": types, **({"minLength": least} if least else {})}
    anchored = f"^(?:{pattern})$" if form.text.pattern else pattern
    return {"anyOf": [{"type": types, "pattern": anchored}, _VARIABLE_REF]}

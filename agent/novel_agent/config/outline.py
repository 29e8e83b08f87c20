"""The schema as a list of options, for everything that walks it: checks, samples, reference, JSON Schema, display."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import NODEFAULT, inspect

from novel_agent.config.kinds import KINDS, TEXT, Kind


class Form(NamedTuple):
    """A type without its wrapping."""

    type: inspect.Type
    kind: str
    optional: bool
    """None is allowed."""
    description: str
    examples: tuple[Any, ...]

    @property
    def text(self) -> Kind:
        """How texts of this kind are checked and written."""
        return KINDS.get(self.kind, TEXT)

    @property
    def is_secret(self) -> bool:
        return self.kind == "secret"


class Option(NamedTuple):
    """One option of a section."""

    key: str
    form: Form
    required: bool
    default: Any
    """NODEFAULT where it is required."""


def unwrap(info: inspect.Type) -> Form:
    """The type below `Meta` and `| None`, and what those said."""
    kind, description, optional = "", "", False
    examples: tuple[Any, ...] = ()
    while True:
        if isinstance(info, inspect.Metadata):
            schema: dict[str, Any] = info.extra_json_schema or {}
            kind = kind or str((info.extra or {}).get("kind", ""))
            description = description or str(schema.get("description", ""))
            examples = examples or tuple(schema.get("examples", ()))
            info = info.type
        elif isinstance(info, inspect.UnionType) and any(isinstance(each, inspect.NoneType) for each in info.types):
            optional = True
            rest = tuple(each for each in info.types if not isinstance(each, inspect.NoneType))
            info = rest[0] if len(rest) == 1 else inspect.UnionType(rest)
        else:
            return Form(info, kind, optional, description, examples)


def options_of(info: inspect.StructType) -> tuple[Option, ...]:
    """The options of a struct, in the order declared."""
    known = _OPTIONS.get(info.cls)
    if known is None:
        known = _OPTIONS[info.cls] = tuple(_options(info))
    return known


_OPTIONS: dict[type, tuple[Option, ...]] = {}


def _options(info: inspect.StructType) -> Iterator[Option]:
    for field in info.fields:
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        yield Option(field.encode_name, unwrap(field.type), field.required, default)


def struct_info(cls: type[msgspec.Struct]) -> inspect.StructType:
    """What msgspec knows of a struct."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return info


def summary_of(cls: type) -> str:
    """The first sentence of a docstring, in one line."""
    paragraph = (cls.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def item_type(info: inspect.Type) -> inspect.Type | None:
    """The type of a list's items; None for what is no list."""
    if isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        return info.item_type
    return None


def form_of(form: Form, value: Any) -> Form:
    """Of a union, the member that a value is of; any other form as it is."""
    if not isinstance(form.type, inspect.UnionType):
        return form
    for member in form.type.types:
        if isinstance(member, inspect.StructType) and isinstance(value, member.cls):
            return form._replace(type=member)
        if isinstance(value, list | tuple) and item_type(member) is not None:
            return form._replace(type=member)
    return form


def struct_in(info: inspect.Type) -> inspect.StructType | None:
    """The struct among the members of a union; None where there is none."""
    members = info.types if isinstance(info, inspect.UnionType) else ()
    return next((each for each in members if isinstance(each, inspect.StructType)), None)


def named_lists(info: inspect.StructType, path: str = "") -> Iterator[str]:
    """The key paths of the lists whose items have names."""
    for option in options_of(info):
        inner = f"{path}{option.key}"
        if option.form.kind == "named":
            yield inner
        elif isinstance(option.form.type, inspect.StructType):
            yield from named_lists(option.form.type, f"{inner}.")


def attribute(info: inspect.StructType, key: str) -> str:
    """The struct's field for an option."""
    return next(field.name for field in info.fields if field.encode_name == key)

"""The effective configuration as YAML, secrets masked, each value's origin beside it when asked."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from novel_agent.config.collectors import registered_options
from novel_agent.config.convert import OptionsOf, join
from novel_agent.config.masking import MASK, mask_url
from novel_agent.config.model import Loaded
from novel_agent.config.outline import Form, attribute, form_of, item_type, options_of, struct_info, unwrap
from novel_agent.config.schema import Config
from novel_agent.config.yaml_writer import write_text, write_value

_ORIGIN_COLUMN = 48


def show(loaded: Loaded, with_origin: bool = False, *, collector_options: OptionsOf = registered_options) -> str:
    """YAML that loads to the same configuration, but for what is masked."""
    lines = _Display(loaded.origins if with_origin else {}, collector_options).section(loaded.config)
    return "\n".join(lines) + "\n"


class _Display:
    """Writes values below each other. `origins` is empty where they are not wanted."""

    def __init__(self, origins: Mapping[str, str], collector_options: OptionsOf) -> None:
        self._origins = origins
        self._collector_options = collector_options

    def section(self, config: Config) -> Iterator[str]:
        yield from self._struct(struct_info(Config), config, "", "")

    def _struct(self, info: inspect.StructType, value: msgspec.Struct, path: str, indent: str) -> Iterator[str]:
        for option in options_of(info):
            inner = getattr(value, attribute(info, option.key))
            yield from self._entry(option.key, option.form, inner, join(path, option.key), indent)

    def _entry(self, key: str, form: Form, value: Any, path: str, indent: str) -> Iterator[str]:
        head = f"{indent}{write_text(key)}:"
        form = form_of(form, value)
        if isinstance(value, msgspec.Struct) and isinstance(form.type, inspect.StructType):
            yield head
            yield from self._struct(form.type, value, path, indent + "  ")
        elif isinstance(value, Mapping) and value:
            yield head
            yield from self._mapping(form, value, path, indent + "  ")
        elif value and _is_list_of_structs(form):
            yield head
            yield from self._items(form, value, path, indent + "  ")
        else:
            yield self._line(f"{head} {write_value(form, masked(form, value))}", path)

    def _mapping(self, form: Form, value: Mapping[str, Any], path: str, indent: str) -> Iterator[str]:
        if form.kind == "collectors":
            for name, setting in value.items():
                yield from self._collector(name, setting, join(path, name), indent)
            return
        assert isinstance(form.type, inspect.DictType)
        values = unwrap(form.type.value_type)
        for key, each in value.items():
            yield from self._entry(key, values, each, join(path, key), indent)

    def _collector(self, name: str, setting: Any, path: str, indent: str) -> Iterator[str]:
        if isinstance(setting, bool):
            yield self._line(f"{indent}{name}: {'on' if setting else 'off'}", path)
            return
        cls = self._collector_options(name) if setting else None
        if cls is None:
            yield self._line(f"{indent}{name}: {{}}", path)
            return
        yield f"{indent}{name}:"
        for option in options_of(struct_info(cls)):
            if option.key in setting:
                inner = join(path, option.key)
                yield from self._entry(option.key, option.form, setting[option.key], inner, indent + "  ")

    def _items(self, form: Form, values: Any, path: str, indent: str) -> Iterator[str]:
        inner = item_type(form.type)
        assert isinstance(inner, inspect.StructType)
        for index, value in enumerate(values):
            name = value.name if form.kind == "named" else index
            first, *rest = self._struct(inner, value, f"{path}[{name}]", indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest

    def _line(self, text: str, path: str) -> str:
        origin = self._origins.get(path)
        return f"{text:<{_ORIGIN_COLUMN}}  # {origin}" if origin else text


def _is_list_of_structs(form: Form) -> bool:
    return isinstance(item_type(form.type), inspect.StructType)


def masked(form: Form, value: Any) -> Any:
    """The value as it may be shown."""
    if form.is_secret and value is not None:
        return MASK
    if isinstance(value, str):
        return mask_url(value)
    inner = item_type(form.type)
    if inner is not None and isinstance(value, list | tuple | set | frozenset):
        return [masked(unwrap(inner), each) for each in value]
    return value

"""Values back to YAML that reads as the same values."""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import inspect

from novel_agent.config.outline import Form, form_of, item_type, unwrap
from novel_agent.config.tree import Origin, Scalar
from novel_agent.config.wording import escaped

_PLAIN = re.compile(r"[A-Za-z0-9_./^$(\\][A-Za-z0-9_./:@+=|^$()*?\\~-]*(?<!:)")


def write_text(text: str) -> str:
    """A text, in quotes only where YAML would read it as anything else."""
    if "$$" in text or "${" in text:
        text = text.replace("$", "$$")
    scalar = Scalar(Origin(""), text)
    if _PLAIN.fullmatch(text) and scalar.boolean is None and not scalar.is_null and not scalar.looks_numeric:
        return text
    if text.isprintable() and ("\\" in text or '"' in text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def write_value(form: Form, value: Any) -> str:
    """A value of any form but a struct, in one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return write_text(value)
    if isinstance(value, Mapping):
        assert isinstance(form.type, inspect.DictType)
        values = unwrap(form.type.value_type)
        pairs = (f"{write_text(key)}: {write_value(values, each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        inner = item_type(form_of(form, value).type)
        assert inner is not None
        return f"[{', '.join(write_value(unwrap(inner), each) for each in value)}]"
    return form.text.write(value)

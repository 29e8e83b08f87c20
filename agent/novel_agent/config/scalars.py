"""Single values: from a text to the boolean, number, choice or checked text that is wanted there.

Every function gives the value or raises ValueError with what is wrong and what would be right.
"""

import os
import re
from collections.abc import Callable
from typing import Any

from msgspec import inspect

from novel_agent.config.describe import expected, right
from novel_agent.config.files import file_problem
from novel_agent.config.kinds import KINDS
from novel_agent.config.outline import Form
from novel_agent.config.tree import Node, Scalar
from novel_agent.config.wording import nearest, quoted

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?|[-+]?\.[0-9]+([eE][-+]?[0-9]{1,3})?")
_MOST_DIGITS = 40
_LARGEST_INTEGER = (1 << 63) - 1
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")

_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "ge": (lambda value, bound: value >= bound, "at least"),
    "gt": (lambda value, bound: value > bound, "more than"),
    "le": (lambda value, bound: value <= bound, "at most"),
    "lt": (lambda value, bound: value < bound, "less than"),
    "multiple_of": (lambda value, bound: value % bound == 0, "a multiple of"),
}


def bounds(form: Form) -> list[str]:
    """The bounds of a number in words, as `at least 1s`."""
    return [f"{words} {form.text.write(limit)}" for _, words, limit in _limits(form)]


def _limits(form: Form) -> list[tuple[Callable[[float, float], bool], str, Any]]:
    return [
        (holds, words, limit)
        for name, (holds, words) in _BOUNDS.items()
        if (limit := getattr(form.type, name, None)) is not None
    ]


def switch(node: Node) -> bool | None:
    """What `on` or `off` says, quoted or not, as JSON has to write it; None for anything else."""
    return node._replace(style="plain").boolean if isinstance(node, Scalar) else None


def boolean(form: Form, node: Node) -> bool:
    """YAML's booleans, without quotes."""
    value = node.boolean if isinstance(node, Scalar) else None
    if value is not None:
        return value
    if isinstance(node, Scalar) and switch(node) is not None:
        raise ValueError(f"is text; write {node.text} without quotes")
    raise ValueError(expected(form, node))


def number(form: Form, node: Node) -> float:
    """A number, duration or size, within its bounds."""
    if not isinstance(node, Scalar):
        raise ValueError(expected(form, node))
    value = _measured(form, node) if form.kind in KINDS else _plain_number(form, node)
    for holds, words, limit in _limits(form):
        if not holds(value, limit):
            raise ValueError(f"is {node.text}; it must be {words} {form.text.write(limit)}")
    return value


def _measured(form: Form, node: Scalar) -> Any:
    try:
        return form.text.parse(node.text)
    except ValueError as error:
        raise ValueError(f"{quoted(node.text)} {error}") from None


def _plain_number(form: Form, node: Scalar) -> float:
    is_whole = isinstance(form.type, inspect.IntType)
    if not (_INTEGER if is_whole else _NUMBER).fullmatch(node.text):
        raise ValueError(expected(form, node))
    if node.style == "quoted":
        raise ValueError(f"is text; write {quoted(node.text)[1:-1]} without quotes")
    if len(node.text) > _MOST_DIGITS or abs(float(node.text)) > (_LARGEST_INTEGER if is_whole else 1e300):
        raise ValueError(f"{quoted(node.text)} is too large")
    return int(node.text) if is_whole else float(node.text)


def choice(form: Form, node: Node) -> Any:
    """One of the literal values."""
    assert isinstance(form.type, inspect.LiteralType)
    values = {str(value): value for value in form.type.values}
    if not isinstance(node, Scalar):
        raise ValueError(expected(form, node))
    if node.text not in values:
        near = nearest(node.text, values)
        raise ValueError(f"{quoted(node.text)} is not known; {f'did you mean {near}?' if near else right(form)}")
    return values[node.text]


def text(form: Form, node: Node) -> str:
    """A text of its kind; paths come back absolute."""
    if not isinstance(node, Scalar):
        raise ValueError(expected(form, node))
    if node.style == "plain" and not form.text.takes_any_scalar:
        _refuse_other_types(form, node)
    problem = _text_problem(form, node)
    if problem:
        raise ValueError(problem if form.is_secret else f"{quoted(node.text)} {problem}")
    return resolved(node) if form.kind in ("file", "path") else node.text


def _refuse_other_types(form: Form, node: Scalar) -> None:
    shown = "" if form.is_secret else f': "{node.text}"'
    if node.boolean is not None:
        raise ValueError(f"is a boolean in YAML, as on, off, yes, no, true and false are; put it in quotes{shown}")
    if node.looks_numeric:
        raise ValueError(f"is a number where a text is wanted; put it in quotes{shown}")


def _text_problem(form: Form, node: Scalar) -> str | None:
    if _CONTROL.search(node.text):
        return "holds a line break or a control character"
    assert isinstance(form.type, inspect.StrType)
    least, most, pattern = form.type.min_length, form.type.max_length, form.type.pattern
    if not node.text and (least or form.kind in ("file", "path")):
        return "is empty"
    if least is not None and len(node.text) < least:
        return f"is shorter than {least} characters"
    if most is not None and len(node.text) > most:
        return f"is longer than {most} characters"
    if pattern and not re.search(pattern, node.text):
        return f"does not match {pattern}; {right(form)}"
    try:
        form.text.parse(node.text)
    except ValueError as error:
        return str(error)
    return _unreadable(node) if form.kind == "file" else None


def _unreadable(node: Scalar) -> str | None:
    path = resolved(node)
    problem = file_problem(path)
    looked_for = "" if path == node.text or (problem and path in problem) else f" (looked for {path})"
    return problem and f"{problem}{looked_for}"


def resolved(node: Scalar) -> str:
    """A path as written, from the directory of the file it stands in; from elsewhere, from the working directory."""
    base = os.path.dirname(os.path.abspath(node.origin.source)) if node.origin.line else os.getcwd()
    return os.path.normpath(os.path.join(base, node.text))


SCALARS: dict[type, Callable[[Form, Node], Any]] = {
    inspect.BoolType: boolean,
    inspect.IntType: number,
    inspect.FloatType: number,
    inspect.LiteralType: choice,
    inspect.StrType: text,
}


def fits(form: Form, node: Scalar) -> bool:
    """Whether a value is of the shape that this member of a union has."""
    kind = form.type
    if isinstance(kind, inspect.BoolType):
        return node.boolean is not None
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return form.kind in KINDS or (node.style != "quoted" and bool(_NUMBER.fullmatch(node.text)))
    if isinstance(kind, inspect.LiteralType):
        return node.text in map(str, kind.values)
    return isinstance(kind, inspect.StrType)

"""`${VAR}` and `${VAR:-default}` in values; `$$` is a dollar sign. Nothing that a variable holds is read as YAML."""

import re
from collections.abc import Mapping

from novel_agent.config.convert import join
from novel_agent.config.tree import Branch, Entry, Items, Node, Scalar
from novel_agent.config.wording import quoted
from novel_agent.errors import ConfigError

_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def substitute(node: Node, environ: Mapping[str, str], errors: list[ConfigError], path: str = "") -> Node:
    """The tree with every reference replaced; what cannot be goes to `errors` and stays as written."""
    if isinstance(node, Branch):
        entries = {
            key: Entry(entry.origin, substitute(entry.node, environ, errors, join(path, key)))
            for key, entry in node.entries.items()
        }
        return Branch(node.origin, entries)
    if isinstance(node, Items):
        nodes = (substitute(each, environ, errors, f"{path}[{index}]") for index, each in enumerate(node.nodes))
        return Items(node.origin, tuple(nodes))
    return _scalar(node, environ, errors, path) if "$" in node.text else node


def _scalar(node: Scalar, environ: Mapping[str, str], errors: list[ConfigError], path: str) -> Scalar:
    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        try:
            return _value(match, environ)
        except ValueError as error:
            errors.append(node.origin.error(path, str(error)))
            return match[0]

    text = _REFERENCE.sub(value, node.text)
    return Scalar(node.origin, text, "either" if "${" in node.text else node.style)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, has_default, default = match[1].partition(":-")
    if not match[2] or not _NAME.fullmatch(name):
        raise ValueError(f"{quoted(match[0])} is not ${{VAR}} or ${{VAR:-default}}; a dollar sign itself is $$")
    if has_default:
        return environ.get(name) or default
    if name not in environ:
        raise ValueError(f"the environment variable {name} is not set; set it or write ${{{name}:-default}}")
    return environ[name]

"""A configuration as it was written: texts, mappings and lists, each with the place it came from."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from novel_agent.errors import ConfigError

Style = Literal["plain", "quoted", "either"]
"""How a text was written. `plain` may be a number or a boolean, `quoted` is text; what a variable or the command line gave is
`either`, since nobody can quote there."""

_NULL_TEXTS = frozenset(("", "~", "null", "Null", "NULL"))
_ON_TEXTS = frozenset(("on", "On", "ON", "yes", "Yes", "YES", "true", "True", "TRUE"))
_OFF_TEXTS = frozenset(("off", "Off", "OFF", "no", "No", "NO", "false", "False", "FALSE"))
_STEP = re.compile(r"([^.\[]+)(?:\[(.*?)\](?=\.|$))?")
_NUMERIC = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+")


class Origin(NamedTuple):
    """A line of a file, or a source without lines (`environment LOG_LEVEL`), whose line is 0."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    def error(self, key: str, problem: str) -> ConfigError:
        """A mistake at this place."""
        return ConfigError(self.source, self.line, key, problem)


class Scalar(NamedTuple):
    """One value, uninterpreted: what it means depends on what is wanted where it stands."""

    origin: Origin
    text: str
    style: Style = "plain"

    @property
    def is_null(self) -> bool:
        """Nothing, `~` or `null` was written."""
        return self.style != "quoted" and self.text in _NULL_TEXTS

    @property
    def is_empty(self) -> bool:
        """Nothing was written at all, as after a key whose options are all commented out."""
        return self.style != "quoted" and not self.text

    @property
    def looks_numeric(self) -> bool:
        """Some YAML reader would take the text for a number."""
        return self.style != "quoted" and bool(_NUMERIC.fullmatch(self.text))

    @property
    def boolean(self) -> bool | None:
        """YAML 1.1's booleans; None for anything else."""
        if self.style == "quoted":
            return None
        return True if self.text in _ON_TEXTS else False if self.text in _OFF_TEXTS else None


class Entry(NamedTuple):
    """One value of a mapping and the place of its key."""

    origin: Origin
    node: "Node"


class Branch(NamedTuple):
    """A mapping, in the order written."""

    origin: Origin
    entries: Mapping[str, Entry]


class Items(NamedTuple):
    """A list."""

    origin: Origin
    nodes: tuple["Node", ...]


Node = Scalar | Branch | Items


class Setting(NamedTuple):
    """One text and the place it came from, before it is known what it sets."""

    origin: Origin
    text: str


def branch(origin: Origin, nodes: "Mapping[str, Node]") -> Branch:
    """A mapping whose keys stand where it does."""
    return Branch(origin, {key: Entry(node.origin, node) for key, node in nodes.items()})


def given(origin: Origin, text: str) -> Scalar:
    """A value from where nothing can be quoted."""
    return Scalar(origin, text, "either")


def nested(key: str, node: Node) -> Branch:
    """The mapping in which `node` stands at the dotted `key`."""
    *outer, last = key.split(".")
    tree = branch(node.origin, {last: node})
    for name in reversed(outer):
        tree = branch(node.origin, {name: tree})
    return tree


def names_of(nodes: Iterable[Node]) -> list[str | None]:
    """The `name` of each item of a list; None for an item without."""
    return [_name(node) for node in nodes]


def _name(node: Node) -> str | None:
    entry = node.entries.get("name") if isinstance(node, Branch) else None
    return entry.node.text if entry and isinstance(entry.node, Scalar) else None


def origin_of(path: str, entries: Mapping[str, Entry]) -> Origin | None:
    """Where the option at a key path (`tls.cert_file`, `export[name].path`) stands, or what it would stand in; None without."""
    origin = None
    for key, name in _STEP.findall(path):
        entry = entries.get(key)
        if entry is None:
            break
        origin, node = entry.origin, entry.node
        if name and isinstance(node, Items):
            node = next((each for each in node.nodes if _name(each) == name), node)
            origin = node.origin
        entries = node.entries if isinstance(node, Branch) else {}
    return origin

"""YAML, and so JSON, to a tree that knows its lines.

The parser's events are read, not PyYAML's composed nodes: the C composer recurses without limit and keeps no bound on what
aliases expand to. Values stay texts here, because YAML 1.1 would make `1:30`, `010` and `off` into numbers and booleans
before anyone knows whether a text was wanted.
"""

import re
from typing import Any

import yaml

from novel_agent.config.tree import Branch, Entry, Items, Node, Origin, Scalar
from novel_agent.errors import ConfigError

MOST_BYTES = 1 << 20
_MOST_NODES = 100_000
"""Values after aliases are followed; a billion laughs ends here."""
_DEEPEST = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_YAML + name for name in ("int", "float", "bool", "null"))
_QUOTED_TAGS = frozenset(("!", _YAML + "str"))
_COLLECTION_TAGS = frozenset(("!", _YAML + "map", _YAML + "seq"))
_JSON_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")


def read_yaml(data: bytes, file: str, errors: list[ConfigError]) -> Node | None:
    """The one document of a file; None where there is none or it cannot be read, which `errors` then says."""
    try:
        return _Composer(file, errors).compose(_text(data, file))
    except ConfigError as error:
        errors.append(error)
    except yaml.MarkedYAMLError as error:
        errors.append(_syntax_error(error, data, file))
    except yaml.reader.ReaderError as error:
        line = data[: data.find(chr(error.character).encode())].count(b"\n") + 1
        errors.append(ConfigError(file, line, "", f"holds the control character U+{error.character:04X}"))
    return None


def _text(data: bytes, file: str) -> str:
    if len(data) > MOST_BYTES:
        raise ConfigError(file, 0, "", f"is larger than {MOST_BYTES >> 20}MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, line, "", f"is not UTF-8: byte 0x{data[error.start]:02x}") from None
    return _JSON_PAIR.sub(_joined_pair, text) if text.lstrip().startswith("{") else text


def _joined_pair(match: re.Match[str]) -> str:
    """The character that JSON writes as two escapes, of which libyaml refuses each."""
    high, low = int(match[2][2:6], 16), int(match[2][8:], 16)
    return match[1] + chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF))


def _syntax_error(error: yaml.MarkedYAMLError, data: bytes, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    lines = data.splitlines()
    text = lines[line - 1] if 0 < line <= len(lines) else b""
    problem = f"is not valid YAML: {error.problem}"
    if b"\t" in text[: len(text) - len(text.lstrip())]:
        problem += "; indent with blanks, not tabs"
    elif b"${" in text:
        problem += "; put ${…} in quotes where it stands between braces or brackets"
    elif error.context_mark and error.context_mark.line + 1 != line:
        problem += f" ({error.context}, which began in line {error.context_mark.line + 1})"
    elif error.problem == "mapping values are not allowed in this context":
        problem += '; put a value that holds ": " in quotes, and align the keys of a mapping'
    return ConfigError(file, line, "", problem)


class _Frame:
    """A collection that is being read."""

    def __init__(self, origin: Origin, anchor: str | None, *, is_mapping: bool) -> None:
        self.origin = origin
        self.anchor = anchor
        self.is_mapping = is_mapping
        self.size = 1
        self.nodes: list[Node] = []
        self.entries: dict[str, Entry] = {}
        self.merged: list[Node] = []
        self.key: tuple[str, Origin, bool] | None = None
        """The key whose value comes next, its place, and whether it is the merge key."""


class _Composer:
    """Turns the events of one file into one tree."""

    def __init__(self, file: str, errors: list[ConfigError]) -> None:
        self._file = file
        self._errors = errors
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._root: Node | None = None

    def compose(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=_LOADER):
            origin = Origin(self._file, event.start_mark.line + 1 if event.start_mark else 0)
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event, origin)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor or "", origin)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, origin)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close()
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise origin.error("", "begins a second document; a file holds one")
        return self._root

    def _scalar(self, event: yaml.ScalarEvent, origin: Origin) -> None:
        scalar = Scalar(origin, event.value, "plain" if self._is_plain(event, origin) else "quoted")
        frame = self._frames[-1] if self._frames else None
        if frame and frame.is_mapping and frame.key is None:
            frame.key = (event.value, origin, event.value == "<<" and scalar.style == "plain")
            return
        if event.anchor:
            self._anchors[event.anchor] = (scalar, 1)
        self._place(scalar, 1)

    def _is_plain(self, event: yaml.ScalarEvent, origin: Origin) -> bool:
        if event.tag is None:
            return not event.style
        if event.tag not in _PLAIN_TAGS and event.tag not in _QUOTED_TAGS:
            self._errors.append(origin.error(self._path(), _tag_problem(event.tag)))
        return event.tag in _PLAIN_TAGS

    def _alias(self, name: str, origin: Origin) -> None:
        if name not in self._anchors:
            raise origin.error(self._path(), f"*{name} names an anchor that no line above has")
        target = self._anchors[name]
        if target is None:
            raise origin.error(self._path(), f"*{name} stands inside what it names")
        self._refuse_as_key(origin)
        self._place(*target)

    def _open(self, event: yaml.CollectionStartEvent, origin: Origin) -> None:
        self._refuse_as_key(origin)
        if len(self._frames) >= _DEEPEST:
            raise origin.error("", f"is nested deeper than {_DEEPEST} levels")
        if event.tag is not None and event.tag not in _COLLECTION_TAGS:
            self._errors.append(origin.error(self._path(), _tag_problem(event.tag)))
        if event.anchor:
            self._anchors[event.anchor] = None
        self._frames.append(_Frame(origin, event.anchor, is_mapping=isinstance(event, yaml.MappingStartEvent)))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node
        if frame.is_mapping:
            self._take_merged(frame)
            node = Branch(frame.origin, frame.entries)
        else:
            node = Items(frame.origin, tuple(frame.nodes))
        if frame.anchor:
            self._anchors[frame.anchor] = (node, frame.size)
        self._place(node, frame.size)

    def _place(self, node: Node, size: int) -> None:
        if not self._frames:
            self._root = node
            return
        frame = self._frames[-1]
        frame.size += size
        if frame.size > _MOST_NODES:
            raise frame.origin.error(self._path(), f"holds more than {_MOST_NODES} values once aliases are followed")
        if not frame.is_mapping:
            frame.nodes.append(node)
            return
        assert frame.key is not None
        (key, origin, is_merge), frame.key = frame.key, None
        if is_merge:
            frame.merged.extend(node.nodes if isinstance(node, Items) else (node,))
        elif key in frame.entries:
            first = frame.entries[key].origin.line
            self._errors.append(origin.error(self._path(key), f"stands twice in this mapping, first in line {first}"))
        else:
            frame.entries[key] = Entry(origin, node)

    def _take_merged(self, frame: _Frame) -> None:
        for source in frame.merged:
            if isinstance(source, Branch):
                for key, entry in source.entries.items():
                    frame.entries.setdefault(key, entry)
            else:
                self._errors.append(source.origin.error(self._path("<<"), "takes a mapping or a list of mappings"))

    def _refuse_as_key(self, origin: Origin) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame and frame.is_mapping and frame.key is None:
            raise origin.error(self._path(), "a key is one plain text")

    def _path(self, key: str = "") -> str:
        keys = [frame.key[0] for frame in self._frames if frame.key]
        return ".".join([*keys, key] if key else keys)


def _tag_problem(tag: str) -> str:
    return f"the tag {tag.replace(_YAML, '!!')} is not supported; write the value without it"

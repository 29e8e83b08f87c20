"""From what was written to what is meant: checks a tree against the schema and reports every mistake in it.

What comes out are plain values under the options' own names (`interval: 15.0`), ready for `msgspec.convert`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from novel_agent.config.describe import expected, right, written
from novel_agent.config.files import read_secret, reason
from novel_agent.config.outline import Form, Option, attribute, item_type, options_of, struct_info, unwrap
from novel_agent.config.scalars import SCALARS, fits, resolved, switch
from novel_agent.config.tree import Branch, Entry, Items, Node, Origin, Scalar, names_of, origin_of
from novel_agent.config.wording import nearest, suggestion
from novel_agent.errors import ConfigError

INVALID: Any = object()
"""Stands for a value that was wrong and is reported."""

OptionsOf = Callable[[str], type[msgspec.Struct] | None]


class Collectors(NamedTuple):
    """What may stand under `host.collectors`: the names, and the struct that checks the options of one."""

    names: Collection[str]
    options: OptionsOf


class Conversion:
    """Checks one tree. With `whole` false it is one file among several: what is missing there may stand elsewhere."""

    def __init__(self, collectors: Collectors, *, whole: bool) -> None:
        self.errors: list[ConfigError] = []
        self.notices: list[str] = []
        self.origins: dict[str, str] = {}
        self._collectors = collectors
        self._whole = whole

    def section(self, cls: type[msgspec.Struct], node: Node) -> Any:
        """The values of a struct; what is wrong is left out and stands in `errors`."""
        return self._struct(unwrap(struct_info(cls)), node, "", node.origin)

    def _wrong(self, where: Origin, path: str, problem: str) -> Any:
        self.errors.append(where.error(path, problem))
        return INVALID

    def value(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        """One value at its key path; INVALID where it is wrong, which `errors` then says."""
        if isinstance(node, Scalar) and node.is_null and not _is_given_text(form, node):
            return self._nothing(form, node, path)
        if form.kind == "collectors":
            return self._switches(form, node, path, where)
        if isinstance(form.type, inspect.StructType):
            return self._struct(form, node, path, where)
        if isinstance(form.type, inspect.DictType):
            return self._table(form, node, path, where)
        if isinstance(form.type, inspect.UnionType):
            return self._either(form, node, path, where)
        if item_type(form.type) is not None:
            return self._items(form, node, path, where)
        return self._scalar(form, node, path, where)

    def _scalar(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        try:
            value = SCALARS[type(form.type)](form, node)
        except ValueError as error:
            return self._wrong(where, path, str(error))
        self.origins.setdefault(path, str(where))
        return value

    def _nothing(self, form: Form, node: Scalar, path: str) -> Any:
        """A key without a value: an option unset, an empty section or list, or a mistake."""
        if form.optional:
            self.origins[path] = str(node.origin)
            return None
        if isinstance(form.type, inspect.StructType | inspect.DictType):
            return self.value(form, Branch(node.origin, {}), path, node.origin)
        if item_type(form.type) is not None:
            return self.value(form, Items(node.origin, ()), path, node.origin)
        return self._wrong(node.origin, path, f"has no value; {right(form)}, or remove the line")

    def _struct(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        if not isinstance(node, Branch):
            return self._wrong(where, path, expected(form, node))
        assert isinstance(form.type, inspect.StructType)
        options = {option.key: option for option in options_of(form.type)}
        entries = self._with_secret_files(node, {key: option.form for key, option in options.items()}, path)
        data = {}
        for key, entry in entries.items():
            if key not in options:
                self._wrong(entry.origin, join(path, key), f"unknown key; {suggestion(key, options)}")
                continue
            value = self.value(options[key].form, entry.node, join(path, key), _place(entry))
            if value is not INVALID:
                data[key] = value
        if self._whole:
            absent = [option for key, option in options.items() if key not in entries]
            self._complete(absent, path, where)
            if len(data) + len(absent) == len(options) and not any(option.required for option in absent):
                self._refuse_conflicts(form.type.cls, data, entries, path, where)
        return data

    def _complete(self, absent: Iterable[Option], path: str, where: Origin) -> None:
        for option in absent:
            inner = join(path, option.key)
            if option.required:
                self._wrong(where, inner, f"is missing; {right(option.form)}")
            else:
                self._default(option.form, option.default, inner)

    def _default(self, form: Form, value: Any, path: str) -> None:
        if isinstance(form.type, inspect.StructType) and value is not None:
            for option in options_of(form.type):
                self._default(option.form, getattr(value, attribute(form.type, option.key)), join(path, option.key))
        else:
            self.origins[path] = "default"

    def _refuse_conflicts(
        self, cls: type, data: dict[str, Any], entries: Mapping[str, Entry], path: str, where: Origin
    ) -> None:
        """What each value alone does not show; a part that is wrong itself was reported already."""
        if not hasattr(cls, "conflicts"):
            return
        try:
            section: Any = msgspec.convert(data, cls)
        except msgspec.ValidationError:
            return
        for key, problem in section.conflicts():
            self._wrong(origin_of(key, entries) or where, join(path, key), problem)

    def _table(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        if not isinstance(node, Branch):
            return self._wrong(where, path, expected(form, node))
        assert isinstance(form.type, inspect.DictType)
        values = unwrap(form.type.value_type)
        entries = self._with_secret_files(node, {key.removesuffix("_file"): values for key in node.entries}, path)
        if not entries:
            self.origins[path] = str(where)
        data = {}
        for key, entry in entries.items():
            if not key:
                self._wrong(entry.origin, path, "holds an empty name")
            value = self.value(values, entry.node, join(path, key), _place(entry))
            if value is not INVALID:
                data[key] = value
        return data

    def _items(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        if not isinstance(node, Items):
            return self._wrong(where, path, expected(form, node))
        self.origins[path] = str(where)
        items = item_type(form.type)
        assert items is not None
        unnamed: list[str | None] = [None] * len(node.nodes)
        names = names_of(node.nodes) if form.kind == "named" else unnamed
        self._refuse_twins(names, node, path)
        whole = self._each_whole()
        values = [
            whole.value(unwrap(items), each, f"{path}[{index if name is None else name}]", each.origin)
            for index, (name, each) in enumerate(zip(names, node.nodes, strict=True))
        ]
        if INVALID in values:
            return INVALID
        problem = _count_problem(form, len(values))
        return self._wrong(where, path, problem) if problem else values

    def _each_whole(self) -> "Conversion":
        """Items of a list are never merged, so each is complete in its file."""
        other = Conversion(self._collectors, whole=True)
        other.errors, other.notices, other.origins = self.errors, self.notices, self.origins
        return other

    def _refuse_twins(self, names: list[str | None], node: Items, path: str) -> None:
        first: dict[str, Origin] = {}
        for name, each in zip(names, node.nodes, strict=True):
            if name is not None and name in first:
                problem = f"stands twice, first in line {first[name].line}; names are unique"
                self._wrong(each.origin, f"{path}[{name}].name", problem)
            elif name is not None:
                first[name] = each.origin

    def _either(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        """A union: the member whose shape was written."""
        assert isinstance(form.type, inspect.UnionType)
        for member in map(unwrap, form.type.types):
            if fits(member, node) if isinstance(node, Scalar) else _holds(member, node):
                return self.value(member, node, path, where)
        return self._wrong(where, path, expected(form, node))

    def _with_secret_files(self, node: Branch, forms: Mapping[str, Form], path: str) -> Mapping[str, Entry]:
        """The entries, with `x_file` of a secret `x` replaced by `x` and the file's content."""
        entries = dict(node.entries)
        for key, entry in node.entries.items():
            secret = key.removesuffix("_file")
            if secret == key or key in forms or secret not in forms or not forms[secret].is_secret:
                continue
            del entries[key]
            if secret not in node.entries or self._wins(node, key, secret, path):
                entries[secret] = self._from_file(entry, join(path, key), join(path, secret))
        return entries

    def _wins(self, node: Branch, key: str, secret: str, path: str) -> bool:
        """Of two files one giving `x`, the other `x_file`, the later wins; in one file they contradict each other."""
        mine, other = node.entries[key].origin, node.entries[secret].origin
        if mine.source == other.source:
            self._wrong(mine, join(path, key), f"is given beside {secret} (line {other.line}); keep one of the two")
            return False
        order = list(node.entries)
        return order.index(key) > order.index(secret)

    def _from_file(self, entry: Entry, path: str, secret_path: str) -> Entry:
        unread = Entry(entry.origin, Scalar(entry.node.origin, "", "quoted"))
        if not isinstance(entry.node, Scalar) or entry.node.is_null:
            self._wrong(entry.origin, path, f"is {written(entry.node)}; write the path of a file that holds the secret")
            return unread
        file = resolved(entry.node)
        try:
            secret = read_secret(file)
        except (OSError, ValueError) as error:
            self._wrong(entry.origin, path, f"{file} {_unread(error)}")
            return unread
        self.origins[secret_path] = f"{entry.origin}, read from {file}"
        return Entry(entry.origin, Scalar(entry.node.origin, secret, "quoted"))

    def _switches(self, form: Form, node: Node, path: str, where: Origin) -> Any:
        """`host.collectors`: on, off or options by name."""
        if not isinstance(node, Branch):
            return self._wrong(where, path, f"is {written(node)}; write a mapping such as wifi: off")
        if not node.entries:
            self.origins[path] = str(where)
        data = {}
        for name, entry in node.entries.items():
            value = self._collector(name, entry, join(path, name))
            if value is not INVALID:
                data[name] = value
        return data

    def _collector(self, name: str, entry: Entry, path: str) -> Any:
        node, known = entry.node, self._collectors.names
        if name not in known:
            return self._unknown_collector(name, entry, path)
        if isinstance(node, Branch):
            return self._collector_options(name, node, path, entry.origin)
        value = switch(node)
        if value is None:
            wrong = "has no value" if isinstance(node, Scalar) and node.is_null else f"is {written(node)}"
            return self._wrong(entry.origin, path, f"{wrong}; write on, off or a mapping of its options")
        self.origins[path] = str(entry.origin)
        return value

    def _unknown_collector(self, name: str, entry: Entry, path: str) -> Any:
        """Off is what it is already, unless the name looks like another's."""
        known = self._collectors.names
        if switch(entry.node) is False and nearest(name, known) is None:
            self.notices.append(f"{entry.origin}: {path}: there is no such collector, so it is off anyway")
            return INVALID
        return self._wrong(entry.origin, path, f"unknown collector; {suggestion(name, known)}")

    def _collector_options(self, name: str, node: Branch, path: str, where: Origin) -> Any:
        try:
            cls = self._collectors.options(name)
        except (ImportError, AttributeError) as error:
            return self._wrong(where, path, f"is not in this build: {error}")
        self.origins[path] = str(where)
        if cls is not None and cls.__struct_fields__:
            return self._struct(unwrap(struct_info(cls)), node, path, where)
        for key, entry in node.entries.items():
            self._wrong(entry.origin, join(path, key), f"unknown key; collector {name} has no options")
        return {}


def join(path: str, key: str) -> str:
    """The key path one level further in."""
    return f"{path}.{key}" if path else key


def _place(entry: Entry) -> Origin:
    """Where a value is reported: its own line, or its key's where it spans lines."""
    return entry.node.origin if isinstance(entry.node, Scalar) else entry.origin


def _is_given_text(form: Form, node: Scalar) -> bool:
    """A variable may well be empty or say `null` where any text will do."""
    return node.style == "either" and not form.optional and isinstance(form.type, inspect.StrType)


def _holds(form: Form, node: Node) -> bool:
    if isinstance(node, Items):
        return item_type(form.type) is not None
    return isinstance(form.type, inspect.StructType | inspect.DictType)


def _count_problem(form: Form, count: int) -> str | None:
    least, most = getattr(form.type, "min_length", None), getattr(form.type, "max_length", None)
    if least is not None and count < least:
        return f"holds {count} values; at least {least} must be given"
    if most is not None and count > most:
        return f"holds {count} values; at most {most} may be given"
    return None


def _unread(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {reason(error)}"
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)

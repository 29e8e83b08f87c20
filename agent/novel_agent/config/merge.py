"""Several trees to one: mappings merge, lists of named items append, of everything else the last wins.

An item whose `name` an earlier item has takes its place, whole. A key left without a value (its options all commented out)
changes nothing.
"""

from collections.abc import Collection, Iterable

from novel_agent.config.convert import join
from novel_agent.config.tree import Branch, Entry, Items, Node, Origin, Scalar, names_of


def merge(trees: Iterable[Branch], named_lists: Collection[str]) -> Branch:
    """One tree; `named_lists` are the key paths of the lists that append."""
    merged = Branch(Origin("configuration"), {})
    for tree in trees:
        merged = _branches(merged, tree, "", named_lists)
    return merged


def _branches(earlier: Branch, later: Branch, path: str, named_lists: Collection[str]) -> Branch:
    entries = dict(earlier.entries)
    for key, entry in later.entries.items():
        before = entries.pop(key, None)
        entries[key] = entry if before is None else _entry(before, entry, join(path, key), named_lists)
    return Branch(later.origin, entries)


def _entry(before: Entry, after: Entry, path: str, named_lists: Collection[str]) -> Entry:
    node = after.node
    if isinstance(node, Scalar) and node.is_empty and not isinstance(before.node, Scalar):
        return before
    if isinstance(before.node, Branch) and isinstance(node, Branch):
        return Entry(after.origin, _branches(before.node, node, path, named_lists))
    if isinstance(before.node, Items) and isinstance(node, Items) and path in named_lists:
        return Entry(after.origin, _appended(before.node, node))
    return after


def _appended(before: Items, after: Items) -> Items:
    nodes: list[Node] = list(before.nodes)
    places = {name: index for index, name in enumerate(names_of(nodes)) if name is not None}
    for name, node in zip(names_of(after.nodes), after.nodes, strict=True):
        if name is not None and name in places:
            nodes[places[name]] = node
        else:
            nodes.append(node)
    return Items(after.origin, tuple(nodes))

"""What stands in a configuration and what should: the two halves of an error, `is …; write …`."""

from msgspec import inspect

from novel_agent.config.kinds import KINDS
from novel_agent.config.outline import Form, item_type, struct_in, unwrap
from novel_agent.config.tree import Branch, Items, Node, Scalar
from novel_agent.config.wording import quoted
from novel_agent.config.yaml_writer import write_value


def written(node: Node) -> str:
    """What stands there."""
    if isinstance(node, Branch):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    if node.is_null:
        return "empty"
    if node.style == "plain" and node.boolean is not None:
        return f"the boolean {node.text}"
    if node.style == "plain" and node.looks_numeric:
        return f"the number {node.text}"
    return f"the text {quoted(node.text)}"


def right(form: Form) -> str:
    """What would be right there."""
    kind = form.type
    if isinstance(kind, inspect.LiteralType):
        return f"write one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.UnionType) and (words := _words_or_options(kind)):
        return f"write {words} or a mapping of its options"
    if form.kind == "named":
        return "write a list, each item beginning with - name:"
    if item_type(kind) is not None:
        return "write a list"
    example = f" such as {write_value(form, form.examples[0])}" if form.examples else ""
    if form.kind in KINDS:
        return f"write {form.text.wanted}{example}"
    return f"write {_WANTED[type(kind)]}{example}"


_WANTED: dict[type, str] = {
    inspect.StructType: "a mapping, its options one a line below it",
    inspect.DictType: "a mapping of names to values",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole decimal number",
    inspect.FloatType: "a decimal number",
    inspect.StrType: "a text",
    inspect.UnionType: "one of the forms in the reference",
}


def _words_or_options(kind: inspect.UnionType) -> str:
    """The words that may stand in place of options; empty for another union."""
    if struct_in(kind) is None:
        return ""
    words = ["on, off" for each in kind.types if isinstance(each, inspect.BoolType)]
    words += [str(value) for each in kind.types if isinstance(each, inspect.LiteralType) for value in each.values]
    return ", ".join(words)


def expected(form: Form, node: Node) -> str:
    """Both halves, for a value of the wrong type."""
    if isinstance(node, Scalar) and not node.is_null and _holds_secrets(form):
        return f"is a single value; {right(form)}"
    if isinstance(node, Scalar) and node.boolean is None and form.kind != "named" and item_type(form.type) is not None:
        return f"is {written(node)}; write a list: [{node.text}]"
    return f"is {written(node)}; {right(form)}"


def _holds_secrets(form: Form) -> bool:
    inner = form.type.value_type if isinstance(form.type, inspect.DictType) else item_type(form.type)
    return form.is_secret or (inner is not None and unwrap(inner).is_secret)

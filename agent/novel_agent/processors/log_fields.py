"""What steps ask of a record: an attribute by its name, also within others, and its severity by name."""

from typing import Literal

from novel_agent.model.value import Attributes, Value, as_text

Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("trace", "debug", "info", "warn", "error", "fatal")
UID = "log.record.uid"

_RANGE = 4


def find(attributes: Attributes, name: str) -> Value:
    """The attribute of this name; None where there is none, or one without a value.

    `a.b.c` is what is called so, or else `c` within `a.b`, or else `b.c` or `b` and then `c` within `a`: the longest beginning
    that holds attributes of its own comes first. Lists are not looked into.
    """
    found = attributes.get(name)
    if found is not None:
        return found
    dot = name.rfind(".")
    while dot > 0:
        inner = attributes.get(name[:dot])
        if isinstance(inner, dict):
            found = find(inner, name[dot + 1 :])
            if found is not None:
                return found
        dot = name.rfind(".", 0, dot)
    return None


def text_of(value: Value) -> str:
    """As it is matched and told apart."""
    return value if isinstance(value, str) else as_text(value)


def lowest(severity: Severity) -> int:
    """The first of the four numbers of a severity (OpenTelemetry, logs/data-model.md: SeverityNumber)."""
    return SEVERITIES.index(severity) * _RANGE + 1


def highest(severity: Severity) -> int:
    """The last of them."""
    return lowest(severity) + _RANGE - 1


def severity_name(number: int) -> Severity | None:
    """The severity whose range holds the number; None of what is unspecified or beyond."""
    return SEVERITIES[(number - 1) // _RANGE] if 1 <= number <= len(SEVERITIES) * _RANGE else None

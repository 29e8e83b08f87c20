"""The labels of what arrives over OTLP: those of its resource and its scope, and of attributes beside them."""

from collections.abc import Container
from hashlib import blake2b

from novel_agent.model.metric import Label
from novel_agent.model.value import Attributes, Origin, Value, as_text
from novel_agent.wire.prometheus_names import labels

MOST_LABELS = 64
"""Of one point; a target_info or a scope has no more either."""

_LONGEST_VALUE = 256
_LONGEST_KEY = 256
_PUNCTUATION_BYTES = 4
_INSTANCE, _NAME, _NAMESPACE = "service.instance.id", "service.name", "service.namespace"

Labels = tuple[Label, ...]


def source_labels(resource: Attributes) -> Labels:
    """`job` and `instance`, where the resource says them."""
    name, space = _text(resource.get(_NAME)), _text(resource.get(_NAMESPACE))
    job = f"{space}/{name}" if space and name else name
    pairs = (("job", job), ("instance", _text(resource.get(_INSTANCE))))
    return tuple((label, _bounded(value)) for label, value in pairs if value)


def info_labels(resource: Attributes, source: Labels) -> Labels:
    """Of `target_info`; none where it has nothing to add or nobody to add it to."""
    others = {key: value for key, value in resource.items() if key not in {_INSTANCE, _NAME, _NAMESPACE}}
    if not others or not source or not is_bounded(others):
        return ()
    return (*named_labels(others, dict(source)), *source)


def scope_labels(origin: Origin) -> Labels:
    """Name, version and attributes of the scope; a scope with too many attributes has none."""
    attributes = origin.scope_attributes if is_bounded(origin.scope_attributes) else {}
    found = {f"otel_scope_{label}": value for label, value in labels(_pairs(attributes)).items()}
    found |= {"otel_scope_name": _bounded(origin.scope), "otel_scope_version": _bounded(origin.scope_version)}
    return tuple((label, value) for label, value in found.items() if value)


def is_bounded(attributes: Attributes) -> bool:
    """Whether there are not too many, and none of them has too long a name."""
    return len(attributes) <= MOST_LABELS and max(map(len, attributes), default=0) <= _LONGEST_KEY


def named_labels(attributes: Attributes, taken: Container[str]) -> Labels:
    """Labels of attributes beside those that are taken; an empty value is none."""
    found: dict[str, str] = {}
    for label, value in labels(_pairs(attributes)).items():
        if value:
            while label in taken or label in found:
                label = f"exported_{label}"
            found[label] = value
    return tuple(found.items())


def text_bytes(*texts: str) -> int:
    """What texts take, at the most: one byte a character, or four."""
    return sum(len(text) if text.isascii() else 4 * len(text) for text in texts)


def labels_bytes(labels: Labels) -> int:
    """What labels take in a line of `/metrics`."""
    return sum(len(name) + text_bytes(value) + _PUNCTUATION_BYTES for name, value in labels)


def _pairs(attributes: Attributes) -> list[Label]:
    return [(key, _bounded(value if isinstance(value, str) else as_text(value))) for key, value in attributes.items()]


def _text(value: Value) -> str:
    return value if isinstance(value, str) else as_text(value)


def _bounded(text: str) -> str:
    """Long text cut, with a digest in its place, so that what differs stays different."""
    if len(text) <= _LONGEST_VALUE:
        return text
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{text[: _LONGEST_VALUE - 17]}…{digest}"

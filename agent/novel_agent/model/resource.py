"""Who telemetry is about."""

from collections.abc import Iterable, Mapping

import msgspec

from novel_agent.model.metric import Label


class Resource(msgspec.Struct, frozen=True):
    """The attributes of one resource, in order, each key once.

    Values are text; the encoders know which attributes the conventions declare as integers.
    """

    attributes: tuple[Label, ...] = ()

    @classmethod
    def merged(cls, *layers: Mapping[str, str] | Iterable[Label]) -> "Resource":
        """The attributes of all layers; a later layer's value wins, the place of the first mention stays.

        An empty value removes the attribute.
        """
        attributes: dict[str, str] = {}
        for layer in layers:
            attributes.update(layer)
        return cls(tuple((key, value) for key, value in attributes.items() if value))

    def __getitem__(self, key: str) -> str:
        return dict(self.attributes)[key]

"""Readings whose series are only known when the files have been read: devices that come and go, names the kernel chooses."""

from collections.abc import Iterable, Sequence

from novel_agent.model.metric import Block, Family, Number, Series, ShapeMemo


class Samples:
    """Numbers by family and label values; families stand in the order in which they first came."""

    __slots__ = ("_labels", "_numbers")

    def __init__(self) -> None:
        self._labels: dict[Family, list[tuple[str, ...]]] = {}
        self._numbers: dict[Family, list[Number]] = {}

    def add(self, family: Family, number: Number, *label_values: str) -> None:
        """One more series, its label values in the order of the family's `labels`, of which the last may be left out."""
        if family not in self._labels:
            self._labels[family] = []
            self._numbers[family] = []
        self._labels[family].append(label_values)
        self._numbers[family].append(number)

    def blocks(self, shapes: ShapeMemo, slot: str) -> list[Block]:
        """Everything as one block; none if nothing was added."""
        if not self._labels:
            return []
        key = tuple([(family, tuple(rows)) for family, rows in self._labels.items()])
        shape = shapes.get(slot, key, lambda: _series(key))
        return [Block(shape, [number for numbers in self._numbers.values() for number in numbers])]


def _series(key: tuple[tuple[Family, tuple[tuple[str, ...], ...]], ...]) -> list[Series]:
    return [Series(family, tuple(zip(family.labels, values, strict=False))) for family, rows in key for values in rows]


def table(families: Sequence[Family], rows: Iterable[tuple[str, ...]]) -> list[Series]:
    """For each family one series a row of label values; the families have the same label names, and share the labels."""
    names = families[0].labels
    labels = [tuple(zip(names, row, strict=True)) for row in rows]
    return [Series(family, pairs) for family in families for pairs in labels]

"""What a metric is called, which series it has, and one reading of them.

A reading is split in two. A `Shape` says which series there are, in order; it is built rarely, when a disk or an interface
comes or goes. A `Block` is a shape and one number for each of its series; it is built at every sampling. Encoders compile
a shape once (`Shape.compiled`) and only fill numbers in after that, which is where the speed comes from.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

Kind = Literal["counter", "gauge", "untyped", "histogram", "summary", "updowncounter"]
"""`counter` is monotonic and cumulative. `updowncounter` is OpenTelemetry's non-monotonic sum, a gauge for Prometheus."""

Label = tuple[str, str]
Number = int | float


class Family(msgspec.Struct, frozen=True, eq=False):
    """The declaration of one metric, standing next to the code that fills it. Compared by identity.

    `name` is the full exposition name (`node_cpu_seconds_total`) or the OpenTelemetry name (`system.cpu.time`).
    `labels` are the names a series may carry, in order; `unit` is UCUM (`s`, `By`, `1`) and stated for OpenTelemetry only.
    """

    name: str
    help: str
    kind: Kind = "gauge"
    labels: tuple[str, ...] = ()
    unit: str = ""

    def series(self, *values: str, suffix: str = "") -> "Series":
        """The series with these label values, in the order of `labels`."""
        return Series(self, tuple(zip(self.labels, values, strict=True)), suffix)


class FamilyPattern(msgspec.Struct, frozen=True, eq=False):
    """A declaration for families whose names the kernel chooses (`node_memory_*_bytes`): `name` is a regular expression."""

    name: str
    help: str
    kind: Kind = "untyped"
    labels: tuple[str, ...] = ()
    unit: str = ""


Declaration = Family | FamilyPattern


class Series(NamedTuple):
    """One series: its family, its labels in exposition order, and a sample suffix (`_bucket`, `_sum`, `_count`) or ''."""

    family: Family
    labels: tuple[Label, ...] = ()
    suffix: str = ""


class Shape:
    """The series of a block, in order; series of one family stand together.

    `compiled` belongs to the encoders: each keeps what it made of the shape under its own name.
    """

    __slots__ = ("compiled", "series")

    def __init__(self, series: Iterable[Series]) -> None:
        self.series = tuple(series)
        self.compiled: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.series)


class Block(NamedTuple):
    """One reading: as many numbers as the shape has series, in its order."""

    shape: Shape
    values: Sequence[Number]


class Exemplar(NamedTuple):
    """One measurement behind a counter or a bucket, as OpenMetrics shows it; seconds since the epoch, 0 where unknown."""

    labels: tuple[Label, ...]
    value: Number
    time_seconds: float = 0.0


class BlockWithExemplars(Block):
    """A block of which some series, by their index, have an exemplar; to formats without exemplars it is just a block."""

    exemplars: Mapping[int, Exemplar]

    @classmethod
    def of(cls, shape: Shape, values: Sequence[Number], exemplars: Mapping[int, Exemplar]) -> Block:
        """A plain block where there are none."""
        if not exemplars:
            return Block(shape, values)
        block = cls(shape, values)
        block.exemplars = exemplars
        return block


class ShapeMemo:
    """Keeps one shape a slot for as long as the key stays equal."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Hashable, Shape]] = {}

    def get(self, slot: str, key: Hashable, build: Callable[[], Iterable[Series]]) -> Shape:
        """The shape built for `key`; `build` runs only when the key differs from the slot's last one."""
        kept = self._kept.get(slot)
        if kept is not None and kept[0] == key:
            return kept[1]
        shape = Shape(build())
        self._kept[slot] = (key, shape)
        return shape

"""What the collectors of hardware share: devices in a directory of sysfs, whose attributes hold one number each.

Which attributes there are is found once, and again when a device comes, goes or answers otherwise than before; a reading
then only reads those that exist. A value that is not a number costs its own series, not the device's others.
"""

import os
import re
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar, NamedTuple

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import Kernel, KernelFile
from novel_agent.model.metric import Block, Number, Series

_LONGEST_NUMBER = 32
_UNDECODABLE = re.compile("[\udc80-\udcff]+")

Row = tuple[Series, int, float]
"""A series, the index of its number among those read, and what the number is divided by."""

Fact = tuple[Series, Number]


class Attribute(NamedTuple):
    """An attribute, the series that shows it, and what its number is divided by there; the same for OpenTelemetry."""

    path: str
    series: Series
    divisor: float = 1
    otel: Series | None = None
    otel_divisor: float = 1


class Plan:
    """What to read, each attribute once, and how it is shown, the series of one family together."""

    __slots__ = ("otel", "paths", "prometheus", "texts")

    def __init__(self, attributes: Iterable[Attribute], texts: Iterable[str]) -> None:
        indexes: dict[str, int] = {}
        self.prometheus: list[Row] = []
        self.otel: list[Row] = []
        for path, series, divisor, otel, otel_divisor in attributes:
            index = indexes.setdefault(path, len(indexes))
            self.prometheus.append((series, index, divisor))
            if otel is not None:
                self.otel.append((otel, index, otel_divisor))
        self.prometheus.sort(key=_family_name)
        self.otel.sort(key=_family_name)
        self.paths = list(indexes)
        self.texts = list(texts)


def _family_name(row: Row) -> str:
    return row[0].family.name


class DeviceReading(NamedTuple):
    """A number for each path of the plan, None where it could not be read, and what was made of the texts."""

    plan: Plan
    numbers: list[Number | None]
    unread: tuple[int, ...]
    facts: tuple[Fact, ...]


class DeviceCollector(HostCollector[DeviceReading]):
    """A collector of the devices in one directory of sysfs."""

    directory: ClassVar[str]
    """Below /sys. It lists the devices; where it is missing the host has none."""

    _known: Hashable = None
    _plan: Plan
    _unread: tuple[int, ...] = ()
    _texts: list[bytes | None] | None = None
    _facts: tuple[Fact, ...] = ()

    def names(self) -> Sequence[str]:
        """The devices there are; `NoData` where there is no such directory."""
        names = self.kernel.sys_entries(self.directory)
        if not names and not os.path.isdir(f"{self.kernel.sys}/{self.directory}"):
            raise NoData(f"no {self.directory} in sysfs")
        return names

    def settings(self) -> Hashable:
        """What else decides which series there are, beside the names of the devices."""
        return None

    @abstractmethod
    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        """The numeric attributes that these devices have."""

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        """The attributes of these devices that become labels and may change while the device is there."""
        return ()

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        """The series that those texts make, of one family together; called again only when a text changed."""
        return ()

    def read(self) -> DeviceReading:
        names = self.names()
        known = (tuple(names), self.settings())
        changed = known != self._known
        if changed:
            found = [attribute for attribute in self.discover(names) if readable(self.kernel, attribute.path)]
            self._plan = Plan(found, self.texts(names))
            self._known, self._texts = known, None
        attribute = self.kernel.attribute
        numbers = [number(attribute(path)) for path in self._plan.paths]
        unread = tuple([index for index, value in enumerate(numbers) if value is None]) if None in numbers else ()
        if unread != self._unread and not changed:
            self._known = None
        self._unread = unread
        texts = [attribute(path) for path in self._plan.texts]
        if texts != self._texts:
            self._facts = tuple(self.facts(names, dict(zip(self._plan.texts, texts, strict=True))))
            self._texts = texts
        return DeviceReading(self._plan, numbers, unread, self._facts)

    def families(self, reading: DeviceReading) -> Sequence[Block]:
        blocks = self._numbers("prometheus", reading.plan.prometheus, reading)
        if facts := reading.facts:
            shape = self.shapes.get("facts", facts, lambda: [series for series, _ in facts])
            blocks.append(Block(shape, [value for _, value in facts]))
        return blocks

    def telemetry(self, reading: DeviceReading) -> Sequence[Block]:
        return self._numbers("otel", reading.plan.otel, reading)

    def _numbers(self, slot: str, rows: list[Row], reading: DeviceReading) -> list[Block]:
        plan, numbers, unread, _ = reading
        if not rows:
            return []
        shape = self.shapes.get(
            slot, (plan, unread), lambda: [series for series, index, _ in rows if numbers[index] is not None]
        )
        values = [
            value if divisor == 1 else value / divisor
            for _, index, divisor in rows
            if (value := numbers[index]) is not None
        ]
        return [Block(shape, values)]


def readable(kernel: Kernel, path: str) -> bool:
    """Whether this process may open the attribute; some are root's. What drivers answer then is another matter."""
    try:
        os.close(os.open(f"{kernel.sys}/{path}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def number(data: bytes | None) -> Number | None:
    """A decimal number as sysfs writes one; None for anything else."""
    if not data or len(data) > _LONGEST_NUMBER:
        return None
    try:
        return int(data)
    except ValueError:
        pass
    try:
        return float(data)
    except ValueError:
        return None


def text(data: bytes | None) -> str:
    """A label value; what is not UTF-8 (firmware writes anything) becomes one U+FFFD a run. '' for None."""
    if data is None:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _UNDECODABLE.sub("\ufffd", data.decode(errors="surrogateescape"))


def read_once(kernel: Kernel, path: str, strip: bytes | None = None) -> bytes | None:
    """An attribute that does not change while its device is there; no handle stays open. None where it is missing.

    `strip` are the characters taken off both ends, white space if None.
    """
    file = KernelFile(f"{kernel.sys}/{path}", one_read=True)
    try:
        return file.read().strip(strip)
    except OSError:
        return None
    finally:
        file.close()

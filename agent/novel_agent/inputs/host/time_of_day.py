"""The system's clock, its time zone and its clock sources (/sys/devices/system/clocksource)."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family, Series

_CLOCK_SOURCES = "devices/system/clocksource"

SECONDS = Family("node_time_seconds", "System time in seconds since epoch (1970).")
ZONE_OFFSET = Family("node_time_zone_offset_seconds", "System time zone offset in seconds.", "gauge", ("time_zone",))
AVAILABLE = Family(
    "node_time_clocksource_available_info",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
    "gauge",
    ("device", "clocksource"),
)
CURRENT = Family(
    "node_time_clocksource_current_info",
    "Current clocksource read from '/sys/devices/system/clocksource'.",
    "gauge",
    ("device", "clocksource"),
)


class ClockSource(NamedTuple):
    """What one device offers, separated by blanks as the kernel writes it, and what it uses."""

    available: str
    current: str


class Reading(NamedTuple):
    """Seconds since the epoch; the zone is that of this process, as for any other program of the host."""

    seconds: float
    zone: str
    zone_offset_seconds: int
    sources: tuple[ClockSource, ...]


class TimeOfDay(HostCollector[Reading]):
    """What time the system thinks it is."""

    name = "time"
    summary = "the system's clock, time zone and clock source"
    prometheus = (SECONDS, ZONE_OFFSET, AVAILABLE, CURRENT)

    def setup(self, options: msgspec.Struct) -> None:
        self._devices: list[str] | None = None

    def read(self) -> Reading:
        if self._devices is None:
            names = self.kernel.sys_entries(_CLOCK_SOURCES)
            self._devices = [
                f"{_CLOCK_SOURCES}/{name}/"
                for name in names
                if name.startswith("clocksource") and name[11:12].isdigit()
            ]
        now = self.kernel.now()
        local = time.localtime(now)
        return Reading(now, local.tm_zone, local.tm_gmtoff, tuple(map(self._source, self._devices)))

    def _source(self, device: str) -> ClockSource:
        available = self.kernel.attribute(device + "available_clocksource")
        current = self.kernel.attribute(device + "current_clocksource")
        if available is None or current is None:
            raise InputError(f"{device} does not name its clock source")
        return ClockSource(available.decode(errors="replace"), current.decode(errors="replace"))

    def families(self, reading: Reading) -> Sequence[Block]:
        shape = self.shapes.get("prometheus", reading[1:], lambda: _series(reading))
        values = [reading.seconds, reading.zone_offset_seconds]
        return [Block(shape, values + [1] * (len(shape) - 2))]


def _series(reading: Reading) -> list[Series]:
    return [
        SECONDS.series(),
        ZONE_OFFSET.series(reading.zone),
        *(
            AVAILABLE.series(str(index), name)
            for index, source in enumerate(reading.sources)
            for name in source.available.split()
        ),
        *(CURRENT.series(str(index), source.current) for index, source in enumerate(reading.sources)),
    ]

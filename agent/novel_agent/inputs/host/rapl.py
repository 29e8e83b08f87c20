"""Energy used by processors and memory, from the running average power limit counters of powercap.

Source: Documentation/power/powercap/powercap.rst. The counters wrap at max_energy_range_uj (minutes to hours under load),
which reads as a counter reset. Since Linux 5.10 only root may read them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.hardware import ENERGY, labelled
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, DeviceReading, read_once, text
from novel_agent.model.metric import Family, FamilyPattern

MICROJOULES = 1_000_000
_NOT_IN_NAMES = re.compile(r"_*[^0-9A-Za-z_]+_*")

JOULES = Family("node_rapl_joules_total", "Current RAPL value in joules", "counter", ("index", "path", "rapl_zone"))


class RaplOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the zones are named."""

    enable_zone_label: Annotated[
        bool, msgspec.Meta(description="One metric, node_rapl_joules_total, with the zone's name as label rapl_zone.")
    ] = False


def split_index(name: str, used: dict[str, int]) -> tuple[str, int]:
    """The zone's name and its index: the number at the end of `package-0`, else how often the name came before."""
    base, _, suffix = name.partition("-")
    if suffix.isascii() and suffix.isdigit():
        return base, int(suffix)
    return name, used.get(name, 0)


class Rapl(DeviceCollector):
    """Joules by power zone."""

    name = "rapl"
    summary = "energy used by processor packages, cores and memory"
    optional = True
    directory = "class/powercap"
    Options = RaplOptions
    prometheus = (
        FamilyPattern(
            r"node_rapl_[0-9A-Za-z_]+_joules_total", "Current RAPL <zone> value in joules", "counter", ("index", "path")
        ),
        JOULES,
    )
    otel = (ENERGY,)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, RaplOptions)
        self._zone_label = options.enable_zone_label
        self._zones = 0

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        self._zones = 0
        used: dict[str, int] = {}
        families: dict[str, Family] = {}
        for directory in names:
            path = f"{self.directory}/{directory}"
            data = read_once(self.kernel, f"{path}/name")
            if data is None:
                continue
            whole = text(data)
            zone, index = split_index(whole, used)
            used[zone] = index + 1
            self._zones += 1
            where = f"{self.kernel.sys}/{path}"
            if self._zone_label:
                series = JOULES.series(str(index), where, zone)
            else:
                metric = _NOT_IN_NAMES.sub("_", zone)
                family = families.setdefault(
                    metric,
                    Family(
                        f"node_rapl_{metric}_joules_total",
                        f"Current RAPL {zone} value in joules",
                        "counter",
                        ("index", "path"),
                    ),
                )
                series = family.series(str(index), where)
            kind = "memory" if zone == "dram" else "cpu"
            energy = labelled(ENERGY, hw_id=directory, hw_type=kind, hw_name=whole)
            yield Attribute(f"{path}/energy_uj", series, MICROJOULES, energy, MICROJOULES)

    def read(self) -> DeviceReading:
        reading = super().read()
        if self._zones and len(reading.unread) == len(reading.numbers):
            raise NoData("the energy counters may be read by root only")
        return reading

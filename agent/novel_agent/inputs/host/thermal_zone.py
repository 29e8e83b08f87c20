"""Thermal zones and cooling devices (Documentation/ABI/testing/sysfs-class-thermal)."""

from collections.abc import Iterable, Sequence

from novel_agent.inputs.host.hardware import TEMPERATURE, labelled
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, read_once, text
from novel_agent.model.metric import Family

TEMP = Family("node_thermal_zone_temp", "Zone temperature in Celsius", "gauge", ("zone", "type"))
CUR_STATE = Family(
    "node_cooling_device_cur_state", "Current throttle state of the cooling device", "gauge", ("name", "type")
)
MAX_STATE = Family(
    "node_cooling_device_max_state", "Maximum throttle state of the cooling device", "gauge", ("name", "type")
)


class ThermalZones(DeviceCollector):
    """How hot the zones are and how hard they are cooled.

    A zone whose sensor is off has no series (its driver answers ENODATA); node_exporter shows 0 °C for it.
    """

    name = "thermal_zone"
    summary = "temperature of thermal zones, state of cooling devices"
    optional = True
    directory = "class/thermal"
    prometheus = (TEMP, CUR_STATE, MAX_STATE)
    otel = (TEMPERATURE,)

    def names(self) -> Sequence[str]:
        """The zones and devices; a kernel without the subsystem has none, which is no lack of data to node_exporter."""
        return self.kernel.sys_entries(self.directory)

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        for name in names:
            path = f"{self.directory}/{name}"
            kind = read_once(self.kernel, f"{path}/type")
            if kind is None:
                continue
            label = text(kind)
            if (zone := name.removeprefix("thermal_zone")) != name:
                series = labelled(TEMPERATURE, hw_id=name, hw_name=label)
                yield Attribute(f"{path}/temp", TEMP.series(zone, label), 1000, series, 1000)
            elif (device := name.removeprefix("cooling_device")) != name:
                yield Attribute(f"{path}/cur_state", CUR_STATE.series(device, label))
                yield Attribute(f"{path}/max_state", MAX_STATE.series(device, label))

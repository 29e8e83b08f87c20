"""Batteries, chargers and mains (Documentation/ABI/testing/sysfs-class-power, Documentation/power/power_supply_class.rst).

sysfs counts in µV, µA, µW, µWh, µAh and tenths of a degree Celsius.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from novel_agent.config.schema import Regex
from novel_agent.inputs.host.hardware import (
    BATTERY_CHARGE,
    BATTERY_CHARGE_LIMIT,
    BATTERY_TIME_LEFT,
    POWER,
    TEMPERATURE,
    VOLTAGE,
    labelled,
)
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, read_once, text
from novel_agent.model.metric import Family, Series

_MICRO = 1_000_000
_PERCENT = 100


def _family(name: str) -> Family:
    return Family(
        f"node_power_supply_{name}",
        f"{name} value of /sys/class/power_supply/<power_supply>.",
        "gauge",
        ("power_supply",),
    )


_PLAIN = {name: name for name in ("authentic", "calibrate", "capacity", "capacity_alert_max", "capacity_alert_min")} | {
    "cycle_count": "cyclecount",
    "online": "online",
    "present": "present",
    "time_to_empty_now": "time_to_empty_seconds",
    "time_to_full_now": "time_to_full_seconds",
}
_MILLIONTHS = {
    name: name
    for name in (
        "charge_control_limit",
        "charge_control_limit_max",
        "charge_counter",
        "charge_empty",
        "charge_empty_design",
        "charge_full",
        "charge_full_design",
        "charge_term_current",
        "constant_charge_current",
        "constant_charge_current_max",
        "constant_charge_voltage",
        "constant_charge_voltage_max",
        "current_boot",
        "current_max",
        "energy_empty",
        "energy_empty_design",
        "energy_full",
        "energy_full_design",
        "input_current_limit",
        "precharge_current",
        "voltage_boot",
        "voltage_max",
        "voltage_max_design",
        "voltage_min",
        "voltage_min_design",
        "voltage_ocv",
    )
} | {
    "charge_now": "charge_ampere",
    "current_now": "current_ampere",
    "energy_now": "energy_watthour",
    "power_now": "power_watt",
    "voltage_now": "voltage_volt",
}
_TENTHS = {
    name: f"{name}_celsius"
    for name in (
        "temp",
        "temp_alert_max",
        "temp_alert_min",
        "temp_ambient",
        "temp_ambient_max",
        "temp_ambient_min",
        "temp_max",
        "temp_min",
    )
}
NUMBERS: dict[str, tuple[Family, int]] = {
    file: (_family(name), divisor)
    for names, divisor in ((_PLAIN, 1), (_MILLIONTHS, _MICRO), (_TENTHS, 10))
    for file, name in names.items()
}
_TEXTS = (
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
)
INFO = Family(
    "node_power_supply_info",
    "info of /sys/class/power_supply/<power_supply>.",
    "gauge",
    tuple(sorted((*_TEXTS, "power_supply"))),
)


class PowerSupplyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which power supplies are left out."""

    ignored_supplies: Annotated[
        Regex, msgspec.Meta(description="Power supplies whose name this matches are left out.")
    ] = "^$"


class PowerSupplies(DeviceCollector):
    """Charge, voltage, current and health of what feeds the machine."""

    name = "powersupplyclass"
    summary = "charge, voltage, current and state of batteries and power supplies"
    optional = True
    directory = "class/power_supply"
    Options = PowerSupplyOptions
    prometheus = (*(family for family, _ in NUMBERS.values()), INFO)
    otel = (BATTERY_CHARGE, BATTERY_CHARGE_LIMIT, BATTERY_TIME_LEFT, POWER, TEMPERATURE, VOLTAGE)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, PowerSupplyOptions)
        self._ignored = re.compile(options.ignored_supplies)

    def names(self) -> Sequence[str]:
        return [name for name in super().names() if not self._ignored.search(name)]

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        for name in names:
            path = f"{self.directory}/{name}"
            shown = self._otel(name, path)
            for file in self.kernel.sys_entries(path):
                if file in NUMBERS:
                    family, divisor = NUMBERS[file]
                    otel, otel_divisor = shown.get(file, (None, 1))
                    yield Attribute(f"{path}/{file}", family.series(name), divisor, otel, otel_divisor)

    def _otel(self, name: str, path: str) -> dict[str, tuple[Series, int]]:
        def once(file: str) -> str:
            return text(read_once(self.kernel, f"{path}/{file}"))

        kind = "battery" if (battery := once("type") == "Battery") else "power_supply"
        shown = {
            "power_now": (labelled(POWER, hw_id=name, hw_type=kind, hw_name=name), _MICRO),
            "temp": (labelled(TEMPERATURE, hw_id=f"{name}/temp", hw_name=name, hw_parent=name), 10),
            "voltage_now": (labelled(VOLTAGE, hw_id=f"{name}/voltage", hw_name=name, hw_parent=name), _MICRO),
        }
        if battery:
            labels = {
                "hw_id": name,
                "hw_name": name,
                "hw_model": once("model_name"),
                "hw_vendor": once("manufacturer"),
                "hw_battery_chemistry": once("technology"),
            }
            limit = labelled(BATTERY_CHARGE_LIMIT, **labels, hw_limit_type="critical")
            empty = labelled(BATTERY_TIME_LEFT, **labels, hw_battery_state="discharging")
            full = labelled(BATTERY_TIME_LEFT, **labels, hw_battery_state="charging")
            shown |= {
                "capacity": (labelled(BATTERY_CHARGE, **labels), _PERCENT),
                "capacity_alert_min": (limit, _PERCENT),
                "time_to_empty_now": (empty, 1),
                "time_to_full_now": (full, 1),
            }
        return shown

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        for name in names:
            present = self.kernel.sys_entries(f"{self.directory}/{name}")
            yield from (f"{self.directory}/{name}/{file}" for file in _TEXTS if file in present)

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        for name in names:
            values = {file: text(texts.get(f"{self.directory}/{name}/{file}")) for file in _TEXTS}
            yield labelled(INFO, power_supply=name, **values), 1

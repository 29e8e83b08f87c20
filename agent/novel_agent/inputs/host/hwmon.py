"""Temperatures, fans, voltages and power from hardware monitoring chips (Documentation/hwmon/sysfs-interface.rst).

Attributes are files named TYPE NUMBER _ ELEMENT (`temp1_crit`), in thousandths or millionths of the unit. Drivers choose
freely which they offer, so metric names are composed as node_exporter composes them.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec

from novel_agent.config.schema import Regex
from novel_agent.inputs.host.hardware import (
    ENERGY,
    FAN_SPEED,
    FAN_SPEED_LIMIT,
    POWER,
    TEMPERATURE,
    TEMPERATURE_LIMIT,
    VOLTAGE,
    VOLTAGE_LIMIT,
    labelled,
)
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, read_once, text
from novel_agent.model.metric import Family, FamilyPattern, Kind, Series

_MILLI = 1000
_MICRO = 1_000_000
_LABELS = ("chip", "sensor")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9:_]")
_FILE = re.compile(r"([^0-9]+)([0-9]*)(?:_(.+))?")
_SENSOR_KINDS = ("in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy", "humidity", "intrusion", "freq")

CHIP_NAMES = Family(
    "node_hwmon_chip_names", "Annotation metric for human-readable chip names", "gauge", ("chip", "chip_name")
)
SENSOR_LABEL = Family(
    "node_hwmon_sensor_label", "Label for given chip and sensor", "gauge", ("chip", "sensor", "label")
)
BEEP_ENABLED = Family("node_hwmon_beep_enabled", "Hardware beep enabled", "gauge", _LABELS)
REGULATOR = Family("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", "gauge", _LABELS)
UPDATE_INTERVAL = Family("node_hwmon_update_interval_seconds", "Hardware monitor update interval", "gauge", _LABELS)
FREQUENCY = Family("node_hwmon_freq_freq_mhz", "Hardware monitor for GPU frequency in MHz", "gauge", _LABELS)
_WHOLE_CHIP: dict[str, tuple[Family, int]] = {
    "beep_enable": (BEEP_ENABLED, 1),
    "vrm": (REGULATOR, 1),
    "update_interval": (UPDATE_INTERVAL, _MILLI),
}


class Rule(NamedTuple):
    """How attributes of these kinds and elements (None: any) are shown; the first rule that fits counts."""

    kinds: tuple[str, ...] | None
    elements: tuple[str, ...] | None
    suffix: str
    help: str
    divisor: int = 1
    kind: Kind = "gauge"


RULES = (
    Rule(None, ("fault", "alarm"), "", "Hardware sensor {element} status ({kind})"),
    Rule(None, ("beep",), "_enabled", "Hardware monitor sensor has beeping enabled"),
    Rule(("in", "cpu"), None, "_volts", "Hardware monitor for voltage ({element})", _MILLI),
    Rule(("temp",), ("type",), "", "Hardware monitor {kind} element {element}"),
    Rule(("temp",), None, "_celsius", "Hardware monitor for temperature ({element})", _MILLI),
    Rule(("curr",), None, "_amps", "Hardware monitor for current ({element})", _MILLI),
    Rule(("energy",), None, "_joule_total", "Hardware monitor for joules used so far ({element})", _MICRO, "counter"),
    Rule(("power",), ("accuracy",), "", "Hardware monitor power meter accuracy, as a ratio", _MICRO),
    Rule(
        ("power",),
        ("average_interval", "average_interval_min", "average_interval_max"),
        "_seconds",
        "Hardware monitor power usage update interval ({element})",
        _MILLI,
    ),
    Rule(("power",), None, "_watt", "Hardware monitor for power usage in watts ({element})", _MICRO),
    Rule(
        ("humidity",),
        None,
        "",
        "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage) ({element})",
        _MICRO,
    ),
    Rule(
        ("fan",),
        ("input", "min", "max", "target"),
        "_rpm",
        "Hardware monitor for fan revolutions per minute ({element})",
    ),
    Rule(None, None, "", "Hardware monitor {kind} element {element}"),
)


def _pattern(rule: Rule) -> FamilyPattern:
    kinds = rule.kinds or _SENSOR_KINDS
    kind = kinds[0] if len(kinds) == 1 else f"({'|'.join(kinds)})"
    described = rule.help.format(kind="<kind>", element="<element>")
    return FamilyPattern(rf"node_hwmon_{kind}(_[a-z0-9_:]+)?{rule.suffix}", described, rule.kind, _LABELS)


_LIMITS = {"crit": "high.critical", "max": "high.degraded", "min": "low.degraded", "lcrit": "low.critical"}
_OTEL: dict[str, tuple[Family, Family | None, int]] = {
    "temp": (TEMPERATURE, TEMPERATURE_LIMIT, _MILLI),
    "in": (VOLTAGE, VOLTAGE_LIMIT, _MILLI),
    "fan": (FAN_SPEED, FAN_SPEED_LIMIT, 1),
    "power": (POWER, None, _MICRO),
    "energy": (ENERGY, None, _MICRO),
}


class HwmonOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which chips and sensors are shown."""

    include_chips: Annotated[Regex | None, msgspec.Meta(description="Only chips whose name this matches.")] = None
    exclude_chips: Annotated[Regex | None, msgspec.Meta(description="No chips whose name this matches.")] = None
    include_sensors: Annotated[
        Regex | None, msgspec.Meta(description="Only sensors whose `CHIP;SENSOR` this matches.")
    ] = None
    exclude_sensors: Annotated[
        Regex | None, msgspec.Meta(description="No sensors whose `CHIP;SENSOR` this matches.")
    ] = None


class _Filter:
    def __init__(self, include: str | None, exclude: str | None) -> None:
        self._include = re.compile(include) if include else None
        self._exclude = re.compile(exclude) if exclude else None

    def accepts(self, name: str) -> bool:
        if self._exclude is not None and self._exclude.search(name):
            return False
        return self._include is None or self._include.search(name) is not None


def clean(name: str) -> str:
    """A name as node_exporter writes it in labels and metric names."""
    return _NOT_IN_NAMES.sub("_", name.lower()).strip("_")


def split(file: str) -> tuple[str, str, str] | None:
    """Kind, sensor and element of an attribute's file name (`temp1_crit`: temp, temp1, crit); None for other files."""
    match = _FILE.fullmatch(file)
    if match is None or (match[1] not in _SENSOR_KINDS and match[1] not in _WHOLE_CHIP):
        return None
    return match[1], f"{match[1]}{int(match[2] or 0)}", match[3] or ""


class HardwareMonitor(DeviceCollector):
    """Sensors by chip. A chip is named by its place on a bus, since the kernel numbers them in the order of discovery."""

    name = "hwmon"
    summary = "temperatures, fan speeds, voltages, currents and power of monitoring chips"
    optional = True
    directory = "class/hwmon"
    Options = HwmonOptions
    prometheus = (
        CHIP_NAMES,
        SENSOR_LABEL,
        BEEP_ENABLED,
        REGULATOR,
        UPDATE_INTERVAL,
        FREQUENCY,
        *(_pattern(rule) for rule in RULES),
    )
    otel = (
        TEMPERATURE,
        TEMPERATURE_LIMIT,
        VOLTAGE,
        VOLTAGE_LIMIT,
        FAN_SPEED,
        FAN_SPEED_LIMIT,
        POWER,
        ENERGY,
    )

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, HwmonOptions)
        self._chips = _Filter(options.include_chips, options.exclude_chips)
        self._sensors = _Filter(options.include_sensors, options.exclude_sensors)
        self._constant: list[Fact] = []

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        chip_names: list[Fact] = []
        labels: list[Fact] = []
        families: dict[str, Family] = {}
        seen: set[Series] = set()
        found: list[Attribute] = []
        for chip, path in self._named(names):
            if not self._chips.accepts(chip):
                continue
            if readable := clean(text(read_once(self.kernel, f"{path}/name"))):
                chip_names.append((CHIP_NAMES.series(chip, readable), 1))
            for sensor, (kind, elements) in self._elements(path).items():
                if not self._sensors.accepts(f"{chip};{sensor}"):
                    continue
                label = self._label(elements.pop("label", None))
                if label is not None:
                    labels.append((SENSOR_LABEL.series(chip, sensor, label), 1))
                for attribute in _attributes(chip, sensor, kind, elements, label, families):
                    if attribute.series not in seen:
                        seen.add(attribute.series)
                        found.append(attribute)
        self._constant = [*chip_names, *labels]
        return found

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        return self._constant

    def _label(self, path: str | None) -> str | None:
        data = None if path is None else read_once(self.kernel, path, b"\n")
        return None if data is None else text(data)

    def _named(self, entries: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Each chip's unique name and its directory."""
        chips = []
        for entry in entries:
            path = f"{self.directory}/{entry}"
            if os.path.isdir(f"{self.kernel.sys}/{path}"):
                own = text(read_once(self.kernel, f"{path}/name"))
                chips.append((self._bus_name(path) or clean(own) or clean(entry), own, path))
        bases = Counter(base for base, _, _ in chips)
        pairs = Counter((base, own) for base, own, _ in chips)
        for base, own, path in chips:
            suffix = clean(own)
            if not suffix or pairs[base, own] > 1:
                suffix = clean(path.rpartition("/")[2])
            yield (base if bases[base] == 1 else f"{base}_{suffix}"), path

    def _bus_name(self, path: str) -> str:
        try:
            device = os.path.realpath(f"{self.kernel.sys}/{path}/device", strict=True)
        except OSError:
            return ""
        *_, bus, name = device.split("/")
        return "_".join(filter(None, (clean(bus), clean(name)))) if clean(name) else ""

    def _elements(self, path: str) -> dict[str, tuple[str, dict[str, str]]]:
        """By sensor its kind and the path of each of its elements; older drivers have them beside the chip's own."""
        sensors: dict[str, tuple[str, dict[str, str]]] = {}
        for directory in (path, f"{path}/device"):
            for file in self.kernel.sys_entries(directory):
                if (parts := split(file)) is not None and os.path.isfile(f"{self.kernel.sys}/{directory}/{file}"):
                    kind, sensor, element = parts
                    sensors.setdefault(sensor, (kind, {}))[1][element] = f"{directory}/{file}"
        return sensors


def _attributes(
    chip: str, sensor: str, kind: str, elements: dict[str, str], label: str | None, families: dict[str, Family]
) -> Iterator[Attribute]:
    if kind in _WHOLE_CHIP:
        if "" in elements:
            family, divisor = _WHOLE_CHIP[kind]
            yield Attribute(elements[""], family.series(chip, sensor), divisor)
        return
    for element, path in elements.items():
        if kind == "freq" and element == "input":
            if label is not None:
                yield Attribute(path, FREQUENCY.series(chip, clean(label)), _MICRO)
            continue
        family, divisor = _family(kind, element, "" in elements, families)
        otel, otel_divisor = _otel(chip, sensor, kind, element, label or "", elements)
        yield Attribute(path, family.series(chip, sensor), divisor, otel, otel_divisor)


def _family(kind: str, element: str, bare: bool, families: dict[str, Family]) -> tuple[Family, int]:
    name = f"node_hwmon_{kind}"
    if element == "input":
        name += "_input" if bare else ""
    elif element:
        name += f"_{clean(element)}"
    rule = next(
        rule
        for rule in RULES
        if (rule.kinds is None or kind in rule.kinds) and (rule.elements is None or element in rule.elements)
    )
    name += rule.suffix
    if name not in families:
        shown = "input" if kind == "temp" and not element else element
        families[name] = Family(name, rule.help.format(kind=kind, element=shown), rule.kind, _LABELS)
    return families[name], rule.divisor


def _otel(
    chip: str, sensor: str, kind: str, element: str, label: str, elements: dict[str, str]
) -> tuple[Series | None, int]:
    if kind not in _OTEL:
        return None, 1
    family, limit, divisor = _OTEL[kind]
    labels = {
        "hw_id": f"{chip}/{sensor}",
        "hw_name": label or sensor,
        "hw_parent": chip,
        "hw_type": "sensor",
        "hw_sensor_location": label,
    }
    if element == "input" or (kind == "power" and element == "average" and "input" not in elements):
        return labelled(family, **labels), divisor
    if limit is not None and element in _LIMITS:
        limit_type = "max" if kind == "fan" and element == "max" else _LIMITS[element]
        return labelled(limit, **labels, hw_limit_type=limit_type), divisor
    return None, 1

"""OpenTelemetry's metrics of hardware, declared once for the collectors that fill them.

Source: semantic conventions 1.44, hardware. `hw.id` is unique on the host: the device as sysfs or the driver names it,
and for a sensor of a device `DEVICE/SENSOR`. A component of a kind that the conventions do not list has `hw.type` `sensor`.
"""

from novel_agent.model.metric import Family, Series

_COMPONENT = ("hw.id", "hw.name", "hw.parent")
_SENSOR = (*_COMPONENT, "hw.sensor_location")
_TYPED = ("hw.id", "hw.type", "hw.name", "hw.parent")
_LIMIT = (*_SENSOR, "hw.limit_type")
_BATTERY = ("hw.id", "hw.name", "hw.parent", "hw.model", "hw.vendor", "hw.battery.chemistry")
_GPU = ("hw.id", "hw.name", "hw.model", "hw.vendor", "hw.serial_number", "hw.driver_version", "hw.firmware_version")
_DISK = (*_COMPONENT, "hw.model", "hw.serial_number", "hw.firmware_version", "hw.physical_disk.type")

TEMPERATURE = Family("hw.temperature", "Temperature in degrees Celsius", "gauge", _SENSOR, unit="Cel")
TEMPERATURE_LIMIT = Family("hw.temperature.limit", "Temperature limit in degrees Celsius", "gauge", _LIMIT, unit="Cel")
VOLTAGE = Family("hw.voltage", "Voltage measured by the sensor", "gauge", _SENSOR, unit="V")
VOLTAGE_LIMIT = Family("hw.voltage.limit", "Voltage limit in volts", "gauge", _LIMIT, unit="V")
FAN_SPEED = Family("hw.fan.speed", "Fan speed in revolutions per minute", "gauge", _SENSOR, unit="rpm")
FAN_SPEED_LIMIT = Family("hw.fan.speed.limit", "Fan speed limit", "gauge", _LIMIT, unit="rpm")
FAN_SPEED_RATIO = Family(
    "hw.fan.speed_ratio", "Fan speed as a fraction of its maximum speed", "gauge", _SENSOR, unit="1"
)
POWER = Family("hw.power", "Instantaneous power consumed by the component", "gauge", _TYPED, unit="W")
ENERGY = Family("hw.energy", "Energy consumed by the component", "counter", _TYPED, unit="J")
ERRORS = Family(
    "hw.errors",
    "Number of errors encountered by the component",
    "counter",
    (*_TYPED, "error.type"),
    unit="{error}",
)
STATUS = Family(
    "hw.status",
    "Operational status: 1 (true) or 0 (false) for each of the possible states",
    "updowncounter",
    (*_TYPED, "hw.state"),
    unit="1",
)
BATTERY_CHARGE = Family("hw.battery.charge", "Remaining fraction of battery charge", "gauge", _BATTERY, unit="1")
BATTERY_CHARGE_LIMIT = Family(
    "hw.battery.charge.limit",
    "Lower limit of battery charge fraction to ensure proper operation",
    "gauge",
    (*_BATTERY, "hw.limit_type"),
    unit="1",
)
BATTERY_TIME_LEFT = Family(
    "hw.battery.time_left",
    "Time left before battery is completely charged or discharged",
    "gauge",
    (*_BATTERY, "hw.battery.state"),
    unit="s",
)
DISK_SIZE = Family("hw.physical_disk.size", "Size of the disk", "updowncounter", _DISK, unit="By")
GPU_UTILIZATION = Family(
    "hw.gpu.utilization", "Fraction of time spent in a specific task", "gauge", (*_GPU, "hw.gpu.task"), unit="1"
)
GPU_MEMORY_USAGE = Family("hw.gpu.memory.usage", "GPU memory used", "updowncounter", _GPU, unit="By")
GPU_MEMORY_LIMIT = Family("hw.gpu.memory.limit", "Size of the GPU memory", "updowncounter", _GPU, unit="By")
GPU_MEMORY_UTILIZATION = Family("hw.gpu.memory.utilization", "Fraction of GPU memory used", "gauge", _GPU, unit="1")
GPU_IO = Family(
    "hw.gpu.io",
    "Received and transmitted bytes by the GPU",
    "counter",
    (*_GPU, "network.io.direction"),
    unit="By",
)


def labelled(family: Family, **values: str) -> Series:
    """The series of a family that has these labels only, `_` standing for `.` in their names; empty ones are left out."""
    return Series(
        family, tuple((name, value) for name in family.labels if (value := values.get(name.replace(".", "_"))))
    )

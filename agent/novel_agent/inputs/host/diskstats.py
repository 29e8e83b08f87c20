"""Block device I/O from /proc/diskstats, and who the devices are from udev's database and sysfs.

Sources: Documentation/admin-guide/iostats.rst, Documentation/ABI/testing/procfs-diskstats (sectors are 512 bytes whatever
the device, times are milliseconds); udevadm(8) for the database, whose files udev replaces by renaming.
"""

import os
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.sysfs import read_once, text
from novel_agent.model.metric import Block, Family, Number, Series

DEFAULT_EXCLUDED_DEVICES = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
SECTOR_BYTES = 512
_FEWEST_FIELDS = 14
_MOST_NAMES_KEPT = 4096

_DEVICE = ("device",)
INFO = Family(
    "node_disk_info",
    "Info of /sys/block/<block_device>.",
    "gauge",
    ("device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"),
)
FILESYSTEM_INFO = Family(
    "node_disk_filesystem_info",
    "Info about disk filesystem.",
    "gauge",
    ("device", "type", "usage", "uuid", "version"),
)
MAPPER_INFO = Family(
    "node_disk_device_mapper_info",
    "Info about disk device mapper.",
    "gauge",
    ("device", "name", "uuid", "vg_name", "lv_name", "lv_layer"),
)
WRITE_CACHE = Family("node_disk_ata_write_cache", "ATA disk has a write cache.", "gauge", _DEVICE)
WRITE_CACHE_ENABLED = Family(
    "node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled.", "gauge", _DEVICE
)
ROTATION_RATE = Family(
    "node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs).", "gauge", _DEVICE
)
_ATA = (
    (WRITE_CACHE, "ID_ATA_WRITE_CACHE"),
    (WRITE_CACHE_ENABLED, "ID_ATA_WRITE_CACHE_ENABLED"),
    (ROTATION_RATE, "ID_ATA_ROTATION_RATE_RPM"),
)


def _disk(name: str, help_text: str, kind: str = "counter") -> Family:
    return Family(f"node_disk_{name}", help_text, "gauge" if kind == "gauge" else "counter", _DEVICE)


READS = _disk("reads_completed_total", "The total number of reads completed successfully.")
READS_MERGED = _disk("reads_merged_total", "The total number of reads merged.")
READ_BYTES = _disk("read_bytes_total", "The total number of bytes read successfully.")
READ_SECONDS = _disk("read_time_seconds_total", "The total number of seconds spent by all reads.")
WRITES = _disk("writes_completed_total", "The total number of writes completed successfully.")
WRITES_MERGED = _disk("writes_merged_total", "The number of writes merged.")
WRITTEN_BYTES = _disk("written_bytes_total", "The total number of bytes written successfully.")
WRITE_SECONDS = _disk("write_time_seconds_total", "This is the total number of seconds spent by all writes.")
IO_NOW = _disk("io_now", "The number of I/Os currently in progress.", "gauge")
IO_SECONDS = _disk("io_time_seconds_total", "Total seconds spent doing I/Os.")
WEIGHTED_SECONDS = _disk("io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.")
DISCARDS = _disk("discards_completed_total", "The total number of discards completed successfully.")
DISCARDS_MERGED = _disk("discards_merged_total", "The total number of discards merged.")
DISCARDED_SECTORS = _disk("discarded_sectors_total", "The total number of sectors discarded successfully.")
DISCARD_SECONDS = _disk("discard_time_seconds_total", "This is the total number of seconds spent by all discards.")
FLUSHES = _disk("flush_requests_total", "The total number of flush requests completed successfully")
FLUSH_SECONDS = _disk(
    "flush_requests_time_seconds_total", "This is the total number of seconds spent by all flush requests."
)

# The columns of the file after the name, and what one unit of each is worth: sectors in bytes, milliseconds in seconds.
_COLUMNS: tuple[tuple[Family, int, int], ...] = (
    (READS, 1, 1),
    (READS_MERGED, 1, 1),
    (READ_BYTES, SECTOR_BYTES, 1),
    (READ_SECONDS, 1, 1000),
    (WRITES, 1, 1),
    (WRITES_MERGED, 1, 1),
    (WRITTEN_BYTES, SECTOR_BYTES, 1),
    (WRITE_SECONDS, 1, 1000),
    (IO_NOW, 1, 1),
    (IO_SECONDS, 1, 1000),
    (WEIGHTED_SECONDS, 1, 1000),
    (DISCARDS, 1, 1),
    (DISCARDS_MERGED, 1, 1),
    (DISCARDED_SECTORS, 1, 1),
    (DISCARD_SECONDS, 1, 1000),
    (FLUSHES, 1, 1),
    (FLUSH_SECONDS, 1, 1000),
)

_OTEL_DEVICE = ("system.device",)
_DIRECTED = ("system.device", "disk.io.direction")
IO = Family("system.disk.io", "Disk bytes transferred", "counter", _DIRECTED, unit="By")
OPERATIONS = Family("system.disk.operations", "Disk operations count", "counter", _DIRECTED, unit="{operation}")
OPERATION_TIME = Family(
    "system.disk.operation_time", "Sum of the time each operation took to complete", "counter", _DIRECTED, unit="s"
)
MERGED = Family(
    "system.disk.merged",
    "The number of disk reads/writes merged into single physical disk access operations",
    "counter",
    _DIRECTED,
    unit="{operation}",
)
IO_TIME = Family("system.disk.io_time", "Time disk spent activated", "counter", _OTEL_DEVICE, unit="s")


class Device(NamedTuple):
    """A block device by number and name."""

    major: int
    minor: int
    name: str


class DiskReading(NamedTuple):
    """The devices and their columns; a kernel before 5.5 or 4.18 has fewer of them. Then what is known about the devices."""

    devices: tuple[Device, ...]
    rows: list[tuple[int, ...]]
    facts: tuple[Series, ...]
    fact_values: list[Number]


def parse(data: bytes, wanted: Callable[[str], bool]) -> tuple[tuple[Device, ...], list[tuple[int, ...]]]:
    """The wanted devices and, for each, its columns after the name."""
    devices, rows = [], []
    for line in data.splitlines():
        fields = line.split()
        if len(fields) < _FEWEST_FIELDS:
            if not all(field.isdigit() for field in fields[:2]):
                raise ValueError("no device numbers in a line of /proc/diskstats")
            continue
        name = text(fields[2])
        if wanted(name):
            devices.append(Device(int(fields[0]), int(fields[1]), name))
            rows.append(tuple(map(int, fields[3:20])))
    return tuple(devices), rows


def parse_udev(data: bytes) -> dict[str, str]:
    """The properties in a file of udev's database (lines `E:NAME=value`)."""
    properties = {}
    for line in data.split(b"\n"):
        if line.startswith(b"E:"):
            name, separator, value = line[2:].partition(b"=")
            if separator:
                properties[text(name)] = text(value)
    return properties


class DiskStats(HostCollector[DiskReading]):
    """What the disks do."""

    class Options(Section, frozen=True, kw_only=True):
        """Which devices are shown."""

        exclude_devices: Annotated[
            Regex, Meta(description="Devices left out. The default counts for nothing where include_devices is set.")
        ] = DEFAULT_EXCLUDED_DEVICES
        include_devices: Annotated[Regex | None, Meta(description="Only these devices.")] = None

    name = "diskstats"
    summary = "operations, bytes and time of block devices; their models, serials and file systems"
    prometheus = (
        *(family for family, _, _ in _COLUMNS),
        INFO,
        FILESYSTEM_INFO,
        MAPPER_INFO,
        WRITE_CACHE,
        WRITE_CACHE_ENABLED,
        ROTATION_RATE,
    )
    otel = (IO, OPERATIONS, OPERATION_TIME, MERGED, IO_TIME)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, DiskStats.Options)
        self._file = self.kernel.proc_file("diskstats")
        self._filter = NameFilter(options.exclude_devices, options.include_devices, DEFAULT_EXCLUDED_DEVICES)
        self._known: dict[str, bool] = {}
        self._udev = f"{self.kernel.root}/run/udev/data"
        self._resolved_for: object = None
        self._facts: tuple[Series, ...] = ()
        self._fact_values: list[Number] = []

    def read(self) -> DiskReading:
        devices, rows = parse(self._file.read(), self._wanted)
        state = (devices, self._udev_changed())
        if state != self._resolved_for:
            self._facts, self._fact_values = self._resolve(devices)
            self._resolved_for = state
        return DiskReading(devices, rows, self._facts, self._fact_values)

    def _wanted(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MOST_NAMES_KEPT:
                self._known.clear()
            known = self._known[name] = self._filter(name)
        return known

    def _udev_changed(self) -> int:
        """When a file of udev's database was last replaced, in nanoseconds; 0 where there is none."""
        try:
            return os.stat(self._udev).st_mtime_ns
        except OSError:
            return 0

    def _resolve(self, devices: Sequence[Device]) -> tuple[tuple[Series, ...], list[Number]]:
        """What udev and sysfs know about the devices. It changes when a device does, or when udev looks at one again."""
        known = [(device, self._properties(device)) for device in devices]
        facts = [self._info(device, properties) for device, properties in known]
        facts += [_filesystem_info(device, udev) for device, udev in known if udev.get("ID_FS_TYPE")]
        facts += [_mapper_info(device, udev) for device, udev in known if udev.get("DM_NAME")]
        values: list[Number] = [1] * len(facts)
        for family, key in _ATA:
            for device, udev in known:
                if udev.get("ID_ATA") and (value := _number(udev.get(key))) is not None:
                    facts.append(family.series(device.name))
                    values.append(value)
        return tuple(facts), values

    def _properties(self, device: Device) -> dict[str, str]:
        try:
            with open(f"{self._udev}/b{device.major}:{device.minor}", "rb") as file:
                return parse_udev(file.read())
        except OSError:
            return {}

    def _info(self, device: Device, udev: dict[str, str]) -> Series:
        serial = udev.get("SCSI_IDENT_SERIAL") or udev.get("ID_SERIAL_SHORT") or udev.get("ID_SERIAL") or ""
        rotational = read_once(self.kernel, f"block/{device.name}/queue/rotational") == b"1"
        return INFO.series(
            device.name,
            str(device.major),
            str(device.minor),
            udev.get("ID_PATH", ""),
            udev.get("ID_WWN", ""),
            udev.get("ID_MODEL", ""),
            serial,
            udev.get("ID_REVISION", ""),
            "1" if rotational else "0",
        )

    def families(self, reading: DiskReading) -> Sequence[Block]:
        devices, rows, facts, fact_values = reading
        if not devices:
            return ()
        widths = tuple(map(len, rows))
        shape = self.shapes.get("columns", (devices, widths), lambda: _column_series(devices, widths))
        values: list[Number] = []
        for index, (_, factor, divisor) in enumerate(_COLUMNS):
            column = [row[index] for row in rows if len(row) > index]
            if divisor > 1:
                values += [number / divisor for number in column]
            elif factor > 1:
                values += [number * factor for number in column]
            else:
                values += column
        return [Block(shape, values), Block(self.shapes.get("facts", facts, lambda: facts), fact_values)]

    def telemetry(self, reading: DiskReading) -> Sequence[Block]:
        devices, rows, _, _ = reading
        if not devices:
            return ()
        shape = self.shapes.get("otel", devices, lambda: _otel_series(devices))
        values: list[Number] = []
        for row in rows:
            values += (row[2] * SECTOR_BYTES, row[6] * SECTOR_BYTES)
        for row in rows:
            values += (row[0], row[4])
        for row in rows:
            values += (row[3] / 1000, row[7] / 1000)
        for row in rows:
            values += (row[1], row[5])
        values += [row[9] / 1000 for row in rows]
        return [Block(shape, values)]


def _column_series(devices: Sequence[Device], widths: Sequence[int]) -> list[Series]:
    return [
        family.series(device.name)
        for index, (family, _, _) in enumerate(_COLUMNS)
        for device, width in zip(devices, widths, strict=True)
        if width > index
    ]


def _otel_series(devices: Sequence[Device]) -> list[Series]:
    directed = (IO, OPERATIONS, OPERATION_TIME, MERGED)
    return [
        *(
            family.series(device.name, direction)
            for family in directed
            for device in devices
            for direction in ("read", "write")
        ),
        *(IO_TIME.series(device.name) for device in devices),
    ]


def _filesystem_info(device: Device, udev: dict[str, str]) -> Series:
    keys = ("ID_FS_TYPE", "ID_FS_USAGE", "ID_FS_UUID", "ID_FS_VERSION")
    return FILESYSTEM_INFO.series(device.name, *(udev.get(key, "") for key in keys))


def _mapper_info(device: Device, udev: dict[str, str]) -> Series:
    keys = ("DM_NAME", "DM_UUID", "DM_VG_NAME", "DM_LV_NAME", "DM_LV_LAYER")
    return MAPPER_INFO.series(device.name, *(udev.get(key, "") for key in keys))


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None

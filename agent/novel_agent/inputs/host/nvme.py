"""NVMe controllers and their namespaces (drivers/nvme/host/sysfs.c, Documentation/ABI/stable/sysfs-block).

Kernels before 6.8 do not tell how much of a namespace is used; only that series is missing there.
"""

import re
from collections.abc import Hashable, Iterable, Sequence

import msgspec

from novel_agent.inputs.host.hardware import DISK_SIZE, STATUS, labelled
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, DeviceReading, Fact, read_once, text
from novel_agent.model.metric import Block, Family, Series

_NAMESPACE = re.compile(r"nvme\d+n(\d+)")
_TEXTS = ("firmware_rev", "model", "serial", "state", "cntlid")
_SECTOR_BYTES = 512
_STATES = ("ok", "degraded", "failed")
_STATE_OF = {"live": "ok", "deleting": "failed", "deleting (no IO)": "failed", "dead": "failed"}
_PLACE = ("device", "nsid")

INFO = Family(
    "node_nvme_info",
    "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
    "gauge",
    ("device", "firmware_revision", "model", "serial", "state", "cntlid"),
)
NAMESPACE_INFO = Family(
    "node_nvme_namespace_info",
    "Information about NVMe namespaces. Value is always 1",
    "gauge",
    (*_PLACE, "ana_state"),
)
CAPACITY = Family(
    "node_nvme_namespace_capacity_bytes",
    "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size",
    "gauge",
    _PLACE,
)
SIZE = Family(
    "node_nvme_namespace_size_bytes",
    "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
    "gauge",
    _PLACE,
)
USED = Family(
    "node_nvme_namespace_used_bytes",
    "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse",
    "gauge",
    _PLACE,
)
BLOCK_SIZE = Family(
    "node_nvme_namespace_logical_block_size_bytes",
    "Logical block size of the NVMe namespace in bytes. Usually 4Kb. "
    "Available in /sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
    "gauge",
    _PLACE,
)


class Nvme(DeviceCollector):
    """Which NVMe drives there are, whether they live, how large and how full they are."""

    name = "nvme"
    summary = "models, states and namespaces of NVMe drives"
    optional = True
    directory = "class/nvme"
    prometheus = (INFO, NAMESPACE_INFO, CAPACITY, SIZE, USED, BLOCK_SIZE)
    otel = (DISK_SIZE, STATUS)

    def setup(self, options: msgspec.Struct) -> None:
        self._namespaces: list[tuple[str, str, str]] = []
        self._block_sizes: list[str] = []

    def settings(self) -> Hashable:
        # Namespaces come and go without their controller, and may be formatted anew: /sys/block has them all.
        attribute = self.kernel.attribute
        disks = [name for name in self.kernel.sys_entries("block") if name.startswith("nvme")]
        return tuple(disks), tuple([attribute(path) for path in self._block_sizes])

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        self._namespaces = [
            (name, match[1], f"{self.directory}/{name}/{entry}")
            for name in names
            for entry in self.kernel.sys_entries(f"{self.directory}/{name}")
            if (match := _NAMESPACE.fullmatch(entry)) is not None
        ]
        self._block_sizes = [f"{path}/queue/logical_block_size" for _, _, path in self._namespaces]
        for (device, nsid, path), block_size in zip(self._namespaces, self._block_sizes, strict=True):
            block_bytes = self.kernel.integer(block_size)
            if not block_bytes:
                continue
            blocks = 1 / block_bytes
            present = self.kernel.sys_entries(path)
            if "size" in present:
                # The kernel counts sectors of 512 bytes here; node_exporter takes them for logical blocks.
                disk = self._disk(device, path)
                yield Attribute(f"{path}/size", CAPACITY.series(device, nsid), blocks)
                yield Attribute(f"{path}/size", SIZE.series(device, nsid), blocks, disk, 1 / _SECTOR_BYTES)
            if "nuse" in present:
                yield Attribute(f"{path}/nuse", USED.series(device, nsid), blocks)
            yield Attribute(block_size, BLOCK_SIZE.series(device, nsid))

    def _disk(self, device: str, path: str) -> Series:
        model, serial, firmware = (
            text(read_once(self.kernel, f"{self.directory}/{device}/{file}"))
            for file in ("model", "serial", "firmware_rev")
        )
        disk = path.rpartition("/")[2]
        return labelled(
            DISK_SIZE,
            hw_id=disk,
            hw_name=disk,
            hw_parent=device,
            hw_model=model,
            hw_serial_number=serial,
            hw_firmware_version=firmware,
            hw_physical_disk_type="SSD",
        )

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        for name in names:
            yield from (f"{self.directory}/{name}/{file}" for file in _TEXTS)
        yield from (f"{path}/ana_state" for _, _, path in self._namespaces if self._has_ana_state(path))

    def _has_ana_state(self, path: str) -> bool:
        return "ana_state" in self.kernel.sys_entries(path)

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        for name in names:
            yield INFO.series(name, *[text(texts[f"{self.directory}/{name}/{file}"]) for file in _TEXTS]), 1
        for device, nsid, path in self._namespaces:
            yield NAMESPACE_INFO.series(device, nsid, text(texts.get(f"{path}/ana_state")) or "unknown"), 1

    def telemetry(self, reading: DeviceReading) -> Sequence[Block]:
        states = [dict(series.labels) for series, _ in reading.facts if series.family is INFO]
        if not states:
            return ()
        devices = tuple([labels["device"] for labels in states])
        shape = self.shapes.get(
            "status",
            devices,
            lambda: [
                labelled(STATUS, hw_id=device, hw_type="physical_disk", hw_name=device, hw_state=state)
                for device in devices
                for state in _STATES
            ],
        )
        values = [int(_STATE_OF.get(labels["state"], "degraded") == state) for labels in states for state in _STATES]
        return [*super().telemetry(reading), Block(shape, values)]

"""Multipath devices of the device mapper: /sys/block/dm-* whose UUID says so (Documentation/ABI/testing/sysfs-block-dm)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family

_SECTOR_BYTES = 512
_USABLE = frozenset(("running", "live"))
"""As a SCSI and as an NVMe path calls it."""

_DEVICE = ("device", "sysfs_name")
INFO = Family(
    "node_dmmultipath_device_info",
    "Non-numeric information about a DM-multipath device.",
    "gauge",
    ("device", "sysfs_name", "uuid"),
)
ACTIVE = Family(
    "node_dmmultipath_device_active",
    "Whether the multipath device-mapper device is active (1) or suspended (0).",
    "gauge",
    _DEVICE,
)
SIZE = Family(
    "node_dmmultipath_device_size_bytes",
    "Size of the multipath device in bytes, read from /sys/block/<dm>/size.",
    "gauge",
    _DEVICE,
)
PATHS = Family("node_dmmultipath_device_paths", "Number of paths for a multipath device.", "gauge", _DEVICE)
PATHS_ACTIVE = Family(
    "node_dmmultipath_device_paths_active",
    "Number of paths in active state (SCSI running or NVMe live) for a multipath device.",
    "gauge",
    _DEVICE,
)
PATHS_FAILED = Family(
    "node_dmmultipath_device_paths_failed",
    "Number of paths not in active state for a multipath device.",
    "gauge",
    _DEVICE,
)
PATH_STATE = Family(
    "node_dmmultipath_path_state",
    "Reports the underlying device state for a multipath path, as read from /sys/block/<dev>/device/state.",
    "gauge",
    ("device", "path", "state"),
)


class Multipath(NamedTuple):
    """One device, its size in bytes, and the state of each device that leads to it."""

    name: str
    sysfs_name: str
    uuid: str
    suspended: bool
    size_bytes: int
    paths: dict[str, str]


class DmMultipath(HostCollector[list[Multipath]]):
    """Multipath devices and the state of their paths."""

    name = "dmmultipath"
    summary = "multipath devices and the state of their paths"
    prometheus = (INFO, ACTIVE, SIZE, PATHS, PATHS_ACTIVE, PATHS_FAILED, PATH_STATE)

    def read(self) -> list[Multipath]:
        names = self.kernel.sys_entries("block")
        if not names and not os.path.isdir(f"{self.kernel.sys}/block"):
            raise NoData("no block devices")
        devices = []
        for name in names:
            if name.startswith("dm-"):
                uuid = text(self.kernel.attribute(f"block/{name}/dm/uuid"))
                if uuid.startswith("mpath-"):
                    devices.append(self._device(name, uuid))
        return devices

    def _device(self, name: str, uuid: str) -> Multipath:
        return Multipath(
            text(self._attribute(f"block/{name}/dm/name")),
            name,
            uuid,
            int(self._attribute(f"block/{name}/dm/suspended")) == 1,
            int(self._attribute(f"block/{name}/size")) * _SECTOR_BYTES,
            {
                path: text(self._attribute(f"block/{path}/device/state"))
                for path in self.kernel.sys_entries(f"block/{name}/slaves")
            },
        )

    def _attribute(self, relative: str) -> bytes:
        data = self.kernel.attribute(relative)
        if data is None:
            raise InputError(f"cannot read {self.kernel.sys}/{relative}")
        return data

    def families(self, reading: list[Multipath]) -> Sequence[Block]:
        samples = Samples()
        for name, sysfs_name, uuid, suspended, size_bytes, paths in reading:
            usable = sum(state in _USABLE for state in paths.values())
            samples.add(INFO, 1, name, sysfs_name, uuid)
            samples.add(ACTIVE, int(not suspended), name, sysfs_name)
            samples.add(SIZE, size_bytes, name, sysfs_name)
            samples.add(PATHS, len(paths), name, sysfs_name)
            samples.add(PATHS_ACTIVE, usable, name, sysfs_name)
            samples.add(PATHS_FAILED, len(paths) - usable, name, sysfs_name)
            for path, state in paths.items():
                samples.add(PATH_STATE, 1, name, path, state)
        return samples.blocks(self.shapes, "prometheus")

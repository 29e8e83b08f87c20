"""btrfs from /sys/fs/btrfs/UUID (fs/btrfs/sysfs.c) and, for its devices, by ioctl on a mount (include/uapi/linux/btrfs.h)."""

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.mounts import MountTable
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, Kind

_SECTOR_BYTES = 512
_KINDS = ("data", "metadata", "system")
_COPIES = {"single": 1, "raid0": 1, "dup": 2, "raid1": 2, "raid10": 2, "raid1c3": 3, "raid1c4": 4}
_PARITY_DEVICES = {"raid5": 1, "raid6": 2}

# Request numbers as _IOR(0x94, 31, …1024), _IOWR(0x94, 30, …4096) and _IOWR(0x94, 52, …1032) give on x86 and arm64.
_FS_INFO = 0x8400_941F
_DEV_INFO = 0xD000_941E
_GET_DEV_STATS = 0xC408_9434
_FS_INFO_HEAD = struct.Struct("=QQ16s")
_DEV_INFO_HEAD = struct.Struct("=Q16sQQ")
_DEV_PATH_OFFSET = 3072
_DEV_STATS_HEAD = struct.Struct("=QQQ5Q")
_ERROR_TYPES = ("write", "read", "flush", "corruption", "generation")


def _family(name: str, help_text: str, kind: Kind = "gauge", *labels: str) -> Family:
    return Family(f"node_btrfs_{name}", help_text, kind, ("uuid", *labels))


INFO = _family("info", "Filesystem information", "gauge", "label")
RESERVE = _family("global_rsv_size_bytes", "Size of global reserve.")
COMMITS = _family("commits_total", "The total number of commits that have occurred.", "counter")
LAST_COMMIT = _family("last_commit_seconds", "Duration of the most recent commit, in seconds.")
MAX_COMMIT = _family("max_commit_seconds", "Duration of the slowest commit, in seconds.")
COMMIT_SECONDS = _family("commit_seconds_total", "Sum of the duration of all commits, in seconds.", "counter")
RESERVED = _family("reserved_bytes", "Amount of space reserved for a data type", "gauge", "block_group_type")
USED = _family("used_bytes", "Amount of used space by a layout/data type", "gauge", "block_group_type", "mode")
SIZE = _family("size_bytes", "Amount of space allocated for a layout/data type", "gauge", "block_group_type", "mode")
RATIO = _family("allocation_ratio", "Data allocation ratio for a layout/data type", "gauge", "block_group_type", "mode")
DEVICE_SIZE = _family(
    "device_size_bytes", "Size of a device that is part of the filesystem.", "gauge", "device", "btrfs_dev_uuid"
)
DEVICE_UNUSED = _family(
    "device_unused_bytes",
    "Unused bytes unused on a device that is part of the filesystem.",
    "gauge",
    "device",
    "btrfs_dev_uuid",
)
DEVICE_ERRORS = _family(
    "device_errors_total", "Errors reported for the device", "counter", "type", "device", "btrfs_dev_uuid"
)


class Layout(NamedTuple):
    """How much of one kind of block is stored in one way, in bytes, and how much disk a byte takes there."""

    kind: str
    mode: str
    used: int
    size: int
    ratio: float


class Device(NamedTuple):
    """One device as the file system counts it, sizes in bytes, errors in the order of their types."""

    name: str
    uuid: str
    used: int
    size: int
    errors: tuple[int, ...]


class FileSystem(NamedTuple):
    """One file system; commit times in milliseconds. `devices` is None where no mount could be asked."""

    uuid: str
    label: str
    reserve: int
    commits: dict[str, int]
    reserved: dict[str, int]
    layouts: list[Layout]
    device_sizes: dict[str, int]
    devices: list[Device] | None


def parse_commits(data: bytes) -> dict[str, int]:
    """The lines `commits 12`, `last_commit_ms 8`, … of commit_stats, which kernel 6.1 brought."""
    return {text(name): int(value) for name, value in (line.split() for line in data.splitlines())}


def ratio(mode: str, devices: int) -> float:
    """Bytes of disk for a byte of content; 0 for a mode unknown."""
    if mode in _PARITY_DEVICES:
        holding = devices - _PARITY_DEVICES[mode]
        return devices / holding if holding else float("inf")
    return _COPIES.get(mode, 0)


def ask_devices(path: bytes) -> tuple[str, list[Device]]:
    """The identity of the file system mounted at `path`, without dashes, and its devices."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = bytearray(1024)
        fcntl.ioctl(descriptor, _FS_INFO, found)
        highest_id, count, identity = _FS_INFO_HEAD.unpack_from(found)
        devices: list[Device] = []
        for device_id in range(highest_id + 1):
            if len(devices) == count:
                break
            device = _ask_device(descriptor, device_id)
            if device is not None:
                devices.append(device)
    finally:
        os.close(descriptor)
    return identity.hex(), devices


def _ask_device(descriptor: int, device_id: int) -> Device | None:
    """A device by number; None where the file system has none of that number: they have gaps."""
    info = bytearray(4096)
    _DEV_INFO_HEAD.pack_into(info, 0, device_id, b"", 0, 0)
    try:
        fcntl.ioctl(descriptor, _DEV_INFO, info)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, identity, used, size = _DEV_INFO_HEAD.unpack_from(info)
    path = bytes(info[_DEV_PATH_OFFSET:]).partition(b"\0")[0]
    stats = bytearray(1032)
    _DEV_STATS_HEAD.pack_into(stats, 0, device_id, len(_ERROR_TYPES), 0, *[0] * len(_ERROR_TYPES))
    fcntl.ioctl(descriptor, _GET_DEV_STATS, stats)
    errors = _DEV_STATS_HEAD.unpack_from(stats)[3:]
    return Device(text(path.rpartition(b"/")[2]), _dashed(identity.hex()), used, size, errors)


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Btrfs(HostCollector[list[FileSystem]]):
    """How btrfs uses its devices."""

    name = "btrfs"
    summary = "allocation, commits, devices and device errors of btrfs"
    prometheus = (
        INFO,
        RESERVE,
        COMMITS,
        LAST_COMMIT,
        MAX_COMMIT,
        COMMIT_SECONDS,
        RESERVED,
        USED,
        SIZE,
        RATIO,
        DEVICE_SIZE,
        DEVICE_UNUSED,
        DEVICE_ERRORS,
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._mounts = MountTable(self.kernel, lambda mount_point, fs_type: fs_type == "btrfs")

    def read(self) -> list[FileSystem]:
        names = [name for name in self.kernel.sys_entries("fs/btrfs") if "-" in name]
        if not names:
            return []
        asked = self._ask_mounts()
        return [self._file_system(name, asked) for name in names]

    def _ask_mounts(self) -> dict[str, list[Device]]:
        """The devices of each file system, by its identity. What cannot be asked, for want of permission, is left out."""
        found: dict[str, list[Device]] = {}
        devices_asked = set()
        try:
            mounts = self._mounts.read()
        except (OSError, ValueError):
            return {}
        for mount in mounts:
            if mount.device in devices_asked:
                continue
            try:
                identity, devices = ask_devices(mount.path)
            except OSError:
                continue
            devices_asked.add(mount.device)
            found.setdefault(identity, devices)
        return found

    def _file_system(self, name: str, asked: dict[str, list[Device]]) -> FileSystem:
        base = f"fs/btrfs/{name}"
        number = self._number
        names = self.kernel.sys_entries(f"{base}/devices")
        uuid = text(self.kernel.attribute(f"{base}/metadata_uuid")) or name
        return FileSystem(
            uuid,
            text(self.kernel.attribute(f"{base}/label")),
            number(f"{base}/allocation/global_rsv_size"),
            parse_commits(self.kernel.attribute(f"{base}/commit_stats") or b""),
            {kind: number(f"{base}/allocation/{kind}/bytes_reserved") for kind in _KINDS},
            [layout for kind in _KINDS for layout in self._layouts(f"{base}/allocation/{kind}", kind, len(names))],
            {device: number(f"{base}/devices/{device}/size") * _SECTOR_BYTES for device in names},
            asked.get(uuid.replace("-", "")),
        )

    def _number(self, relative: str) -> int:
        return self.kernel.integer(relative) or 0

    def _layouts(self, base: str, kind: str, devices: int) -> list[Layout]:
        """The ways in which one kind of block is stored: the directories among the files."""
        layouts = []
        for mode in _directories(f"{self.kernel.sys}/{base}"):
            used, size = self._number(f"{base}/{mode}/used_bytes"), self._number(f"{base}/{mode}/total_bytes")
            layouts.append(Layout(kind, mode, used, size, ratio(mode, devices)))
        return layouts

    def families(self, reading: list[FileSystem]) -> Sequence[Block]:
        samples = Samples()
        for found in reading:
            uuid = found.uuid
            samples.add(INFO, 1, uuid, found.label)
            samples.add(RESERVE, found.reserve, uuid)
            samples.add(COMMITS, found.commits.get("commits", 0), uuid)
            samples.add(LAST_COMMIT, found.commits.get("last_commit_ms", 0) / 1000, uuid)
            samples.add(MAX_COMMIT, found.commits.get("max_commit_ms", 0) / 1000, uuid)
            samples.add(COMMIT_SECONDS, found.commits.get("total_commit_ms", 0) / 1000, uuid)
            for kind, reserved in found.reserved.items():
                samples.add(RESERVED, reserved, uuid, kind)
            for layout in found.layouts:
                samples.add(USED, layout.used, uuid, layout.kind, layout.mode)
                samples.add(SIZE, layout.size, uuid, layout.kind, layout.mode)
                samples.add(RATIO, layout.ratio, uuid, layout.kind, layout.mode)
            if found.devices is None:
                for name, size in found.device_sizes.items():
                    samples.add(DEVICE_SIZE, size, uuid, name)
            for device in found.devices or ():
                samples.add(DEVICE_SIZE, device.size, uuid, device.name, device.uuid)
                samples.add(DEVICE_UNUSED, device.size - device.used, uuid, device.name, device.uuid)
                for error_type, count in zip(_ERROR_TYPES, device.errors, strict=True):
                    samples.add(DEVICE_ERRORS, count, uuid, error_type, device.name, device.uuid)
        return samples.blocks(self.shapes, "prometheus")


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted([entry.name for entry in entries if entry.is_dir()])
    except OSError:
        return []

"""Software RAID from /proc/mdstat and /sys/block/md*/md (Documentation/admin-guide/md.rst; drivers/md/md.c, md_seq_show)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, Number, Series

_BLOCK_BYTES = 1024
_DISKS = re.compile(rb"\d+ blocks .*\[(\d+)/(\d+)\] \[[U_]+\]")
_PROGRESS = re.compile(rb"\((\d+)/\d+\)")
_ACTIVITIES = (
    (b"recovery", "recovering"),
    (b"reshape", "reshaping"),
    (b"check", "checking"),
    (b"resync", "resyncing"),
)
_STATES = (
    ("active", "active"),
    ("inactive", "inactive"),
    ("recovering", "recovering"),
    ("resync", "resyncing"),
    ("check", "checking"),
)
_WITHOUT_DISKS = frozenset((b"container", b"imsm", b"ddf", b""))
_REDUNDANT = frozenset((b"raid1", b"raid4", b"raid5", b"raid6", b"raid10"))

_DEVICE = ("device",)
STATE = Family("node_md_state", "Indicates the state of md-device.", "gauge", ("device", "state"))
DISKS = Family("node_md_disks", "Number of active/failed/spare disks of device.", "gauge", ("device", "state"))
DISKS_REQUIRED = Family("node_md_disks_required", "Total number of disks of device.", "gauge", _DEVICE)
BLOCKS = Family("node_md_blocks", "Total number of blocks on device.", "gauge", _DEVICE)
BLOCKS_SYNCED = Family("node_md_blocks_synced", "Number of blocks synced on device.", "gauge", _DEVICE)
RAID_DISKS = Family("node_md_raid_disks", "Number of raid disks on device.", "gauge", _DEVICE)
DEGRADED = Family("node_md_degraded", "Number of degraded disks on device.", "gauge", _DEVICE)

LIMIT = Family(
    "hw.logical_disk.limit",
    "Size of the logical disk",
    "updowncounter",
    ("hw.id", "hw.logical_disk.raid_level"),
    unit="By",
)
STATUS = Family(
    "hw.status",
    "Operational status: 1 (true) or 0 (false) for each of the possible states",
    "updowncounter",
    ("hw.id", "hw.type", "hw.state"),
    unit="1",
)


class Array(NamedTuple):
    """One array as /proc/mdstat shows it; blocks are KiB."""

    name: str
    activity: str
    level: str
    required: int
    active: int
    failed: int
    spare: int
    blocks: int
    blocks_synced: int


class MdReading(NamedTuple):
    """The arrays, and for those in sysfs the number of disks (None where it has no meaning) and how many are missing."""

    arrays: list[Array]
    sysfs: list[tuple[str, int | None, int]]


def parse(data: bytes) -> list[Array]:
    """The arrays of /proc/mdstat."""
    lines = data.split(b"\n")
    arrays = []
    for index, line in enumerate(lines):
        if not line.strip() or line[:1] in b" \t" or line.startswith((b"Personalities", b"unused")):
            continue
        details = lines[index + 1 : index + 4]
        if len(details) < 3:
            raise ValueError("array without its lines in /proc/mdstat")
        arrays.append(_array(line, *details))
    return arrays


def _array(line: bytes, size_line: bytes, *further: bytes) -> Array:
    name, _, activity, *words = line.split()
    blocks = int(size_line.strip().partition(b" ")[0])
    level = next((word for word in words if b"(" not in word and b"[" not in word), b"")
    required, active = _disks(line, size_line)
    sync_line = further[1] if b"bitmap" in further[0] else further[0]
    syncing, synced = _progress(sync_line, blocks)
    return Array(
        text(name),
        syncing or text(activity),
        text(level),
        required,
        active,
        line.count(b"(F)"),
        line.count(b"(S)"),
        blocks,
        synced,
    )


def _disks(line: bytes, size_line: bytes) -> tuple[int, int]:
    if b"raid0" in line or b"linear" in line:
        return line.count(b"["), line.count(b"[")
    if b"inactive" in line:
        return 0, 0
    found = _DISKS.search(size_line)
    if found is None:
        raise ValueError("no disk count in /proc/mdstat")
    return int(found[1]), int(found[2])


def _progress(sync_line: bytes, blocks: int) -> tuple[str, int]:
    """What md is doing to the array, '' for nothing, and how many blocks of it are in sync."""
    activity = next((name for word, name in _ACTIVITIES if word in sync_line), "")
    if not activity:
        return "", blocks
    if b"PENDING" in sync_line or b"DELAYED" in sync_line:
        return activity, 0
    found = _PROGRESS.search(sync_line)
    if found is None:
        raise ValueError("no progress in /proc/mdstat")
    return activity, int(found[1])


class MdRaid(HostCollector[MdReading]):
    """The state of software RAID."""

    name = "mdadm"
    summary = "state, disks and resync of software RAID arrays"
    prometheus = (STATE, DISKS, DISKS_REQUIRED, BLOCKS, BLOCKS_SYNCED, RAID_DISKS, DEGRADED)
    otel = (LIMIT, STATUS)

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("mdstat")

    def read(self) -> MdReading:
        arrays = parse(read_or_no_data(self._file, "software RAID"))
        devices = [name for name in self.kernel.sys_entries("block") if name.startswith("md")]
        return MdReading(arrays, [details for name in devices if (details := self._details(name)) is not None])

    def _details(self, device: str) -> tuple[str, int | None, int] | None:
        base = f"block/{device}/md/"
        level = self.kernel.attribute(base + "level")
        if level is None:
            return None
        disks = None
        if level not in _WITHOUT_DISKS:
            # "11 (10)" while the array grows from 10 disks to 11.
            count = (self.kernel.attribute(base + "raid_disks") or b"").partition(b" ")[0]
            disks = int(count) if count.isdigit() else None
        degraded = self.kernel.integer(base + "degraded") if level in _REDUNDANT else 0
        return device, disks, degraded or 0

    def families(self, reading: MdReading) -> Sequence[Block]:
        samples = Samples()
        for array in reading.arrays:
            for state, activity in _STATES:
                samples.add(STATE, int(array.activity == activity), array.name, state)
            samples.add(DISKS, array.active, array.name, "active")
            samples.add(DISKS, array.failed, array.name, "failed")
            samples.add(DISKS, array.spare, array.name, "spare")
            samples.add(DISKS_REQUIRED, array.required, array.name)
            samples.add(BLOCKS, array.blocks, array.name)
            samples.add(BLOCKS_SYNCED, array.blocks_synced, array.name)
        for device, disks, degraded in reading.sysfs:
            if disks is not None:
                samples.add(RAID_DISKS, disks, device)
            samples.add(DEGRADED, degraded, device)
        return samples.blocks(self.shapes, "prometheus")

    def telemetry(self, reading: MdReading) -> Sequence[Block]:
        arrays = reading.arrays
        if not arrays:
            return ()
        shape = self.shapes.get(
            "otel", tuple([(array.name, array.level) for array in arrays]), lambda: _otel_series(arrays)
        )
        values: list[Number] = [array.blocks * _BLOCK_BYTES for array in arrays]
        for array in arrays:
            values += map(int, _status(array))
        return [Block(shape, values)]


def _status(array: Array) -> tuple[bool, bool, bool]:
    """Whether the array is ok, degraded, failed."""
    failed = array.activity in {"inactive", "broken"}
    degraded = not failed and array.active < array.required
    return not failed and not degraded, degraded, failed


def _otel_series(arrays: Sequence[Array]) -> list[Series]:
    return [
        *(LIMIT.series(array.name, array.level.upper()) for array in arrays),
        *(
            STATUS.series(array.name, "logical_disk", state)
            for array in arrays
            for state in ("ok", "degraded", "failed")
        ),
    ]

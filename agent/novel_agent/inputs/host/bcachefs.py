"""bcachefs from /sys/fs/bcachefs/UUID (fs/bcachefs/sysfs.c, sb-members.c, sb-errors.c).

Sizes are rounded to three digits: `2.05 GiB` in the kernels that had bcachefs inside (6.7 to 6.17), `2.05G` in the module
that came after.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, FamilyPattern, Kind

_DIRECTORY = "fs/bcachefs"
_DEVICE_PREFIX = "dev-"
_LONGEST_COUNT = 32
_SIZE = re.compile(rb"(\d{1,20}(?:\.\d{1,20})?)([kmgtpe]?)", re.IGNORECASE)
_FACTORS = {unit: 1024**power for power, unit in enumerate((b"", b"k", b"m", b"g", b"t", b"p", b"e"))}
_SPELT_UNIT = re.compile(rb"(?<=\d) ([kMKGTPE]?)i?B\b")
_NOT_IN_NAMES = re.compile(r"_*[^0-9A-Za-z_]+_*")


def _family(name: str, help_text: str, kind: Kind, *labels: str) -> Family:
    return Family(f"node_bcachefs_{name}", help_text, kind, ("uuid", *labels))


INFO = _family("info", "Filesystem information.", "gauge")
BTREE_CACHE = _family("btree_cache_size_bytes", "Btree cache memory usage in bytes.", "gauge")
COMPRESSED = _family("compression_compressed_bytes", "Compressed size by algorithm.", "gauge", "algorithm")
UNCOMPRESSED = _family("compression_uncompressed_bytes", "Uncompressed size by algorithm.", "gauge", "algorithm")
ERRORS = _family("errors_total", "Error count by error type.", "counter", "error_type")
COUNTERS = FamilyPattern(
    r"node_bcachefs_\w+_total",
    "A counter of bcachefs since filesystem creation, under the name that sysfs has for it.",
    "counter",
    ("uuid",),
)
BTREE_WRITES = _family("btree_writes_total", "Number of btree writes by type.", "counter", "type")
BTREE_WRITE_SIZE = _family("btree_write_average_size_bytes", "Average btree write size by type.", "gauge", "type")
DEVICE_INFO = _family("device_info", "Device information.", "gauge", "device", "label", "state")
BUCKET_SIZE = _family("device_bucket_size_bytes", "Bucket size in bytes.", "gauge", "device")
BUCKETS = _family("device_buckets", "Total number of buckets.", "gauge", "device")
DURABILITY = _family("device_durability", "Device durability setting.", "gauge", "device")
IO_DONE = _family(
    "device_io_done_bytes_total",
    "IO bytes by operation type and data type.",
    "counter",
    "device",
    "operation",
    "data_type",
)
IO_ERRORS = _family("device_io_errors_total", "IO errors by error type.", "counter", "device", "type")


class Device(NamedTuple):
    """One member; bytes by operation and type of data, errors by type."""

    name: str
    label: str
    state: str
    bucket_bytes: int
    buckets: int
    durability: int
    io_bytes: dict[tuple[str, str], int]
    io_errors: dict[str, int]


class FileSystem(NamedTuple):
    """One file system: bytes compressed and uncompressed by algorithm, number and average bytes of B-tree writes by type."""

    uuid: str
    btree_cache_bytes: int
    compression: dict[str, tuple[int, int]]
    errors: dict[str, int]
    counters: dict[str, int]
    btree_writes: dict[str, tuple[int, int]]
    devices: list[Device]


class Place(NamedTuple):
    """Which attributes a file system had when its directory listed `entries`: paths below /sys by name."""

    entries: list[str]
    own: dict[str, str]
    counters: dict[str, str]
    devices: dict[str, dict[str, str]]


def parse_count(data: bytes) -> int:
    """An unsigned decimal number."""
    if not data.isdigit() or len(data) > _LONGEST_COUNT:
        raise ValueError(f"not a count: {data[:_LONGEST_COUNT]!r}")
    return int(data)


def parse_size(data: bytes) -> int:
    """`405`, `1.26k` and the like; units are powers of 1024, for counters as well."""
    if data.isdigit():
        return parse_count(data)
    match = _SIZE.fullmatch(data)
    if match is None:
        raise ValueError(f"not a size: {data[:_LONGEST_COUNT]!r}")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


def shorten_units(data: bytes) -> bytes:
    """The content with `2.05G` for `2.05 GiB` and `306` for `306 B`."""
    return _SPELT_UNIT.sub(rb"\1", data) if b"B" in data else data


def parse_counter(data: bytes) -> int:
    """The value since the file system was made; 0 where there is one since the mount only."""
    _, found, rest = shorten_units(data).partition(b"since filesystem creation:")
    if found:
        return parse_size(rest.partition(b"\n")[0].strip())
    if b"since mount:" in data:
        return 0
    raise ValueError("no counter of bcachefs")


def parse_errors(data: bytes) -> dict[str, int]:
    """How often each kind of error was found.

    A count of eight digits or more fills its column, so that the time of the error follows without a blank; both are one
    number then, as for node_exporter.
    """
    lines = [fields for line in data.splitlines() if len(fields := line.split()) >= 2]
    return {text(fields[0]): parse_count(fields[1]) for fields in lines}


def parse_compression(data: bytes) -> dict[str, tuple[int, int]]:
    """Bytes compressed and uncompressed by algorithm."""
    # Up to Linux 6.10 a sentence on extents both compressed and incompressible may follow.
    rows = [fields for fields in _rows(data) if fields[-1] != b"extents"]
    return {_name(fields[0]): (parse_size(fields[1]), parse_size(fields[2])) for fields in rows}


def parse_btree_writes(data: bytes) -> dict[str, tuple[int, int]]:
    """Number and average bytes of writes by type."""
    return {_name(fields[0]): (parse_count(fields[1]), parse_size(fields[2])) for fields in _rows(data)}


def _rows(data: bytes) -> list[list[bytes]]:
    """The fields of the lines below the heading."""
    return [fields for line in shorten_units(data).splitlines()[1:] if len(fields := line.split()) >= 3]


def _name(field: bytes) -> str:
    return text(field.removesuffix(b":"))


def parse_io_done(data: bytes) -> dict[tuple[str, str], int]:
    """Bytes by operation (`read:` or `write:`, each above its lines) and type of data."""
    numbers: dict[tuple[str, str], int] = {}
    operation = ""
    for line in data.splitlines():
        name, colon, value = line.strip().partition(b":")
        if name in {b"read", b"write"} and colon and not value:
            operation = text(name)
        elif operation and colon:
            numbers[operation, text(name.strip())] = parse_count(value.strip())
    return numbers


def parse_io_errors(data: bytes) -> dict[str, int]:
    """Errors by type since the file system was made; those since they were last reset stand below a second heading."""
    _, _, body = data.partition(b"IO errors since filesystem creation")
    lines = [line.partition(b":") for line in body.partition(b"IO errors since ")[0].splitlines()]
    return {text(name.strip()): parse_count(value.strip()) for name, colon, value in lines if colon}


class Bcachefs(HostCollector[list[FileSystem]]):
    """What bcachefs stores, does and finds wrong."""

    name = "bcachefs"
    summary = "compression, errors, counters and devices of bcachefs"
    prometheus = (
        INFO,
        BTREE_CACHE,
        COMPRESSED,
        UNCOMPRESSED,
        ERRORS,
        BTREE_WRITES,
        BTREE_WRITE_SIZE,
        DEVICE_INFO,
        BUCKET_SIZE,
        BUCKETS,
        DURABILITY,
        IO_DONE,
        IO_ERRORS,
        COUNTERS,
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._places: dict[str, Place] = {}
        self._counter_families: dict[str, Family] = {}

    def read(self) -> list[FileSystem]:
        uuids = self.kernel.sys_entries(_DIRECTORY)
        self._places = {uuid: place for uuid in uuids if (place := self._place(uuid)) is not None}
        if not self._places:
            raise NoData("no bcachefs file system in sysfs")
        return [self._file_system(uuid, place) for uuid, place in self._places.items()]

    def _place(self, uuid: str) -> Place | None:
        """What there is to read, as known since devices were last added or removed; None for anything but a directory."""
        base = f"{_DIRECTORY}/{uuid}"
        entries = self.kernel.sys_entries(base)
        known = self._places.get(uuid)
        if known is not None and known.entries == entries:
            return known
        if not entries:
            return None
        devices = [entry for entry in entries if entry.startswith(_DEVICE_PREFIX)]
        found = {entry.removeprefix(_DEVICE_PREFIX): self._paths(f"{base}/{entry}") for entry in devices}
        return Place(entries, _paths(base, entries), self._paths(f"{base}/counters"), found)

    def _paths(self, base: str) -> dict[str, str]:
        return _paths(base, self.kernel.sys_entries(base))

    def _file_system(self, uuid: str, place: Place) -> FileSystem:
        own = place.own
        return FileSystem(
            uuid,
            self._size(own.get("btree_cache_size")),
            parse_compression(self._content(own.get("compression_stats"))),
            parse_errors(self._content(own.get("errors"))),
            {name: parse_counter(self._content(path)) for name, path in place.counters.items()},
            parse_btree_writes(self._content(own.get("btree_write_stats"))),
            [self._device(name, paths) for name, paths in place.devices.items()],
        )

    def _device(self, name: str, paths: dict[str, str]) -> Device:
        return Device(
            name,
            text(self._attribute(paths.get("label"))),
            text(self._attribute(paths.get("state"))),
            self._size(paths.get("bucket_size")),
            self._count(paths.get("nbuckets")),
            self._count(paths.get("durability")),
            parse_io_done(self._content(paths.get("io_done"))),
            parse_io_errors(self._content(paths.get("io_errors"))),
        )

    def _size(self, path: str | None) -> int:
        data = self._content(path)
        return parse_size(shorten_units(data)) if data else 0

    def _count(self, path: str | None) -> int:
        return parse_count(self._content(path)) if path is not None else 0

    def _content(self, path: str | None) -> bytes:
        """The attribute; empty where the file system has none such."""
        data = self._attribute(path)
        if data is not None:
            return data
        if path is None:
            return b""
        self._places = {}
        raise InputError(f"cannot read {self.kernel.sys}/{path}")

    def _attribute(self, path: str | None) -> bytes | None:
        if path is None:
            return None
        data = self.kernel.attribute(path)
        # A handle fails once after the file system was mounted anew, and is opened again then.
        return data if data is not None else self.kernel.attribute(path)

    def families(self, reading: list[FileSystem]) -> list[Block]:
        samples = Samples()
        for found in reading:
            uuid = found.uuid
            samples.add(INFO, 1, uuid)
            samples.add(BTREE_CACHE, found.btree_cache_bytes, uuid)
            for algorithm, (compressed, uncompressed) in found.compression.items():
                samples.add(COMPRESSED, compressed, uuid, algorithm)
                samples.add(UNCOMPRESSED, uncompressed, uuid, algorithm)
            for error_type, count in found.errors.items():
                samples.add(ERRORS, count, uuid, error_type)
            for name, count in found.counters.items():
                samples.add(self._counter_family(name), count, uuid)
            for write_type, (count, average_bytes) in found.btree_writes.items():
                samples.add(BTREE_WRITES, count, uuid, write_type)
                samples.add(BTREE_WRITE_SIZE, average_bytes, uuid, write_type)
            _add_devices(samples, uuid, found.devices)
        return samples.blocks(self.shapes, "prometheus")

    def _counter_family(self, name: str) -> Family:
        family = self._counter_families.get(name)
        if family is None:
            help_text = f"Bcachefs counter {name} since filesystem creation."
            family = _family(f"{_NOT_IN_NAMES.sub('_', name)}_total", help_text, "counter")
            self._counter_families[name] = family
        return family


def _paths(base: str, entries: Iterable[str]) -> dict[str, str]:
    return {entry: f"{base}/{entry}" for entry in entries}


def _add_devices(samples: Samples, uuid: str, devices: Iterable[Device]) -> None:
    for device in devices:
        name = device.name
        samples.add(DEVICE_INFO, 1, uuid, name, device.label, device.state)
        samples.add(BUCKET_SIZE, device.bucket_bytes, uuid, name)
        samples.add(BUCKETS, device.buckets, uuid, name)
        samples.add(DURABILITY, device.durability, uuid, name)
        for (operation, data_type), done_bytes in device.io_bytes.items():
            samples.add(IO_DONE, done_bytes, uuid, name, operation, data_type)
        for error_type, count in device.io_errors.items():
            samples.add(IO_ERRORS, count, uuid, name, error_type)

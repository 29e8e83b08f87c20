"""SCSI tape drives: /sys/class/scsi_tape/st*/stats (Documentation/scsi/st.rst, times are nanoseconds)."""

import os
import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.samples import table
from novel_agent.model.metric import Block, Family

_DIRECTORY = "class/scsi_tape"
_DRIVE = re.compile(r"st[0-9]+")
_NANOSECONDS = 1_000_000_000

_DEVICE = ("device",)
# The attribute, its metric, and what its number is divided by.
_ATTRIBUTES = (
    (
        "in_flight",
        Family("node_tape_io_now", "The number of I/Os currently outstanding to this device.", "gauge", _DEVICE),
        1,
    ),
    (
        "io_ns",
        Family(
            "node_tape_io_time_seconds_total",
            "The amount of time spent waiting for all I/O to complete (including read and write). This includes tape "
            "movement commands such as seeking between file or set marks and implicit tape movement such as when rewind "
            "on close tape devices are used.",
            "counter",
            _DEVICE,
        ),
        _NANOSECONDS,
    ),
    (
        "other_cnt",
        Family(
            "node_tape_io_others_total",
            "The number of I/Os issued to the tape drive other than read or write commands. The time taken to complete "
            "these commands uses the following calculation "
            "io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
            "counter",
            _DEVICE,
        ),
        1,
    ),
    (
        "read_byte_cnt",
        Family("node_tape_read_bytes_total", "The number of bytes read from the tape drive.", "counter", _DEVICE),
        1,
    ),
    (
        "read_cnt",
        Family(
            "node_tape_reads_completed_total",
            "The number of read requests issued to the tape drive.",
            "counter",
            _DEVICE,
        ),
        1,
    ),
    (
        "read_ns",
        Family(
            "node_tape_read_time_seconds_total",
            "The amount of time spent waiting for read requests to complete.",
            "counter",
            _DEVICE,
        ),
        _NANOSECONDS,
    ),
    (
        "resid_cnt",
        Family(
            "node_tape_residual_total",
            "The number of times during a read or write we found the residual amount to be non-zero. This should mean that "
            "a program is issuing a read larger thean the block size on tape. For write not all data made it to tape.",
            "counter",
            _DEVICE,
        ),
        1,
    ),
    (
        "write_byte_cnt",
        Family("node_tape_written_bytes_total", "The number of bytes written to the tape drive.", "counter", _DEVICE),
        1,
    ),
    (
        "write_cnt",
        Family(
            "node_tape_writes_completed_total",
            "The number of write requests issued to the tape drive.",
            "counter",
            _DEVICE,
        ),
        1,
    ),
    (
        "write_ns",
        Family(
            "node_tape_write_time_seconds_total",
            "The amount of time spent waiting for write requests to complete.",
            "counter",
            _DEVICE,
        ),
        _NANOSECONDS,
    ),
)
FAMILIES = tuple(family for _, family, _ in _ATTRIBUTES)


class TapeReading(NamedTuple):
    """The drives, and for each its numbers in the order of the attributes."""

    drives: tuple[str, ...]
    rows: list[list[int]]


class TapeStats(HostCollector[TapeReading]):
    """What the tape drives do."""

    class Options(Section, frozen=True, kw_only=True):
        """Which drives are shown."""

        exclude_devices: Annotated[Regex, Meta(description="Drives left out.")] = "^$"

    name = "tapestats"
    summary = "operations, bytes and time of SCSI tape drives"
    prometheus = FAMILIES

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, TapeStats.Options)
        self._wanted = NameFilter(options.exclude_devices, None)

    def read(self) -> TapeReading:
        names = self.kernel.sys_entries(_DIRECTORY)
        if not names and not os.path.isdir(f"{self.kernel.sys}/{_DIRECTORY}"):
            raise NoData("no SCSI tape drives")
        # Beside st0 the directory lists nst0, st0l, st0a …: other modes of the same drive.
        drives = tuple([name for name in names if _DRIVE.fullmatch(name) and self._wanted(name)])
        integer = self.kernel.integer
        return TapeReading(
            drives,
            [[integer(f"{_DIRECTORY}/{drive}/stats/{name}") or 0 for name, _, _ in _ATTRIBUTES] for drive in drives],
        )

    def families(self, reading: TapeReading) -> Sequence[Block]:
        drives, rows = reading
        if not drives:
            return ()
        shape = self.shapes.get("prometheus", drives, lambda: table(FAMILIES, [(drive,) for drive in drives]))
        columns = zip(*rows, strict=True)
        return [
            Block(
                shape,
                [
                    number if divisor == 1 else number / divisor
                    for (_, _, divisor), column in zip(_ATTRIBUTES, columns, strict=True)
                    for number in column
                ],
            )
        ]

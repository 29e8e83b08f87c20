"""What the NFS client counts for each mount: /proc/self/mountstats (fs/nfs/super.c, fs/nfs/iostat.h, net/sunrpc/stats.c)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import integers
from novel_agent.inputs.host.mounts import parse as parse_mounts
from novel_agent.inputs.host.samples import table
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, Kind, Number, Series

_EXPORT = ("export", "protocol", "mountaddr")
_NFS_TYPES = frozenset((b"nfs", b"nfs4"))


def _family(name: str, help_text: str, *labels: str, kind: Kind = "counter") -> Family:
    return Family(f"node_mountstats_nfs_{name}", help_text, kind, (*_EXPORT, *labels))


AGE = _family("age_seconds_total", "The age of the NFS mount in seconds.")
INFO = _family("mountpoint_info", "Info metric for an NFS mountpoint.", "mountpoint", kind="gauge")

_BYTES = (
    _family("read_bytes_total", "Number of bytes read using the read() syscall."),
    _family("write_bytes_total", "Number of bytes written using the write() syscall."),
    _family("direct_read_bytes_total", "Number of bytes read using the read() syscall in O_DIRECT mode."),
    _family("direct_write_bytes_total", "Number of bytes written using the write() syscall in O_DIRECT mode."),
    _family("total_read_bytes_total", "Number of bytes read from the NFS server, in total."),
    _family("total_write_bytes_total", "Number of bytes written to the NFS server, in total."),
    _family("read_pages_total", "Number of pages read directly via mmap()'d files."),
    _family("write_pages_total", "Number of pages written directly via mmap()'d files."),
)


def _event(name: str, help_text: str) -> Family:
    return _family(f"event_{name}_total", help_text)


# In the order of the kernel's numbers; None is one that is never counted.
_EVENTS: tuple[Family | None, ...] = (
    _event("inode_revalidate", "Number of times cached inode attributes are re-validated from the server."),
    _event("dnode_revalidate", "Number of times cached dentry nodes are re-validated from the server."),
    _event("data_invalidate", "Number of times an inode cache is cleared."),
    _event("attribute_invalidate", "Number of times cached inode attributes are invalidated."),
    _event("vfs_open", "Number of times cached inode attributes are invalidated."),
    _event("vfs_lookup", "Number of times a directory lookup has occurred."),
    _event("vfs_access", "Number of times permissions have been checked."),
    _event("vfs_update_page", "Number of updates (and potential writes) to pages."),
    _event("vfs_read_page", "Number of pages read directly via mmap()'d files."),
    _event("vfs_read_pages", "Number of times a group of pages have been read."),
    _event("vfs_write_page", "Number of pages written directly via mmap()'d files."),
    _event("vfs_write_pages", "Number of times a group of pages have been written."),
    _event("vfs_getdents", "Number of times directory entries have been read with getdents()."),
    _event("vfs_setattr", "Number of times directory entries have been read with getdents()."),
    _event("vfs_flush", "Number of pending writes that have been forcefully flushed to the server."),
    _event("vfs_fsync", "Number of times fsync() has been called on directories and files."),
    _event("vfs_lock", "Number of times locking has been attempted on a file."),
    _event("vfs_file_release", "Number of times files have been closed and released."),
    None,
    _event("truncation", "Number of times files have been truncated."),
    _event("write_extension", "Number of times a file has been grown due to writes beyond its existing end."),
    _event("silly_rename", "Number of times a file was removed while still open by another process."),
    _event("short_read", "Number of times the NFS server gave less data than expected while reading."),
    _event("short_write", "Number of times the NFS server wrote less data than expected while writing."),
    _event(
        "jukebox_delay",
        "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline storage.",
    ),
    _event("pnfs_read", "Number of NFS v4.1+ pNFS reads."),
    _event("pnfs_write", "Number of NFS v4.1+ pNFS writes."),
)
_SHOWN_EVENTS = tuple(family for family in _EVENTS if family is not None)


def _transport(name: str, help_text: str, kind: Kind = "counter") -> Family:
    return _family(f"transport_{name}", help_text, "transport", kind=kind)


# In the order of the numbers of a TCP transport; None is not shown.
_TRANSPORT: tuple[Family | None, ...] = (
    None,
    _transport(
        "bind_total",
        "Number of times the client has had to establish a connection from scratch to the NFS server.",
    ),
    _transport("connect_total", "Number of times the client has made a TCP connection to the NFS server."),
    None,
    _transport("idle_time_seconds", "Duration since the NFS mount last saw any RPC traffic, in seconds.", "gauge"),
    _transport("sends_total", "Number of RPC requests for this mount sent to the NFS server."),
    _transport("receives_total", "Number of RPC responses for this mount received from the NFS server."),
    _transport(
        "bad_transaction_ids_total",
        "Number of times the NFS server sent a response with a transaction ID unknown to this client.",
    ),
    None,
    _transport("backlog_queue_total", "Total number of items added to the RPC backlog queue."),
    _transport("maximum_rpc_slots", "Maximum number of simultaneously active RPC requests ever used.", "gauge"),
    _transport("sending_queue_total", "Total number of items added to the RPC transmission sending queue."),
    _transport("pending_queue_total", "Total number of items added to the RPC transmission pending queue."),
)
_SHOWN_TRANSPORT = tuple(family for family in _TRANSPORT if family is not None)
_UDP_GAP = slice(2, 2)
_RDMA_GAP = slice(10, 10)
_GAP = [0, 0, 0]
_FEWEST_TRANSPORT = {b"udp": 7, b"tcp": 10, b"rdma": 20}


def _operation(name: str, help_text: str) -> Family:
    return _family(f"operations_{name}_total", help_text, "operation")


# In the order of the numbers, the last three in milliseconds.
_OPERATIONS = (
    _operation("requests", "Number of requests performed for a given operation."),
    _operation("transmissions", "Number of times an actual RPC request has been transmitted for a given operation."),
    _operation("major_timeouts", "Number of times a request has had a major timeout for a given operation."),
    _operation("sent_bytes", "Number of bytes sent for a given operation, including RPC headers and payload."),
    _operation("received_bytes", "Number of bytes received for a given operation, including RPC headers and payload."),
    _operation(
        "queue_time_seconds",
        "Duration all requests spent queued for transmission for a given operation before they were sent, in seconds.",
    ),
    _operation(
        "response_time_seconds",
        "Duration all requests took to get a reply back after a request for a given operation was transmitted, in seconds.",
    ),
    _operation(
        "request_time_seconds",
        "Duration all requests took from when a request was enqueued to when it was completely handled for a given "
        "operation, in seconds.",
    ),
)
_FIRST_TIME = 5
_WRAP = 1 << 53
"""Times the kernel has let run below 0 come out as almost 2^64; like node_exporter, what a float holds exactly is kept."""


class NfsMount(NamedTuple):
    """One NFS mount: its export and place, and what the kernel counts for it.

    `transports` are the protocol and the numbers in the order of a TCP transport; `operations` the name and the numbers.
    """

    position: int
    """Among the entries of the mount table, from 0."""

    export: str
    mount_point: str
    age_seconds: int
    bytes_and_pages: list[int]
    events: list[int]
    transports: list[tuple[str, list[int]]]
    operations: list[tuple[str, list[int]]]


class Shown(NamedTuple):
    """A mount whose numbers are shown: several mounts of an export over the same transport share them."""

    labels: tuple[str, str, str]
    mount: NfsMount


class MountStatsReading(NamedTuple):
    """What is shown, and export, protocol, address and mount point of every mount."""

    shown: list[Shown]
    places: tuple[tuple[str, str, str, str], ...]


def parse(data: bytes) -> list[NfsMount]:
    """The NFS mounts of /proc/PID/mountstats."""
    mounts = []
    lines = iter(data.split(b"\n"))
    position = -1
    for line in lines:
        words = line.split()
        if not words or words[0] != b"device":
            continue
        position += 1
        if words[2:4] != [b"mounted", b"on"] or words[5:7] != [b"with", b"fstype"] or len(words) < 8:
            raise ValueError("a device in mountstats without its mount point")
        if len(words) > 8 and words[7] in _NFS_TYPES:
            mounts.append(_nfs(position, text(words[1]), text(words[4]), lines))
    return mounts


def _nfs(position: int, export: str, mount_point: str, lines: Iterator[bytes]) -> NfsMount:
    mount = NfsMount(position, export, mount_point, 0, [], [], [], [])
    for line in lines:
        label, *words = line.split() or (b"",)
        if not label:
            break
        if label == b"age:":
            mount = mount._replace(age_seconds=int(words[0] if words else b""))
        elif label == b"bytes:":
            mount.bytes_and_pages[:] = _numbers(words, len(_BYTES))
        elif label == b"events:":
            mount.events[:] = _numbers(words, len(_EVENTS))
        elif label == b"xprt:":
            mount.transports.append(_transport_numbers(words))
        elif label == b"per-op":
            mount.operations.extend(_operation_numbers(lines))
            break
    return mount


def _numbers(words: list[bytes], fewest: int) -> list[int]:
    if len(words) < fewest:
        raise ValueError("too few numbers in a line of mountstats")
    return integers(words[:fewest])


def _transport_numbers(words: list[bytes]) -> tuple[str, list[int]]:
    """The numbers of a transport, put where those of TCP stand; RDMA's own ones are left out."""
    protocol, *fields = words or (b"",)
    if len(fields) < _FEWEST_TRANSPORT.get(protocol, len(fields) + 1):
        raise ValueError("a transport in mountstats that is unknown or too short")
    numbers = integers(fields)
    if protocol == b"udp":
        numbers[_UDP_GAP] = _GAP
    elif protocol == b"rdma":
        numbers[_RDMA_GAP] = _GAP
    missing = max(0, len(_TRANSPORT) - len(numbers))
    return text(protocol), (numbers + [0] * missing)[: len(_TRANSPORT)]


def _operation_numbers(lines: Iterator[bytes]) -> Iterator[tuple[str, list[int]]]:
    for line in lines:
        name, *words = line.split() or (b"",)
        if not name:
            return
        yield text(name.removesuffix(b":")), _numbers(words, len(_OPERATIONS))


class MountStats(HostCollector[MountStatsReading]):
    """What goes over each NFS mount."""

    name = "mountstats"
    summary = "bytes, events, transports and operations of each NFS mount"
    default_on = False
    prometheus = (AGE, INFO, *_BYTES, *_SHOWN_TRANSPORT, *_OPERATIONS, *_SHOWN_EVENTS)

    def setup(self, options: msgspec.Struct) -> None:
        self._stats = self.kernel.proc_file("self/mountstats")
        self._mounts = self.kernel.proc_file("self/mountinfo")

    def read(self) -> MountStatsReading:
        mounts = parse(self._stats.read())
        return arrange(mounts, self._addresses() if mounts else [])

    def _addresses(self) -> list[str]:
        """Both files list the mounts in the same order; only this one has the servers' addresses."""
        return [mount.address for mount in parse_mounts(self._mounts.read())]

    def families(self, reading: MountStatsReading) -> Sequence[Block]:
        shown, places = reading
        if not places:
            return ()
        key = tuple(
            [(labels, len(mount.transports), tuple([name for name, _ in mount.operations])) for labels, mount in shown]
        )
        shape = self.shapes.get("prometheus", (key, places), lambda: _series(reading))
        return [Block(shape, _values(reading))]


def arrange(mounts: Sequence[NfsMount], addresses: Sequence[str]) -> MountStatsReading:
    """Which mounts' numbers are shown, under which labels: the first of each export, protocol and address."""
    shown: dict[tuple[str, str, str], Shown] = {}
    places: dict[tuple[str, str, str, str], None] = {}
    for mount in mounts:
        address = addresses[mount.position] if mount.position < len(addresses) else ""
        for protocol, _ in mount.transports:
            labels = mount.export, protocol, address
            places[*labels, mount.mount_point] = None
            if labels in shown:
                break
            shown[labels] = Shown(labels, mount)
    return MountStatsReading(list(shown.values()), tuple(places))


def _series(reading: MountStatsReading) -> list[Series]:
    labels = [labels for labels, _ in reading.shown]
    transports = [(*labels, str(number)) for labels, mount in reading.shown for number in range(len(mount.transports))]
    operations = [(*labels, name) for labels, mount in reading.shown for name, _ in mount.operations]
    return [
        *table((INFO,), reading.places),
        *table((AGE, *_BYTES, *_SHOWN_EVENTS), labels),
        *table(_SHOWN_TRANSPORT, transports),
        *table(_OPERATIONS, operations),
    ]


def _values(reading: MountStatsReading) -> list[Number]:
    mounts = [mount for _, mount in reading.shown]
    values: list[Number] = [*[1] * len(reading.places), *[mount.age_seconds for mount in mounts]]
    values += _columns([mount.bytes_and_pages or [0] * len(_BYTES) for mount in mounts], _BYTES)
    values += _columns([mount.events or [0] * len(_EVENTS) for mount in mounts], _EVENTS)
    values += _columns([numbers for mount in mounts for _, numbers in mount.transports], _TRANSPORT)
    for index, column in enumerate(zip(*[row for mount in mounts for _, row in mount.operations], strict=True)):
        values += column if index < _FIRST_TIME else [number % _WRAP / 1000 for number in column]
    return values


def _columns(rows: Sequence[Sequence[int]], families: Sequence[Family | None]) -> list[int]:
    columns = zip(families, zip(*rows, strict=True), strict=True) if rows else ()
    return [number for family, column in columns if family is not None for number in column]

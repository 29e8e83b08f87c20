"""Space and inodes of mounted file systems: the mount table and statvfs(3).

node_exporter multiplies by f_bsize, as is done here; f_frsize differs from it on a few FUSE file systems only.
"""

import os
from collections.abc import Sequence
from operator import mul
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, field

from novel_agent.config.schema import Duration, Regex, Section
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import Isolate
from novel_agent.inputs.host.mounts import Mount, MountTable
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.samples import table
from novel_agent.model.metric import Block, Family, Number, Series

DEFAULT_EXCLUDED_MOUNTS = r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
DEFAULT_EXCLUDED_TYPES = (
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
    r"|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
)
STUCK = "mountpoint timeout"
_HURRIED_SECONDS = 0.25
_MOST_OUT_PER_SERVER = 4

_LABELS = ("device", "mountpoint", "fstype", "device_error")
DEVICE_ERROR = Family(
    "node_filesystem_device_error",
    "Whether an error occurred while getting statistics for the given device.",
    "gauge",
    _LABELS,
)
READ_ONLY = Family("node_filesystem_readonly", "Filesystem read-only status.", "gauge", _LABELS)
SIZE = Family("node_filesystem_size_bytes", "Filesystem size in bytes.", "gauge", _LABELS)
FREE = Family("node_filesystem_free_bytes", "Filesystem free space in bytes.", "gauge", _LABELS)
AVAILABLE = Family(
    "node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.", "gauge", _LABELS
)
FILES = Family("node_filesystem_files", "Filesystem total file nodes.", "gauge", _LABELS)
FILES_FREE = Family("node_filesystem_files_free", "Filesystem total free file nodes.", "gauge", _LABELS)
PURGEABLE = Family(
    "node_filesystem_purgeable_bytes",
    "Filesystem space available including purgeable space (MacOS specific).",
    "gauge",
    _LABELS,
)
MOUNT_INFO = Family(
    "node_filesystem_mount_info",
    "Filesystem mount information.",
    "gauge",
    ("device", "major", "minor", "mountpoint"),
)

_OTEL_LABELS = ("system.device", "system.filesystem.mode", "system.filesystem.mountpoint", "system.filesystem.type")
_STATES = ("used", "free", "reserved")
USAGE = Family(
    "system.filesystem.usage",
    "Reports a filesystem's space usage across different states",
    "updowncounter",
    (*_OTEL_LABELS, "system.filesystem.state"),
    unit="By",
)
UTILIZATION = Family(
    "system.filesystem.utilization",
    "Fraction of filesystem bytes used",
    "gauge",
    (*_OTEL_LABELS, "system.filesystem.state"),
    unit="1",
)
LIMIT = Family(
    "system.filesystem.limit", "The total storage capacity of the filesystem", "updowncounter", _OTEL_LABELS, unit="By"
)


class FilesystemReading(NamedTuple):
    """The mounts that answered, what they answered, and the others with the reason."""

    mounts: tuple[Mount, ...]
    answers: list[os.statvfs_result]
    silent: tuple[tuple[Mount, str], ...]


class Asker:
    """statvfs of mounts, where the call on a dead one may never return.

    Such a call stays out, holding one thread, until the kernel lets go of it. Until then its mount is stuck and is not
    asked again: a dead mount costs one deadline and one thread however often it is looked at, and is back at the first
    reading after its call has returned. Of one server's mounts a single one is asked first; if it stays silent, the
    others get a fraction of the deadline each, and none of them a thread once four are held.
    """

    def __init__(self, isolate: Isolate, deadline_seconds: float) -> None:
        self._isolate = isolate
        self._deadline_seconds = deadline_seconds
        self._out: dict[tuple[bytes, str, str, str], str] = {}

    def ask(self, mounts: Sequence[Mount]) -> list[os.statvfs_result | str]:
        """An answer a mount: its numbers, or what is wrong with it."""
        answers: list[os.statvfs_result | str] = [STUCK] * len(mounts)
        asked_servers = set(self._out.values())
        now, first, siblings = [], [], []
        for index, mount in enumerate(mounts):
            if mount.in_memory:
                now.append(index)
            elif _identity(mount) in self._out:
                continue
            elif mount.server and mount.server in asked_servers:
                siblings.append(index)
            else:
                asked_servers.add(mount.server)
                first.append(index)
        for index in now:
            answers[index] = _answer(mounts[index])
        self._ask_isolated(mounts, first, self._deadline_seconds, answers)
        self._ask_siblings(mounts, siblings, answers)
        return answers

    def _ask_siblings(
        self, mounts: Sequence[Mount], indexes: list[int], answers: list[os.statvfs_result | str]
    ) -> None:
        silent = set(self._out.values())
        patient = [index for index in indexes if mounts[index].server not in silent]
        self._ask_isolated(mounts, patient, self._deadline_seconds, answers)
        for index in indexes:
            server = mounts[index].server
            if server in silent and list(self._out.values()).count(server) < _MOST_OUT_PER_SERVER:
                self._ask_isolated(mounts, [index], _HURRIED_SECONDS, answers)

    def _ask_isolated(
        self,
        mounts: Sequence[Mount],
        indexes: list[int],
        deadline_seconds: float,
        answers: list[os.statvfs_result | str],
    ) -> None:
        if indexes:
            outcomes = self._isolate(self._call, [mounts[index] for index in indexes], deadline_seconds)
            for index, outcome in zip(indexes, outcomes, strict=True):
                if isinstance(outcome, OSError):
                    answers[index] = _error_text(outcome)
                elif outcome is not None:
                    answers[index] = outcome

    def _call(self, mount: Mount) -> os.statvfs_result:
        """Runs in a thread that may be left behind: what it notes down is all that it shares."""
        identity = _identity(mount)
        self._out[identity] = mount.server
        try:
            return os.statvfs(mount.path)
        finally:
            self._out.pop(identity, None)


def _identity(mount: Mount) -> tuple[bytes, str, str, str]:
    return mount.path, mount.device, mount.major, mount.minor


def _answer(mount: Mount) -> os.statvfs_result | str:
    try:
        return os.statvfs(mount.path)
    except OSError as error:
        return _error_text(error)


def _error_text(error: OSError) -> str:
    """The kernel's error as Go spells it: from the number alone, so the label has few values."""
    reason = os.strerror(error.errno or 0)
    return reason[0].lower() + reason[1:]


class Filesystem(HostCollector[FilesystemReading]):
    """How full the mounted file systems are."""

    class Options(Section, frozen=True, kw_only=True):
        """Which mounts are shown, and how long one may take to answer."""

        exclude_mounts: Annotated[
            Regex,
            Meta(description="Mount points left out. The default counts for nothing where include_mounts is set."),
        ] = DEFAULT_EXCLUDED_MOUNTS
        include_mounts: Annotated[Regex | None, Meta(description="Only these mount points.")] = None
        exclude_types: Annotated[
            Regex, Meta(description="Types left out. The default counts for nothing where include_types is set.")
        ] = DEFAULT_EXCLUDED_TYPES
        include_types: Annotated[Regex | None, Meta(description="Only these types.")] = None
        mount_timeout_seconds: Annotated[
            Duration,
            Meta(gt=0, description="How long a mount may take; one that takes longer is skipped until it answers."),
        ] = field(default=5.0, name="mount_timeout")

    name = "filesystem"
    summary = "space and inodes of mounted file systems; a hung mount is skipped"
    prometheus = (DEVICE_ERROR, READ_ONLY, SIZE, FREE, AVAILABLE, FILES, FILES_FREE, PURGEABLE, MOUNT_INFO)
    otel = (USAGE, UTILIZATION, LIMIT)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, Filesystem.Options)
        mounts = NameFilter(options.exclude_mounts, options.include_mounts, DEFAULT_EXCLUDED_MOUNTS)
        types = NameFilter(options.exclude_types, options.include_types, DEFAULT_EXCLUDED_TYPES)
        self._table = MountTable(self.kernel, lambda mount_point, fs_type: types(fs_type) and mounts(mount_point))
        self._asker = Asker(self.kernel.isolate, options.mount_timeout_seconds)
        self._all: tuple[Mount, ...] = ()
        self._distinct: tuple[Mount, ...] = ()

    def read(self) -> FilesystemReading:
        mounts = self._table.read()
        if mounts is not self._all:
            self._all, self._distinct = mounts, _distinct(mounts)
        mounts = self._distinct
        answers = self._asker.ask(mounts)
        sizes = [answer for answer in answers if not isinstance(answer, str)]
        if len(sizes) == len(mounts):
            return FilesystemReading(mounts, sizes, ())
        pairs = list(zip(mounts, answers, strict=True))
        return FilesystemReading(
            tuple([mount for mount, answer in pairs if not isinstance(answer, str)]),
            sizes,
            tuple([(mount, answer) for mount, answer in pairs if isinstance(answer, str)]),
        )

    def families(self, reading: FilesystemReading) -> Sequence[Block]:
        mounts, answers, silent = reading
        if not mounts and not silent:
            return ()
        shape = self.shapes.get("prometheus", (mounts, silent), lambda: _series(reading))
        values: list[Number] = [*[0] * len(mounts), *[1] * len(silent)]
        values += [int(mount.read_only) for mount in mounts]
        values += [int(mount.read_only) for mount, _ in silent]
        if answers:
            bsize, _, blocks, bfree, bavail, files, ffree, *_ = zip(*answers, strict=True)
            for column in (blocks, bfree, bavail):
                values += map(mul, column, bsize)
            values += files
            values += ffree
            values += [0] * len(answers)
            values += [1] * len(answers)
        return [Block(shape, values)]

    def telemetry(self, reading: FilesystemReading) -> Sequence[Block]:
        mounts, answers, _ = reading
        if not mounts:
            return ()
        shape = self.shapes.get("otel", mounts, lambda: _otel_series(mounts))
        usage: list[Number] = []
        utilization: list[Number] = []
        limit: list[Number] = []
        for bsize, _, blocks, bfree, bavail, *_ in answers:
            usage += ((blocks - bfree) * bsize, bavail * bsize, max(0, bfree - bavail) * bsize)
            utilization.append((blocks - bfree) / blocks if blocks else 0.0)
            limit.append(blocks * bsize)
        return [Block(shape, usage + utilization + limit)]


def _distinct(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """One mount for each set of labels: the last, which covers the others and is the one that statvfs reaches."""
    return tuple({(mount.device, mount.mount_point, mount.fs_type): mount for mount in mounts}.values())


def _series(reading: FilesystemReading) -> list[Series]:
    mounts = reading.mounts
    answered = [(mount.device, mount.mount_point, mount.fs_type, "") for mount in mounts]
    silent = [(mount.device, mount.mount_point, mount.fs_type, error) for mount, error in reading.silent]
    return [
        *table((DEVICE_ERROR, READ_ONLY), answered + silent),
        *table((SIZE, FREE, AVAILABLE, FILES, FILES_FREE, PURGEABLE), answered),
        *table((MOUNT_INFO,), [(mount.device, mount.major, mount.minor, mount.mount_point) for mount in mounts]),
    ]


def _otel_series(mounts: Sequence[Mount]) -> list[Series]:
    rows = [(mount.device, "ro" if mount.read_only else "rw", mount.mount_point, mount.fs_type) for mount in mounts]
    return [
        *table((USAGE,), [(*row, state) for row in rows for state in _STATES]),
        *table((UTILIZATION,), [(*row, "used") for row in rows]),
        *table((LIMIT,), rows),
    ]

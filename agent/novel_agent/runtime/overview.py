"""The host at a glance, read out of the series of the last two samples.

It looks up by name in what `/metrics` shows, so it knows no collector and a collector that is off just leaves a gap.
"""

from collections.abc import Iterable, Sequence

from novel_agent.model.metric import Block, Label
from novel_agent.runtime.status import DeviceRate, FilesystemUse, GroupUse, Overview

Table = dict[str, dict[tuple[Label, ...], float]]

_WANTED = frozenset(
    {
        "node_boot_time_seconds", "node_cpu_seconds_total", "node_load1", "node_load5", "node_load15",
        "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes", "node_memory_SwapTotal_bytes",
        "node_memory_SwapFree_bytes", "node_filesystem_size_bytes", "node_filesystem_avail_bytes",
        "node_disk_read_bytes_total", "node_disk_written_bytes_total", "node_network_receive_bytes_total",
        "node_network_transmit_bytes_total", "namedprocess_namegroup_num_procs",
        "namedprocess_namegroup_cpu_seconds_total", "namedprocess_namegroup_memory_bytes",
    }
)  # fmt: skip


class Snapshot:
    """The series the overview needs, of one sample."""

    def __init__(self, at: float, blocks: Iterable[Block]) -> None:
        self.at = at
        self.table = _table(blocks)

    def one(self, name: str) -> float | None:
        """The value of a family without labels."""
        return self.table.get(name, {}).get(())


def _table(blocks: Iterable[Block]) -> Table:
    table: Table = {}
    for shape, values in blocks:
        wanted: list[int] | None = shape.compiled.get("overview")
        if wanted is None:
            wanted = [index for index, series in enumerate(shape.series) if series.family.name in _WANTED]
            shape.compiled["overview"] = wanted
        for index in wanted:
            series = shape.series[index]
            table.setdefault(series.family.name, {})[series.labels] = values[index]
    return table


def overview(last: Snapshot | None, before: Snapshot | None) -> Overview:
    """The overview of `last`, with rates since `before` where there is one."""
    if last is None:
        return Overview(None, None, None, None, [], None, None, None, None, [], [], [], [])
    boot = last.one("node_boot_time_seconds")
    loads = [last.one(name) for name in ("node_load1", "node_load5", "node_load15")]
    cpus = {dict(labels)["cpu"] for labels in last.table.get("node_cpu_seconds_total", {})}
    return Overview(
        at=last.at,
        uptime_seconds=last.at - boot if boot else None,
        cpus=len(cpus) or None,
        cpu_utilization=_cpu_utilization(last, before),
        load=[load for load in loads if load is not None],
        memory_total_bytes=last.one("node_memory_MemTotal_bytes"),
        memory_available_bytes=last.one("node_memory_MemAvailable_bytes"),
        swap_total_bytes=last.one("node_memory_SwapTotal_bytes"),
        swap_free_bytes=last.one("node_memory_SwapFree_bytes"),
        filesystems=_filesystems(last),
        disks=_devices(last, before, "node_disk_read_bytes_total", "node_disk_written_bytes_total"),
        networks=_devices(last, before, "node_network_receive_bytes_total", "node_network_transmit_bytes_total"),
        groups=_groups(last, before),
    )


def _rate(last: Snapshot, before: Snapshot | None, name: str, labels: tuple[Label, ...]) -> float | None:
    if before is None or last.at <= before.at:
        return None
    now, then = last.table.get(name, {}).get(labels), before.table.get(name, {}).get(labels)
    if now is None or then is None or now < then:
        return None
    return (now - then) / (last.at - before.at)


def _cpu_utilization(last: Snapshot, before: Snapshot | None) -> float | None:
    busy = whole = 0.0
    for labels in last.table.get("node_cpu_seconds_total", {}):
        rate = _rate(last, before, "node_cpu_seconds_total", labels)
        if rate is None:
            continue
        whole += rate
        if dict(labels)["mode"] not in {"idle", "iowait"}:
            busy += rate
    return min(1.0, busy / whole) if whole else None


def _filesystems(last: Snapshot) -> list[FilesystemUse]:
    available = last.table.get("node_filesystem_avail_bytes", {})
    found = [
        FilesystemUse(dict(labels)["mountpoint"], dict(labels)["device"], size, available.get(labels, 0.0))
        for labels, size in last.table.get("node_filesystem_size_bytes", {}).items()
        if size
    ]
    return sorted(found, key=lambda use: use.available_bytes / use.size_bytes)[:50]


def _devices(last: Snapshot, before: Snapshot | None, inward: str, outward: str) -> list[DeviceRate]:
    found = [
        DeviceRate(dict(labels)["device"], _rate(last, before, inward, labels), _rate(last, before, outward, labels))
        for labels in last.table.get(inward, {})
    ]
    return sorted(found, key=lambda each: -((each.in_bytes_per_second or 0) + (each.out_bytes_per_second or 0)))[:50]


def _groups(last: Snapshot, before: Snapshot | None) -> list[GroupUse]:
    memory = last.table.get("namedprocess_namegroup_memory_bytes", {})
    found = [
        GroupUse(
            dict(labels)["groupname"],
            processes,
            _group_cores(last, before, labels),
            memory.get((*labels, ("memtype", "resident")), 0.0),
        )
        for labels, processes in last.table.get("namedprocess_namegroup_num_procs", {}).items()
    ]
    return sorted(found, key=lambda group: (-(group.cpu_cores or 0), -group.resident_bytes))[:50]


def _group_cores(last: Snapshot, before: Snapshot | None, labels: Sequence[Label]) -> float | None:
    rates = [
        _rate(last, before, "namedprocess_namegroup_cpu_seconds_total", (*labels, ("mode", mode)))
        for mode in ("user", "system")
    ]
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None

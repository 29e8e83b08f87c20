"""Plugin names and where their classes live; imports nothing until asked.

One more host collector is one module, one test, one recorded fixture and one row here.
"""

from importlib import import_module
from typing import Any

HOST_COLLECTORS: dict[str, str] = {
    "arp": "novel_agent.inputs.host.arp:Arp",
    "bcache": "novel_agent.inputs.host.bcache:Bcache",
    "bcachefs": "novel_agent.inputs.host.bcachefs:Bcachefs",
    "bonding": "novel_agent.inputs.host.bonding:Bonding",
    "btrfs": "novel_agent.inputs.host.btrfs:Btrfs",
    "cgroup": "novel_agent.inputs.host.cgroup:ControlGroup",
    "cgroups": "novel_agent.inputs.host.cgroups:Cgroups",
    "conntrack": "novel_agent.inputs.host.conntrack:Conntrack",
    "cpu": "novel_agent.inputs.host.cpu:Cpu",
    "cpu_vulnerabilities": "novel_agent.inputs.host.cpu_vulnerabilities:CpuVulnerabilities",
    "cpufreq": "novel_agent.inputs.host.cpufreq:CpuFrequency",
    "diskstats": "novel_agent.inputs.host.diskstats:DiskStats",
    "dmi": "novel_agent.inputs.host.dmi:Dmi",
    "dmmultipath": "novel_agent.inputs.host.dmmultipath:DmMultipath",
    "edac": "novel_agent.inputs.host.edac:Edac",
    "entropy": "novel_agent.inputs.host.entropy:Entropy",
    "fibrechannel": "novel_agent.inputs.host.fibrechannel:FibreChannel",
    "filefd": "novel_agent.inputs.host.filefd:FileDescriptors",
    "filesystem": "novel_agent.inputs.host.filesystem:Filesystem",
    "gpu": "novel_agent.inputs.host.gpu:NvidiaGpu",
    "hwmon": "novel_agent.inputs.host.hwmon:HardwareMonitor",
    "infiniband": "novel_agent.inputs.host.infiniband:InfiniBand",
    "interrupts": "novel_agent.inputs.host.interrupts:Interrupts",
    "ipvs": "novel_agent.inputs.host.ipvs:Ipvs",
    "kernel_hung": "novel_agent.inputs.host.kernel_hung:KernelHung",
    "loadavg": "novel_agent.inputs.host.loadavg:LoadAverage",
    "mdadm": "novel_agent.inputs.host.mdadm:MdRaid",
    "meminfo": "novel_agent.inputs.host.meminfo:MemoryInfo",
    "mountstats": "novel_agent.inputs.host.mountstats:MountStats",
    "netclass": "novel_agent.inputs.host.netclass:NetClass",
    "netdev": "novel_agent.inputs.host.netdev:NetDevices",
    "netstat": "novel_agent.inputs.host.netstat:NetStat",
    "nfs": "novel_agent.inputs.host.nfs:NfsClient",
    "nfsd": "novel_agent.inputs.host.nfsd:NfsServer",
    "nvme": "novel_agent.inputs.host.nvme:Nvme",
    "os": "novel_agent.inputs.host.os_release:OsRelease",
    "powersupplyclass": "novel_agent.inputs.host.powersupplyclass:PowerSupplies",
    "pressure": "novel_agent.inputs.host.pressure:Pressure",
    "processes": "novel_agent.inputs.host.processes:Processes",
    "rapl": "novel_agent.inputs.host.rapl:Rapl",
    "schedstat": "novel_agent.inputs.host.schedstat:SchedStat",
    "selinux": "novel_agent.inputs.host.selinux:SeLinux",
    "sockstat": "novel_agent.inputs.host.sockstat:SockStat",
    "softirqs": "novel_agent.inputs.host.softirqs:SoftIrqs",
    "softnet": "novel_agent.inputs.host.softnet:SoftNet",
    "stat": "novel_agent.inputs.host.stat:Stat",
    "sysctl": "novel_agent.inputs.host.sysctl:Sysctl",
    "systemd": "novel_agent.inputs.host.systemd:Systemd",
    "tapestats": "novel_agent.inputs.host.tapestats:TapeStats",
    "tcpstat": "novel_agent.inputs.host.tcpstat:TcpStat",
    "textfile": "novel_agent.inputs.host.textfile:TextFile",
    "thermal_zone": "novel_agent.inputs.host.thermal_zone:ThermalZones",
    "time": "novel_agent.inputs.host.time_of_day:TimeOfDay",
    "timex": "novel_agent.inputs.host.timex:Timex",
    "udp_queues": "novel_agent.inputs.host.udp_queues:UdpQueues",
    "uname": "novel_agent.inputs.host.uname:Uname",
    "vmstat": "novel_agent.inputs.host.vmstat:VmStat",
    "watchdog": "novel_agent.inputs.host.watchdog:Watchdog",
    "xfs": "novel_agent.inputs.host.xfs:Xfs",
    "zfs": "novel_agent.inputs.host.zfs:Zfs",
}

OFF_BY_DEFAULT = frozenset(
    {
        "cgroups", "cpu_vulnerabilities", "interrupts", "mountstats", "processes", "softirqs", "sysctl", "systemd",
        "tcpstat",
    }
)  # fmt: skip
"""As in node_exporter; known here so that a collector which is off is never imported."""

PROCESS_GROUPS = "novel_agent.inputs.process:ProcessGroups"

OUTPUTS: dict[str, str] = {
    "file": "novel_agent.outputs.file:FileOutput",
    "loki": "novel_agent.outputs.loki:LokiOutput",
    "otlp": "novel_agent.outputs.otlp:OtlpOutput",
    "prometheus_remote_write": "novel_agent.outputs.remote_write:RemoteWriteOutput",
}


def load(target: str) -> Any:
    """The attribute that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)

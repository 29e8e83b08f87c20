"""Name and version of the running kernel, by uname(2); the NIS domain stands in /proc/sys/kernel/domainname only."""

import os
from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

INFO = Family(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
    "gauge",
    ("sysname", "release", "version", "machine", "nodename", "domainname"),
)


class Uname(HostCollector[tuple[str, ...]]):
    """Which kernel runs, on which machine."""

    name = "uname"
    summary = "kernel, architecture and host name"
    prometheus = (INFO,)

    def setup(self, options: msgspec.Struct) -> None:
        self._domain = self.kernel.proc_file("sys/kernel/domainname", one_read=True)

    def read(self) -> tuple[str, ...]:
        system = os.uname()
        try:
            domain = self._domain.read().decode(errors="replace").strip()
        except OSError:  # a service with ProcSubset=pid sees no /proc/sys
            domain = "(none)"
        return system.sysname, system.release, system.version, system.machine, system.nodename, domain

    def families(self, reading: tuple[str, ...]) -> Sequence[Block]:
        return [Block(self.shapes.get("prometheus", reading, lambda: [INFO.series(*reading)]), (1,))]

"""Bytes that wait in the queues of UDP sockets, from /proc/net/udp and udp6.

Source: Documentation/networking/proc_net_tcp.rst; the tables of UDP have the same columns.
"""

from collections.abc import Sequence

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.model.metric import Block, Family

_FEWEST_FIELDS = 13
_LONGEST_LINE_BYTES = 256  # 128 for most sockets; some 210 with every number as long as it can be

QUEUES = Family(
    "node_udp_queues",
    "Number of allocated memory in the kernel for UDP datagrams in bytes.",
    "gauge",
    ("queue", "ip"),
)

Queues = tuple[int, int]
"""Bytes to be sent, bytes to be received."""


def parse(data: bytes) -> Queues:
    """The queues of all sockets in a table together."""
    header, *lines = data.splitlines() or [b""]
    if not header.lstrip().startswith(b"sl "):
        raise ValueError("net/udp lacks its header")
    to_send = to_receive = 0
    for line in lines:
        fields = line.split(None, _FEWEST_FIELDS)
        if len(fields) < _FEWEST_FIELDS:
            raise ValueError(f"net/udp has a line of {len(fields)} fields")
        sending, receiving = fields[4].split(b":")
        to_send += int(sending, 16)
        to_receive += int(receiving, 16)
    return to_send, to_receive


class UdpQueues(HostCollector[dict[str, Queues]]):
    """How much waits for UDP sockets to be read, and for the network to take it."""

    name = "udp_queues"
    summary = "bytes in the queues of UDP sockets"
    prometheus = (QUEUES,)

    def setup(self, options: msgspec.Struct) -> None:
        self._files = {
            version: self.kernel.proc_file(table, record_bytes=_LONGEST_LINE_BYTES)
            for version, table in (("v4", "net/udp"), ("v6", "net/udp6"))
        }

    def read(self) -> dict[str, Queues]:
        found = {version: queues for version, file in self._files.items() if (queues := _queues(file)) is not None}
        if not found:
            raise NoData("neither net/udp nor net/udp6 exists")
        return found

    def families(self, reading: dict[str, Queues]) -> Sequence[Block]:
        versions = tuple(reading)
        shape = self.shapes.get(
            "prometheus",
            versions,
            lambda: [QUEUES.series(queue, version) for version in versions for queue in ("tx", "rx")],
        )
        return [Block(shape, [size for queues in reading.values() for size in queues])]


def _queues(file: KernelFile) -> Queues | None:
    try:
        return parse(file.read())
    except FileNotFoundError:
        return None

"""Open files of the whole system from /proc/sys/fs/file-nr (Documentation/admin-guide/sysctl/fs.rst)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family


def parse(data: bytes) -> tuple[int, int]:
    """File handles allocated and the most there may be; the number between them is 0 since Linux 2.6."""
    allocated, _, maximum = data.split()[:3]
    return int(allocated), int(maximum)


class FileDescriptors(HostCollector[tuple[int, int]]):
    """How near the system is to its limit of open files."""

    name = "filefd"
    summary = "open file handles of the whole system and their limit"
    prometheus = (
        Family("node_filefd_allocated", "File descriptor statistics: allocated."),
        Family("node_filefd_maximum", "File descriptor statistics: maximum."),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("sys/fs/file-nr", one_read=True)

    def read(self) -> tuple[int, int]:
        return parse(self._file.read())

    def families(self, reading: tuple[int, int]) -> Sequence[Block]:
        return [self.single("prometheus", self.prometheus, reading)]

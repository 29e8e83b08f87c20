"""Tasks that hung (Documentation/admin-guide/sysctl/kernel.rst, hung_task_detect_count, since Linux 6.13)."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.model.metric import Block, Family


class KernelHung(HostCollector[int]):
    """How many tasks the kernel has found blocked for longer than its hung task timeout, since boot."""

    name = "kernel_hung"
    summary = "tasks found hung since boot"
    prometheus = (
        Family(
            "node_kernel_hung_tasks_total",
            "Total number of tasks that have been detected as hung since the system booted.",
            "counter",
        ),
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("sys/kernel/hung_task_detect_count", one_read=True)

    def read(self) -> int:
        return int(read_or_no_data(self._file, "hung task counter"))

    def families(self, reading: int) -> Sequence[Block]:
        return [self.single("prometheus", self.prometheus, (reading,))]

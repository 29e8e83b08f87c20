"""How many control groups each controller has, from /proc/cgroups (cgroups(7))."""

from collections.abc import Sequence

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

COUNT = Family("node_cgroups_cgroups", "Current cgroup number of the subsystem.", "gauge", ("subsys_name",))
ENABLED = Family("node_cgroups_enabled", "Current cgroup number of the subsystem.", "gauge", ("subsys_name",))


def parse(data: bytes) -> dict[str, tuple[int, int]]:
    """By controller, the number of groups and whether it is enabled (1) or not (0)."""
    controllers: dict[str, tuple[int, int]] = {}
    for line in data.splitlines():
        if line.startswith(b"#"):
            continue
        name, _, count, enabled = line.split()[:4]
        controllers[name.decode()] = int(count), int(enabled)
    if not controllers:
        raise ValueError("no controllers in /proc/cgroups")
    return controllers


class Cgroups(HostCollector[dict[str, tuple[int, int]]]):
    """How many control groups there are."""

    name = "cgroups"
    summary = "number of control groups a controller"
    default_on = False
    prometheus = (COUNT, ENABLED)

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("cgroups", one_read=True)

    def read(self) -> dict[str, tuple[int, int]]:
        return parse(self._file.read())

    def families(self, reading: dict[str, tuple[int, int]]) -> Sequence[Block]:
        shape = self.shapes.get(
            "prometheus",
            tuple(reading),
            lambda: [family.series(name) for family in self.prometheus for name in reading],
        )
        counts, enabled = zip(*reading.values(), strict=True)
        return [Block(shape, [*counts, *enabled])]

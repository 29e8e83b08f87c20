"""Bonded interfaces: how many interfaces each has and how many of them have a link.

Source: Documentation/networking/bonding.rst, section 8; `bonding_masters` is there while the module is loaded.
"""

from collections.abc import Sequence

import msgspec

from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.model.metric import Block, Family

SLAVES = Family("node_bonding_slaves", "Number of configured slaves per bonding interface.", "gauge", ("master",))
ACTIVE = Family("node_bonding_active", "Number of active slaves per bonding interface.", "gauge", ("master",))

_LINK_PREFIXES = ("lower_", "slave_")
"""What the bond's directory calls its interfaces; the second up to Linux 3.18."""


class Bonding(HostCollector[dict[str, tuple[int, int]]]):
    """Whether bonds still have all their links."""

    name = "bonding"
    summary = "configured and active interfaces of each bond"
    prometheus = (SLAVES, ACTIVE)

    def setup(self, options: msgspec.Struct) -> None:
        self._masters = self.kernel.sys_file("class/net/bonding_masters")

    def read(self) -> dict[str, tuple[int, int]]:
        """Configured and active interfaces by bond."""
        masters = read_or_no_data(self._masters, "bonding").decode(errors="replace").split()
        return {master: self._bond(f"class/net/{master}") for master in masters}

    def _bond(self, path: str) -> tuple[int, int]:
        slaves = self.kernel.attribute(f"{path}/bonding/slaves")
        if slaves is None:
            raise InputError(f"{path}/bonding/slaves cannot be read")
        states = [self._state(path, slave) for slave in slaves.decode(errors="replace").split()]
        return len(states), states.count(b"up")

    def _state(self, path: str, slave: str) -> bytes:
        for prefix in _LINK_PREFIXES:
            state = self.kernel.attribute(f"{path}/{prefix}{slave}/bonding_slave/mii_status")
            if state is not None:
                return state
        raise InputError(f"{path}/lower_{slave}/bonding_slave/mii_status cannot be read")

    def families(self, reading: dict[str, tuple[int, int]]) -> Sequence[Block]:
        masters = tuple(reading)
        shape = self.shapes.get(
            "prometheus", masters, lambda: [family.series(master) for family in (SLAVES, ACTIVE) for master in masters]
        )
        return [Block(shape, [number for column in zip(*reading.values(), strict=True) for number in column])]

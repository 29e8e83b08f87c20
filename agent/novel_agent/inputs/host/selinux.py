"""Whether SELinux is on, set to be, and enforcing: /sys/fs/selinux (selinuxfs) and /etc/selinux/config."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.replaced_file import ReplacedFile
from novel_agent.model.metric import Block, Family

ENABLED = Family("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false")
MODES = (
    Family("node_selinux_config_mode", "Configured SELinux enforcement mode"),
    Family("node_selinux_current_mode", "Current SELinux enforcement mode"),
)
_MODES = {b"enforcing": 1, b"permissive": 0}
_DISABLED = -1


class Modes(NamedTuple):
    """1 enforcing, 0 permissive, -1 disabled or unknown."""

    configured: int
    current: int


def parse_config(data: bytes) -> int:
    """The mode that the configuration file sets for the next boot."""
    for line in data.splitlines():
        line = line.strip()
        if line[:1] not in (b"#", b";"):
            key, found, value = line.partition(b"=")
            if found and key == b"SELINUX":
                return _MODES.get(value.strip(b'"'), _DISABLED)
    return _DISABLED


class SeLinux(HostCollector[Modes | None]):
    """How strictly SELinux is applied; the reading is None where it is off."""

    name = "selinux"
    summary = "whether SELinux is enabled, and its modes"
    prometheus = (ENABLED, *MODES)

    def setup(self, options: msgspec.Struct) -> None:
        self._config = ReplacedFile(self.kernel.root + "/etc/selinux/config")
        self._label = self.kernel.proc_file("self/attr/current", one_read=True)
        self._enabled: bool | None = None

    def read(self) -> Modes | None:
        if self._enabled is None:
            self._enabled = self._is_enabled()
        if not self._enabled:
            return None
        try:
            configured = parse_config(self._config.read())
        except OSError:
            configured = _DISABLED
        current = self.kernel.integer("fs/selinux/enforce")
        return Modes(configured, _DISABLED if current is None else current)

    def _is_enabled(self) -> bool:
        """SELinux cannot be switched on or off but by a boot, so this is asked once.

        selinuxfs is mounted, read-write (a container sees it read-only where its runtime hides SELinux), and a policy
        is loaded: before that every process has the label `kernel`.
        """
        if self.kernel.integer("fs/selinux/enforce") is None:
            return False
        if os.statvfs(f"{self.kernel.sys}/fs/selinux").f_flag & os.ST_RDONLY:
            return False
        try:
            return self._label.read().rstrip(b"\0\n") != b"kernel"
        except OSError:
            return True

    def families(self, reading: Modes | None) -> Sequence[Block]:
        if reading is None:
            return [self.single("enabled", (ENABLED,), (0,))]
        return [self.single("enabled", (ENABLED,), (1,)), self.single("modes", MODES, reading)]

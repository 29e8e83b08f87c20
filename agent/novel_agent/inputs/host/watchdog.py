"""Hardware watchdogs (Documentation/ABI/testing/sysfs-class-watchdog)."""

from collections.abc import Iterable, Sequence

from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, text
from novel_agent.model.metric import Family


def _family(name: str, attribute: str) -> Family:
    return Family(f"node_watchdog_{name}", f"Value of /sys/class/watchdog/<watchdog>/{attribute}", "gauge", ("name",))


NUMBERS = {
    "bootstatus": _family("bootstatus", "bootstatus"),
    "fw_version": _family("fw_version", "fw_version"),
    "nowayout": _family("nowayout", "nowayout"),
    "timeleft": _family("timeleft_seconds", "timeleft"),
    "timeout": _family("timeout_seconds", "timeout"),
    "pretimeout": _family("pretimeout_seconds", "pretimeout"),
    "access_cs0": _family("access_cs0", "access_cs0"),
}
_TEXTS = ("options", "identity", "state", "status", "pretimeout_governor")
INFO = Family("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>", "gauge", ("name", *_TEXTS))


class Watchdog(DeviceCollector):
    """Whether a hung machine would be reset, and when."""

    name = "watchdog"
    summary = "state and timeouts of hardware watchdogs"
    optional = True
    directory = "class/watchdog"
    prometheus = (*NUMBERS.values(), INFO)

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        for name in names:
            path = f"{self.directory}/{name}"
            present = self.kernel.sys_entries(path)
            for key, family in NUMBERS.items():
                if key in present:
                    yield Attribute(f"{path}/{key}", family.series(name))

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        for name in names:
            path = f"{self.directory}/{name}"
            present = self.kernel.sys_entries(path)
            yield from (f"{path}/{key}" for key in _TEXTS if key in present)

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        for name in names:
            path = f"{self.directory}/{name}"
            yield INFO.series(name, *[text(texts.get(f"{path}/{key}")) for key in _TEXTS]), 1

"""What the kernel does about processor vulnerabilities (Documentation/ABI/testing/sysfs-devices-system-cpu)."""

from collections.abc import Iterable, Sequence

from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, text
from novel_agent.model.metric import Family

INFO = Family(
    "node_cpu_vulnerabilities_info",
    "Details of each CPU vulnerability reported by sysfs. The value of the series is an int encoded state of the "
    "vulnerability. The same state is stored as a string in the label",
    "gauge",
    ("codename", "state", "mitigation"),
)
_WITH_DETAIL = ("vulnerable", "mitigation", "unknown")


def parse(content: str) -> tuple[str, str]:
    """State and mitigation; a sentence that begins with no known state is `unknown` with itself as mitigation."""
    lower = content.lower()
    if lower.startswith("not affected"):
        return "not affected", ""
    for state in _WITH_DETAIL:
        if lower.startswith(state):
            return state, " ".join(content.split()[1:])
    return "unknown", content


class CpuVulnerabilities(DeviceCollector):
    """Which vulnerabilities this processor has and how they are mitigated."""

    name = "cpu_vulnerabilities"
    summary = "processor vulnerabilities and their mitigations"
    default_on = False
    optional = True
    directory = "devices/system/cpu/vulnerabilities"
    prometheus = (INFO,)

    def names(self) -> Sequence[str]:
        return self.kernel.sys_entries(self.directory)

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        return ()

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        return (f"{self.directory}/{name}" for name in names)

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        for name in names:
            data = texts[f"{self.directory}/{name}"]
            if data is not None:
                yield INFO.series(name, *parse(text(data))), 1

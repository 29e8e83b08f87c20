"""Processor frequencies (Documentation/admin-guide/pm/cpufreq.rst); sysfs counts in kHz.

CPUs that share a frequency policy share its directory, which is read once.
"""

from collections.abc import Hashable, Iterable, Sequence

from novel_agent.errors import InputError
from novel_agent.inputs.host.cpu import FREQUENCY_FILE, parse_cpu_list
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, text
from novel_agent.model.metric import Family

_CPUS = "devices/system/cpu"
_TO_HERTZ = 0.001


def _family(name: str, what: str) -> Family:
    return Family(f"node_cpu_{name}hertz", f"{what} in hertz.", "gauge", ("cpu",))


CURRENT = _family("frequency_", "Current CPU thread frequency")
NUMBERS = {
    FREQUENCY_FILE: CURRENT,
    "cpuinfo_avg_freq": _family("frequency_avg_", "Average CPU thread frequency"),
    "cpuinfo_min_freq": _family("frequency_min_", "Minimum CPU thread frequency"),
    "cpuinfo_max_freq": _family("frequency_max_", "Maximum CPU thread frequency"),
    "scaling_cur_freq": _family("scaling_frequency_", "Current scaled CPU thread frequency"),
    "scaling_min_freq": _family("scaling_frequency_min_", "Minimum scaled CPU thread frequency"),
    "scaling_max_freq": _family("scaling_frequency_max_", "Maximum scaled CPU thread frequency"),
}
GOVERNOR = Family("node_cpu_scaling_governor", "Current enabled CPU frequency governor.", "gauge", ("cpu", "governor"))
FREQUENCY = Family(
    "system.cpu.frequency", "Operating frequency of the logical CPU", "gauge", ("cpu.logical_number",), unit="Hz"
)


class CpuFrequency(DeviceCollector):
    """How fast the CPUs run, may run, and who decides."""

    name = "cpufreq"
    summary = "current, minimum and maximum frequency and governor of each CPU"
    directory = f"{_CPUS}/cpufreq"
    prometheus = (*NUMBERS.values(), GOVERNOR)
    otel = (FREQUENCY,)

    _policies: Sequence[tuple[str, str, list[str]]] = ()

    def names(self) -> Sequence[str]:
        return self.kernel.sys_entries(self.directory)

    def settings(self) -> Hashable:
        return self.kernel.attribute(f"{_CPUS}/offline")

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        self._policies = [
            (cpu, path, present)
            for cpu in self._online()
            if (present := self.kernel.sys_entries(path := self._policy(cpu)))
        ]
        for cpu, path, present in self._policies:
            shown = "scaling_cur_freq" if "scaling_cur_freq" in present else FREQUENCY_FILE
            for file, family in NUMBERS.items():
                if file in present:
                    otel = FREQUENCY.series(cpu) if file == shown else None
                    yield Attribute(f"{path}/{file}", family.series(cpu), _TO_HERTZ, otel, _TO_HERTZ)

    def _online(self) -> list[str]:
        offline = self.kernel.attribute(f"{_CPUS}/offline")
        if offline is None:
            raise InputError(f"{_CPUS}/offline cannot be read")
        out = set(parse_cpu_list(offline))
        entries = self.kernel.sys_entries(_CPUS)
        cpus = [name[3:] for name in entries if name.startswith("cpu") and name[3:].isdigit()]
        if not cpus:
            raise InputError("sysfs shows no CPU")
        return [cpu for cpu in cpus if cpu not in out]

    def _policy(self, cpu: str) -> str:
        """The directory of the CPU's policy: usually a link to one in `cpufreq/`."""
        own = f"{_CPUS}/cpu{cpu}/cpufreq"
        target = (self.kernel.sys_link(own) or "").rpartition("/")[2]
        return f"{self.directory}/{target}" if target.startswith("policy") else own

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        for _, path, _ in self._policies:
            yield f"{path}/scaling_governor"
            yield f"{path}/scaling_available_governors"

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        for cpu, path, _ in self._policies:
            governor = text(texts[f"{path}/scaling_governor"])
            available = text(texts[f"{path}/scaling_available_governors"])
            if governor:
                yield from (
                    (GOVERNOR.series(cpu, name), int(name == governor)) for name in dict.fromkeys(available.split(" "))
                )

"""Kernel settings chosen by the configuration, from /proc/sys (Documentation/admin-guide/sysctl).

A setting is named as sysctl(8) names it (`vm.swappiness`). One with several values may be given names for them:
`kernel.random.read:current,limit`.
"""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.model.metric import Block, Family, FamilyPattern, Number, Series

_NOT_IN_A_NAME = re.compile("_*[^0-9A-Za-z_]+_*")

INFO = Family("node_sysctl_info", "sysctl info", "gauge", ("name", "value", "index"))


class SysctlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which settings are shown."""

    include: Annotated[tuple[str, ...], Meta(description="Numeric settings, each `NAME` or `NAME:FIELD,FIELD…`.")] = ()
    include_info: Annotated[tuple[str, ...], Meta(description="Settings shown as text, in a label.")] = ()


class Setting(NamedTuple):
    """One setting of the configuration, with the names of its fields if it has any."""

    name: str
    fields: tuple[str, ...]
    file: KernelFile


class Reading(NamedTuple):
    """Numbers by setting, and texts by name."""

    numbers: tuple[tuple[Setting, tuple[int, ...]], ...]
    texts: tuple[tuple[str, tuple[str, ...]], ...]


def parse_numbers(data: bytes) -> tuple[int, ...]:
    """Whole numbers, decimal or with the prefix of another base."""
    return tuple(int(word, 0) for word in data.decode().split())


class Sysctl(HostCollector[Reading]):
    """How the kernel is set."""

    name = "sysctl"
    summary = "chosen kernel settings as numbers or labels"
    default_on = False
    Options = SysctlOptions
    prometheus = (INFO, FamilyPattern("node_sysctl_[a-zA-Z0-9_]+", "A kernel setting.", "untyped", ("index",)))

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, SysctlOptions)
        self._numeric = [self._setting(text) for text in dict.fromkeys(options.include)]
        self._textual = [self._setting(text) for text in dict.fromkeys(options.include_info)]

    def _setting(self, text: str) -> Setting:
        name, _, fields = text.partition(":")
        file = self.kernel.proc_file("sys/" + name.replace(".", "/"), one_read=True)
        return Setting(name, tuple(fields.split(",")) if fields else (), file)

    def read(self) -> Reading:
        numbers = tuple((setting, parse_numbers(setting.file.read())) for setting in self._numeric)
        for setting, values in numbers:
            if not values or len(setting.fields) not in (0, len(values)):
                raise InputError(f"{setting.name} has {len(values)} values but {len(setting.fields)} names for them")
        texts = tuple(
            (setting.name, tuple(setting.file.read().decode(errors="replace").split())) for setting in self._textual
        )
        return Reading(numbers, texts)

    def families(self, reading: Reading) -> Sequence[Block]:
        key = (tuple(len(values) for _, values in reading.numbers), reading.texts)
        shape = self.shapes.get("prometheus", key, lambda: _series(reading))
        values: list[Number] = [value for _, values in reading.numbers for value in values]
        return [Block(shape, values + [1] * (len(shape) - len(values)))]


def _series(reading: Reading) -> list[Series]:
    series: list[Series] = []
    for setting, values in reading.numbers:
        series += _of_setting(setting, len(values))
    for name, texts in reading.texts:
        series += [INFO.series(name, text, str(index)) for index, text in enumerate(texts)]
    return series


def _of_setting(setting: Setting, values: int) -> list[Series]:
    name, help_text = f"node_sysctl_{_NOT_IN_A_NAME.sub('_', setting.name)}", f"sysctl {setting.name}"
    if setting.fields:
        return [
            Family(f"{name}_{field}", f"{help_text}, field {index}", "untyped").series()
            for index, field in enumerate(setting.fields)
        ]
    if values == 1:
        return [Family(name, help_text, "untyped").series()]
    family = Family(name, help_text, "untyped", ("index",))
    return [family.series(str(index)) for index in range(values)]

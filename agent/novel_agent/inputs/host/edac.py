"""Memory errors that were detected and corrected, or not (Documentation/admin-guide/RAS/main.rst)."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence

import msgspec

from novel_agent.inputs.host.hardware import ERRORS, labelled
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, text
from novel_agent.model.metric import Family

_CONTROLLER = re.compile(r"mc(\d+)")
_CSROW = re.compile(r"csrow(\d+)")
_CHANNEL = re.compile(r"ch(\d+)_ce_count")
_ROW = ("controller", "csrow")
_PLACE = (*_ROW, "channel", "dimm_label")

CE = Family("node_edac_correctable_errors_total", "Total correctable memory errors.", "counter", ("controller",))
UE = Family("node_edac_uncorrectable_errors_total", "Total uncorrectable memory errors.", "counter", ("controller",))
CSROW_CE = Family(
    "node_edac_csrow_correctable_errors_total", "Total correctable memory errors for this csrow.", "counter", _ROW
)
CSROW_UE = Family(
    "node_edac_csrow_uncorrectable_errors_total", "Total uncorrectable memory errors for this csrow.", "counter", _ROW
)
CHANNEL_CE = Family(
    "node_edac_channel_correctable_errors_total",
    "Total correctable memory errors for this channel.",
    "counter",
    _PLACE,
)
CHANNEL_UE = Family(
    "node_edac_channel_uncorrectable_errors_total",
    "Total uncorrectable memory errors for this channel.",
    "counter",
    _PLACE,
)


def dimm_label(data: bytes | None) -> str:
    """The board's name of a memory module, which tools set after boot, as node_exporter writes it."""
    if data is None:
        return "unknown"
    return text(data).replace("#", "").replace("csrow", "_csrow").replace("channel", "_channel")


class Edac(DeviceCollector):
    """Errors by memory controller, row and channel. Over OTLP by controller, so that sums count each error once."""

    name = "edac"
    summary = "memory errors, corrected and not, by controller, row and channel"
    directory = "devices/system/edac/mc"
    prometheus = (CE, UE, CSROW_CE, CSROW_UE, CHANNEL_CE, CHANNEL_UE)
    otel = (ERRORS,)

    def setup(self, options: msgspec.Struct) -> None:
        self._labels: list[str] = []

    def names(self) -> Sequence[str]:
        return [name for name in self.kernel.sys_entries(self.directory) if _CONTROLLER.fullmatch(name)]

    def settings(self) -> Hashable:
        return tuple([self.kernel.attribute(path) for path in self._labels])

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        self._labels = []
        for name in names:
            path = f"{self.directory}/{name}"
            number = name.removeprefix("mc")
            corrected, uncorrected = (
                labelled(ERRORS, hw_id=name, hw_type="memory", hw_name=name, error_type=kind)
                for kind in ("corrected", "uncorrected")
            )
            yield Attribute(f"{path}/ce_count", CE.series(number), otel=corrected)
            yield Attribute(f"{path}/ue_count", UE.series(number), otel=uncorrected)
            yield Attribute(f"{path}/ce_noinfo_count", CSROW_CE.series(number, "unknown"))
            yield Attribute(f"{path}/ue_noinfo_count", CSROW_UE.series(number, "unknown"))
            for entry in self.kernel.sys_entries(path):
                if (row := _CSROW.fullmatch(entry)) is not None:
                    yield from self._row(f"{path}/{entry}", number, row[1])

    def _row(self, path: str, controller: str, row: str) -> Iterator[Attribute]:
        yield Attribute(f"{path}/ce_count", CSROW_CE.series(controller, row))
        yield Attribute(f"{path}/ue_count", CSROW_UE.series(controller, row))
        present = self.kernel.sys_entries(path)
        for entry in present:
            if (match := _CHANNEL.fullmatch(entry)) is None:
                continue
            channel = match[1]
            label = "unknown"
            if f"ch{channel}_dimm_label" in present:
                self._labels.append(f"{path}/ch{channel}_dimm_label")
                label = dimm_label(self.kernel.attribute(self._labels[-1]))
            yield Attribute(f"{path}/{entry}", CHANNEL_CE.series(controller, row, channel, label))
            if f"ch{channel}_ue_count" in present:
                yield Attribute(f"{path}/ch{channel}_ue_count", CHANNEL_UE.series(controller, row, channel, label))

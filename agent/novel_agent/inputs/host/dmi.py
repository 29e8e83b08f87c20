"""Who made this machine, from the firmware's tables (Documentation/ABI/testing/sysfs-firmware-dmi-tables)."""

from collections.abc import Sequence

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.sysfs import read_once, text
from novel_agent.model.metric import Block, Family, Series

_DIRECTORY = "class/dmi/id"
_LABELS = (
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "system_vendor",
)
_FILES = {label: "sys_vendor" if label == "system_vendor" else label for label in _LABELS}

INFO = Family(
    "node_dmi_info",
    f"A metric with a constant '1' value labeled by {', '.join(_LABELS)} if provided by DMI.",
    "gauge",
    _LABELS,
)


class Dmi(HostCollector[Series]):
    """The machine's names and versions: read once, since they change with a reboot only. Serials are root's to read."""

    name = "dmi"
    summary = "vendor, model, versions and serials of machine, board and firmware"
    optional = True
    prometheus = (INFO,)

    _series: Series | None = None

    def read(self) -> Series:
        if self._series is None:
            present = self.kernel.sys_entries(_DIRECTORY)
            contents = {
                label: read_once(self.kernel, f"{_DIRECTORY}/{file}")
                for label, file in _FILES.items()
                if file in present
            }
            labels = tuple((label, text(data)) for label, data in contents.items() if data is not None)
            if not labels:
                raise NoData("this platform has no DMI tables")
            self._series = Series(INFO, labels)
        return self._series

    def families(self, reading: Series) -> Sequence[Block]:
        return [Block(self.shapes.get("info", reading, lambda: [reading]), (1,))]

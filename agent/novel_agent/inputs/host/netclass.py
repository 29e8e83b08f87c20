"""What the network interfaces are and how they are set, from /sys/class/net.

An interface has about twenty attributes of interest, a file each. The files of some interfaces stay open, so many as is
fair with descriptors; those of the others are opened for each reading. Which attributes an interface has is found when it
appears. The entries of the directory keep their inode numbers through a change of name, so a listing tells also when two
interfaces have swapped their names.

Where netlink shows the same interfaces as sysfs, the attributes of an interface are read again only when

- the kernel said something of it (a link event: mtu, txqueuelen, address, up and down, name, master, type; alias, group
  and link mode while it is up), or events were lost;
- one of those attributes reads otherwise that the kernel changes without a word or a while before it (`_watched`);
- or the reading is the twentieth since, because a driver may change what it should announce.

The directory is listed again when there was an event, and once more after one of an interface that goes: the kernel sends it
a little before the entry disappears. Over a recorded tree, where sysfs shows another network namespace, and without
netlink, every reading is of everything.

Sources: Documentation/ABI/testing/sysfs-class-net; what is announced: net/core/rtnetlink.c (rtnetlink_event, do_setlink),
net/core/dev.c, net/core/link_watch.c.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.errors import NoData
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.netlink import RTM_DELLINK, LinkEvents, Message, link_index, links
from novel_agent.inputs.host.netlink_collector import NetlinkCollector
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family, Label, Series

_MOST_OPEN = 24  # interfaces: some 450 descriptors
_LONGEST_ATTRIBUTE_BYTES = 128  # what node_exporter reads of one; an alias may have twice as many
_NO_DESCRIPTOR_LEFT = (errno.EMFILE, errno.ENFILE)
_BYTES_IN_MEGABIT = 1_000_000 // 8
_IFF_UP = 1
_ARPHRD_LOOPBACK = 772
_EVERYTHING_EVERY = 20  # readings

_DEVICE = ("device",)
UP = Family("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", "gauge", _DEVICE)
INFO = Family(
    "node_network_info",
    "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
    "gauge",
    ("device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"),
)

_TEXTS = ("address", "broadcast", "duplex", "operstate", "ifalias")
_NUMBERS = (
    ("addr_assign_type", "address_assign_type"),
    ("carrier", "carrier"),
    ("carrier_changes", "carrier_changes_total"),
    ("carrier_up_count", "carrier_up_changes_total"),
    ("carrier_down_count", "carrier_down_changes_total"),
    ("dev_id", "device_id"),
    ("dormant", "dormant"),
    ("flags", "flags"),
    ("ifindex", "iface_id"),
    ("iflink", "iface_link"),
    ("link_mode", "iface_link_mode"),
    ("mtu", "mtu_bytes"),
    ("name_assign_type", "name_assign_type"),
    ("netdev_group", "net_dev_group"),
    ("speed", "speed_bytes"),
    ("tx_queue_len", "transmit_queue_length"),
    ("type", "protocol_type"),
)
_FIXED = ("dev_id", "ifindex", "name_assign_type")
"""These change with the interface or its name only."""

_CHANGEABLE = tuple(name for name in (*_TEXTS, *(attribute for attribute, _ in _NUMBERS)) if name not in _FIXED)
_SILENT = ("flags", "netdev_group")
"""Filters may make an interface promiscuous, and sysfs sets a group, without an event."""

_EARLY_WITH_LINK = ("carrier_changes",)
"""The carrier changes up to a second before linkwatch says so, and that it does only while the interface is up."""

_SILENT_WHILE_UP = ("dormant", "duplex", "speed")
"""These are refused while it is down."""

_SILENT_WHILE_DOWN = ("ifalias", "link_mode")
_SILENT_ABOVE_OTHERS = ("address", "broadcast", "iflink")
"""Of tunnels, and of what lies on or is joined to another interface, which may move."""

_OPERSTATE = _TEXTS.index("operstate")
_SPEED, _INDEX, _LINK, _TYPE = (
    [attribute for attribute, _ in _NUMBERS].index(name) for name in ("speed", "ifindex", "iflink", "type")
)

_FAMILIES = tuple(
    Family(
        f"node_network_{name}",
        f"Network device property: {name}",
        "counter" if name.endswith("_total") else "gauge",
        _DEVICE,
    )
    for _, name in _NUMBERS
)

_HARDWARE = ("hw.id", "hw.name", "hw.network.physical_address")
LINK_UP = Family("hw.network.up", "Link status: 1 (up) or 0 (down)", "updowncounter", _HARDWARE, unit="1")
LINK_SPEED = Family("hw.network.bandwidth.limit", "Link speed", "updowncounter", _HARDWARE, unit="By/s")

Raw = dict[str, bytes | None]
"""What is in the attributes; None for one that the driver refuses, as those of an interface that is down may be."""


class Properties(NamedTuple):
    """One interface. `numbers` are as shown, the speed in bytes a second; `present` tells which there are."""

    name: str
    texts: tuple[str, ...]
    admin_state: str
    numbers: tuple[int | None, ...]
    present: tuple[bool, ...]
    physical: bool

    @property
    def address(self) -> str:
        """The hardware address, '' for none."""
        return self.texts[0]

    @property
    def up(self) -> int:
        """Whether it is operational, 1 or 0."""
        return int(self.texts[_OPERSTATE] == "up")

    @property
    def speed(self) -> int | None:
        """Bytes a second; negative where the driver does not know, None where it does not say."""
        return self.numbers[_SPEED]

    @property
    def interface_index(self) -> int | None:
        """The kernel's number for it."""
        return self.numbers[_INDEX]


def parse(name: str, attributes: Raw, *, physical: bool = False, ignore_invalid_speed: bool = False) -> Properties:
    """What the attributes say; a number that is none counts as missing."""
    texts = tuple([text((attributes.get(attribute) or b"").strip()) for attribute in _TEXTS])
    numbers = {attribute: _number(attributes.get(attribute)) for attribute, _ in _NUMBERS}
    flags, speed = numbers["flags"], numbers["speed"]
    admin_state = "unknown" if flags is None else "up" if flags & _IFF_UP else "down"
    if speed is not None:
        numbers["speed"] = None if speed < 0 and ignore_invalid_speed else speed * _BYTES_IN_MEGABIT
    present = tuple([number is not None for number in numbers.values()])
    return Properties(name, texts, admin_state, tuple(numbers.values()), present, physical)


def _number(data: bytes | None) -> int | None:
    """Some attributes are decimal, some hexadecimal with 0x before."""
    try:
        return None if data is None else int(data, 0)
    except ValueError:
        return None


def _watched(found: Properties) -> tuple[str, ...]:
    """The attributes of an interface that may read otherwise before, or without, the kernel having said so."""
    names: tuple[str, ...] = _SILENT
    if found.numbers[_TYPE] != _ARPHRD_LOOPBACK:
        names += _EARLY_WITH_LINK
        names += _SILENT_WHILE_DOWN if found.admin_state == "down" else _SILENT_WHILE_UP
    if found.numbers[_LINK] != found.interface_index:
        names += _SILENT_ABOVE_OTHERS
    return names


class Interface:
    """The attribute files of one interface. `inode` is that of its entry in the listing, not of what the entry links to."""

    __slots__ = (
        "_descriptors",
        "_fixed",
        "_last_raw",
        "_path",
        "_there",
        "_watched",
        "inode",
        "last",
        "name",
        "physical",
    )

    def __init__(self, path: str, name: str, inode: int) -> None:
        self.name = name
        self.inode = inode
        self.physical = os.path.exists(f"{path}/device")
        self.last: Properties | None = None
        self._path = path
        self._there: tuple[str, ...] = _CHANGEABLE
        self._watched: dict[str, bytes | None] = {}
        self._fixed: Raw = {}
        self._descriptors: dict[str, int] = {}
        self._last_raw: Raw = {}

    @property
    def is_open(self) -> bool:
        """Whether the files are kept open."""
        return bool(self._descriptors)

    def open(self) -> None:
        """Keep the files open from now on, if the process may have so many."""
        for attribute in self._there:
            try:
                self._descriptors[attribute] = os.open(f"{self._path}/{attribute}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR_LEFT:
                    self.close()
                    return

    def is_as_it_was(self) -> bool:
        """Whether what may change without an event reads as it did at the last reading."""
        return self.last is not None and self._read(self._watched) == self._watched

    def read(self, *, ignore_invalid_speed: bool) -> Properties | None:
        """The interface now; None where it has gone. The same object as before means that nothing changed."""
        raw = self._read(self._descriptors or self._there)
        if not any(raw.values()):
            self.last = None
            return None
        if not self._fixed:
            self._there = tuple(raw)
            self._fixed = self._read_closed(_FIXED)
        if self.last is None or raw != self._last_raw:
            self.last = parse(
                self.name, raw | self._fixed, physical=self.physical, ignore_invalid_speed=ignore_invalid_speed
            )
            self._last_raw = raw
            self._watched = {attribute: raw[attribute] for attribute in _watched(self.last) if attribute in raw}
        return self.last

    def _read(self, attributes: Iterable[str]) -> Raw:
        descriptors = self._descriptors
        if descriptors:
            return {attribute: _read(descriptors[attribute]) for attribute in attributes}
        return self._read_closed(attributes)

    def _read_closed(self, attributes: Iterable[str]) -> Raw:
        """Those of the attributes that there are; the way to them is walked once."""
        raw: Raw = {}
        try:
            directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return raw
        try:
            for attribute in attributes:
                try:
                    descriptor = os.open(attribute, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                except OSError as error:
                    if error.errno in _NO_DESCRIPTOR_LEFT:
                        raise
                    continue
                raw[attribute] = _read(descriptor)
                os.close(descriptor)
        finally:
            os.close(directory)
        return raw

    def close(self) -> None:
        """Close the files, if they are open."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}


def _read(descriptor: int) -> bytes | None:
    try:
        return os.pread(descriptor, _LONGEST_ATTRIBUTE_BYTES, 0)
    except OSError:
        return None


class NetClass(NetlinkCollector[tuple[Properties, ...]]):
    """Which network interfaces there are, whether they are up, and how they are set."""

    name = "netclass"
    summary = "state, speed, addresses and settings of the network interfaces"
    prometheus = (UP, INFO, *_FAMILIES)
    otel = (LINK_UP, LINK_SPEED)

    class Options(Section, frozen=True, kw_only=True):
        """Which interfaces."""

        exclude_devices: Annotated[Regex, Meta(description="Interfaces to leave out.")] = ""
        include_devices: Annotated[Regex | None, Meta(description="Interfaces to show; all others are left out.")] = (
            None
        )
        ignore_invalid_speed: Annotated[
            bool, Meta(description="Show no speed where the driver does not know it, rather than a negative one.")
        ] = False

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, self.Options)
        self._shown = NameFilter(options.exclude_devices, options.include_devices)
        self._ignore_invalid_speed = options.ignore_invalid_speed
        self._directory = f"{self.kernel.sys}/class/net"
        self._listing: dict[str, int] = {}
        self._interfaces: dict[str, Interface] = {}
        self._events = LinkEvents()
        self._is_followed = False
        self._readings_left = 0  # until the next of everything
        self._is_one_going = False
        self._shown_last: tuple[tuple[Properties, ...], list[Block]] = ((), [])

    def look(self) -> tuple[Properties, ...]:
        self._list()
        ignore = self._ignore_invalid_speed
        found = [interface.read(ignore_invalid_speed=ignore) for interface in self._interfaces.values()]
        return tuple([properties for properties in found if properties is not None])

    def ask(self) -> tuple[Properties, ...]:
        said = self._events.take()
        left, self._readings_left = self._readings_left, 0  # a reading that fails is followed by one of everything
        if said is None or not left:
            reading = self.look()
            self._is_followed = self._is_what_netlink_shows(reading)
            left = _EVERYTHING_EVERY
        else:
            reading = self._look_where_changed(said) if self._is_followed else self.look()
        self._readings_left = left - 1
        return reading

    def _is_what_netlink_shows(self, reading: tuple[Properties, ...]) -> bool:
        """Whether sysfs is that of the network namespace whose events are heard."""
        if not os.path.ismount(self.kernel.sys):
            return False
        listed = links(self.netlink)
        return sorted(link.name for link in listed.values()) == sorted(self._listing) and all(
            (found.name, found.address) == listed.get(found.interface_index or 0) for found in reading
        )

    def _look_where_changed(self, said: list[Message]) -> tuple[Properties, ...]:
        if said or self._is_one_going:
            self._list()
            self._is_one_going = any(kind == RTM_DELLINK for _, kind, _, _ in said)
        changed = {link_index(message) for message in said}
        ignore = self._ignore_invalid_speed
        reading = []
        for interface in self._interfaces.values():
            found = interface.last
            if found is None or found.interface_index in changed or not interface.is_as_it_was():
                found = interface.read(ignore_invalid_speed=ignore)
            if found is not None:
                reading.append(found)
        return tuple(reading)

    def _list(self) -> None:
        try:
            with os.scandir(self._directory) as entries:
                # `bonding_masters` is a file; the interfaces are links.
                listing = {entry.name: entry.inode() for entry in entries if not entry.is_file(follow_symlinks=False)}
        except (FileNotFoundError, PermissionError):
            raise NoData(f"{self._directory} cannot be listed") from None
        if listing != self._listing:
            self._follow(listing)

    def _follow(self, listing: dict[str, int]) -> None:
        """Let go of the interfaces that went or that another now has the name of, and take up those that came."""
        for name, interface in list(self._interfaces.items()):
            if listing.get(name) != interface.inode:
                self._interfaces.pop(name).close()
        for name in sorted(listing.keys() - self._interfaces.keys()):
            if self._shown(name):
                self._interfaces[name] = Interface(f"{self._directory}/{name}", name, listing[name])
        closed = [interface for interface in self._interfaces.values() if not interface.is_open]
        for interface in closed[: _MOST_OPEN - len(self._interfaces) + len(closed)]:
            interface.open()
        self._listing = listing

    def families(self, reading: tuple[Properties, ...]) -> Sequence[Block]:
        if not self._shown_last[1] or reading != self._shown_last[0]:
            self._shown_last = (reading, [self._block(reading)])
        return self._shown_last[1]

    def _block(self, reading: tuple[Properties, ...]) -> Block:
        key = tuple([(found.name, found.texts, found.admin_state, found.present) for found in reading])
        shape = self.shapes.get("prometheus", key, lambda: _series(reading))
        columns = zip(*[found.numbers for found in reading], strict=True)
        numbers = [number for column in columns for number in column if number is not None]
        return Block(shape, [*[found.up for found in reading], *[1] * len(reading), *numbers])

    def telemetry(self, reading: tuple[Properties, ...]) -> Sequence[Block]:
        cards = [found for found in reading if found.physical]
        fast = [found for found in cards if (found.speed or 0) > 0]
        key = tuple([(found.name, found.address, found in fast) for found in cards])
        shape = self.shapes.get(
            "otel",
            key,
            lambda: [
                *(LINK_UP.series(found.name, found.name, found.address) for found in cards),
                *(LINK_SPEED.series(found.name, found.name, found.address) for found in fast),
            ],
        )
        return [Block(shape, [*(found.up for found in cards), *(found.speed or 0 for found in fast)])]

    def close(self) -> None:
        super().close()
        self._events.close()
        for interface in self._interfaces.values():
            interface.close()
        self._interfaces.clear()
        self._listing = {}


def _series(reading: tuple[Properties, ...]) -> list[Series]:
    """Ten thousand interfaces have 190,000 series: those of one interface share its label."""
    labels: list[tuple[Label, ...]] = [(("device", found.name),) for found in reading]
    infos = [INFO.series(found.name, *found.texts[:4], found.admin_state, found.texts[4]) for found in reading]
    series = [*(Series(UP, label) for label in labels), *infos]
    for column, family in enumerate(_FAMILIES):
        series += [Series(family, label) for found, label in zip(reading, labels, strict=True) if found.present[column]]
    return series

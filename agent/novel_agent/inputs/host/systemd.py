"""Units of systemd, asked of it over the system bus (org.freedesktop.systemd1(5))."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex
from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.system_bus import SystemBus, property_of
from novel_agent.model.metric import Block, Family, Number, Series
from novel_agent.wire.dbus import ERROR, Call, Message

_SOCKET = "/run/dbus/system_bus_socket"
_TIMEOUT_SECONDS = 4.0
_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_MICROSECONDS = 1_000_000
_NOT_SET = 2**64 - 1
_FIRST_VERSION_WITH_STATE = 212
_VERSION = re.compile(r"[0-9]{3,}(?:\.[0-9]+)?")
_STATES = ("active", "activating", "deactivating", "inactive", "failed")

UNIT_STATE = Family("node_systemd_unit_state", "Systemd unit", "gauge", ("name", "state", "type"))
START_TIME = Family(
    "node_systemd_unit_start_time_seconds",
    "Start time of the unit since unix epoch in seconds.",
    "gauge",
    ("name",),
)
TASKS_CURRENT = Family(
    "node_systemd_unit_tasks_current", "Current number of tasks per Systemd unit", "gauge", ("name",)
)
TASKS_MAX = Family("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit", "gauge", ("name",))
RUNNING = Family("node_systemd_system_running", "Whether the system is operational (see 'systemctl is-system-running')")
UNITS = Family("node_systemd_units", "Summary of systemd unit states", "gauge", ("state",))
RESTARTS = Family("node_systemd_service_restart_total", "Service unit count of Restart triggers", "counter", ("name",))
LAST_TRIGGER = Family(
    "node_systemd_timer_last_trigger_seconds", "Seconds since epoch of last trigger.", "gauge", ("name",)
)
ACCEPTED = Family(
    "node_systemd_socket_accepted_connections_total",
    "Total number of accepted socket connections",
    "counter",
    ("name",),
)
CURRENT = Family("node_systemd_socket_current_connections", "Current number of socket connections", "gauge", ("name",))
REFUSED = Family(
    "node_systemd_socket_refused_connections_total", "Total number of refused socket connections", "gauge", ("name",)
)
VERSION = Family("node_systemd_version", "Detected systemd version", "gauge", ("version",))
VIRTUALIZATION = Family(
    "node_systemd_virtualization_info", "Detected virtualization technology", "gauge", ("virtualization_type",)
)


class SystemdOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which units are shown, and what of them."""

    include_units: Annotated[Regex, Meta(description="Regular expression for whole names of units to show.")] = ".+"
    exclude_units: Annotated[Regex, Meta(description="Regular expression for whole names of units to leave out.")] = (
        r".+\.(automount|device|mount|scope|slice)"
    )
    restarts: Annotated[bool, Meta(description="Also how often each service was restarted.")] = False
    start_times: Annotated[bool, Meta(description="Also when each unit became active.")] = False
    tasks: Annotated[bool, Meta(description="Also tasks of each service, and their limit.")] = False


class Unit(NamedTuple):
    """One unit as the manager lists it; `path` is its object on the bus."""

    name: str
    load_state: str
    active_state: str
    path: str


class Question(NamedTuple):
    """A property of a unit, and the family that shows it."""

    family: Family
    interface: str
    property: str


_TYPE = Question(UNIT_STATE, "Service", "Type")
_MOUNT_TYPE = Question(UNIT_STATE, "Mount", "Type")
_RESTARTS = Question(RESTARTS, "Service", "NRestarts")
_TASKS = (Question(TASKS_CURRENT, "Service", "TasksCurrent"), Question(TASKS_MAX, "Service", "TasksMax"))
_TRIGGER = Question(LAST_TRIGGER, "Timer", "LastTriggerUSec")
_START = Question(START_TIME, "Unit", "ActiveEnterTimestamp")
_SOCKETS = (
    Question(ACCEPTED, "Socket", "NAccepted"),
    Question(CURRENT, "Socket", "NConnections"),
    Question(REFUSED, "Socket", "NRefused"),
)


class Reading(msgspec.Struct, frozen=True):
    """What systemd answered. `units` holds name, type and state; `values` by family and unit name."""

    version: tuple[float, str]
    virtualization: str
    running: bool | None
    summary: dict[str, int]
    units: tuple[tuple[str, str, str], ...]
    values: dict[Family, dict[str, Number]]


def parse_version(text: str) -> tuple[float, str]:
    """`252.39-1~deb12u1` as 252.39 and itself; 0 and '' where there is no number."""
    found = _VERSION.search(text)
    return (float(found[0]), text) if found else (0.0, "")


def summarize(units: Iterable[Unit]) -> dict[str, int]:
    """How many units are in each state."""
    summary = dict.fromkeys(_STATES, 0)
    for unit in units:
        summary[unit.active_state] = summary.get(unit.active_state, 0) + 1
    return summary


class Systemd(HostCollector[Reading]):
    """In which state systemd and its units are."""

    name = "systemd"
    summary = "states of systemd units, timers and sockets"
    default_on = False
    optional = True
    Options = SystemdOptions
    prometheus = (
        UNIT_STATE,
        START_TIME,
        TASKS_CURRENT,
        TASKS_MAX,
        RUNNING,
        UNITS,
        RESTARTS,
        LAST_TRIGGER,
        ACCEPTED,
        CURRENT,
        REFUSED,
        VERSION,
        VIRTUALIZATION,
    )

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, SystemdOptions)
        self._include = re.compile(options.include_units)
        self._exclude = re.compile(options.exclude_units)
        self._options = options
        self._bus: SystemBus | None = None
        self._types: dict[str, str] = {}
        self._types_of: int | None = None

    def read(self) -> Reading:
        if self._bus is None:
            self._bus = SystemBus(self.kernel.root + _SOCKET, _TIMEOUT_SECONDS)
        try:
            return self._ask(self._bus)
        except BaseException:  # what is left of the answers would be taken for the next ones
            self._hang_up()
            raise

    def _ask(self, bus: SystemBus) -> Reading:
        manager = ("Version", "Virtualization", "SystemState", "UnitsLoadTimestampMonotonic")
        listing = Call(_SYSTEMD, _MANAGER_PATH, _MANAGER, "ListUnits")
        properties = [property_of(_SYSTEMD, _MANAGER_PATH, _MANAGER, name) for name in manager]
        *answers, listed = bus.call([*properties, listing])
        version_text, virtualization, state = map(_text, answers[:3])
        units = [Unit(row[0], row[2], row[3], row[6]) for row in _rows(listed)]
        shown = [unit for unit in units if self._is_shown(unit)]
        self._forget_types(_number(answers[3]), shown)
        version = parse_version(version_text or "")
        types, values = self._properties(bus, shown, timers=version[0] >= _FIRST_VERSION_WITH_STATE)
        return Reading(
            version,
            "unknown" if virtualization is None else virtualization or "none",
            None if state is None or version[0] < _FIRST_VERSION_WITH_STATE else state == "running",
            summarize(units),
            tuple((unit.name, types.get(unit.name, ""), unit.active_state) for unit in shown),
            values,
        )

    def _is_shown(self, unit: Unit) -> bool:
        return (
            unit.load_state == "loaded"
            and self._include.fullmatch(unit.name) is not None
            and self._exclude.fullmatch(unit.name) is None
        )

    def _forget_types(self, loaded: int | None, shown: Sequence[Unit]) -> None:
        """Types of services change only when systemd loads unit files, whose time it tells since version 250."""
        kept = self._types if loaded is not None and loaded == self._types_of else {}
        self._types = {unit.name: kept[unit.name] for unit in shown if unit.name in kept}
        self._types_of = loaded

    def _properties(
        self, bus: SystemBus, units: Sequence[Unit], *, timers: bool
    ) -> tuple[dict[str, str], dict[Family, dict[str, Number]]]:
        questions = [(unit, question) for unit in units for question in self._questions(unit, timers=timers)]
        replies = bus.call(
            [property_of(_SYSTEMD, unit.path, f"{_SYSTEMD}.{ask.interface}", ask.property) for unit, ask in questions]
        )
        types = dict(self._types)
        values: dict[Family, dict[str, Number]] = {}
        for (unit, question), reply in zip(questions, replies, strict=True):
            if question.family is UNIT_STATE:
                types[unit.name] = _text(reply) or ""
            elif (number := _number(reply)) is not None and not (number == _NOT_SET and question in _TASKS):
                in_microseconds = question in (_TRIGGER, _START)
                of_units = values.setdefault(question.family, {})
                of_units[unit.name] = number / _MICROSECONDS if in_microseconds else number
        self._types = {name: kind for name, kind in types.items() if name.endswith(".service")}
        if self._options.start_times:
            inactive = {unit.name: 0 for unit in units if unit.active_state != "active"}
            values[START_TIME] = inactive | values.get(START_TIME, {})
        return types, values

    def _questions(self, unit: Unit, *, timers: bool) -> Iterable[Question]:
        options = self._options
        kind = unit.name.rpartition(".")[2]
        if kind == "service":
            if unit.name not in self._types:
                yield _TYPE
            if options.restarts:
                yield _RESTARTS
            if options.tasks:
                yield from _TASKS
        elif kind == "mount":
            yield _MOUNT_TYPE
        elif kind == "timer" and timers:
            yield _TRIGGER
        elif kind == "socket":
            yield from _SOCKETS
        if options.start_times and unit.active_state == "active":
            yield _START

    def families(self, reading: Reading) -> Sequence[Block]:
        values = reading.values
        states_shape = self.shapes.get(
            "units",
            tuple((name, kind) for name, kind, _ in reading.units),
            lambda: [UNIT_STATE.series(name, state, kind) for name, kind, _ in reading.units for state in _STATES],
        )
        rest_shape = self.shapes.get(
            "rest",
            (
                reading.version[1],
                reading.virtualization,
                reading.running is None,
                tuple(reading.summary),
                tuple((family, tuple(of_units)) for family, of_units in values.items()),
            ),
            lambda: _rest(reading),
        )
        running = [] if reading.running is None else [int(reading.running)]
        states = [int(state == active) for _, _, active in reading.units for state in _STATES]
        rest: list[Number] = [reading.version[0], 1, *running, *reading.summary.values()]
        rest += [value for of_units in values.values() for value in of_units.values()]
        return [Block(states_shape, states), Block(rest_shape, rest)]

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None


def _rest(reading: Reading) -> list[Series]:
    return [
        VERSION.series(reading.version[1]),
        VIRTUALIZATION.series(reading.virtualization),
        *([] if reading.running is None else [RUNNING.series()]),
        *map(UNITS.series, reading.summary),
        *(family.series(name) for family, of_units in reading.values.items() for name in of_units),
    ]


def _text(reply: Message) -> str | None:
    """The text that was asked for; None where systemd has no such property or the unit has gone."""
    value = None if reply.kind == ERROR or not reply.body else reply.body[0]
    return value if isinstance(value, str) else None


def _number(reply: Message) -> int | None:
    """The number that was asked for; None likewise."""
    value = None if reply.kind == ERROR or not reply.body else reply.body[0]
    return value if isinstance(value, int) else None


def _rows(reply: Message) -> Sequence[Any]:
    if reply.kind == ERROR:
        raise InputError(f"systemd does not list its units: {reply.error_name}")
    if reply.signature != "a(ssssssouso)":
        raise InputError(f"systemd lists its units as {reply.signature!r}")
    rows: Sequence[Any] = reply.body[0]
    return rows

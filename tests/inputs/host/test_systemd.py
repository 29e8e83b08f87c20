"""Against a small bus that this test makes: it answers over a real socket, in bytes it packs by itself."""

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from novel_agent.errors import InputError
from novel_agent.inputs.host.system_bus import SystemBus, property_of
from novel_agent.inputs.host.systemd import parse_version
from novel_agent.wire.dbus import Call, decode_body, message_size
from novel_agent.wire.prometheus import render_text

SYSTEMD = "org.freedesktop.systemd1"
ALIGNMENT = {"s": 4, "o": 4, "u": 4, "t": 8, "(": 8, "v": 1, "g": 1}


def pack(buffer: bytearray, kind: str, value: Any) -> None:
    buffer += bytes(-len(buffer) % ALIGNMENT[kind[0]])
    match kind[0]:
        case "s" | "o":
            buffer += struct.pack("<I", len(value.encode())) + value.encode() + b"\0"
        case "u":
            buffer += struct.pack("<I", value)
        case "t":
            buffer += struct.pack("<Q", value)
        case "g":
            buffer += bytes((len(value),)) + value.encode() + b"\0"
        case "v":
            kind_of_value, inner = value
            pack(buffer, "g", kind_of_value)
            pack(buffer, kind_of_value, inner)
        case "(":
            for member, inner in zip(kind[1:-1], value, strict=True):
                pack(buffer, member, inner)


def message(kind: int, serial: int, signature: str, body: bytes, error: str = "") -> bytes:
    out = bytearray(struct.pack("<BBBBIII", ord("l"), kind, 1, 1, len(body), 7, 0))
    fields = [(5, "u", serial), (7, "s", "org.freedesktop.DBus"), *([(4, "s", error)] if error else [])]
    for code, field_kind, value in [*fields, *([(8, "g", signature)] if signature else [])]:
        out += bytes(-len(out) % 8) + bytes((code,))
        pack(out, "v", (field_kind, value))
    out[12:16] = struct.pack("<I", len(out) - 16)
    return bytes(out) + bytes(-len(out) % 8) + body


def text(value: str) -> tuple[str, bytes]:
    body = bytearray()
    pack(body, "s", value)
    return "s", bytes(body)


def variant(kind: str, value: Any) -> tuple[str, bytes]:
    body = bytearray()
    pack(body, "v", (kind, value))
    return "v", bytes(body)


def units(*rows: tuple[str, str, str]) -> tuple[str, bytes]:
    elements = bytearray(8)  # the array's length, and padding to its first struct
    for name, load_state, active_state in rows:
        path = "/org/freedesktop/systemd1/unit/" + name.replace(".", "_2e").replace("-", "_2d")
        row = (name, "A unit", load_state, active_state, "sub", "", path, 0, "", "/")
        pack(elements, "(ssssssouso)", row)
    return "a(ssssssouso)", struct.pack("<I", len(elements) - 8) + bytes(elements[4:])


class Bus:
    """Answers one connection after the other from a table; a missing entry is an error reply."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self.answers: dict[tuple[str, ...], tuple[str, bytes]] = {("Hello",): text(":1.42")}
        self.asked: list[tuple[str, ...]] = []
        self.auth_answer = b"OK 0123456789abcdef0123456789abcdef\r\n"
        self.auth_lines: list[bytes] = []
        self.garbage = b""
        self.extra = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._peers: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            with peer, peer.makefile("rb") as incoming:
                try:
                    self._talk(peer, incoming)
                except (OSError, struct.error):
                    continue

    def _talk(self, peer: socket.socket, incoming: Any) -> None:
        self.auth_lines.append(incoming.readline())
        peer.sendall(self.auth_answer)
        self.auth_lines.append(incoming.readline())
        while header := incoming.read(16):
            whole = header + incoming.read(message_size(header) - 16)
            fields_end = 16 + struct.unpack_from("<I", whole, 12)[0]
            serial, fields = decode_body(whole[8:fields_end], "ua(yv)")
            field = dict(fields)
            body = whole[fields_end + -fields_end % 8 :]
            arguments = decode_body(body, field.get(8, ""))
            question = (field[3], field[1], *arguments) if arguments else (field[3],)
            self.asked.append(question)
            answer = self.answers.get(question)
            if self.garbage and question != ("Hello",):
                peer.sendall(self.garbage)
                return
            error = message(3, serial, "", b"", "org.freedesktop.DBus.Error.UnknownProperty")
            peer.sendall(self.extra + (message(2, serial, *answer) if answer else error))

    def hang_up(self) -> None:
        for peer in self._peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join()

    def manager(self, name: str, kind: str, value: Any) -> None:
        path = "/org/freedesktop/systemd1"
        self.answers["Get", path, f"{SYSTEMD}.Manager", name] = variant(kind, value)

    def unit(self, name: str, interface: str, property_name: str, kind: str, value: Any) -> None:
        path = "/org/freedesktop/systemd1/unit/" + name.replace(".", "_2e").replace("-", "_2d")
        self.answers["Get", path, f"{SYSTEMD}.{interface}", property_name] = variant(kind, value)


@pytest.fixture
def bus(tmp_path):
    server = Bus(tmp_path / "root/run/dbus/system_bus_socket")
    yield server
    server.stop()


@pytest.fixture
def host(bus):
    bus.manager("Version", "s", "252.39-1~deb12u1")
    bus.manager("Virtualization", "s", "kvm")
    bus.manager("SystemState", "s", "running")
    bus.manager("UnitsLoadTimestampMonotonic", "t", 1_234_567)
    bus.answers[("ListUnits",)] = units(
        ("novel-engine.service", "loaded", "active"),
        ("backup.service", "loaded", "failed"),
        ("gone.service", "not-found", "inactive"),
        ("backup.timer", "loaded", "active"),
        ("dbus.socket", "loaded", "active"),
        ("home.mount", "loaded", "active"),
        ("rare.service", "loaded", "reloading"),
    )
    bus.unit("novel-engine.service", "Service", "Type", "s", "notify")
    bus.unit("backup.service", "Service", "Type", "s", "oneshot")
    bus.unit("backup.timer", "Timer", "LastTriggerUSec", "t", 1_700_000_000_500_000)
    bus.unit("dbus.socket", "Socket", "NAccepted", "u", 12)
    bus.unit("dbus.socket", "Socket", "NConnections", "u", 3)
    bus.unit("dbus.socket", "Socket", "NRefused", "u", 1)
    return bus


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_units_and_the_manager(host, collector):
    systemd = collector("systemd", exclude_units=r".+\.mount|rare.*")
    assert samples(systemd.families(systemd.read())) == [
        'node_systemd_unit_state{name="novel-engine.service",state="active",type="notify"} 1',
        'node_systemd_unit_state{name="novel-engine.service",state="activating",type="notify"} 0',
        'node_systemd_unit_state{name="novel-engine.service",state="deactivating",type="notify"} 0',
        'node_systemd_unit_state{name="novel-engine.service",state="inactive",type="notify"} 0',
        'node_systemd_unit_state{name="novel-engine.service",state="failed",type="notify"} 0',
        'node_systemd_unit_state{name="backup.service",state="active",type="oneshot"} 0',
        'node_systemd_unit_state{name="backup.service",state="activating",type="oneshot"} 0',
        'node_systemd_unit_state{name="backup.service",state="deactivating",type="oneshot"} 0',
        'node_systemd_unit_state{name="backup.service",state="inactive",type="oneshot"} 0',
        'node_systemd_unit_state{name="backup.service",state="failed",type="oneshot"} 1',
        'node_systemd_unit_state{name="backup.timer",state="active",type=""} 1',
        'node_systemd_unit_state{name="backup.timer",state="activating",type=""} 0',
        'node_systemd_unit_state{name="backup.timer",state="deactivating",type=""} 0',
        'node_systemd_unit_state{name="backup.timer",state="inactive",type=""} 0',
        'node_systemd_unit_state{name="backup.timer",state="failed",type=""} 0',
        'node_systemd_unit_state{name="dbus.socket",state="active",type=""} 1',
        'node_systemd_unit_state{name="dbus.socket",state="activating",type=""} 0',
        'node_systemd_unit_state{name="dbus.socket",state="deactivating",type=""} 0',
        'node_systemd_unit_state{name="dbus.socket",state="inactive",type=""} 0',
        'node_systemd_unit_state{name="dbus.socket",state="failed",type=""} 0',
        'node_systemd_version{version="252.39-1~deb12u1"} 252.39',
        'node_systemd_virtualization_info{virtualization_type="kvm"} 1',
        "node_systemd_system_running 1",
        'node_systemd_units{state="active"} 4',
        'node_systemd_units{state="activating"} 0',
        'node_systemd_units{state="deactivating"} 0',
        'node_systemd_units{state="inactive"} 1',
        'node_systemd_units{state="failed"} 1',
        'node_systemd_units{state="reloading"} 1',
        'node_systemd_timer_last_trigger_seconds{name="backup.timer"} 1700000000.5',
        'node_systemd_socket_accepted_connections_total{name="dbus.socket"} 12',
        'node_systemd_socket_current_connections{name="dbus.socket"} 3',
        'node_systemd_socket_refused_connections_total{name="dbus.socket"} 1',
    ]


def test_shows_restarts_tasks_and_start_times_when_asked(host, collector):
    host.unit("novel-engine.service", "Service", "NRestarts", "u", 4)
    host.unit("novel-engine.service", "Service", "TasksCurrent", "t", 17)
    host.unit("novel-engine.service", "Service", "TasksMax", "t", 2**64 - 1)
    host.unit("novel-engine.service", "Unit", "ActiveEnterTimestamp", "t", 1_600_000_000_250_000)
    systemd = collector(
        "systemd", include_units=".*engine.*|gone.*|backup.service", restarts=True, tasks=True, start_times=True
    )
    assert samples(systemd.families(systemd.read()))[-4:] == [
        'node_systemd_service_restart_total{name="novel-engine.service"} 4',
        'node_systemd_unit_tasks_current{name="novel-engine.service"} 17',
        'node_systemd_unit_start_time_seconds{name="backup.service"} 0',
        'node_systemd_unit_start_time_seconds{name="novel-engine.service"} 1600000000.25',
    ]


def test_types_are_asked_for_once_until_systemd_loads_its_units_anew(host, collector):
    systemd = collector("systemd")
    kind = ("Get", "/org/freedesktop/systemd1/unit/backup_2eservice", f"{SYSTEMD}.Service", "Type")
    assert systemd.read().units == systemd.read().units
    assert host.asked.count(kind) == 1
    host.unit("backup.service", "Service", "Type", "s", "exec")
    host.manager("UnitsLoadTimestampMonotonic", "t", 7_654_321)
    assert ("backup.service", "exec", "failed") in systemd.read().units
    assert host.asked.count(kind) == 2


def test_one_connection_serves_all_readings_and_a_new_one_follows_a_lost_one(host, collector):
    systemd = collector("systemd")
    systemd.read()
    systemd.read()
    assert host.asked.count(("Hello",)) == 1
    host.hang_up()
    with pytest.raises((InputError, OSError)):
        systemd.read()
    assert systemd.read().running is True
    assert host.asked.count(("Hello",)) == 2


def test_authenticates_as_the_user_of_the_process(host, collector):
    collector("systemd").read()
    assert host.auth_lines[:2] == [
        b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n",
        b"BEGIN\r\n",
    ]


def test_what_an_old_systemd_does_not_know_is_left_out(host, collector):
    host.manager("Version", "s", "systemd 208")
    systemd = collector("systemd")
    text_of = "\n".join(samples(systemd.families(systemd.read())))
    assert 'node_systemd_version{version="systemd 208"} 208.0' in text_of
    assert "system_running" not in text_of
    assert "timer_last_trigger" not in text_of


def test_unknown_virtualization_and_none_are_told_apart(host, collector):
    host.manager("Virtualization", "s", "")
    systemd = collector("systemd")
    assert systemd.read().virtualization == "none"
    del host.answers["Get", "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager", "Virtualization"]
    assert systemd.read().virtualization == "unknown"


def test_properties_of_another_type_than_documented_are_left_out(host, collector):
    host.unit("dbus.socket", "Socket", "NAccepted", "s", "twelve")
    host.unit("backup.service", "Service", "Type", "u", 1)
    systemd = collector("systemd")
    text_of = "\n".join(samples(systemd.families(systemd.read())))
    assert "accepted_connections" not in text_of
    assert 'name="backup.service",state="failed",type=""} 1' in text_of


def test_messages_that_nobody_asked_for_are_passed_over(host, collector):
    name_acquired = message(4, 0, *text(":1.42"))
    host.extra = name_acquired + message(2, 9999, *text("for someone else"))
    assert collector("systemd").read().running is True


@pytest.mark.parametrize(
    ("damage", "outcome"),
    [
        (lambda bus: bus.answers.pop(("ListUnits",)), "does not list its units"),
        (lambda bus: bus.answers.update({("ListUnits",): text("none")}), "lists its units as 's'"),
        (lambda bus: setattr(bus, "auth_answer", b"REJECTED EXTERNAL\r\n"), "refuses this user: REJECTED"),
        (lambda bus: setattr(bus, "auth_answer", b"x" * 17_000), "does not answer as a bus"),
        (lambda bus: setattr(bus, "auth_answer", b""), "timed out"),
        (lambda bus: bus.answers.pop(("Hello",)), "refuses to talk"),
        (lambda bus: setattr(bus, "garbage", b"HTTP/1.1 400 Bad Request\r\n"), "not a D-Bus message"),
        (lambda bus: setattr(bus, "garbage", b"l\x02\x01\x01"), "closed the connection"),
    ],
)
def test_a_bus_that_misbehaves_is_an_error_and_not_a_hang(
    host, collector, monkeypatch, damage: Callable[[Bus], Any], outcome
):
    monkeypatch.setattr("novel_agent.inputs.host.systemd._TIMEOUT_SECONDS", 0.2)
    damage(host)
    with pytest.raises((InputError, OSError, ValueError), match=outcome):
        collector("systemd").read()


def test_a_host_without_a_bus_is_an_os_error(collector):
    with pytest.raises(FileNotFoundError):
        collector("systemd").read()


def test_many_calls_are_answered_in_their_order(host, tmp_path):
    path = str(tmp_path / "root/run/dbus/system_bus_socket")
    calls = [property_of(SYSTEMD, "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager", "Version")] * 300
    calls[150] = Call(SYSTEMD, "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager", "NoSuchMethod")
    with SystemBus(path, 5.0) as connection:
        replies = connection.call(calls)
    assert [index for index, reply in enumerate(replies) if reply.error_name] == [150]
    assert {reply.body for reply in replies if not reply.error_name} == {("252.39-1~deb12u1",)}


@pytest.mark.parametrize(
    ("version", "number"),
    [("252.39-1~deb12u1", 252.39), ("systemd 219", 219.0), ("v257.5", 257.5), ("44", 0.0), ("", 0.0)],
)
def test_the_number_in_a_version(version, number):
    assert parse_version(version)[0] == number

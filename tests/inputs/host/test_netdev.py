import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.netdev import (
    Address,
    NetDevices,
    columns_of,
    parse,
    parse_address,
    parse_counters,
)
from novel_agent.wire.prometheus import render_text

HEADER = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier"
    " compressed\n"
)
LO = (
    "    lo: 9184273    1048    0    0    0     0          0         0"
    "  9184273    1048    0    0    0     0       0          0\n"
)
ENO1 = (
    "  eno1:     101     102  103  104  105   106        107       108"
    "      109     110  111  112  113   114     115        116\n"
)
ALIAS = "eth0:1:" + LO[7:]

COUNTERS = tuple(1 << place for place in range(24))
"""struct rtnl_link_stats64, each counter a bit of its own, so that a sum shows what went into it."""

NAMES = {1: "lo", 2: "eno1", 3: "tun0"}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def stats_message(index: int, *attributes: bytes):
    content = struct.pack("=BBHII", 0, 0, 0, index, 1) + b"".join(attributes)
    return content, 92, 0, len(content)


def address_message(family: int, prefix_length: int, index: int, *attributes: bytes):
    content = struct.pack("=BBBBI", family, prefix_length, 0, 0, index) + b"".join(attributes)
    return content, 20, 0, len(content)


def ipv4(kind: int, address: str) -> bytes:
    return attr(kind, socket.inet_aton(address))


def ipv6(kind: int, address: str) -> bytes:
    return attr(kind, socket.inet_pton(socket.AF_INET6, address))


def test_shows_the_columns_of_an_interface(tree, collector):
    netdev = collector("netdev", tree({"proc/net/dev": HEADER + ENO1}))
    assert samples(netdev.families(netdev.read())) == [
        'node_network_receive_bytes_total{device="eno1"} 101',
        'node_network_receive_packets_total{device="eno1"} 102',
        'node_network_receive_errs_total{device="eno1"} 103',
        'node_network_receive_drop_total{device="eno1"} 104',
        'node_network_receive_fifo_total{device="eno1"} 105',
        'node_network_receive_frame_total{device="eno1"} 106',
        'node_network_receive_compressed_total{device="eno1"} 107',
        'node_network_receive_multicast_total{device="eno1"} 108',
        'node_network_transmit_bytes_total{device="eno1"} 109',
        'node_network_transmit_packets_total{device="eno1"} 110',
        'node_network_transmit_errs_total{device="eno1"} 111',
        'node_network_transmit_drop_total{device="eno1"} 112',
        'node_network_transmit_fifo_total{device="eno1"} 113',
        'node_network_transmit_colls_total{device="eno1"} 114',
        'node_network_transmit_carrier_total{device="eno1"} 115',
        'node_network_transmit_compressed_total{device="eno1"} 116',
    ]


def test_has_the_packets_nobody_wanted_from_sysfs(tree, collector):
    files = {"proc/net/dev": HEADER + LO + ENO1, "sys/class/net/eno1/statistics/rx_nohandler": "1402118\n"}
    netdev = collector("netdev", tree(files))
    lines = samples(netdev.families(netdev.read()))
    assert [line for line in lines if "nohandler" in line] == [
        'node_network_receive_nohandler_total{device="eno1"} 1402118'
    ]
    assert len(lines) == 2 * 16 + 1


def test_telemetry_names_directions(tree, collector):
    netdev = collector("netdev", tree({"proc/net/dev": HEADER + ENO1}))
    assert samples(netdev.telemetry(netdev.read())) == [
        'system.network.io{network.interface.name="eno1",network.io.direction="receive"} 101',
        'system.network.io{network.interface.name="eno1",network.io.direction="transmit"} 109',
        'system.network.packet.count{system.device="eno1",network.io.direction="receive"} 102',
        'system.network.packet.count{system.device="eno1",network.io.direction="transmit"} 110',
        'system.network.errors{network.interface.name="eno1",network.io.direction="receive"} 103',
        'system.network.errors{network.interface.name="eno1",network.io.direction="transmit"} 111',
        'system.network.packet.dropped{network.interface.name="eno1",network.io.direction="receive"} 104',
        'system.network.packet.dropped{network.interface.name="eno1",network.io.direction="transmit"} 112',
    ]


def test_a_name_may_hold_colons():
    assert parse((HEADER + ALIAS).encode())["eth0:1"][:2] == (9184273, 1048)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, {"lo", "eno1"}),
        ({"exclude_devices": "^lo$"}, {"eno1"}),
        ({"include_devices": "lo|bond"}, {"lo"}),
    ],
)
def test_shows_the_interfaces_wanted(tree, collector, options, shown):
    netdev = collector("netdev", tree({"proc/net/dev": HEADER + LO + ENO1}), **options)
    assert netdev.read().devices.keys() == shown


def test_no_interface_is_no_series(tree, collector):
    netdev = collector("netdev", tree({"proc/net/dev": HEADER}))
    assert samples(netdev.families(netdev.read())) == []
    assert samples(netdev.telemetry(netdev.read())) == []


def test_follows_interfaces_that_come_and_go(tree, collector):
    netdev = collector("netdev", tree({"proc/net/dev": HEADER + LO}))
    assert len(samples(netdev.families(netdev.read()))) == 16
    tree({"proc/net/dev": HEADER + LO + ENO1})
    assert len(samples(netdev.families(netdev.read()))) == 32
    tree({"proc/net/dev": HEADER + ENO1})
    assert all('device="eno1"' in line for line in samples(netdev.families(netdev.read())))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Inter-|\n",
        HEADER.encode() + b"eno1 1 2 3\n",
        HEADER.encode() + b"eno1: 1 2 3\n",
        HEADER.encode() + b"eno1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x\n",
        HEADER.encode() + b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        HEADER.encode() + b"\x00\xff\xfe: \x80\n",
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)


def test_counters_are_added_up_as_proc_does():
    (rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped) = COUNTERS[:8]
    (multicast, collisions, rx_length, rx_over, rx_crc, rx_frame, rx_fifo, rx_missed) = COUNTERS[8:16]
    (tx_aborted, tx_carrier, tx_fifo, tx_heartbeat, tx_window, rx_compressed, tx_compressed, _) = COUNTERS[16:]
    assert columns_of(COUNTERS) == (
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped | rx_missed,
        rx_fifo,
        rx_length | rx_over | rx_crc | rx_frame,
        rx_compressed,
        multicast,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        tx_fifo,
        collisions,
        tx_aborted | tx_carrier | tx_heartbeat | tx_window,
        tx_compressed,
    )


def test_counters_are_found_behind_padding_and_before_what_newer_kernels_append():
    packed = struct.pack("=25Q", *COUNTERS, 7)
    assert parse_counters(stats_message(4, attr(0, b""), attr(1, packed))) == (4, COUNTERS)
    assert parse_counters(stats_message(4, attr(1, packed[:192]))) == (4, COUNTERS)


def test_an_answer_without_counters_is_none():
    assert parse_counters(stats_message(4)) is None
    assert parse_counters(stats_message(4, attr(1, bytes(184)))) is None
    assert parse_counters((b"\0\0\0\0", 92, 0, 4)) is None


@pytest.mark.parametrize(
    ("message", "address"),
    [
        (
            address_message(2, 24, 2, ipv4(1, "192.0.2.21"), ipv4(2, "192.0.2.21")),
            Address("eno1", "192.0.2.21", "24", "global"),
        ),
        (
            address_message(2, 32, 3, ipv4(1, "198.51.100.2"), ipv4(2, "198.51.100.1")),
            Address("tun0", "198.51.100.1", "32", "global"),
        ),
        (address_message(2, 8, 1, ipv4(1, "127.0.0.1")), Address("lo", "127.0.0.1", "8", "link-local")),
        (address_message(2, 16, 2, ipv4(1, "169.254.3.4")), Address("eno1", "169.254.3.4", "16", "link-local")),
        (address_message(2, 24, 2, ipv4(1, "239.1.2.3")), Address("eno1", "239.1.2.3", "24", "")),
        (address_message(10, 64, 2, ipv6(1, "2001:db8::15")), Address("eno1", "2001:db8::15", "64", "global")),
        (address_message(10, 64, 2, ipv6(1, "fe80::1")), Address("eno1", "fe80::1", "64", "link-local")),
        (address_message(10, 128, 1, ipv6(1, "::1")), Address("lo", "::1", "128", "link-local")),
        (address_message(2, 24, 9, ipv4(1, "192.0.2.21")), None),
        (address_message(2, 24, 2), None),
        ((b"\2", 20, 0, 1), None),
    ],
)
def test_addresses(message, address):
    assert parse_address(message, NAMES) == address


@pytest.fixture
def live():
    made = []

    def make(**options) -> NetDevices:
        made.append(NetDevices(Kernel(), NetDevices.Options(**options)))
        return made[-1]

    yield make
    for netdev in made:
        netdev.close()


def test_netlink_says_what_proc_says(live):
    netdev = live()
    before = parse(Path("/proc/net/dev").read_bytes())
    devices = netdev.read().devices
    after = parse(Path("/proc/net/dev").read_bytes())
    assert devices.keys() == before.keys()
    for name, columns in devices.items():
        assert all(low <= now <= high for low, now, high in zip(before[name], columns, after[name], strict=True)), name


def test_netlink_shows_the_interfaces_wanted(live):
    assert set(live(include_devices="^lo$").read().devices) == {"lo"}
    assert "lo" not in live(exclude_devices="^lo$").read().no_handler


def test_addresses_are_shown_where_they_are_wanted(live):
    netdev = live(address_info=True)
    reading = netdev.read()._replace(addresses=(Address("eno1", "192.0.2.21", "24", "global"),))
    assert samples(netdev.families(reading))[-1] == (
        'node_network_address_info{device="eno1",address="192.0.2.21",netmask="24",scope="global"} 1'
    )


def test_shows_the_address_of_the_loopback(live):
    if not os.path.exists("/proc/net/fib_trie") or "127.0.0.1" not in Path("/proc/net/fib_trie").read_text():
        pytest.skip("the loopback is down")
    assert Address("lo", "127.0.0.1", "8", "link-local") in live(address_info=True).read().addresses


@pytest.mark.parametrize(("code", "falls_back"), [(errno.EAFNOSUPPORT, True), (errno.EPERM, True), (errno.EIO, False)])
def test_looks_into_files_where_netlink_is_kept_away(live, monkeypatch, code, falls_back):
    netdev = live()

    def refuse(kind: int, body: bytes):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(netdev.netlink, "dump", refuse)
    if falls_back:
        assert netdev.read().devices.keys() == parse(Path("/proc/net/dev").read_bytes()).keys()
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            netdev.read()


def test_ten_thousand_interfaces_share_their_labels(tree, collector):
    lines = "".join(ENO1.replace("  eno1", f"veth{number}") for number in range(10_000))
    netdev = collector("netdev", tree({"proc/net/dev": HEADER + lines}))
    (block,) = netdev.families(netdev.read())
    assert len(block.values) == 160_000
    assert len({id(series.labels) for series in block.shape.series}) == 10_000
    assert netdev.families(netdev.read())[0].shape is block.shape

import struct

import pytest

from novel_agent.inputs.host.arp import Arp, count, parse
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.wire.prometheus import render_text

HEADER = "IP address       HW type     Flags       HW address            Mask     Device\n"
GATEWAY = "192.0.2.1        0x1         0x2         00:00:5e:00:53:01     *        bond0\n"
SILENT = "192.0.2.77       0x1         0x0         00:00:00:00:00:00     *        bond0\n"
GUEST = "172.17.0.2       0x1         0x6         02:42:ac:11:00:02     *        docker0\n"

IPV4, IPV6 = 2, 10
REACHABLE, STALE, NO_ARP, PERMANENT, NONE = 0x02, 0x04, 0x40, 0x80, 0x00


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def neighbour(index: int, state: int, family: int = IPV4):
    content = struct.pack("=BBHiHBB", family, 0, 0, index, state, 0, 1) + b"attributes"
    return content, 28, 0, len(content)


def test_counts_the_entries_of_each_interface(tree, collector):
    arp = collector("arp", tree({"proc/net/arp": HEADER + GATEWAY + SILENT + GUEST}))
    assert samples(arp.families(arp.read())) == [
        'node_arp_entries{device="bond0"} 2',
        'node_arp_entries{device="docker0"} 1',
    ]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, {"bond0", "docker0"}),
        ({"exclude_devices": "^docker"}, {"bond0"}),
        ({"include_devices": "docker"}, {"docker0"}),
    ],
)
def test_shows_the_interfaces_wanted(tree, collector, options, shown):
    arp = collector("arp", tree({"proc/net/arp": HEADER + GATEWAY + GUEST}), **options)
    assert arp.read().keys() == shown


def test_an_empty_table_has_no_series(tree, collector):
    arp = collector("arp", tree({"proc/net/arp": HEADER}))
    assert samples(arp.families(arp.read())) == []


@pytest.mark.parametrize(
    "data", [b"", b"garbage\n", (HEADER + "192.0.2.1 0x1\n").encode(), HEADER.encode() + b"\xff\n"]
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError, match="net/arp"):
        parse(data)


def test_netlink_counts_all_but_what_needs_no_resolving():
    answer = [
        neighbour(2, REACHABLE),
        neighbour(2, STALE),
        neighbour(2, NONE),
        neighbour(2, NO_ARP),
        neighbour(3, PERMANENT),
        neighbour(3, REACHABLE, IPV6),
        (b"\2", 28, 0, 1),
    ]
    assert count(answer) == {2: 3, 3: 1}


@pytest.fixture
def live():
    arp = Arp(Kernel(), Arp.Options())
    yield arp
    arp.close()


def test_netlink_names_the_interfaces(live, monkeypatch):
    answer = [neighbour(1, REACHABLE), neighbour(1, STALE), neighbour(999_999, STALE)]
    monkeypatch.setattr(live.netlink, "dump", lambda kind, body: answer)
    assert live.read() == {"lo": 2}


def test_this_machine_can_be_asked(live):
    assert all(entries > 0 for entries in live.read().values())
    assert live._asks

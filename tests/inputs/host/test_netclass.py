import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host import netclass
from novel_agent.inputs.host.netclass import parse
from novel_agent.wire.prometheus import render_text

ENO1 = {
    "addr_assign_type": "0",
    "address": "00:00:5e:00:53:15",
    "broadcast": "ff:ff:ff:ff:ff:ff",
    "carrier": "1",
    "carrier_changes": "3",
    "carrier_down_count": "1",
    "carrier_up_count": "2",
    "dev_id": "0x1a",
    "dormant": "0",
    "duplex": "full",
    "flags": "0x1003",
    "ifalias": "rack 12 port 7",
    "ifindex": "2",
    "iflink": "2",
    "link_mode": "0",
    "mtu": "1500",
    "name_assign_type": "4",
    "netdev_group": "5",
    "operstate": "up",
    "speed": "25000",
    "tx_queue_len": "1000",
    "type": "1",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def interface(name: str, **changes: str) -> dict[str, str]:
    """The attribute files of an interface."""
    return {f"sys/class/net/{name}/{file}": content + "\n" for file, content in {**ENO1, **changes}.items()}


def raw(**changes: bytes | None) -> dict[str, bytes | None]:
    return {**{name: content.encode() + b"\n" for name, content in ENO1.items()}, **changes}


def test_shows_what_an_interface_is(tree, collector):
    found = collector("netclass", tree(interface("eno1")))
    assert samples(found.families(found.read())) == [
        'node_network_up{device="eno1"} 1',
        'node_network_info{device="eno1",address="00:00:5e:00:53:15",broadcast="ff:ff:ff:ff:ff:ff",duplex="full",'
        'operstate="up",adminstate="up",ifalias="rack 12 port 7"} 1',
        'node_network_address_assign_type{device="eno1"} 0',
        'node_network_carrier{device="eno1"} 1',
        'node_network_carrier_changes_total{device="eno1"} 3',
        'node_network_carrier_up_changes_total{device="eno1"} 2',
        'node_network_carrier_down_changes_total{device="eno1"} 1',
        'node_network_device_id{device="eno1"} 26',
        'node_network_dormant{device="eno1"} 0',
        'node_network_flags{device="eno1"} 4099',
        'node_network_iface_id{device="eno1"} 2',
        'node_network_iface_link{device="eno1"} 2',
        'node_network_iface_link_mode{device="eno1"} 0',
        'node_network_mtu_bytes{device="eno1"} 1500',
        'node_network_name_assign_type{device="eno1"} 4',
        'node_network_net_dev_group{device="eno1"} 5',
        'node_network_speed_bytes{device="eno1"} 3125000000',
        'node_network_transmit_queue_length{device="eno1"} 1000',
        'node_network_protocol_type{device="eno1"} 1',
    ]


def test_counters_are_counters_and_the_rest_gauges(tree, collector):
    found = collector("netclass", tree(interface("eno1")))
    kinds = {series.family.name: series.family.kind for series in found.families(found.read())[0].shape.series}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        "node_network_carrier_changes_total",
        "node_network_carrier_up_changes_total",
        "node_network_carrier_down_changes_total",
    }


def test_what_the_driver_refuses_has_no_series(tree, collector):
    root = tree(interface("eno1"))
    for refused in ("speed", "duplex", "carrier"):
        path = root / "sys/class/net/eno1" / refused
        path.unlink()
        path.mkdir()  # reading it fails, as the kernel lets reading a link's speed fail while it is down
    found = collector("netclass", root)
    text = "\n".join(samples(found.families(found.read())))
    assert "speed_bytes" not in text
    assert "network_carrier{" not in text
    assert 'duplex=""' in text
    assert 'node_network_mtu_bytes{device="eno1"} 1500' in text


@pytest.mark.parametrize(
    ("flags", "state"), [(b"0x1003\n", "up"), (b"0x1002\n", "down"), (None, "unknown"), (b"garbage", "unknown")]
)
def test_the_administrative_state_is_a_flag(flags, state):
    assert parse("eno1", raw(flags=flags)).admin_state == state


@pytest.mark.parametrize(("state", "up"), [(b"up\n", 1), (b"down\n", 0), (b"unknown\n", 0), (None, 0)])
def test_up_is_the_operational_state(state, up):
    assert parse("eno1", raw(operstate=state)).up == up


@pytest.mark.parametrize(
    ("content", "ignore", "speed"),
    [
        (b"10\n", False, 1_250_000),
        (b"-1\n", False, -125_000),
        (b"-1\n", True, None),
        (b"", True, None),
        (b"fast", False, None),
    ],
)
def test_speed_is_in_bytes(content, ignore, speed):
    assert parse("eno1", raw(speed=content), ignore_invalid_speed=ignore).speed == speed


def test_texts_may_be_anything():
    assert parse("eno1", raw(ifalias=b'  "up\xfflink"\n')).texts[4] == '"up\ufffdlink"'


def test_an_option_leaves_out_speeds_that_are_unknown(tree, collector):
    found = collector("netclass", tree(interface("eno1", speed="-1")), ignore_invalid_speed=True)
    assert not [line for line in samples(found.families(found.read())) if "speed" in line]


def test_files_beside_the_interfaces_are_none(tree, collector):
    found = collector("netclass", tree({**interface("eno1"), "sys/class/net/bonding_masters": "bond0\n"}))
    assert [properties.name for properties in found.read()] == ["eno1"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["eno1", "lo"]),
        ({"exclude_devices": "^lo$"}, ["eno1"]),
        ({"include_devices": "lo|bond"}, ["lo"]),
    ],
)
def test_shows_the_interfaces_wanted(tree, collector, options, shown):
    found = collector("netclass", tree({**interface("eno1"), **interface("lo")}), **options)
    assert [properties.name for properties in found.read()] == shown


def test_without_a_listing_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("netclass").read()


def test_a_reading_sees_what_changed(tree, collector):
    found = collector("netclass", tree(interface("eno1")))
    (before,) = found.read()
    assert found.read() == (before,)
    tree(interface("eno1", operstate="down", carrier_changes="4"))
    (after,) = found.read()
    assert (before.up, after.up) == (1, 0)
    assert 'node_network_carrier_changes_total{device="eno1"} 4' in samples(found.families((after,)))


def test_a_reading_like_the_last_is_shown_from_memory(tree, collector):
    found = collector("netclass", tree(interface("eno1")))
    (before,) = found.families(found.read())
    assert found.families(found.read())[0] is before
    tree(interface("eno1", mtu="9000"))
    assert 'node_network_mtu_bytes{device="eno1"} 9000' in samples(found.families(found.read()))
    assert 'node_network_mtu_bytes{device="eno1"} 1500' in samples([before])


def test_what_does_not_change_is_parsed_once(tree, collector):
    found = collector("netclass", tree(interface("eno1")))
    assert found.read()[0] is found.read()[0]


def test_follows_interfaces_that_come_and_go(tree, collector):
    root = tree(interface("eno1"))
    found = collector("netclass", root)
    found.read()
    tree(interface("eno2"))
    assert [properties.name for properties in found.read()] == ["eno1", "eno2"]
    shutil.rmtree(root / "sys/class/net/eno1")
    assert [properties.name for properties in found.read()] == ["eno2"]


def test_notices_two_interfaces_that_swap_their_names(tree, collector):
    root = tree({**interface("eno1", ifindex="2", mtu="1500"), **interface("eno2", ifindex="3", mtu="9000")})
    found = collector("netclass", root)
    found.read()
    directory = root / "sys/class/net"
    (directory / "eno1").rename(directory / "moved")
    (directory / "eno2").rename(directory / "eno1")
    (directory / "moved").rename(directory / "eno2")
    lines = samples(found.families(found.read()))
    assert 'node_network_mtu_bytes{device="eno1"} 9000' in lines
    assert 'node_network_iface_id{device="eno2"} 2' in lines


def test_a_missing_attribute_is_looked_for_once(tree, collector, monkeypatch):
    files = interface("eno1")
    del files["sys/class/net/eno1/speed"]
    monkeypatch.setattr(netclass, "_MOST_OPEN", 0)
    found = collector("netclass", tree(files))
    found.read()
    opened = []
    real = os.open
    monkeypatch.setattr(
        netclass.os, "open", lambda path, *rest, **more: opened.append(path) or real(path, *rest, **more)
    )
    found.read()
    assert "mtu" in opened
    assert "speed" not in opened
    assert "ifindex" not in opened, "it cannot change while the interface has its name"


@pytest.mark.parametrize("most_open", [0, 1, 5])
def test_only_some_interfaces_stay_open(tree, collector, monkeypatch, most_open):
    monkeypatch.setattr(netclass, "_MOST_OPEN", most_open)
    found = collector("netclass", tree({**interface("a"), **interface("b"), **interface("c", mtu="9000")}))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [properties.name for properties in found.read()] == ["a", "b", "c"]
        assert len(os.listdir("/proc/self/fd")) - before == 19 * min(most_open, 3)
    assert 'node_network_mtu_bytes{device="c"} 9000' in samples(found.families(found.read()))
    found.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_when_an_open_interface_goes_another_takes_its_place(tree, collector, monkeypatch):
    monkeypatch.setattr(netclass, "_MOST_OPEN", 1)
    root = tree({**interface("a"), **interface("b")})
    found = collector("netclass", root)
    found.read()
    before = len(os.listdir("/proc/self/fd"))
    shutil.rmtree(root / "sys/class/net/a")
    assert [properties.name for properties in found.read()] == ["b"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_descriptors_to_spare_files_are_opened_for_each_reading(tree, collector, monkeypatch):
    found = collector("netclass", tree(interface("eno1")))
    real = os.open

    def refuse(path, *rest, **more):
        if "/eno1/mtu" in str(path):
            raise OSError(errno.EMFILE, "too many")
        return real(path, *rest, **more)

    monkeypatch.setattr(netclass.os, "open", refuse)
    before = len(os.listdir("/proc/self/fd"))
    assert 'node_network_mtu_bytes{device="eno1"} 1500' in samples(found.families(found.read()))
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_any_descriptor_the_reading_fails(tree, collector, monkeypatch):
    monkeypatch.setattr(netclass, "_MOST_OPEN", 0)
    found = collector("netclass", tree(interface("eno1")))
    real = os.open

    def refuse(path, *rest, **more):
        if path == "mtu":
            raise OSError(errno.EMFILE, "too many")
        return real(path, *rest, **more)

    monkeypatch.setattr(netclass.os, "open", refuse)
    with pytest.raises(OSError, match="too many"):
        found.read()


def test_telemetry_is_about_cards(tree, collector):
    files = {
        **interface("eno1"),
        "sys/class/net/eno1/device/vendor": "0x8086\n",
        **interface("eno2", operstate="down", speed="-1"),
        "sys/class/net/eno2/device/vendor": "0x8086\n",
        **interface("bond0"),
    }
    found = collector("netclass", tree(files))
    assert samples(found.telemetry(found.read())) == [
        'hw.network.up{hw.id="eno1",hw.name="eno1",hw.network.physical_address="00:00:5e:00:53:15"} 1',
        'hw.network.up{hw.id="eno2",hw.name="eno2",hw.network.physical_address="00:00:5e:00:53:15"} 0',
        'hw.network.bandwidth.limit{hw.id="eno1",hw.name="eno1",hw.network.physical_address="00:00:5e:00:53:15"} '
        "3125000000",
    ]


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"), reason="makes interfaces"
)
def test_real_interfaces_that_swap_their_names_and_go_are_followed(tmp_path: Path):
    script = f"""
        import subprocess
        from novel_agent.inputs.host.kernel import Kernel
        from novel_agent.inputs.host.netclass import NetClass
        def ip(*words):
            subprocess.run(["ip", "link", *words], check=True)
        subprocess.run(["mount", "-t", "sysfs", "none", {str(tmp_path)!r}], check=True)
        ip("add", "a0", "mtu", "1400", "type", "veth", "peer", "name", "b0", "mtu", "1300")
        found = NetClass(Kernel(sys={str(tmp_path)!r}), NetClass.Options())
        def sizes():
            (block,) = found.families(found.read())
            return {{
                series.labels[0][1]: value
                for series, value in zip(block.shape.series, block.values)
                if series.family.name == "node_network_mtu_bytes"
            }}
        (a0, b0, lo) = found.read()
        assert (a0.admin_state, b0.admin_state, lo.name) == ("down", "down", "lo")
        assert sizes() == {{"a0": 1400, "b0": 1300, "lo": 65536}}, sizes()
        for old, new in (("a0", "x0"), ("b0", "a0"), ("x0", "b0")):
            ip("set", old, "name", new)
        assert sizes() == {{"a0": 1300, "b0": 1400, "lo": 65536}}, sizes()
        ip("del", "a0")
        assert sizes() == {{"lo": 65536}}
        found.close()
    """
    subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60
    )


FOLLOWED = """
    import subprocess
    from novel_agent.inputs.host import netclass
    from novel_agent.inputs.host.kernel import Kernel
    from novel_agent.inputs.host.netclass import NetClass
    def ip(*words):
        subprocess.run(["ip", "link", *words], check=True)
    def write(attribute, content):
        with open(f"{sys}/class/net/{attribute}", "w") as file:
            file.write(content)
    subprocess.run(["mount", "-t", "sysfs", "none", sys], check=True)
    ip("set", "lo", "up")
    ip("add", "a0", "type", "veth", "peer", "name", "b0")
    ip("add", "c0", "type", "veth", "peer", "name", "d0")
    ip("set", "c0", "up")
    found = NetClass(Kernel(sys=sys), NetClass.Options())
    fresh = NetClass(Kernel(sys=sys), NetClass.Options())
    def check():
        fresh.close()
        followed, whole = ({one.name: one for one in reading} for reading in (found.read(), fresh.look()))
        assert followed == whole, (followed, whole)
        return followed
"""
NEEDS_INTERFACES = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"), reason="makes interfaces"
)


def in_a_namespace(tmp_path: Path, script: str) -> None:
    whole = f"sys = {str(tmp_path)!r}\n" + textwrap.dedent(FOLLOWED) + textwrap.dedent(script)
    subprocess.run(["unshare", "--net", "--mount", sys.executable, "-c", whole], check=True, timeout=60)


@pytest.mark.root
@NEEDS_INTERFACES
def test_the_next_reading_of_real_interfaces_sees_each_change(tmp_path):
    script = """
        netclass._EVERYTHING_EVERY = 1000
        found.read()
        assert found._is_followed
        for device in ("a0", "c0"):  # one is down, one is up
            for words in (
                ("mtu", "1300"), ("txqueuelen", "77"), ("address", "02:00:00:00:00:07"), ("alias", "rack 12"),
                ("group", "9"), ("mode", "dormant"), ("promisc", "on"), ("promisc", "off"), ("alias", ""),
                ("mode", "default"), ("arp", "off"), ("allmulticast", "on"),
            ):
                before = check()[device]
                ip("set", device, *words)
                assert check()[device] != before, (device, words)
            before = check()[device]
            write(f"{device}/netdev_group", "11")
            assert check()[device] != before, "a group set through sysfs"
        for words in (
            ("c0", "down"), ("c0", "up"), ("d0", "up"), ("d0", "down"), ("d0", "up"), ("a0", "up"), ("b0", "up"),
            ("c0", "name", "x0"), ("d0", "name", "c0"), ("x0", "name", "d0"), ("lo", "down"), ("lo", "mtu", "1500"),
        ):
            before = check()
            ip("set", *words)
            assert check() != before, words
        ip("add", "e0", "type", "veth", "peer", "name", "f0")
        assert {"e0", "f0"} <= check().keys()
        ip("del", "e0")
        assert check().keys() == {"a0", "b0", "c0", "d0", "lo"}
        ip("del", "a0")
        ip("add", "a0", "mtu", "1234", "type", "veth", "peer", "name", "b0")
        check()
        found.close()
        fresh.close()
    """
    in_a_namespace(tmp_path, script)


@pytest.mark.root
@NEEDS_INTERFACES
def test_real_interfaces_are_all_read_anew_when_events_were_lost_and_every_twentieth_time(tmp_path):
    script = """
        whole = []
        real = netclass.Interface.read
        def read(self, **options):
            whole.append(self.name)
            return real(self, **options)
        netclass.Interface.read = read
        found.read()
        assert sorted(whole) == ["a0", "b0", "c0", "d0", "lo"]
        whole.clear()
        for _ in range(19):
            found.read()
        assert whole == []
        found.read()
        assert sorted(whole) == ["a0", "b0", "c0", "d0", "lo"]
        whole.clear()
        ip("set", "a0", "mtu", "1300")
        found.read()
        assert whole == ["a0"]
        for number in range(80):  # more events than fit into the socket
            ip("set", "c0", "alias", str(number))
        ip("set", "b0", "mtu", "1310")
        whole.clear()
        assert check()["b0"].numbers[11] == 1310
        assert {"a0", "b0", "c0", "d0", "lo"} <= set(whole)
        found.close()
        fresh.close()
    """
    in_a_namespace(tmp_path, script)


@pytest.mark.root
@NEEDS_INTERFACES
def test_events_of_another_namespace_are_not_relied_on(tmp_path):
    script = """
        foreign = NetClass(Kernel(sys="/sys"), NetClass.Options())
        foreign.read()
        assert not foreign._is_followed, "the interfaces in /sys are those of the namespace it was mounted in"
        foreign.close()
    """
    in_a_namespace(tmp_path, script)

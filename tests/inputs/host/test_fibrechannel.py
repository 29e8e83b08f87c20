import pytest

from novel_agent.errors import NoData
from novel_agent.wire.prometheus import render_text

PORT = {
    "dev_loss_tmo": "30",
    "fabric_name": "0x100050eb1a2b3c4d",
    "node_name": "0x200000109b4e5f60",
    "port_id": "0x010300",
    "port_name": "0x100000109b4e5f60",
    "port_state": "Online",
    "port_type": "NPort (fabric via point-to-point)",
    "speed": "32 Gbit",
    "supported_classes": "Class 3",
    "supported_speeds": "8 Gbit, 16 Gbit, 32 Gbit",
    "symbolic_name": "Emulex LPe32002-M2 FV14.0 ",
    "statistics/dumped_frames": "0xffffffffffffffff",
    "statistics/error_frames": "0x0",
    "statistics/fcp_packet_aborts": "0x3",
    "statistics/invalid_crc_count": "0x2",
    "statistics/invalid_tx_word_count": "0x8",
    "statistics/link_failure_count": "0x1",
    "statistics/loss_of_signal_count": "0x5",
    "statistics/loss_of_sync_count": "0x4",
    "statistics/nos_count": "0x6",
    "statistics/rx_frames": "0x1a2b",
    "statistics/rx_words": "0x2f0a",
    "statistics/seconds_since_last_reset": "0x12751b",
    "statistics/tx_frames": "0xb3c4",
    "statistics/tx_words": "0x1402",
}


def sysfs(host: str, **changed: str) -> dict[str, str]:
    return {f"sys/class/fc_host/{host}/{name}": f"{content}\n" for name, content in (PORT | changed).items()}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_a_port_and_what_its_driver_counts(tree, collector):
    fibrechannel = collector("fibrechannel", tree(sysfs("host6")))
    assert samples(fibrechannel.families(fibrechannel.read())) == [
        'node_fibrechannel_info{fc_host="host6",speed="32 Gbit",port_state="Online",'
        'port_type="NPort (fabric via point-to-point)",port_id="010300",port_name="100000109b4e5f60",'
        'fabric_name="100050eb1a2b3c4d",symbolic_name="Emulex LPe32002-M2 FV14.0",supported_classes="Class 3",'
        'supported_speeds="8 Gbit, 16 Gbit, 32 Gbit",dev_loss_tmo="30"} 1',
        'node_fibrechannel_error_frames_total{fc_host="host6"} 0',
        'node_fibrechannel_invalid_crc_total{fc_host="host6"} 2',
        'node_fibrechannel_rx_frames_total{fc_host="host6"} 6699',
        'node_fibrechannel_rx_words_total{fc_host="host6"} 12042',
        'node_fibrechannel_tx_frames_total{fc_host="host6"} 46020',
        'node_fibrechannel_tx_words_total{fc_host="host6"} 5122',
        'node_fibrechannel_seconds_since_last_reset_total{fc_host="host6"} 1209627',
        'node_fibrechannel_invalid_tx_words_total{fc_host="host6"} 8',
        'node_fibrechannel_link_failure_total{fc_host="host6"} 1',
        'node_fibrechannel_loss_of_sync_total{fc_host="host6"} 4',
        'node_fibrechannel_loss_of_signal_total{fc_host="host6"} 5',
        'node_fibrechannel_nos_total{fc_host="host6"} 6',
        'node_fibrechannel_fcp_packet_aborts_total{fc_host="host6"} 3',
    ]


def test_telemetry_shows_traffic_in_bytes_and_errors_by_type(tree, collector):
    fibrechannel = collector("fibrechannel", tree(sysfs("host6")))
    port = 'hw.id="host6"'
    assert samples(fibrechannel.telemetry(fibrechannel.read())) == [
        f"hw.network.up{{{port}}} 1",
        f'hw.network.io{{{port},network.io.direction="receive"}} 48168',
        f'hw.network.io{{{port},network.io.direction="transmit"}} 20488',
        f'hw.network.packets{{{port},network.io.direction="receive"}} 6699',
        f'hw.network.packets{{{port},network.io.direction="transmit"}} 46020',
        'hw.errors{hw.id="host6",hw.type="network",error.type="frame"} 0',
        'hw.errors{hw.id="host6",hw.type="network",error.type="crc"} 2',
        'hw.errors{hw.id="host6",hw.type="network",error.type="invalid_word"} 8',
        'hw.errors{hw.id="host6",hw.type="network",error.type="link_failure"} 1',
        'hw.errors{hw.id="host6",hw.type="network",error.type="loss_of_sync"} 4',
        'hw.errors{hw.id="host6",hw.type="network",error.type="loss_of_signal"} 5',
    ]


def test_a_driver_that_tells_little_is_shown_with_what_it_tells(tree, collector):
    fibrechannel = collector("fibrechannel", tree({"sys/class/fc_host/host1/port_state": "Linkdown\n"}))
    reading = fibrechannel.read()
    (line,) = samples(fibrechannel.families(reading))
    assert 'fc_host="host1",speed="",port_state="Linkdown",port_type=""' in line
    assert samples(fibrechannel.telemetry(reading)) == ['hw.network.up{hw.id="host1"} 0']


def test_a_port_that_comes_is_seen(tree, collector):
    fibrechannel = collector("fibrechannel", tree(sysfs("host6")))
    assert len(fibrechannel.read()) == 1
    tree(sysfs("host7"))
    assert [port.host for port in fibrechannel.read()] == ["host6", "host7"]


def test_a_counter_that_goes_costs_its_own_series_only(tree, collector):
    root = tree(sysfs("host6"))
    fibrechannel = collector("fibrechannel", root)
    before = samples(fibrechannel.families(fibrechannel.read()))
    fibrechannel.close()
    (root / "sys/class/fc_host/host6/statistics/nos_count").unlink()
    after = samples(fibrechannel.families(fibrechannel.read()))
    assert set(before) - set(after) == {'node_fibrechannel_nos_total{fc_host="host6"} 6'}


def test_without_the_class_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("fibrechannel").read()


def test_refuses_a_counter_that_is_no_number(tree, collector):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        collector(
            "fibrechannel", tree(sysfs("host6") | {"sys/class/fc_host/host6/statistics/nos_count": "many\n"})
        ).read()

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.infiniband import parse_rate, parse_state
from novel_agent.wire.prometheus import render_text

FILES = {
    "board_id": "MT_0000000223",
    "fw_ver": "20.41.1000",
    "hca_type": "MT4123",
    "ports/1/state": "4: ACTIVE",
    "ports/1/phys_state": "5: LinkUp",
    "ports/1/rate": "200 Gb/sec (4X HDR)",
    "ports/1/counters/port_rcv_data": "1000",
    "ports/1/counters/port_xmit_data": "500",
    "ports/1/counters/port_rcv_packets": "70",
    "ports/1/counters/port_xmit_packets": "60",
    "ports/1/counters/symbol_error": "2",
    "ports/1/counters/VL15_dropped": "N/A (no PMA)",
    "ports/1/counters/unheard_of": "1",
    "ports/1/counters_ext/port_rcv_data_64": "9",
    "ports/1/hw_counters/lifespan": "12500",
    "ports/1/hw_counters/out_of_sequence": "12",
}


def sysfs(device: str = "mlx5_0", **changed: str) -> dict[str, str]:
    files = FILES | {name.replace("__", "/"): content for name, content in changed.items()}
    return {f"sys/class/infiniband/{device}/{name}": f"{content}\n" for name, content in files.items()}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_a_device_and_its_port(tree, collector):
    infiniband = collector("infiniband", tree(sysfs()))
    port = '{device="mlx5_0",port="1"}'
    assert samples(infiniband.families(infiniband.read())) == [
        'node_infiniband_info{device="mlx5_0",board_id="MT_0000000223",firmware_version="20.41.1000",hca_type="MT4123"} 1',
        f"node_infiniband_state_id{port} 4",
        f"node_infiniband_physical_state_id{port} 5",
        f"node_infiniband_rate_bytes_per_second{port} 25000000000",
        f"node_infiniband_legacy_data_received_bytes_total{port} 36",
        f"node_infiniband_port_data_received_bytes_total{port} 4000",
        f"node_infiniband_port_packets_received_total{port} 70",
        f"node_infiniband_port_data_transmitted_bytes_total{port} 2000",
        f"node_infiniband_port_packets_transmitted_total{port} 60",
        f"node_infiniband_symbol_error_total{port} 2",
        f"node_infiniband_lifespan_seconds{port} 12",
        f"node_infiniband_out_of_sequence_packets_received_total{port} 12",
    ]


def test_telemetry_shows_link_speed_traffic_and_errors(tree, collector):
    infiniband = collector("infiniband", tree(sysfs()))
    port = 'hw.id="mlx5_0/1"'
    assert samples(infiniband.telemetry(infiniband.read())) == [
        f"hw.network.up{{{port}}} 1",
        f"hw.network.bandwidth.limit{{{port}}} 25000000000",
        f'hw.network.io{{{port},network.io.direction="receive"}} 4000',
        f'hw.network.io{{{port},network.io.direction="transmit"}} 2000',
        f'hw.network.packets{{{port},network.io.direction="receive"}} 70',
        f'hw.network.packets{{{port},network.io.direction="transmit"}} 60',
        'hw.errors{hw.id="mlx5_0/1",hw.type="network",error.type="symbol"} 2',
    ]


def test_devices_are_left_out_by_name(tree, collector):
    root = tree(sysfs("mlx5_0") | sysfs("hfi1_0"))
    assert [device[0] for device in collector("infiniband", root, exclude_devices="^hfi").read().devices] == ["mlx5_0"]
    assert [device[0] for device in collector("infiniband", root, include_devices="^hfi").read().devices] == ["hfi1_0"]


def test_a_device_that_comes_is_seen(tree, collector):
    infiniband = collector("infiniband", tree(sysfs()))
    assert len(infiniband.read().ports) == 1
    tree(
        sysfs("mlx5_1")
        | sysfs("mlx5_1", ports__2__state="1: DOWN", ports__2__phys_state="3: Disabled", ports__2__rate="10 Gb/sec")
    )
    assert [(port.device, port.number, port.state) for port in infiniband.read().ports] == [
        ("mlx5_0", "1", 4),
        ("mlx5_1", "1", 4),
        ("mlx5_1", "2", 1),
    ]


def test_a_port_without_its_state_is_an_error(tree, collector):
    root = tree(sysfs())
    (root / "sys/class/infiniband/mlx5_0/ports/1/state").unlink()
    with pytest.raises(InputError):
        collector("infiniband", root).read()


def test_without_the_class_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("infiniband").read()


def test_a_fraction_of_a_gigabit_counts():
    assert parse_rate(b"2.5 Gb/sec (1X SDR)") == 312_500_000


@pytest.mark.parametrize("data", [b"", b"fast", b"10 Mb/sec", b"ten Gb/sec"])
def test_refuses_a_rate_of_another_form(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_rate(data)


@pytest.mark.parametrize("data", [b"", b"ACTIVE", b": ACTIVE"])
def test_refuses_a_state_without_number(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_state(data)

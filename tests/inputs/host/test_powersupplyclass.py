import pytest

from novel_agent.errors import NoData
from novel_agent.wire.prometheus import render_text

BASE = "sys/class/power_supply"


def supply(name: str, **files: str) -> dict[str, str]:
    return {f"{BASE}/{name}/{file}": f"{content}\n" for file, content in files.items()}


BATTERY = supply(
    "BAT0",
    capacity="81",
    capacity_alert_min="10",
    cycle_count="118",
    energy_now="36580000",
    manufacturer="SANYO",
    model_name="LNV-45N1",
    power_now="4830000",
    present="1",
    status="Discharging",
    technology="Li-ion",
    temp="321",
    time_to_empty_now="27264",
    type="Battery",
    voltage_now="12229000",
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_numbers_in_base_units_and_texts_as_labels(tree, collector):
    power = collector("powersupplyclass", tree(BATTERY | {f"{BASE}/BAT0/uevent": "POWER_SUPPLY_NAME=BAT0\n"}))
    assert samples(power.families(power.read())) == [
        'node_power_supply_capacity{power_supply="BAT0"} 81',
        'node_power_supply_capacity_alert_min{power_supply="BAT0"} 10',
        'node_power_supply_cyclecount{power_supply="BAT0"} 118',
        'node_power_supply_energy_watthour{power_supply="BAT0"} 36.58',
        'node_power_supply_power_watt{power_supply="BAT0"} 4.83',
        'node_power_supply_present{power_supply="BAT0"} 1',
        'node_power_supply_temp_celsius{power_supply="BAT0"} 32.1',
        'node_power_supply_time_to_empty_seconds{power_supply="BAT0"} 27264',
        'node_power_supply_voltage_volt{power_supply="BAT0"} 12.229',
        'node_power_supply_info{manufacturer="SANYO",model_name="LNV-45N1",power_supply="BAT0",status="Discharging",'
        'technology="Li-ion",type="Battery"} 1',
    ]


def test_help_names_the_metric_not_the_file(tree, collector):
    power = collector("powersupplyclass", tree(supply("BAT0", cycle_count="1")))
    text = render_text(power.families(power.read())).decode()
    assert "# HELP node_power_supply_cyclecount cyclecount value of /sys/class/power_supply/<power_supply>.\n" in text
    assert "# HELP node_power_supply_info info of /sys/class/power_supply/<power_supply>.\n" in text


def test_empty_texts_are_no_labels(tree, collector):
    power = collector("powersupplyclass", tree(supply("AC", online="1", type="Mains", serial_number=" ")))
    assert samples(power.families(power.read())) == [
        'node_power_supply_online{power_supply="AC"} 1',
        'node_power_supply_info{power_supply="AC",type="Mains"} 1',
    ]


def test_a_state_that_changes_is_another_series(tree, collector):
    power = collector("powersupplyclass", tree(BATTERY))
    power.read()
    tree(supply("BAT0", status="Charging"))
    assert 'status="Charging"' in samples(power.families(power.read()))[-1]


def test_supplies_can_be_left_out(tree, collector):
    files = supply("AC", online="1") | supply("hidpp_battery_0", online="1")
    power = collector("powersupplyclass", tree(files), ignored_supplies="^hid")
    assert samples(power.families(power.read())) == [
        'node_power_supply_online{power_supply="AC"} 1',
        'node_power_supply_info{power_supply="AC"} 1',
    ]


def test_there_is_no_data_without_the_class(collector):
    with pytest.raises(NoData):
        collector("powersupplyclass").read()


def test_telemetry_of_a_battery(tree, collector):
    power = collector("powersupplyclass", tree(BATTERY))
    battery = 'hw.id="BAT0",hw.name="BAT0",hw.model="LNV-45N1",hw.vendor="SANYO",hw.battery.chemistry="Li-ion"'
    assert samples(power.telemetry(power.read())) == [
        f"hw.battery.charge{{{battery}}} 0.81",
        f'hw.battery.charge.limit{{{battery},hw.limit_type="critical"}} 0.1',
        f'hw.battery.time_left{{{battery},hw.battery.state="discharging"}} 27264',
        'hw.power{hw.id="BAT0",hw.type="battery",hw.name="BAT0"} 4.83',
        'hw.temperature{hw.id="BAT0/temp",hw.name="BAT0",hw.parent="BAT0"} 32.1',
        'hw.voltage{hw.id="BAT0/voltage",hw.name="BAT0",hw.parent="BAT0"} 12.229',
    ]


def test_telemetry_takes_only_batteries_for_batteries(tree, collector):
    power = collector("powersupplyclass", tree(supply("USB0", type="USB", capacity="81", power_now="5000000")))
    assert samples(power.telemetry(power.read())) == [
        'hw.power{hw.id="USB0",hw.type="power_supply",hw.name="USB0"} 5.0'
    ]

import os
from pathlib import Path

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.hwmon import clean, split
from novel_agent.wire.prometheus import render_text


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def chip(tree):
    """Make a chip of a device: `hwmonN` in the class, a link to the device's own directory, which has `device` files."""

    def make(number: int, device: str, files: dict[str, str], beside: dict[str, str] | None = None) -> Path:
        base = f"sys/devices/{device}/hwmon/hwmon{number}"
        root: Path = tree({f"{base}/{name}": f"{content}\n" for name, content in files.items()})
        tree({f"sys/devices/{device}/{name}": f"{content}\n" for name, content in (beside or {}).items()})
        os.symlink(f"../../../{device.rpartition('/')[2]}", root / base / "device")
        (root / "sys/class/hwmon").mkdir(parents=True, exist_ok=True)
        os.symlink(f"../../devices/{device}/hwmon/hwmon{number}", root / f"sys/class/hwmon/hwmon{number}")
        return root

    return make


def one(chip, collector, **files: str) -> list[str]:
    """The samples of a chip with these attributes, without its labels."""
    hwmon = collector("hwmon", chip(0, "platform/demo.0", files))
    return [
        line.replace('chip="platform_demo_0",', "")
        for line in samples(hwmon.families(hwmon.read()))
        if "chip_names" not in line
    ]


def test_shows_temperatures_and_their_labels(chip, collector):
    root = chip(
        0,
        "platform/coretemp.0",
        {
            "name": "coretemp",
            "temp1_crit": "101000",
            "temp1_crit_alarm": "0",
            "temp1_input": "61000",
            "temp1_label": "Package id 0",
        },
    )
    hwmon = collector("hwmon", root)
    assert render_text(hwmon.families(hwmon.read())).decode() == (
        "# HELP node_hwmon_temp_celsius Hardware monitor for temperature (input)\n"
        "# TYPE node_hwmon_temp_celsius gauge\n"
        'node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} 61.0\n'
        "# HELP node_hwmon_temp_crit_alarm_celsius Hardware monitor for temperature (crit_alarm)\n"
        "# TYPE node_hwmon_temp_crit_alarm_celsius gauge\n"
        'node_hwmon_temp_crit_alarm_celsius{chip="platform_coretemp_0",sensor="temp1"} 0.0\n'
        "# HELP node_hwmon_temp_crit_celsius Hardware monitor for temperature (crit)\n"
        "# TYPE node_hwmon_temp_crit_celsius gauge\n"
        'node_hwmon_temp_crit_celsius{chip="platform_coretemp_0",sensor="temp1"} 101.0\n'
        "# HELP node_hwmon_chip_names Annotation metric for human-readable chip names\n"
        "# TYPE node_hwmon_chip_names gauge\n"
        'node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1\n'
        "# HELP node_hwmon_sensor_label Label for given chip and sensor\n"
        "# TYPE node_hwmon_sensor_label gauge\n"
        'node_hwmon_sensor_label{chip="platform_coretemp_0",sensor="temp1",label="Package id 0"} 1\n'
    )


@pytest.mark.parametrize(
    ("file", "content", "sample"),
    [
        ("in1_input", "1104", 'node_hwmon_in_volts{sensor="in1"} 1.104'),
        ("in1_alarm", "1", 'node_hwmon_in_alarm{sensor="in1"} 1'),
        ("in1_beep", "1", 'node_hwmon_in_beep_enabled{sensor="in1"} 1'),
        ("cpu0_vid", "1100", 'node_hwmon_cpu_vid_volts{sensor="cpu0"} 1.1'),
        ("fan1_input", "8437", 'node_hwmon_fan_rpm{sensor="fan1"} 8437'),
        ("fan1_target", "6000", 'node_hwmon_fan_target_rpm{sensor="fan1"} 6000'),
        ("fan1_div", "2", 'node_hwmon_fan_div{sensor="fan1"} 2'),
        ("fan1_fault", "0", 'node_hwmon_fan_fault{sensor="fan1"} 0'),
        ("temp3_type", "4", 'node_hwmon_temp_type{sensor="temp3"} 4'),
        ("temp3_max_hyst", "55000", 'node_hwmon_temp_max_hyst_celsius{sensor="temp3"} 55.0'),
        ("curr2_input", "17200", 'node_hwmon_curr_amps{sensor="curr2"} 17.2'),
        ("energy1_input", "98412000000", 'node_hwmon_energy_joule_total{sensor="energy1"} 98412.0'),
        ("power1_input", "209000000", 'node_hwmon_power_watt{sensor="power1"} 209.0'),
        ("power1_average", "214500000", 'node_hwmon_power_average_watt{sensor="power1"} 214.5'),
        ("power1_accuracy", "950000", 'node_hwmon_power_accuracy{sensor="power1"} 0.95'),
        ("power1_average_interval", "1500", 'node_hwmon_power_average_interval_seconds{sensor="power1"} 1.5'),
        ("humidity1_input", "42310", 'node_hwmon_humidity{sensor="humidity1"} 0.04231'),
        ("pwm1", "153", 'node_hwmon_pwm{sensor="pwm1"} 153'),
        ("pwm1_auto_point1_pwm", "76", 'node_hwmon_pwm_auto_point1_pwm{sensor="pwm1"} 76'),
        ("intrusion0_alarm", "1", 'node_hwmon_intrusion_alarm{sensor="intrusion0"} 1'),
        ("beep_enable", "1", 'node_hwmon_beep_enabled{sensor="beep_enable0"} 1'),
        ("vrm", "90", 'node_hwmon_voltage_regulator_version{sensor="vrm0"} 90'),
        ("update_interval", "100", 'node_hwmon_update_interval_seconds{sensor="update_interval0"} 0.1'),
    ],
)
def test_units_and_names_follow_the_kind_and_the_element(chip, collector, file, content, sample):
    assert one(chip, collector, **{file: content}) == [sample]


def test_energy_is_a_counter(chip, collector):
    hwmon = collector("hwmon", chip(0, "platform/demo.0", {"energy1_input": "1000000"}))
    text = render_text(hwmon.families(hwmon.read())).decode()
    assert "# HELP node_hwmon_energy_joule_total Hardware monitor for joules used so far (input)\n" in text
    assert "# TYPE node_hwmon_energy_joule_total counter\n" in text


def test_a_bare_value_moves_the_input_aside(chip, collector):
    assert one(chip, collector, fan1="500", fan1_input="600") == [
        'node_hwmon_fan{sensor="fan1"} 500',
        'node_hwmon_fan_input_rpm{sensor="fan1"} 600',
    ]


def test_a_frequency_is_named_by_its_label_or_not_shown(chip, collector):
    assert one(chip, collector, freq1_input="1155000000", freq1_label="SCLK", freq2_input="1") == [
        'node_hwmon_freq_freq_mhz{sensor="sclk"} 1155.0',
        'node_hwmon_sensor_label{sensor="freq1",label="SCLK"} 1',
    ]


def test_other_files_and_what_is_no_number_are_left_out(chip, collector):
    assert one(chip, collector, uevent="", name="x", temp1_input="N/A", temp2_input="1000", power="on") == [
        'node_hwmon_temp_celsius{sensor="temp2"} 1.0'
    ]


def test_older_drivers_have_their_attributes_beside_the_device(chip, collector):
    root = chip(
        0, "platform/applesmc.768", {"uevent": ""}, {"name": "applesmc", "fan1_input": "1200", "fan1_label": "L "}
    )
    hwmon = collector("hwmon", root)
    assert samples(hwmon.families(hwmon.read())) == [
        'node_hwmon_fan_rpm{chip="platform_applesmc_768",sensor="fan1"} 1200',
        'node_hwmon_sensor_label{chip="platform_applesmc_768",sensor="fan1",label="L "} 1',
    ]


def chips(lines: list[str]) -> list[str]:
    return [line.partition('chip="')[2].partition('"')[0] for line in lines if "temp_celsius" in line]


def test_a_chip_without_a_device_is_named_by_its_name_or_its_number(tree, collector):
    base = "sys/class/hwmon"
    root = tree({f"{base}/hwmon3/temp1_input": "1000\n", f"{base}/hwmon4/temp1_input": "1000\n"})
    tree({f"{base}/hwmon3/name": "ACPI tz\n"})
    hwmon = collector("hwmon", root)
    assert chips(samples(hwmon.families(hwmon.read()))) == ["acpi_tz", "hwmon4"]


def test_chips_of_one_device_are_told_apart(chip, collector):
    for number, name in ((0, "asus"), (1, "asus_wmi"), (2, "same"), (3, "same")):
        root = chip(number, "platform/asus-nb-wmi", {"name": name, "temp1_input": "1000"})
    hwmon = collector("hwmon", root)
    assert chips(samples(hwmon.families(hwmon.read()))) == [
        "platform_asus_nb_wmi_asus",
        "platform_asus_nb_wmi_asus_wmi",
        "platform_asus_nb_wmi_hwmon2",
        "platform_asus_nb_wmi_hwmon3",
    ]


@pytest.mark.parametrize(
    ("options", "sensors"),
    [
        ({"include_chips": "nvme"}, ["nvme_nvme0;temp1"]),
        ({"exclude_chips": "nvme"}, ["platform_a_0;temp1", "platform_a_0;temp2"]),
        ({"exclude_sensors": "_0;temp1$"}, ["nvme_nvme0;temp1", "platform_a_0;temp2"]),
        ({"include_sensors": ";temp2$"}, ["platform_a_0;temp2"]),
    ],
)
def test_chips_and_sensors_can_be_chosen(chip, collector, options, sensors):
    chip(0, "nvme/nvme0", {"temp1_input": "1000"})
    root = chip(1, "platform/a.0", {"temp1_input": "1000", "temp2_input": "1000"})
    hwmon = collector("hwmon", root, **options)
    labels = [dict(series.labels) for block in hwmon.families(hwmon.read()) for series in block.shape.series]
    assert [f"{each['chip']};{each['sensor']}" for each in labels if "sensor" in each] == sensors


def test_file_names_are_split_into_kind_sensor_and_element():
    assert split("temp1_crit_alarm") == ("temp", "temp1", "crit_alarm")
    assert split("pwm2") == ("pwm", "pwm2", "")
    assert split("update_interval") == ("update_interval", "update_interval0", "")
    assert split("power_state") is None
    assert split("12") is None


def test_names_are_cleaned():
    assert clean("LNXSYSTM:00") == "lnxsystm:00"
    assert clean("0000:3b:00.0\n") == "0000:3b:00_0"
    assert clean("...") == ""


def test_there_is_no_data_without_chips(collector):
    with pytest.raises(NoData):
        collector("hwmon").read()


def test_telemetry_of_sensors_and_their_limits(chip, collector):
    root = chip(
        0,
        "platform/psu.0",
        {
            "temp1_input": "34000",
            "temp1_crit": "90000",
            "temp1_max": "80000",
            "temp1_label": "inlet",
            "in1_input": "12150",
            "in1_min": "11400",
            "in1_lcrit": "10800",
            "fan1_input": "6120",
            "fan1_max": "18000",
            "power1_average": "209500000",
            "energy1_input": "5000000",
            "curr1_input": "1000",
        },
    )
    hwmon = collector("hwmon", root)
    lines = [line.replace("platform_psu_0", "C") for line in samples(hwmon.telemetry(hwmon.read()))]
    inlet = 'hw.id="C/temp1",hw.name="inlet",hw.parent="C",hw.sensor_location="inlet"'
    voltage = 'hw.id="C/in1",hw.name="in1",hw.parent="C"'
    fan = 'hw.id="C/fan1",hw.name="fan1",hw.parent="C"'
    assert sorted(lines) == sorted(
        [
            'hw.energy{hw.id="C/energy1",hw.type="sensor",hw.name="energy1",hw.parent="C"} 5.0',
            f"hw.fan.speed{{{fan}}} 6120",
            f'hw.fan.speed.limit{{{fan},hw.limit_type="max"}} 18000',
            'hw.power{hw.id="C/power1",hw.type="sensor",hw.name="power1",hw.parent="C"} 209.5',
            f"hw.temperature{{{inlet}}} 34.0",
            f'hw.temperature.limit{{{inlet},hw.limit_type="high.critical"}} 90.0',
            f'hw.temperature.limit{{{inlet},hw.limit_type="high.degraded"}} 80.0',
            f"hw.voltage{{{voltage}}} 12.15",
            f'hw.voltage.limit{{{voltage},hw.limit_type="low.degraded"}} 11.4',
            f'hw.voltage.limit{{{voltage},hw.limit_type="low.critical"}} 10.8',
        ]
    )


def test_a_metric_that_drivers_report_in_two_ways_is_told_once(chip, collector):
    hwmon = collector("hwmon", chip(0, "platform/psu.0", {"power1_average": "2000000", "power1_input": "3000000"}))
    (line,) = samples(hwmon.telemetry(hwmon.read()))
    assert line.endswith(" 3.0")

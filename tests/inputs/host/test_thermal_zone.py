from novel_agent.wire.prometheus import render_text

ZONES = {
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "61500\n",
    "sys/class/thermal/thermal_zone10/type": "acpitz\n",
    "sys/class/thermal/thermal_zone10/temp": "-5000\n",
    "sys/class/thermal/cooling_device0/type": "intel_powerclamp\n",
    "sys/class/thermal/cooling_device0/cur_state": "-1\n",
    "sys/class/thermal/cooling_device0/max_state": "50\n",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_zones_in_degrees_and_cooling_devices(tree, collector):
    thermal = collector("thermal_zone", tree(ZONES))
    assert samples(thermal.families(thermal.read())) == [
        'node_cooling_device_cur_state{name="0",type="intel_powerclamp"} -1',
        'node_cooling_device_max_state{name="0",type="intel_powerclamp"} 50',
        'node_thermal_zone_temp{zone="0",type="x86_pkg_temp"} 61.5',
        'node_thermal_zone_temp{zone="10",type="acpitz"} -5.0',
    ]


def test_a_zone_whose_sensor_does_not_answer_has_no_series(tree, collector):
    thermal = collector("thermal_zone", tree(ZONES | {"sys/class/thermal/thermal_zone0/temp": ""}))
    lines = samples(thermal.families(thermal.read()))
    assert [line for line in lines if "zone_temp" in line] == ['node_thermal_zone_temp{zone="10",type="acpitz"} -5.0']


def test_telemetry_names_the_zone_and_its_type(tree, collector):
    thermal = collector("thermal_zone", tree(ZONES))
    assert samples(thermal.telemetry(thermal.read())) == [
        'hw.temperature{hw.id="thermal_zone0",hw.name="x86_pkg_temp"} 61.5',
        'hw.temperature{hw.id="thermal_zone10",hw.name="acpitz"} -5.0',
    ]


def test_a_kernel_without_the_subsystem_shows_nothing_and_succeeds(collector):
    zones = collector("thermal_zone")
    reading = zones.read()
    assert [len(block.shape) for block in zones.families(reading)] in ([], [0])

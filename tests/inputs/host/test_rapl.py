import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.rapl import split_index
from novel_agent.wire.prometheus import render_text


def zone(directory: str, name: str, energy: str) -> dict[str, str]:
    return {
        f"sys/class/powercap/{directory}/name": f"{name}\n",
        f"sys/class/powercap/{directory}/energy_uj": f"{energy}\n",
    }


ZONES = (
    {"sys/class/powercap/intel-rapl/enabled": "1\n"}
    | zone("intel-rapl:0", "package-0", "240422366267")
    | zone("intel-rapl:0:0", "dram", "118821284256")
    | zone("intel-rapl:1", "package-1", "1500000")
    | zone("intel-rapl:1:0", "dram", "250000")
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_counts_joules_by_zone(tree, collector):
    root = tree(ZONES)
    rapl = collector("rapl", root)
    text = render_text(rapl.families(rapl.read())).decode()
    where = f"{root}/sys/class/powercap"
    assert text == (
        "# HELP node_rapl_dram_joules_total Current RAPL dram value in joules\n"
        "# TYPE node_rapl_dram_joules_total counter\n"
        f'node_rapl_dram_joules_total{{index="0",path="{where}/intel-rapl:0:0"}} 118821.284256\n'
        f'node_rapl_dram_joules_total{{index="1",path="{where}/intel-rapl:1:0"}} 0.25\n'
        "# HELP node_rapl_package_joules_total Current RAPL package value in joules\n"
        "# TYPE node_rapl_package_joules_total counter\n"
        f'node_rapl_package_joules_total{{index="0",path="{where}/intel-rapl:0"}} 240422.366267\n'
        f'node_rapl_package_joules_total{{index="1",path="{where}/intel-rapl:1"}} 1.5\n'
    )


def test_the_zone_can_be_a_label(tree, collector):
    root = tree(zone("intel-rapl:0", "package-0", "1500000"))
    rapl = collector("rapl", root, enable_zone_label=True)
    where = f"{root}/sys/class/powercap/intel-rapl:0"
    assert samples(rapl.families(rapl.read())) == [
        f'node_rapl_joules_total{{index="0",path="{where}",rapl_zone="package"}} 1.5'
    ]


def test_the_index_is_the_number_at_the_end_or_how_often_the_name_came():
    assert split_index("package-3", {}) == ("package", 3)
    assert split_index("dram", {"dram": 2}) == ("dram", 2)
    assert split_index("package-0-die-1", {}) == ("package-0-die-1", 0)
    assert split_index("psys-", {}) == ("psys-", 0)


def test_signs_in_a_zones_name_become_underscores_in_the_metrics(tree, collector):
    rapl = collector("rapl", tree(zone("intel-rapl:0", "package-0-die-1", "1000000")))
    text = render_text(rapl.families(rapl.read())).decode()
    assert "# HELP node_rapl_package_0_die_1_joules_total Current RAPL package-0-die-1 value in joules\n" in text


def test_there_is_no_data_where_only_root_may_read(tree, collector):
    with pytest.raises(NoData, match="root"):
        collector("rapl", tree({"sys/class/powercap/intel-rapl:0/name": "package-0\n"})).read()


def test_there_is_no_data_without_powercap(collector):
    with pytest.raises(NoData):
        collector("rapl").read()


def test_telemetry_tells_processor_from_memory(tree, collector):
    rapl = collector("rapl", tree(zone("intel-rapl:0", "package-0", "1500000") | zone("intel-rapl:0:0", "dram", "1")))
    assert samples(rapl.telemetry(rapl.read())) == [
        'hw.energy{hw.id="intel-rapl:0",hw.type="cpu",hw.name="package-0"} 1.5',
        'hw.energy{hw.id="intel-rapl:0:0",hw.type="memory",hw.name="dram"} 1e-06',
    ]

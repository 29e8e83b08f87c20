from novel_agent.inputs.host.edac import dimm_label
from novel_agent.wire.prometheus import render_text

CONTROLLER = {
    f"sys/devices/system/edac/mc/{name}": f"{content}\n"
    for name, content in {
        "mc0/ce_count": "7",
        "mc0/ce_noinfo_count": "2",
        "mc0/ue_count": "5",
        "mc0/ue_noinfo_count": "1",
        "mc0/mc_name": "Skylake Socket#0 IMC#0",
        "mc0/csrow0/ce_count": "5",
        "mc0/csrow0/ue_count": "4",
        "mc0/csrow0/ch0_ce_count": "3",
        "mc0/csrow0/ch0_ue_count": "4",
        "mc0/csrow0/ch0_dimm_label": "CPU_SrcID#0_MC#0_Chan#0_DIMM#0",
        "mc0/csrow0/ch1_ce_count": "2",
        "power/control": "auto",
    }.items()
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_counts_by_controller_row_and_channel(tree, collector):
    edac = collector("edac", tree(CONTROLLER))
    assert samples(edac.families(edac.read())) == [
        'node_edac_channel_correctable_errors_total{controller="0",csrow="0",channel="0",'
        'dimm_label="CPU_SrcID0_MC0_Chan0_DIMM0"} 3',
        'node_edac_channel_correctable_errors_total{controller="0",csrow="0",channel="1",dimm_label="unknown"} 2',
        'node_edac_channel_uncorrectable_errors_total{controller="0",csrow="0",channel="0",'
        'dimm_label="CPU_SrcID0_MC0_Chan0_DIMM0"} 4',
        'node_edac_correctable_errors_total{controller="0"} 7',
        'node_edac_csrow_correctable_errors_total{controller="0",csrow="unknown"} 2',
        'node_edac_csrow_correctable_errors_total{controller="0",csrow="0"} 5',
        'node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="unknown"} 1',
        'node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="0"} 4',
        'node_edac_uncorrectable_errors_total{controller="0"} 5',
    ]


def test_a_label_that_is_set_after_boot_is_seen(tree, collector):
    edac = collector("edac", tree(CONTROLLER))
    edac.read()
    tree({"sys/devices/system/edac/mc/mc0/csrow0/ch0_dimm_label": "P1-DIMMA1\n"})
    assert any('dimm_label="P1-DIMMA1"' in line for line in samples(edac.families(edac.read())))


def test_the_kernels_own_labels_are_written_as_node_exporter_does():
    assert dimm_label(b"mc#0csrow#2channel#1") == "mc0_csrow2_channel1"
    assert dimm_label(None) == "unknown"


def test_a_host_without_memory_controllers_shows_nothing(collector):
    edac = collector("edac")
    assert samples(edac.families(edac.read())) == []
    assert edac.telemetry(edac.read()) == []


def test_telemetry_counts_each_error_once(tree, collector):
    edac = collector("edac", tree(CONTROLLER))
    assert samples(edac.telemetry(edac.read())) == [
        'hw.errors{hw.id="mc0",hw.type="memory",hw.name="mc0",error.type="corrected"} 7',
        'hw.errors{hw.id="mc0",hw.type="memory",hw.name="mc0",error.type="uncorrected"} 5',
    ]

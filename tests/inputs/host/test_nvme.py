import pytest

from novel_agent.errors import NoData
from novel_agent.wire.prometheus import render_text

BASE = "sys/class/nvme/nvme0"
CONTROLLER = {
    f"{BASE}/cntlid": "1997\n",
    f"{BASE}/firmware_rev": "1B2QEXP7\n",
    f"{BASE}/model": "Samsung SSD 970 PRO 512GB               \n",
    f"{BASE}/serial": "S680HF8N190894I     \n",
    f"{BASE}/state": "live\n",
}


def namespace(number: int, block_bytes: int, **files: str) -> dict[str, str]:
    path = f"{BASE}/nvme0n{number}"
    return {f"{path}/queue/logical_block_size": f"{block_bytes}\n", f"sys/block/nvme0n{number}/size": "0\n"} | {
        f"{path}/{file}": f"{content}\n" for file, content in files.items()
    }


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_controllers_and_namespaces(tree, collector):
    files = CONTROLLER | namespace(1, 4096, size="3906250000", nuse="488281250", ana_state="optimized")
    nvme = collector("nvme", tree(files))
    assert samples(nvme.families(nvme.read())) == [
        'node_nvme_namespace_capacity_bytes{device="nvme0",nsid="1"} 16000000000000.0',
        'node_nvme_namespace_logical_block_size_bytes{device="nvme0",nsid="1"} 4096',
        'node_nvme_namespace_size_bytes{device="nvme0",nsid="1"} 16000000000000.0',
        'node_nvme_namespace_used_bytes{device="nvme0",nsid="1"} 2000000000000.0',
        'node_nvme_info{device="nvme0",firmware_revision="1B2QEXP7",model="Samsung SSD 970 PRO 512GB",'
        'serial="S680HF8N190894I",state="live",cntlid="1997"} 1',
        'node_nvme_namespace_info{device="nvme0",nsid="1",ana_state="optimized"} 1',
    ]


def test_an_older_kernel_lacks_only_what_is_used(tree, collector):
    nvme = collector("nvme", tree(CONTROLLER | namespace(1, 512, size="1000")))
    lines = samples(nvme.families(nvme.read()))
    assert not any("used_bytes" in line for line in lines)
    assert 'node_nvme_namespace_size_bytes{device="nvme0",nsid="1"} 512000.0' in lines
    assert 'node_nvme_namespace_info{device="nvme0",nsid="1",ana_state="unknown"} 1' in lines


def test_a_new_namespace_is_found_and_a_format_noticed(tree, collector):
    nvme = collector("nvme", tree(CONTROLLER | namespace(1, 512, size="1000")))
    nvme.read()
    tree(namespace(2, 512, size="2000"))
    assert 'node_nvme_namespace_size_bytes{device="nvme0",nsid="2"} 1024000.0' in samples(nvme.families(nvme.read()))
    nvme.read()
    tree(namespace(1, 4096, size="1000"))
    assert 'node_nvme_namespace_size_bytes{device="nvme0",nsid="1"} 4096000.0' in samples(nvme.families(nvme.read()))


def test_there_is_no_data_without_the_driver(collector):
    with pytest.raises(NoData):
        collector("nvme").read()


@pytest.mark.parametrize(
    ("state", "ok", "degraded", "failed"),
    [("live", 1, 0, 0), ("connecting", 0, 1, 0), ("dead", 0, 0, 1), ("deleting (no IO)", 0, 0, 1)],
)
def test_telemetry_tells_whether_the_drive_lives(tree, collector, state, ok, degraded, failed):
    nvme = collector("nvme", tree(CONTROLLER | {f"{BASE}/state": f"{state}\n"}))
    labels = 'hw.id="nvme0",hw.type="physical_disk",hw.name="nvme0"'
    assert samples(nvme.telemetry(nvme.read())) == [
        f'hw.status{{{labels},hw.state="ok"}} {ok}',
        f'hw.status{{{labels},hw.state="degraded"}} {degraded}',
        f'hw.status{{{labels},hw.state="failed"}} {failed}',
    ]


def test_telemetry_counts_the_size_in_sectors_of_512_bytes(tree, collector):
    nvme = collector("nvme", tree(CONTROLLER | namespace(1, 4096, size="1000")))
    assert samples(nvme.telemetry(nvme.read()))[0] == (
        'hw.physical_disk.size{hw.id="nvme0n1",hw.name="nvme0n1",hw.parent="nvme0",hw.model="Samsung SSD 970 PRO 512GB",'
        'hw.serial_number="S680HF8N190894I",hw.firmware_version="1B2QEXP7",hw.physical_disk.type="SSD"} 512000.0'
    )

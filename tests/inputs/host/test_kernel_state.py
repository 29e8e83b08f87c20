"""Collectors of one small file or directory each: entropy, kernel_hung, cpu_vulnerabilities, dmi."""

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.cpu_vulnerabilities import parse
from novel_agent.wire.prometheus import render_text

RANDOM = "proc/sys/kernel/random"
HUNG = "proc/sys/kernel/hung_task_detect_count"


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_entropy_shows_what_there_is_and_the_size_of_the_pool(tree, collector):
    entropy = collector("entropy", tree({f"{RANDOM}/entropy_avail": "197\n", f"{RANDOM}/poolsize": "256\n"}))
    assert render_text(entropy.families(entropy.read())).decode() == (
        "# HELP node_entropy_available_bits Bits of available entropy.\n"
        "# TYPE node_entropy_available_bits gauge\nnode_entropy_available_bits 197\n"
        "# HELP node_entropy_pool_size_bits Bits of entropy pool.\n"
        "# TYPE node_entropy_pool_size_bits gauge\nnode_entropy_pool_size_bits 256\n"
    )


@pytest.mark.parametrize("content", ["", "many\n", "\x00\n"])
def test_entropy_refuses_what_is_no_number(tree, collector, content):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        collector("entropy", tree({f"{RANDOM}/entropy_avail": content, f"{RANDOM}/poolsize": "256\n"})).read()


def test_entropy_cannot_do_without_its_files(collector):
    with pytest.raises(FileNotFoundError):
        collector("entropy").read()


def test_hung_tasks_are_a_counter(tree, collector):
    hung = collector("kernel_hung", tree({HUNG: "3\n"}))
    assert render_text(hung.families(hung.read())).decode() == (
        "# HELP node_kernel_hung_tasks_total Total number of tasks that have been detected as hung since the system "
        "booted.\n# TYPE node_kernel_hung_tasks_total counter\nnode_kernel_hung_tasks_total 3\n"
    )


def test_an_older_kernel_does_not_count_hung_tasks(collector):
    with pytest.raises(NoData):
        collector("kernel_hung").read()


def test_hung_tasks_refuse_what_is_no_number(tree, collector):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        collector("kernel_hung", tree({HUNG: "\n"})).read()


@pytest.mark.parametrize(
    ("content", "state", "mitigation"),
    [
        ("Not affected", "not affected", ""),
        ("Vulnerable", "vulnerable", ""),
        ("Vulnerable: No microcode", "vulnerable", "No microcode"),
        ("Mitigation: Clear CPU buffers; SMT disabled", "mitigation", "Clear CPU buffers; SMT disabled"),
        ("Unknown: Dependent on hypervisor status", "unknown", "Dependent on hypervisor status"),
        ("KVM: Mitigation: VMX disabled", "unknown", "KVM: Mitigation: VMX disabled"),
        ("", "unknown", ""),
    ],
)
def test_vulnerabilities_have_a_state_and_a_mitigation(content, state, mitigation):
    assert parse(content) == (state, mitigation)


def test_vulnerabilities_are_read_by_name_and_anew(tree, collector):
    base = "sys/devices/system/cpu/vulnerabilities"
    plugin = collector(
        "cpu_vulnerabilities", tree({f"{base}/mds": "Not affected\n", f"{base}/retbleed": "Vulnerable\n"})
    )
    assert samples(plugin.families(plugin.read())) == [
        'node_cpu_vulnerabilities_info{codename="mds",state="not affected",mitigation=""} 1',
        'node_cpu_vulnerabilities_info{codename="retbleed",state="vulnerable",mitigation=""} 1',
    ]
    tree({f"{base}/retbleed": "Mitigation: IBRS\n"})
    assert samples(plugin.families(plugin.read()))[1] == (
        'node_cpu_vulnerabilities_info{codename="retbleed",state="mitigation",mitigation="IBRS"} 1'
    )


def test_vulnerabilities_are_off_unless_asked_for(collector):
    plugin = collector("cpu_vulnerabilities")
    assert not plugin.default_on
    assert samples(plugin.families(plugin.read())) == []


def test_dmi_shows_what_the_firmware_tells(tree, collector):
    base = "sys/class/dmi/id"
    dmi = collector(
        "dmi",
        tree(
            {
                f"{base}/bios_vendor": "American Megatrends\n",
                f"{base}/board_asset_tag": " \n",
                f"{base}/product_name": b"X11 \xff\xff\n",
                f"{base}/sys_vendor": "Supermicro\n",
                f"{base}/modalias": "dmi:bvn\n",
                f"{base}/chassis_type": "17\n",
            }
        ),
    )
    assert render_text(dmi.families(dmi.read())).decode() == (
        "# HELP node_dmi_info A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, "
        "bios_version, board_asset_tag, board_name, board_serial, board_vendor, board_version, chassis_asset_tag, "
        "chassis_serial, chassis_vendor, chassis_version, product_family, product_name, product_serial, product_sku, "
        "product_uuid, product_version, system_vendor if provided by DMI.\n"
        "# TYPE node_dmi_info gauge\n"
        'node_dmi_info{bios_vendor="American Megatrends",board_asset_tag="",product_name="X11 \ufffd",'
        'system_vendor="Supermicro"} 1\n'
    )


def test_dmi_is_read_once(tree, collector):
    dmi = collector("dmi", tree({"sys/class/dmi/id/sys_vendor": "Supermicro\n"}))
    first = dmi.read()
    tree({"sys/class/dmi/id/sys_vendor": "Dell\n"})
    assert dmi.read() is first


def test_a_platform_without_dmi_has_no_data(collector):
    with pytest.raises(NoData):
        collector("dmi").read()

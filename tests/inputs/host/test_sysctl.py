import pytest

from novel_agent.errors import InputError
from novel_agent.wire.prometheus import render_text

FILES = {
    "proc/sys/vm/swappiness": "10\n",
    "proc/sys/kernel/printk": "7\t4\t1\t7\n",
    "proc/sys/net/ipv4/tcp_rmem": "4096 131072 6291456\n",
    "proc/sys/kernel/core_uses_pid": "0x1f\n",
    "proc/sys/kernel/seccomp/actions_avail": "kill_process log allow\n",
    "proc/sys/kernel/empty": "\n",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_numbers_alone_by_index_and_by_name(tree, collector):
    sysctl = collector(
        "sysctl",
        tree(FILES),
        include=("vm.swappiness", "kernel.printk", "net.ipv4.tcp_rmem:min,default,max", "kernel.core_uses_pid"),
    )
    blocks = sysctl.families(sysctl.read())
    assert samples(blocks) == [
        "node_sysctl_vm_swappiness 10",
        'node_sysctl_kernel_printk{index="0"} 7',
        'node_sysctl_kernel_printk{index="1"} 4',
        'node_sysctl_kernel_printk{index="2"} 1',
        'node_sysctl_kernel_printk{index="3"} 7',
        "node_sysctl_net_ipv4_tcp_rmem_min 4096",
        "node_sysctl_net_ipv4_tcp_rmem_default 131072",
        "node_sysctl_net_ipv4_tcp_rmem_max 6291456",
        "node_sysctl_kernel_core_uses_pid 31",
    ]
    text = render_text(blocks).decode()
    assert "# HELP node_sysctl_vm_swappiness sysctl vm.swappiness\n# TYPE node_sysctl_vm_swappiness untyped\n" in text
    assert "# HELP node_sysctl_net_ipv4_tcp_rmem_max sysctl net.ipv4.tcp_rmem, field 2\n" in text


def test_shows_texts_as_labels(tree, collector):
    sysctl = collector("sysctl", tree(FILES), include_info=("kernel.seccomp.actions_avail", "vm.swappiness"))
    assert samples(sysctl.families(sysctl.read())) == [
        'node_sysctl_info{name="kernel.seccomp.actions_avail",value="kill_process",index="0"} 1',
        'node_sysctl_info{name="kernel.seccomp.actions_avail",value="log",index="1"} 1',
        'node_sysctl_info{name="kernel.seccomp.actions_avail",value="allow",index="2"} 1',
        'node_sysctl_info{name="vm.swappiness",value="10",index="0"} 1',
    ]


def test_a_text_that_changes_is_another_series(tree, collector):
    sysctl = collector("sysctl", tree(FILES), include_info=("vm.swappiness",))
    sysctl.families(sysctl.read())
    tree({"proc/sys/vm/swappiness": "60\n"})
    assert samples(sysctl.families(sysctl.read())) == ['node_sysctl_info{name="vm.swappiness",value="60",index="0"} 1']


def test_a_setting_named_twice_is_shown_once(tree, collector):
    sysctl = collector("sysctl", tree(FILES), include=("vm.swappiness", "vm.swappiness"))
    assert samples(sysctl.families(sysctl.read())) == ["node_sysctl_vm_swappiness 10"]


def test_shows_nothing_unless_told(tree, collector):
    sysctl = collector("sysctl", tree(FILES))
    assert samples(sysctl.families(sysctl.read())) == []


@pytest.mark.parametrize("setting", ["kernel.printk:a,b", "vm.swappiness:a,b", "kernel.empty"])
def test_names_must_be_as_many_as_the_values(tree, collector, setting):
    with pytest.raises(InputError, match=setting.partition(":")[0]):
        collector("sysctl", tree(FILES), include=(setting,)).read()


def test_a_setting_that_is_no_number_is_an_error(tree, collector):
    with pytest.raises(ValueError, match="kill_process"):
        collector("sysctl", tree(FILES), include=("kernel.seccomp.actions_avail",)).read()


def test_a_setting_that_does_not_exist_is_an_error(collector):
    with pytest.raises(FileNotFoundError):
        collector("sysctl", include=("vm.no_such",)).read()

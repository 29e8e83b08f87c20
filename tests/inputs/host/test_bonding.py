import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.wire.prometheus import render_text

NET = "sys/class/net"
BONDS = {
    f"{NET}/bonding_masters": "bond0 dmz empty\n",
    f"{NET}/bond0/bonding/slaves": "eno1 eno2\n",
    f"{NET}/bond0/lower_eno1/bonding_slave/mii_status": "up\n",
    f"{NET}/bond0/lower_eno2/bonding_slave/mii_status": "down\n",
    f"{NET}/dmz/bonding/slaves": "eth4\n",
    f"{NET}/dmz/slave_eth4/bonding_slave/mii_status": "up\n",
    f"{NET}/empty/bonding/slaves": "\n",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_counts_the_interfaces_of_each_bond(tree, collector):
    bonding = collector("bonding", tree(BONDS))
    assert samples(bonding.families(bonding.read())) == [
        'node_bonding_slaves{master="bond0"} 2',
        'node_bonding_slaves{master="dmz"} 1',
        'node_bonding_slaves{master="empty"} 0',
        'node_bonding_active{master="bond0"} 1',
        'node_bonding_active{master="dmz"} 1',
        'node_bonding_active{master="empty"} 0',
    ]


def test_a_reading_sees_a_link_that_fails(tree, collector):
    bonding = collector("bonding", tree(BONDS))
    assert bonding.read()["bond0"] == (2, 1)
    tree({f"{NET}/bond0/lower_eno1/bonding_slave/mii_status": "down\n"})
    assert bonding.read()["bond0"] == (2, 0)


def test_without_the_module_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("bonding").read()


def test_the_module_without_a_bond_has_no_series(tree, collector):
    bonding = collector("bonding", tree({f"{NET}/bonding_masters": "\n"}))
    assert samples(bonding.families(bonding.read())) == []


@pytest.mark.parametrize("missing", [f"{NET}/bond0/bonding/slaves", f"{NET}/bond0/lower_eno2/bonding_slave/mii_status"])
def test_a_bond_that_cannot_be_read_is_an_error(tree, collector, missing):
    bonding = collector("bonding", tree({name: content for name, content in BONDS.items() if name != missing}))
    with pytest.raises(InputError, match="class/net/bond0"):
        bonding.read()

import pytest

from novel_agent.inputs.host.netstat import choose_listed, choose_pair, pairs
from novel_agent.wire.prometheus import render_text

NETSTAT = (
    "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts ListenOverflows ListenDrops TCPTimeouts\n"
    "TcpExt: 1204 1011 93 7 412 431 20417\n"
    "IpExt: InNoRoutes InOctets OutOctets InCsumErrors\n"
    "IpExt: 3 8129050534925 5320087315549 0\n"
    "MPTcpExt: MPCapableSYNRX\n"
    "MPTcpExt: 0\n"
)
SNMP = (
    "Ip: Forwarding DefaultTTL InReceives\n"
    "Ip: 1 64 6198044731\n"
    "Icmp: InMsgs InErrors OutMsgs\n"
    "Icmp: 120447 31 121990\n"
    "IcmpMsg: InType3\n"
    "IcmpMsg: 80112\n"
    "Tcp: RtoAlgorithm MaxConn CurrEstab InErrs\n"
    "Tcp: 1 -1 214 61\n"
    "Udp: InDatagrams NoPorts InErrors\n"
    "Udp: 96210447 1820 412\n"
    "UdpLite: InDatagrams InErrors\n"
    "UdpLite: 0 5\n"
)
SNMP6 = (
    "Ip6InReceives                   \t12044713\n"
    "Ip6InOctets                     \t4120447331\n"
    "Icmp6InMsgs                     \t81204\n"
    "Udp6NoPorts                     \t14\n"
    "UdpLite6InErrors                \t2\n"
)
FILES = {"proc/net/netstat": NETSTAT, "proc/net/snmp": SNMP, "proc/net/snmp6": SNMP6}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_the_usual_counters(tree, collector):
    netstat = collector("netstat", tree(FILES))
    assert samples(netstat.families(netstat.read())) == [
        "node_netstat_TcpExt_SyncookiesSent 1204",
        "node_netstat_TcpExt_SyncookiesRecv 1011",
        "node_netstat_TcpExt_SyncookiesFailed 93",
        "node_netstat_TcpExt_ListenOverflows 412",
        "node_netstat_TcpExt_ListenDrops 431",
        "node_netstat_TcpExt_TCPTimeouts 20417",
        "node_netstat_IpExt_InOctets 8129050534925",
        "node_netstat_IpExt_OutOctets 5320087315549",
        "node_netstat_Ip_Forwarding 1",
        "node_netstat_Icmp_InMsgs 120447",
        "node_netstat_Icmp_InErrors 31",
        "node_netstat_Icmp_OutMsgs 121990",
        "node_netstat_Tcp_CurrEstab 214",
        "node_netstat_Tcp_InErrs 61",
        "node_netstat_Udp_InDatagrams 96210447",
        "node_netstat_Udp_NoPorts 1820",
        "node_netstat_Udp_InErrors 412",
        "node_netstat_UdpLite_InErrors 5",
        "node_netstat_Ip6_InOctets 4120447331",
        "node_netstat_Icmp6_InMsgs 81204",
        "node_netstat_Udp6_NoPorts 14",
        "node_netstat_UdpLite6_InErrors 2",
    ]


def test_is_untyped_and_explained_as_ever(tree, collector):
    netstat = collector("netstat", tree(FILES), fields="^Tcp_MaxConn$")
    assert render_text(netstat.families(netstat.read())).decode() == (
        "# HELP node_netstat_Tcp_MaxConn Statistic TcpMaxConn.\n"
        "# TYPE node_netstat_Tcp_MaxConn untyped\n"
        "node_netstat_Tcp_MaxConn -1\n"
    )


def test_an_option_chooses_others(tree, collector):
    netstat = collector("netstat", tree(FILES), fields="^(IcmpMsg|Ip6)_")
    assert samples(netstat.families(netstat.read())) == [
        "node_netstat_IcmpMsg_InType3 80112",
        "node_netstat_Ip6_InReceives 12044713",
        "node_netstat_Ip6_InOctets 4120447331",
    ]


def test_a_host_without_ipv6_has_the_rest(tree, collector):
    netstat = collector("netstat", tree({"proc/net/netstat": NETSTAT, "proc/net/snmp": SNMP}))
    assert len(netstat.read().names) == 18


@pytest.mark.parametrize("missing", ["proc/net/netstat", "proc/net/snmp"])
def test_a_host_without_the_others_cannot_be_read(tree, collector, missing):
    netstat = collector("netstat", tree({name: content for name, content in FILES.items() if name != missing}))
    with pytest.raises(FileNotFoundError):
        netstat.read()


def test_follows_lines_that_get_other_names(tree, collector):
    netstat = collector("netstat", tree(FILES), fields="IcmpMsg|Udp6")
    assert samples(netstat.families(netstat.read())) == [
        "node_netstat_IcmpMsg_InType3 80112",
        "node_netstat_Udp6_NoPorts 14",
    ]
    changed = SNMP.replace("IcmpMsg: InType3\nIcmpMsg: 80112", "IcmpMsg: InType0 InType3\nIcmpMsg: 13 80113")
    tree({"proc/net/snmp": changed, "proc/net/snmp6": "Udp6InDatagrams 9\nUdp6NoPorts 15\n"})
    assert samples(netstat.families(netstat.read())) == [
        "node_netstat_IcmpMsg_InType0 13",
        "node_netstat_IcmpMsg_InType3 80113",
        "node_netstat_Udp6_InDatagrams 9",
        "node_netstat_Udp6_NoPorts 15",
    ]


def test_a_line_of_numbers_that_lost_some_is_refused_though_its_names_are_known(tree, collector):
    netstat = collector("netstat", tree(FILES))
    netstat.read()
    tree({"proc/net/snmp": SNMP.replace("Tcp: 1 -1 214 61", "Tcp: 1 -1 214")})
    with pytest.raises(ValueError, match="does not fit its names"):
        netstat.read()
    tree({"proc/net/snmp": SNMP.replace("Tcp: 1 -1 214 61", "Udp: 1 -1 214 61")})
    with pytest.raises(ValueError, match="does not fit its names"):
        netstat.read()
    tree({"proc/net/snmp": SNMP.removesuffix("UdpLite: 0 5\n")})
    with pytest.raises(ValueError, match="pairs of lines"):
        netstat.read()
    tree({"proc/net/snmp": SNMP})
    assert len(netstat.read().numbers) == 22


def test_a_counter_in_two_lines_is_refused(tree, collector):
    netstat = collector("netstat", tree(FILES | {"proc/net/snmp": SNMP + "Tcp: InErrs\nTcp: 1\n"}))
    with pytest.raises(ValueError, match="twice"):
        netstat.read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Tcp: InErrs\n",
        b"Tcp: InErrs\nTcp: 1 2\n",
        b"Tcp: InErrs\nUdp: 1\n",
        b"Tcp InErrs\nTcp 1\n",
        b"\x00\xff\n\xfe\n",
    ],
)
def test_refuses_lines_that_are_no_pairs(data):
    with pytest.raises(ValueError, match="net/snmp"):
        list(pairs(data))


@pytest.mark.parametrize("name", [b"A{b", b"\xff", b"", b"A\x00"])
def test_refuses_names_that_none_can_have(name):
    with pytest.raises(ValueError):  # noqa: PT011 - a text that is not UTF-8 is one too
        choose_pair(b"Tcp: " + name, bool)
    with pytest.raises(ValueError):  # noqa: PT011
        choose_listed([b"Tcp6" + name], bool)


@pytest.mark.parametrize(
    "files",
    [
        {"proc/net/snmp": "Tcp: InErrs\nTcp: many\n"},
        {"proc/net/snmp6": "Udp6NoPorts\n"},
        {"proc/net/snmp6": "Udp6NoPorts none\n"},
    ],
)
def test_refuses_what_is_no_number(tree, collector, files):
    netstat = collector("netstat", tree(FILES | files))
    with pytest.raises(ValueError):  # noqa: PT011
        netstat.read()


def test_a_line_of_snmp6_without_a_6_is_passed_over():
    assert choose_listed([b"Whatever", b"Ip6InOctets"], bool) == ((("Ip6", "InOctets"),), (1,))

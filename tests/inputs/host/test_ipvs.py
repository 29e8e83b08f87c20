import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.ipvs import endpoint, parse_servers, parse_totals
from novel_agent.wire.prometheus import render_text

TOTALS = (
    "   Total Incoming Outgoing         Incoming         Outgoing\n"
    "   Conns  Packets  Packets            Bytes            Bytes\n"
    " 2DFAD81 7277AE9C       1F      113C4FDDA9F              FFF\n"
    "\n"
    " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"
    "      70     10D6        0           290BDC                0\n"
)
HEADER = (
    "IP Virtual Server version 1.2.1 (size=4096)\n"
    "Prot LocalAddress:Port Scheduler Flags\n"
    "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
)
SERVICES = (
    "TCP  C633640A:01BB wrr  \n"
    "  -> C000021F:01BB      Route   100    248        24        \n"
    "  -> C0000220:01BB      Route   50     121        13        \n"
    "UDP  C633640A:0035 rr ops  \n"
    "  -> C000021F:0035      Masq    1      0          7         \n"
)
IPV6 = (
    "TCP  [2001:0db8:0000:0000:0000:0000:0000:000a]:01BB wlc  \n"
    "  -> [2001:0db8:0000:0001:0000:0000:0000:001f]:01BB      Route   100    17         2         \n"
)
MARK = "FWM  00000017 sh persistent 360 FFFFFFFF\n  -> C0000220:0000      Tunnel  0      0          5         \n"


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_the_totals_and_each_server(tree, collector):
    ipvs = collector("ipvs", tree({"proc/net/ip_vs_stats": TOTALS, "proc/net/ip_vs": HEADER + MARK}))
    labels = (
        'local_address="",local_port="0",remote_address="192.0.2.32",remote_port="0",proto="FWM",local_mark="00000017"'
    )
    assert samples(ipvs.families(ipvs.read())) == [
        "node_ipvs_connections_total 48213377",
        "node_ipvs_incoming_packets_total 1920446108",
        "node_ipvs_outgoing_packets_total 31",
        "node_ipvs_incoming_bytes_total 1184420977311",
        "node_ipvs_outgoing_bytes_total 4095",
        f"node_ipvs_backend_connections_active{{{labels}}} 0",
        f"node_ipvs_backend_connections_inactive{{{labels}}} 5",
        f"node_ipvs_backend_weight{{{labels}}} 0",
    ]


def test_a_service_has_its_servers_below_it():
    assert parse_servers((HEADER + SERVICES + IPV6 + MARK).encode()) == [
        (("198.51.100.10", "443", "192.0.2.31", "443", "TCP", ""), (248, 24, 100)),
        (("198.51.100.10", "443", "192.0.2.32", "443", "TCP", ""), (121, 13, 50)),
        (("198.51.100.10", "53", "192.0.2.31", "53", "UDP", ""), (0, 7, 1)),
        (("2001:db8::a", "443", "2001:db8:0:1::1f", "443", "TCP", ""), (17, 2, 100)),
        (("", "0", "192.0.2.32", "0", "FWM", "00000017"), (0, 5, 0)),
    ]


def test_servers_that_are_equal_in_the_labels_wanted_are_added_up(tree, collector):
    files = {"proc/net/ip_vs_stats": TOTALS, "proc/net/ip_vs": HEADER + SERVICES}
    ipvs = collector("ipvs", tree(files), backend_labels=("remote_address", "proto", "local_address"))
    assert [line for line in samples(ipvs.families(ipvs.read())) if "inactive" in line] == [
        "node_ipvs_backend_connections_inactive"
        '{local_address="198.51.100.10",remote_address="192.0.2.31",proto="TCP"} 24',
        "node_ipvs_backend_connections_inactive"
        '{local_address="198.51.100.10",remote_address="192.0.2.32",proto="TCP"} 13',
        "node_ipvs_backend_connections_inactive"
        '{local_address="198.51.100.10",remote_address="192.0.2.31",proto="UDP"} 7',
    ]


def test_without_labels_all_servers_are_one(tree, collector):
    files = {"proc/net/ip_vs_stats": TOTALS, "proc/net/ip_vs": HEADER + SERVICES}
    ipvs = collector("ipvs", tree(files), backend_labels=())
    assert samples(ipvs.families(ipvs.read()))[5:] == [
        "node_ipvs_backend_connections_active 369",
        "node_ipvs_backend_connections_inactive 44",
        "node_ipvs_backend_weight 151",
    ]


def test_without_services_there_are_only_totals(tree, collector):
    ipvs = collector("ipvs", tree({"proc/net/ip_vs_stats": TOTALS, "proc/net/ip_vs": HEADER}))
    assert len(samples(ipvs.families(ipvs.read()))) == 5


def test_without_the_module_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("ipvs").read()


def test_totals_without_services_cannot_be_read(tree, collector):
    with pytest.raises(FileNotFoundError):
        collector("ipvs", tree({"proc/net/ip_vs_stats": TOTALS})).read()


@pytest.mark.parametrize("data", [b"", b"a\nb\n", b"a\nb\n1 2 3 4\n", b"a\nb\n1 2 3 4 x\n", b"\x00\xff"])
def test_refuses_totals_that_are_none(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse_totals(data)


@pytest.mark.parametrize(
    "text",
    [
        "C633640A",
        "C633640A:1BB",
        "C63364:01BB",
        "C633640X:01BB",
        "C633640A:01BX",
        "[2001:db8::zz]:01BB",
        "2001:0db8:0000:0000:0000:0000:0000:000a:01BB",
        "",
    ],
)
def test_refuses_addresses_that_are_none(text):
    with pytest.raises(ValueError):  # noqa: PT011
        endpoint(text)


def test_refuses_a_server_whose_load_is_no_number():
    with pytest.raises(ValueError):  # noqa: PT011
        parse_servers(SERVICES.replace("248", "many").encode())

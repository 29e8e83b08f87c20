import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.udp_queues import parse
from novel_agent.wire.prometheus import render_text

HEADER = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
DNS = " 4417: 0100007F:0035 00000000:0000 07 00000000:00001200 00:00000000 00000000   107        0 28811 2 000000008f31 0\n"
NFS = "23880: 150200C0:BC57 280200C0:0801 01 00000900:00000080 00:00000000 00000000     0        0 81933 2 000000008f32 7\n"


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_adds_up_the_queues_of_all_sockets(tree, collector):
    queues = collector("udp_queues", tree({"proc/net/udp": HEADER + DNS + NFS, "proc/net/udp6": HEADER}))
    assert samples(queues.families(queues.read())) == [
        'node_udp_queues{queue="tx",ip="v4"} 2304',
        'node_udp_queues{queue="rx",ip="v4"} 4736',
        'node_udp_queues{queue="tx",ip="v6"} 0',
        'node_udp_queues{queue="rx",ip="v6"} 0',
    ]


def test_a_host_without_ipv6_has_the_other(tree, collector):
    queues = collector("udp_queues", tree({"proc/net/udp": HEADER + DNS}))
    assert samples(queues.families(queues.read())) == [
        'node_udp_queues{queue="tx",ip="v4"} 0',
        'node_udp_queues{queue="rx",ip="v4"} 4608',
    ]


def test_without_either_there_is_no_data(collector):
    with pytest.raises(NoData):
        collector("udp_queues").read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage\n",
        HEADER.encode() + b"1: 2 3\n",
        HEADER.encode() + DNS.replace("00000000:00001200", "00001200").encode(),
        HEADER.encode() + DNS.replace("00001200", "many").encode(),
        HEADER.encode() + DNS.encode()[:60],
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)

import socket
import struct

import pytest

from novel_agent.inputs.host import tcpstat
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.tcpstat import TcpStat, parse, parse_answer, summarize
from novel_agent.wire.prometheus import render_text

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def line(state: int, to_send: int = 0, to_receive: int = 0) -> str:
    return (
        f"   0: 150200C0:01BB 09CB0071:CAA2 {state:02X} {to_send:08X}:{to_receive:08X} 01:00000015 00000000"
        "    33        0 90412 3 000000008f31 24 4 29 10 7\n"
    )


def diagnosed(family: int, state: int, to_receive: int = 0, to_send: int = 0):
    content = struct.pack("=BBBB48xIIIII", family, state, 0, 0, 0, to_receive, to_send, 33, 90412) + b"attributes"
    return content, 20, 0, len(content)


def test_counts_the_sockets_of_both_families_by_state(tree, collector):
    files = {
        "proc/net/tcp": HEADER + line(10, 0, 3) + line(1, 0x5A8) + line(1, 0, 0x205) + line(6) + line(3),
        "proc/net/tcp6": HEADER + line(10) + line(8, 1),
    }
    found = collector("tcpstat", tree(files))
    assert samples(found.families(found.read())) == [
        'node_tcp_connection_states{state="established"} 2',
        'node_tcp_connection_states{state="syn_recv"} 1',
        'node_tcp_connection_states{state="time_wait"} 1',
        'node_tcp_connection_states{state="close_wait"} 1',
        'node_tcp_connection_states{state="listen"} 2',
        'node_tcp_connection_states{state="rx_queued_bytes"} 520',
        'node_tcp_connection_states{state="tx_queued_bytes"} 1449',
    ]


def test_telemetry_has_every_state(tree, collector):
    found = collector("tcpstat", tree({"proc/net/tcp": HEADER + line(1) + line(4)}))
    values = {
        dict(series.labels)["network.connection.state"]: value
        for block in found.telemetry(found.read())
        for series, value in zip(block.shape.series, block.values, strict=True)
    }
    assert values == {
        "established": 1,
        "syn_sent": 0,
        "syn_received": 0,
        "fin_wait_1": 1,
        "fin_wait_2": 0,
        "time_wait": 0,
        "closed": 0,
        "close_wait": 0,
        "last_ack": 0,
        "listen": 0,
        "closing": 0,
    }


def test_without_sockets_there_are_no_series(tree, collector):
    found = collector("tcpstat", tree({"proc/net/tcp": HEADER}))
    assert samples(found.families(found.read())) == []


def test_a_missing_table_is_an_os_error(collector):
    with pytest.raises(FileNotFoundError):
        collector("tcpstat").read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage\n",
        (HEADER + "1: 2 3\n").encode(),
        (HEADER + line(1).replace(" 01 ", " xx ")).encode(),
        (HEADER + line(1).replace("00000000:00000000", "00000000")).encode(),
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)


def test_netlink_gives_the_same_of_each_socket():
    answer = [diagnosed(2, 1, 5, 7), diagnosed(10, 1, 0, 1), diagnosed(2, 10, 0, 128), (b"\2\1", 20, 0, 2)]
    assert summarize(parse_answer(answer)) == ({1: 2, 10: 1}, 5, 136)


@pytest.fixture
def live():
    made = TcpStat(Kernel(), TcpStat.Options())
    yield made
    made.close()


def test_sees_the_sockets_of_this_machine(live):
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0), backlog=77):
        reading = live.read()
    assert reading.sockets[10] >= 2
    assert reading.sent_bytes >= 77, "the longest queue of a listening socket counts"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_one_request_serves_both_families(live):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        family_and_port = struct.pack("=B", socket.AF_INET6), struct.pack("!H", server.getsockname()[1])
        found = [
            (datagram[start : start + 1], datagram[start + 4 : start + 6])
            for datagram, _, start, _ in live.netlink.dump(tcpstat._TCPDIAG_GETSOCK, tcpstat._ALL_SOCKETS)
        ]
    assert family_and_port in found

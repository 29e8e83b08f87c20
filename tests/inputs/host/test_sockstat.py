import os

import pytest

from novel_agent.inputs.host.sockstat import plan
from novel_agent.wire.prometheus import render_text

IPV4 = (
    "sockets: used 1187\n"
    "TCP: inuse 214 orphan 2 tw 431 alloc 236 mem 58\n"
    "UDP: inuse 9 mem 3\n"
    "UDPLITE: inuse 0\n"
    "FRAG: inuse 1 memory 4096\n"
)
IPV6 = "TCP6: inuse 41\nFRAG6: inuse 0 memory 0\n"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_sockets_and_their_memory(tree, collector):
    sockstat = collector("sockstat", tree({"proc/net/sockstat": IPV4, "proc/net/sockstat6": IPV6}))
    assert samples(sockstat.families(sockstat.read())) == [
        "node_sockstat_sockets_used 1187",
        "node_sockstat_TCP_inuse 214",
        "node_sockstat_TCP_orphan 2",
        "node_sockstat_TCP_tw 431",
        "node_sockstat_TCP_alloc 236",
        "node_sockstat_TCP_mem 58",
        f"node_sockstat_TCP_mem_bytes {58 * PAGE_BYTES}",
        "node_sockstat_UDP_inuse 9",
        "node_sockstat_UDP_mem 3",
        f"node_sockstat_UDP_mem_bytes {3 * PAGE_BYTES}",
        "node_sockstat_UDPLITE_inuse 0",
        "node_sockstat_FRAG_inuse 1",
        "node_sockstat_FRAG_memory 4096",
        "node_sockstat_TCP6_inuse 41",
        "node_sockstat_FRAG6_inuse 0",
        "node_sockstat_FRAG6_memory 0",
    ]


def test_is_explained_as_ever(tree, collector):
    sockstat = collector("sockstat", tree({"proc/net/sockstat": "sockets: used 7\nRAW: inuse 1\n"}))
    assert render_text(sockstat.families(sockstat.read())).decode() == (
        "# HELP node_sockstat_sockets_used Number of IPv4 sockets in use.\n"
        "# TYPE node_sockstat_sockets_used gauge\n"
        "node_sockstat_sockets_used 7\n"
        "# HELP node_sockstat_RAW_inuse Number of RAW sockets in state inuse.\n"
        "# TYPE node_sockstat_RAW_inuse gauge\n"
        "node_sockstat_RAW_inuse 1\n"
    )


@pytest.mark.parametrize(
    ("files", "series"), [({}, 0), ({"proc/net/sockstat": IPV4}, 13), ({"proc/net/sockstat6": IPV6}, 3)]
)
def test_a_version_of_ip_that_is_not_there_has_no_series(tree, collector, files, series):
    sockstat = collector("sockstat", tree(files))
    assert len(samples(sockstat.families(sockstat.read()))) == series


def test_follows_a_file_that_gets_other_words(tree, collector):
    sockstat = collector("sockstat", tree({"proc/net/sockstat": "sockets: used 7\nRAW: inuse 1\n"}))
    sockstat.read()
    tree({"proc/net/sockstat": "sockets: used 8\nUDP: inuse 2\nRAW: inuse 3\n"})
    assert samples(sockstat.families(sockstat.read())) == [
        "node_sockstat_sockets_used 8",
        "node_sockstat_UDP_inuse 2",
        "node_sockstat_RAW_inuse 3",
    ]


def test_words_that_are_not_known_are_passed_over():
    assert plan(b"TCP: fresh 1 inuse 2 mem 3\n", 4096) == (
        (("TCP", "inuse"), ("TCP", "mem"), ("TCP", "mem_bytes")),
        ((4, 1), (6, 1), (6, 4096)),
        7,
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"TCP:\n", b"TCP: inuse\n", b"TCP inuse 1\n", b"T{P: inuse 1\n", b": inuse 1\n", b"\xff: inuse 1\n"],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        plan(data, 4096)


@pytest.mark.parametrize("data", ["TCP: inuse many\n", "TCP: inuse  orphan 2\n"])
def test_refuses_a_word_without_a_number(tree, collector, data):
    sockstat = collector("sockstat", tree({"proc/net/sockstat": "TCP: inuse 1 orphan 2\n"}))
    sockstat.read()
    tree({"proc/net/sockstat": data})
    with pytest.raises(ValueError):  # noqa: PT011
        sockstat.read()

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.conntrack import parse_statistics
from novel_agent.wire.prometheus import render_text

HEADER = (
    "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error "
    " expect_new expect_create expect_delete search_restart\n"
)
CPU0 = (
    "0000bbf0  00000000 0000001a 00000000 00004f20 00008840 00000000 00000000 00000001 00000002 00000003 00000004"
    " 00000072  00000000 00000000 00000000 00000210\n"
)
CPU1 = (
    "0000bbf0  00000000 00000006 00000000 000000e0 000007c0 00000000 00000000 0000000f 0000000e 0000000d 0000000c"
    " 00000000  00000000 00000000 00000000 000000f0\n"
)
COUNT = {"proc/sys/net/netfilter/nf_conntrack_count": "48112\n"}
LIMIT = {"proc/sys/net/netfilter/nf_conntrack_max": "262144\n"}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_the_table_and_the_statistics_of_all_cpus(tree, collector):
    conntrack = collector("conntrack", tree(COUNT | LIMIT | {"proc/net/stat/nf_conntrack": HEADER + CPU0 + CPU1}))
    assert samples(conntrack.families(conntrack.read())) == [
        "node_nf_conntrack_entries 48112",
        "node_nf_conntrack_entries_limit 262144",
        "node_nf_conntrack_stat_found 32",
        "node_nf_conntrack_stat_invalid 20480",
        "node_nf_conntrack_stat_ignore 36864",
        "node_nf_conntrack_stat_insert 16",
        "node_nf_conntrack_stat_insert_failed 16",
        "node_nf_conntrack_stat_drop 16",
        "node_nf_conntrack_stat_early_drop 16",
        "node_nf_conntrack_stat_search_restart 768",
    ]


def test_a_kernel_without_statistics_has_the_table(tree, collector):
    conntrack = collector("conntrack", tree(COUNT | LIMIT))
    assert samples(conntrack.families(conntrack.read())) == [
        "node_nf_conntrack_entries 48112",
        "node_nf_conntrack_entries_limit 262144",
    ]


@pytest.mark.parametrize("files", [{}, COUNT, LIMIT])
def test_without_the_module_there_is_no_data(tree, collector, files):
    with pytest.raises(NoData):
        collector("conntrack", tree(files)).read()


def test_searches_that_are_not_counted_are_none():
    sixteen = b" ".join(b"%08x" % column for column in range(16))
    assert parse_statistics(b"entries\n" + sixteen + b"\n") == (2, 4, 5, 8, 9, 10, 11, 0)


@pytest.mark.parametrize("data", [b"", HEADER.encode(), b"x\n1 2 3\n", b"x\n" + b"y " * 17, b"\x00\xff\n\xfe\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse_statistics(data)


@pytest.mark.parametrize("count", ["", "many\n"])
def test_refuses_a_table_without_a_size(tree, collector, count):
    conntrack = collector("conntrack", tree({"proc/sys/net/netfilter/nf_conntrack_count": count} | LIMIT))
    with pytest.raises(ValueError):  # noqa: PT011
        conntrack.read()

import pytest

from novel_agent.inputs.host.meminfo import parse
from novel_agent.wire.prometheus import render_text

CONTENT = """\
MemTotal:        8000000 kB
MemFree:         1000000 kB
MemAvailable:    5000000 kB
Buffers:          200000 kB
Cached:          3000000 kB
Active(anon):     400000 kB
Shmem:             50000 kB
KReclaimable:     120000 kB
Slab:             160000 kB
SReclaimable:     120000 kB
SUnreclaim:        40000 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
HugePages_Total:     512
HugePages_Free:      128
HugePages_Rsvd:       16
HugePages_Surp:        4
Hugepagesize:       2048 kB
"""


def telemetry(memory) -> dict[str, float]:
    return {
        " ".join([series.family.name, *[value for _, value in series.labels]]): value
        for block in memory.telemetry(memory.read())
        for series, value in zip(block.shape.series, block.values, strict=True)
    }


def test_shows_bytes_and_leaves_pages_as_they_are(tree, collector):
    memory = collector("meminfo", tree({"proc/meminfo": CONTENT}))
    text = render_text(memory.families(memory.read())).decode()
    assert "# HELP node_memory_MemTotal_bytes Memory information field MemTotal_bytes.\n" in text
    assert "# TYPE node_memory_MemTotal_bytes gauge\nnode_memory_MemTotal_bytes 8192000000\n" in text
    assert "\nnode_memory_Active_anon_bytes 409600000\n" in text
    assert "# HELP node_memory_HugePages_Total Memory information field HugePages_Total.\n" in text
    assert "\nnode_memory_HugePages_Total 512\n" in text
    assert "\nnode_memory_Hugepagesize_bytes 2097152\n" in text


def test_leaves_out_lines_that_node_exporter_does_not_know(tree, collector):
    memory = collector("meminfo", tree({"proc/meminfo": CONTENT}))
    assert b"KReclaimable" not in render_text(memory.families(memory.read()))


def test_reads_new_numbers_at_the_same_places(tree, collector):
    root = tree({"proc/meminfo": CONTENT})
    memory = collector("meminfo", root)
    memory.read()
    tree({"proc/meminfo": CONTENT.replace("MemFree:         1000000", "MemFree:            7")})
    assert b"\nnode_memory_MemFree_bytes 7168\n" in render_text(memory.families(memory.read()))


def test_a_line_that_comes_or_goes_moves_no_number_to_another_name(tree, collector):
    root = tree({"proc/meminfo": CONTENT})
    memory = collector("meminfo", root)
    memory.read()
    tree({"proc/meminfo": CONTENT.replace("Buffers:          200000 kB\n", "Zswap: 1 kB\n")})
    text = render_text(memory.families(memory.read()))
    assert b"\nnode_memory_Zswap_bytes 1024\n" in text
    assert b"node_memory_Buffers_bytes" not in text
    assert b"\nnode_memory_Cached_bytes 3072000000\n" in text


def test_telemetry_follows_the_conventions(tree, collector):
    memory = collector("meminfo", tree({"proc/meminfo": CONTENT}))
    assert telemetry(memory) == {
        "system.memory.usage used": 3_072_000_000,
        "system.memory.usage free": 1_024_000_000,
        "system.memory.usage buffers": 204_800_000,
        "system.memory.usage cached": 3_072_000_000,
        "system.memory.utilization used": 0.375,
        "system.memory.utilization free": 0.125,
        "system.memory.utilization buffers": 0.025,
        "system.memory.utilization cached": 0.375,
        "system.memory.limit": 8_192_000_000,
        "system.memory.linux.available": 5_120_000_000,
        "system.memory.linux.shared": 51_200_000,
        "system.memory.linux.slab.usage reclaimable": 122_880_000,
        "system.memory.linux.slab.usage unreclaimable": 40_960_000,
        "system.memory.linux.hugepages.limit": 512,
        "system.memory.linux.hugepages.usage used": 384,
        "system.memory.linux.hugepages.usage free": 128,
        "system.memory.linux.hugepages.reserved": 16,
        "system.memory.linux.hugepages.surplus": 4,
        "system.memory.linux.hugepages.page_size": 2_097_152,
        "system.memory.linux.hugepages.utilization used": 0.75,
        "system.memory.linux.hugepages.utilization free": 0.25,
        "system.paging.usage used": 512_000_000,
        "system.paging.usage free": 1_536_000_000,
        "system.paging.utilization used": 0.25,
        "system.paging.utilization free": 0.75,
    }


def test_an_old_kernel_without_available_memory_counts_what_is_neither_free_nor_cache(tree, collector):
    content = CONTENT.replace("MemAvailable:    5000000 kB\n", "")
    shown = telemetry(collector("meminfo", tree({"proc/meminfo": content})))
    assert shown["system.memory.usage used"] == 3_891_200_000  # 8000000 - 1000000 - 200000 - 3000000 KiB
    assert "system.memory.linux.available" not in shown


def test_shares_of_nothing_are_left_out(tree, collector):
    content = "MemTotal: 100 kB\nMemFree: 40 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    assert telemetry(collector("meminfo", tree({"proc/meminfo": content}))) == {
        "system.paging.usage used": 0,
        "system.paging.usage free": 0,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MemTotal:",
        b"MemTotal: 1 kB\n",
        b"MemTotal: 1 MB\nMemFree: 1 kB\n",
        b"MemTotal: x kB\nMemFree: 1 kB\n",
        b"MemTotal 1 kB\nMemFree: 1 kB\n",
        b"\xff\xfe: 1 kB\nMemFree: 1 kB\n",
        b"\x00" * 64,
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)

import pytest

from novel_agent.inputs.host.stat import parse, parse_softirqs
from novel_agent.wire.prometheus import render_text

CONTENT = """\
cpu  301854 612 111922 8979004 3552 2 3944 0 0 0
cpu0 44490 19 21045 1087069 220 1 3410 0 0 0
intr 8885917 17 0 0 0 0 0 0 0 1 79281
ctxt 38014093
btime 1418183276
processes 26442
procs_running 2
procs_blocked 1
softirq 5057579 250191 1481983 1647 211099 186066 1 1783454 622196 12499 508444
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_what_the_kernel_did_since_boot(tree, collector):
    stat = collector("stat", tree({"proc/stat": CONTENT}))
    blocks = stat.families(stat.read())
    assert samples(blocks) == [
        "node_intr_total 8885917",
        "node_context_switches_total 38014093",
        "node_forks_total 26442",
        "node_boot_time_seconds 1418183276",
        "node_procs_running 2",
        "node_procs_blocked 1",
    ]
    assert b"# HELP node_forks_total Total number of forks.\n# TYPE node_forks_total counter\n" in render_text(blocks)


def test_shows_softirqs_when_asked(tree, collector):
    stat = collector("stat", tree({"proc/stat": CONTENT}), softirq=True)
    assert samples(stat.families(stat.read()))[6:] == [
        'node_softirqs_total{vector="hi"} 250191',
        'node_softirqs_total{vector="timer"} 1481983',
        'node_softirqs_total{vector="net_tx"} 1647',
        'node_softirqs_total{vector="net_rx"} 211099',
        'node_softirqs_total{vector="block"} 186066',
        'node_softirqs_total{vector="block_iopoll"} 1',
        'node_softirqs_total{vector="tasklet"} 1783454',
        'node_softirqs_total{vector="sched"} 622196',
        'node_softirqs_total{vector="hrtimer"} 12499',
        'node_softirqs_total{vector="rcu"} 508444',
    ]


def telemetry(stat) -> list[tuple[str, float]]:
    return [
        (series.family.name, value)
        for block in stat.telemetry(stat.read())
        for series, value in zip(block.shape.series, block.values, strict=True)
    ]


def test_telemetry_counts_processes_and_tells_the_uptime(tree, collector):
    stat = collector("stat", tree({"proc/stat": CONTENT, "proc/uptime": "1209611.42 9214410.07\n"}))
    assert telemetry(stat) == [("system.process.created", 26442), ("system.uptime", 1209611.42)]


@pytest.mark.parametrize("files", [{}, {"proc/uptime": ""}])
def test_telemetry_does_without_an_uptime(tree, collector, files):
    assert telemetry(collector("stat", tree({"proc/stat": CONTENT, **files}))) == [("system.process.created", 26442)]


def test_reads_the_largest_count_the_kernel_can_write():
    assert parse(CONTENT.replace("8885917", "18446744073709551615").encode()).interrupts == 2**64 - 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"cpu  1 2 3\n",
        CONTENT.replace("processes 26442\n", "").encode(),
        CONTENT.replace("ctxt 38014093", "ctxt x").encode(),
        CONTENT.replace("intr 8885917", "intr ?").encode(),
        CONTENT[:130].encode(),
    ],
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)


@pytest.mark.parametrize("data", [b"", b"\nsoftirq 1 2 3\n", b"\nsoftirq 1 2 3 4 5 6 7 8 9 10 x\n"])
def test_refuses_softirqs_of_other_vectors(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse_softirqs(data)
